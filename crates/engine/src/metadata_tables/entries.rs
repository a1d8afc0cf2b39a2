//! Manifest entries and the files that they are about: `entries`, `files` and those like them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use iceberg::spec::{DataContentType, DataFile, Datum};
use icefield_core::format::{LiveFile, ManifestContent, WantedStatistics};
use icefield_core::{Error, Result, Table};

use super::columns::{Column, Columns};
use super::metrics::readable;
use super::partition;
use crate::scan::PartitionFields;

/// An entry of a manifest that is read.
pub(super) struct Entry {
    manifest: Arc<ManifestContent>,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    Live(usize),
    Deleted(usize),
}

impl Entry {
    /// A manifest's entries: those of files that are there, and on request of those that it removed.
    pub(super) fn all(manifest: Arc<ManifestContent>, removed_too: bool) -> Vec<Self> {
        let removed = if removed_too { manifest.deleted.len() } else { 0 };
        let places = (0..manifest.live.len()).map(Place::Live).chain((0..removed).map(Place::Deleted));
        places.map(|place| Self { manifest: manifest.clone(), place }).collect()
    }

    pub(super) fn live(&self) -> &LiveFile {
        match self.place {
            Place::Live(at) => &self.manifest.live[at],
            Place::Deleted(at) => &self.manifest.deleted[at],
        }
    }

    fn file(&self) -> &DataFile {
        &self.live().file
    }

    /// Existing 0, added 1, deleted 2.
    fn status(&self) -> i32 {
        match self.place {
            Place::Live(at) => self.manifest.added.get(at).copied().unwrap_or_default().into(),
            Place::Deleted(_) => 2,
        }
    }
}

pub(super) fn entries(table: &Table) -> Result<Columns<Entry>> {
    let mut columns = vec![
        Column::int("status", |entry: &Entry| Some(entry.status())).required(),
        Column::long("snapshot_id", |entry: &Entry| Some(entry.live().snapshot_id)),
        Column::long("sequence_number", |entry: &Entry| Some(entry.live().sequence_number)),
        Column::long("file_sequence_number", |entry: &Entry| Some(entry.live().file_sequence_number)),
        Column::nested("data_file", Columns::from(file(table)?)).required(),
    ];
    columns.extend(readable(table, Entry::file)?);
    Ok(Columns::from(columns))
}

pub(super) fn files(table: &Table) -> Result<Columns<Entry>> {
    let mut columns = file(table)?;
    columns.extend(readable(table, Entry::file)?);
    Ok(Columns::from(columns))
}

/// The statistics of files that rows of this schema need: all, where they show some, or none.
pub(super) fn statistics(schema: &SchemaRef) -> WantedStatistics {
    const OF_STATISTICS: [&str; 8] = [
        "column_sizes",
        "value_counts",
        "null_value_counts",
        "nan_value_counts",
        "lower_bounds",
        "upper_bounds",
        "readable_metrics",
        "data_file",
    ];
    let any = schema.fields().iter().any(|field| OF_STATISTICS.contains(&field.name().as_str()));
    if any { WantedStatistics::All } else { WantedStatistics::None }
}

fn file(table: &Table) -> Result<Vec<Column<Entry>>> {
    let fields = PartitionFields::new(table);
    let mut columns = vec![
        Column::int("content", |entry: &Entry| {
            Some(match entry.file().content_type() {
                DataContentType::Data => 0,
                DataContentType::PositionDeletes => 1,
                DataContentType::EqualityDeletes => 2,
            })
        }),
        Column::string("file_path", |entry: &Entry| Some(entry.file().file_path().to_string())).required(),
        Column::string("file_format", |entry: &Entry| {
            Some(entry.file().file_format().to_string().to_ascii_uppercase())
        })
        .required(),
        Column::int("spec_id", |entry: &Entry| Some(entry.live().spec_id)),
    ];
    if !fields.is_empty() {
        columns.push(partition::column(&fields, |entry: &Entry| {
            (entry.live().spec_id, entry.file().partition())
        })?);
    }
    columns.extend([
        Column::long("record_count", |entry: &Entry| Some(entry.file().record_count() as i64)).required(),
        Column::long("file_size_in_bytes", |entry: &Entry| Some(entry.file().file_size_in_bytes() as i64))
            .required(),
        counts("column_sizes", DataFile::column_sizes),
        counts("value_counts", DataFile::value_counts),
        counts("null_value_counts", DataFile::null_value_counts),
        counts("nan_value_counts", DataFile::nan_value_counts),
        bounds("lower_bounds", DataFile::lower_bounds),
        bounds("upper_bounds", DataFile::upper_bounds),
        Column::binary("key_metadata", |entry: &Entry| entry.file().key_metadata().map(<[u8]>::to_vec)),
        Column::list("split_offsets", DataType::Int64, |entry: &Entry| {
            entry.file().split_offsets().map(<[i64]>::to_vec)
        }),
        Column::list("equality_ids", DataType::Int32, |entry: &Entry| {
            let ids = entry.file().equality_ids().filter(|ids| !ids.is_empty())?;
            Some(ids.into_iter().map(i64::from).collect())
        }),
        Column::int("sort_order_id", |entry: &Entry| entry.file().sort_order_id()),
        Column::long("first_row_id", |entry: &Entry| entry.file().first_row_id()),
        Column::string("referenced_data_file", |entry: &Entry| entry.file().referenced_data_file()),
        Column::long("content_offset", |entry: &Entry| entry.file().content_offset()),
        Column::long("content_size_in_bytes", |entry: &Entry| entry.file().content_size_in_bytes()),
    ]);
    Ok(columns)
}

fn counts(name: &str, of: fn(&DataFile) -> &HashMap<i32, u64>) -> Column<Entry> {
    Column::counts(name, move |entry: &Entry| {
        let mut counts: Vec<_> = of(entry.file()).iter().map(|(id, count)| (*id, *count as i64)).collect();
        counts.sort_unstable();
        counts
    })
}

fn bounds(name: &str, of: fn(&DataFile) -> &HashMap<i32, Datum>) -> Column<Entry> {
    Column::bounds(name, move |entry: &Entry| {
        let bounds = of(entry.file()).iter().map(|(id, bound)| {
            let bytes = bound.to_bytes().map_err(|e| {
                Error::data_invalid("a bound can't be written as bytes")
                    .with("file", entry.live().path())
                    .with_source(e)
            })?;
            Ok((*id, bytes.to_vec()))
        });
        let mut bounds = bounds.collect::<Result<Vec<_>>>()?;
        bounds.sort_unstable();
        Ok(bounds)
    })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn only_columns_that_show_statistics_have_them_decoded() {
        let of = |names: &[&str]| {
            let fields = names.iter().map(|name| Field::new(*name, DataType::Int32, true));
            statistics(&Arc::new(Schema::new(fields.collect::<Vec<_>>())))
        };
        assert_eq!(
            of(&["status", "snapshot_id", "file_path", "partition", "record_count"]),
            WantedStatistics::None
        );
        assert_eq!(of(&[]), WantedStatistics::None);
        for shown in ["lower_bounds", "null_value_counts", "readable_metrics", "data_file"] {
            assert_eq!(of(&["status", shown]), WantedStatistics::All, "{shown}");
        }
    }
}

//! What a data file's metadata says of its columns: counts and bounds, taken from the Parquet footer just written.
//!
//! Readers skip files by these numbers, so a bound that is too tight loses rows. A column has a bound only when every row
//! group that holds a value of it says what that bound is; a bound that is cut short is cut down for lower bounds and up
//! for upper bounds; NaN is never in a bound, and a zero is the negative one in a lower bound and the positive one in an
//! upper bound. Modes and limits are the table's (`write.metadata.metrics.*`), with Iceberg Java's meaning.

mod bounds;
mod config;

use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, Datum, PrimitiveType, Schema, Struct, Type,
};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::{ContentFile, foreign_kind};
use crate::error::{Error, Result};

pub use config::{MetricsConfig, MetricsMode};

/// The counts and bounds of one data file. Maps are by field id; counts are of values (in lists and maps: of elements).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FileMetrics {
    /// The file's rows.
    pub record_count: u64,
    /// Bytes of each column in the file, compressed.
    pub column_sizes: HashMap<i32, u64>,
    /// Values of each column, NULL and NaN included.
    pub value_counts: HashMap<i32, u64>,
    /// NULLs of each column, those of a NULL parent included.
    pub null_value_counts: HashMap<i32, u64>,
    /// NaNs of each column of a floating type.
    pub nan_value_counts: HashMap<i32, u64>,
    /// A value that is at most any of the column that is neither NULL nor NaN.
    pub lower_bounds: HashMap<i32, Datum>,
    /// A value that is at least any of the column that is neither NULL nor NaN.
    pub upper_bounds: HashMap<i32, Datum>,
    /// Where row groups start, in bytes from the file's start, ascending.
    pub split_offsets: Vec<i64>,
}

/// The metrics of a Parquet file, from its footer.
///
/// `nan_counts` has, by field id, the NaNs of each column that was counted while writing (Parquet does not say). A column of a
/// floating type without one has no NaN count, and readers then take it that there may be some. Columns are found by the
/// field ids in the file; those without an id, and those that `schema` lacks, are left out.
///
/// # Errors
/// [`DataInvalid`](crate::ErrorKind::DataInvalid) when the footer contradicts itself.
pub fn data_file_metrics(
    metadata: &ParquetMetaData,
    schema: &Schema,
    config: &MetricsConfig,
    nan_counts: &HashMap<i32, u64>,
) -> Result<FileMetrics> {
    let file = metadata.file_metadata();
    let mut metrics = FileMetrics {
        record_count: count(file.num_rows())?,
        split_offsets: split_offsets(metadata),
        ..FileMetrics::default()
    };
    let bounded = bounded_columns(schema);
    let own = file.created_by().is_some_and(|by| by.starts_with("parquet-rs"));
    for (index, column) in file.schema_descr().columns().iter().enumerate() {
        let info = column.self_type().get_basic_info();
        let Some(id) = info.has_id().then(|| info.id()) else { continue };
        let Some(field) = schema.field_by_id(id) else { continue };
        let Type::Primitive(of) = field.field_type.as_ref() else { continue };
        let chunks: Vec<&ColumnChunkMetaData> =
            metadata.row_groups().iter().filter_map(|group| group.columns().get(index)).collect();
        if chunks.len() != metadata.num_row_groups() {
            return Err(Error::data_invalid("a row group lacks a column; write the file again")
                .with("column", &field.name));
        }
        let size =
            chunks.iter().try_fold(0, |sum, chunk| Ok::<_, Error>(sum + count(chunk.compressed_size())?))?;
        metrics.column_sizes.insert(id, size);
        let mode = config.mode(id);
        if mode == MetricsMode::None {
            continue;
        }
        let values =
            chunks.iter().try_fold(0, |sum, chunk| Ok::<_, Error>(sum + count(chunk.num_values())?))?;
        metrics.value_counts.insert(id, values);
        let nulls = chunks.iter().map(|chunk| bounds::null_count(chunk)).sum::<Option<u64>>();
        if let Some(nulls) = nulls {
            metrics.null_value_counts.insert(id, nulls);
        }
        let is_float = matches!(of, PrimitiveType::Float | PrimitiveType::Double);
        let nans = nan_counts.get(&id).copied().filter(|_| is_float);
        if let Some(nans) = nans {
            metrics.nan_value_counts.insert(id, nans);
        }
        if mode == MetricsMode::Counts || !bounded.contains(&id) {
            continue;
        }
        // Our own writer leaves a floating column's minimum out only when the group has nothing but NULL and NaN.
        let all_nan = nans.filter(|_| own);
        if let Some(lower) = bounds::lower(&chunks, of, mode, all_nan)? {
            metrics.lower_bounds.insert(id, lower);
        }
        if let Some(upper) = bounds::upper(&chunks, of, mode, all_nan)? {
            metrics.upper_bounds.insert(id, upper);
        }
    }
    Ok(metrics)
}

/// A data file's entry in a manifest, of a Parquet file.
///
/// # Errors
/// [`Internal`](crate::ErrorKind::Internal) if a field is missing, which can't be.
pub fn data_file(
    path: impl Into<String>,
    spec_id: i32,
    partition: Struct,
    file_size_in_bytes: u64,
    metrics: FileMetrics,
    sort_order_id: Option<i32>,
) -> Result<ContentFile> {
    let mut builder = DataFileBuilder::default();
    builder
        .content(DataContentType::Data)
        .file_path(path.into())
        .file_format(DataFileFormat::Parquet)
        .partition(partition)
        .partition_spec_id(spec_id)
        .record_count(metrics.record_count)
        .file_size_in_bytes(file_size_in_bytes)
        .column_sizes(metrics.column_sizes)
        .value_counts(metrics.value_counts)
        .null_value_counts(metrics.null_value_counts)
        .nan_value_counts(metrics.nan_value_counts)
        .lower_bounds(metrics.lower_bounds)
        .upper_bounds(metrics.upper_bounds)
        .split_offsets((!metrics.split_offsets.is_empty()).then_some(metrics.split_offsets));
    if let Some(id) = sort_order_id {
        builder.sort_order_id(id);
    }
    let file =
        builder.build().map_err(|e| Error::internal("a file's metadata can't be built").with_source(e))?;
    Ok(ContentFile { spec_id, file })
}

/// Primitive columns outside of lists and maps: the only ones whose bounds mean one value a row.
fn bounded_columns(schema: &Schema) -> std::collections::HashSet<i32> {
    fn walk(fields: &iceberg::spec::StructType, into: &mut std::collections::HashSet<i32>) {
        for field in fields.fields() {
            match field.field_type.as_ref() {
                // Nobody compares values of a type that is not known.
                Type::Primitive(of) if foreign_kind(of).is_some() => {}
                Type::Primitive(_) => {
                    into.insert(field.id);
                }
                Type::Struct(fields) => walk(fields, into),
                Type::List(_) | Type::Map(_) => {}
            }
        }
    }
    let mut into = std::collections::HashSet::new();
    walk(schema.as_struct(), &mut into);
    into
}

fn split_offsets(metadata: &ParquetMetaData) -> Vec<i64> {
    let offsets: Vec<i64> = metadata
        .row_groups()
        .iter()
        .filter_map(|group| {
            let first = group.columns().first()?;
            Some(
                first
                    .dictionary_page_offset()
                    .map_or(first.data_page_offset(), |d| d.min(first.data_page_offset())),
            )
        })
        .collect();
    // Out of order they are worth nothing to readers, which refuse them.
    if offsets.len() == metadata.num_row_groups() && offsets.is_sorted_by(|a, b| a < b) {
        offsets
    } else {
        Vec::new()
    }
}

fn count(of: i64) -> Result<u64> {
    u64::try_from(of).map_err(|_| {
        Error::data_invalid("the Parquet footer has a negative count; write the file again").with("count", of)
    })
}

#[cfg(test)]
mod tests;

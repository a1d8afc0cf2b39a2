//! `partitions`: what the files of a snapshot are together, by partition.

use std::collections::HashMap;

use datafusion::common::ScalarValue;
use futures::TryStreamExt;
use iceberg::spec::{DataContentType, Struct, Type};
use icefield_core::format::{
    LiveFile, ManifestReader, WantedStatistics, human_partition_value, load_manifest_list,
};
use icefield_core::{Result, Table};

use super::columns::{Column, Columns, long};
use super::partition;
use crate::scan::PartitionFields;

/// The files of a partition together.
pub(super) struct Partition {
    /// The spec of the file that changed last.
    spec_id: i32,
    /// A file's partition value and its spec, for the columns of `partition`.
    value: (i32, Struct),
    rows: u64,
    files: i32,
    bytes: u64,
    position: (u64, i32),
    equality: (u64, i32),
    updated: Option<(i64, i64)>,
}

impl Partition {
    fn of(value: (i32, Struct)) -> Self {
        let (position, equality) = ((0, 0), (0, 0));
        Self { spec_id: 0, value, rows: 0, files: 0, bytes: 0, position, equality, updated: None }
    }
}

pub(super) fn partitions(table: &Table) -> Result<Columns<Partition>> {
    let fields = PartitionFields::new(table);
    let mut columns = Vec::new();
    if !fields.is_empty() {
        columns.push(partition::column(&fields, |p: &Partition| (p.value.0, &p.value.1))?);
        columns.push(Column::int("spec_id", |p: &Partition| Some(p.spec_id)).required());
    }
    columns.extend([
        Column::long("record_count", |p: &Partition| Some(long(p.rows))).required(),
        Column::int("file_count", |p: &Partition| Some(p.files)).required(),
        Column::long("total_data_file_size_in_bytes", |p: &Partition| Some(long(p.bytes))).required(),
        Column::long("position_delete_record_count", |p: &Partition| Some(long(p.position.0))).required(),
        Column::int("position_delete_file_count", |p: &Partition| Some(p.position.1)).required(),
        Column::long("equality_delete_record_count", |p: &Partition| Some(long(p.equality.0))).required(),
        Column::int("equality_delete_file_count", |p: &Partition| Some(p.equality.1)).required(),
        Column::instant("last_updated_at", |p: &Partition| p.updated.map(|(at_ms, _)| at_ms)),
        Column::long("last_updated_snapshot_id", |p: &Partition| p.updated.map(|(_, id)| id)),
    ]);
    Ok(Columns::from(columns))
}

/// The partitions that have files in a table's current snapshot, as Spark names them: `city=Oslo/at_month=2024-06`. Reads the
/// manifests.
pub(crate) async fn partition_names(table: &Table) -> Result<Vec<String>> {
    let metadata = table.metadata();
    let Some(snapshot) = metadata.current_snapshot() else { return Ok(Vec::new()) };
    let mut gathered = Gathered::new(table.clone());
    let manifests = load_manifest_list(table.storage(), snapshot).await?;
    let reader = ManifestReader::new(table.storage(), metadata);
    let mut contents = reader.each(manifests, |manifest| manifest.content_with(&WantedStatistics::None));
    while let Some(content) = contents.try_next().await? {
        content.live.iter().try_for_each(|live| gathered.add(live))?;
    }
    let name = |partition: Partition| {
        let (spec_id, values) = &partition.value;
        let spec = metadata.partition_spec_by_id(*spec_id)?;
        let fields = spec.fields().iter().zip(values.iter()).filter_map(|(field, value)| {
            let source = metadata.schemas_iter().find_map(|schema| schema.field_by_id(field.source_id))?;
            let Type::Primitive(of) = field.transform.result_type(&source.field_type).ok()? else {
                return None;
            };
            Some(format!("{}={}", field.name, human_partition_value(field.transform, &of, value)))
        });
        Some(fields.collect::<Vec<_>>().join("/"))
    };
    let mut names: Vec<String> = gathered.finish().into_iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// Gathers files by partition, whatever spec they are of.
pub(super) struct Gathered {
    table: Table,
    fields: PartitionFields,
    places: HashMap<Vec<Option<ScalarValue>>, usize>,
    partitions: Vec<Partition>,
}

impl Gathered {
    pub(super) fn new(table: Table) -> Self {
        let fields = PartitionFields::new(&table);
        Self { table, fields, places: HashMap::new(), partitions: Vec::new() }
    }

    pub(super) fn add(&mut self, live: &LiveFile) -> Result<()> {
        let file = &live.file;
        let key = self.fields.values(live.spec_id, file.partition())?;
        let place = *self.places.entry(key).or_insert_with(|| {
            let value = (live.spec_id, file.partition().clone());
            self.partitions.push(Partition::of(value));
            self.partitions.len() - 1
        });
        let Some(partition) = self.partitions.get_mut(place) else { return Ok(()) };
        if let Some(snapshot) = self.table.metadata().snapshot_by_id(live.snapshot_id) {
            let at_ms = snapshot.timestamp_ms();
            if partition.updated.is_none_or(|(latest, _)| at_ms > latest) {
                partition.updated = Some((at_ms, live.snapshot_id));
                partition.spec_id = live.spec_id;
            }
        }
        match file.content_type() {
            DataContentType::Data => {
                partition.rows = partition.rows.saturating_add(file.record_count());
                partition.files += 1;
                partition.bytes = partition.bytes.saturating_add(file.file_size_in_bytes());
            }
            DataContentType::PositionDeletes => {
                partition.position.0 = partition.position.0.saturating_add(file.record_count());
                partition.position.1 += 1;
            }
            DataContentType::EqualityDeletes => {
                partition.equality.0 = partition.equality.0.saturating_add(file.record_count());
                partition.equality.1 += 1;
            }
        }
        Ok(())
    }

    /// The partitions that have files. A table that is not partitioned is one.
    pub(super) fn finish(self) -> Vec<Partition> {
        self.partitions
    }
}

//! A small table, and files for it that nobody reads.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, FormatVersion, Literal, Schema, SnapshotReference,
    SnapshotRetention, Struct, UnboundPartitionSpec,
};
use icefield_core::catalog::{Catalog, MemoryCatalog, NamespaceIdent, TableCreation};
use icefield_core::commit::Transaction;
use icefield_core::format::{ContentFile, LiveFile, load_manifest, load_manifest_list};
use icefield_core::storage::{Storage, file_name};
use icefield_core::{Clock, Table};

pub(crate) async fn table(
    clock: Arc<dyn Clock>,
    version: FormatVersion,
    schema: Schema,
    spec: Option<UnboundPartitionSpec>,
    properties: &[(&str, &str)],
) -> (Arc<MemoryCatalog>, Table) {
    let catalog = Arc::new(MemoryCatalog::with_clock("memory://w", Storage::new(), clock));
    let namespace = NamespaceIdent::new("db".to_string());
    catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
    let creation = TableCreation::builder()
        .name("t".to_string())
        .schema(schema)
        .partition_spec_opt(spec)
        .format_version(version)
        .properties(properties.iter().map(|(k, v)| (k.to_string(), v.to_string())))
        .build();
    let table = catalog.create_table(&namespace, creation).await.unwrap();
    (catalog, table)
}

/// A data file of the unpartitioned spec 0.
pub(crate) fn file(name: &str) -> ContentFile {
    file_in(name, 0, [])
}

pub(crate) fn file_in(name: &str, spec_id: i32, partition: impl IntoIterator<Item = Literal>) -> ContentFile {
    content(name, DataContentType::Data, spec_id, partition)
}

/// A file of equality deletes of column 1.
pub(crate) fn equality_deletes(
    name: &str,
    spec_id: i32,
    partition: impl IntoIterator<Item = Literal>,
) -> ContentFile {
    content(name, DataContentType::EqualityDeletes, spec_id, partition)
}

fn content(
    name: &str,
    content: DataContentType,
    spec_id: i32,
    partition: impl IntoIterator<Item = Literal>,
) -> ContentFile {
    let file = DataFileBuilder::default()
        .content(content)
        .file_path(format!("memory://w/db/t/data/{name}"))
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter(partition.into_iter().map(Some)))
        .record_count(1)
        .file_size_in_bytes(100)
        .partition_spec_id(spec_id)
        .equality_ids((content == DataContentType::EqualityDeletes).then(|| vec![1]))
        .build()
        .unwrap();
    ContentFile { spec_id, file }
}

pub(crate) async fn live(table: &Table, branch: &str) -> Vec<LiveFile> {
    let Some(snapshot) = table.metadata().snapshot_for_ref(branch) else { return Vec::new() };
    let mut files = Vec::new();
    for manifest in load_manifest_list(table.storage(), snapshot).await.unwrap() {
        files.extend(load_manifest(table.storage(), table.metadata(), &manifest).await.unwrap().live);
    }
    files.sort_by(|a, b| a.path().cmp(b.path()));
    files
}

pub(crate) async fn names(table: &Table, branch: &str) -> Vec<String> {
    live(table, branch).await.iter().map(|file| file_name(file.path()).to_string()).collect()
}

/// Appends a file that is named like its idempotency key; gives the table and the snapshot.
pub(crate) async fn append(catalog: &MemoryCatalog, table: &Table, branch: &str, name: &str) -> (Table, i64) {
    let append = Transaction::new(table).on_branch(branch).append(vec![file(name)]).idempotency_key(name);
    let done = append.commit(catalog).await.unwrap();
    assert!(!done.already_applied, "{name}");
    (done.table, done.snapshot_id.unwrap())
}

pub(crate) fn branch_at(snapshot_id: i64) -> SnapshotReference {
    SnapshotReference::new(snapshot_id, SnapshotRetention::branch(None, None, None))
}

pub(crate) fn tag_at(snapshot_id: i64) -> SnapshotReference {
    SnapshotReference::new(snapshot_id, SnapshotRetention::Tag { max_ref_age_ms: None })
}

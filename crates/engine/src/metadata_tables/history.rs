//! What the metadata file itself tells: snapshots, history, branches and tags, earlier metadata files.

use std::collections::{BTreeMap, HashSet};

use iceberg::spec::{SnapshotRef, SnapshotReference, SnapshotRetention};
use icefield_core::format::lists_manifests_itself;
use icefield_core::{AsOf, Table};

use super::columns::{Column, Columns};

pub(super) fn snapshots() -> Columns<SnapshotRef> {
    Columns::from(vec![
        Column::instant("committed_at", |s: &SnapshotRef| Some(s.timestamp_ms())).required(),
        Column::long("snapshot_id", |s: &SnapshotRef| Some(s.snapshot_id())).required(),
        Column::long("parent_id", |s: &SnapshotRef| s.parent_snapshot_id()),
        Column::string("operation", |s: &SnapshotRef| Some(s.summary().operation.as_str().to_string())),
        Column::string("manifest_list", |s: &SnapshotRef| {
            (!lists_manifests_itself(s)).then(|| s.manifest_list().to_string())
        }),
        Column::texts("summary", |s: &SnapshotRef| {
            let sorted: BTreeMap<_, _> = s.summary().additional_properties.iter().collect();
            sorted.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        }),
    ])
}

/// Every snapshot, oldest first.
pub(super) fn snapshot_rows(table: &Table) -> Vec<SnapshotRef> {
    let mut snapshots: Vec<SnapshotRef> = table.metadata().snapshots().cloned().collect();
    snapshots.sort_by_key(|s| (s.sequence_number(), s.timestamp_ms(), s.snapshot_id()));
    snapshots
}

/// A time at which a snapshot became current.
pub(super) struct Made {
    at_ms: i64,
    snapshot_id: i64,
    parent_id: Option<i64>,
    is_current_ancestor: bool,
}

pub(super) fn history() -> Columns<Made> {
    Columns::from(vec![
        Column::instant("made_current_at", |made: &Made| Some(made.at_ms)).required(),
        Column::long("snapshot_id", |made: &Made| Some(made.snapshot_id)).required(),
        Column::long("parent_id", |made: &Made| made.parent_id),
        Column::boolean("is_current_ancestor", |made: &Made| Some(made.is_current_ancestor)).required(),
    ])
}

pub(super) fn history_rows(table: &Table) -> Vec<Made> {
    let metadata = table.metadata();
    let current = metadata.current_snapshot_id();
    let ancestors: HashSet<i64> =
        current.into_iter().flat_map(|head| table.ancestors(head)).map(|s| s.snapshot_id()).collect();
    let made = table.history().iter().map(|entry| Made {
        at_ms: entry.timestamp_ms(),
        snapshot_id: entry.snapshot_id,
        parent_id: metadata.snapshot_by_id(entry.snapshot_id).and_then(|s| s.parent_snapshot_id()),
        is_current_ancestor: ancestors.contains(&entry.snapshot_id),
    });
    made.collect()
}

type Named = (String, SnapshotReference);

pub(super) fn refs() -> Columns<Named> {
    Columns::from(vec![
        Column::string("name", |(name, _): &Named| Some(name.clone())).required(),
        Column::string("type", |(_, reference): &Named| {
            Some(if reference.is_branch() { "BRANCH" } else { "TAG" }.to_string())
        })
        .required(),
        Column::long("snapshot_id", |(_, reference): &Named| Some(reference.snapshot_id)).required(),
        Column::long("max_reference_age_in_ms", |(_, reference): &Named| match reference.retention {
            SnapshotRetention::Branch { max_ref_age_ms, .. } | SnapshotRetention::Tag { max_ref_age_ms } => {
                max_ref_age_ms
            }
        }),
        Column::int("min_snapshots_to_keep", |(_, reference): &Named| match reference.retention {
            SnapshotRetention::Branch { min_snapshots_to_keep, .. } => min_snapshots_to_keep,
            SnapshotRetention::Tag { .. } => None,
        }),
        Column::long("max_snapshot_age_in_ms", |(_, reference): &Named| match reference.retention {
            SnapshotRetention::Branch { max_snapshot_age_ms, .. } => max_snapshot_age_ms,
            SnapshotRetention::Tag { .. } => None,
        }),
    ])
}

/// A metadata file, and the snapshot that was current when it was written.
pub(super) struct MetadataFile {
    at_ms: i64,
    file: String,
    latest: Option<SnapshotRef>,
}

pub(super) fn metadata_log() -> Columns<MetadataFile> {
    Columns::from(vec![
        Column::instant("timestamp", |entry: &MetadataFile| Some(entry.at_ms)).required(),
        Column::string("file", |entry: &MetadataFile| Some(entry.file.clone())).required(),
        Column::long("latest_snapshot_id", |entry: &MetadataFile| Some(entry.latest.as_ref()?.snapshot_id())),
        Column::int("latest_schema_id", |entry: &MetadataFile| entry.latest.as_ref()?.schema_id()),
        Column::long("latest_sequence_number", |entry: &MetadataFile| {
            Some(entry.latest.as_ref()?.sequence_number())
        }),
    ])
}

pub(super) fn metadata_log_rows(table: &Table) -> Vec<MetadataFile> {
    let metadata = table.metadata();
    let earlier = metadata.metadata_log().iter().map(|log| (log.timestamp_ms, log.metadata_file.clone()));
    let own = (metadata.last_updated_ms(), table.metadata_location().to_string());
    let files = earlier.chain([own]).map(|(at_ms, file)| MetadataFile {
        at_ms,
        file,
        // A metadata file from before the first snapshot has none.
        latest: table.snapshot_as_of(&AsOf::Timestamp(at_ms)).ok().flatten(),
    });
    files.collect()
}

//! From one action to one snapshot: what goes is found, manifests and a manifest list are written.

use std::collections::HashMap;

use iceberg::TableUpdate;
use iceberg::spec::{
    FormatVersion, MAIN_BRANCH, ManifestContentType, ManifestFile, Snapshot, SnapshotReference, Summary,
    TableMetadata,
};

use super::actions::{Moment, SnapshotAction, Start};
use super::added::check_added;
use super::branch::{branch_retention, since};
use super::kept::Kept;
use super::manifests::ManifestStore;
use super::newer::check_newer;
use super::removal::remove;
use super::summary::SummaryCounts;
use super::take_out::Taking;
use super::validate::Isolation;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::{ManifestListHead, ManifestReader, load_manifest_list};

pub(super) struct Context<'a> {
    /// The table as the actions before this one leave it.
    pub(super) metadata: &'a TableMetadata,
    /// The table that the transaction was computed from.
    pub(super) base: &'a TableMetadata,
    /// The snapshot that the action was computed from.
    pub(super) start: Start,
    /// Its branches and tags.
    pub(super) references: &'a [(String, SnapshotReference)],
    pub(super) branch: &'a str,
    pub(super) isolation: Isolation,
    pub(super) summary: &'a [(String, String)],
    pub(super) clock: &'a dyn Clock,
}

pub(super) struct Produced {
    pub(super) updates: Vec<TableUpdate>,
    pub(super) snapshot_id: i64,
    /// The manifest list, and the manifests that it names.
    pub(super) named: Vec<String>,
    /// The partition specs that must still be those of their ids when the snapshot is published.
    pub(super) specs: Vec<i32>,
}

/// Writes the manifests of one action. `None` when it changes nothing.
pub(super) async fn produce(
    context: Context<'_>,
    action: &dyn SnapshotAction,
    kept: &mut Kept,
    store: &mut ManifestStore<'_>,
) -> Result<Option<Produced>> {
    let metadata = context.metadata;
    let parent = metadata.snapshot_for_ref(context.branch).cloned();
    if parent.is_none() && context.branch != MAIN_BRANCH {
        return Err(Error::not_found("no such branch; create it first").with("branch", context.branch));
    }
    let retention = branch_retention(context.references, context.branch)?;
    let moment = Moment { metadata, base: context.base, isolation: context.isolation };
    let mut effect = action.effect(&moment)?;
    check_added(metadata, context.base, &effect.add, &effect.add_deletes)?;
    let added_specs = effect.add.iter().chain(&effect.add_deletes).map(|file| file.spec_id);
    let specs = added_specs.chain(effect.specs.iter().copied()).collect();
    let snapshot_id = kept.snapshot_id(metadata, context.clock);
    let (start, stated) = match context.start {
        Start::Table => (context.base.snapshot_for_ref(context.branch).map(|s| s.snapshot_id()), false),
        Start::Set(id) => (Some(id), false),
        Start::Snapshot(id) => (id, true),
    };
    if effect.footprint.is_some() || stated {
        let newer = since(metadata, context.branch, start)?;
        if let Some(footprint) = &effect.footprint {
            check_newer(metadata, context.summary, footprint, newer, kept, store.storage()).await?;
        }
    }

    let old = match &parent {
        Some(parent) => load_manifest_list(store.storage(), parent).await?,
        None => Vec::new(),
    };
    let mut counts = SummaryCounts::default();
    for file in effect.add.iter().chain(&effect.add_deletes) {
        counts.add(file.spec_id, &file.file);
    }
    let taking =
        Taking { metadata, snapshot_id, adds_at: effect.sequence_number, drops_old_deletes: effect.merge };
    let (others, removed) =
        remove(&taking, effect.remove, effect.remove_deletes, old, kept, &mut counts, store).await?;
    // What has a key leaves it, also where there was nothing to do: it stays the batch that was applied.
    let keyed = context.summary.iter().any(|(key, _)| key == super::IDEMPOTENCY_KEY);
    let adds = !effect.add.is_empty() || !effect.add_deletes.is_empty();
    if !adds && removed == 0 && !keyed && !effect.may_be_empty {
        return Ok(None);
    }
    let mut manifests = match &kept.added {
        Some(added) => added.clone(),
        None => {
            let (of, number) = (ManifestContentType::Data, effect.sequence_number);
            let mut added = store.write_added(metadata, snapshot_id, of, effect.add, number).await?;
            // Deletes are of the snapshot's own number: they apply to all that was there.
            let of = ManifestContentType::Deletes;
            added.extend(store.write_added(metadata, snapshot_id, of, effect.add_deletes, None).await?);
            added
        }
    };
    kept.added = Some(manifests.clone());
    manifests.extend(others);
    if effect.merge {
        manifests = store.merge(metadata, snapshot_id, manifests, kept).await?;
    }
    if metadata.format_version() >= FormatVersion::V2 {
        fill_counts(store, metadata, &mut manifests).await?;
    }
    let mut named: Vec<String> = manifests.iter().map(|manifest| manifest.manifest_path.clone()).collect();

    let sequence_number = metadata.next_sequence_number();
    let parent_id = parent.as_ref().map(|p| p.snapshot_id());
    let first_row_id = metadata.next_row_id();
    let head = ManifestListHead {
        version: metadata.format_version(),
        snapshot_id,
        parent_snapshot_id: parent_id,
        sequence_number,
        first_row_id,
    };
    let (list, next_row_id) = store.write_list(&head, manifests).await?;
    named.push(list.clone());

    let mut properties: HashMap<String, String> = context.summary.iter().cloned().collect();
    properties.extend(counts.properties(parent.as_deref()));
    properties.extend(effect.summary.drain(..).map(|(key, value)| (key.to_string(), value)));
    // Time travel by timestamp needs a history that never runs backwards, even where writers' clocks differ.
    let timestamp_ms = context.clock.now_ms().max(metadata.last_updated_ms());
    let builder = Snapshot::builder()
        .with_snapshot_id(snapshot_id)
        .with_parent_snapshot_id(parent_id)
        .with_sequence_number(sequence_number)
        .with_timestamp_ms(timestamp_ms)
        .with_manifest_list(list)
        .with_summary(Summary { operation: effect.operation, additional_properties: properties })
        .with_schema_id(metadata.current_schema_id());
    let snapshot = if metadata.format_version() >= FormatVersion::V3 {
        builder.with_row_range(first_row_id, next_row_id.saturating_sub(first_row_id)).build()
    } else {
        builder.build()
    };
    let reference = SnapshotReference::new(snapshot_id, retention);
    Ok(Some(Produced {
        updates: vec![
            TableUpdate::AddSnapshot { snapshot },
            TableUpdate::SetSnapshotRef { ref_name: context.branch.to_string(), reference },
        ],
        snapshot_id,
        named,
        specs,
    }))
}

/// Counts what manifests hold that version 1 listed without saying: later versions want it, and give row ids out by it.
async fn fill_counts(
    store: &ManifestStore<'_>,
    metadata: &TableMetadata,
    manifests: &mut [ManifestFile],
) -> Result<()> {
    for manifest in manifests {
        let files = [manifest.added_files_count, manifest.existing_files_count, manifest.deleted_files_count];
        let rows = [manifest.added_rows_count, manifest.existing_rows_count, manifest.deleted_rows_count];
        if !files.contains(&None) && !rows.contains(&None) {
            continue;
        }
        let [existing, added, deleted] =
            ManifestReader::new(store.storage(), metadata).open(manifest).await?.counts()?;
        (manifest.added_files_count, manifest.added_rows_count) = (Some(added.0), Some(added.1));
        (manifest.existing_files_count, manifest.existing_rows_count) = (Some(existing.0), Some(existing.1));
        (manifest.deleted_files_count, manifest.deleted_rows_count) = (Some(deleted.0), Some(deleted.1));
    }
    Ok(())
}

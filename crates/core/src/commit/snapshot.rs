//! From one data action to one snapshot: what goes is found, manifests and a manifest list are written.

use std::collections::{HashMap, VecDeque};

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use iceberg::TableUpdate;
use iceberg::spec::{
    FormatVersion, MAIN_BRANCH, ManifestFile, Operation, Snapshot, SnapshotRef, SnapshotReference, Summary,
    TableMetadata,
};

use super::action::{DataAction, DeleteBy, Isolation, Rewrite, Start};
use super::branch::{branch_retention, since};
use super::kept::Kept;
use super::manifests::{ManifestStore, check_added, check_spec};
use super::removal::{Removal, Taking, remove};
use super::summary::SummaryCounts;
use super::validate::{Change, Footprint, Reads, Validator};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::filter::{FileMatcher, Filter};
use crate::format::partition::PartitionSet;
use crate::format::{
    ContentFile, FileRef, ManifestContent, ManifestListHead, ManifestReader, WantedStatistics,
    load_manifest_list,
};
use crate::storage::Storage;
use crate::table::Table;

/// How many manifest lists are read at once.
const LISTS: usize = 8;

/// Summary property of a dynamic overwrite, which cherry-picking asks for.
const REPLACE_PARTITIONS: &str = "replace-partitions";

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
}

/// What an action comes to: files that come, files that go, and what it relied on.
struct Work {
    operation: Operation,
    add: Vec<ContentFile>,
    sequence_number: Option<i64>,
    remove: Removal,
    footprint: Option<Footprint>,
    merge: bool,
    replaces_partitions: bool,
}

/// Writes the manifests of one data action. `None` when it changes nothing.
pub(super) async fn produce(
    context: Context<'_>,
    action: &DataAction,
    kept: &mut Kept,
    store: &mut ManifestStore<'_>,
) -> Result<Option<Produced>> {
    let metadata = context.metadata;
    let parent = metadata.snapshot_for_ref(context.branch).cloned();
    if parent.is_none() && context.branch != MAIN_BRANCH {
        return Err(Error::not_found("no such branch; create it first").with("branch", context.branch));
    }
    let retention = branch_retention(context.references, context.branch)?;
    let work = plan(&context, action)?;
    check_added(metadata, context.base, &work.add)?;
    let snapshot_id = kept.snapshot_id(metadata, context.clock);
    let (start, stated) = match context.start {
        Start::Table => (context.base.snapshot_for_ref(context.branch).map(|s| s.snapshot_id()), false),
        Start::Set(id) => (Some(id), false),
        Start::Snapshot(id) => (id, true),
    };
    if work.footprint.is_some() || stated {
        let newer = since(metadata, context.branch, start)?;
        if let Some(footprint) = &work.footprint {
            check_newer(&context, footprint, newer, kept, store.storage()).await?;
        }
    }

    let old = match &parent {
        Some(parent) => load_manifest_list(store.storage(), parent).await?,
        None => Vec::new(),
    };
    let mut counts = SummaryCounts::default();
    for file in &work.add {
        counts.add(file.spec_id, &file.file);
    }
    let taking =
        Taking { metadata, snapshot_id, adds_at: work.sequence_number, drops_old_deletes: work.merge };
    let (others, removed) = remove(&taking, work.remove, old, kept, &mut counts, store).await?;
    // What has a key leaves it, also where there was nothing to do: it stays the batch that was applied.
    let keyed = context.summary.iter().any(|(key, _)| key == super::IDEMPOTENCY_KEY);
    if work.add.is_empty() && removed == 0 && !keyed && !matches!(action, DataAction::Append { .. }) {
        return Ok(None);
    }
    let mut manifests = match &kept.added {
        Some(added) => added.clone(),
        None => store.write_added(metadata, snapshot_id, work.add, work.sequence_number).await?,
    };
    kept.added = Some(manifests.clone());
    manifests.extend(others);
    if work.merge {
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
    if work.replaces_partitions {
        properties.insert(REPLACE_PARTITIONS.to_string(), true.to_string());
    }
    // Time travel by timestamp needs a history that never runs backwards, even where writers' clocks differ.
    let timestamp_ms = context.clock.now_ms().max(metadata.last_updated_ms());
    let builder = Snapshot::builder()
        .with_snapshot_id(snapshot_id)
        .with_parent_snapshot_id(parent_id)
        .with_sequence_number(sequence_number)
        .with_timestamp_ms(timestamp_ms)
        .with_manifest_list(list)
        .with_summary(Summary { operation: work.operation, additional_properties: properties })
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
    }))
}

fn footprint(reads: Reads, replaces: &[FileRef], add: &[ContentFile], isolation: Isolation) -> Footprint {
    Footprint {
        reads,
        input: None,
        replaces: replaces.to_vec(),
        adds: add.iter().map(|f| (f.spec_id, f.file.partition().clone())).collect(),
        sequence_number: None,
        isolation,
    }
}

fn rewrite_footprint(rewrite: &Rewrite, isolation: Isolation) -> Footprint {
    Footprint {
        sequence_number: rewrite.sequence_number,
        ..footprint(Reads::Nothing, &rewrite.delete, &rewrite.add, isolation)
    }
}

fn plan(context: &Context<'_>, action: &DataAction) -> Result<Work> {
    let metadata = context.metadata;
    let footprint =
        |reads, replaces: &[FileRef], add: &[ContentFile]| footprint(reads, replaces, add, context.isolation);
    let work = |operation, add: &[ContentFile], remove, footprint| Work {
        operation,
        add: add.to_vec(),
        sequence_number: None,
        remove,
        footprint,
        merge: true,
        replaces_partitions: false,
    };
    Ok(match action {
        DataAction::Append { files, merge } => {
            Work { merge: *merge, ..work(Operation::Append, files, Removal::Nothing, None) }
        }
        DataAction::Overwrite(overwrite) => {
            let filtered = |filter: &Filter| -> Result<_> {
                let remove = Removal::Matching(FileMatcher::new(filter, metadata)?);
                Ok((remove, Reads::Replaced(filter.clone())))
            };
            let whole = |(spec_id, _): &(i32, _)| {
                metadata.partition_spec_by_id(*spec_id).is_some_and(|spec| spec.is_unpartitioned())
            };
            let (remove, reads) = match &overwrite.delete {
                DeleteBy::Files(files) => {
                    let reads = overwrite.reads.clone().map_or(Reads::Nothing, Reads::Matching);
                    (Removal::of_files(files, metadata), reads)
                }
                // The table has no partitions now: what it has of the specs of before is replaced as well.
                DeleteBy::Partitions(partitions) if partitions.iter().any(whole) => filtered(&Filter::True)?,
                DeleteBy::Partitions(partitions) => {
                    for (spec_id, _) in partitions {
                        check_spec(metadata, context.base, *spec_id)?;
                    }
                    let set = partitions.iter().map(|(spec_id, value)| (*spec_id, value));
                    let set = PartitionSet::new(set, metadata);
                    (Removal::Partitions(set), Reads::Partitions(partitions.clone()))
                }
                DeleteBy::Filter(filter) => filtered(filter)?,
            };
            let mut footprint = match &overwrite.delete {
                DeleteBy::Files(files) => footprint(reads, files, &overwrite.add),
                _ => footprint(reads, &[], &overwrite.add),
            };
            if !matches!(overwrite.delete, DeleteBy::Files(_)) {
                footprint.input = overwrite.reads.clone();
            }
            let operation = if overwrite.add.is_empty() { Operation::Delete } else { Operation::Overwrite };
            Work {
                replaces_partitions: matches!(overwrite.delete, DeleteBy::Partitions(_)),
                ..work(operation, &overwrite.add, remove, Some(footprint))
            }
        }
        DataAction::Delete { paths } => {
            let remove = Removal::Paths(paths.iter().cloned().collect(), None);
            // That each is still there is checked when it is taken out.
            work(Operation::Delete, &[], remove, None)
        }
        DataAction::Rewrite(rewrite) => {
            if rewrite.delete.is_empty() {
                return Err(Error::invalid_input("a rewrite replaces at least one file"));
            }
            let footprint = rewrite_footprint(rewrite, context.isolation);
            let remove = Removal::of_files(&rewrite.delete, metadata);
            Work {
                sequence_number: rewrite.sequence_number,
                ..work(Operation::Replace, &rewrite.add, remove, Some(footprint))
            }
        }
        // What dangles is found anew at every try.
        DataAction::RemoveDanglingDeletes => {
            Work { merge: false, ..work(Operation::Replace, &[], Removal::DanglingDeletes, None) }
        }
    })
}

/// Checks an action against what others committed since it was computed, each snapshot once a commit.
async fn check_newer(
    context: &Context<'_>,
    footprint: &Footprint,
    newer: Vec<SnapshotRef>,
    kept: &mut Kept,
    storage: &Storage,
) -> Result<()> {
    let validator = Validator::new(footprint, context.metadata)?;
    let mut commit_id = context.summary.iter().filter(|(key, _)| key == super::COMMIT_ID);
    let commit_id = commit_id.next().map(|(_, id)| id);
    // Snapshots that earlier actions of this transaction added are this writer's own.
    let is_own = |snapshot: &Snapshot| {
        commit_id.is_some() && snapshot.summary().additional_properties.get(super::COMMIT_ID) == commit_id
    };
    let unknown: Vec<SnapshotRef> = newer
        .into_iter()
        .filter(|snapshot| {
            !kept.validated.contains(&snapshot.snapshot_id())
                && validator.concerns(&snapshot.summary().operation)
                && !is_own(snapshot)
        })
        .collect();
    let concerns =
        |operation: &Operation, manifest: &ManifestFile| validator.concerns_manifest(operation, manifest);
    let statistics = validator.statistics();
    let mut changes = Changes::new(&unknown, concerns, statistics, storage, context.metadata).await?;
    while let Some(change) = changes.next().await? {
        validator.check(&change)?;
    }
    kept.validated.extend(unknown.iter().map(|snapshot| snapshot.snapshot_id()));
    Ok(())
}

/// For each of several rewrites what it conflicts with of that which came to a table since.
pub(super) async fn conflicts_of(
    base: &TableMetadata,
    current: &Table,
    branch: &str,
    isolation: Isolation,
    rewrites: &[Rewrite],
) -> Result<Vec<Option<Error>>> {
    let metadata = current.metadata();
    let start = base.snapshot_for_ref(branch).map(|s| s.snapshot_id());
    let newer = since(metadata, branch, start)?;
    let footprints: Vec<Footprint> =
        rewrites.iter().map(|rewrite| rewrite_footprint(rewrite, isolation)).collect();
    let validators =
        footprints.iter().map(|footprint| Validator::new(footprint, metadata)).collect::<Result<Vec<_>>>()?;
    let concerns = |operation: &Operation, manifest: &ManifestFile| {
        validators.iter().any(|validator| validator.concerns_manifest(operation, manifest))
    };
    let statistics = validators.iter().map(|validator| validator.statistics());
    let statistics = statistics.reduce(|all, more| all.or(&more)).unwrap_or_default();
    let mut changes = Changes::new(&newer, concerns, statistics, current.storage(), metadata).await?;
    let mut conflicts: Vec<Option<Error>> = validators.iter().map(|_| None).collect();
    while let Some(change) = changes.next().await? {
        for (validator, conflict) in validators.iter().zip(&mut conflicts) {
            if conflict.is_none() {
                *conflict = validator.check(&change).err();
            }
        }
    }
    Ok(conflicts)
}

/// What snapshots changed, manifest by manifest, of those manifests that they added and that are of concern.
struct Changes {
    snapshots: VecDeque<SnapshotRef>,
    loads: BoxStream<'static, Result<ManifestContent>>,
}

impl Changes {
    /// With the statistics that are wanted of their files.
    async fn new(
        snapshots: &[SnapshotRef],
        concerns: impl Fn(&Operation, &ManifestFile) -> bool,
        statistics: WantedStatistics,
        storage: &Storage,
        metadata: &TableMetadata,
    ) -> Result<Self> {
        let mut lists = stream::iter(snapshots.to_vec())
            .map(|snapshot| async move {
                let manifests = load_manifest_list(storage, &snapshot).await?;
                Ok::<_, Error>((snapshot, manifests))
            })
            .buffered(LISTS);
        let (mut of, mut manifests) = (VecDeque::new(), Vec::new());
        while let Some((snapshot, list)) = lists.try_next().await? {
            for manifest in list {
                let own = manifest.added_snapshot_id == snapshot.snapshot_id();
                if own && concerns(&snapshot.summary().operation, &manifest) {
                    of.push_back(snapshot.clone());
                    manifests.push(manifest);
                }
            }
        }
        let reader = ManifestReader::new(storage, metadata);
        let loads = reader.each(manifests, move |manifest| manifest.content_with(&statistics));
        Ok(Self { snapshots: of, loads })
    }

    async fn next(&mut self) -> Result<Option<Change>> {
        let (Some(snapshot), Some(content)) = (self.snapshots.pop_front(), self.loads.try_next().await?)
        else {
            return Ok(None);
        };
        let id = snapshot.snapshot_id();
        let live = content.live.into_iter().zip(content.added);
        Ok(Some(Change {
            snapshot_id: id,
            operation: snapshot.summary().operation.clone(),
            added: live.filter(|(f, added)| *added && f.snapshot_id == id).map(|(f, _)| f).collect(),
            // The snapshot wrote the manifest: what is gone there it took out, though some writers leave the id of the snapshot
            // that had added it.
            removed: content.deleted,
        }))
    }
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

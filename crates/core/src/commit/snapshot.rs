//! From one data action to one snapshot: what goes is found, manifests and a manifest list are written.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;
use iceberg::spec::{
    FormatVersion, ManifestContentType, ManifestFile, ManifestListWriter, Operation, Snapshot,
    SnapshotReference, Summary, TableMetadata,
};
use iceberg::{TableUpdate, spec::MAIN_BRANCH};

use super::action::{DataAction, DeleteBy, Isolation, Start};
use super::branch::{branch_retention, since};
use super::dangling;
use super::manifests::{Entry, ManifestStore, check_added, load_all, load_each};
use super::summary::SummaryCounts;
use super::validate::{Change, Footprint, Reads, keys, validate};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::filter::{FileMatcher, Filter};
use crate::format::partition::PartitionKey;
use crate::format::{ContentFile, LiveFile, load_manifest_list};

pub(super) struct Context<'a> {
    /// The table as the actions before this one leave it.
    pub(super) metadata: &'a TableMetadata,
    /// The table that the transaction was computed from.
    pub(super) base: &'a TableMetadata,
    /// The snapshot that the action was computed from.
    pub(super) start: Start,
    pub(super) branch: &'a str,
    pub(super) isolation: Isolation,
    pub(super) summary: &'a [(String, String)],
    pub(super) clock: &'a dyn Clock,
}

pub(super) struct Produced {
    pub(super) updates: Vec<TableUpdate>,
    pub(super) snapshot_id: i64,
    /// Manifests that were written and then merged into others.
    pub(super) unused: Vec<String>,
}

/// What an action comes to: files that come, files that go, and what it relied on.
struct Work {
    operation: Operation,
    add: Vec<ContentFile>,
    sequence_number: Option<i64>,
    remove: Removal,
    footprint: Option<Footprint>,
    merge: bool,
}

enum Removal {
    Nothing,
    /// By location; each must be found.
    Paths(HashSet<String>),
    Partitions(HashSet<(i32, PartitionKey)>),
    Matching(Filter),
    /// Delete files that apply to nothing.
    DanglingDeletes,
}

/// Writes the manifests of one data action. `None` when it changes nothing.
pub(super) async fn produce(
    context: Context<'_>,
    action: &DataAction,
    store: &mut ManifestStore<'_>,
) -> Result<Option<Produced>> {
    let metadata = context.metadata;
    let parent = metadata.snapshot_for_ref(context.branch).cloned();
    if parent.is_none() && context.branch != MAIN_BRANCH {
        return Err(Error::not_found("no such branch; create it first").with("branch", context.branch));
    }
    let retention = branch_retention(metadata, context.branch)?;
    let work = plan(&context, action)?;
    check_added(metadata, &work.add)?;
    let (start, stated) = match context.start {
        Start::Table => (context.base.snapshot_for_ref(context.branch).map(|s| s.snapshot_id()), false),
        Start::Snapshot(id) => (id, true),
    };
    let newer = match work.footprint.is_some() || stated {
        true => since(metadata, context.branch, start)?,
        false => Vec::new(),
    };
    if let Some(footprint) = &work.footprint {
        // Snapshots that earlier actions of this transaction added are this writer's own.
        let known = |id: i64| {
            context.summary.iter().any(|(key, value)| {
                key == super::COMMIT_ID
                    && metadata.snapshot_by_id(id).is_some_and(|s| {
                        s.summary().additional_properties.get(super::COMMIT_ID) == Some(value)
                    })
            })
        };
        let mut changes = Vec::new();
        for snapshot in newer.iter().filter(|s| !known(s.snapshot_id())) {
            changes.push(changes_of(store, snapshot).await?);
        }
        validate(footprint, &changes, metadata)?;
    }

    let mark = store.written().len();
    let snapshot_id = new_snapshot_id(metadata, context.clock);
    let old = match &parent {
        Some(parent) => load_manifest_list(store.storage(), parent).await?,
        None => Vec::new(),
    };
    let mut counts = SummaryCounts::default();
    for file in &work.add {
        counts.add(file.spec_id, &file.file);
    }
    let (kept, removed) = remove(&context, &work.remove, old, snapshot_id, &mut counts, store).await?;
    // What has a key leaves it, also where there was nothing to do: it stays the batch that was applied.
    let keyed = context.summary.iter().any(|(key, _)| key == super::IDEMPOTENCY_KEY);
    if work.add.is_empty() && removed == 0 && !keyed && !matches!(action, DataAction::Append { .. }) {
        return Ok(None);
    }
    let mut manifests = store.write_added(metadata, snapshot_id, work.add, work.sequence_number).await?;
    manifests.extend(kept);
    if work.merge {
        manifests = store.merge(metadata, snapshot_id, manifests).await?;
    }
    if metadata.format_version() >= FormatVersion::V3 {
        fill_row_counts(store, &mut manifests).await?;
    }

    let named: HashSet<&str> = manifests.iter().map(|m| m.manifest_path.as_str()).collect();
    let unused =
        store.written()[mark..].iter().filter(|path| !named.contains(path.as_str())).cloned().collect();

    let list = store.next_location(|prefix, n| format!("snap-{snapshot_id}-{prefix}-{n}.avro"));
    let sequence_number = metadata.next_sequence_number();
    let parent_id = parent.as_ref().map(|p| p.snapshot_id());
    let output = store.storage().file_io().new_output(&list)?.writer().await?;
    let first_row_id = metadata.next_row_id();
    let mut writer = match metadata.format_version() {
        FormatVersion::V1 => ManifestListWriter::v1(output, snapshot_id, parent_id),
        FormatVersion::V2 => ManifestListWriter::v2(output, snapshot_id, parent_id, sequence_number),
        FormatVersion::V3 => {
            ManifestListWriter::v3(output, snapshot_id, parent_id, sequence_number, Some(first_row_id))
        }
    };
    writer.add_manifests(manifests.into_iter())?;
    let next_row_id = writer.next_row_id();
    writer.close().await?;

    let mut properties: HashMap<String, String> = context.summary.iter().cloned().collect();
    properties.extend(counts.properties(parent.as_deref()));
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
    let snapshot = match next_row_id {
        Some(next) if metadata.format_version() >= FormatVersion::V3 => {
            builder.with_row_range(first_row_id, next.saturating_sub(first_row_id)).build()
        }
        _ => builder.build(),
    };
    let reference = SnapshotReference::new(snapshot_id, retention);
    Ok(Some(Produced {
        updates: vec![
            TableUpdate::AddSnapshot { snapshot },
            TableUpdate::SetSnapshotRef { ref_name: context.branch.to_string(), reference },
        ],
        snapshot_id,
        unused,
    }))
}

fn plan(context: &Context<'_>, action: &DataAction) -> Result<Work> {
    let footprint = |reads, replaces: &[LiveFile], add: &[ContentFile], keeps_sequence_number| {
        Some(Footprint {
            reads,
            input: None,
            replaces: replaces.to_vec(),
            adds: add.iter().map(|f| (f.spec_id, f.file.partition().clone())).collect(),
            keeps_sequence_number,
            isolation: context.isolation,
        })
    };
    let paths = |files: &[LiveFile]| Removal::Paths(files.iter().map(|f| f.path().to_string()).collect());
    Ok(match action {
        DataAction::Append { files, merge } => Work {
            operation: Operation::Append,
            add: files.clone(),
            sequence_number: None,
            remove: Removal::Nothing,
            footprint: None,
            merge: *merge,
        },
        DataAction::Overwrite(overwrite) => {
            let footprint = |reads, replaces| footprint(reads, replaces, &overwrite.add, false);
            let (remove, mut footprint) = match &overwrite.delete {
                DeleteBy::Files(files) => {
                    let reads = overwrite.reads.clone().map_or(Reads::Nothing, Reads::Matching);
                    (paths(files), footprint(reads, files))
                }
                DeleteBy::Partitions(partitions) => {
                    let reads = Reads::Partitions(partitions.clone());
                    (Removal::Partitions(keys(partitions)), footprint(reads, &[]))
                }
                DeleteBy::Filter(filter) => {
                    (Removal::Matching(filter.clone()), footprint(Reads::Replaced(filter.clone()), &[]))
                }
            };
            if let (Some(footprint), DeleteBy::Partitions(_) | DeleteBy::Filter(_)) =
                (&mut footprint, &overwrite.delete)
            {
                footprint.input = overwrite.reads.clone();
            }
            let operation = if overwrite.add.is_empty() { Operation::Delete } else { Operation::Overwrite };
            Work {
                operation,
                add: overwrite.add.clone(),
                sequence_number: None,
                remove,
                footprint,
                merge: true,
            }
        }
        DataAction::Delete { paths } => Work {
            operation: Operation::Delete,
            add: Vec::new(),
            sequence_number: None,
            remove: Removal::Paths(paths.iter().cloned().collect()),
            footprint: None, // that each is still there is checked when it is taken out
            merge: true,
        },
        DataAction::Rewrite(rewrite) => {
            if rewrite.delete.is_empty() {
                return Err(Error::invalid_input("a rewrite replaces at least one file"));
            }
            let keeps = rewrite.sequence_number.is_some();
            Work {
                operation: Operation::Replace,
                add: rewrite.add.clone(),
                sequence_number: rewrite.sequence_number,
                remove: paths(&rewrite.delete),
                footprint: footprint(Reads::Nothing, &rewrite.delete, &rewrite.add, keeps),
                merge: true,
            }
        }
        DataAction::RemoveDanglingDeletes => Work {
            operation: Operation::Replace,
            add: Vec::new(),
            sequence_number: None,
            remove: Removal::DanglingDeletes,
            footprint: None, // what dangles is found anew at every try
            merge: false,
        },
    })
}

/// Takes files out of manifests: those without any are carried over, the others written anew. Gives the manifests that
/// stay and the number of files that the removal named and that went.
async fn remove(
    context: &Context<'_>,
    removal: &Removal,
    manifests: Vec<ManifestFile>,
    snapshot_id: i64,
    counts: &mut SummaryCounts,
    store: &mut ManifestStore<'_>,
) -> Result<(Vec<ManifestFile>, usize)> {
    let metadata = context.metadata;
    // Manifests that hold only files removed long ago have nothing to say any more.
    let manifests: Vec<ManifestFile> =
        manifests.into_iter().filter(|m| m.has_added_files() || m.has_existing_files()).collect();
    let matcher = match removal {
        Removal::Nothing => return Ok((manifests, 0)),
        Removal::DanglingDeletes => {
            return dangling::remove(metadata, manifests, snapshot_id, counts, store).await;
        }
        Removal::Matching(filter) => Some(FileMatcher::new(filter, metadata)?),
        Removal::Paths(_) | Removal::Partitions(_) => None,
    };
    let (candidates, mut kept): (Vec<_>, Vec<_>) = manifests.into_iter().partition(|manifest| {
        manifest.content == ManifestContentType::Data
            && match (removal, &matcher) {
                (_, Some(matcher)) => matcher.might_match_manifest(manifest),
                (Removal::Partitions(set), _) => {
                    set.iter().any(|(spec, _)| *spec == manifest.partition_spec_id)
                }
                _ => true,
            }
    });
    let storage = store.storage().clone();
    let mut contents = std::pin::pin!(load_each(&storage, &candidates));
    let mut gone: HashSet<String> = HashSet::new();
    for manifest in &candidates {
        let content = contents.try_next().await?;
        let content = content.ok_or_else(|| Error::internal("fewer manifests were loaded than there are"))?;
        let mut goes = Vec::with_capacity(content.live.len());
        for file in &content.live {
            goes.push(match (removal, &matcher) {
                (Removal::Paths(paths), _) => paths.contains(file.path()),
                (Removal::Partitions(set), _) => {
                    set.contains(&(file.spec_id, PartitionKey::new(file.file.partition())))
                }
                (_, Some(matcher)) if matcher.might_match(file.spec_id, &file.file) => {
                    if !matcher.all_match(file.spec_id, &file.file) {
                        return Err(Error::invalid_input(
                            "the filter may match only some rows of a file: overwrite by a filter on partition columns, \
                             or delete the rows instead",
                        )
                        .with("file", file.path()));
                    }
                    true
                }
                _ => false,
            });
        }
        if !goes.contains(&true) {
            kept.push(manifest.clone());
            continue;
        }
        let mut entries = Vec::with_capacity(content.live.len());
        for (file, goes) in content.live.into_iter().zip(goes) {
            if goes {
                counts.remove(file.spec_id, &file.file);
                gone.insert(file.path().to_string());
                entries.push(Entry::Deleted(file));
            } else {
                entries.push(Entry::Existing(file));
            }
        }
        let data = ManifestContentType::Data;
        kept.push(store.write(metadata, snapshot_id, &content.schema, &content.spec, data, entries).await?);
    }
    if let Removal::Paths(paths) = removal
        && let Some(missing) = paths.iter().find(|path| !gone.contains(*path))
    {
        return Err(Error::conflict(
            "a file to be removed is not in the table: another commit removed it; read the table again and run the \
             operation again",
        )
        .with("file", missing));
    }
    let removed = gone.len();
    let kept = dangling::remove_vectors_of(&gone, metadata, kept, snapshot_id, counts, store).await?;
    Ok((kept, removed))
}

/// What a snapshot changed, from the manifests that it added.
async fn changes_of(store: &ManifestStore<'_>, snapshot: &Snapshot) -> Result<Change> {
    let id = snapshot.snapshot_id();
    let mut manifests = load_manifest_list(store.storage(), snapshot).await?;
    manifests.retain(|m| m.added_snapshot_id == id);
    let mut change = Change {
        snapshot_id: id,
        operation: snapshot.summary().operation.clone(),
        added: Vec::new(),
        removed: Vec::new(),
    };
    for content in load_all(store.storage(), &manifests).await? {
        let files = content.live.into_iter().zip(content.added);
        change
            .added
            .extend(files.filter(|(file, added)| *added && file.snapshot_id == id).map(|(file, _)| file));
        change.removed.extend(content.deleted.into_iter().filter(|file| file.snapshot_id == id));
    }
    Ok(change)
}

/// Row ids are given out by a manifest's row counts, which manifests of version 1 may lack.
async fn fill_row_counts(store: &ManifestStore<'_>, manifests: &mut [ManifestFile]) -> Result<()> {
    for manifest in
        manifests.iter_mut().filter(|m| m.content == ManifestContentType::Data && m.first_row_id.is_none())
    {
        if manifest.added_rows_count.is_some() && manifest.existing_rows_count.is_some() {
            continue;
        }
        let content = load_all(store.storage(), std::slice::from_ref(manifest)).await?;
        let rows = |added: bool| {
            let files = content.iter().flat_map(|c| c.live.iter().zip(&c.added));
            files.filter(|(_, a)| **a == added).map(|(f, _)| f.file.record_count()).sum::<u64>()
        };
        manifest.added_rows_count = Some(rows(true));
        manifest.existing_rows_count = Some(rows(false));
    }
    Ok(())
}

fn new_snapshot_id(metadata: &TableMetadata, clock: &dyn Clock) -> i64 {
    loop {
        let id = (clock.random() >> 1) as i64;
        if id > 0 && metadata.snapshot_by_id(id).is_none() {
            return id;
        }
    }
}

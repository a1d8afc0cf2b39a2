//! What a snapshot did to rows, as files that hold them and delete files that took them away.
//!
//! A row changed if it is live before a snapshot and not after it, or the other way about. Rows of files that the snapshot
//! added or removed did; of files that stay, those did that came to be deleted, and the few that a delete taken away brings
//! back. Metadata says which files that may be: the others are not read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use iceberg::spec::{DataContentType, ManifestContentType, ManifestFile, SnapshotRef};
use icefield_core::deletes::{DeleteIndex, FileDeletes, might_apply_to_manifest, only_path};
use icefield_core::filter::Filter;
use icefield_core::format::{LiveFile, WantedStatistics, load_manifest};
use icefield_core::{Error, ErrorKind, Result, Table};

use crate::scan::{ChosenRows, PlannedFile, ScanCaches, files_of, identity, manifest_list};

/// Rows that a snapshot inserted and deleted.
#[derive(Debug, Default)]
pub(super) struct ChangedRows {
    pub(super) inserted: ChosenRows,
    pub(super) deleted: ChosenRows,
}

/// The data files that a snapshot added. Reads the manifests that it wrote itself.
pub(super) async fn added(
    table: &Table,
    caches: &Arc<ScanCaches>,
    snapshot: &SnapshotRef,
) -> Result<Vec<PlannedFile>> {
    let list = manifest_list(table, snapshot, caches).await?;
    let data = list.iter().filter(|manifest| manifest.content == ManifestContentType::Data);
    Ok(Written::read(table, snapshot, data).await?.added)
}

/// What a snapshot changed. Reads the manifests that it wrote itself; where delete files matter, those of delete files, and
/// where delete files came or went, those that may hold the data files that these apply to.
///
/// # Errors
/// [`Expired`](icefield_core::ErrorKind::Expired) where files must be read that the snapshot removed, and the snapshot
/// before, which kept them, has expired.
pub(super) async fn changed(
    table: &Table,
    caches: &Arc<ScanCaches>,
    snapshot: &SnapshotRef,
) -> Result<ChangedRows> {
    let list = manifest_list(table, snapshot, caches).await?;
    let of_data = || list.iter().filter(|manifest| manifest.content == ManifestContentType::Data);
    let data = Written::read(table, snapshot, of_data()).await?;
    let parent = snapshot.parent_snapshot_id().and_then(|id| table.metadata().snapshot_by_id(id));
    let before_list = match parent {
        Some(parent) => Some(manifest_list(table, parent, caches).await?),
        None => None,
    };
    let states = Deletes::read(table, caches, snapshot, &list, before_list.as_deref(), &data).await?;
    let mut touched = Touched::default();
    if states.differ() {
        let of_others = of_data().filter(|manifest| manifest.added_snapshot_id != snapshot.snapshot_id());
        touched = Touched::find(table, caches, &data, of_others, &states).await?;
    }
    let expired = parent.is_none() && snapshot.parent_snapshot_id().is_some();
    if expired && (!data.removed.is_empty() || touched.reads_removed) {
        return Err(Error::new(
            ErrorKind::Expired,
            "the snapshot removed files, and the one before it, which kept them, has expired; ask for changes after this one",
        )
        .with("table", table.ident())
        .with("snapshot", snapshot.snapshot_id())
        .with("expired", snapshot.parent_snapshot_id().unwrap_or_default()));
    }
    let (before, after): (Arc<[_]>, Arc<[_]>) = (states.before.into(), states.after.into());
    Ok(ChangedRows {
        inserted: ChosenRows {
            whole: data.added,
            touched: touched.undeleted,
            deletes: after.clone(),
            deleted_by: before.clone(),
        },
        deleted: ChosenRows {
            whole: data.removed,
            touched: touched.deleted,
            deletes: before,
            deleted_by: after,
        },
    })
}

/// What the manifests say that a snapshot wrote itself.
#[derive(Debug, Default)]
struct Written {
    added: Vec<PlannedFile>,
    removed: Vec<PlannedFile>,
    /// Files that were there before.
    kept: Vec<PlannedFile>,
}

impl Written {
    async fn read(
        table: &Table,
        snapshot: &SnapshotRef,
        manifests: impl Iterator<Item = &ManifestFile>,
    ) -> Result<Self> {
        let id = snapshot.snapshot_id();
        let (mut added, mut removed, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for manifest in manifests.filter(|manifest| manifest.added_snapshot_id == id) {
            let content = load_manifest(table.storage(), table.metadata(), manifest).await?;
            for (live, is_added) in content.live.into_iter().zip(content.added) {
                let files = if is_added && live.snapshot_id == id { &mut added } else { &mut kept };
                files.push(live);
            }
            removed.extend(content.deleted.into_iter().filter(|live| live.snapshot_id == id));
        }
        let all = PlannedFile::all;
        Ok(Self { added: all(added), removed: all(removed), kept: all(kept) })
    }

    /// The lowest sequence number of files that came or went: no older delete applies to them.
    fn oldest(&self) -> Option<i64> {
        self.added.iter().chain(&self.removed).map(|file| file.sequence_number).min()
    }
}

/// The delete files before and after a snapshot, as far as they matter.
#[derive(Debug, Default)]
struct Deletes {
    before: Vec<PlannedFile>,
    after: Vec<PlannedFile>,
}

impl Deletes {
    async fn read(
        table: &Table,
        caches: &Arc<ScanCaches>,
        snapshot: &SnapshotRef,
        after: &[ManifestFile],
        before: Option<&[ManifestFile]>,
        data: &Written,
    ) -> Result<Self> {
        let of_deletes = |list: &[ManifestFile]| -> Vec<ManifestFile> {
            list.iter().filter(|m| m.content == ManifestContentType::Deletes).cloned().collect()
        };
        let paths = |list: &[ManifestFile]| -> HashSet<String> {
            list.iter().map(|manifest| manifest.manifest_path.clone()).collect()
        };
        let id = snapshot.snapshot_id();
        let mut after = of_deletes(after);
        let before = before.map(of_deletes);
        let unchanged = match &before {
            Some(before) => paths(before) == paths(&after),
            None => after.iter().all(|manifest| manifest.added_snapshot_id != id),
        };
        if unchanged {
            let oldest = data.oldest();
            let matters = |m: &ManifestFile| oldest.is_some_and(|oldest| m.sequence_number >= oldest);
            after.retain(matters);
        }
        let live = async |list: &[ManifestFile]| {
            Ok::<_, Error>(
                files_of(table, list, &Filter::True, &WantedStatistics::None, caches).await?.deletes,
            )
        };
        let files_after = live(&after).await?;
        let files_before = match before {
            _ if unchanged => files_after.clone(),
            Some(before) => live(&before).await?,
            // What the snapshot's manifests say of the one before, which nobody has any more.
            None => {
                let written = Written::read(table, snapshot, after.iter()).await?;
                let added: HashSet<_> = written.added.iter().map(|file| identity(file)).collect();
                let kept = files_after.iter().filter(|file| !added.contains(&identity(file))).cloned();
                kept.chain(written.removed).collect()
            }
        };
        Ok(Self { before: files_before, after: files_after })
    }

    fn differ(&self) -> bool {
        !self.came().is_empty() || !self.went().is_empty()
    }

    fn came(&self) -> Vec<PlannedFile> {
        difference(&self.after, &self.before)
    }

    fn went(&self) -> Vec<PlannedFile> {
        difference(&self.before, &self.after)
    }
}

fn difference(files: &[PlannedFile], others: &[PlannedFile]) -> Vec<PlannedFile> {
    let known: HashSet<_> = others.iter().map(|file| identity(file)).collect();
    files.iter().filter(|file| !known.contains(&identity(file))).cloned().collect()
}

/// Data files that stay, and of which other rows are deleted than before.
#[derive(Debug, Default)]
struct Touched {
    /// Files to which deletes apply that did not before.
    deleted: Vec<PlannedFile>,
    /// Files to which deletes applied that do not any more.
    undeleted: Vec<PlannedFile>,
    /// Whether a delete file that went applied to any of them.
    reads_removed: bool,
}

impl Touched {
    async fn find(
        table: &Table,
        caches: &Arc<ScanCaches>,
        data: &Written,
        others: impl Iterator<Item = &ManifestFile>,
        deletes: &Deletes,
    ) -> Result<Self> {
        let (came, went) = (deletes.came(), deletes.went());
        let changed = || came.iter().chain(&went).map(|file| &**file);
        let mut touch = Touch {
            before: index(table, &deletes.before)?,
            after: index(table, &deletes.after)?,
            came: index(table, &came)?,
            went: index(table, &went)?,
            named: changed()
                .filter(|delete| !by_keys(delete))
                .filter_map(|delete| only_path(&delete.file))
                .collect(),
            found: Self::default(),
        };
        for file in data.added.iter().chain(&data.removed) {
            touch.named.remove(file.path());
        }
        data.kept.iter().for_each(|file| touch.add(file));
        let of_a_kind = of_a_kind(changed());
        let might_apply = |manifest: &&ManifestFile| {
            of_a_kind.iter().any(|delete| might_apply_to_manifest(delete, manifest, table.metadata()))
        };
        let (likely, unlikely): (Vec<_>, Vec<_>) = others.partition(might_apply);
        // What a key's bounds exclude in one file, they are asked for in all.
        let keys = deletes.before.iter().chain(&deletes.after).filter_map(|file| file.file.equality_ids());
        let keys = WantedStatistics::of(keys.flatten());
        let files = files_of(table, likely, &Filter::True, &keys, caches).await?.data;
        files.iter().for_each(|file| touch.add(file));
        // Deletes that name a file of another partition than their own apply, though nobody should write such.
        if !touch.named.is_empty() {
            let files = files_of(table, unlikely, &Filter::True, &keys, caches).await?.data;
            files.iter().for_each(|file| touch.add(file));
        }
        Ok(touch.found)
    }
}

/// What tells which files are touched.
struct Touch<'a> {
    before: DeleteIndex<&'a LiveFile>,
    after: DeleteIndex<&'a LiveFile>,
    came: DeleteIndex<&'a LiveFile>,
    went: DeleteIndex<&'a LiveFile>,
    /// Data files that deletes which came or went name, and that were not met yet.
    named: HashSet<String>,
    found: Touched,
}

impl Touch<'_> {
    fn add(&mut self, file: &PlannedFile) {
        self.named.remove(file.path());
        let reads_removed = !self.went.of(file).is_empty();
        if !reads_removed && self.came.of(file).is_empty() {
            return;
        }
        self.found.reads_removed |= reads_removed;
        let (before, after) = (self.before.of(file), self.after.of(file));
        let (before, after) = (identities(&before), identities(&after));
        if !after.is_subset(&before) {
            self.found.deleted.push(file.clone());
        }
        if !before.is_subset(&after) {
            self.found.undeleted.push(file.clone());
        }
    }
}

fn index<'a>(table: &Table, files: &'a [PlannedFile]) -> Result<DeleteIndex<&'a LiveFile>> {
    DeleteIndex::new(files.iter().map(|file| &**file), table.metadata())
}

fn identities<'a>(deletes: &FileDeletes<'_, &'a LiveFile>) -> HashSet<(&'a str, Option<i64>)> {
    let FileDeletes { vector, positions, equality } = deletes;
    let all = vector.iter().chain(positions).chain(equality);
    all.map(|delete| identity(delete)).collect()
}

fn by_keys(delete: &LiveFile) -> bool {
    delete.file.content_type() == DataContentType::EqualityDeletes
}

/// Of delete files that go by the same partition the newest, which may apply wherever another does.
fn of_a_kind<'a>(deletes: impl Iterator<Item = &'a LiveFile>) -> Vec<&'a LiveFile> {
    let mut newest = HashMap::new();
    for delete in deletes {
        let kind = (delete.spec_id, delete.file.partition(), by_keys(delete));
        let known = newest.entry(kind).or_insert(delete);
        if delete.sequence_number > known.sequence_number {
            *known = delete;
        }
    }
    newest.into_values().collect()
}

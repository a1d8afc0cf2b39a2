//! Which files only expired snapshots hold, and which specs and schemas nothing uses any more.

use std::collections::{BTreeSet, HashMap, HashSet};

use iceberg::spec::{SnapshotRef, TableMetadata};
use icefield_core::catalog::TableUpdate;
use icefield_core::evolve::MetadataChange;
use icefield_core::format::{lists_manifests_itself, load_metadata};
use icefield_core::storage::Storage;
use icefield_core::table::references;
use icefield_core::{ConflictReason, Error, Result, Table};

use crate::common::FileCounts;
use crate::ownership::{NamedFile, Ownership};
use crate::paths::{Folders, KeyHash};
use crate::reach::{FileKind, Manifests, Missing, is_of_data, present, statistics};

/// Files that snapshots to be removed reach and that none of those seen to stay does.
#[derive(Debug)]
pub(super) struct Unreached {
    gone: HashSet<i64>,
    candidates: HashMap<KeyHash, NamedFile>,
    folders: Folders,
    /// Snapshots and manifests that are known to stay, so that each is read once.
    stay: HashSet<i64>,
    read: HashSet<String>,
    specs: BTreeSet<i32>,
}

impl Unreached {
    /// The files that `gone`, snapshots of `metadata`, reach and that its others don't.
    pub(super) async fn of(storage: &Storage, metadata: &TableMetadata, gone: &[i64]) -> Result<Self> {
        let gone: HashSet<i64> = gone.iter().copied().collect();
        let (going, staying): (Vec<SnapshotRef>, Vec<SnapshotRef>) =
            metadata.snapshots().cloned().partition(|s| gone.contains(&s.snapshot_id()));
        let mut this = Self {
            candidates: HashMap::new(),
            folders: Folders::default(),
            stay: HashSet::new(),
            read: HashSet::new(),
            specs: BTreeSet::new(),
            gone,
        };
        // What a snapshot that goes has lost already, or holds in a file that nobody can read, is no reason to keep it.
        let theirs = Manifests::of(storage, going.iter().cloned(), Missing::SkipUnreadable).await?;
        let kept = Manifests::of(storage, staying.iter().cloned(), Missing::Fail).await?;
        let only_theirs = |key: &str| !kept.0.contains_key(key);
        let mut candidates = HashMap::new();
        let folders = &mut this.folders;
        let mut add = |kind, location: &str, bytes| {
            let candidate = || NamedFile { kind, path: folders.path(location), bytes };
            candidates.entry(KeyHash::of(location)).or_insert_with(candidate);
        };
        for manifest in theirs.0.values() {
            let bytes = u64::try_from(manifest.manifest_length).ok();
            add(FileKind::Manifest, &manifest.manifest_path, bytes);
        }
        for snapshot in going.iter().filter(|snapshot| !lists_manifests_itself(snapshot)) {
            add(FileKind::ManifestList, snapshot.manifest_list(), None);
        }
        for (snapshot_id, location, bytes) in statistics(metadata) {
            if this.gone.contains(&snapshot_id) {
                add(FileKind::Statistics, &location, Some(bytes));
            }
        }
        theirs
            .visit_live(
                storage,
                Missing::SkipUnreadable,
                |key, _| only_theirs(key),
                |kind, location, bytes| add(kind, location, Some(bytes)),
            )
            .await?;
        this.candidates = candidates;
        this.keep(storage, metadata, staying, kept).await?;
        Ok(this)
    }

    /// Whether these are the files of exactly these snapshots.
    pub(super) fn is_for(&self, gone: &[i64]) -> bool {
        gone.len() == self.gone.len() && gone.iter().all(|id| self.gone.contains(id))
    }

    /// Takes out what any snapshot of `metadata` reaches.
    pub(super) async fn keep_reached(&mut self, storage: &Storage, metadata: &TableMetadata) -> Result<()> {
        let new: Vec<SnapshotRef> =
            metadata.snapshots().filter(|s| !self.stay.contains(&s.snapshot_id())).cloned().collect();
        let manifests = Manifests::of(storage, new.iter().cloned(), Missing::Fail).await?;
        self.keep(storage, metadata, new, manifests).await
    }

    async fn keep(
        &mut self,
        storage: &Storage,
        metadata: &TableMetadata,
        snapshots: Vec<SnapshotRef>,
        manifests: Manifests,
    ) -> Result<()> {
        for snapshot in &snapshots {
            self.candidates.remove(&KeyHash::of(snapshot.manifest_list()));
            self.stay.insert(snapshot.snapshot_id());
        }
        for (snapshot_id, location, _) in statistics(metadata) {
            // What the commit takes away is named by the metadata before it; the metadata after it names what stays.
            let goes = metadata.snapshot_by_id(snapshot_id).is_some() && self.gone.contains(&snapshot_id);
            if !goes {
                self.candidates.remove(&KeyHash::of(&location));
            }
        }
        for manifest in manifests.0.values() {
            self.candidates.remove(&KeyHash::of(&manifest.manifest_path));
            self.specs.insert(manifest.partition_spec_id);
        }
        // A manifest of data files holds no delete files, and the other way round.
        let is_data = |candidate: &NamedFile| candidate.kind == FileKind::Data;
        let is_deletes = |candidate: &NamedFile| {
            matches!(
                candidate.kind,
                FileKind::PositionDeletes | FileKind::EqualityDeletes | FileKind::DeletionVectors
            )
        };
        let data = self.candidates.values().any(is_data);
        let deletes = self.candidates.values().any(is_deletes);
        let (read, candidates) = (&self.read, &mut self.candidates);
        manifests
            .visit_live(
                storage,
                Missing::Fail,
                |key, manifest| !read.contains(key) && if is_of_data(manifest) { data } else { deletes },
                |_, location, _| {
                    candidates.remove(&KeyHash::of(location));
                },
            )
            .await?;
        self.read.extend(manifests.0.into_keys());
        Ok(())
    }

    /// Takes out the metadata files that `table` names, whatever else names them.
    pub(super) fn keep_metadata_files(&mut self, table: &Table) {
        self.candidates.remove(&KeyHash::of(table.metadata_location()));
        for entry in table.metadata().metadata_log() {
            self.candidates.remove(&KeyHash::of(&entry.metadata_file));
        }
    }

    /// Keeps what may not be deleted with the table's snapshots, and counts it.
    pub(super) fn keep_elsewhere(&mut self, whose: &Ownership) -> FileCounts {
        whose.keep_elsewhere(&mut self.candidates, &self.folders)
    }

    /// What the snapshots that stay use.
    pub(super) fn used(&self) -> Used {
        Used { snapshots: self.stay.clone(), specs: self.specs.clone() }
    }

    pub(super) fn get(&self, location: &str) -> Option<(FileKind, Option<u64>)> {
        self.candidates.get(&KeyHash::of(location)).map(|c| (c.kind, c.bytes))
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(FileKind, Option<u64>)) {
        self.candidates.values().for_each(|c| visit(c.kind, c.bytes));
    }

    /// Every location, what is named by others before what names it.
    pub(super) fn in_order(&self) -> impl ExactSizeIterator<Item = String> + Send {
        let mut all: Vec<&NamedFile> = self.candidates.values().collect();
        all.sort_unstable_by_key(|candidate| candidate.kind);
        all.into_iter().map(|candidate| self.folders.location(&candidate.path))
    }
}

/// The partition specs of the files of some snapshots.
#[derive(Debug)]
pub(super) struct Used {
    snapshots: HashSet<i64>,
    specs: BTreeSet<i32>,
}

impl Used {
    /// The specs of `metadata` that nothing uses once `gone` are removed; none when a snapshot's files are not known.
    pub(super) fn unused_specs(&self, metadata: &TableMetadata, gone: &[i64]) -> Vec<i32> {
        let stays = |id: i64| !gone.contains(&id);
        let mut staying = metadata.snapshots().map(|s| s.snapshot_id()).filter(|id| stays(*id));
        if !staying.all(|id| self.snapshots.contains(&id)) {
            return Vec::new();
        }
        let default = metadata.default_partition_spec_id();
        let specs = metadata.partition_specs_iter().map(|spec| spec.spec_id());
        let mut unused: Vec<i32> = specs.filter(|id| *id != default && !self.specs.contains(id)).collect();
        unused.sort_unstable();
        unused
    }
}

/// The schemas of `metadata` that no snapshot has once `gone` are removed; none when a snapshot does not tell its own.
pub(super) fn unused_schemas(metadata: &TableMetadata, gone: &[i64]) -> Vec<i32> {
    let staying = metadata.snapshots().filter(|s| !gone.contains(&s.snapshot_id()));
    let Some(mut used) = staying.map(|s| s.schema_id()).collect::<Option<BTreeSet<i32>>>() else {
        return Vec::new();
    };
    used.insert(metadata.current_schema_id());
    let mut unused: Vec<i32> =
        metadata.schemas_iter().map(|schema| schema.schema_id()).filter(|id| !used.contains(id)).collect();
    unused.sort_unstable();
    unused
}

/// Takes the statistics of snapshots that `metadata` no longer has out of it.
pub(super) fn drop_statistics(metadata: &TableMetadata) -> Result<MetadataChange> {
    let gone = |id: &i64| metadata.snapshot_by_id(*id).is_none();
    let table = metadata.statistics_iter().map(|s| s.snapshot_id).filter(gone);
    let partition = metadata.partition_statistics_iter().map(|s| s.snapshot_id).filter(gone);
    let table = table.map(|snapshot_id| TableUpdate::RemoveStatistics { snapshot_id });
    let partition = partition.map(|snapshot_id| TableUpdate::RemovePartitionStatistics { snapshot_id });
    Ok(MetadataChange { updates: table.chain(partition).collect(), requirements: Vec::new() })
}

/// Fails when the commit took a branch or tag with it that it was not to drop: one that came to name an expiring snapshot
/// after the commit's requirements were stated. No requirement can speak of a name that does not exist yet, and a catalog
/// that removes a snapshot drops what names it.
pub(super) async fn check_references(produced: &Table, dropped: &[String]) -> Result<()> {
    let Some(last) = produced.metadata().metadata_log().last() else { return Ok(()) };
    let replaced = load_metadata(produced.storage(), &last.metadata_file).await;
    let Some(replaced) = present(replaced, Missing::Skip)? else { return Ok(()) };
    let stays = |name: &String| produced.references().iter().any(|(kept, _)| kept == name);
    for (name, reference) in references(&replaced) {
        if !dropped.contains(&name) && !stays(&name) {
            return Err(Error::conflict(
                "a branch or tag was created on an expiring snapshot and went with it; its files were left in place: register the earlier metadata file to get it back",
            )
            .because(ConflictReason::ReferenceChanged)
            .with("table", produced.ident())
            .with("ref", name)
            .with("snapshot", reference.snapshot_id)
            .with("metadata", &last.metadata_file));
        }
    }
    Ok(())
}

//! Purging: a table taken out of its catalog, and every file deleted that its metadata reaches.
//!
//! The catalog goes first: from then on nobody can begin to read or write the table, and what a failure leaves behind is
//! unreachable. Data files go before the metadata that names them, the current metadata file last, so that a purge that
//! was cut short can be done again from it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use iceberg::spec::{ManifestFile, SnapshotRef};
use icefield_core::catalog::{Catalog, IcebergCatalog};
use icefield_core::format::{lists_manifests_itself, load_manifest_list, load_metadata};
use icefield_core::storage::Storage;
use icefield_core::text::Plain;
use icefield_core::{ConflictReason, Error, ErrorKind, Result, Table};
use serde::Serialize;

use crate::common::{
    DELETE_CONCURRENCY, DeleteFailure, FileCount, FileCounts, OnProgress, Phase, Progress, SHOWN, Target,
    delete_files, require_gc, tell, total,
};
use crate::orphans::Unloadable;
use crate::ownership::{Elsewhere, NamedFile, Ownership};
use crate::paths::{Folders, KeyHash, Path};
use crate::reach::{FileKind, Manifests, Missing, present, statistics};

/// Takes a table out of its catalog and deletes its files; see [`Purge`].
pub fn purge_table(table: &icefield_engine::Table) -> Purge {
    Purge::new(table.core().clone(), table.session().catalog().clone())
}

/// A catalog as `iceberg`'s trait whose `purge_table` purges as [`Purge`] does.
pub fn iceberg_catalog(catalog: Arc<dyn Catalog>) -> IcebergCatalog {
    let purges = catalog.clone();
    IcebergCatalog::new(catalog).with_purge(move |table| {
        let purge = Purge::new(table, purges.clone());
        async move { purge.await.map(drop) }.boxed()
    })
}

/// A purge: what all snapshots, the metadata log and the statistics of the table name is deleted where it lies below the table's
/// location, and [elsewhere](Purge::allow_outside_table) on request. Files
/// that nothing names stay: run [`remove_orphan_files`](crate::remove_orphan_files) first.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) where `gc.enabled` is false: other tables may share the files.
/// A snapshot whose manifests can't be read stops it before anything happens, unless it [skips](Purge::skip_unreadable) those, and
/// so does a folder that another table of the catalog has too: the same table registered under two names is one of them.
/// [`Conflict`](icefield_core::ErrorKind::Conflict) where another table has come to have the name meanwhile. Once the catalog
/// has dropped the table, nothing is an error any more: what could not be deleted is in the report.
#[must_use = "nothing happens until it is awaited"]
pub struct Purge {
    target: Target,
    elsewhere: Elsewhere,
    skip_unreadable: bool,
    progress: Option<OnProgress>,
}

impl fmt::Debug for Purge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purge").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Purge {
    /// A purge of a table without a session.
    pub fn new(table: Table, catalog: Arc<dyn Catalog>) -> Self {
        let target = Target { table, catalog };
        Self { target, elsewhere: Elsewhere::default(), skip_unreadable: false, progress: None }
    }

    /// Whether the catalog's other tables are loaded, to see that none has the same folder. Default: on.
    pub fn check_other_tables(mut self, check: bool) -> Self {
        self.elsewhere.check_other_tables = check;
        self
    }

    /// Deletes the table's files wherever they lie: below its location, and elsewhere too, but for other tables' folders.
    /// Whoever may write the table's metadata says which those are. Default: off; what lies elsewhere stays, and the report
    /// [counts it](PurgeReport::outside).
    pub fn allow_outside_table(mut self, allow: bool) -> Self {
        self.elsewhere.allow_outside_table = allow;
        self
    }

    /// Skips manifest lists and manifests that are missing or broken. Files that others reach are deleted then. These
    /// stay, and so do the lists that name them and the current metadata file, from which the rest can be purged once they
    /// are restored: the report names them. Default: off.
    pub fn skip_unreadable(mut self, skip: bool) -> Self {
        self.skip_unreadable = skip;
        self
    }

    /// Told how far it has come, from the task that awaits the purge: it must not block.
    pub fn on_progress(mut self, callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }
}

impl IntoFuture for Purge {
    type Output = Result<PurgeReport>;
    type IntoFuture = BoxFuture<'static, Result<PurgeReport>>;

    fn into_future(self) -> Self::IntoFuture {
        run(self).boxed()
    }
}

/// What a purge did.
#[derive(Debug, Default, Serialize)]
#[non_exhaustive]
pub struct PurgeReport {
    /// Files deleted, by kind.
    pub files: FileCounts,
    /// Files that lie elsewhere than below the table's location, or in another table's folder, by kind: they stay.
    pub outside: FileCounts,
    /// Files that could not be deleted: nothing reaches them any more.
    pub failures: Vec<DeleteFailure>,
    /// Manifest lists and manifests that could not be read and were [skipped](Purge::skip_unreadable): they stay, and so do the files
    /// that only they reach.
    pub unreadable: Vec<UnreadableFile>,
    /// The metadata file that stays with what was skipped: the table can be registered by it again.
    pub kept_metadata: Option<String>,
}

/// A file of a table's metadata that can't be read.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct UnreadableFile {
    /// Its kind.
    pub kind: FileKind,
    /// Its location.
    pub location: String,
    /// Why.
    pub error: Error,
}

impl fmt::Display for PurgeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = total(&self.files);
        write!(f, "purged {} files ({})", all.files, all.size())?;
        if !self.outside.is_empty() {
            write!(f, "; {} files outside of the table's folder stay", total(&self.outside).files)?;
        }
        for failure in self.failures.iter().take(SHOWN) {
            write!(f, "; not deleted: {}: {}", Plain(&failure.location), failure.error)?;
        }
        for file in self.unreadable.iter().take(SHOWN) {
            write!(f, "; kept with what only it reaches: {}: {}", Plain(&file.location), file.error)?;
        }
        if let Some(location) = &self.kept_metadata {
            write!(f, "; restore what is kept and register {} to purge the rest", Plain(location))?;
        }
        Ok(())
    }
}

#[tracing::instrument(name = "purge_table", skip_all, fields(table = %purge.target.table.ident()))]
async fn run(purge: Purge) -> Result<PurgeReport> {
    let Purge { target, elsewhere, skip_unreadable, progress } = purge;
    tell(&progress, Phase::Planning, 0, None);
    let table = target.reload().await?;
    require_same(&target.table, &table)?;
    require_gc(table.metadata(), "purge")?;
    let whose = Ownership::of(&target.catalog, &table, elsewhere, Unloadable::Fail).await?;
    let mut files = reached(&table, skip_unreadable).await?;
    let outside = whose.keep_elsewhere(&mut files.all, &files.folders);
    // The walk may have taken long: by now the name may be another table's, which is not to be dropped.
    require_same(&table, &target.reload().await?)?;
    target.catalog.drop_table(table.ident()).await?;

    let AllReached { all, folders, unreadable } = files;
    let mut report = PurgeReport { outside, unreadable, ..PurgeReport::default() };
    // Kinds are in the order in which files may go: each before what names it.
    let order = [
        FileKind::Data,
        FileKind::PositionDeletes,
        FileKind::EqualityDeletes,
        FileKind::DeletionVectors,
        FileKind::Statistics,
        FileKind::Manifest,
        FileKind::ManifestList,
        FileKind::Metadata,
    ];
    for kind in order {
        let mut count = FileCount::default();
        let of_kind: Vec<&Path> =
            all.values().filter(|file| file.kind == kind).map(|file| &file.path).collect();
        let locations = of_kind.into_iter().map(|path| folders.location(path));
        let deleted = |location: &str| {
            count.add_if_known(all.get(&KeyHash::of(location)).and_then(|file| file.bytes));
        };
        let failures =
            delete_files(target.storage(), locations, DELETE_CONCURRENCY, &progress, deleted).await;
        report.failures.extend(failures);
        if count.files > 0 {
            report.files.insert(kind, count);
        }
    }
    let current = table.metadata_location().to_string();
    if !whose.may_go(&current) {
        report.outside.entry(FileKind::Metadata).or_default().add_if_known(None);
    } else if report.unreadable.is_empty() {
        let metadata = report.files.entry(FileKind::Metadata).or_default();
        let current = std::iter::once(current);
        let failures =
            delete_files(target.storage(), current, 1, &progress, |_| metadata.add_if_known(None)).await;
        report.failures.extend(failures);
    } else {
        report.kept_metadata = Some(current);
    }
    tracing::info!(%report, "purged");
    Ok(report)
}

fn require_same(meant: &Table, found: &Table) -> Result<()> {
    if meant.metadata().uuid() == found.metadata().uuid() {
        return Ok(());
    }
    Err(Error::conflict(
        "another table has this name now: the one to be purged was dropped or renamed meanwhile; load the table that is meant",
    )
    .because(ConflictReason::TableReplaced)
    .with("table", found.ident()))
}

#[derive(Default)]
struct AllReached {
    all: HashMap<KeyHash, NamedFile>,
    folders: Folders,
    /// The files that were skipped. None of them is in `all`.
    unreadable: Vec<UnreadableFile>,
}

/// Everything that the table names but its current metadata file, and what is skipped.
async fn reached(table: &Table, skip_unreadable: bool) -> Result<AllReached> {
    let (storage, current) = (table.storage(), table.metadata());
    let mut files = AllReached::default();
    let AllReached { all: known, folders, .. } = &mut files;
    let (mut unreadable, mut kept) = (Vec::new(), HashSet::new());
    let mut add = |kind, location: &str, bytes| {
        let file = || NamedFile { kind, path: folders.path(location), bytes };
        known.entry(KeyHash::of(location)).or_insert_with(file);
    };
    let earlier: Vec<&str> = current.metadata_log().iter().map(|log| log.metadata_file.as_str()).collect();
    earlier.iter().for_each(|location| add(FileKind::Metadata, location, None));
    let mut seen = HashSet::new();
    for location in std::iter::once(None).chain(earlier.into_iter().map(Some)) {
        // One at a time: each has all of the table's snapshots. What an earlier one names may be gone, since expiry has
        // deleted it.
        let (metadata, missing) = match location {
            None => (table.whole().clone(), Missing::Fail),
            Some(location) => match present(load_metadata(storage, location).await, Missing::Skip)? {
                // The log is what a writer says: another table's metadata is not gone through.
                Some(metadata) if metadata.uuid() == current.uuid() => (metadata, Missing::Skip),
                Some(_) | None => continue,
            },
        };
        for (_, location, bytes) in statistics(&metadata) {
            add(FileKind::Statistics, &location, Some(bytes));
        }
        let new: Vec<_> =
            metadata.snapshots().filter(|snapshot| seen.insert(snapshot.snapshot_id())).cloned().collect();
        let mut skipped = Vec::new();
        let mut excused = |kind, location: &str, error: Error| match (missing, error.kind()) {
            (Missing::Skip, ErrorKind::NotFound) => Ok(()),
            (_, ErrorKind::NotFound | ErrorKind::DataInvalid | ErrorKind::Unsupported) if skip_unreadable => {
                skipped.push(UnreadableFile { kind, location: location.to_string(), error });
                Ok(())
            }
            (_, ErrorKind::NotFound | ErrorKind::DataInvalid | ErrorKind::Unsupported) => Err(error
                .reworded(|why| format!("{why}; or purge the rest of the table (Purge::skip_unreadable)"))),
            _ => Err(error),
        };
        let manifests = Manifests::of_readable(storage, new.iter().cloned(), |snapshot, error| {
            excused(FileKind::ManifestList, snapshot.manifest_list(), error)
        });
        let manifests = manifests.await?;
        for snapshot in new.iter().filter(|snapshot| !lists_manifests_itself(snapshot)) {
            add(FileKind::ManifestList, snapshot.manifest_list(), None);
        }
        for manifest in manifests.0.values() {
            let bytes = u64::try_from(manifest.manifest_length).ok();
            add(FileKind::Manifest, &manifest.manifest_path, bytes);
        }
        let visit = |kind, location: &str, bytes| add(kind, location, Some(bytes));
        let excused =
            |manifest: &ManifestFile, error| excused(FileKind::Manifest, &manifest.manifest_path, error);
        manifests.visit_readable(storage, |_, _| true, excused, visit).await?;
        kept.extend(leading_to(storage, &new, &skipped).await);
        unreadable.extend(skipped);
    }
    for location in unreadable.iter().map(|file: &UnreadableFile| &file.location).chain(&kept) {
        files.all.remove(&KeyHash::of(location));
    }
    files.unreadable = unreadable;
    files.all.remove(&KeyHash::of(table.metadata_location()));
    Ok(files)
}

/// The manifest lists of snapshots that name a manifest which was skipped.
async fn leading_to(storage: &Storage, snapshots: &[SnapshotRef], skipped: &[UnreadableFile]) -> Vec<String> {
    let manifests: HashSet<KeyHash> = skipped
        .iter()
        .filter(|file| file.kind == FileKind::Manifest)
        .map(|file| KeyHash::of(&file.location))
        .collect();
    let mut lists = Vec::new();
    for snapshot in snapshots.iter().filter(|_| !manifests.is_empty()) {
        // One that can't be read stays anyway.
        let list = load_manifest_list(storage, snapshot).await.unwrap_or_default();
        if list.iter().any(|manifest| manifests.contains(&KeyHash::of(&manifest.manifest_path))) {
            lists.push(snapshot.manifest_list().to_string());
        }
    }
    lists
}

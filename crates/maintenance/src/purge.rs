//! Purging: a table taken out of its catalog, and every file deleted that its metadata reaches.
//!
//! The catalog goes first: from then on nobody can begin to read or write the table, and what a failure leaves behind is
//! unreachable. Data files go before the metadata that names them, the current metadata file last, so that a purge that
//! was cut short can be done again from it.

use std::collections::HashMap;
use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use icefield_core::catalog::{Catalog, IcebergCatalog};
use icefield_core::format::load_metadata;
use icefield_core::{Result, Table};

use crate::common::{
    DELETE_CONCURRENCY, DeleteFailure, FileCount, FileCounts, OnProgress, Phase, Progress, SHOWN, Target,
    delete_files, require_gc, tell, total,
};
use crate::identity::key;
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

/// A purge: what all snapshots, the metadata log and the statistics of the table name is deleted, wherever it lies. Files
/// that nothing names stay: run [`remove_orphan_files`](crate::remove_orphan_files) first.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) where `gc.enabled` is false: other tables may share the files.
/// A snapshot whose manifests can't be read stops it before anything happens. Once the catalog has dropped the table,
/// nothing is an error any more: what could not be deleted is in the report.
#[must_use = "nothing happens until it is awaited"]
pub struct Purge {
    target: Target,
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
        Self { target: Target { table, catalog }, progress: None }
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
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct PurgeReport {
    /// Files deleted, by kind.
    pub files: FileCounts,
    /// Files that could not be deleted: nothing reaches them any more.
    pub failures: Vec<DeleteFailure>,
}

impl fmt::Display for PurgeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "purged {} files", total(&self.files).files)?;
        for failure in self.failures.iter().take(SHOWN) {
            write!(f, "; not deleted: {}: {}", failure.location, failure.error)?;
        }
        Ok(())
    }
}

#[tracing::instrument(name = "purge_table", skip_all, fields(table = %purge.target.table.ident()))]
async fn run(purge: Purge) -> Result<PurgeReport> {
    let Purge { target, progress } = purge;
    tell(&progress, Phase::Planning, 0, None);
    let table = target.reload().await?;
    require_gc(table.metadata(), "purge")?;
    let files = reached(&table).await?;
    target.catalog.drop_table(table.ident()).await?;

    let mut report = PurgeReport::default();
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
        let of_kind: HashMap<&str, u64> = files
            .values()
            .filter(|file| file.kind == kind)
            .map(|file| (file.location.as_str(), file.bytes))
            .collect();
        let mut count = FileCount::default();
        let locations = of_kind.keys().map(ToString::to_string).collect();
        let deleted = |location: &str| count.add(of_kind.get(location).copied().unwrap_or_default());
        let failures =
            delete_files(target.storage(), locations, DELETE_CONCURRENCY, &progress, deleted).await;
        report.failures.extend(failures);
        if count.files > 0 {
            report.files.insert(kind, count);
        }
    }
    let current = vec![table.metadata_location().to_string()];
    let metadata = report.files.entry(FileKind::Metadata).or_default();
    let failures = delete_files(target.storage(), current, 1, &progress, |_| metadata.add(0)).await;
    report.failures.extend(failures);
    tracing::info!(%report, "purged");
    Ok(report)
}

struct Reached {
    kind: FileKind,
    location: String,
    bytes: u64,
}

/// Everything that the table names but its current metadata file, by [`key`].
async fn reached(table: &Table) -> Result<HashMap<String, Reached>> {
    let (storage, current) = (table.storage(), table.metadata());
    let mut files = HashMap::new();
    let mut add = |kind, location: &str, bytes| {
        let file = Reached { kind, location: location.to_string(), bytes };
        files.entry(key(location)).or_insert(file);
    };
    // What earlier metadata files name may be gone, since expiry has deleted it.
    let mut all = vec![(current.clone(), Missing::Fail)];
    for log in current.metadata_log() {
        add(FileKind::Metadata, &log.metadata_file, 0);
        all.extend(
            present(load_metadata(storage, &log.metadata_file).await, Missing::Skip)?
                .map(|metadata| (metadata, Missing::Skip)),
        );
    }
    let mut seen = std::collections::HashSet::new();
    for (metadata, missing) in all {
        for (_, location, bytes) in statistics(&metadata) {
            add(FileKind::Statistics, &location, bytes);
        }
        let new: Vec<_> =
            metadata.snapshots().filter(|snapshot| seen.insert(snapshot.snapshot_id())).cloned().collect();
        let manifests = Manifests::of(storage, new.iter().cloned(), missing).await?;
        for snapshot in &new {
            add(FileKind::ManifestList, snapshot.manifest_list(), 0);
        }
        for manifest in manifests.0.values() {
            add(FileKind::Manifest, &manifest.manifest_path, manifest.manifest_length.max(0) as u64);
        }
        manifests.visit_live(storage, missing, |_, _| true, &mut add).await?;
    }
    files.remove(&key(table.metadata_location()));
    Ok(files)
}

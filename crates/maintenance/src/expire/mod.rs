//! Snapshot expiry: old snapshots leave the table's metadata, and the files that only they held are deleted.
//!
//! **What may go.** A file that a removed snapshot reaches and that no snapshot left in the table reaches. The set is
//! worked out from the metadata that the commit replaced and the one that it produced, whole: every manifest of every
//! snapshot that stays is read, with no shortcut by sequence number or by who deleted a file, since such shortcuts are
//! how live files have been lost.
//!
//! **Why that is safe.** Files are deleted after the commit is known to be done; when its outcome is unknown nothing is
//! deleted. A commit that comes in between is seen: its snapshots are among those that stay. One that comes after builds
//! on the head of a branch, which stays, and thus needs no file that goes. What can't be deleted, or is left behind when
//! the process dies, is unreachable, and orphan removal finds it.

mod cleanup;
mod report;
mod retention;

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use iceberg::spec::TableMetadata;
use icefield_core::catalog::Catalog;
use icefield_core::commit::{Expiry, Transaction};
use icefield_core::config::Properties;
use icefield_core::{Error, Result, Table};

use crate::common::{
    Age, DELETE_CONCURRENCY, OnProgress, Phase, Progress, Target, delete_files, elapsed, require_gc, tell,
};
use crate::orphans::Unloadable;
use crate::ownership::{Elsewhere, Ownership};
use cleanup::{Unreached, Used};
use retention::{Rules, Selection};

pub use report::ExpireReport;

/// Removes old snapshots of a table and deletes the files that only they held. See [`ExpireSnapshots`].
pub fn expire_snapshots(table: &icefield_engine::Table) -> ExpireSnapshots {
    ExpireSnapshots::new(table.core().clone(), table.session().catalog().clone())
}

/// An expiry of snapshots: a builder that runs when it is awaited.
///
/// The rules are those of the Iceberg specification ("Snapshot Retention Policy") and of Iceberg Java:
///
/// - of each branch the newest [`retain_last`](Self::retain_last) snapshots stay, and all that are younger than
///   [`older_than`](Self::older_than), counted back from its head to the first that is neither;
/// - a branch's or tag's own settings win over those of the call and of the table;
/// - branches and tags whose snapshot is older than their max-ref-age go first; `main` never goes;
/// - snapshots on no branch or tag stay until they are older than the cutoff;
/// - a table with `gc.enabled=false` is refused.
///
/// Defaults come from the table's properties `history.expire.max-snapshot-age-ms` (5 days),
/// `history.expire.min-snapshots-to-keep` (1) and `history.expire.max-ref-age-ms` (for ever).
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for a snapshot that is the head of a branch or tag that stays,
/// and for `gc.enabled=false`; [`NotFound`](icefield_core::ErrorKind::NotFound) for a snapshot id that the table doesn't
/// have; [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) where another table of the catalog has the same folder;
/// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) when metadata of a snapshot that stays can't be read;
/// those of a commit. All of them leave every file in place. Once the commit is done nothing is an error any more: what
/// could not be deleted is in the report.
///
/// # Cancel safety
/// A dropped future leaves the snapshots expired or not, and some or all of the files that only they held, unreachable.
///
/// # Cost
/// One request for each snapshot's manifest list, one for each manifest, one for each file deleted. In memory: the
/// locations of the files to be deleted and eight manifests at a time.
#[must_use = "nothing happens until it is awaited"]
pub struct ExpireSnapshots {
    target: Target,
    older_than: Option<Age>,
    retain_last: Option<usize>,
    snapshot_ids: BTreeSet<i64>,
    clean_expired_metadata: bool,
    elsewhere: Elsewhere,
    dry_run: bool,
    delete_concurrency: usize,
    progress: Option<OnProgress>,
}

impl ExpireSnapshots {
    /// An expiry for a table without a session.
    pub fn new(table: Table, catalog: Arc<dyn Catalog>) -> Self {
        Self {
            target: Target { table, catalog },
            older_than: None,
            retain_last: None,
            snapshot_ids: BTreeSet::new(),
            clean_expired_metadata: false,
            elsewhere: Elsewhere::default(),
            dry_run: false,
            delete_concurrency: DELETE_CONCURRENCY,
            progress: None,
        }
    }

    /// Removes snapshots older than this.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(Age::Ago(age));
        self
    }

    /// Removes snapshots made before this time, in milliseconds since the epoch.
    pub fn older_than_ms(mut self, timestamp_ms: i64) -> Self {
        self.older_than = Some(Age::At(timestamp_ms));
        self
    }

    /// Keeps at least this many of each branch's newest snapshots, whatever their age. At least 1.
    pub fn retain_last(mut self, snapshots: usize) -> Self {
        self.retain_last = Some(snapshots);
        self
    }

    /// Removes these snapshots, whatever their age. The rules of age still remove others.
    pub fn snapshot_ids(mut self, ids: impl IntoIterator<Item = i64>) -> Self {
        self.snapshot_ids.extend(ids);
        self
    }

    /// Removes partition specs and schemas that neither the table nor a snapshot that stays uses. Default: off.
    pub fn clean_expired_metadata(mut self, clean: bool) -> Self {
        self.clean_expired_metadata = clean;
        self
    }

    /// Deletes expired files wherever they lie: below the table's location, and elsewhere too, but for other tables' folders.
    /// Whoever may write the table's metadata says which those are. Default: off; what lies elsewhere stays, and the report
    /// [counts it](ExpireReport::outside).
    pub fn allow_outside_table(mut self, allow: bool) -> Self {
        self.elsewhere.allow_outside_table = allow;
        self
    }

    /// Whether the catalog's other tables are loaded, so that their folders are spared. Default: on.
    pub fn check_other_tables(mut self, check: bool) -> Self {
        self.elsewhere.check_other_tables = check;
        self
    }

    /// Reports what would go, and commits and deletes nothing. Default: off.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// How many files are deleted at once. Default: 16.
    pub fn delete_concurrency(mut self, files: usize) -> Self {
        self.delete_concurrency = files;
        self
    }

    /// Calls `callback` as the work proceeds.
    pub fn on_progress(mut self, callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }

    /// How many snapshots of `table`, as it is known, would go. Makes no request.
    pub(crate) fn may_go(&self, table: &Table) -> Result<usize> {
        Ok(retention::select(table.metadata(), &self.rules(table.metadata())?)?.snapshots.len())
    }

    fn rules(&self, metadata: &TableMetadata) -> Result<Rules> {
        let properties = Properties::new(metadata.properties());
        let now_ms = self.target.now_ms();
        let retain_last = match self.retain_last {
            Some(n) => n,
            // A branch keeps its head whatever the table says.
            None => properties.get_or("history.expire.min-snapshots-to-keep", 1)?.max(1),
        };
        if retain_last == 0 {
            return Err(Error::invalid_input(
                "at least one snapshot of each branch stays: retain_last is 1 or more",
            ));
        }
        let cutoff_ms = match self.older_than {
            Some(age) => age.cutoff_ms(now_ms),
            None => Age::Ago(properties.millis_or("history.expire.max-snapshot-age-ms", 432_000_000)?)
                .cutoff_ms(now_ms),
        };
        let max_ref_age_ms = properties.get_or("history.expire.max-ref-age-ms", i64::MAX)?;
        Ok(Rules { now_ms, cutoff_ms, retain_last, max_ref_age_ms, snapshot_ids: self.snapshot_ids.clone() })
    }

    #[tracing::instrument(name = "expire_snapshots", skip_all, fields(table = %self.target.table.ident()))]
    async fn run(self) -> Result<ExpireReport> {
        let clock = self.target.catalog.clock().clone();
        let storage = self.target.storage().clone();
        let mut report = ExpireReport::new(self.dry_run);
        let started = clock.now_ms();
        tell(&self.progress, Phase::Planning, 0, None);

        let before = self.target.reload().await?;
        require_gc(before.metadata(), "expire_snapshots").map_err(|e| e.with("table", before.ident()))?;
        if let Some(unknown) =
            self.snapshot_ids.iter().find(|id| before.metadata().snapshot_by_id(**id).is_none())
        {
            return Err(Error::not_found("no such snapshot; see the table's history")
                .with("table", before.ident())
                .with("snapshot", unknown));
        }
        let rules = self.rules(before.metadata())?;
        let selection = retention::select(before.metadata(), &rules)?;
        let mut unreached = Unreached::of(&storage, before.metadata(), &selection.snapshots).await?;
        let whose = Ownership::of(&self.target.catalog, &before, self.elsewhere, Unloadable::Skip).await?;
        let used = self.clean_expired_metadata.then(|| unreached.used());
        let expiry = decide(before.metadata(), &rules, used.as_ref())?;
        report.planning = elapsed(&*clock, started);
        if is_empty(&expiry) || self.dry_run {
            report.took(expiry);
            report.outside = unreached.keep_elsewhere(&whose);
            unreached.for_each(|kind, bytes| report.files.entry(kind).or_default().add_if_known(bytes));
            return Ok(report);
        }

        tell(&self.progress, Phase::Committing, 0, None);
        let started = clock.now_ms();
        let last: Arc<Mutex<Option<Attempt>>> = Arc::default();
        let plan = {
            let last = last.clone();
            move |metadata: &TableMetadata| {
                require_gc(metadata, "expire_snapshots")?;
                let expiry = decide(metadata, &rules, used.as_ref())?;
                let attempt = Attempt { metadata: metadata.clone(), expiry: expiry.clone() };
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(attempt);
                Ok(expiry)
            }
        };
        let transaction = Transaction::new(&before).expire_snapshots(plan).change(cleanup::drop_statistics);
        let committed = transaction.commit(&*self.target.catalog).await?;
        report.attempts = committed.attempts;
        report.committing = elapsed(&*clock, started);
        let attempt = last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(attempt) = attempt else {
            return Err(Error::internal("a commit of an expiry never asked what expires"));
        };
        report.took(attempt.expiry);

        // From here on the snapshots are gone: what goes wrong is reported, and leaves files behind.
        let started = clock.now_ms();
        match self.settle(&mut unreached, &attempt.metadata, &committed.table, &report.refs).await {
            Ok(()) => {
                report.outside = unreached.keep_elsewhere(&whose);
                let locations = unreached.in_order();
                report.failures =
                    delete_files(&storage, locations, self.delete_concurrency, &self.progress, |location| {
                        if let Some((kind, bytes)) = unreached.get(location) {
                            report.files.entry(kind).or_default().add_if_known(bytes);
                        }
                    })
                    .await;
            }
            Err(error) => {
                tracing::warn!(%error, "snapshots are expired, and their files were left in place");
                report.cleanup_error = Some(error);
            }
        }
        report.deleting = elapsed(&*clock, started);
        tracing::info!(%report, "expired snapshots");
        Ok(report)
    }

    /// Corrects what was planned by what the commit replaced and produced, and by what has been committed since.
    async fn settle(
        &self,
        unreached: &mut Unreached,
        replaced: &TableMetadata,
        produced: &Table,
        dropped: &[String],
    ) -> Result<()> {
        let storage = self.target.storage();
        cleanup::check_references(produced, dropped).await?;
        let gone: Vec<i64> = replaced
            .snapshots()
            .map(|s| s.snapshot_id())
            .filter(|id| produced.metadata().snapshot_by_id(*id).is_none())
            .collect();
        if !unreached.is_for(&gone) {
            *unreached = Unreached::of(storage, replaced, &gone).await?;
        }
        unreached.keep_reached(storage, produced.metadata()).await?;
        let now = self.target.reload().await?;
        unreached.keep_reached(storage, now.metadata()).await?;
        unreached.keep_metadata_files(produced);
        unreached.keep_metadata_files(&now);
        Ok(())
    }
}

impl IntoFuture for ExpireSnapshots {
    type Output = Result<ExpireReport>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What one try of the commit found and decided.
struct Attempt {
    metadata: TableMetadata,
    expiry: Expiry,
}

fn decide(metadata: &TableMetadata, rules: &Rules, used: Option<&Used>) -> Result<Expiry> {
    let Selection { snapshots, refs } = retention::select(metadata, rules)?;
    let (specs, schemas) = match used {
        Some(used) => {
            (used.unused_specs(metadata, &snapshots), cleanup::unused_schemas(metadata, &snapshots))
        }
        None => Default::default(),
    };
    Ok(Expiry { snapshots, refs, specs, schemas })
}

fn is_empty(expiry: &Expiry) -> bool {
    *expiry == Expiry::default()
}

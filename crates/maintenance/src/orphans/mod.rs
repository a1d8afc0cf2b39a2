//! Orphan removal: files in a table's folders that nothing names are deleted.
//!
//! **What may go.** A listed file that is older than the limit by the store's own clock and that no metadata file reaches:
//! neither the table's current one nor any earlier one that it still names in its log. What such a metadata file reaches
//! is itself, the log that it names, its statistics, and for each of its snapshots the manifest list, the manifests and
//! the files that are live in them.
//!
//! **Why that is safe.** The folders are listed first and the table is loaded after, so that a file which a commit has
//! published meanwhile is found reachable; one that a running write has yet to commit is younger than the limit (three
//! days unless said otherwise, never under 24 hours unless forced). Locations are compared by what they name and not as
//! text. A file that would be the table's but for the scheme or the authority stops everything. Whatever can't be read
//! stops everything too.

mod listing;
mod report;
mod roots;

use std::collections::HashSet;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::TryStreamExt;
use iceberg::spec::{SnapshotRef, TableMetadata};
use icefield_core::catalog::Catalog;
use icefield_core::format::{lists_manifests_itself, load_metadata};
use icefield_core::{ConflictReason, Error, Result, Table};

use crate::common::{
    Age, DELETE_CONCURRENCY, OnProgress, Phase, Progress, SHOWN, Target, days, delete_files, elapsed, hours,
    require_gc, tell,
};
use crate::identity::{Equal, key};
use crate::reach::{Manifests, Missing, present, statistics};
use listing::{By, Listing};

pub(crate) use roots::{Neighbours, Unloadable};

pub use report::{KeptFile, KeptReason, OrphanFile, OrphanReport};

/// Deletes files in a table's folders that nothing names. See [`RemoveOrphanFiles`].
pub fn remove_orphan_files(table: &icefield_engine::Table) -> RemoveOrphanFiles {
    RemoveOrphanFiles::new(table.core().clone(), table.session().catalog().clone())
}

/// What to do about files whose location is that of a file of the table but for its scheme or authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrefixMismatch {
    /// Fail, and delete nothing: see whether they are the table's, and declare the schemes or authorities equal.
    #[default]
    Error,
    /// Keep them.
    Ignore,
    /// Delete them: they are known not to be the table's.
    Delete,
}

/// A removal of orphan files: a builder that runs when it is awaited.
///
/// Files stay back that are too young, hidden (`_` or `.`), `version-hint.text`, in the folder of another table of the
/// catalog, or reached by an earlier metadata file only; the report has each with its reason.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for an age under 24 hours that is not forced, a location that
/// is not the table's, a folder that another table has too, `gc.enabled=false`, and files of an unexpected scheme or
/// authority; [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) or
/// [`NotFound`](icefield_core::ErrorKind::NotFound) when the table's metadata can't be read whole;
/// [`Conflict`](icefield_core::ErrorKind::Conflict) when the table was replaced while it was looked at. After any of them
/// every file is in place.
///
/// # Cancel safety
/// A dropped future leaves some of the orphans deleted.
///
/// # Cost
/// The folders are listed; every earlier metadata file that the table names, every manifest list and every manifest is
/// read once; each table of the catalog is loaded, to know its folders. In memory: about 150 bytes for each listed file, and 250 more for
/// each that the report names.
#[must_use = "nothing happens until it is awaited"]
pub struct RemoveOrphanFiles {
    target: Target,
    older_than: Age,
    force: bool,
    location: Option<String>,
    allow_outside_table: bool,
    check_other_tables: bool,
    equal: Equal,
    prefix_mismatch: PrefixMismatch,
    dry_run: bool,
    delete_concurrency: usize,
    progress: Option<OnProgress>,
}

impl RemoveOrphanFiles {
    /// An orphan removal for a table without a session.
    pub fn new(table: Table, catalog: Arc<dyn Catalog>) -> Self {
        Self {
            target: Target { table, catalog },
            older_than: Age::Ago(days(3)),
            force: false,
            location: None,
            allow_outside_table: false,
            check_other_tables: true,
            equal: Equal::default(),
            prefix_mismatch: PrefixMismatch::default(),
            dry_run: false,
            delete_concurrency: DELETE_CONCURRENCY,
            progress: None,
        }
    }

    /// Deletes only files that were last modified longer ago than this. It must be longer than any write takes from its
    /// first file to its commit. Default: 3 days.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Age::Ago(age);
        self
    }

    /// Deletes only files that were last modified before this time, in milliseconds since the epoch.
    pub fn older_than_ms(mut self, timestamp_ms: i64) -> Self {
        self.older_than = Age::At(timestamp_ms);
        self
    }

    /// Accepts an age under 24 hours. Only for tables that nobody writes to meanwhile. Default: off.
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Looks only in this folder. Default: the table's location.
    pub fn location(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }

    /// Accepts a [`location`](Self::location) outside of the table's own folder, and without one looks in the folders too that
    /// `write.data.path` and `write.metadata.path` name: **every** file there that is not the table's is deleted. Whoever may
    /// change the table's properties chooses those folders. Default: off.
    pub fn allow_outside_table(mut self, allow: bool) -> Self {
        self.allow_outside_table = allow;
        self
    }

    /// Whether the catalog's other tables are loaded, so that their folders are spared. Default: on.
    pub fn check_other_tables(mut self, check: bool) -> Self {
        self.check_other_tables = check;
        self
    }

    /// Counts each of `aliases`, separated by commas, as `scheme`. `s3a` and `s3n` count as `s3` already.
    pub fn equal_schemes(mut self, aliases: &str, scheme: &str) -> Self {
        self.equal.schemes(aliases, scheme);
        self
    }

    /// Counts each of `aliases`, separated by commas, as `authority`: several names of one bucket or cluster.
    pub fn equal_authorities(mut self, aliases: &str, authority: &str) -> Self {
        self.equal.authorities(aliases, authority);
        self
    }

    /// What to do about files whose location is that of a file of the table but for its scheme or authority.
    /// Default: [`PrefixMismatch::Error`].
    pub fn prefix_mismatch(mut self, mode: PrefixMismatch) -> Self {
        self.prefix_mismatch = mode;
        self
    }

    /// Reports what would go, and deletes nothing. Default: off.
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

    #[tracing::instrument(name = "remove_orphan_files", skip_all, fields(table = %self.target.table.ident()))]
    async fn run(self) -> Result<OrphanReport> {
        let clock = self.target.catalog.clock().clone();
        let now_ms = clock.now_ms();
        let cutoff_ms = self.older_than.cutoff_ms(now_ms);
        if cutoff_ms > Age::Ago(hours(24)).cutoff_ms(now_ms) && !self.force {
            return Err(Error::invalid_input(
                "files under 24 hours old may belong to a write that has yet to commit, whose table would be broken; name a longer age, or say force(true) if nobody writes",
            )
            .with("table", self.target.table.ident()));
        }
        let first = self.target.reload().await?;
        require_gc(first.metadata(), "remove_orphan_files").map_err(|e| e.with("table", first.ident()))?;
        let mut report = OrphanReport { dry_run: self.dry_run, ..OrphanReport::default() };

        let mut listing = self.list(&first, cutoff_ms, &mut report).await?;
        report.listing = elapsed(&*clock, now_ms);

        let started = clock.now_ms();
        tell(&self.progress, Phase::Planning, 0, None);
        let table = self.target.reload().await?;
        if table.metadata().uuid() != first.metadata().uuid() {
            return Err(Error::conflict("the table was dropped and created again meanwhile; run it again")
                .because(ConflictReason::TableReplaced)
                .with("table", table.ident()));
        }
        require_gc(table.metadata(), "remove_orphan_files").map_err(|e| e.with("table", table.ident()))?;
        report.missing_metadata = self.reach(&mut listing, &table, &first).await?;
        self.check_prefixes(&listing)?;
        report.listed = listing.listed;
        let mut sorted = listing.sort(self.prefix_mismatch != PrefixMismatch::Delete);
        sorted.keep_behind_links(self.target.storage(), &report.locations);
        (report.orphans, report.kept, report.reachable) = (sorted.orphans, sorted.kept, sorted.reachable);
        report.planning = elapsed(&*clock, started);

        let started = clock.now_ms();
        if !self.dry_run {
            let sizes: std::collections::HashMap<&str, u64> =
                report.orphans.iter().map(|file| (file.location.as_str(), file.bytes)).collect();
            let locations = report.orphans.iter().map(|file| file.location.clone());
            let storage = self.target.storage();
            let deleted = &mut report.deleted;
            report.failures =
                delete_files(storage, locations, self.delete_concurrency, &self.progress, |location| {
                    deleted.add(sizes.get(location).copied().unwrap_or(0));
                })
                .await;
        }
        report.deleting = elapsed(&*clock, started);
        tracing::info!(%report, "removed orphan files");
        Ok(report)
    }

    async fn list(&self, table: &Table, cutoff_ms: i64, report: &mut OrphanReport) -> Result<Listing> {
        let metadata = table.metadata();
        let roots = match &self.location {
            Some(location) => {
                vec![roots::chosen_root(metadata, &self.equal, location, self.allow_outside_table)?]
            }
            None => roots::default_roots(metadata, &self.equal, self.allow_outside_table)?,
        };
        let neighbours = match self.check_other_tables {
            true => Neighbours::of(&self.target.catalog, table, &roots, Unloadable::Fail).await?,
            false => Neighbours::default(),
        };
        for root in &roots {
            neighbours.check(root)?;
        }
        let mut listing = Listing::new(metadata, self.equal.clone(), cutoff_ms);
        for root in &roots {
            let mut files = self.target.storage().list(root);
            while let Some(file) = files.try_next().await? {
                listing.add(root, file, &neighbours);
                if listing.listed.files.is_multiple_of(1000) {
                    tell(&self.progress, Phase::Listing, listing.listed.files, None);
                }
            }
        }
        tell(&self.progress, Phase::Listing, listing.listed.files, Some(listing.listed.files));
        report.locations = roots;
        Ok(listing)
    }

    /// Marks what the table reaches; gives the earlier metadata files that do not exist.
    async fn reach(&self, listing: &mut Listing, table: &Table, first: &Table) -> Result<Vec<String>> {
        let storage = self.target.storage();
        let mut walk = Walk { snapshots: HashSet::new(), manifests: HashSet::new() };
        listing.reach(table.metadata_location(), By::Current);
        walk.metadata(listing, table, table.metadata(), By::Current).await?;

        let mut missing = Vec::new();
        let mut earlier: Vec<String> =
            table.metadata().metadata_log().iter().map(|m| m.metadata_file.clone()).collect();
        for location in &earlier {
            // The files themselves are the table's: readers and catalogs may go back to them.
            listing.reach(location, By::Current);
        }
        earlier.push(first.metadata_location().to_string());
        let mut seen = HashSet::from([key(table.metadata_location())]);
        for location in earlier.into_iter().filter(|location| seen.insert(key(location))) {
            listing.reach(&location, By::Current);
            // One that does not exist can't be gone back to by anyone, so that nothing is reached through it.
            match present(load_metadata(storage, &location).await, Missing::Skip)? {
                Some(metadata) => walk.metadata(listing, table, &metadata, By::Previous).await?,
                None => missing.push(location),
            }
        }
        Ok(missing)
    }

    fn check_prefixes(&self, listing: &Listing) -> Result<()> {
        let mismatches = listing.mismatches();
        if self.prefix_mismatch != PrefixMismatch::Error || mismatches.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = mismatches
            .iter()
            .take(SHOWN)
            .map(|(listed, named)| format!("{listed} (named {named})"))
            .collect();
        Err(Error::invalid_input(
            "files are listed under another scheme or authority than the table names them by; if they are the same files declare them equal (equal_schemes, equal_authorities), else choose to ignore or delete them (prefix_mismatch)",
        )
        .with("table", self.target.table.ident())
        .with("count", mismatches.len())
        .with("files", shown.join(", ")))
    }
}

impl IntoFuture for RemoveOrphanFiles {
    type Output = Result<OrphanReport>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// The snapshots and manifests that have been gone through, each once.
struct Walk {
    snapshots: HashSet<i64>,
    manifests: HashSet<String>,
}

impl Walk {
    async fn metadata(
        &mut self,
        listing: &mut Listing,
        table: &Table,
        metadata: &TableMetadata,
        by: By,
    ) -> Result<()> {
        let storage = table.storage();
        for (_, location, _) in statistics(metadata) {
            listing.reach(&location, by);
        }
        let new: Vec<SnapshotRef> =
            metadata.snapshots().filter(|s| self.snapshots.insert(s.snapshot_id())).cloned().collect();
        for snapshot in new.iter().filter(|snapshot| !lists_manifests_itself(snapshot)) {
            listing.reach(snapshot.manifest_list(), by);
        }
        // Expiry has deleted files that only an earlier metadata file reaches; those of the current one must exist.
        let missing = if by == By::Current { Missing::Fail } else { Missing::Skip };
        let manifests = Manifests::of(storage, new, missing).await?;
        for manifest in manifests.0.values() {
            listing.reach(&manifest.manifest_path, by);
        }
        let known = &self.manifests;
        manifests
            .visit_live(
                storage,
                missing,
                |key, _| !known.contains(key),
                |_, location, _| listing.reach(location, by),
            )
            .await?;
        self.manifests.extend(manifests.0.into_keys());
        Ok(())
    }
}

//! The commit loop: apply, publish, and settle what became of it.

use std::collections::{HashMap, HashSet};

use iceberg::TableUpdate;
use iceberg::spec::TableMetadata;
use tracing::Instrument;

use super::actions::{Action, Rewrite};
use super::create::create;
use super::kept::Kept;
use super::manifests::{ManifestStore, Written};
use super::newer::conflicts_of;
use super::retry::{Queue, RetryPolicy, queue};
use super::stage::{Staged, discard, stage};
use super::{COMMIT_ID, Committed, IDEMPOTENCY_KEY, Transaction, history};
use crate::catalog::{Catalog, CommitOutcome, CommitRequest, Expect, apply_updates, lies_in};
use crate::config::Properties;
use crate::error::{ConflictReason, Error, ErrorKind, Result};
use crate::storage::same_location;
use crate::table::{Table, references};

impl Transaction {
    /// Commits all actions. On a [new table](Table::is_new) this creates the table, with or without actions.
    ///
    /// # Errors
    /// - [`AlreadyExists`](crate::ErrorKind::AlreadyExists): the name of a new table was taken meanwhile; that table is left
    ///   alone.
    /// - [`Conflict`](crate::ErrorKind::Conflict): another commit makes an action's result wrong; the message names
    ///   file, snapshot and operation. Read the table again and run the operation again.
    /// - [`CommitStateUnknown`](crate::ErrorKind::CommitStateUnknown): the answer was lost and the table's history does
    ///   not tell. Nothing was deleted; committing again with the same idempotency key is safe. For a new table: look
    ///   whether the catalog has it.
    /// - Others: nothing was committed, and the manifests that were written were deleted.
    ///
    /// # Cancel safety
    /// A dropped future leaves the commit done or not done, and at most metadata files that nothing names.
    ///
    /// # Cost
    /// Without contention: the branch's manifest list is read, the manifests that merging touches and those whose partition
    /// summaries let them list what is removed are read, those that change are written, one manifest list is written, and the
    /// catalog swaps the pointer. What removes files loads the table first. A try that lost a race leaves the next one only
    /// what came since to be read.
    pub async fn commit(self, catalog: &dyn Catalog) -> Result<Committed> {
        self.base.require_catalog()?;
        let span = tracing::info_span!("commit", table = %self.base.ident());
        let committed = commit(self, catalog).instrument(span.clone()).await;
        match &committed {
            Ok(Committed { snapshot_id, already_applied, attempts, .. }) => {
                tracing::info!(parent: &span, snapshot_id, already_applied, attempts, "committed");
            }
            Err(error) => tracing::info!(parent: &span, %error, "not committed"),
        }
        committed
    }

    /// For each of several rewrites of this transaction's table and branch, what was committed since that it conflicts with.
    /// Commits nothing.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) when the table's history does not lead back to what they were computed from.
    pub async fn conflicts_of(
        &self,
        rewrites: &[Rewrite],
        catalog: &dyn Catalog,
    ) -> Result<Vec<Option<Error>>> {
        let current = catalog.load_table(self.base.ident()).await?;
        conflicts_of(self.base.metadata(), &current, &self.branch, self.isolation, rewrites).await
    }
}

async fn commit(mut transaction: Transaction, catalog: &dyn Catalog) -> Result<Committed> {
    let clock = catalog.clock().clone();
    let policy = match RetryPolicy::new(transaction.base.metadata().properties(), &*clock) {
        // The property that can't be read may be what is being mended.
        Err(error) if transaction.actions.iter().all(Action::is_change) => {
            tracing::warn!(table = %transaction.base.ident(), %error, "a change of metadata is committed with the default retries");
            RetryPolicy::new(&HashMap::new(), &*clock)?
        }
        policy => policy?,
    };
    let commit_id = clock.uuid().to_string();
    transaction.summary.push((COMMIT_ID.to_string(), commit_id.clone()));
    if let Some(key) = &transaction.idempotency_key {
        transaction.summary.push((IDEMPOTENCY_KEY.to_string(), key.clone()));
    }

    if transaction.base.is_new() {
        return create(&transaction, catalog, &policy, &commit_id).await;
    }
    let (latest, written) = (transaction.base.clone(), Written::new(&commit_id));
    let (attempts, kept, doubt, open) = (0, Vec::new(), false, Vec::new());
    Run { transaction, catalog, policy, commit_id, latest, written, attempts, kept, doubt, open }.run().await
}

/// A commit under way.
struct Run<'a> {
    transaction: Transaction,
    catalog: &'a dyn Catalog,
    policy: RetryPolicy,
    commit_id: String,
    /// The table as it was loaded last: its storage is the one whose credentials have not expired.
    latest: Table,
    /// Every file that was written. They stay until it is known what became of the commit: the next try may need them,
    /// and the last one's answer may be that of a request that had arrived before.
    written: Written,
    attempts: u32,
    kept: Vec<Kept>,
    /// Set once an outcome was unknown: from then on nothing that was written may be deleted.
    doubt: bool,
    /// Requests that the catalog says lost a race, until the table shows that they did.
    open: Vec<Raced>,
}

struct Raced {
    request: CommitRequest,
    base: Table,
    /// The files that it would have made live.
    named: HashSet<String>,
}

impl Raced {
    /// Tells whether a table shows what the request would have changed, of metadata alone.
    fn is_shown(&self, table: &Table) -> bool {
        let moved = table.metadata_location() != self.base.metadata_location();
        !adds_snapshot(&self.request) && moved && shows(table.metadata(), &self.base, &self.request)
    }
}

enum Tried {
    /// The table, the snapshot, and whether an earlier commit had done it.
    Done(Table, Option<i64>, bool),
    Raced(Error),
    Failed(Error),
    Unknown(Error, CommitRequest, Table),
}

impl Run<'_> {
    async fn run(mut self) -> Result<Committed> {
        let clock = self.catalog.clock().clone();
        let queue = queue(self.transaction.base.metadata().uuid());
        let is_long = self.transaction.is_long();
        // Whoever had to wait for another commit of this process begins with a fresh look at the table, and so does what takes
        // files out: much may have happened since the base.
        let mut first_turn = queue.try_turn().filter(|_| !is_long);
        let mut current = Some(self.transaction.base.clone()).filter(|_| first_turn.is_some());
        loop {
            self.attempts += 1;
            let tried = match is_long {
                true => self.try_beside_others(&queue).await,
                false => {
                    let _turn = match first_turn.take() {
                        Some(turn) => turn,
                        None => queue.turn().await,
                    };
                    self.try_once(&queue, current.take()).await
                }
            };
            let (error, raced) = match tried {
                Tried::Done(table, snapshot_id, already_applied) => {
                    return Ok(self.done(table, snapshot_id, already_applied));
                }
                Tried::Raced(error) => (error, true),
                Tried::Failed(error) => (error, false),
                Tried::Unknown(error, request, base) => {
                    self.doubt = true;
                    match settle(self.catalog, &self.policy, &self.commit_id, &request, &base).await {
                        Settled::Done(table, id) => return Ok(self.done(table, id, false)),
                        Settled::NotDone => (error, true),
                        Settled::Unknown => return Err(self.unknown(error)),
                    }
                }
            };
            let retryable = raced || error.is_retryable();
            if !retryable || !self.policy.may_retry(self.attempts, raced, &*clock) {
                let attempts = self.attempts;
                return self.give_up(if retryable { error.with("attempts", attempts) } else { error }).await;
            }
            let (table, attempts) = (self.transaction.base.ident(), self.attempts);
            tracing::debug!(%table, attempts, %error, "commit is tried again");
            clock.sleep(self.policy.wait(self.attempts, &*clock)).await;
        }
    }

    /// A try that may have much to read: it does so while others of this process commit, and takes its turn when nothing of
    /// this process has come in between, or soon after.
    async fn try_beside_others(&mut self, queue: &Queue) -> Tried {
        for _ in 0..2 {
            let seen = queue.commits();
            let (table, staged) = match self.prepare(None).await {
                Ok(prepared) => prepared,
                Err(tried) => return *tried,
            };
            let _turn = queue.turn().await;
            if queue.commits() == seen {
                return self.publish(queue, table, staged).await;
            }
        }
        let _turn = queue.turn().await;
        self.try_once(queue, None).await
    }

    async fn try_once(&mut self, queue: &Queue, current: Option<Table>) -> Tried {
        match self.prepare(current).await {
            Ok((table, staged)) => self.publish(queue, table, staged).await,
            Err(tried) => *tried,
        }
    }

    /// Applies the actions to the table as it is, or to `current`.
    async fn prepare(&mut self, current: Option<Table>) -> std::result::Result<(Table, Staged), Box<Tried>> {
        let is_base = current.is_some();
        let failed = |error| Box::new(Tried::Failed(error));
        let current = match current {
            Some(table) => table,
            None => self.load().await.map_err(failed)?,
        };
        let metadata = current.metadata();
        if metadata.uuid() != self.transaction.base.metadata().uuid() {
            self.doubt |= !self.open.is_empty();
            let error =
                Error::conflict("the table was dropped and created anew under the same name; load it again")
                    .because(ConflictReason::TableReplaced)
                    .with("table", current.ident());
            return Err(failed(error));
        }
        // An earlier try of this commit may have come through after all: its answer was lost, or was that of a request that
        // something on the way had repeated.
        if self.attempts > 1
            && let Some(done) = history::of_commit(metadata, &self.commit_id)
        {
            let id = done.snapshot_id();
            self.came_through(done.manifest_list()).await;
            return Err(Box::new(Tried::Done(current, Some(id), false)));
        }
        if self.open.iter().any(|raced| self.transaction.may_be_anothers() && raced.is_shown(&current)) {
            return Err(Box::new(Tried::Done(current, None, false)));
        }
        self.close(&current);
        if let Some(key) = &self.transaction.idempotency_key
            && let Some(applied) =
                self.transaction.branches().find_map(|branch| history::is_applied(metadata, branch, key))
        {
            let id = applied.map(|s| s.snapshot_id());
            self.discard_but(&HashSet::new()).await;
            return Err(Box::new(Tried::Done(current, id, true)));
        }
        let mut store = ManifestStore::new(&current, &mut self.written, self.transaction.exact);
        match stage(&self.transaction, &current, self.catalog, &mut self.kept, &mut store).await {
            Ok(staged) => Ok((current, staged)),
            // A long write may have begun with what has been expired since: the table as it is now has what it needs.
            Err(e) if is_base && e.kind() == ErrorKind::NotFound => Err(Box::new(Tried::Raced(e))),
            Err(e) => Err(failed(e)),
        }
    }

    async fn publish(&mut self, queue: &Queue, current: Table, staged: Staged) -> Tried {
        if staged.updates.is_empty() {
            self.discard_but(&HashSet::new()).await;
            return Tried::Done(current, None, false); // nothing to change
        }
        let expect = match (staged.of_whole_table, Expect::whole(&current, self.catalog.guarantees())) {
            (false, _) => Expect::Requirements(staged.requirements),
            (true, Expect::Requirements(mut whole)) => {
                whole.retain(|requirement| !staged.requirements.contains(requirement));
                Expect::Requirements([staged.requirements, whole].concat())
            }
            (true, whole) => whole,
        };
        let request = CommitRequest { ident: current.ident().clone(), expect, updates: staged.updates };
        let outcome = self.catalog.commit(vec![request.clone()]).await;
        queue.committed();
        match outcome {
            CommitOutcome::Done(mut tables) => match tables.pop() {
                Some(table) => {
                    self.latest = table.clone();
                    self.open.clear(); // they asked for the branches to be where they are no more
                    self.discard_but(&staged.named).await;
                    self.forget(&current, &table).await;
                    Tried::Done(table, staged.snapshot_id, false)
                }
                None => Tried::Unknown(Error::internal("the catalog gave no table back"), request, current),
            },
            CommitOutcome::Conflict(e) => {
                self.open.push(Raced { request, base: current, named: staged.named });
                Tried::Raced(e)
            }
            CommitOutcome::Failed(e) => Tried::Failed(e),
            CommitOutcome::Unknown(e) => Tried::Unknown(e, request, current),
        }
    }

    /// Deletes the metadata files that a commit has dropped from the log, where no other table has its own in their folder.
    async fn forget(&self, before: &Table, after: &Table) {
        if !self.catalog.guarantees().leaves_metadata_files {
            return;
        }
        let Some((folder, _)) = before.metadata_location().rsplit_once('/') else { return };
        let files = forgotten_metadata(before, after, folder);
        if files.is_empty() {
            return;
        }
        match self.catalog.is_shared(folder, after.ident()).await {
            Ok(false) => discard(after.storage(), files, false).await,
            Ok(true) => {
                tracing::warn!(table = %after.ident(), folder, "another table's metadata lies in the same folder; earlier metadata files stay");
            }
            Err(error) => {
                tracing::warn!(table = %after.ident(), folder, %error, "earlier metadata files stay, as the catalog does not say whose else they may be");
            }
        }
    }

    /// The end of a commit that is not tried again. What it wrote goes once it is known that nothing names it.
    async fn give_up(mut self, error: Error) -> Result<Committed> {
        self.open.retain(|raced| adds_snapshot(&raced.request));
        if !self.open.is_empty() {
            match self.refute().await {
                Settled::Done(table, id) => return Ok(self.done(table, id, false)),
                Settled::NotDone => {}
                Settled::Unknown if error.kind() == ErrorKind::NotFound => self.doubt = true, // no such table any more
                Settled::Unknown => return Err(self.unknown(error)),
            }
        }
        self.discard_but(&HashSet::new()).await;
        Err(error)
    }

    /// Looks whether the requests that the catalog says lost a race did: the answer may be that of a second delivery, which the
    /// first one made fail, or will when it arrives.
    async fn refute(&mut self) -> Settled {
        for check in 0..=self.policy.status_checks {
            match self.load().await {
                Ok(table) => {
                    if let Some(ours) = history::of_commit(table.metadata(), &self.commit_id) {
                        self.came_through(ours.manifest_list()).await;
                        return Settled::Done(table, Some(ours.snapshot_id()));
                    }
                    self.close(&table);
                    if self.doubt {
                        return Settled::Unknown;
                    }
                    if self.open.is_empty() {
                        return Settled::NotDone;
                    }
                }
                Err(e) if e.kind() == ErrorKind::NotFound => return Settled::Unknown,
                Err(_) => {}
            }
            if check < self.policy.status_checks {
                self.catalog.clock().sleep(self.policy.status_wait(check)).await;
            }
        }
        Settled::Unknown
    }

    /// Lets go of the requests that the table, as it is, shows to have lost their race.
    fn close(&mut self, table: &Table) {
        let is_whole = |raced: &Raced| leads_back_to(table.metadata(), raced.base.metadata());
        self.doubt |= self.open.iter().any(|raced| is_broken(&raced.request, table) && !is_whole(raced));
        self.open.retain(|raced| !is_broken(&raced.request, table));
    }

    /// Deletes what the request did not make live that came through, with this manifest list, after its answer said that it
    /// lost a race. The others can't come through any more.
    async fn came_through(&mut self, manifest_list: &str) {
        let ours = self.open.iter().find(|raced| raced.named.contains(manifest_list));
        if let Some(named) = ours.map(|raced| raced.named.clone()) {
            self.open.clear();
            self.discard_but(&named).await;
        }
    }

    /// Deletes what was written and is not named, unless an outcome is unknown.
    async fn discard_but(&self, named: &HashSet<String>) {
        let doubt = self.doubt || self.open.iter().any(|raced| adds_snapshot(&raced.request));
        discard(self.latest.storage(), self.written.but(named), doubt).await;
    }

    /// Loads the table as it is now.
    async fn load(&mut self) -> Result<Table> {
        let table = self.catalog.load_table(self.transaction.base.ident()).await?;
        // Another table of this name reaches its own files alone.
        if table.metadata().uuid() == self.transaction.base.metadata().uuid() {
            self.latest = table.clone();
        }
        Ok(table)
    }

    fn done(&self, table: Table, snapshot_id: Option<i64>, already_applied: bool) -> Committed {
        Committed { table, snapshot_id, already_applied, attempts: self.attempts }
    }

    fn unknown(&self, source: Error) -> Error {
        Error::new(
            ErrorKind::CommitStateUnknown,
            "the catalog's answer to a commit was lost, or a request may still be on its way, and the table \
             does not show the commit; reload the table and look for the commit's id in its snapshots, or commit again with the \
             same idempotency key",
        )
        .with("table", self.transaction.base.ident())
        .with("commit_id", &self.commit_id)
        .with_source(source)
    }
}

fn adds_snapshot(request: &CommitRequest) -> bool {
    request.updates.iter().any(|update| matches!(update, TableUpdate::AddSnapshot { .. }))
}

enum Settled {
    Done(Table, Option<i64>),
    NotDone,
    Unknown,
}

/// Finds out what became of a commit whose answer was lost.
async fn settle(
    catalog: &dyn Catalog,
    policy: &RetryPolicy,
    commit_id: &str,
    request: &CommitRequest,
    base: &Table,
) -> Settled {
    let adds_snapshot = adds_snapshot(request);
    for check in 0..=policy.status_checks {
        if let Ok(table) = catalog.load_table(&request.ident).await {
            let metadata = table.metadata();
            if adds_snapshot && let Some(ours) = history::of_commit(metadata, commit_id) {
                return Settled::Done(table, Some(ours.snapshot_id()));
            }
            if !adds_snapshot
                && table.metadata_location() != base.metadata_location()
                && shows(metadata, base, request)
            {
                return Settled::Done(table, None);
            }
            // Where history does not go back to where the commit began, it may have been applied, and expired.
            if adds_snapshot && is_broken(request, &table) && leads_back_to(metadata, base.metadata()) {
                return Settled::NotDone;
            }
        }
        if check < policy.status_checks {
            catalog.clock().sleep(policy.status_wait(check)).await;
        }
    }
    Settled::Unknown
}

/// Tells whether a request can't be applied to a table as it is by now, however late it arrives.
fn is_broken(request: &CommitRequest, table: &Table) -> bool {
    match &request.expect {
        Expect::Unchanged(base) => base != table.metadata_location(),
        Expect::Requirements(all) => {
            all.iter().any(|requirement| requirement.check(Some(table.metadata())).is_err())
        }
        Expect::Absent(_) => false, // its name may come free
    }
}

/// Tells whether all that came to a table since is there, on whatever branch: no snapshot that has expired lies between.
fn leads_back_to(metadata: &TableMetadata, base: &TableMetadata) -> bool {
    let is_first = base.snapshots().len() == 0;
    let is_known = |id| metadata.snapshot_by_id(id).is_some() || base.snapshot_by_id(id).is_some();
    let newer = metadata.snapshots().filter(|snapshot| base.snapshot_by_id(snapshot.snapshot_id()).is_none());
    newer.map(|snapshot| snapshot.parent_snapshot_id()).all(|parent| parent.map_or(is_first, is_known))
}

/// Whether metadata shows the effect of a request that adds no snapshot: applying it to what it was made for gives the same.
fn shows(metadata: &TableMetadata, base: &Table, request: &CommitRequest) -> bool {
    let Ok(expected) = apply_updates(base.metadata(), None, request.updates.iter().cloned()) else {
        return false;
    };
    let ids = |m: &TableMetadata| {
        let mut ids: Vec<i64> = m.snapshots().map(|s| s.snapshot_id()).collect();
        ids.sort_unstable();
        ids
    };
    let mut schemas = expected.schemas_iter();
    schemas.all(|s| metadata.schema_by_id(s.schema_id()).is_some_and(|theirs| theirs == s))
        && expected.current_schema_id() == metadata.current_schema_id()
        && expected.default_partition_spec_id() == metadata.default_partition_spec_id()
        && expected.default_sort_order_id() == metadata.default_sort_order_id()
        && expected.properties() == metadata.properties()
        && expected.format_version() == metadata.format_version()
        && expected.location() == metadata.location()
        && references(&expected) == references(metadata)
        && ids(&expected) == ids(metadata)
}

/// With `write.metadata.delete-after-commit.enabled`: the metadata files that this commit dropped from the log
/// (`write.metadata.previous-versions-max`). Nothing names them any more. The log is what a writer says: only metadata files go, in
/// the table's folder, that lie beside the one that the catalog named.
fn forgotten_metadata(before: &Table, after: &Table, folder: &str) -> Vec<String> {
    let properties = Properties::new(after.metadata().properties());
    // Where files may be other tables' too, one of these may be what another name's table is at.
    let shared = !properties.flag("gc.enabled", true).unwrap_or(false);
    if shared || !properties.flag("write.metadata.delete-after-commit.enabled", false).unwrap_or(false) {
        return Vec::new();
    }
    let named: Vec<&str> =
        after.metadata().metadata_log().iter().map(|entry| entry.metadata_file.as_str()).collect();
    let log = before.metadata().metadata_log().iter().map(|entry| entry.metadata_file.clone());
    let is_forgotten = |file: &String| {
        !named.iter().any(|named| same_location(named, file))
            && !same_location(file, after.metadata_location())
    };
    let is_own = |file: &String| lies_in(file, folder) && file.contains(".metadata.json") && after.owns(file);
    log.filter(|file| is_forgotten(file) && is_own(file)).collect()
}

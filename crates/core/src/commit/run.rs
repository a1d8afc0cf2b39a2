//! The commit loop: apply, publish, and settle what became of it.

use std::collections::HashMap;

use iceberg::TableUpdate;
use iceberg::spec::TableMetadata;

use super::action::Action;
use super::branch::since;
use super::create::create;
use super::manifests::ManifestStore;
use super::retry::{RetryPolicy, queue};
use super::stage::{discard, stage};
use super::{COMMIT_ID, Committed, IDEMPOTENCY_KEY, Transaction, history};
use crate::catalog::{Catalog, CommitOutcome, CommitRequest, apply_updates};
use crate::config::Properties;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{Table, references};

pub(super) async fn commit(mut transaction: Transaction, catalog: &dyn Catalog) -> Result<Committed> {
    let clock = catalog.clock().clone();
    let ident = transaction.base.ident().clone();
    let policy = match RetryPolicy::new(transaction.base.metadata().properties(), &*clock) {
        // The property that can't be read may be what is being mended.
        Err(error) if transaction.actions.iter().all(|action| matches!(action, Action::Change(_))) => {
            tracing::warn!(table = %ident, %error, "a change of metadata is committed with the default retries");
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
    let queue = queue(transaction.base.metadata().uuid());
    // Whoever had to wait for another commit of this process begins with a fresh look at the table, and so does what is found
    // in the table itself: the base may have nothing of it.
    let mut first_turn = queue.try_lock().ok();
    let mut current =
        Some(transaction.base.clone()).filter(|_| first_turn.is_some() && !transaction.looks_for_work());
    let mut attempts = 0;
    // Set once an outcome was unknown: from then on nothing that was written may be deleted.
    let mut doubt = false;
    loop {
        let turn = match first_turn.take() {
            Some(turn) => turn,
            None => queue.lock().await,
        };
        attempts += 1;
        let tried = attempt(&transaction, catalog, &commit_id, attempts, current.take()).await;
        let (error, raced) = match tried {
            Tried::Done(table, snapshot_id, already_applied) => {
                return Ok(Committed { table, snapshot_id, already_applied, attempts });
            }
            Tried::Raced(error, written) => {
                discard(catalog.storage(), written, doubt).await;
                (error, true)
            }
            Tried::Failed(error, written) => {
                discard(catalog.storage(), written, doubt).await;
                (error, false)
            }
            Tried::Unknown(error, request, base) => {
                doubt = true;
                match settle(catalog, &policy, &commit_id, &request, &base).await {
                    Settled::Done(table, snapshot_id) => {
                        return Ok(Committed { table, snapshot_id, already_applied: false, attempts });
                    }
                    Settled::NotDone => (error, true),
                    Settled::Unknown => {
                        return Err(Error::new(
                            ErrorKind::CommitStateUnknown,
                            "the catalog's answer to a commit was lost and the table does not show it; reload the table \
                             and look for the commit's id in its snapshots, or commit again with the same idempotency key",
                        )
                        .with("table", &ident)
                        .with("commit_id", &commit_id)
                        .with_source(error));
                    }
                }
            }
        };
        let retryable = raced || error.is_retryable();
        if !retryable || !policy.may_retry(attempts, raced, &*clock) {
            return Err(if retryable { error.with("attempts", attempts) } else { error });
        }
        tracing::debug!(table = %ident, attempts, %error, "commit is tried again");
        drop(turn); // others go on while this one waits
        clock.sleep(policy.wait(attempts, &*clock)).await;
    }
}

enum Tried {
    /// The table, the snapshot, and whether an earlier commit had done it.
    Done(Table, Option<i64>, bool),
    Raced(Error, Vec<String>),
    Failed(Error, Vec<String>),
    Unknown(Error, CommitRequest, Table),
}

async fn attempt(
    transaction: &Transaction,
    catalog: &dyn Catalog,
    commit_id: &str,
    attempt: u32,
    current: Option<Table>,
) -> Tried {
    let is_base = current.is_some();
    let current = match current {
        Some(table) => table,
        None => match catalog.load_table(transaction.base.ident()).await {
            Ok(table) => table,
            Err(e) => return Tried::Failed(e, Vec::new()),
        },
    };
    let metadata = current.metadata();
    if metadata.uuid() != transaction.base.metadata().uuid() {
        let error =
            Error::conflict("the table was dropped and created anew under the same name; load it again")
                .with("table", current.ident());
        return Tried::Failed(error, Vec::new());
    }
    // An earlier try of this commit whose answer was lost may have come through after all.
    if attempt > 1
        && let Some(done) = history::of_commit(metadata, commit_id)
    {
        return Tried::Done(current.clone(), Some(done.snapshot_id()), false);
    }
    if let Some(key) = &transaction.idempotency_key
        && let Some(applied) =
            transaction.branches().find_map(|branch| history::is_applied(metadata, branch, key))
    {
        return Tried::Done(current.clone(), applied.map(|s| s.snapshot_id()), true);
    }

    let prefix = format!("{commit_id}-{attempt}");
    let mut store = ManifestStore::new(catalog.storage(), metadata, prefix, transaction.exact);
    let staged = stage(transaction, &current, catalog, &mut store).await;
    let written = store.into_written();
    let staged = match staged {
        Ok(staged) => staged,
        // A long write may have begun with what has been expired since: the table as it is now has what it needs.
        Err(e) if is_base && e.kind() == ErrorKind::NotFound => return Tried::Raced(e, written),
        Err(e) => return Tried::Failed(e, written),
    };
    if staged.updates.is_empty() {
        return Tried::Done(current, None, false); // nothing to change
    }
    let request = CommitRequest {
        ident: current.ident().clone(),
        base: staged.of_whole_table.then(|| current.metadata_location().to_string()),
        requirements: staged.requirements,
        updates: staged.updates,
    };
    match catalog.commit(vec![request.clone()]).await {
        CommitOutcome::Done(mut tables) => match tables.pop() {
            Some(table) => {
                discard(catalog.storage(), staged.unused, false).await;
                discard(catalog.storage(), forgotten_metadata(&current, &table), false).await;
                Tried::Done(table, staged.snapshot_id, false)
            }
            None => Tried::Unknown(Error::internal("the catalog gave no table back"), request, current),
        },
        CommitOutcome::Conflict(e) => Tried::Raced(e, written),
        CommitOutcome::Failed(e) => Tried::Failed(e, written),
        CommitOutcome::Unknown(e) => Tried::Unknown(e, request, current),
    }
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
    let adds_snapshot = request.updates.iter().any(|u| matches!(u, TableUpdate::AddSnapshot { .. }));
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
            // With its requirements broken the lost request can't be applied any more, however late it arrives. But where
            // history does not go back to where the commit began, it may have been applied, and expired.
            let broken = request.requirements.iter().any(|r| r.check(Some(metadata)).is_err());
            if adds_snapshot && broken && leads_back_to(metadata, base.metadata(), request) {
                return Settled::NotDone;
            }
        }
        if check < policy.status_checks {
            catalog.clock().sleep(policy.status_wait(check)).await;
        }
    }
    Settled::Unknown
}

/// Whether the history of each branch that the request moves is whole from its head back to where the branch was.
fn leads_back_to(metadata: &TableMetadata, base: &TableMetadata, request: &CommitRequest) -> bool {
    request.updates.iter().all(|update| match update {
        TableUpdate::SetSnapshotRef { ref_name, .. } => {
            let start = base.snapshot_for_ref(ref_name).map(|s| s.snapshot_id());
            since(metadata, ref_name, start).is_ok()
        }
        _ => true,
    })
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
/// (`write.metadata.previous-versions-max`). Nothing names them any more.
fn forgotten_metadata(before: &Table, after: &Table) -> Vec<String> {
    let properties = Properties::new(after.metadata().properties());
    // Where files may be other tables' too, one of these may be what another name's table is at.
    let shared = !properties.flag("gc.enabled", true).unwrap_or(false);
    if shared || !properties.flag("write.metadata.delete-after-commit.enabled", false).unwrap_or(false) {
        return Vec::new();
    }
    let named: Vec<&str> =
        after.metadata().metadata_log().iter().map(|entry| entry.metadata_file.as_str()).collect();
    let log = before.metadata().metadata_log().iter().map(|entry| entry.metadata_file.clone());
    log.filter(|file| !named.contains(&file.as_str()) && file != after.metadata_location()).collect()
}

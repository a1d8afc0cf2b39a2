//! The commit that creates its table: the catalog makes the table of what was staged and of the actions'
//! updates, in one request. A name that is taken is left alone.
//!
//! Deletes the manifests of this commit, after an answer by which the catalog does not have them. From the
//! first unknown answer on, nothing.

use std::collections::HashSet;

use super::history::of_commit;
use super::manifests::{ManifestStore, Written};
use super::retry::RetryPolicy;
use super::stage::{discard, stage};
use super::{Committed, Transaction};
use crate::catalog::{Catalog, CommitOutcome, CommitRequest, Expect, exists};
use crate::error::{Error, ErrorKind, Result};
use crate::table::Table;

pub(super) async fn create(
    transaction: &Transaction,
    catalog: &dyn Catalog,
    policy: &RetryPolicy,
    commit_id: &str,
) -> Result<Committed> {
    let (base, clock, storage) = (&transaction.base, &**catalog.clock(), transaction.base.storage());
    require_absent(base, catalog).await?;
    let mut written = Written::new(commit_id);
    let mut store = ManifestStore::new(base, &mut written, transaction.exact);
    let staged = stage(transaction, base, catalog, &mut Vec::new(), &mut store).await;
    let all = written.but(&HashSet::new());
    let staged = match staged {
        Ok(staged) => staged,
        Err(error) => {
            discard(storage, all, false).await;
            return Err(error);
        }
    };
    let (ident, expect) = (base.ident().clone(), Expect::Absent(base.clone()));
    let request = CommitRequest { ident, expect, updates: staged.updates };

    let mut attempts = 0;
    loop {
        attempts += 1;
        let done =
            |table| Committed { table, snapshot_id: staged.snapshot_id, already_applied: false, attempts };
        let (error, taken) = match catalog.commit(vec![request.clone()]).await {
            CommitOutcome::Done(mut tables) => match tables.pop() {
                Some(table) => {
                    discard(storage, written.but(&staged.named), false).await;
                    return Ok(done(table));
                }
                None => (Error::internal("the catalog gave no table back"), false),
            },
            CommitOutcome::Failed(error) => {
                if !error.is_retryable() || !policy.may_retry(attempts, false, clock) {
                    discard(storage, all, false).await;
                    return Err(if error.is_retryable() { error.with("attempts", attempts) } else { error });
                }
                tracing::debug!(table = %base.ident(), attempts, %error, "the creation of a table is tried again");
                clock.sleep(policy.wait(attempts, clock)).await;
                continue;
            }
            CommitOutcome::Conflict(error) if is_anothers(base, catalog).await => {
                discard(storage, all, false).await;
                return Err(error);
            }
            // It may be the answer to a second delivery of the request, which the first one made fail.
            CommitOutcome::Conflict(error) => (error, true),
            CommitOutcome::Unknown(error) => (error, false),
        };
        return match find(base, staged.snapshot_id, commit_id, catalog, policy).await {
            Found::Ours(table) => Ok(done(table)),
            Found::Anothers if taken => {
                discard(storage, all, false).await;
                Err(error)
            }
            Found::Anothers | Found::Nothing => Err(unknown(base, error)),
        };
    }
}

/// Refuses a name that is taken. By this very table: an earlier commit created it whose answer was lost, and
/// the files that are to be committed now may be those that it has.
async fn require_absent(base: &Table, catalog: &dyn Catalog) -> Result<()> {
    if !catalog.table_exists(base.ident()).await? {
        return Ok(());
    }
    match catalog.load_table(base.ident()).await {
        Ok(table) if table.metadata().uuid() == base.metadata().uuid() => {
            Err(unknown(base, exists(base.ident())))
        }
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Err(exists(base.ident())),
    }
}

/// Tells whether another table has the name; false also where that can't be told. Where nothing has it by
/// now, this table may have had it, and be renamed.
async fn is_anothers(base: &Table, catalog: &dyn Catalog) -> bool {
    let found = catalog.load_table(base.ident()).await;
    found.is_ok_and(|table| table.metadata().uuid() != base.metadata().uuid())
}

fn unknown(base: &Table, source: Error) -> Error {
    Error::new(
        ErrorKind::CommitStateUnknown,
        "it is not known whether the table was created with what was to be committed; look what has its name and what that \
         holds before you try again or delete anything",
    )
    .with("table", base.ident())
    .with("uuid", base.metadata().uuid())
    .with_source(source)
}

/// The catalog's view of a commit whose answer was lost.
enum Found {
    /// The table, created by this commit.
    Ours(Table),
    /// A table of the name that is another's.
    Anothers,
    Nothing,
}

async fn find(
    base: &Table,
    snapshot_id: Option<i64>,
    commit_id: &str,
    catalog: &dyn Catalog,
    policy: &RetryPolicy,
) -> Found {
    for check in 0..=policy.status_checks {
        if let Ok(table) = catalog.load_table(base.ident()).await {
            if table.metadata().uuid() != base.metadata().uuid() {
                return Found::Anothers;
            }
            if snapshot_id.is_none() || of_commit(table.metadata(), commit_id).is_some() {
                return Found::Ours(table);
            }
        }
        if check < policy.status_checks {
            catalog.clock().sleep(policy.status_wait(check)).await;
        }
    }
    Found::Nothing
}

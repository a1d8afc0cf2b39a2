//! The commit that creates its table: the first metadata file has what the actions make of the new table, and the catalog
//! gets name and file in one step. A name that is taken is left alone.
//!
//! What goes: the manifests and the metadata file of this commit, after an answer by which the catalog does not name them.
//! From the first unknown answer on, nothing.

use std::collections::HashSet;

use uuid::Uuid;

use super::history::of_commit;
use super::manifests::{ManifestStore, Written as WrittenFiles};
use super::retry::RetryPolicy;
use super::stage::{discard, stage};
use super::{Committed, Transaction};
use crate::catalog::{Catalog, apply_updates, exists, write_first};
use crate::error::{ConflictReason, Error, ErrorKind, Result};
use crate::table::Table;

pub(super) async fn create(
    transaction: &Transaction,
    catalog: &dyn Catalog,
    policy: &RetryPolicy,
    commit_id: &str,
) -> Result<Committed> {
    let (base, clock, storage) = (&transaction.base, &**catalog.clock(), transaction.base.storage());
    require_absent(base, catalog).await?;
    require_own_folder(base, catalog).await?;
    let mut files = WrittenFiles::new(commit_id);
    let staged = write(transaction, catalog, &mut files).await;
    let mut written = files.but(&HashSet::new());
    let staged = match staged {
        Ok(staged) => staged,
        Err(error) => {
            discard(storage, written, false).await;
            return Err(error);
        }
    };
    written.push(staged.metadata_location.clone());
    let unused = files.but(&staged.named);

    let mut attempts = 0;
    loop {
        attempts += 1;
        let done =
            |table| Committed { table, snapshot_id: staged.snapshot_id, already_applied: false, attempts };
        let error = match catalog.register_table(base.ident(), &staged.metadata_location).await {
            Ok(table) => {
                discard(storage, unused, false).await;
                return Ok(done(table));
            }
            Err(error) => error,
        };
        let definite = match error.kind() {
            ErrorKind::CommitStateUnknown => false,
            ErrorKind::AlreadyExists => is_anothers(base, catalog).await,
            _ => true,
        };
        if !definite {
            return match find(base, &staged, commit_id, catalog, policy).await {
                Found::Ours(table) => Ok(done(table)),
                Found::Anothers if error.kind() == ErrorKind::AlreadyExists => {
                    discard(storage, written, false).await;
                    Err(error)
                }
                Found::Anothers | Found::Nothing => Err(unknown(base, error)),
            };
        }
        if !error.is_retryable() || !policy.may_retry(attempts, false, clock) {
            discard(storage, written, false).await;
            return Err(if error.is_retryable() { error.with("attempts", attempts) } else { error });
        }
        tracing::debug!(table = %base.ident(), attempts, %error, "the creation of a table is tried again");
        clock.sleep(policy.wait(attempts, clock)).await;
    }
}

/// Refuses a name that is taken. By this very table: an earlier commit created it whose answer was lost, and the files that
/// are to be committed now may be those that it has.
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

/// Tells whether another table has the name; false also where that can't be told. Where nothing has it by now, this table
/// may have had it, and be renamed.
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

/// What is written and not yet named.
struct Written {
    metadata_location: String,
    snapshot_id: Option<i64>,
    named: HashSet<String>,
}

async fn write(
    transaction: &Transaction,
    catalog: &dyn Catalog,
    files: &mut WrittenFiles,
) -> Result<Written> {
    let base = &transaction.base;
    let mut store = ManifestStore::new(base, files, transaction.exact);
    let staged = stage(transaction, base, catalog, &mut Vec::new(), &mut store).await?;
    let metadata = match staged.updates.is_empty() {
        true => base.metadata().clone(),
        // Nothing was the current metadata file before: the log has none.
        false => apply_updates(base.metadata(), None, staged.updates)?,
    };
    let first = write_first(base.storage(), &**catalog.clock(), base.ident().clone(), metadata).await?;
    Ok(Written {
        metadata_location: first.table.metadata_location().to_string(),
        snapshot_id: staged.snapshot_id,
        named: staged.named,
    })
}

/// Refuses a folder that has become another table's since it was chosen: one that was created under this name and renamed.
/// Each of the two tables would take the other's files for its own orphans.
async fn require_own_folder(base: &Table, catalog: &dyn Catalog) -> Result<()> {
    let chosen = base.metadata().location();
    let now = catalog.new_location(base.ident()).await?;
    let id = now.strip_prefix(chosen).and_then(|rest| rest.strip_prefix('-'));
    if id.is_some_and(|id| Uuid::parse_str(id).is_ok()) {
        // It may have the name still, and have come between the two looks.
        require_absent(base, catalog).await?;
        return Err(Error::conflict(
            "another table was created under this name meanwhile, and renamed: its files lie where this table's would; \
             run the operation again",
        )
        .because(ConflictReason::TableReplaced)
        .with("table", base.ident())
        .with("location", chosen));
    }
    Ok(())
}

/// What the catalog shows of a commit whose answer was lost.
enum Found {
    /// The table, created by this commit.
    Ours(Table),
    /// A table of the name that is another's.
    Anothers,
    Nothing,
}

async fn find(
    base: &Table,
    staged: &Written,
    commit_id: &str,
    catalog: &dyn Catalog,
    policy: &RetryPolicy,
) -> Found {
    for check in 0..=policy.status_checks {
        if let Ok(table) = catalog.load_table(base.ident()).await {
            if table.metadata().uuid() != base.metadata().uuid() {
                return Found::Anothers;
            }
            if staged.snapshot_id.is_none() || of_commit(table.metadata(), commit_id).is_some() {
                return Found::Ours(table);
            }
        }
        if check < policy.status_checks {
            catalog.clock().sleep(policy.status_wait(check)).await;
        }
    }
    Found::Nothing
}

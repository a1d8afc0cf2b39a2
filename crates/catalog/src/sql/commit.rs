//! The commit: metadata files staged, then every pointer swapped in one transaction, then, where the answer to COMMIT was
//! lost, a look at where the pointers are.
//!
//! Staged metadata files are deleted after a definite conflict or failure, since no pointer ever named them, and never
//! while the outcome is unknown.

use icefield_core::catalog::{
    Catalog, CommitOutcome, CommitRequest, StagedMetadata, check_requests, stage_commit,
};
use icefield_core::format::load_metadata;
use icefield_core::{Error, ErrorKind, Result};

use super::database::CommitError;
use super::namespace::encode;
use super::{ATTEMPTS, PATIENCE_MS, SqlCatalog};

/// How one try to swap the pointers ended.
enum Swap {
    Done,
    /// A pointer had moved.
    Lost(Error),
    /// Definitely nothing changed.
    Failed(Error),
    Unknown(Error),
}

/// What the pointers say about a swap whose answer was lost.
enum Found {
    Swapped,
    Unchanged,
    /// They have moved on, and the new metadata does not tell.
    Unclear,
}

impl SqlCatalog {
    pub(super) async fn commit_all(&self, requests: Vec<CommitRequest>) -> CommitOutcome {
        if let Err(e) = check_requests(&requests) {
            return CommitOutcome::Failed(e);
        }
        let mut staged = Vec::with_capacity(requests.len());
        for request in &requests {
            match self.stage(request).await {
                Ok(next) => staged.push(next),
                Err(e) => {
                    self.discard(&staged).await;
                    return match e.kind() {
                        ErrorKind::Conflict => CommitOutcome::Conflict(e),
                        _ => CommitOutcome::Failed(e),
                    };
                }
            }
        }
        let swap = if staged.is_empty() { Swap::Done } else { self.swap(&staged).await };
        match swap {
            Swap::Done => {
                self.cache.published(&staged);
                CommitOutcome::Done(staged.into_iter().map(|next| next.table).collect())
            }
            Swap::Lost(e) => {
                self.discard(&staged).await;
                CommitOutcome::Conflict(e)
            }
            Swap::Failed(e) => {
                self.discard(&staged).await;
                CommitOutcome::Failed(e)
            }
            Swap::Unknown(e) => CommitOutcome::Unknown(staged.iter().fold(e, |e, next| {
                e.with("table", next.table.ident()).with("metadata", next.table.metadata_location())
            })),
        }
    }

    async fn stage(&self, request: &CommitRequest) -> Result<StagedMetadata> {
        let current = self.load_table(&request.ident).await?;
        stage_commit(&self.storage, &*self.clock, &current, request).await
    }

    /// Swaps every pointer, or none; tries again what failed in passing while nothing was changed.
    async fn swap(&self, staged: &[StagedMetadata]) -> Swap {
        // In one order for all: two commits never wait for each other's rows.
        let mut staged: Vec<&StagedMetadata> = staged.iter().collect();
        staged.sort_by_key(|next| next.table.ident().to_string());
        let started = self.clock.now_ms();
        let mut attempt = 0;
        loop {
            let error = match self.swap_once(&staged).await {
                Swap::Failed(e) if e.is_retryable() => e,
                Swap::Unknown(e) => match self.find(&staged).await {
                    Ok(Found::Swapped) => return Swap::Done,
                    Ok(Found::Unchanged) => transient(e),
                    Ok(Found::Unclear) => return Swap::Unknown(e),
                    Err(why) => {
                        tracing::debug!(error = %why, "the pointers could not be read after a lost answer");
                        return Swap::Unknown(e);
                    }
                },
                end => return end,
            };
            attempt += 1;
            if attempt >= ATTEMPTS || self.clock.now_ms() - started > PATIENCE_MS {
                return Swap::Failed(error);
            }
            self.clock.sleep(self.backoff(attempt)).await;
        }
    }

    async fn swap_once(&self, staged: &[&StagedMetadata]) -> Swap {
        let mut tx = match self.database.begin(None).await {
            Ok(tx) => tx,
            Err(e) => return Swap::Failed(e),
        };
        for next in staged {
            let table = &next.table;
            let (Ok(namespace), Some(previous)) = (encode(table.ident().namespace()), &next.previous) else {
                return Swap::Failed(
                    Error::internal("a staged table without name or base").with("table", table.ident()),
                );
            };
            let args =
                [self.name.as_str(), &namespace, table.ident().name(), table.metadata_location(), previous];
            match tx.execute(&self.statements.swap, &args).await {
                Ok(1) => {}
                Ok(0) => {
                    tx.rollback().await;
                    return Swap::Lost(
                        Error::conflict("another commit was first; reload the table and try again")
                            .with("table", table.ident()),
                    );
                }
                Ok(rows) => {
                    tx.rollback().await;
                    return Swap::Failed(
                        Error::data_invalid(
                            "the catalog's database has this table more than once; it lost its primary key",
                        )
                        .with("table", table.ident())
                        .with("rows", rows),
                    );
                }
                Err(e) => {
                    tx.rollback().await;
                    return Swap::Failed(e.with("table", table.ident()));
                }
            }
        }
        match tx.commit().await {
            Ok(()) => Swap::Done,
            Err(CommitError::NotCommitted(e)) => Swap::Failed(e),
            Err(e @ CommitError::Unknown(_)) => Swap::Unknown(e.into_error()),
        }
    }

    /// Looks at the pointers after a lost answer, behind the rows' locks: a transaction that still holds them has not
    /// ended, and one that has ended is either seen or will never be.
    async fn find(&self, staged: &[&StagedMetadata]) -> Result<Found> {
        let mut moved_on = Vec::new();
        for next in staged {
            let ident = next.table.ident();
            match self.pointer_behind_lock(next).await? {
                Some(now) if now == next.table.metadata_location() => return Ok(Found::Swapped),
                now if now == next.previous => return Ok(Found::Unchanged),
                Some(now) => moved_on.push((now, next)),
                None => tracing::debug!(table = %ident, "dropped while a commit's answer was lost"),
            }
        }
        // Commits built on this one name its metadata file in their log.
        for (now, next) in moved_on {
            let metadata = load_metadata(&self.storage, &now).await?;
            let ours = next.table.metadata_location();
            if metadata.metadata_log().iter().any(|entry| entry.metadata_file == ours) {
                return Ok(Found::Swapped);
            }
        }
        Ok(Found::Unclear)
    }

    async fn pointer_behind_lock(&self, next: &StagedMetadata) -> Result<Option<String>> {
        let ident = next.table.ident();
        let namespace = encode(ident.namespace())?;
        let args = [self.name.as_str(), &namespace, ident.name()];
        self.retry(|_| async {
            let mut tx = self.database.begin(None).await?;
            // An UPDATE that changes nothing takes the lock on every database; it is rolled back.
            tx.execute(&self.statements.touch, &args).await?;
            let rows = tx.query(&self.statements.pointer, &args).await?;
            tx.rollback().await;
            Ok(rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
        })
        .await
    }
}

fn transient(unknown: Error) -> Error {
    Error::new(
        ErrorKind::Transient,
        "the connection to the catalog's database broke before it committed; try again",
    )
    .with_source(unknown)
}

//! The swap of pointers: every one in one transaction, then, where the answer to COMMIT was lost, a look at
//! where they are.

use icefield_core::catalog::TableIdent;
use icefield_core::catalog::pointer::{Move, Swapped, lost};
use icefield_core::{Error, ErrorKind, Result};

use super::database::{CommitError, Transaction};
use super::pointers::{ATTEMPTS, BACKOFF, PATIENCE_MS, SqlPointers, encode};

/// The place of the pointers after a swap whose answer was lost.
enum Found {
    Swapped,
    Unchanged,
    /// Somewhere else.
    MovedOn(Vec<(TableIdent, String)>),
}

impl SqlPointers {
    /// Makes every move, or none; tries again what failed in passing while nothing was changed.
    pub(super) async fn swap_all(&self, moves: &[Move]) -> Swapped {
        // In one order for all: two commits never wait for each other's rows.
        let mut moves: Vec<&Move> = moves.iter().collect();
        moves.sort_by_key(|of| of.ident.to_string());
        let started = self.clock.now_ms();
        let mut attempt = 0;
        loop {
            let error = match self.swap_once(&moves).await {
                Swapped::Failed(e) if e.is_retryable() => e,
                Swapped::Unknown(e) => match self.find(&moves).await {
                    Ok(Found::Swapped) => return Swapped::Done,
                    Ok(Found::Unchanged) => transient(e),
                    Ok(Found::MovedOn(now)) => return Swapped::MovedOn(e, now),
                    Err(why) => {
                        tracing::debug!(error = %why, "the pointers could not be read after a lost answer");
                        return Swapped::Unknown(e);
                    }
                },
                end => return end,
            };
            attempt += 1;
            if attempt >= ATTEMPTS || self.clock.now_ms() - started > PATIENCE_MS {
                return Swapped::Failed(error);
            }
            self.clock.sleep(BACKOFF.wait(attempt, &*self.clock)).await;
        }
    }

    async fn swap_once(&self, moves: &[&Move]) -> Swapped {
        let mut tx = match self.begin_swap(moves).await {
            Ok(tx) => tx,
            Err(e) => return Swapped::Failed(e),
        };
        for of in moves {
            let moved = match &of.from {
                Some(from) => self.update(&mut *tx, of, from).await,
                None => self.insert(&mut *tx, of).await,
            };
            let not_moved = match moved {
                Ok(true) => continue,
                Ok(false) => Swapped::Lost(lost(of)),
                Err(e) => Swapped::Failed(e.with("table", &of.ident)),
            };
            tx.rollback().await;
            return not_moved;
        }
        match tx.commit().await {
            Ok(()) => Swapped::Done,
            Err(CommitError::NotCommitted(e)) => Swapped::Failed(e),
            Err(e @ CommitError::Unknown(_)) => Swapped::Unknown(e.into_error()),
        }
    }

    /// A transaction for moves. What creates a table takes turns with whatever changes what exists.
    async fn begin_swap(&self, moves: &[&Move]) -> Result<Box<dyn Transaction>> {
        match moves.iter().any(|of| of.from.is_none()) {
            true => self.begin_exclusive().await,
            false => self.database.begin(None).await,
        }
    }

    async fn update(&self, tx: &mut dyn Transaction, of: &Move, from: &str) -> Result<bool> {
        let namespace = encode(of.ident.namespace())?;
        let args = [self.name.as_str(), &namespace, of.ident.name(), &of.to, from];
        match tx.execute(&self.statements.swap, &args).await? {
            0 => Ok(false),
            1 => Ok(true),
            rows => Err(Error::data_invalid(
                "the catalog's database has this table more than once; it lost its primary key",
            )
            .with("rows", rows)),
        }
    }

    async fn insert(&self, tx: &mut dyn Transaction, of: &Move) -> Result<bool> {
        self.require_namespace(tx, of.ident.namespace()).await?;
        let namespace = encode(of.ident.namespace())?;
        let args = [self.name.as_str(), &namespace, of.ident.name(), &of.to];
        match tx.execute(&self.statements.insert, &args).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Looks at the pointers after a lost answer, behind the locks that the swap took: a transaction that
    /// still holds them has not ended, and one that has ended is either seen or will never be.
    async fn find(&self, moves: &[&Move]) -> Result<Found> {
        let mut moved_on = Vec::new();
        for of in moves {
            match self.pointer_behind_lock(of, moves).await? {
                Some(now) if now == of.to => return Ok(Found::Swapped),
                now if now == of.from => return Ok(Found::Unchanged),
                Some(now) => moved_on.push((of.ident.clone(), now)),
                None => tracing::debug!(table = %of.ident, "dropped while a commit's answer was lost"),
            }
        }
        Ok(Found::MovedOn(moved_on))
    }

    async fn pointer_behind_lock(&self, of: &Move, moves: &[&Move]) -> Result<Option<String>> {
        let namespace = encode(of.ident.namespace())?;
        let args = [self.name.as_str(), &namespace, of.ident.name()];
        self.retry(|_| async {
            let mut tx = self.begin_swap(moves).await?;
            // An UPDATE that changes nothing takes the row's lock on every database; it is rolled back.
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

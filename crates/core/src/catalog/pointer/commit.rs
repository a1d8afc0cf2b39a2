//! The commit of a pointer catalog: metadata files written, then every pointer swapped in one step, then,
//! where the answer was lost and the pointers have moved on, a look at what they name.
//!
//! Written metadata files are deleted after a definite conflict or failure, since no pointer ever named them,
//! and never while the outcome is unknown.

use iceberg::TableIdent;
use uuid::Uuid;

use super::{Move, PointerCatalog, Pointers, Swapped};
use crate::catalog::metadata_file::{StagedMetadata, write_created, write_next};
use crate::catalog::{Catalog, CommitOutcome, CommitRequest, Expect, Guarantees, check_requests, exists};
use crate::error::{Error, ErrorKind, Result};
use crate::format::load_metadata;
use crate::table::Table;

impl<P: Pointers> PointerCatalog<P> {
    pub(super) async fn commit_all(
        &self,
        requests: Vec<CommitRequest>,
        guarantees: Guarantees,
    ) -> CommitOutcome {
        if let Err(e) = check_requests(&requests, guarantees) {
            return CommitOutcome::Failed(e);
        }
        let mut staged = Vec::with_capacity(requests.len());
        for request in &requests {
            match self.write(request).await {
                Ok(next) => staged.push(next),
                Err(outcome) => {
                    self.discard(&staged).await;
                    return outcome;
                }
            }
        }
        let moves = staged.iter().map(|next| Move {
            ident: next.table.ident().clone(),
            from: next.previous.clone(),
            to: next.table.metadata_location().to_string(),
        });
        let moves: Vec<Move> = moves.collect();
        let swapped = if moves.is_empty() { Swapped::Done } else { self.pointers.swap(&moves).await };
        let unknown = match swapped {
            Swapped::Done => return self.done(staged),
            Swapped::Lost(e) => {
                self.discard(&staged).await;
                return CommitOutcome::Conflict(e);
            }
            Swapped::Failed(e) => {
                self.discard(&staged).await;
                return CommitOutcome::Failed(e);
            }
            Swapped::Unknown(e) => e,
            Swapped::MovedOn(e, now) => match self.is_built_on(&moves, now).await {
                Ok(true) => return self.done(staged),
                Ok(false) => e,
                Err(why) => {
                    tracing::debug!(error = %why, "metadata could not be read after a lost answer");
                    e
                }
            },
        };
        let named = |e: Error, of: &Move| e.with("table", &of.ident).with("metadata", &of.to);
        CommitOutcome::Unknown(moves.iter().fold(unknown, named))
    }

    fn done(&self, staged: Vec<StagedMetadata>) -> CommitOutcome {
        self.cache.published(&staged);
        CommitOutcome::Done(staged.into_iter().map(|next| next.table).collect())
    }

    /// Writes the metadata file that a request comes to.
    async fn write(&self, request: &CommitRequest) -> std::result::Result<StagedMetadata, CommitOutcome> {
        let written = match &request.expect {
            Expect::Absent(staged) => {
                match self.pointers.get(&request.ident).await {
                    Ok(None) => {}
                    Ok(Some(_)) => return Err(CommitOutcome::Conflict(exists(&request.ident))),
                    Err(e) => return Err(CommitOutcome::Failed(e)),
                }
                self.require_own_folder(staged).await?;
                write_created(&self.storage, &*self.clock, staged, request.updates.clone()).await
            }
            _ => match self.load_table(&request.ident).await {
                Ok(current) => write_next(&self.storage, &*self.clock, &current, request).await,
                Err(e) => Err(e),
            },
        };
        written.map_err(|e| match e.kind() {
            ErrorKind::Conflict => CommitOutcome::Conflict(e),
            _ => CommitOutcome::Failed(e),
        })
    }

    /// Refuses a folder that has become another table's since it was chosen: one that was created under this
    /// name and renamed. Each of the two tables would take the other's files for its own orphans.
    async fn require_own_folder(&self, staged: &Table) -> std::result::Result<(), CommitOutcome> {
        let chosen = staged.metadata().location();
        let now = self.new_location(staged.ident()).await.map_err(CommitOutcome::Failed)?;
        let id = now.strip_prefix(chosen).and_then(|rest| rest.strip_prefix('-'));
        if id.is_none_or(|id| Uuid::parse_str(id).is_err()) {
            return Ok(());
        }
        // It may have the name still, and have come between the two looks.
        match self.pointers.get(staged.ident()).await {
            Ok(Some(_)) => Err(CommitOutcome::Conflict(exists(staged.ident()))),
            Ok(None) => Err(CommitOutcome::Failed(
                Error::conflict(
                    "another table was created under this name meanwhile, and renamed: its files lie where this \
                     table's would; run the operation again",
                )
                .with("table", staged.ident())
                .with("location", chosen),
            )),
            Err(e) => Err(CommitOutcome::Failed(e)),
        }
    }

    /// True if one of these pointers names metadata that was made from what a move wrote: it names that file
    /// in its log.
    async fn is_built_on(&self, moves: &[Move], now: Vec<(TableIdent, String)>) -> Result<bool> {
        for (ident, location) in now {
            let Some(of) = moves.iter().find(|of| of.ident == ident) else { continue };
            let metadata = load_metadata(&self.storage, &location).await?;
            if metadata.metadata_log().iter().any(|entry| entry.metadata_file == of.to) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Deletes metadata files that no pointer ever named. What can't be deleted is left to orphan removal.
    async fn discard(&self, staged: &[StagedMetadata]) {
        for next in staged {
            let location = next.table.metadata_location();
            if let Err(error) = self.storage.delete(location).await {
                tracing::debug!(location, %error, "an unused metadata file stays behind");
            }
        }
    }
}

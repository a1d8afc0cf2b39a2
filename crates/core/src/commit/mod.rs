//! Commits: actions become the next snapshot, validated against what others did meanwhile, and published once.
//!
//! A [`Transaction`] records actions and the table that they were computed from. [`Transaction::commit`] is a loop:
//!
//! 1. apply each action to the current metadata, in order: validate it against every snapshot since the transaction's
//!    start, write its manifests and manifest list;
//! 2. hand all updates to [`Catalog::commit`] as one request, which requires each touched branch to be where it was;
//! 3. on a conflict wait, reload, look for the commit's id in the table's history and begin again, with what can be kept of
//!    this try; on an unknown outcome look for the commit's id, and delete nothing.
//!
//! Every snapshot's summary carries the commit's id and, if the caller gave one, the **idempotency key**. A commit whose
//! key is in the branch's history, or was there before expiry, gives the table back unchanged.
//!
//! The first commit to a [staged table](crate::catalog::Catalog::stage_table) creates it, with its updates.
//!
//! This module is the only caller of [`Catalog::commit`]. It writes and deletes metadata files only; data files are their
//! writer's.
//!
//! [`Catalog::commit`]: crate::catalog::Catalog::commit

mod actions;
mod added;
mod branch;
mod create;
mod dangling;
mod history;
mod kept;
mod manifests;
mod newer;
mod removal;
mod retry;
mod run;
mod snapshot;
mod stage;
mod summary;
mod take_out;
mod validate;

use std::fmt;
use std::sync::Arc;

use iceberg::spec::{SnapshotReference, TableMetadata};

use crate::error::Result;
use crate::evolve::MetadataChange;
use crate::format::ContentFile;
use crate::table::{MAIN_BRANCH, Table};

pub use actions::{DeleteBy, Expiry, Overwrite, Rewrite, RowDelta};
pub use history::{COMMIT_ID, IDEMPOTENCY_KEY, is_applied};
pub use validate::{Change, Footprint, Isolation, Reads, Validator};

use actions::{
    Action, Append, ChangeMetadata, CreateRef, DeleteFiles, ExpireSnapshots, FastForward, MetadataAction,
    RemoveDanglingDeletes, RemoveRef, Rollback, SetRef, SnapshotAction, Start,
};

/// What a commit did.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The table after the commit.
    pub table: Table,
    /// The last snapshot that the commit added, or the one that an earlier commit with the same idempotency key added
    /// (absent when that one has been expired). Absent for changes of metadata alone.
    pub snapshot_id: Option<i64>,
    /// Whether an earlier commit with the same idempotency key had done this already, so that this one did nothing.
    pub already_applied: bool,
    /// How many times the commit was tried.
    pub attempts: u32,
}

/// Actions on one table, committed together or not at all.
///
/// Nothing is read or written before [`Transaction::commit`].
#[derive(Clone)]
pub struct Transaction {
    base: Table,
    branch: String,
    isolation: Isolation,
    start: Start,
    summary: Vec<(String, String)>,
    idempotency_key: Option<String>,
    exact: bool,
    actions: Vec<Action>,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("table", self.base.ident())
            .field("branch", &self.branch)
            .field("actions", &self.actions)
            .finish_non_exhaustive()
    }
}

impl Transaction {
    /// A transaction on `table`, whose snapshots are those that the actions were computed from.
    pub fn new(table: &Table) -> Self {
        Self {
            base: table.clone(),
            branch: MAIN_BRANCH.to_string(),
            isolation: Isolation::default(),
            start: Start::Table,
            summary: Vec::new(),
            idempotency_key: None,
            exact: false,
            actions: Vec::new(),
        }
    }

    /// Adds the snapshots of later actions to this branch, which must exist and not be a tag, instead of `main`.
    pub fn on_branch(mut self, branch: impl Into<String>) -> Self {
        self.branch = branch.into();
        self
    }

    /// Sets which concurrent commits later actions tolerate. Default: [`Isolation::Serializable`].
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Says which snapshot of the branch the input of later actions was read from; `None` for a branch that had none. By
    /// default it is the branch's head as the transaction's table has it. What was committed after that snapshot is checked
    /// against the actions, so that none of it is lost to rows that were made without it.
    ///
    /// A snapshot that is no ancestor of the branch's head when the transaction is committed (it expired, was rolled back, or
    /// is another branch's) is a [`Conflict`](crate::ErrorKind::Conflict), for actions of every kind.
    pub fn based_on(mut self, snapshot_id: impl Into<Option<i64>>) -> Self {
        self.start = Start::Snapshot(snapshot_id.into());
        self
    }

    /// Adds a property to the snapshots' summaries.
    pub fn summary(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.summary.push((key.into(), value.into()));
        self
    }

    /// Names what is being committed (a batch's id), so that committing it again does nothing: a key that any branch has
    /// to which the actions add snapshots counts as applied to all of them.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Says that all files which the actions add were made by this library's writer, with what their entries say of them: that
    /// whole bounds are values of the files, and that rows are in the sort order that a file names. Manifests keep that
    /// ([`LiveFile::exact`](crate::format::LiveFile::exact)), and queries take least and greatest values from bounds, and
    /// orders from files, where it is so. Of other files it may not be said, whoever's footers their bounds were taken from.
    pub fn exact_files(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Adds data files. Small manifests are merged on the way (`commit.manifest.*`).
    pub fn append(self, files: Vec<ContentFile>) -> Self {
        self.on_rows(Append { files, merge: true })
    }

    /// Adds data files in a manifest of their own, merging nothing: the cheapest commit.
    pub fn fast_append(self, files: Vec<ContentFile>) -> Self {
        self.on_rows(Append { files, merge: false })
    }

    /// Replaces data files by others.
    pub fn overwrite(self, overwrite: Overwrite) -> Self {
        self.on_rows(overwrite)
    }

    /// Takes data files out of the table, by location.
    pub fn delete_files(self, paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.on_rows(DeleteFiles { paths: paths.into_iter().map(Into::into).collect() })
    }

    /// Replaces data files by others that hold the same rows.
    pub fn rewrite_files(self, rewrite: Rewrite) -> Self {
        self.on_rows(rewrite)
    }

    /// Deletes rows by delete files and adds others, without rewriting the data files that hold the deleted
    /// ones.
    pub fn row_delta(self, delta: RowDelta) -> Self {
        self.on_rows(delta)
    }

    /// Takes out delete files that apply to no data file of the branch any more. Which these are is found anew at every try,
    /// from all manifests of the branch.
    pub fn remove_dangling_deletes(self) -> Self {
        self.on_rows(RemoveDanglingDeletes)
    }

    /// Removes snapshots and references. `plan` is asked again, with the metadata of the moment, at every try.
    pub fn expire_snapshots(
        self,
        plan: impl Fn(&TableMetadata) -> Result<Expiry> + Send + Sync + 'static,
    ) -> Self {
        self.on_metadata(ExpireSnapshots(Arc::new(plan)))
    }

    /// Creates or moves a branch or tag.
    pub fn set_ref(self, name: impl Into<String>, reference: SnapshotReference) -> Self {
        self.on_metadata(SetRef(name.into(), reference))
    }

    /// Creates a branch or tag. A branch knows the idempotency keys of the history that it is made from, of expired snapshots
    /// too. One of the name that is there when the transaction is committed is
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists).
    pub fn create_ref(self, name: impl Into<String>, reference: SnapshotReference) -> Self {
        self.on_metadata(CreateRef(name.into(), reference))
    }

    /// Drops a branch or tag. `main` can't be dropped.
    pub fn remove_ref(self, name: impl Into<String>) -> Self {
        self.on_metadata(RemoveRef(name.into()))
    }

    /// Makes an earlier snapshot of the branch its head again. Only ancestors of the head qualify.
    pub fn rollback_to(self, snapshot_id: i64) -> Self {
        let branch = self.branch.clone();
        self.on_metadata(Rollback { branch, snapshot_id })
    }

    /// Makes a descendant of the branch's head its head: what another branch has on top of it. The branch is created where it is
    /// absent.
    pub fn fast_forward_to(self, snapshot_id: i64) -> Self {
        let branch = self.branch.clone();
        self.on_metadata(FastForward { branch, snapshot_id })
    }

    /// Changes schema, partition spec, sort order, properties, ...: `change` is asked again, with the metadata of the
    /// moment, at every try.
    pub fn change(
        self,
        change: impl Fn(&TableMetadata) -> Result<MetadataChange> + Send + Sync + 'static,
    ) -> Self {
        self.on_metadata(ChangeMetadata(Arc::new(change)))
    }

    /// The branches that get snapshots; without any, the one that later actions would write.
    fn branches(&self) -> impl Iterator<Item = &str> {
        let written = self.actions.iter().filter_map(|action| match action {
            Action::Snapshot { branch, .. } => Some(branch.as_str()),
            Action::Metadata(_) => None,
        });
        let mut written = written.peekable();
        let none = written.peek().is_none();
        written.chain(none.then_some(self.branch.as_str()))
    }

    /// True if there may be much to read before the effect of the transaction is known.
    fn is_long(&self) -> bool {
        let is_long = |action: &Action| matches!(action, Action::Snapshot { action, .. } if action.is_long());
        self.actions.iter().any(is_long)
    }

    /// True if the transaction is done where another's did the same.
    fn may_be_anothers(&self) -> bool {
        let is_own =
            |action: &Action| matches!(action, Action::Metadata(action) if !action.may_be_anothers());
        !self.actions.iter().any(is_own)
    }

    fn on_rows(mut self, action: impl SnapshotAction + 'static) -> Self {
        let (branch, isolation, start) = (self.branch.clone(), self.isolation, self.start);
        self.actions.push(Action::Snapshot { branch, isolation, start, action: Arc::new(action) });
        self
    }

    fn on_metadata(mut self, action: impl MetadataAction + 'static) -> Self {
        self.actions.push(Action::Metadata(Arc::new(action)));
        self
    }
}

#[cfg(test)]
mod tests;

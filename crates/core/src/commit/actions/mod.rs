//! Actions: what a transaction does to its table, a file each.
//!
//! An action is data. It does not know the table that it will be applied to: at every try of the commit it is asked for its
//! effect on the table as it is then. There are two kinds:
//! - a [`SnapshotAction`] adds a snapshot to a branch. Its [`Effect`] names the files added and removed, what it read (the
//!   [`Footprint`] by which it is validated) and the partition specs that it requires;
//! - a [`MetadataAction`] changes metadata alone. Its [`MetadataEffect`] has updates, and what they require of the table.
//!
//! A new action is a new file here and a method of [`Transaction`](super::Transaction): nothing else matches on actions.

mod append;
mod dangling;
mod delete_files;
mod expire;
mod metadata;
mod overwrite;
mod refs;
mod rewrite;
mod row_delta;

use std::fmt;
use std::sync::Arc;

use iceberg::spec::{Operation, TableMetadata};
use iceberg::{TableRequirement, TableUpdate};

use super::removal::{DeleteRemoval, Removal};
use super::validate::{Footprint, Isolation};
use crate::error::Result;
use crate::format::ContentFile;
use crate::table::Table;

pub use expire::Expiry;
pub use overwrite::{DeleteBy, Overwrite};
pub use rewrite::Rewrite;
pub use row_delta::RowDelta;

pub(super) use append::Append;
pub(super) use dangling::RemoveDanglingDeletes;
pub(super) use delete_files::DeleteFiles;
pub(super) use expire::ExpireSnapshots;
pub(super) use metadata::ChangeMetadata;
pub(super) use refs::{CreateRef, FastForward, RemoveRef, Rollback, SetRef};

/// Something that a caller works out anew at every try, from the metadata of the moment.
pub(super) type Replayed<T> = Arc<dyn Fn(&TableMetadata) -> Result<T> + Send + Sync>;

/// A step of a transaction.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// Adds a snapshot to a branch.
    Snapshot { branch: String, isolation: Isolation, start: Start, action: Arc<dyn SnapshotAction> },
    /// Changes metadata alone.
    Metadata(Arc<dyn MetadataAction>),
}

impl Action {
    /// True for a change of schema, properties and the like, which may mend what keeps other actions from being committed.
    pub(super) fn is_change(&self) -> bool {
        matches!(self, Self::Metadata(action) if action.is_change())
    }
}

/// The snapshot that an action was computed from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    /// The branch's head, as the transaction's table has it.
    Table,
    /// This one; `None` where the branch had none.
    Snapshot(Option<i64>),
    /// The one that an earlier action of the same transaction set the branch to.
    Set(i64),
}

/// The table that an action is applied to.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    /// Its metadata, as the actions before this one leave it.
    pub(super) metadata: &'a TableMetadata,
    /// The metadata that the transaction was computed from.
    pub(super) base: &'a TableMetadata,
    /// The concurrent commits that the action tolerates.
    pub(super) isolation: Isolation,
}

/// An action that adds a snapshot to a branch.
pub(super) trait SnapshotAction: fmt::Debug + Send + Sync {
    /// Works out the action's effect.
    fn effect(&self, moment: &Moment<'_>) -> Result<Effect>;

    /// True if there may be much to read before the effect is known. The commit then reads while others of this process commit.
    fn is_long(&self) -> bool {
        true
    }
}

/// The effect of an action that adds a snapshot.
pub(super) struct Effect {
    /// The snapshot's operation.
    pub(super) operation: Operation,
    /// The data files added.
    pub(super) add: Vec<ContentFile>,
    /// The delete files added.
    pub(super) add_deletes: Vec<ContentFile>,
    /// The data sequence number of the data files added, unless it is the snapshot's own.
    pub(super) sequence_number: Option<i64>,
    /// The files removed, of one kind.
    pub(super) remove: Removal,
    /// The delete files removed by name, and what keeps a data file from having two deletion vectors.
    pub(super) remove_deletes: DeleteRemoval,
    /// The rows that the action read and replaces. Without one nothing that others did since matters.
    pub(super) footprint: Option<Footprint>,
    /// The partition specs that the action names beside those of its files. Each must still be the spec of its id when the
    /// snapshot is published.
    pub(super) specs: Vec<i32>,
    /// True if small manifests are merged, and delete files dropped that are older than all data files.
    pub(super) merge: bool,
    /// True if the snapshot is added though no file comes or goes.
    pub(super) may_be_empty: bool,
    /// Properties of the snapshot's summary, beside the counts.
    pub(super) summary: Vec<(&'static str, String)>,
}

impl Effect {
    /// An effect without files, which merges manifests.
    fn new(operation: Operation) -> Self {
        Self {
            operation,
            add: Vec::new(),
            add_deletes: Vec::new(),
            sequence_number: None,
            remove: Removal::Nothing,
            remove_deletes: DeleteRemoval::default(),
            footprint: None,
            specs: Vec::new(),
            merge: true,
            may_be_empty: false,
            summary: Vec::new(),
        }
    }
}

/// An action that changes metadata alone.
pub(super) trait MetadataAction: fmt::Debug + Send + Sync {
    /// Works out the updates for `metadata`, as the actions before this one leave it. `current` is the table as the catalog has
    /// it.
    fn effect(&self, metadata: &TableMetadata, current: &Table) -> Result<MetadataEffect>;

    /// True if the effect, once it shows, counts as this transaction's whoever published it.
    fn may_be_anothers(&self) -> bool {
        true
    }

    /// As for [`Action::is_change`].
    fn is_change(&self) -> bool {
        false
    }
}

/// The effect of an action on metadata.
#[derive(Default)]
pub(super) struct MetadataEffect {
    /// The updates, in their order.
    pub(super) updates: Vec<TableUpdate>,
    /// Requirements on the table. What an earlier action of the transaction changes is not required.
    pub(super) requirements: Vec<TableRequirement>,
    /// The branches and tags that must be where they are.
    pub(super) refs: Vec<String>,
    /// True if the updates hold for this metadata alone: nothing may be committed in between.
    pub(super) of_whole_table: bool,
    /// The branch or tag that is set, and its snapshot: later actions of the transaction begin there.
    pub(super) sets: Option<(String, i64)>,
}

//! Actions as data: what a transaction will do, before it knows the table that it will do it to.

use std::fmt;
use std::sync::Arc;

use iceberg::spec::{SnapshotReference, Struct, TableMetadata};

use crate::error::Result;
use crate::evolve::MetadataChange;
use crate::filter::Filter;
use crate::format::{ContentFile, FileRef};

/// What concurrent commits an action tolerates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// The outcome is as if operations had run one after the other: rows that another commit added where this one read
    /// are a conflict.
    #[default]
    Serializable,
    /// What was read has not been changed or removed. Rows that others added meanwhile stay, unless they are in what is
    /// replaced by filter or by partition: they go with the rest of it.
    Snapshot,
}

/// Which data files an [`Overwrite`] replaces.
#[derive(Debug, Clone)]
pub enum DeleteBy {
    /// These.
    Files(Vec<FileRef>),
    /// All files of these partitions, each with the id of its spec. The partition of a spec without partitions is the whole
    /// table, files of other specs too.
    Partitions(Vec<(i32, Struct)>),
    /// All files whose rows match. A file of which only some rows match is an error.
    Filter(Filter),
}

/// Replaces data files by others.
#[derive(Debug, Clone)]
pub struct Overwrite {
    /// What goes.
    pub delete: DeleteBy,
    /// What comes.
    pub add: Vec<ContentFile>,
    /// The rows that the operation read to find its result. Under [`Isolation::Serializable`] a file added meanwhile that
    /// may match is a conflict.
    ///
    /// The other kinds than [`DeleteBy::Files`] have read what they delete; with this they have read these rows as well, of
    /// which then none may have been removed or deleted meanwhile.
    pub reads: Option<Filter>,
}

/// Replaces data files by others that hold the same rows.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// What goes.
    pub delete: Vec<FileRef>,
    /// What comes.
    pub add: Vec<ContentFile>,
    /// The data sequence number of the new files. With that of the snapshot that was read, equality deletes that are
    /// committed meanwhile still apply to them. Those that don't apply to the new files as they did to the old ones, since
    /// these move to another partition spec, are a conflict.
    pub sequence_number: Option<i64>,
}

/// What an expiry removes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expiry {
    /// Snapshots, by id.
    pub snapshots: Vec<i64>,
    /// Branches and tags, by name.
    pub refs: Vec<String>,
    /// Partition specs that nothing uses any more, by id.
    pub specs: Vec<i32>,
    /// Schemas that nothing uses any more, by id.
    pub schemas: Vec<i32>,
}

#[derive(Debug, Clone)]
pub(super) enum DataAction {
    Append { files: Vec<ContentFile>, merge: bool },
    Overwrite(Overwrite),
    Delete { paths: Vec<String> },
    Rewrite(Rewrite),
    RemoveDanglingDeletes,
}

impl DataAction {
    /// The files that come.
    pub(super) fn added(&self) -> &[ContentFile] {
        match self {
            Self::Append { files, .. } => files,
            Self::Overwrite(overwrite) => &overwrite.add,
            Self::Rewrite(rewrite) => &rewrite.add,
            Self::Delete { .. } | Self::RemoveDanglingDeletes => &[],
        }
    }

    /// The partition specs of files that come, and of partitions that are replaced.
    pub(super) fn specs(&self) -> impl Iterator<Item = i32> {
        let replaced = match self {
            Self::Overwrite(Overwrite { delete: DeleteBy::Partitions(partitions), .. }) => &partitions[..],
            _ => &[],
        };
        self.added().iter().map(|file| file.spec_id).chain(replaced.iter().map(|(spec_id, _)| *spec_id))
    }

    /// Whether it may have much to read before it is known what it comes to.
    pub(super) fn is_long(&self) -> bool {
        !matches!(self, Self::Append { .. })
    }
}

/// The snapshot that an action was computed from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    /// The branch's head, as the transaction's table has it.
    Table,
    /// This one; `None` where the branch had none.
    Snapshot(Option<i64>),
    /// The one that an action before, of the same transaction, set the branch to.
    Set(i64),
}

pub(super) type Replayed<T> = Arc<dyn Fn(&TableMetadata) -> Result<T> + Send + Sync>;

#[derive(Clone)]
pub(super) enum Action {
    Data {
        branch: String,
        isolation: Isolation,
        start: Start,
        action: DataAction,
    },
    Expire(Replayed<Expiry>),
    /// Sets a branch or tag that need not exist.
    SetRef(Replayed<(String, SnapshotReference)>),
    /// Makes a branch or tag that must not exist.
    CreateRef(String, SnapshotReference),
    RemoveRef(String),
    Change(Replayed<MetadataChange>),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { branch, isolation, start, action } => f
                .debug_struct("Data")
                .field("branch", branch)
                .field("isolation", isolation)
                .field("start", start)
                .field("action", action)
                .finish(),
            Self::Expire(_) => f.write_str("Expire"),
            Self::SetRef(_) => f.write_str("SetRef"),
            Self::CreateRef(name, _) => f.debug_tuple("CreateRef").field(name).finish(),
            Self::RemoveRef(name) => f.debug_tuple("RemoveRef").field(name).finish(),
            Self::Change(_) => f.write_str("Change"),
        }
    }
}

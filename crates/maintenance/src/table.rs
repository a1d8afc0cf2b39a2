//! [`TableMaintenance`]: maintenance as methods of a table.

use icefield_engine::Table;

use crate::{
    Compact, ExpireSnapshots, Purge, RemoveOrphanFiles, Upkeep, compact, expire_snapshots, purge_table,
    remove_orphan_files, upkeep,
};

/// Maintenance of a table, by the table.
pub trait TableMaintenance {
    /// Rewrites small files, and too large ones, to files of the target size. See [`Compact`].
    fn compact(&self) -> Compact;

    /// Removes old snapshots, and the files that only they held. See [`ExpireSnapshots`].
    fn expire_snapshots(&self) -> ExpireSnapshots;

    /// Deletes unreferenced files in the table's folders. See [`RemoveOrphanFiles`].
    fn remove_orphan_files(&self) -> RemoveOrphanFiles;

    /// Drops the table with all its files. See [`Purge`].
    fn purge(&self) -> Purge;

    /// Compacts and expires after small writes, when that is due. See [`Upkeep`].
    fn upkeep(&self) -> Upkeep;
}

impl TableMaintenance for Table {
    fn compact(&self) -> Compact {
        compact(self)
    }

    fn expire_snapshots(&self) -> ExpireSnapshots {
        expire_snapshots(self)
    }

    fn remove_orphan_files(&self) -> RemoveOrphanFiles {
        remove_orphan_files(self)
    }

    fn purge(&self) -> Purge {
        purge_table(self)
    }

    fn upkeep(&self) -> Upkeep {
        upkeep(self)
    }
}

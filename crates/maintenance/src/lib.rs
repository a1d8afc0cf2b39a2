//! Maintenance of Iceberg tables: compaction, snapshot expiry, orphan files, purging.
//!
//! Each operation is a builder that runs when it is awaited and gives a report back:
//!
//! - [`compact`] rewrites small files, and too large ones, to files of the target size;
//! - [`expire_snapshots`] removes old snapshots and deletes the files that only they held;
//! - [`remove_orphan_files`] deletes files in a table's folders that nothing names;
//! - [`purge_table`] takes a table out of its catalog and deletes all that it names;
//! - [`upkeep`] compacts and expires after small writes, when that is due.
//!
//! [`TableMaintenance`] has them as methods of a table. Options, defaults and rules are Iceberg's own. This crate is the only one that deletes published files, and each module
//! says what it may delete and why that is safe.

mod common;
mod compact;
mod expire;
mod identity;
mod orphans;
mod ownership;
mod paths;
mod purge;
mod reach;
mod table;
mod upkeep;

pub use common::{
    DeleteFailure, FileCount, FileCounts, GIB, KIB, MIB, Phase, Progress, days, hours, minutes,
};
pub use compact::{
    Compact, CompactionPlan, CompactionReport, FileGroup, GroupFailure, JobOrder, Reason, Strategy, compact,
};
pub use expire::{ExpireReport, ExpireSnapshots, expire_snapshots};
pub use orphans::{
    KeptFile, KeptReason, OrphanFile, OrphanReport, PrefixMismatch, RemoveOrphanFiles, remove_orphan_files,
};
pub use purge::{Purge, PurgeReport, UnreadableFile, iceberg_catalog, purge_table};
pub use reach::FileKind;
pub use table::TableMaintenance;
pub use upkeep::{Upkeep, UpkeepReport, upkeep};

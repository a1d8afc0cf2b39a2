//! Upkeep: what keeps a table small that is written to in small batches, in one call after each of them.
//!
//! The call is cheap as long as nothing is due: it looks at the metadata that the write gave back and makes no request. Then it
//! compacts, or expires, or both, by the rules of these: what may be deleted, and why that is safe, is theirs.

use std::fmt;
use std::future::IntoFuture;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use iceberg::spec::FormatVersion;
use icefield_core::Result;
use icefield_engine::Table;
use serde::Serialize;

use crate::common::hours;
use crate::compact::{CompactionReport, compact};
use crate::expire::{ExpireReport, ExpireSnapshots, expire_snapshots};

/// Keeps a table small that is written to in small batches. See [`Upkeep`].
pub fn upkeep(table: &Table) -> Upkeep {
    Upkeep {
        table: table.clone(),
        compact_after: 100,
        expire_after: 100,
        older_than: hours(1),
        retain_last: 100,
        check_other_tables: true,
    }
}

/// An upkeep, to be awaited after each write with the table that the write gave back:
///
/// ```no_run
/// # async fn f(session: icefield_engine::Session, batch: arrow::array::RecordBatch) -> icefield_core::Result<()> {
/// use icefield_engine::ops::DataFrameExt;
/// use icefield_maintenance::upkeep;
///
/// let written = session.read_batches([batch])?.append_to(&session, "events.clicks").create_with(|new| new).await?;
/// if let Err(error) = upkeep(&written.table).await {
///     eprintln!("the rows are written; upkeep is tried again after the next ones: {error}");
/// }
/// # Ok(())
/// # }
/// ```
///
/// A table's metadata file lists all its snapshots and is written anew by every commit: without expiry, commits become dearer
/// with each one. What is kept here is bounded by the rate of writes: `retain_last` and `expire_after` snapshots, and those of
/// the last `older_than`. One process should do it for a table; several do no harm, but each other's work.
///
/// # Errors
/// As [`compact`] and [`expire_snapshots`]. The write before it is done whatever happens here.
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct Upkeep {
    table: Table,
    compact_after: usize,
    expire_after: usize,
    older_than: Duration,
    retain_last: usize,
    check_other_tables: bool,
}

/// What an upkeep did.
#[derive(Debug, Default, Serialize)]
#[non_exhaustive]
pub struct UpkeepReport {
    /// The compaction, where it was due.
    pub compacted: Option<CompactionReport>,
    /// The expiry, where it was due.
    pub expired: Option<ExpireReport>,
}

impl fmt::Display for UpkeepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.compacted, &self.expired) {
            (None, None) => f.write_str("nothing was due"),
            (Some(compacted), None) => compacted.fmt(f),
            (None, Some(expired)) => expired.fmt(f),
            (Some(compacted), Some(expired)) => write!(f, "{compacted}\n{expired}"),
        }
    }
}

impl Upkeep {
    /// Compacts after each so many commits to the table. 0: never. Default: 100.
    pub fn compact_after(mut self, snapshots: usize) -> Self {
        self.compact_after = snapshots;
        self
    }

    /// Expires when so many snapshots may go: the fewer, the smaller the metadata, and the more often all manifests are read.
    /// 0: never. Default: 100.
    pub fn expire_after(mut self, snapshots: usize) -> Self {
        self.expire_after = snapshots;
        self
    }

    /// Keeps the snapshots that are younger: as long as queries run that began with them, and as far as time travel is to go
    /// back. Default: an hour.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = age;
        self
    }

    /// Keeps at least so many of each branch's newest snapshots. Default: 100.
    pub fn retain_last(mut self, snapshots: usize) -> Self {
        self.retain_last = snapshots;
        self
    }

    /// Keeps files that other tables of the catalog name: each expiry loads all of them, whose metadata is cached while there is
    /// room. Turn it off where thousands of tables are in the catalog and each is known to have a folder of its own. Default: on.
    pub fn check_other_tables(mut self, check: bool) -> Self {
        self.check_other_tables = check;
        self
    }

    fn expiry(&self, table: &Table) -> ExpireSnapshots {
        expire_snapshots(table)
            .older_than(self.older_than)
            .retain_last(self.retain_last)
            .check_other_tables(self.check_other_tables)
    }

    /// Whether it is the turn of the write that gave the table: of several writers only one sees that number.
    fn must_compact(&self) -> bool {
        let (table, metadata) = (self.table.core(), self.table.core().metadata());
        let number = match metadata.current_snapshot() {
            None => 0,
            // Version 1 numbers nothing.
            Some(_) if metadata.format_version() == FormatVersion::V1 => table.history().len() as i64,
            Some(head) => head.sequence_number(),
        };
        self.compact_after > 0 && number > 0 && number % self.compact_after as i64 == 0
    }

    async fn run(self) -> Result<UpkeepReport> {
        let mut report = UpkeepReport::default();
        let mut table = self.table.clone();
        if self.must_compact() {
            report.compacted = Some(compact(&table).await?);
            table = table.refresh().await?;
        }
        if self.expire_after > 0 && self.expiry(&table).may_go(table.core())? >= self.expire_after {
            report.expired = Some(self.expiry(&table).await?);
        }
        Ok(report)
    }
}

impl IntoFuture for Upkeep {
    type Output = Result<UpkeepReport>;
    type IntoFuture = BoxFuture<'static, Result<UpkeepReport>>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

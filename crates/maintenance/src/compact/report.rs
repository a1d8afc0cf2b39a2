//! What a compaction did.

use std::fmt;
use std::time::Duration;

use icefield_core::{Error, serialize_seconds};
use serde::Serialize;

use crate::common::{Bytes, FileCount, SHOWN};

/// What a compaction rewrote.
#[derive(Debug, Default, Serialize)]
#[non_exhaustive]
pub struct CompactionReport {
    /// The groups that were rewritten and committed.
    pub groups: u64,
    /// The files that went.
    pub input: FileCount,
    /// The files that came.
    pub output: FileCount,
    /// The rows that they hold.
    pub rows: u64,
    /// The delete files that were taken out because they applied to nothing any more.
    pub dangling_deletes: u64,
    /// The snapshots that were made, oldest first.
    pub snapshot_ids: Vec<i64>,
    /// With partial progress: the groups that were not rewritten, and why.
    pub failures: Vec<GroupFailure>,
    /// How many times commits were tried, in all.
    pub attempts: u32,
    /// Time spent choosing files.
    #[serde(serialize_with = "serialize_seconds")]
    pub planning: Duration,
    /// Time spent rewriting and, with partial progress, committing in between.
    #[serde(serialize_with = "serialize_seconds")]
    pub rewriting: Duration,
    /// Time spent committing.
    #[serde(serialize_with = "serialize_seconds")]
    pub committing: Duration,
}

/// A group that was not rewritten. What it had written was deleted, unless it is not known whether it was committed.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct GroupFailure {
    /// The group's partition, as in the plan.
    pub partition: String,
    /// Its files.
    pub files: u64,
    /// Why.
    pub error: Error,
}

impl fmt::Display for CompactionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rewrote {} files ({}) into {} ({}), {} rows, in {} groups and {} commits",
            self.input.files,
            Bytes(self.input.bytes),
            self.output.files,
            Bytes(self.output.bytes),
            self.rows,
            self.groups,
            self.snapshot_ids.len()
        )?;
        if self.dangling_deletes > 0 {
            write!(f, "; {} dangling delete files taken out", self.dangling_deletes)?;
        }
        if !self.failures.is_empty() {
            write!(f, "; {} groups failed", self.failures.len())?;
            for failure in self.failures.iter().take(SHOWN) {
                write!(f, "\n  {}: {}", failure.partition, failure.error)?;
            }
        }
        Ok(())
    }
}

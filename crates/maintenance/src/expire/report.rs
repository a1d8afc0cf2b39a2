//! What an expiry did.

use std::fmt;
use std::time::Duration;

use icefield_core::commit::Expiry;
use icefield_core::text::Plain;
use icefield_core::{Error, serialize_seconds};
use serde::Serialize;

use crate::common::{DeleteFailure, FileCounts, SHOWN, total};

/// What an expiry removed, or would remove.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct ExpireReport {
    /// Whether nothing was removed and this is what would be.
    pub dry_run: bool,
    /// The snapshots that went, by id, ascending.
    pub snapshots: Vec<i64>,
    /// The branches and tags that went, by name.
    pub refs: Vec<String>,
    /// The partition specs that went, by id.
    pub specs: Vec<i32>,
    /// The schemas that went, by id.
    pub schemas: Vec<i32>,
    /// The files that were deleted, by kind.
    pub files: FileCounts,
    /// Expired files that lie elsewhere than below the table's location, or in another table's folder, by kind: they stay.
    pub outside: FileCounts,
    /// The files that could not be deleted. They are unreachable; orphan removal finds them.
    pub failures: Vec<DeleteFailure>,
    /// Why no file was deleted although the snapshots are expired: what the table still needs could not be read again
    /// after the commit. The files are unreachable; orphan removal finds them.
    pub cleanup_error: Option<Error>,
    /// How many times the commit was tried; 0 when there was nothing to commit.
    pub attempts: u32,
    /// Time spent finding out what goes.
    #[serde(serialize_with = "serialize_seconds")]
    pub planning: Duration,
    /// Time spent committing.
    #[serde(serialize_with = "serialize_seconds")]
    pub committing: Duration,
    /// Time spent deleting files.
    #[serde(serialize_with = "serialize_seconds")]
    pub deleting: Duration,
}

impl ExpireReport {
    pub(super) fn new(dry_run: bool) -> Self {
        Self {
            dry_run,
            snapshots: Vec::new(),
            refs: Vec::new(),
            specs: Vec::new(),
            schemas: Vec::new(),
            files: FileCounts::new(),
            outside: FileCounts::new(),
            failures: Vec::new(),
            cleanup_error: None,
            attempts: 0,
            planning: Duration::ZERO,
            committing: Duration::ZERO,
            deleting: Duration::ZERO,
        }
    }

    pub(super) fn took(&mut self, expiry: Expiry) {
        let Expiry { snapshots, refs, specs, schemas } = expiry;
        (self.snapshots, self.refs, self.specs, self.schemas) = (snapshots, refs, specs, schemas);
    }

    /// The number of files that were deleted.
    pub fn deleted_files(&self) -> u64 {
        total(&self.files).files
    }

    /// The bytes of the files that were deleted, without those whose size is not known ([`FileCount::unknown_sizes`](crate::FileCount::unknown_sizes)).
    pub fn deleted_bytes(&self) -> u64 {
        total(&self.files).bytes
    }
}

impl fmt::Display for ExpireReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.dry_run { "would expire" } else { "expired" };
        write!(f, "{verb} {} snapshots", self.snapshots.len())?;
        if !self.refs.is_empty() {
            write!(f, ", dropped {}", Plain(&self.refs.join(", ")))?;
        }
        if !self.specs.is_empty() || !self.schemas.is_empty() {
            write!(f, ", dropped {} partition specs and {} schemas", self.specs.len(), self.schemas.len())?;
        }
        let all = total(&self.files);
        let verb = if self.dry_run { "would delete" } else { "deleted" };
        write!(f, "; {verb} {} files", all.files)?;
        if all.files > 0 {
            write!(f, " ({})", all.size())?;
        }
        for (i, (kind, count)) in self.files.iter().enumerate() {
            write!(f, "{}{} {kind}", if i == 0 { ": " } else { ", " }, count.files)?;
        }
        if !self.outside.is_empty() {
            write!(f, "; {} files outside of the table's folder stay", total(&self.outside).files)?;
        }
        if let Some(error) = &self.cleanup_error {
            write!(f, "; files were left in place: {error}")?;
        }
        if !self.failures.is_empty() {
            write!(f, "; {} files could not be deleted", self.failures.len())?;
            for failure in self.failures.iter().take(SHOWN) {
                write!(f, "\n  {}: {}", Plain(&failure.location), failure.error)?;
            }
        }
        Ok(())
    }
}

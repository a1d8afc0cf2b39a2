//! What the operations share: the table that they work on, ages, progress, and the parts of their reports.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use icefield_core::catalog::Catalog;
use icefield_core::config::Properties;
use icefield_core::storage::Storage;
use icefield_core::{Clock, Error, Result, Table};
use serde::Serialize;

use crate::reach::FileKind;

/// Files that are deleted at once unless the caller says otherwise.
pub(crate) const DELETE_CONCURRENCY: usize = 16;

/// How many failures are written out in an error message or a report's text.
pub(crate) const SHOWN: usize = 5;

/// A table and the catalog that has it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) table: Table,
    pub(crate) catalog: Arc<dyn Catalog>,
}

impl Target {
    pub(crate) fn now_ms(&self) -> i64 {
        self.catalog.clock().now_ms()
    }

    pub(crate) fn storage(&self) -> &Storage {
        self.table.storage()
    }

    /// The table as it is now.
    pub(crate) async fn reload(&self) -> Result<Table> {
        // Whatever table has this name in the catalog, it is not the one that was opened from a file.
        self.table.require_catalog()?;
        self.catalog.load_table(self.table.ident()).await
    }
}

/// Refuses to delete files of a table whose owner forbids it: other tables may share its files.
pub(crate) fn require_gc(metadata: &iceberg::spec::TableMetadata, operation: &str) -> Result<()> {
    if Properties::new(metadata.properties()).flag("gc.enabled", true)? {
        return Ok(());
    }
    Err(Error::invalid_input(
        "the table has gc.enabled=false: its files may belong to other tables too; set the property to true only if none uses them",
    )
    .with("operation", operation))
}

/// A point in time as callers give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// So long ago.
    Ago(Duration),
    /// At this time, in milliseconds since the epoch.
    At(i64),
}

impl Age {
    pub(crate) fn cutoff_ms(self, now_ms: i64) -> i64 {
        match self {
            Self::Ago(age) => now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
            Self::At(ms) => ms,
        }
    }
}

/// How far a long operation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Files, or for [`Phase::Rewriting`] rows, that are done.
    pub done: u64,
    /// How many there are, where that is known.
    pub total: Option<u64>,
}

/// What a long operation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Listing files of a store.
    Listing,
    /// Reading metadata to find out what to do.
    Planning,
    /// Writing new files; counted in rows.
    Rewriting,
    /// Committing.
    Committing,
    /// Deleting files.
    Deleting,
}

pub(crate) type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

pub(crate) fn tell(callback: &Option<OnProgress>, phase: Phase, done: u64, total: Option<u64>) {
    if let Some(callback) = callback {
        callback(Progress { phase, done, total });
    }
}

pub(crate) fn elapsed(clock: &dyn Clock, since_ms: i64) -> Duration {
    Duration::from_millis(clock.now_ms().saturating_sub(since_ms).max(0) as u64)
}

/// A number of files and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct FileCount {
    /// Files.
    pub files: u64,
    /// Bytes of the files whose size is known.
    pub bytes: u64,
    /// Files whose size is not known: no metadata tells that of manifest lists and metadata files.
    pub unknown_sizes: u64,
}

/// Sizes or counts together. Metadata may claim any: more than there can be is as much as there can be.
pub(crate) fn sum(of: impl IntoIterator<Item = u64>) -> u64 {
    of.into_iter().fold(0, u64::saturating_add)
}

impl FileCount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.add_if_known(Some(bytes));
    }

    pub(crate) fn add_if_known(&mut self, bytes: Option<u64>) {
        self.files += 1;
        match bytes {
            Some(bytes) => self.bytes = self.bytes.saturating_add(bytes),
            None => self.unknown_sizes += 1,
        }
    }

    fn add_all(&mut self, other: &Self) {
        self.files += other.files;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.unknown_sizes += other.unknown_sizes;
    }

    /// The size in words, without a number where none is known.
    pub(crate) fn size(&self) -> String {
        match self.unknown_sizes {
            0 => Bytes(self.bytes).to_string(),
            unknown if unknown == self.files => "size unknown".to_string(),
            unknown => format!("{} and {unknown} of unknown size", Bytes(self.bytes)),
        }
    }
}

/// Files by kind.
pub type FileCounts = BTreeMap<FileKind, FileCount>;

pub(crate) fn total(counts: &FileCounts) -> FileCount {
    let mut total = FileCount::default();
    counts.values().for_each(|count| total.add_all(count));
    total
}

/// A file that could not be deleted. It stays where it is and does no harm; orphan removal finds it later.
#[derive(Debug, Serialize)]
pub struct DeleteFailure {
    /// The file's location.
    pub location: String,
    /// Why.
    pub error: Error,
}

/// Locations that are held at once while files are deleted.
const DELETED_TOGETHER: usize = 4096;

/// Deletes files, in order as far as several are deleted at once, and tells which could not be deleted.
pub(crate) async fn delete_files(
    storage: &Storage,
    mut locations: impl ExactSizeIterator<Item = String> + Send,
    concurrency: usize,
    progress: &Option<OnProgress>,
    mut deleted: impl FnMut(&str) + Send,
) -> Vec<DeleteFailure> {
    let total = Some(locations.len() as u64);
    let mut failures = Vec::new();
    let mut done = 0;
    loop {
        let some: Vec<String> = locations.by_ref().take(DELETED_TOGETHER).collect();
        if some.is_empty() {
            return failures;
        }
        let mut outcomes = storage.delete_all(some, concurrency);
        while let Some((location, outcome)) = outcomes.next().await {
            done += 1;
            match outcome {
                Ok(()) => deleted(&location),
                Err(error) => {
                    tracing::warn!(file = %location, %error, "a file was not deleted");
                    failures.push(DeleteFailure { location, error });
                }
            }
            tell(progress, Phase::Deleting, done, total);
        }
    }
}

/// Bytes in the unit that suits them.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = "B";
        for next in ["KiB", "MiB", "GiB", "TiB"] {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        if unit == "B" { write!(f, "{} B", self.0) } else { write!(f, "{value:.1} {unit}") }
    }
}

/// Minutes as a duration.
pub fn minutes(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(60))
}

/// Hours as a duration.
pub fn hours(n: u64) -> Duration {
    minutes(n.saturating_mul(60))
}

/// Days of 24 hours as a duration.
pub fn days(n: u64) -> Duration {
    hours(n.saturating_mul(24))
}

/// 1024 bytes.
pub const KIB: u64 = 1 << 10;
/// 1024 KiB, in bytes.
pub const MIB: u64 = 1 << 20;
/// 1024 MiB, in bytes.
pub const GIB: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_nobody_knows_are_not_called_zero() {
        let count = |known: &[u64], unknown| {
            let mut count = FileCount::default();
            known.iter().for_each(|bytes| count.add(*bytes));
            (0..unknown).for_each(|_| count.add_if_known(None));
            count.size()
        };
        assert_eq!(count(&[], 29), "size unknown");
        assert_eq!(count(&[1024, 512], 0), "1.5 KiB");
        assert_eq!(count(&[2], 3), "2 B and 3 of unknown size");
        assert_eq!(count(&[], 0), "0 B");
    }
}

//! [`ScanFile`]: a file that a scan reads, and what deletes do to it.

use std::sync::Arc;

use icefield_core::format::LiveFile;

use super::selection::RowChoice;

/// A file of a scan.
pub(super) struct ScanFile<'a> {
    pub(super) live: &'a LiveFile,
    /// Which of the files it is that the scan's facts are of.
    pub(super) place: usize,
    pub(super) deletes: FileDeletes,
}

impl<'a> ScanFile<'a> {
    /// A file of which nothing is known and nothing is deleted.
    pub(super) fn whole(live: &'a LiveFile) -> Self {
        Self { live, place: 0, deletes: FileDeletes::default() }
    }
}

/// What deletes do to a part of a data file.
#[derive(Debug, Clone, Default)]
pub(super) struct FileDeletes {
    /// Rows chosen by their position.
    pub(super) rows: Option<Arc<dyn RowChoice>>,
    /// What the scan's equality deletes know the file's by.
    pub(super) class: Option<i32>,
    /// How many rows are deleted, where metadata tells.
    pub(super) count: Option<u64>,
}

impl FileDeletes {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_none() && self.class.is_none()
    }

    /// How many rows of a file of `rows` are left, where metadata tells.
    pub(super) fn rows_left(&self, rows: u64) -> Option<u64> {
        if self.is_empty() { Some(rows) } else { self.count.and_then(|deleted| rows.checked_sub(deleted)) }
    }
}

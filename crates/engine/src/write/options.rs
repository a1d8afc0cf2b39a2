//! [`WriteOptions`]: how one write's data files are made; [`WriteProgress`]: how far it is.

use std::fmt;
use std::sync::Arc;

use icefield_core::{Clock, SystemClock};

/// What a write has done so far, all its writers together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteProgress {
    /// Rows encoded.
    pub rows: u64,
    /// Files closed.
    pub files: u64,
    /// Bytes of the files closed.
    pub bytes: u64,
}

/// Told of progress, from the writers' tasks: it must not block.
pub type Progress = Arc<dyn Fn(&WriteProgress) + Send + Sync>;

/// How data files are written, beyond what the table's properties say.
#[derive(Clone)]
pub struct WriteOptions {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) progress: Option<Progress>,
    pub(super) max_open_files: usize,
    pub(super) target_file_size: Option<u64>,
    pub(super) spec_id: Option<i32>,
    pub(super) writer_per_stream: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            clock: SystemClock::shared(),
            progress: None,
            max_open_files: 100,
            target_file_size: None,
            spec_id: None,
            writer_per_stream: false,
        }
    }
}

impl fmt::Debug for WriteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteOptions")
            .field("max_open_files", &self.max_open_files)
            .field("target_file_size", &self.target_file_size)
            .field("spec_id", &self.spec_id)
            .field("writer_per_stream", &self.writer_per_stream)
            .finish_non_exhaustive()
    }
}

impl WriteOptions {
    /// What the table's properties say.
    pub fn new() -> Self {
        Self::default()
    }

    /// The source of the ids in file names.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Told of progress, from the writers' tasks: it must not block.
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// How many files each writer keeps open (100). With more partitions than that, the input is sorted by partition.
    pub fn max_open_files(mut self, files: usize) -> Self {
        self.max_open_files = files.max(1);
        self
    }

    /// The size in bytes at which a file is closed, instead of `write.target-file-size-bytes`.
    pub fn target_file_size(mut self, bytes: u64) -> Self {
        self.target_file_size = Some(bytes.max(1));
        self
    }

    /// The partition spec of the files, instead of the table's default.
    pub fn spec_id(mut self, id: i32) -> Self {
        self.spec_id = Some(id);
        self
    }

    /// Whether the input's streams are of even sizes, each meant for files of its own, as those of a compaction (false). Each
    /// has a writer from the start then, and under the distribution mode `hash` one writer fills file after file of a
    /// partition. Without, writers are added while there is a file's worth of rows for them, to partitions of more than one
    /// file too.
    pub fn writer_per_stream(mut self, each: bool) -> Self {
        self.writer_per_stream = each;
        self
    }
}

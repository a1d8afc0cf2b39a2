//! Which files a compaction rewrites together: pure rules over sizes, partitions and deletes, those of Iceberg Java's
//! bin-pack planner.
//!
//! A file is a **candidate** when its size is out of range or its deletes pass a threshold. Candidates of one partition
//! are packed, in the order in which they come, into **groups** of bounded size. A group is **kept** when rewriting it
//! gains something: it has enough files, or enough content for a file of the target size, or a file that is too large, or
//! one with too many deletes. Files of an older partition spec go into groups of their own, as if unpartitioned: what
//! they hold may belong to many partitions of the current spec.

use std::collections::HashMap;
use std::fmt;

use iceberg::spec::Struct;
use icefield_core::deletes::{DeleteIndex, only_path};
use icefield_core::format::LiveFile;
use icefield_core::{Error, Result, Table};

use crate::common::{Bytes, FileCount, GIB, sum};

/// The order in which groups are rewritten and, with partial progress, committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JobOrder {
    /// As they come.
    #[default]
    None,
    /// The smallest first, by bytes.
    BytesAsc,
    /// The largest first, by bytes.
    BytesDesc,
    /// Those of the fewest files first.
    FilesAsc,
    /// Those of the most files first.
    FilesDesc,
}

/// Sizes and thresholds. All sizes in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limits {
    pub(crate) target: u64,
    /// Smaller files are candidates. Unset: three quarters of the target.
    pub(crate) min: Option<u64>,
    /// Larger files are candidates. Unset: 1.8 times the target.
    pub(crate) max: Option<u64>,
    pub(crate) min_input_files: usize,
    pub(crate) max_group_size: u64,
    pub(crate) delete_file_threshold: Option<u64>,
    pub(crate) delete_ratio_threshold: f64,
    pub(crate) rewrite_all: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            target: 512 << 20,
            min: None,
            max: None,
            min_input_files: 5,
            max_group_size: 100 * GIB,
            delete_file_threshold: None,
            delete_ratio_threshold: 0.3,
            rewrite_all: false,
        }
    }
}

impl Limits {
    pub(crate) fn min_size(&self) -> u64 {
        self.min.unwrap_or(scaled(self.target, 0.75))
    }

    pub(crate) fn max_size(&self) -> u64 {
        self.max.unwrap_or(scaled(self.target, 1.8))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |message: &str| {
            Err(Error::invalid_input(message.to_string())
                .with("target", self.target)
                .with("min", self.min_size())
                .with("max", self.max_size()))
        };
        if self.target == 0 {
            return refuse("the target file size is more than 0 bytes");
        }
        if self.min_size() >= self.target || self.max_size() <= self.target {
            return refuse(
                "the target file size lies between the smallest and the largest that stay as they are",
            );
        }
        if self.min_input_files == 0 {
            return refuse("a group has at least 1 input file");
        }
        if self.max_group_size == 0 {
            return refuse("a group's largest size is more than 0 bytes");
        }
        if !(0.0..=1.0).contains(&self.delete_ratio_threshold) {
            return refuse("the ratio of deleted rows is between 0 and 1");
        }
        Ok(())
    }

    fn is_candidate(&self, input: &Input) -> bool {
        let size = input.bytes();
        self.rewrite_all || size < self.min_size() || size > self.max_size() || self.has_many_deletes(input)
    }

    fn has_many_deletes(&self, input: &Input) -> bool {
        let rows = input.file.file.record_count();
        let ratio = if rows == 0 { 0.0 } else { input.deleted_rows.min(rows) as f64 / rows as f64 };
        self.delete_file_threshold.is_some_and(|threshold| input.delete_files >= threshold)
            || (input.deleted_rows > 0 && ratio >= self.delete_ratio_threshold)
    }

    /// Why a group is worth rewriting, if it is.
    fn reason(&self, group: &[Input]) -> Option<Reason> {
        let bytes = sum(group.iter().map(Input::bytes));
        if self.rewrite_all {
            Some(Reason::All)
        } else if group.len() > 1 && group.len() >= self.min_input_files {
            Some(Reason::EnoughFiles)
        } else if group.len() > 1 && bytes > self.target {
            Some(Reason::EnoughContent)
        } else if bytes > self.max_size() {
            Some(Reason::TooLarge)
        } else if group.iter().any(|input| self.has_many_deletes(input)) {
            Some(Reason::Deletes)
        } else {
            None
        }
    }

    /// How many files a group of so many bytes should become: a remainder that would be too small a file is spread over
    /// the others, unless that makes them too large.
    pub(crate) fn output_files(&self, bytes: u64) -> u64 {
        let whole = bytes / self.target;
        if whole == 0 {
            return 1;
        }
        let remainder = bytes % self.target;
        if remainder == 0 {
            return whole;
        }
        let spread = bytes / whole;
        let largest = scaled(self.target, 1.1).min(self.largest_output());
        if remainder <= self.min_size() && spread < largest { whole } else { whole + 1 }
    }

    /// The size at which the writer of a group goes on to the next file. A little more than an even share, so that no
    /// small last file is left when the output is slightly larger than the input was.
    pub(crate) fn roll_at(&self, bytes: u64) -> u64 {
        let share = bytes.div_ceil(self.output_files(bytes)).max(1);
        scaled(share, 1.05).clamp(self.target.min(self.largest_output()), self.largest_output())
    }

    /// Half-way between the target and the size at which the next compaction would split the file again.
    fn largest_output(&self) -> u64 {
        self.target + (self.max_size() - self.target) / 2
    }
}

fn scaled(bytes: u64, factor: f64) -> u64 {
    (bytes as f64 * factor) as u64
}

/// A data file and the deletes that apply to it.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) file: LiveFile,
    pub(crate) delete_files: u64,
    /// Rows known to be deleted. Equality deletes, and positions in several files, don't tell and count as none.
    pub(crate) deleted_rows: u64,
}

impl Input {
    /// A file with the deletes that `index` knows of.
    pub(crate) fn new(file: LiveFile, index: &DeleteIndex<&LiveFile>) -> Self {
        let applied = index.of(&file);
        let of_one_file = applied.positions.iter().filter(|delete| only_path(&delete.file).is_some());
        let positions = sum(of_one_file.map(|delete| delete.file.record_count()));
        let vector = applied.vector.map_or(0, |vector| vector.file.record_count());
        let files = usize::from(applied.vector.is_some()) + applied.positions.len() + applied.equality.len();
        Self { delete_files: files as u64, deleted_rows: positions.saturating_add(vector), file }
    }

    fn bytes(&self) -> u64 {
        self.file.file.file_size_in_bytes()
    }
}

/// Why a group is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It has as many files as a group needs.
    EnoughFiles,
    /// Together its files make more than one file of the target size.
    EnoughContent,
    /// It has a file that is too large.
    TooLarge,
    /// It has a file with too many deletes.
    Deletes,
    /// All files are to be rewritten.
    All,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EnoughFiles => "enough files",
            Self::EnoughContent => "enough content",
            Self::TooLarge => "too large a file",
            Self::Deletes => "too many deletes",
            Self::All => "all files",
        })
    }
}

/// Files that are rewritten together.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FileGroup {
    /// The partition spec that the files are of, absent for files of several older specs.
    pub spec_id: Option<i32>,
    /// The partition that all of them are in, as `name=value` pairs with slashes between; empty for unpartitioned tables
    /// and for files of older specs.
    pub partition: String,
    /// The files.
    pub files: Vec<LiveFile>,
    /// Their size in bytes.
    pub bytes: u64,
    /// How many files they should become.
    pub output_files: u64,
    /// Why they are rewritten.
    pub reason: Reason,
}

impl FileGroup {
    pub(crate) fn rows(&self) -> u64 {
        sum(self.files.iter().map(|file| file.file.record_count()))
    }
}

/// Chooses and groups files. `current_spec` is that of the table, `name_partition` writes a value of it out.
pub(crate) fn group(
    inputs: Vec<Input>,
    limits: &Limits,
    current_spec: i32,
    order: JobOrder,
    name_partition: impl Fn(&Struct) -> String,
) -> Vec<FileGroup> {
    let mut partitions: Vec<(Option<Struct>, Vec<Input>)> = Vec::new();
    let mut index: HashMap<Option<Struct>, usize> = HashMap::new();
    for input in inputs.into_iter().filter(|input| limits.is_candidate(input)) {
        let partition = (input.file.spec_id == current_spec).then(|| input.file.file.partition().clone());
        let at = *index.entry(partition.clone()).or_insert_with(|| {
            partitions.push((partition, Vec::new()));
            partitions.len() - 1
        });
        if let Some((_, files)) = partitions.get_mut(at) {
            files.push(input);
        }
    }
    let mut groups = Vec::new();
    for (partition, inputs) in partitions {
        for bin in pack(inputs, limits.max_group_size) {
            let Some(reason) = limits.reason(&bin) else { continue };
            let bytes = sum(bin.iter().map(Input::bytes));
            let first_spec = bin.first().map(|input| input.file.spec_id);
            let spec_id = first_spec.filter(|id| bin.iter().all(|input| input.file.spec_id == *id));
            groups.push(FileGroup {
                spec_id,
                partition: partition.as_ref().map(&name_partition).unwrap_or_default(),
                files: bin.into_iter().map(|input| input.file).collect(),
                bytes,
                output_files: limits.output_files(bytes),
                reason,
            });
        }
    }
    match order {
        JobOrder::None => {}
        JobOrder::BytesAsc => groups.sort_by_key(|g| g.bytes),
        JobOrder::BytesDesc => groups.sort_by_key(|g| std::cmp::Reverse(g.bytes)),
        JobOrder::FilesAsc => groups.sort_by_key(|g| g.files.len()),
        JobOrder::FilesDesc => groups.sort_by_key(|g| std::cmp::Reverse(g.files.len())),
    }
    groups
}

/// Bins of at most `most` bytes, in order; a file that is larger has a bin of its own.
fn pack(inputs: Vec<Input>, most: u64) -> Vec<Vec<Input>> {
    let mut bins: Vec<Vec<Input>> = Vec::new();
    let mut filled = 0;
    for input in inputs {
        let bytes = input.bytes();
        match bins.last_mut() {
            Some(bin) if bytes.saturating_add(filled) <= most => {
                filled = bytes.saturating_add(filled);
                bin.push(input);
            }
            _ => {
                filled = bytes;
                bins.push(vec![input]);
            }
        }
    }
    bins
}

/// What a compaction will do: a value that can be looked at, printed and run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CompactionPlan {
    /// The table.
    pub table: String,
    /// The snapshot that was looked at; absent for a table or branch without one.
    pub snapshot_id: Option<i64>,
    /// What is rewritten, in this order.
    pub groups: Vec<FileGroup>,
    /// The data files that were looked at.
    pub considered: FileCount,
    /// The target size of the new files, in bytes.
    pub target_file_size: u64,
    /// The table as it was looked at, which the commit is validated against.
    pub(crate) base: Table,
    /// The delete files that may apply to files of it.
    pub(crate) deletes: Vec<LiveFile>,
}

impl CompactionPlan {
    /// The files that are rewritten.
    pub fn input(&self) -> FileCount {
        FileCount {
            files: self.groups.iter().map(|g| g.files.len() as u64).sum(),
            bytes: sum(self.groups.iter().map(|g| g.bytes)),
            ..FileCount::default()
        }
    }

    /// How many files they should become.
    pub fn output_files(&self) -> u64 {
        sum(self.groups.iter().map(|g| g.output_files))
    }
}

impl fmt::Display for CompactionPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = self.input();
        write!(
            f,
            "{}: rewrite {} of {} data files ({} of {}) in {} groups into about {} files of {}",
            self.table,
            input.files,
            self.considered.files,
            Bytes(input.bytes),
            Bytes(self.considered.bytes),
            self.groups.len(),
            self.output_files(),
            Bytes(self.target_file_size)
        )?;
        for group in &self.groups {
            let partition = match (group.partition.as_str(), group.spec_id) {
                ("", None) => "older partition specs",
                ("", Some(_)) => "unpartitioned",
                (partition, _) => partition,
            };
            write!(
                f,
                "\n  {partition}: {} files ({}) into {} ({})",
                group.files.len(),
                Bytes(group.bytes),
                group.output_files,
                group.reason
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

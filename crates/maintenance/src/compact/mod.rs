//! Compaction ("rewrite data files"): many small files, or a few that are too large, become files of the target size that
//! hold the same rows.
//!
//! **What goes.** Compaction deletes no published file: the files that it replaces leave the current snapshot and stay for
//! time travel until expiry removes them. It deletes the files that it has itself written, after a definite failure.
//!
//! **Why rows stay.** A group is committed only when as many rows were written as its files hold without the deleted ones
//! (where metadata tells how many these are), and only if each of its
//! files is still in the table and no delete came to apply to them since; else it conflicts, and its rows stay where they
//! were. The new files keep the sequence number of the snapshot that was read, so that equality deletes which are
//! committed meanwhile still apply to their rows; where rows move to another partition spec, such deletes of a partition are
//! a conflict. On version 3 rows keep their ids.

mod plan;
mod report;
mod run;

use std::sync::Arc;

use icefield_core::config::Properties;
use icefield_core::deletes::DeleteIndex;
use icefield_core::filter::Filter;
use icefield_core::format::{LiveFile, Partitioner, WantedStatistics};
use icefield_core::table::MAIN_BRANCH;
use icefield_core::{AsOf, Error, Result, Table as CoreTable};
use icefield_engine::Table;
use icefield_engine::ops::IntoFilter;
use icefield_engine::scan::{PlannedFile, plan_files};
use icefield_engine::write::require_writable;

use crate::common::{FileCount, OnProgress, Phase, Progress, tell};
use plan::{Input, Limits};

pub use plan::{CompactionPlan, FileGroup, JobOrder, Reason};
pub use report::{CompactionReport, GroupFailure};

/// Rewrites data files to files of the target size. See [`Compact`].
pub fn compact(table: &Table) -> Compact {
    Compact::new(table.clone())
}

/// How the rows of a group are arranged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Strategy {
    /// As they come, or by the table's sort order where it has one.
    #[default]
    BinPack,
    /// By the table's sort order, which it must have.
    Sort,
    /// By these columns' interleaved bits. Not supported yet.
    ZOrder(Vec<String>),
}

/// A compaction: a builder that runs when it is awaited, or shows what it would do with [`Compact::plan`].
///
/// Names and defaults are those of Iceberg's `rewrite_data_files`. Deletes are applied: the new files are without the deleted
/// rows. Deletion vectors leave the table with their data files; other delete files stay, and no longer apply to what was
/// rewritten, until [`remove_dangling_deletes`](Compact::remove_dangling_deletes) takes them out.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for options that contradict each other,
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for z-order and for a table with columns of types that can't be
/// written,
/// [`Conflict`](icefield_core::ErrorKind::Conflict) when another commit removed one of the files or deleted rows of it: run
/// it again. Unless the outcome is unknown
/// ([`CommitStateUnknown`](icefield_core::ErrorKind::CommitStateUnknown)), what was written is deleted. With partial
/// progress a group's failure is in the report, and it is an error only when no group could be committed.
///
/// # Cancel safety
/// A dropped future leaves the groups committed so far, and unreachable files, which orphan removal finds.
///
/// # Cost
/// Planning reads the branch's manifests, from the session's cache where they are in it. Each file is read and written
/// once, as many groups at a time as [`max_concurrent_groups`](Self::max_concurrent_groups) says, in the session's memory
/// budget.
#[must_use = "nothing happens until it is awaited"]
pub struct Compact {
    table: Table,
    strategy: Strategy,
    filter: Option<Box<dyn IntoFilter>>,
    branch: String,
    target_file_size: Option<u64>,
    limits: Limits,
    max_concurrent_groups: usize,
    partial_progress: Option<usize>,
    job_order: JobOrder,
    use_starting_sequence_number: bool,
    output_spec_id: Option<i32>,
    remove_dangling_deletes: bool,
    progress: Option<OnProgress>,
}

impl Compact {
    fn new(table: Table) -> Self {
        Self {
            table,
            strategy: Strategy::default(),
            filter: None,
            branch: MAIN_BRANCH.to_string(),
            target_file_size: None,
            limits: Limits::default(),
            max_concurrent_groups: 5,
            partial_progress: None,
            job_order: JobOrder::default(),
            use_starting_sequence_number: true,
            output_spec_id: None,
            remove_dangling_deletes: false,
            progress: None,
        }
    }

    /// How the rows of a group are arranged. Default: [`Strategy::BinPack`].
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Rewrites only files that may hold matching rows, whole. Default: all.
    pub fn filter(mut self, filter: impl IntoFilter) -> Self {
        self.filter = Some(Box::new(filter));
        self
    }

    /// Rewrites the files of this branch. Default: `main`.
    pub fn branch(mut self, branch: impl Into<String>) -> Self {
        self.branch = branch.into();
        self
    }

    /// The size that files should have, in bytes. Default: `write.target-file-size-bytes`, 512 MiB.
    pub fn target_file_size(mut self, bytes: u64) -> Self {
        self.target_file_size = Some(bytes);
        self
    }

    /// Smaller files are rewritten. In bytes; default: 0.75 times the target.
    pub fn min_file_size(mut self, bytes: u64) -> Self {
        self.limits.min = Some(bytes);
        self
    }

    /// Larger files are rewritten. In bytes; default: 1.8 times the target.
    pub fn max_file_size(mut self, bytes: u64) -> Self {
        self.limits.max = Some(bytes);
        self
    }

    /// A group of so many files is rewritten whatever their size. Default: 5.
    pub fn min_input_files(mut self, files: usize) -> Self {
        self.limits.min_input_files = files;
        self
    }

    /// The most that is rewritten together, in bytes. Default: 100 GiB.
    pub fn max_file_group_size(mut self, bytes: u64) -> Self {
        self.limits.max_group_size = bytes;
        self
    }

    /// How many groups are rewritten at once. Default: 5.
    pub fn max_concurrent_groups(mut self, groups: usize) -> Self {
        self.max_concurrent_groups = groups.max(1);
        self
    }

    /// Commits groups as they are done, in at most so many commits, so that one that fails does not take the others with
    /// it. Default: off, all groups are one commit. (Iceberg's default number is 10.)
    pub fn partial_progress(mut self, max_commits: usize) -> Self {
        self.partial_progress = Some(max_commits.max(1));
        self
    }

    /// The order in which groups are rewritten. Default: as they come.
    pub fn job_order(mut self, order: JobOrder) -> Self {
        self.job_order = order;
        self
    }

    /// Whether new files have the sequence number of the snapshot that was read, so that equality deletes which are
    /// committed meanwhile apply to them. Default: on.
    pub fn use_starting_sequence_number(mut self, keep: bool) -> Self {
        self.use_starting_sequence_number = keep;
        self
    }

    /// A file with so many delete files is rewritten. Default: off.
    pub fn delete_file_threshold(mut self, files: u64) -> Self {
        self.limits.delete_file_threshold = Some(files);
        self
    }

    /// A file of which this share of rows is deleted is rewritten. Default: 0.3.
    pub fn delete_ratio_threshold(mut self, share: f64) -> Self {
        self.limits.delete_ratio_threshold = share;
        self
    }

    /// Rewrites every file, whatever its size. Default: off.
    pub fn rewrite_all(mut self, all: bool) -> Self {
        self.limits.rewrite_all = all;
        self
    }

    /// The partition spec of the new files. Default: the table's current one.
    pub fn output_spec_id(mut self, id: i32) -> Self {
        self.output_spec_id = Some(id);
        self
    }

    /// Afterwards takes delete files out of the branch that apply to no data file any more, in a commit of its own, whether
    /// or not files were rewritten. Reads all of the branch's manifests. Default: off.
    pub fn remove_dangling_deletes(mut self, remove: bool) -> Self {
        self.remove_dangling_deletes = remove;
        self
    }

    /// Calls `callback` as the work proceeds.
    pub fn on_progress(mut self, callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }

    /// What awaiting this would rewrite. Reads metadata only.
    pub async fn plan(&self) -> Result<CompactionPlan> {
        tell(&self.progress, Phase::Planning, 0, None);
        let table = self.table.refresh().await?.core().clone();
        let limits = self.limits(&table)?;
        self.check(&table)?;
        let snapshot = table.snapshot_as_of(&AsOf::Ref(self.branch.clone()))?;
        let mut plan = CompactionPlan {
            table: table.ident().to_string(),
            snapshot_id: snapshot.as_ref().map(|s| s.snapshot_id()),
            groups: Vec::new(),
            considered: FileCount::default(),
            target_file_size: limits.target,
            base: table.clone(),
            deletes: Vec::new(),
        };
        let Some(snapshot) = snapshot else { return Ok(plan) };
        let filter = match &self.filter {
            Some(filter) => filter.to_filter(self.table.session(), &table)?,
            None => Filter::True,
        };
        let caches = self.table.session().scan_caches();
        let planned = plan_files(&table, &snapshot, &filter, &WantedStatistics::None, caches).await?;
        let copy = |files: &[PlannedFile]| files.iter().map(|file| LiveFile::clone(file)).collect::<Vec<_>>();
        let (files, deletes) = (copy(&planned.data), copy(&planned.deletes));
        files.iter().for_each(|file| plan.considered.add(file.file.file_size_in_bytes()));
        let spec = match self.output_spec_id {
            Some(id) => table.metadata().partition_spec_by_id(id).cloned().ok_or_else(|| {
                Error::not_found("no such partition spec; see the table's specs").with("spec", id)
            })?,
            None => table.metadata().default_partition_spec().clone(),
        };
        let names = Partitioner::new(&spec, table.schema()).ok();
        let index = DeleteIndex::new(&deletes, table.metadata())?;
        let inputs = files.into_iter().map(|file| Input::new(file, &index)).collect();
        plan.groups = plan::group(inputs, &limits, spec.spec_id(), self.job_order, |partition| {
            names.as_ref().map(|names| names.path(partition)).unwrap_or_default()
        });
        plan.deletes = deletes;
        Ok(plan)
    }

    fn limits(&self, table: &CoreTable) -> Result<Limits> {
        let target = match self.target_file_size {
            Some(bytes) => bytes,
            None => Properties::new(table.metadata().properties())
                .get_or("write.target-file-size-bytes", 512 << 20)?,
        };
        let limits = Limits { target, ..self.limits.clone() };
        limits.check()?;
        Ok(limits)
    }

    fn check(&self, table: &CoreTable) -> Result<()> {
        require_writable(table)?;
        match &self.strategy {
            Strategy::BinPack => Ok(()),
            Strategy::Sort if !table.metadata().default_sort_order().is_unsorted() => Ok(()),
            Strategy::Sort => Err(Error::invalid_input(
                "the table has no sort order to rewrite its files by; give it one, or choose bin-packing",
            )
            .with("table", table.ident())),
            Strategy::ZOrder(_) => {
                Err(Error::unsupported("files can't be rewritten in z-order yet; use the table's sort order"))
            }
        }
    }
}

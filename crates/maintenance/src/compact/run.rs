//! Running a plan: groups rewritten concurrently, and committed together or, with partial progress, as they come.

use std::collections::HashSet;
use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use iceberg::spec::FormatVersion;
use icefield_core::catalog::Catalog;
use icefield_core::commit::{Committed, Rewrite, Transaction};
use icefield_core::deletes::DeleteIndex;
use icefield_core::format::LiveFile;
use icefield_core::{Error, ErrorKind, Result, Table as CoreTable};
use icefield_engine::publish;
use icefield_engine::scan::scan_files;
use icefield_engine::write::{WriteOptions, WrittenFiles, write_data_files};

use super::Compact;
use super::plan::{CompactionPlan, FileGroup, Limits};
use super::report::{CompactionReport, GroupFailure};
use crate::common::{Phase, elapsed, sum, tell};

/// A group and what became of it, not yet committed.
struct Rewritten {
    group: FileGroup,
    written: WrittenFiles,
}

impl Compact {
    /// Does what `plan` says, which must be of this table. A plan that has become old conflicts at the commit.
    pub fn run(self, plan: CompactionPlan) -> BoxFuture<'static, Result<CompactionReport>> {
        Box::pin(run(self, plan))
    }
}

impl IntoFuture for Compact {
    type Output = Result<CompactionReport>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let clock = self.table.session().catalog().clock().clone();
            let started = clock.now_ms();
            let plan = self.plan().await?;
            let planning = elapsed(&*clock, started);
            let mut report = run(self, plan).await?;
            report.planning = planning;
            Ok(report)
        })
    }
}

#[tracing::instrument(name = "compact", skip_all, fields(table = %plan.table))]
async fn run(compact: Compact, plan: CompactionPlan) -> Result<CompactionReport> {
    if plan.base.ident() != compact.table.ident() {
        return Err(Error::invalid_input("the plan is of another table")
            .with("table", compact.table.ident())
            .with("plan", &plan.table));
    }
    let mut report = CompactionReport::default();
    let base = plan.base.clone();
    if !plan.groups.is_empty() {
        rewrite(&compact, plan, &mut report).await?;
    }
    if compact.remove_dangling_deletes {
        remove_dangling_deletes(&compact, &base, &mut report).await?;
    }
    tracing::info!(%report, "compacted");
    Ok(report)
}

async fn rewrite(compact: &Compact, plan: CompactionPlan, report: &mut CompactionReport) -> Result<()> {
    let clock = compact.table.session().catalog().clock().clone();
    let started = clock.now_ms();
    let job = Job::new(compact, &plan)?;
    let per_commit = match compact.partial_progress {
        Some(commits) => plan.groups.len().div_ceil(commits),
        None => plan.groups.len(),
    };
    let partial = compact.partial_progress.is_some();
    let mut groups = stream::iter(plan.groups)
        .map(|group| job.rewrite(group).boxed())
        .buffer_unordered(compact.max_concurrent_groups);
    let mut ready: Vec<Rewritten> = Vec::new();
    let mut failed: Option<Error> = None;
    while let Some((group, outcome)) = groups.next().await {
        match outcome {
            Ok(written) => ready.push(Rewritten { group, written }),
            Err(error) if partial => fail(report, &group, error),
            // The groups that have begun are waited for, so that what they write can be deleted.
            Err(error) => {
                job.stopped.store(true, Ordering::Relaxed);
                failed.get_or_insert(error);
            }
        }
        if partial && ready.len() >= per_commit {
            job.commit_partly(std::mem::take(&mut ready), report).await;
        }
    }
    drop(groups);
    if let Some(error) = failed {
        for done in &ready {
            done.written.discard().await;
        }
        return Err(error);
    }
    report.rewriting = elapsed(&*clock, started);

    let started = clock.now_ms();
    tell(&compact.progress, Phase::Committing, 0, None);
    if partial {
        job.commit_partly(ready, report).await;
        if report.snapshot_ids.is_empty() && !report.failures.is_empty() {
            return Err(report.failures.swap_remove(0).error);
        }
    } else {
        let written: Vec<_> = ready.iter().map(|done| &done.written).collect();
        let committed = publish(job.transaction(&ready), job.catalog(), &written).await?;
        job.count(&ready, &committed, report);
    }
    report.committing = elapsed(&*clock, started);
    Ok(())
}

/// What was rewritten before stays rewritten, should this fail.
async fn remove_dangling_deletes(
    compact: &Compact,
    base: &CoreTable,
    report: &mut CompactionReport,
) -> Result<()> {
    let transaction = Transaction::new(base).on_branch(&compact.branch).remove_dangling_deletes();
    let committed = transaction.commit(&**compact.table.session().catalog()).await?;
    report.attempts += committed.attempts;
    let Some(id) = committed.snapshot_id else { return Ok(()) };
    report.snapshot_ids.push(id);
    let snapshot = committed.table.metadata().snapshot_by_id(id);
    let removed = snapshot.and_then(|s| s.summary().additional_properties.get("removed-delete-files"));
    report.dangling_deletes = removed.and_then(|n| n.parse().ok()).unwrap_or_default();
    Ok(())
}

fn fail(report: &mut CompactionReport, group: &FileGroup, error: Error) {
    tracing::warn!(partition = %group.partition, files = group.files.len(), %error, "a group was not rewritten");
    report.failures.push(GroupFailure {
        partition: group.partition.clone(),
        files: group.files.len() as u64,
        error,
    });
}

/// What all groups share.
struct Job<'a> {
    compact: &'a Compact,
    base: CoreTable,
    deletes: DeleteIndex<Arc<LiveFile>>,
    limits: Limits,
    sequence_number: Option<i64>,
    rows_done: Arc<AtomicU64>,
    rows_total: u64,
    /// Set when the compaction has failed: groups that have not begun don't.
    stopped: AtomicBool,
}

impl<'a> Job<'a> {
    fn new(compact: &'a Compact, plan: &CompactionPlan) -> Result<Self> {
        let snapshot = plan.snapshot_id.and_then(|id| plan.base.metadata().snapshot_by_id(id));
        let sequence_number = snapshot.map(|s| s.sequence_number()).filter(|n| *n > 0);
        let rows = sum(plan.groups.iter().map(FileGroup::rows));
        Ok(Self {
            compact,
            base: plan.base.clone(),
            deletes: DeleteIndex::new(plan.deletes.iter().cloned().map(Arc::new), plan.base.metadata())?,
            limits: compact.limits(&plan.base)?,
            sequence_number: sequence_number.filter(|_| compact.use_starting_sequence_number),
            rows_done: Arc::default(),
            rows_total: rows,
            stopped: AtomicBool::new(false),
        })
    }

    async fn rewrite(&self, group: FileGroup) -> (FileGroup, Result<WrittenFiles>) {
        let outcome = match self.stopped.load(Ordering::Relaxed) {
            true => Err(Error::internal("another group has failed")),
            false => self.write(&group).await,
        };
        (group, outcome)
    }

    async fn write(&self, group: &FileGroup) -> Result<WrittenFiles> {
        let session = self.compact.table.session();
        let context = session.context().task_ctx();
        let options = self.options(session.catalog().clock().clone(), group);
        let config = context.session_config();
        // More writers than output files would make them smaller than they should be.
        let streams =
            config.target_partitions().min(usize::try_from(group.output_files).unwrap_or(usize::MAX));
        let caches = session.scan_caches();
        // Rows keep their ids, where they have any.
        let lineage = self.base.metadata().format_version() >= FormatVersion::V3;
        let (deletes, expected) = self.deletes_of(group);
        let input = scan_files(&self.base, &group.files, &deletes, caches, &context, streams, lineage)?;
        let written = write_data_files(&self.base, input, context.clone(), &options).await?;
        if expected.map_or(written.rows > group.rows(), |rows| written.rows != rows) {
            written.discard().await;
            return Err(Error::data_invalid(
                "a group's files do not hold as many rows as their metadata says, and were left as they are; see which file is damaged",
            )
            .with("table", self.base.ident())
            .with("partition", &group.partition)
            .with("rows", expected.unwrap_or(group.rows()))
            .with("read", written.rows));
        }
        Ok(written)
    }

    /// The delete files that apply to a group, and how many of its rows are not deleted, where metadata tells.
    fn deletes_of(&self, group: &FileGroup) -> (Vec<LiveFile>, Option<u64>) {
        let (mut deletes, mut seen) = (Vec::new(), HashSet::new());
        let mut left = Some(0);
        for file in &group.files {
            let applied = self.deletes.of(file);
            let of_file = match applied.positions.is_empty() && applied.equality.is_empty() {
                true => {
                    let deleted = applied.vector.map_or(0, |vector| vector.file.record_count());
                    file.file.record_count().checked_sub(deleted)
                }
                false => None,
            };
            left = left.zip(of_file).and_then(|(left, more): (u64, u64)| left.checked_add(more));
            for delete in applied.vector.into_iter().chain(applied.positions).chain(applied.equality) {
                if seen.insert(Arc::as_ptr(delete)) {
                    deletes.push(LiveFile::clone(delete));
                }
            }
        }
        (deletes, left)
    }

    fn options(&self, clock: Arc<dyn icefield_core::Clock>, group: &FileGroup) -> WriteOptions {
        // Files of even sizes, one after the other: the last ones of more writers would be small again.
        let options = WriteOptions::new().clock(clock).writer_per_stream(true);
        let options = options.target_file_size(self.limits.roll_at(group.bytes));
        let options = match self.compact.output_spec_id {
            Some(id) => options.spec_id(id),
            None => options,
        };
        let Some(callback) = self.compact.progress.clone() else { return options };
        let (all, total, own) = (self.rows_done.clone(), self.rows_total, AtomicU64::new(0));
        options.progress(Arc::new(move |progress| {
            let before = own.fetch_max(progress.rows, Ordering::Relaxed);
            let more = progress.rows.saturating_sub(before);
            let done = all.fetch_add(more, Ordering::Relaxed) + more;
            tell(&Some(callback.clone()), Phase::Rewriting, done, Some(total));
        }))
    }

    fn catalog(&self) -> &dyn Catalog {
        &**self.compact.table.session().catalog()
    }

    /// The commit of groups together.
    fn transaction(&self, ready: &[Rewritten]) -> Transaction {
        let transaction = Transaction::new(&self.base).on_branch(&self.compact.branch).exact_files();
        transaction.rewrite_files(self.rewrite_of(ready))
    }

    fn count(&self, ready: &[Rewritten], committed: &Committed, report: &mut CompactionReport) {
        report.attempts += committed.attempts;
        report.snapshot_ids.extend(committed.snapshot_id);
        for done in ready {
            report.groups += 1;
            report.rows += done.written.rows;
            done.group.files.iter().for_each(|file| report.input.add(file.file.file_size_in_bytes()));
            report.output.files += done.written.files.len() as u64;
            report.output.bytes += done.written.bytes;
        }
    }

    fn rewrite_of(&self, ready: &[Rewritten]) -> Rewrite {
        Rewrite {
            delete: ready.iter().flat_map(|done| done.group.files.iter().map(LiveFile::reference)).collect(),
            add: ready.iter().flat_map(|done| done.written.files.iter().cloned()).collect(),
            sequence_number: self.sequence_number,
        }
    }

    /// Commits groups together, in one commit. Those that conflict are left out, and the others committed without them.
    /// Failures go into the report.
    async fn commit_partly(&self, mut ready: Vec<Rewritten>, report: &mut CompactionReport) {
        // Each round leaves at least one group out; others may come to conflict between a look and the commit.
        while !ready.is_empty() {
            // What does not conflict is committed in the next round: its files stay.
            let error = match self.transaction(&ready).commit(self.catalog()).await {
                Ok(committed) => return self.count(&ready, &committed, report),
                Err(error) => error,
            };
            let conflicts = match error.kind() {
                ErrorKind::Conflict => self.conflicts(&ready, &error).await,
                _ => Vec::new(),
            };
            if conflicts.iter().all(Option::is_none) {
                return self.give_up(&ready, error, report).await;
            }
            let mut rest = Vec::with_capacity(ready.len());
            for (done, conflict) in ready.into_iter().zip(conflicts) {
                match conflict {
                    Some(error) => self.give_up(&[done], error, report).await,
                    None => rest.push(done),
                }
            }
            ready = rest;
        }
    }

    /// For each group what it conflicts with, if it does: from the table's history, or since `error` names a file of it.
    async fn conflicts(&self, ready: &[Rewritten], error: &Error) -> Vec<Option<Error>> {
        let rewrites: Vec<Rewrite> =
            ready.iter().map(|done| self.rewrite_of(std::slice::from_ref(done))).collect();
        let transaction = Transaction::new(&self.base).on_branch(&self.compact.branch);
        let mut conflicts = match transaction.conflicts_of(&rewrites, self.catalog()).await {
            Ok(conflicts) => conflicts,
            Err(e) => {
                tracing::warn!(error = %e, "it could not be found out which groups conflict");
                return Vec::new();
            }
        };
        let named = error.context().find(|(key, _)| *key == "file").map(|(_, file)| file.to_string());
        if let Some(named) = named.filter(|_| conflicts.iter().all(Option::is_none)) {
            for (done, conflict) in ready.iter().zip(&mut conflicts) {
                *conflict =
                    done.group.files.iter().any(|file| file.path() == named).then(|| error.without_source());
            }
        }
        conflicts
    }

    async fn give_up(&self, groups: &[Rewritten], error: Error, report: &mut CompactionReport) {
        for done in groups {
            done.written.discard_after(&error).await;
            fail(report, &done.group, error.without_source());
        }
    }
}

//! The columns of a row group in progress, encoded on as many cores as are free.
//!
//! All writers of a write share one permit for each core. A writer encodes under one of them, and under as many others as
//! nobody takes, a task for each: one writer alone has all cores, many have one each.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use futures::future::try_join_all;
use icefield_core::{Error, Result};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use tokio::sync::Semaphore;

/// Batches of fewer rows are encoded where they are: handing them over costs more.
const SHARED_ROWS: usize = 1024;
/// The same of row groups that are closed.
const SHARED_BYTES: usize = 256 << 10;

/// The encoders of a row group's columns, those of one field of the schema together.
#[derive(Default)]
pub(crate) struct ColumnEncoders {
    schema: Option<SchemaRef>,
    fields: Vec<Vec<ArrowColumnWriter>>,
}

impl ColumnEncoders {
    /// Encoders for batches of a schema from one writer for each leaf column, in order.
    pub(crate) fn new(schema: SchemaRef, writers: Vec<ArrowColumnWriter>) -> Self {
        let mut writers = writers.into_iter();
        let leaves = schema.fields().iter().map(|field| leaves(field.data_type()));
        let fields = leaves.map(|count| writers.by_ref().take(count).collect()).collect();
        Self { schema: Some(schema), fields }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(crate) fn writers(&self) -> impl Iterator<Item = &ArrowColumnWriter> {
        self.fields.iter().flatten()
    }

    /// Encodes a batch. After an error, or dropped midway, the encoders are of no more use.
    pub(crate) async fn encode(&mut self, batch: &RecordBatch, cores: &Arc<Semaphore>) -> Result<()> {
        let Some(schema) = self.schema.clone() else {
            return Err(Error::internal("a row group is encoded before it has begun"));
        };
        let jobs: Vec<_> =
            std::mem::take(&mut self.fields).into_iter().zip(batch.columns().iter().cloned()).collect();
        let work = move |at: usize, (mut writers, array): (Vec<ArrowColumnWriter>, ArrayRef)| {
            encode_field(&schema, at, &array, &mut writers)?;
            Ok(writers)
        };
        // The dearest column first: what it takes so far is a guess at the work in it.
        let dear = |(writers, _): &(Vec<ArrowColumnWriter>, ArrayRef)| {
            writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum::<usize>()
        };
        self.fields = on_cores(jobs, cores, batch.num_rows() >= SHARED_ROWS, dear, work).await?;
        Ok(())
    }

    /// Ends the row group: its columns, in order.
    pub(crate) async fn close(self, cores: &Arc<Semaphore>) -> Result<Vec<ArrowColumnChunk>> {
        let writers: Vec<ArrowColumnWriter> = self.fields.into_iter().flatten().collect();
        let bytes: usize = writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum();
        let work = |_, writer: ArrowColumnWriter| Ok(writer.close()?);
        let dear = ArrowColumnWriter::get_estimated_total_bytes;
        on_cores(writers, cores, bytes >= SHARED_BYTES, dear, work).await
    }
}

/// Does each job under a permit, shared out to as many others as are free, the dearest first. Gives the outcomes in the jobs'
/// order. Permits are held while cores work, never while anything is waited for but a core.
async fn on_cores<J, T>(
    jobs: Vec<J>,
    cores: &Arc<Semaphore>,
    shared: bool,
    dear: impl Fn(&J) -> usize,
    work: impl Fn(usize, J) -> Result<T> + Send + Sync + 'static,
) -> Result<Vec<T>>
where
    J: Send + 'static,
    T: Send + 'static,
{
    let closed = |e| Error::internal("the encoders were closed").with_source(e);
    let own = cores.clone().acquire_owned().await.map_err(closed)?;
    if !shared || jobs.len() < 2 {
        return jobs.into_iter().enumerate().map(|(at, job)| work(at, job)).collect();
    }
    let others: Vec<_> = (1..jobs.len()).map_while(|_| cores.clone().try_acquire_owned().ok()).collect();
    if others.is_empty() {
        return jobs.into_iter().enumerate().map(|(at, job)| work(at, job)).collect();
    }
    let mut jobs: Vec<(usize, J)> = jobs.into_iter().enumerate().collect();
    jobs.sort_by_key(|(_, job)| dear(job));
    let queue = Arc::new((Mutex::new(jobs), work));
    // This task's own part is one of them: the task that was spawned last is no other thread's to take until this one waits.
    let tasks = others.into_iter().chain([own]).map(|permit| {
        let queue = queue.clone();
        SpawnedTask::spawn(async move {
            let done = drain(&queue);
            drop(permit);
            done
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let ended = try_join_all(tasks).await;
    let mut done = Vec::new();
    for part in ended.map_err(|e| Error::internal("an encoder ended abnormally").with_source(e))? {
        done.append(&mut part?);
    }
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, outcome)| outcome).collect())
}

/// Does jobs until there are none left: the last one first.
fn drain<J, T>(
    (jobs, work): &(Mutex<Vec<(usize, J)>>, impl Fn(usize, J) -> Result<T>),
) -> Result<Vec<(usize, T)>> {
    let mut done = Vec::new();
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some((at, job)) = next else { return Ok(done) };
        done.push((at, work(at, job)?));
    }
}

fn encode_field(
    schema: &SchemaRef,
    at: usize,
    array: &ArrayRef,
    writers: &mut [ArrowColumnWriter],
) -> Result<()> {
    let field = schema.field(at);
    let leaves = compute_leaves(field, array)?;
    if leaves.len() != writers.len() {
        return Err(
            Error::internal("a column has other leaves than its Parquet schema").with("column", field.name())
        );
    }
    for (leaf, writer) in leaves.iter().zip(writers) {
        writer.write(leaf)?;
    }
    Ok(())
}

/// How many columns a type takes in a file.
fn leaves(of: &DataType) -> usize {
    match of {
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::FixedSizeList(element, _)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::Map(element, _) => leaves(element.data_type()),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    async fn squares(cores: &Arc<Semaphore>, jobs: usize, most: &Arc<AtomicUsize>) -> Result<Vec<usize>> {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), most.clone());
        let work = move |at: usize, job: usize| {
            assert_eq!(at, job);
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(job * job)
        };
        on_cores((0..jobs).collect(), cores, true, |job| *job * 7 % 5, work).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_writer_has_all_cores_and_many_have_one_each() {
        for permits in [2, 3] {
            let cores = Arc::new(Semaphore::new(permits));
            let most = Arc::new(AtomicUsize::new(0));
            let (of, seen) = (cores.clone(), most.clone());
            // As a writer's, in a task.
            let alone = tokio::spawn(async move { squares(&of, 60, &seen).await.unwrap() });
            assert_eq!(alone.await.unwrap(), (0..60).map(|n| n * n).collect::<Vec<_>>());
            assert!((2..=permits).contains(&most.load(Ordering::SeqCst)), "{most:?} of {permits}");
            assert_eq!(cores.available_permits(), permits);
        }
        let cores = Arc::new(Semaphore::new(3));
        let all = (0..8).map(|_| {
            let cores = cores.clone();
            tokio::spawn(async move { squares(&cores, 3, &Arc::default()).await.unwrap() })
        });
        for outcome in futures::future::join_all(all).await {
            assert_eq!(outcome.unwrap(), [0, 1, 4]);
        }
        assert_eq!(cores.available_permits(), 3);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_panic_of_an_encoder_is_an_error_and_gives_its_core_back() {
        let cores = Arc::new(Semaphore::new(2));
        for panicking in 0..6 {
            let alone = cores.clone();
            let write = tokio::spawn(async move {
                let work = move |at: usize, _: usize| {
                    std::thread::sleep(Duration::from_millis(2));
                    assert!(at != panicking, "an encoder's own fault");
                    Ok(())
                };
                on_cores((0..6).collect(), &alone, true, |_| 0, work).await
            });
            let ended = tokio::time::timeout(Duration::from_secs(20), write).await.expect("no encoder hangs");
            // A writer that encodes alone ends with its task, which the write takes for an error.
            assert!(ended.is_err() || ended.is_ok_and(|outcome| outcome.is_err()));
        }
        while cores.available_permits() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

//! One writer: takes prepared batches, routes rows to the open files of their partitions, rolls files, stays in memory.
//!
//! Rows that come clustered by partition need one open file. Others fan out to as many open files as the write allows;
//! when there are more partitions than that, what is left of the input is sorted by partition first. When the memory
//! pool refuses, the writer waits for what is on its way to the store, then the largest row groups leave early; when that
//! does not suffice, files are closed before their size. A writer that holds little beside others leaves that to them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{interleave_record_batch, take_record_batch};
use arrow::datatypes::DataType;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use iceberg::spec::Schema;
use icefield_core::format::{ContentFile, MetricsConfig, data_file, data_file_metrics};
use icefield_core::storage::Storage;
use icefield_core::{Error, Result};
use tokio::sync::{Semaphore, watch};

use super::file::{FileFormat, OpenFile};
use super::keys::{PartitionIndex, Partitioning};
use super::lanes::{Encoded, bytes_of};
use super::location::Locations;
use super::options::{Progress, WriteProgress};
use super::plan::{Layout, cluster, share_of};
use super::upload::Uploads;
use crate::error::from_datafusion;

/// Rows that are gathered before they are dealt to partitions: slices of fewer rows would cost more than they hold.
const GATHER_ROWS: usize = 64 << 10;
/// The same in bytes, at most and at least.
const GATHER_BYTES: usize = 16 << 20;
const GATHER_LEAST: usize = 256 << 10;
/// A batch of one partition of as many rows is not gathered.
const WHOLE_ROWS: usize = 4 << 10;
/// Rows that are encoded at once, between two looks at sizes.
const ENCODE_ROWS: usize = 16 << 10;
/// A row group of fewer bytes is not worth closing early.
const SMALL_ROW_GROUP: usize = 64 << 10;
/// What each writer may hold however little memory others leave, in bytes, at most and at least.
const FLOOR: usize = 64 << 20;
const FLOOR_LEAST: usize = 64 << 10;

/// What all writers of one write share.
pub(crate) struct Shared {
    pub(crate) storage: Storage,
    pub(crate) schema: Arc<Schema>,
    pub(crate) format: Arc<FileFormat>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) partitioning: Arc<Partitioning>,
    pub(crate) locations: Locations,
    pub(crate) metrics: MetricsConfig,
    pub(crate) sort_order_id: Option<i32>,
    pub(crate) target_file_size: u64,
    pub(crate) max_open_files: usize,
    pub(crate) context: Arc<TaskContext>,
    pub(crate) progress: Option<Progress>,
    pub(crate) so_far: Mutex<WriteProgress>,
    /// Every file that was closed: what a failure has to delete.
    pub(crate) closed: Mutex<Vec<String>>,
    /// What rows became.
    pub(crate) encoded: Arc<Encoded>,
    /// One permit for each part of a file that may be on its way to the store at once.
    pub(crate) parts: Arc<Semaphore>,
    /// All writers are one consumer of memory, whose reservations they share.
    pub(crate) reservation: MemoryReservation,
    /// What they hold together, and how many hold anything.
    pub(crate) held: AtomicUsize,
    pub(crate) holding: AtomicUsize,
}

impl Shared {
    /// Whether a writer holds so little beside the others that these are to shed first, as they do once they grow: their row
    /// groups are larger. Only while the pool is not much beyond its limit.
    fn is_behind(&self, held: usize) -> bool {
        let MemoryLimit::Finite(limit) = self.context.memory_pool().memory_limit() else { return true };
        let holding = self.holding.load(Ordering::Relaxed).max(1);
        let mean = self.held.load(Ordering::Relaxed) / holding;
        held <= mean / 2 && self.context.memory_pool().reserved() < limit.saturating_add(limit / 8)
    }
}

pub(crate) struct TaskWriter {
    shared: Arc<Shared>,
    task: usize,
    begun: usize,
    index: Option<PartitionIndex>,
    open: OpenFiles,
    gathered: Vec<(RecordBatch, Vec<u32>)>,
    gathered_rows: usize,
    gathered_bytes: usize,
    gather_bytes: usize,
    uploads: Uploads,
    /// What the writer may hold whatever the pool says.
    floor: usize,
    reservation: MemoryReservation,
    /// What the others know that this one holds.
    told: usize,
    files: Vec<ContentFile>,
}

impl TaskWriter {
    /// A writer, by its number, of so many.
    pub(crate) fn new(shared: Arc<Shared>, task: usize, writers: usize) -> Result<Self> {
        let reservation = shared.reservation.new_empty();
        let uploads = Uploads::new(shared.parts.clone());
        let floor = share_of(&shared.context, FLOOR, FLOOR_LEAST, writers);
        let gather_bytes = share_of(&shared.context, GATHER_BYTES, GATHER_LEAST, 2 * writers);
        let keys = &shared.layout.partition_keys;
        let index = if keys.is_empty() {
            None
        } else {
            let fields = shared.layout.schema.fields();
            let types: Vec<DataType> = keys.iter().map(|at| fields[*at].data_type().clone()).collect();
            Some(PartitionIndex::new(shared.partitioning.clone(), &types)?)
        };
        Ok(Self {
            shared,
            task,
            begun: 0,
            index,
            open: OpenFiles::default(),
            gathered: Vec::new(),
            gathered_rows: 0,
            gathered_bytes: 0,
            gather_bytes,
            uploads,
            floor,
            reservation,
            told: 0,
            files: Vec::new(),
        })
    }

    /// Writes a stream's rows; gives the files. After an error, or when `stop` is told, what is unfinished is taken back;
    /// files that were closed are the caller's to delete.
    pub(crate) async fn run(
        mut self,
        input: SendableRecordBatchStream,
        clustered: bool,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Vec<ContentFile>> {
        let outcome = tokio::select! {
            outcome = self.write_all(input, clustered) => outcome,
            _ = stop.wait_for(|stop| *stop) => Err(Error::internal("the write was stopped")),
        };
        self.tell(0);
        if let Err(error) = outcome {
            while let Some((_, file)) = self.open.pop() {
                file.abort().await;
            }
            return Err(error);
        }
        Ok(self.files)
    }

    async fn write_all(&mut self, mut input: SendableRecordBatchStream, mut clustered: bool) -> Result<()> {
        while let Some(batch) = input.next().await {
            let batch = batch.map_err(from_datafusion)?;
            if batch.num_rows() == 0 {
                continue;
            }
            let Some(index) = &mut self.index else {
                self.write(0, &batch).await?;
                continue;
            };
            let mut keys: Vec<ArrayRef> = Vec::with_capacity(self.shared.layout.partition_keys.len());
            for at in &self.shared.layout.partition_keys {
                keys.push(batch.column(*at).clone());
            }
            let numbers = index.assign(&keys, batch.num_rows())?;
            if clustered {
                self.write_clustered(&batch, &numbers).await?;
            } else if index.len() > self.shared.max_open_files {
                input = self.cluster_rest(batch, input).await?;
                clustered = true;
            } else {
                self.gather(batch, numbers).await?;
            }
        }
        self.deal_gathered().await?;
        while let Some((number, file)) = self.open.pop() {
            self.close(number, file).await?;
        }
        Ok(())
    }

    /// Too many partitions to keep a file open for each: the rest of the input, sorted by partition.
    async fn cluster_rest(
        &mut self,
        batch: RecordBatch,
        rest: SendableRecordBatchStream,
    ) -> Result<SendableRecordBatchStream> {
        while let Some((number, file)) = self.open.pop() {
            self.close(number, file).await?;
        }
        let mut held: Vec<_> =
            std::mem::take(&mut self.gathered).into_iter().map(|(batch, _)| Ok(batch)).collect();
        held.push(Ok(batch));
        (self.gathered_rows, self.gathered_bytes) = (0, 0);
        // A sort reads them: it counts them from here on.
        self.reservation.free();
        let schema = self.shared.layout.schema.clone();
        let rest = futures::stream::iter(held).chain(rest);
        let rest = Box::pin(RecordBatchStreamAdapter::new(schema, rest));
        cluster(rest, &self.shared.layout, &self.shared.context)
    }

    async fn write_clustered(&mut self, batch: &RecordBatch, numbers: &[u32]) -> Result<()> {
        let mut start = 0;
        for run in numbers.chunk_by(|a, b| a == b) {
            let Some(number) = run.first().copied() else { continue };
            while let Some((other, file)) = self.open.take_other(number) {
                self.close(other, file).await?;
            }
            self.write(number, &batch.slice(start, run.len())).await?;
            start += run.len();
        }
        Ok(())
    }

    async fn gather(&mut self, batch: RecordBatch, numbers: Vec<u32>) -> Result<()> {
        // Rows of one partition need no copy: in a batch of a day there are no others.
        if self.gathered.is_empty()
            && numbers.len() >= WHOLE_ROWS
            && let Some(number) = numbers.first()
            && numbers.iter().all(|other| other == number)
        {
            return self.write(*number, &batch).await;
        }
        self.gathered_rows += batch.num_rows();
        self.gathered_bytes += bytes_of(&batch);
        self.gathered.push((batch, numbers));
        if self.gathered_rows >= GATHER_ROWS || self.gathered_bytes >= self.gather_bytes {
            return self.deal_gathered().await;
        }
        self.settle().await
    }

    /// Deals the gathered rows to their partitions: one copy of each, in the order of partitions.
    async fn deal_gathered(&mut self) -> Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        (self.gathered_rows, self.gathered_bytes) = (0, 0);
        let Some(partitions) = self.index.as_ref().map(PartitionIndex::len) else { return Ok(()) };
        let mut ends = vec![0_usize; partitions + 1];
        for number in gathered.iter().flat_map(|(_, numbers)| numbers) {
            ends[*number as usize + 1] += 1;
        }
        for at in 1..ends.len() {
            ends[at] += ends[at - 1];
        }
        let starts = ends.clone();
        let total = starts.last().copied().unwrap_or_default();
        if total == 0 {
            return Ok(());
        }
        let sorted = match &gathered[..] {
            [(batch, numbers)] => {
                let mut rows = vec![0_u32; total];
                for (row, number) in numbers.iter().enumerate() {
                    let slot = &mut ends[*number as usize];
                    rows[*slot] = row as u32;
                    *slot += 1;
                }
                take_record_batch(batch, &UInt32Array::from(rows))?
            }
            _ => {
                let mut rows = vec![(0_usize, 0_usize); total];
                for (at, (_, numbers)) in gathered.iter().enumerate() {
                    for (row, number) in numbers.iter().enumerate() {
                        let slot = &mut ends[*number as usize];
                        rows[*slot] = (at, row);
                        *slot += 1;
                    }
                }
                let batches: Vec<&RecordBatch> = gathered.iter().map(|(batch, _)| batch).collect();
                interleave_record_batch(&batches, &rows)?
            }
        };
        drop(gathered);
        for (number, pair) in starts.windows(2).enumerate() {
            if pair[1] > pair[0] {
                self.write(number as u32, &sorted.slice(pair[0], pair[1] - pair[0])).await?;
            }
        }
        Ok(())
    }

    /// Writes rows of one partition.
    async fn write(&mut self, number: u32, batch: &RecordBatch) -> Result<()> {
        let shared = self.shared.clone();
        let columns = batch.columns().get(..shared.layout.file_columns).unwrap_or_default().to_vec();
        let data = RecordBatch::try_new(shared.format.arrow.clone(), columns)?;
        let mut start = 0;
        while start < data.num_rows() {
            let rows = (data.num_rows() - start).min(ENCODE_ROWS);
            let mut file = match self.open.take(number) {
                Some(file) => file,
                None => self.create(number)?,
            };
            let before = file.size();
            let written = file.write(&data.slice(start, rows)).await;
            shared.encoded.add(rows as u64, file.size().saturating_sub(before));
            if written.is_ok() && file.size() >= shared.target_file_size {
                self.close(number, file).await?;
            } else {
                self.open.put(number, file);
                written?;
            }
            start += rows;
            self.advance(|progress| progress.rows += rows as u64);
        }
        self.settle().await
    }

    fn create(&mut self, number: u32) -> Result<OpenFile> {
        let folder = match &self.index {
            Some(index) => index.get(number)?.folder.as_deref(),
            None => None,
        };
        let location = self.shared.locations.file(self.task, self.begun, folder);
        self.begun += 1;
        OpenFile::create(&self.shared.storage, location, self.shared.format.clone(), &self.uploads)
    }

    async fn close(&mut self, number: u32, file: OpenFile) -> Result<()> {
        // An answer that is lost may leave the file: deleting what is not there is no error.
        let location = file.location().to_string();
        self.shared.closed.lock().unwrap_or_else(PoisonError::into_inner).push(location);
        let closed = file.close().await?;
        let shared = &self.shared;
        let metrics =
            data_file_metrics(&closed.metadata, &shared.schema, &shared.metrics, closed.nans.counts())?;
        let values = match &self.index {
            Some(index) => index.get(number)?.values.clone(),
            None => shared.partitioning.whole().values,
        };
        let spec = shared.partitioning.spec_id();
        let file = data_file(closed.location, spec, values, closed.size, metrics, shared.sort_order_id)?;
        self.files.push(file);
        self.advance(|progress| {
            progress.files += 1;
            progress.bytes += closed.size;
        });
        Ok(())
    }

    /// Tells the memory pool what is held, and sheds until it agrees or little is left.
    async fn settle(&mut self) -> Result<()> {
        loop {
            let held = self.gathered_bytes + self.open.memory() + self.uploads.in_flight();
            if self.reservation.try_resize(held).is_ok() {
                self.tell(held);
                return Ok(());
            }
            if held <= self.floor || self.shared.is_behind(held) {
                self.reservation.resize(held);
                self.tell(held);
                return Ok(());
            }
            // The store is behind: what it was sent leaves memory by waiting.
            let in_flight = self.uploads.in_flight();
            if in_flight > held / 4 {
                self.open.drain().await?;
                if self.uploads.in_flight() < in_flight {
                    continue;
                }
            }
            let largest = self.open.largest(OpenFile::in_progress_bytes);
            match largest {
                Some((bytes, number)) if bytes >= SMALL_ROW_GROUP => {
                    if let Some(mut file) = self.open.take(number) {
                        let flushed = file.flush_row_group().await;
                        self.open.put(number, file);
                        flushed?;
                    }
                }
                _ if !self.gathered.is_empty() => {
                    // Boxed: dealing writes, and writing settles.
                    Box::pin(self.deal_gathered()).await?;
                }
                _ => {
                    let most = self.open.largest(OpenFile::memory).filter(|_| self.open.len() > 1);
                    let Some((_, number)) = most else {
                        // One file with little in it is the least that a writer can hold.
                        self.reservation.resize(held);
                        self.tell(held);
                        return Ok(());
                    };
                    if let Some(file) = self.open.take(number) {
                        self.close(number, file).await?;
                    }
                }
            }
        }
    }

    fn tell(&mut self, held: usize) {
        let Shared { held: all, holding, .. } = &*self.shared;
        if held > self.told {
            all.fetch_add(held - self.told, Ordering::Relaxed);
        } else {
            all.fetch_sub(self.told - held, Ordering::Relaxed);
        }
        match (self.told, held) {
            (0, 1..) => {
                holding.fetch_add(1, Ordering::Relaxed);
            }
            (1.., 0) => {
                holding.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
        self.told = held;
    }

    fn advance(&self, change: impl FnOnce(&mut WriteProgress)) {
        let mut so_far = self.shared.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut so_far);
        if let Some(progress) = &self.shared.progress {
            progress(&so_far);
        }
    }
}

/// A writer's open files by the number of their partition, and what they hold together.
#[derive(Default)]
struct OpenFiles {
    files: BTreeMap<u32, OpenFile>,
    memory: usize,
}

impl OpenFiles {
    fn len(&self) -> usize {
        self.files.len()
    }

    /// Bytes of memory, without a look at each file.
    fn memory(&self) -> usize {
        self.memory
    }

    fn put(&mut self, number: u32, file: OpenFile) {
        self.memory += file.memory();
        self.files.insert(number, file);
    }

    fn take(&mut self, number: u32) -> Option<OpenFile> {
        let file = self.files.remove(&number)?;
        self.memory = self.memory.saturating_sub(file.memory());
        Some(file)
    }

    fn pop(&mut self) -> Option<(u32, OpenFile)> {
        let number = *self.files.keys().next()?;
        self.take(number).map(|file| (number, file))
    }

    /// A file of another partition.
    fn take_other(&mut self, number: u32) -> Option<(u32, OpenFile)> {
        let other = self.files.keys().copied().find(|other| *other != number)?;
        self.take(other).map(|file| (other, file))
    }

    fn largest(&self, by: impl Fn(&OpenFile) -> usize) -> Option<(usize, u32)> {
        self.files.iter().map(|(number, file)| (by(file), *number)).max()
    }

    /// Waits until the store has what was sent to it.
    async fn drain(&mut self) -> Result<()> {
        for file in self.files.values_mut() {
            file.drain().await?;
        }
        Ok(())
    }
}

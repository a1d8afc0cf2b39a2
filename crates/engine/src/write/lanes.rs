//! From the streams of an input to those of the writers: lanes, each with a writer (and perhaps a sort) at its end.
//!
//! Every stream of the input is read by a task of its own, whatever the others do, since one may wait for another: all
//! partitions of a hash join must be polled. A task waits only where the lane that it has rows for is full, and a writer
//! never waits for a certain task, so that the whole always moves. Rows on their way are counted in the memory pool.
//!
//! A lane ends when every task has said that its stream ended. One that closes before, since a task was cancelled, is an
//! error: what came through it is not all there is. Where a stream fails one lane has its error, and none ends.
//!
//! - [`Deal::AsTheyCome`]: a stream's rows go to one lane. There is one lane to begin with. When it is full, and what it
//!   was given makes a file that is worth its while, there is one more, and so on: few rows are one file, many keep all
//!   cores busy.
//! - [`Deal::ByKey`]: rows of one key go to one lane, by its hash. When that is full, and what came of the key makes a whole
//!   file, rows of the key also go to the next lane, whose writer opens another file of that partition.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::future::select_all;
use futures::{FutureExt, Stream, StreamExt};
use icefield_core::{Error, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::error::to_datafusion;

/// The unit of a lane's room, in bytes: a semaphore counts no more than 4 billion.
const ROOM_UNIT: usize = 1 << 10;

/// How rows are dealt to lanes.
#[derive(Debug, Clone)]
pub(crate) enum Deal {
    /// A stream's rows go to one lane.
    AsTheyCome,
    /// Rows of one key go to one lane: the positions of the key's columns.
    ByKey(Vec<usize>),
}

/// What decides when there is one more lane.
#[derive(Debug, Clone)]
pub(crate) struct Worth {
    /// Encoded bytes that are worth another lane's file.
    pub(crate) bytes: u64,
    /// The same for a key whose rows are more than its lanes' share of all rows: other lanes are idle beside it.
    pub(crate) heavy: u64,
    /// Rows that are, where no row was encoded yet. `None`: nothing is.
    pub(crate) rows: Option<u64>,
    /// What rows became.
    pub(crate) encoded: Arc<Encoded>,
}

impl Worth {
    /// How many files of so many bytes rows are worth, of which the last may not be full.
    fn files(&self, rows: u64, each: u64) -> usize {
        let whole = match (self.encoded.bytes_of(rows), self.rows) {
            (Some(bytes), _) => bytes / each.max(1),
            (None, Some(each)) => rows / each.max(1),
            (None, None) => 0,
        };
        usize::try_from(whole).unwrap_or(usize::MAX).saturating_add(1)
    }
}

/// How many rows a write has encoded, and to how many bytes.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Encoded {
    pub(crate) fn add(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The bytes that so many rows become, as those before them did.
    fn bytes_of(&self, rows: u64) -> Option<u64> {
        let (of, bytes) = (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        let each = (bytes as f64) / (of as f64);
        (of > 0).then_some((each * rows as f64) as u64)
    }
}

/// Lanes to be.
pub(crate) struct Lanes<'a> {
    pub(crate) schema: &'a SchemaRef,
    /// How many there are to begin with, of rows that are dealt as they come, and how many there may be.
    pub(crate) first: usize,
    pub(crate) most: usize,
    /// How many a heavy key may have.
    pub(crate) of_heavy: usize,
    /// Bytes of rows that may wait in one.
    pub(crate) room: usize,
    pub(crate) how: Deal,
    pub(crate) worth: Worth,
    /// Counts what is on its way.
    pub(crate) reservation: &'a MemoryReservation,
}

impl Lanes<'_> {
    /// Deals streams to the lanes, of which some may stay without rows.
    pub(crate) fn deal(self, input: Vec<SendableRecordBatchStream>) -> Vec<SendableRecordBatchStream> {
        let units = u32::try_from(self.room / ROOM_UNIT).unwrap_or(u32::MAX >> 4).max(1);
        let mut entries = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..self.most.max(1) {
            let (sender, batches) = mpsc::unbounded_channel();
            let room = Arc::new(Semaphore::new(units as usize));
            entries.push(Entrance { sender, room: room.clone(), units });
            ends.push((batches, room));
        }
        let dealer = Arc::new(Dealer {
            how: self.how,
            worth: self.worth,
            of_heavy: self.of_heavy,
            open: AtomicUsize::new(self.first.clamp(1, self.most.max(1))),
            rows: AtomicU64::new(0),
            keys: Mutex::default(),
            unfinished: AtomicUsize::new(input.len()),
        });
        let mut tasks = JoinSet::new();
        for (number, stream) in input.into_iter().enumerate() {
            let (lanes, dealer) = (entries.clone(), dealer.clone());
            let producer = Producer { number, lanes, dealer, reservation: self.reservation.new_empty() };
            tasks.spawn(producer.run(stream));
        }
        let tasks = Arc::new(tasks);
        ends.into_iter()
            .map(|(batches, room)| {
                let (schema, dealer, tasks) = (self.schema.clone(), dealer.clone(), tasks.clone());
                let lane = Lane { schema, batches, room, dealer, ended: false, _tasks: tasks };
                Box::pin(lane) as SendableRecordBatchStream
            })
            .collect()
    }
}

/// The bytes of a batch's rows, whatever larger arrays they are slices of.
pub(crate) fn bytes_of(batch: &RecordBatch) -> usize {
    let views = |views: &[u128]| -> usize {
        // The length is in the lowest four bytes; up to 12 the text is in the view itself.
        views.iter().map(|view| *view as u32 as usize).filter(|length| *length > 12).sum()
    };
    let of = |array: &ArrayRef| {
        let sliced = array.to_data().get_slice_memory_size();
        let elsewhere = match array.data_type() {
            DataType::Utf8View => views(array.as_string_view().views()),
            DataType::BinaryView => views(array.as_binary_view().views()),
            _ => 0,
        };
        sliced.unwrap_or_else(|_| array.get_array_memory_size()) + elsewhere
    };
    batch.columns().iter().map(of).sum()
}

/// Where rows enter a lane.
#[derive(Clone)]
struct Entrance {
    sender: mpsc::UnboundedSender<Result<Waiting>>,
    room: Arc<Semaphore>,
    units: u32,
}

impl Entrance {
    fn is_full(&self) -> bool {
        self.room.available_permits() < self.units as usize / 4
    }

    /// Waits for room for so many bytes, or for all of it. `None` when nobody listens at the end.
    async fn enter(&self, bytes: usize) -> Option<(&Self, OwnedSemaphorePermit)> {
        let units = u32::try_from(bytes / ROOM_UNIT).unwrap_or(u32::MAX).clamp(1, self.units);
        let room = self.room.clone().acquire_many_owned(units).await;
        room.ok().map(|room| (self, room))
    }
}

/// A batch on its way, and the memory and room that it takes.
struct Waiting {
    batch: RecordBatch,
    _memory: MemoryReservation,
    _room: OwnedSemaphorePermit,
}

/// The end of a lane. When all ends are dropped, so are the tasks.
struct Lane {
    schema: SchemaRef,
    batches: mpsc::UnboundedReceiver<Result<Waiting>>,
    room: Arc<Semaphore>,
    dealer: Arc<Dealer>,
    ended: bool,
    _tasks: Arc<JoinSet<()>>,
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Who waits for room here must not wait for ever.
        self.room.close();
    }
}

impl Stream for Lane {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = match ready!(self.batches.poll_recv(context)) {
            Some(Ok(waiting)) => return Poll::Ready(Some(Ok(waiting.batch))),
            Some(Err(error)) => Some(Err(error)),
            None if self.dealer.unfinished.load(Ordering::Acquire) == 0 => None,
            None => Some(Err(to_datafusion(cut_off()))),
        };
        self.ended = true;
        Poll::Ready(next)
    }
}

fn cut_off() -> Error {
    let message = "the input of a write was cut off before its end, as when the runtime that it runs on shuts down; run the \
                   write again";
    Error::new(ErrorKind::Transient, message)
}

impl RecordBatchStream for Lane {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// What all tasks know of the rows so far.
struct Dealer {
    how: Deal,
    worth: Worth,
    of_heavy: usize,
    /// How many lanes there are, of rows that are dealt as they come.
    open: AtomicUsize,
    /// How many rows there were.
    rows: AtomicU64,
    /// Keys by their hash. Those of one hash are one key here: they share lanes, no more.
    keys: Mutex<HashMap<u64, Key>>,
    /// How many streams have not come to their end.
    unfinished: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
struct Key {
    rows: u64,
    /// How many lanes it has.
    lanes: usize,
}

/// The task that reads a stream.
struct Producer {
    number: usize,
    lanes: Vec<Entrance>,
    dealer: Arc<Dealer>,
    reservation: MemoryReservation,
}

/// Rows, and the lanes that may take them: so many from one on, round the end.
struct Piece {
    first: usize,
    lanes: usize,
    batch: RecordBatch,
}

impl Producer {
    async fn run(self, stream: SendableRecordBatchStream) {
        let error = match AssertUnwindSafe(self.read(stream)).catch_unwind().await {
            Ok(Ok(())) => {
                self.dealer.unfinished.fetch_sub(1, Ordering::Release);
                return;
            }
            Ok(Err(Ended::Gone)) => None,
            Ok(Err(Ended::Failed(error))) => Some(error),
            Err(_) => {
                let message = "the task that reads the input of a write ended abnormally";
                Some(to_datafusion(Error::internal(message)))
            }
        };
        let open = self.dealer.open.load(Ordering::Relaxed).max(1);
        if let (Some(error), Some(lane)) = (error, self.lanes.get(self.number % open)) {
            let _ = lane.sender.send(Err(error));
        }
        // One writer fails and stops the others, whose lanes stay open for so long.
        pending().await
    }

    async fn read(&self, mut stream: SendableRecordBatchStream) -> std::result::Result<(), Ended> {
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            match &self.dealer.how {
                Deal::AsTheyCome => {
                    let first = self.as_they_come(batch.num_rows() as u64);
                    self.place(Piece { first, lanes: 1, batch }).await?;
                }
                Deal::ByKey(keys) => {
                    for piece in self.by_key(keys, batch)? {
                        self.place(piece).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_full(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_none_or(Entrance::is_full)
    }

    /// The lane for rows of this stream.
    fn as_they_come(&self, rows: u64) -> usize {
        let Dealer { worth, open, rows: so_far, .. } = &*self.dealer;
        let before = so_far.fetch_add(rows, Ordering::Relaxed);
        let now = open.load(Ordering::Relaxed);
        if now < self.lanes.len() && self.is_full(self.number % now) && worth.files(before, worth.bytes) > now
        {
            // Another task may be first: one more is enough.
            let _ = open.compare_exchange(now, now + 1, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.number % open.load(Ordering::Relaxed)
    }

    /// A batch's rows by lane, those of a key that has several for themselves.
    fn by_key(&self, keys: &[usize], batch: RecordBatch) -> Result<Vec<Piece>> {
        let columns: Vec<ArrayRef> = keys.iter().map(|at| batch.column(*at).clone()).collect();
        let mut hashes = vec![0; batch.num_rows()];
        create_hashes(&columns, &RandomState::with_seed(SEED), &mut hashes)?;
        // Where each key's rows go, and the rows of each such place.
        let mut places: Vec<(Place, Vec<u32>)> = Vec::new();
        let mut of_key: HashMap<u64, usize> = HashMap::new();
        let mut counts: HashMap<u64, u64> = HashMap::new();
        for run in hashes.chunk_by(|a, b| a == b) {
            if let Some(hash) = run.first() {
                *counts.entry(*hash).or_default() += run.len() as u64;
            }
        }
        {
            let all = self.dealer.rows.fetch_add(hashes.len() as u64, Ordering::Relaxed);
            let mut known = self.dealer.keys.lock().unwrap_or_else(PoisonError::into_inner);
            let mut of_place: HashMap<Place, usize> = HashMap::new();
            for (hash, rows) in counts {
                let place = self.place_of(hash, rows, all, known.entry(hash));
                let at = *of_place.entry(place).or_insert_with(|| {
                    places.push((place, Vec::new()));
                    places.len() - 1
                });
                of_key.insert(hash, at);
            }
        }
        if let [(place, _)] = &places[..] {
            return Ok(vec![Piece { first: place.first, lanes: place.lanes, batch }]);
        }
        let mut row = 0_u32;
        for run in hashes.chunk_by(|a, b| a == b) {
            let place = run.first().and_then(|hash| of_key.get(hash)).and_then(|at| places.get_mut(*at));
            if let Some((_, rows)) = place {
                rows.extend(row..row + run.len() as u32);
            }
            row += run.len() as u32;
        }
        let pieces = places.into_iter().map(|(place, rows)| {
            let batch = take_record_batch(&batch, &UInt32Array::from(rows))?;
            Ok(Piece { first: place.first, lanes: place.lanes, batch })
        });
        pieces.collect()
    }

    /// The place of so many rows of a key; `all` is how many rows there were of all keys.
    fn place_of(&self, hash: u64, rows: u64, all: u64, entry: Entry<'_, u64, Key>) -> Place {
        let (worth, lanes) = (&self.dealer.worth, self.lanes.len());
        let first = (hash % lanes as u64) as usize;
        let key = entry.or_insert(Key { rows: 0, lanes: 1 });
        let full = || (0..key.lanes).all(|n| self.is_full((first + n) % lanes));
        let share = |rows: u64, of: usize| u128::from(rows) * of as u128;
        let is_heavy = || {
            key.lanes < self.dealer.of_heavy
                && share(key.rows, lanes) > share(all, key.lanes)
                && worth.files(key.rows, worth.heavy) > key.lanes
        };
        let is_worth = || worth.files(key.rows, worth.bytes) > key.lanes || is_heavy();
        if key.lanes < lanes && is_worth() && full() {
            key.lanes += 1;
        }
        key.rows += rows;
        // Keys of one lane go there together; a key of several goes by itself.
        Place { first, lanes: key.lanes, alone: (key.lanes > 1).then_some(hash) }
    }

    /// Hands rows to a lane that has room, or to the first that has.
    async fn place(&self, piece: Piece) -> std::result::Result<(), Ended> {
        let memory = self.reservation.new_empty();
        let bytes = bytes_of(&piece.batch);
        let lane = |n: usize| self.lanes.get((piece.first + n) % self.lanes.len());
        // The first lane is taken when several have room.
        let rooms = (0..piece.lanes).filter_map(lane).map(|lane| Box::pin(lane.enter(bytes)));
        let (entered, _, _) = select_all(rooms).await;
        let (lane, room) = entered.ok_or(Ended::Gone)?;
        // What came is there: it can only be counted.
        memory.grow(bytes);
        let waiting = Waiting { batch: piece.batch, _memory: memory, _room: room };
        lane.sender.send(Ok(waiting)).map_err(|_| Ended::Gone)
    }
}

const SEED: u64 = 0x1cef_1e1d;

/// The lanes that may take a key's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    first: usize,
    lanes: usize,
    alone: Option<u64>,
}

/// Why a task ended before its stream did.
enum Ended {
    /// Nobody listens at a lane's end: its writer has failed, or the write was dropped.
    Gone,
    Failed(DataFusionError),
}

impl From<DataFusionError> for Ended {
    fn from(error: DataFusionError) -> Self {
        Self::Failed(error)
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;

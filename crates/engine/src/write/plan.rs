//! From an input to the rows that each writer takes: made to fit, with their partition keys, dealt out and sorted.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::StreamExt;
use iceberg::spec::{NullOrder, Schema, SortDirection, SortOrder, Transform};
use icefield_core::{Error, Result};

use super::conform::Conform;
use super::keys::{KeyColumn, Partitioning, path_of};
use super::lanes::{Deal, Encoded, Lanes, Worth};
use super::settings::Distribution;
use super::upload::PART;
use crate::error::{from_datafusion, to_datafusion};
use crate::memory::with_room_to_merge;

/// How many sorted batches may be ahead of their writer.
const BATCHES_AHEAD: usize = 2;

/// How prepared batches are laid out: the file's columns first, then keys that are no columns of the file.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The prepared batches' schema.
    pub(crate) schema: SchemaRef,
    /// How many of its columns are the file's.
    pub(crate) file_columns: usize,
    /// The positions of the partition keys, one for each field of the spec that is not void.
    pub(crate) partition_keys: Vec<usize>,
    sort_keys: Vec<(usize, SortOptions)>,
    derived: Vec<KeyColumn>,
}

impl Layout {
    pub(crate) fn new(
        file: &SchemaRef,
        table: &Schema,
        partitioning: &Partitioning,
        order: &SortOrder,
    ) -> Result<Self> {
        let mut layout = Self {
            schema: file.clone(),
            file_columns: file.fields().len(),
            partition_keys: Vec::new(),
            sort_keys: Vec::new(),
            derived: Vec::new(),
        };
        let mut fields: Vec<Arc<Field>> = file.fields().iter().cloned().collect();
        if !partitioning.is_unpartitioned() {
            for key in partitioning.keys.iter().filter(|key| key.transform != Transform::Void) {
                let at = layout.key(&mut fields, key.clone())?;
                layout.partition_keys.push(at);
            }
        }
        for field in order.fields.iter().filter(|field| field.transform != Transform::Void) {
            let (path, _) = path_of(table, field.source_id)?;
            let at = layout.key(&mut fields, KeyColumn { path, transform: field.transform })?;
            let options = SortOptions {
                descending: field.direction == SortDirection::Descending,
                nulls_first: field.null_order == NullOrder::First,
            };
            layout.sort_keys.push((at, options));
        }
        layout.schema = Arc::new(ArrowSchema::new(fields));
        Ok(layout)
    }

    /// The position of a key's column, appended unless a column of the file is the key.
    fn key(&mut self, fields: &mut Vec<Arc<Field>>, key: KeyColumn) -> Result<usize> {
        let source = type_at(fields, &key.path)?;
        let is_float = matches!(source, DataType::Float32 | DataType::Float64);
        if let ([at], Transform::Identity, false) = (&key.path[..], key.transform, is_float) {
            return Ok(*at);
        }
        let name = format!("{}:{}", key.transform, fields.len());
        fields.push(Arc::new(Field::new(name, key.data_type(&source)?, true)));
        self.derived.push(key);
        Ok(fields.len() - 1)
    }

    fn prepare(&self, conform: &Conform, batch: &RecordBatch) -> Result<RecordBatch> {
        let batch = conform.apply(batch)?;
        if self.derived.is_empty() {
            return Ok(batch);
        }
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        for key in &self.derived {
            columns.push(key.of(batch.columns())?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// Whether rows are sorted: an order of void transforms alone sorts nothing.
    pub(crate) fn is_sorted(&self) -> bool {
        !self.sort_keys.is_empty()
    }

    /// The order of rows by partition, then by the table's sort order.
    fn order(&self) -> Option<LexOrdering> {
        self.ordering(self.partition_order().chain(self.sort_keys.iter().copied()))
    }

    fn partition_order(&self) -> impl Iterator<Item = (usize, SortOptions)> {
        self.partition_keys.iter().map(|at| (*at, SortOptions { descending: false, nulls_first: true }))
    }

    fn ordering(&self, keys: impl Iterator<Item = (usize, SortOptions)>) -> Option<LexOrdering> {
        LexOrdering::new(keys.map(|(at, options)| PhysicalSortExpr { expr: self.column(at), options }))
    }

    fn column(&self, at: usize) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(self.schema.field(at).name(), at))
    }
}

fn type_at(fields: &[Arc<Field>], path: &[usize]) -> Result<DataType> {
    let lost = || Error::internal("a key's column is not in the file's schema");
    let (first, rest) = path.split_first().ok_or_else(lost)?;
    let mut of = fields.get(*first).ok_or_else(lost)?.data_type().clone();
    for at in rest {
        let DataType::Struct(inner) = of else { return Err(lost()) };
        of = inner.get(*at).ok_or_else(lost)?.data_type().clone();
    }
    Ok(of)
}

/// What writers get: prepared batches, and what is known of their order.
pub(crate) struct Dealt {
    pub(crate) streams: Vec<SendableRecordBatchStream>,
    /// Rows of one partition follow each other.
    pub(crate) clustered: bool,
    /// Rows of one partition are in the table's sort order.
    pub(crate) sorted: bool,
}

/// How much of an input each writer gets.
pub(crate) struct Shares<'a> {
    pub(crate) distribution: Distribution,
    /// Encoded bytes at which a data file is closed.
    pub(crate) target_file_size: u64,
    /// Encoded bytes of a row group.
    pub(crate) row_group_bytes: usize,
    /// See [`WriteOptions`](super::WriteOptions::writer_per_stream).
    pub(crate) writer_per_stream: bool,
    /// What was encoded so far.
    pub(crate) encoded: Arc<Encoded>,
    /// Counts the rows on their way to the writers.
    pub(crate) reservation: &'a MemoryReservation,
}

/// Encoded bytes that are worth a file of their own, where another writer would be idle.
const WORTH_A_FILE: u64 = 32 << 20;
/// Rows that are, before any was encoded.
const ROWS_WORTH_A_FILE: u64 = 1 << 20;
/// Bytes of rows that wait for a writer, at most, and at least.
const WAITING: usize = 16 << 20;
const WAITING_LEAST: usize = 256 << 10;

/// Prepares an input and deals it out as the table's distribution mode says. Sorting spills to disk when the session's
/// memory does not suffice.
pub(crate) fn deal(
    input: Vec<SendableRecordBatchStream>,
    conform: Conform,
    layout: &Arc<Layout>,
    shares: Shares<'_>,
    context: &Arc<TaskContext>,
) -> Result<Dealt> {
    let conform = Arc::new(conform);
    let prepared: Vec<SendableRecordBatchStream> = input
        .into_iter()
        .map(|stream| {
            let (conform, layout) = (conform.clone(), layout.clone());
            let schema = layout.schema.clone();
            let batches = stream.map(move |batch| layout.prepare(&conform, &batch?).map_err(to_datafusion));
            Box::pin(RecordBatchStreamAdapter::new(schema, batches)) as SendableRecordBatchStream
        })
        .collect();
    let sorted = layout.is_sorted();
    let range = shares.distribution == Distribution::Range;
    let order = if sorted || range { layout.order() } else { None };
    let Some(order) = order else {
        return Ok(Dealt {
            streams: shares.lanes(prepared, layout, context),
            clustered: false,
            sorted: false,
        });
    };
    let mut plan = match range {
        // One order for all of the rows: every stream is sorted, and all are merged.
        true => source(&layout.schema, prepared)?,
        false => source(&layout.schema, shares.lanes(prepared, layout, context))?,
    };
    plan = Arc::new(SortExec::new(order.clone(), plan).with_preserve_partitioning(true));
    if range && plan.properties().output_partitioning().partition_count() > 1 {
        plan = Arc::new(SortPreservingMergeExec::new(order, plan));
    }
    let mut streams = execute(&plan, &sorting(context))?;
    if streams.len() < context.session_config().target_partitions() {
        // What merges and what encodes are two tasks.
        streams = streams.into_iter().map(read_ahead).collect();
    }
    Ok(Dealt { streams, clustered: true, sorted })
}

impl Shares<'_> {
    fn lanes(
        &self,
        input: Vec<SendableRecordBatchStream>,
        layout: &Layout,
        context: &TaskContext,
    ) -> Vec<SendableRecordBatchStream> {
        let tasks = context.session_config().target_partitions().max(1);
        let encoded = self.encoded.clone();
        let by_key = self.distribution == Distribution::Hash && !layout.partition_keys.is_empty();
        let full = if self.writer_per_stream { usize::MAX } else { self.full_row_groups(context).max(2) };
        let heavy = self.target_file_size.min(WORTH_A_FILE);
        let (most, how, worth) = match by_key {
            true => {
                // Not even one file is whole of which nothing is known.
                let (bytes, heavy) = match self.writer_per_stream {
                    true => (u64::MAX, u64::MAX),
                    false => (self.target_file_size, heavy),
                };
                (
                    tasks,
                    Deal::ByKey(layout.partition_keys.clone()),
                    Worth { bytes, heavy, rows: None, encoded },
                )
            }
            false => {
                let worth = Worth { bytes: heavy, heavy, rows: Some(ROWS_WORTH_A_FILE), encoded };
                (tasks.min(input.len()).min(full), Deal::AsTheyCome, worth)
            }
        };
        let first = if self.writer_per_stream { most } else { 1 };
        let room = share_of(context, WAITING, WAITING_LEAST, most);
        let (schema, reservation) = (&layout.schema, self.reservation);
        Lanes { schema, first, most, of_heavy: full, room, how, worth, reservation }.deal(input)
    }

    /// How many writers fill a row group each in the memory that there is: fewer writers encode on as many cores.
    fn full_row_groups(&self, context: &TaskContext) -> usize {
        match context.memory_pool().memory_limit() {
            MemoryLimit::Finite(limit) => limit / 4 * 3 / self.row_group_bytes.saturating_add(2 * PART),
            _ => usize::MAX,
        }
    }
}

/// An eighth of the memory pool, by so many: `most` bytes at most, `least` at least.
pub(crate) fn share_of(context: &TaskContext, most: usize, least: usize, by: usize) -> usize {
    match context.memory_pool().memory_limit() {
        MemoryLimit::Finite(limit) => (limit / 8 / by.max(1)).clamp(least.min(most), most),
        _ => most,
    }
}

/// A context in which a small memory pool does not refuse to sort: the rows may come from another session than ours.
fn sorting(context: &Arc<TaskContext>) -> Arc<TaskContext> {
    let MemoryLimit::Finite(limit) = context.memory_pool().memory_limit() else { return context.clone() };
    let config = with_room_to_merge(context.session_config().clone(), limit);
    Arc::new(TaskContext::default().with_session_config(config).with_runtime(context.runtime_env()))
}

/// Prepared batches, sorted by partition alone.
pub(crate) fn cluster(
    input: SendableRecordBatchStream,
    layout: &Layout,
    context: &Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let Some(order) = layout.ordering(layout.partition_order()) else { return Ok(input) };
    let plan = source(&layout.schema, vec![input])?;
    let plan = SortExec::new(order, plan);
    plan.execute(0, sorting(context)).map_err(from_datafusion)
}

/// The same stream, produced by a task of its own, a few batches ahead. Dropped, it stops the task.
pub(crate) fn read_ahead(mut input: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let mut stream = RecordBatchReceiverStream::builder(input.schema(), BATCHES_AHEAD);
    let to = stream.tx();
    stream.spawn(async move {
        while let Some(batch) = input.next().await {
            // Nobody listens any more: the write has ended.
            if to.send(batch).await.is_err() {
                break;
            }
        }
        Ok(())
    });
    stream.build()
}

/// All partitions of a plan, begun.
pub(crate) fn execute(
    plan: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> Result<Vec<SendableRecordBatchStream>> {
    let partitions = plan.properties().output_partitioning().partition_count();
    (0..partitions).map(|at| plan.execute(at, context.clone()).map_err(from_datafusion)).collect()
}

fn source(schema: &SchemaRef, streams: Vec<SendableRecordBatchStream>) -> Result<Arc<dyn ExecutionPlan>> {
    let partitions = streams
        .into_iter()
        .map(|stream| {
            let stream = Mutex::new(Some(stream));
            Arc::new(Once { schema: schema.clone(), stream }) as Arc<dyn PartitionStream>
        })
        .collect();
    let plan = StreamingTableExec::try_new(schema.clone(), partitions, None, [], false, None);
    Ok(Arc::new(plan.map_err(from_datafusion)?))
}

/// A stream as a partition of a plan, executed once.
struct Once {
    schema: SchemaRef,
    stream: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream.unwrap_or_else(|| {
            let error = to_datafusion(Error::internal("an input stream was read twice"));
            let failed = futures::stream::once(async { Err(error) });
            Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), failed))
        })
    }
}

//! A DataFrame's rows kept in memory, accounted in the session's pool for as long as they are kept.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session as DfSession, TableProvider};
use datafusion::common::{Result as DfResult, Statistics};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::{MemTable, TableType};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use futures::TryStreamExt;
use icefield_core::{Error, Result};
use tokio::task::JoinSet;

use crate::error::{from_datafusion, to_datafusion};
use crate::looks::Looks;

/// Rows in memory.
#[derive(Debug)]
pub(crate) struct Cached {
    rows: MemTable,
    looks: Looks,
    _reservation: Arc<MemoryReservation>,
}

impl Cached {
    /// What the rows were made from.
    pub(crate) fn looks(&self) -> &Looks {
        &self.looks
    }
}

/// Runs a DataFrame and keeps its rows, which were made from `looks`. Its partitions run side by side, each in a task: operators such as hash joins wait
/// until all of their partitions have been asked for rows.
///
/// # Errors
/// [`ResourceExhausted`](icefield_core::ErrorKind::ResourceExhausted) when they do not fit the session's budget.
///
/// # Cancel safety
/// Dropped, it ends the tasks and gives the memory back.
pub(super) async fn cached(name: &str, frame: DataFrame, looks: Looks) -> Result<Arc<dyn TableProvider>> {
    async {
        let context = Arc::new(frame.task_ctx());
        let consumer = MemoryConsumer::new(format!("cache of {name}"));
        let reservation = Arc::new(consumer.register(context.memory_pool()));
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let plan = frame.create_physical_plan().await?;
        let mut tasks = JoinSet::new();
        let mut partitions = Vec::new();
        for (at, stream) in execute_stream_partitioned(plan, context)?.into_iter().enumerate() {
            partitions.push(Vec::new());
            let reservation = reservation.clone();
            tasks.spawn(async move { (at, keep(stream, &reservation).await) });
        }
        let mut failure = None;
        while let Some(ended) = tasks.join_next().await {
            let error = match ended {
                Ok((at, Ok(batches))) => {
                    if let Some(partition) = partitions.get_mut(at) {
                        *partition = batches;
                    }
                    continue;
                }
                Ok((_, Err(error))) => error,
                Err(error) => {
                    // Those that were aborted here follow the failure that is told; any other is a part of the rows.
                    let message = "a task of a cached transform ended abnormally; run the pipeline again";
                    to_datafusion(Error::internal(message).with_source(error))
                }
            };
            failure.get_or_insert(error);
            // Those that go on would hold memory after the error was told.
            tasks.abort_all();
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let rows = MemTable::try_new(schema, partitions)?;
        Ok(Arc::new(Cached { rows, looks, _reservation: reservation }) as Arc<dyn TableProvider>)
    }
    .await
    .map_err(from_datafusion)
}

async fn keep(
    mut stream: SendableRecordBatchStream,
    reservation: &MemoryReservation,
) -> DfResult<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    let mut counted = HashSet::new();
    while let Some(batch) = stream.try_next().await? {
        let columns = batch.columns().iter().map(compact).collect::<DfResult<Vec<_>>>()?;
        let batch = match columns.is_empty() {
            true => batch,
            false => RecordBatch::try_new(batch.schema(), columns)?,
        };
        let bytes = batch.columns().iter().map(|column| uncounted(&column.to_data(), &mut counted)).sum();
        reservation.try_grow(bytes)?;
        batches.push(batch);
    }
    Ok(batches)
}

/// Text and bytes of their own: a view would keep the page or the row group that it points into.
fn compact(column: &ArrayRef) -> DfResult<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        DataType::Struct(fields) if !fields.is_empty() => {
            let children = column.as_struct().columns().iter().map(compact).collect::<DfResult<Vec<_>>>()?;
            Arc::new(StructArray::try_new(fields.clone(), children, column.nulls().cloned())?)
        }
        _ => column.clone(),
    })
}

/// What an array holds in buffers that were not counted yet, in bytes: batches share dictionaries and more.
fn uncounted(data: &ArrayData, counted: &mut HashSet<usize>) -> usize {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    let mut bytes = 0;
    for buffer in data.buffers().iter().chain(nulls) {
        if counted.insert(buffer.data_ptr().as_ptr() as usize) {
            bytes += buffer.capacity();
        }
    }
    bytes + data.child_data().iter().map(|child| uncounted(child, counted)).sum::<usize>()
}

#[async_trait]
impl TableProvider for Cached {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    fn statistics(&self) -> Option<Statistics> {
        self.rows.statistics()
    }

    async fn scan(
        &self,
        state: &dyn DfSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.rows.scan(state, projection, filters, limit).await
    }
}

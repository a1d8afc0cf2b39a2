//! A DataFrame's rows kept in memory, accounted in the session's pool for as long as they are kept.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session as DfSession, TableProvider};
use datafusion::common::{Result as DfResult, Statistics};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::{MemTable, TableType};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use icefield_core::Result;

use crate::error::from_datafusion;

#[derive(Debug)]
struct Cached {
    rows: MemTable,
    _reservation: MemoryReservation,
}

/// Runs a DataFrame and keeps its rows.
///
/// # Errors
/// [`ResourceExhausted`](icefield_core::ErrorKind::ResourceExhausted) when they do not fit the session's budget.
pub(super) async fn cached(name: &str, frame: DataFrame) -> Result<Arc<dyn TableProvider>> {
    async {
        let context = frame.task_ctx();
        let reservation = MemoryConsumer::new(format!("cache of {name}")).register(context.memory_pool());
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let mut partitions = Vec::new();
        for mut stream in frame.execute_stream_partitioned().await? {
            let mut batches = Vec::new();
            while let Some(batch) = stream.try_next().await? {
                reservation.try_grow(batch.get_array_memory_size())?;
                batches.push(batch);
            }
            partitions.push(batches);
        }
        let rows = MemTable::try_new(schema, partitions)?;
        Ok(Arc::new(Cached { rows, _reservation: reservation }) as Arc<dyn TableProvider>)
    }
    .await
    .map_err(from_datafusion)
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

//! [`NamedSource`]: DataFusion's Parquet source, whose errors (and its decoders' panics) name the file that was read.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use datafusion::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use datafusion_datasource::morsel::{MorselPlanner, Morselizer};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::ObjectStore;

use super::deletes;
use super::morsel::{Wrap, Wrapped};
use super::order::FileOrder;
use super::reader::FileLocation;
use crate::error::{broken, in_file};

/// The Parquet source, or what it became when a filter, a projection or an order was pushed into it.
pub(super) struct NamedSource {
    inner: Arc<dyn FileSource>,
    order: Option<Arc<FileOrder>>,
    /// Whether row groups may be read in another order than they are stored in.
    reordered: bool,
}

impl NamedSource {
    /// A source of files that are all in an order.
    pub(super) fn new(source: ParquetSource, order: Option<FileOrder>) -> Self {
        Self { inner: Arc::new(source), order: order.map(Arc::new), reordered: false }
    }

    /// The order that all of the files are in.
    pub(super) fn order(&self) -> Option<&FileOrder> {
        self.order.as_deref()
    }

    fn around(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, order: self.order.clone(), reordered: self.reordered })
    }
}

impl FileSource for NamedSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let in_order = !self.reordered;
        Ok(Box::new(Naming(deletes::morselizer(&*self.inner, store, config, partition, in_order)?)))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.around(self.inner.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_extra(format, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn repartitioned(
        &self,
        partitions: usize,
        min_size: usize,
        order: Option<LexOrdering>,
        config: &FileScanConfig,
    ) -> Result<Option<FileScanConfig>> {
        self.inner.repartitioned(partitions, min_size, order, config)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let mut pushed = self.inner.try_pushdown_filters(filters, config)?;
        pushed.updated_node = pushed.updated_node.map(|node| self.around(node));
        Ok(pushed)
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        let sorted = |inner| Arc::new(Self { inner, order: self.order.clone(), reordered: true });
        Ok(match self.inner.try_pushdown_sort(order, properties)? {
            SortOrderPushdownResult::Exact { inner } => {
                SortOrderPushdownResult::Exact { inner: sorted(inner) }
            }
            SortOrderPushdownResult::Inexact { inner } => {
                SortOrderPushdownResult::Inexact { inner: sorted(inner) }
            }
            SortOrderPushdownResult::Unsupported => SortOrderPushdownResult::Unsupported,
        })
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|source| self.around(source)))
    }
}

/// Where a file is: errors of reading it are to say so.
type Location = Option<Arc<FileLocation>>;

#[derive(Debug)]
struct Naming(Box<dyn Morselizer>);

impl Morselizer for Naming {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let with: Location = file.extensions.get_arc::<FileLocation>();
        let inner = self.0.plan_file(file).map_err(|e| with.error(e))?;
        Ok(Box::new(Wrapped { with, inner }))
    }
}

impl Wrap for Location {
    fn error(&self, error: DataFusionError) -> DataFusionError {
        match self {
            Some(of) => in_file(&of.location, error),
            None => error,
        }
    }

    fn rows(self, rows: BoxStream<'static, Result<RecordBatch>>) -> BoxStream<'static, Result<RecordBatch>> {
        // Decoders panic on some pages that are not what they say.
        AssertUnwindSafe(rows)
            .catch_unwind()
            .map(move |batch| batch.unwrap_or_else(|_| Err(broken())).map_err(|e| self.error(e)))
            .boxed()
    }
}

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
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::StreamExt;
use futures::stream::BoxStream;
use icefield_core::Error;
use object_store::ObjectStore;

use super::deletes;
use super::order::FileOrder;
use super::reader::FileLocation;
use crate::error::{from_datafusion, to_datafusion};

/// The Parquet source, or what it became when a filter, a projection or an order was pushed into it.
pub(super) struct NamedSource {
    inner: Arc<dyn FileSource>,
    order: Option<Arc<FileOrder>>,
}

impl NamedSource {
    /// A source of files that are all in an order.
    pub(super) fn new(source: ParquetSource, order: Option<FileOrder>) -> Self {
        Self { inner: Arc::new(source), order: order.map(Arc::new) }
    }

    /// The order that all of the files are in.
    pub(super) fn order(&self) -> Option<&FileOrder> {
        self.order.as_deref()
    }

    fn around(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, order: self.order.clone() })
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
        Ok(Box::new(Named { of: (), inner: deletes::morselizer(&*self.inner, store, config, partition)? }))
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
        Ok(match self.inner.try_pushdown_sort(order, properties)? {
            SortOrderPushdownResult::Exact { inner } => {
                SortOrderPushdownResult::Exact { inner: self.around(inner) }
            }
            SortOrderPushdownResult::Inexact { inner } => {
                SortOrderPushdownResult::Inexact { inner: self.around(inner) }
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

/// A part of reading a file, and where the file is.
struct Named<Of, Inner: ?Sized> {
    of: Of,
    inner: Box<Inner>,
}

type Location = Option<Arc<FileLocation>>;

impl<Of, Inner: fmt::Debug + ?Sized> fmt::Debug for Named<Of, Inner> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Morselizer for Named<(), dyn Morselizer> {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let of = file.extensions.get_arc::<FileLocation>();
        let inner = self.inner.plan_file(file).map_err(|e| named_if_known(&of, e))?;
        Ok(Box::new(Named { of, inner }))
    }
}

impl MorselPlanner for Named<Location, dyn MorselPlanner> {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { of, inner } = *self;
        let Some(mut plan) = inner.plan().map_err(|e| named_if_known(&of, e))? else { return Ok(None) };
        let planner =
            |of: &Location, inner| Box::new(Named { of: of.clone(), inner }) as Box<dyn MorselPlanner>;
        let morsels = plan.take_morsels().into_iter();
        let morsels = morsels.map(|inner| Box::new(Named { of: of.clone(), inner }) as Box<dyn Morsel>);
        let planners = plan.take_ready_planners().into_iter().map(|inner| planner(&of, inner));
        let out = MorselPlan::new().with_morsels(morsels.collect()).with_planners(planners.collect());
        Ok(Some(match plan.take_pending_planner() {
            Some(pending) => out.with_pending_planner(async move {
                let inner = pending.await.map_err(|e| named_if_known(&of, e))?;
                Ok(planner(&of, inner))
            }),
            None => out,
        }))
    }
}

impl Morsel for Named<Location, dyn Morsel> {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { of, inner } = *self;
        // Decoders panic on some pages that are not what they say.
        AssertUnwindSafe(inner.into_stream())
            .catch_unwind()
            .map(move |batch| batch.unwrap_or_else(|_| Err(broken())).map_err(|e| named_if_known(&of, e)))
            .boxed()
    }
}

/// The error of a file whose decoder panicked.
pub(super) fn broken() -> DataFusionError {
    to_datafusion(Error::data_invalid(
        "the file's content breaks its own promises; restore the file, or roll back to an earlier snapshot",
    ))
}

fn named_if_known(of: &Location, error: DataFusionError) -> DataFusionError {
    match of {
        Some(of) => named(&of.location, error),
        None => error,
    }
}

/// The error with the file's location, unless it has one.
pub(super) fn named(location: &str, error: DataFusionError) -> DataFusionError {
    let error: Error = from_datafusion(error);
    let has_one = error.context().any(|(key, _)| key == "file");
    to_datafusion(if has_one { error } else { error.with("file", location) })
}

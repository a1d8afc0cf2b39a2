//! [`NamedSource`]: DataFusion's Parquet source, whose errors (and its decoders' panics) name the file that was read, and
//! whose files have their statistics from the moment on when they are opened.

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use datafusion_datasource::morsel::{MorselPlanner, Morselizer};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::ObjectStore;

use super::morsel::{Wrap, Wrapped};
use super::order::FileOrder;
use super::reader::FileLocation;
use super::selection::morselizer;
use super::statistics::FileFacts;
use crate::error::{broken, in_file};

/// The Parquet source, or what it became when a filter, a projection or an order was pushed into it.
pub(super) struct NamedSource {
    inner: Arc<dyn FileSource>,
    order: Option<Arc<FileOrder>>,
    facts: Arc<FileFacts>,
    /// What files and row groups are read by first, where the first rows of an order are wanted: then they may be read in
    /// another order than they are stored in.
    reordered: Option<First>,
}

/// A column by which files are read, that with its least or greatest value first.
#[derive(Debug, Clone)]
struct First {
    /// Its place in the scan's schema, if it is one of its columns.
    column: Option<usize>,
    descending: bool,
}

impl NamedSource {
    /// A source of files that are all in an order, and of which these facts are known.
    pub(super) fn new(source: ParquetSource, order: Option<FileOrder>, facts: Arc<FileFacts>) -> Self {
        Self { inner: Arc::new(source), order: order.map(Arc::new), facts, reordered: None }
    }

    /// What is known of the files.
    pub(super) fn facts(&self) -> &FileFacts {
        &self.facts
    }

    /// The order that all of the files are in.
    pub(super) fn order(&self) -> Option<&FileOrder> {
        self.order.as_deref()
    }

    fn around(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        self.with(inner, self.reordered.clone())
    }

    fn with(&self, inner: Arc<dyn FileSource>, reordered: Option<First>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, order: self.order.clone(), facts: self.facts.clone(), reordered })
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
        let in_order = self.reordered.is_none();
        let inner = morselizer(&*self.inner, store, config, partition, in_order)?;
        Ok(Box::new(Naming { inner, facts: self.facts.clone() }))
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
        let first = order.first().map(|first| {
            let column = first.expr.downcast_ref::<Column>();
            let column = column.and_then(|of| self.table_schema().table_schema().index_of(of.name()).ok());
            First { column, descending: first.options.descending }
        });
        let sorted = |inner| self.with(inner, first.clone());
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

    fn reorder_files(&self, mut files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        let Some(First { column: Some(column), descending }) = self.reordered else { return files };
        // A file without the bound comes last: it may have any value.
        files.sort_by_cached_key(|file| {
            let place = file.extension::<FileLocation>().map(|at| at.place);
            let bound = place.and_then(|place| self.facts.bound(place, column, descending));
            bound.map_or(Soonest::Unknown, |bound| match descending {
                true => Soonest::Greatest(Reverse(Value(bound))),
                false => Soonest::Least(Value(bound)),
            })
        });
        files
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|source| self.around(source)))
    }
}

/// When a file is read: those of one scan are all compared by the same side.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Soonest {
    Least(Value),
    Greatest(Reverse<Value>),
    Unknown,
}

/// A value of a column; those of one column can be compared.
#[derive(PartialEq, Eq)]
struct Value(ScalarValue);

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}

/// Where a file is: errors of reading it are to say so.
type Location = Option<Arc<FileLocation>>;

#[derive(Debug)]
struct Naming {
    inner: Box<dyn Morselizer>,
    facts: Arc<FileFacts>,
}

impl Morselizer for Naming {
    fn plan_file(&self, mut file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let with: Location = file.extensions.get_arc::<FileLocation>();
        file.statistics = with.as_ref().and_then(|at| self.facts.opened(at.place));
        let inner = self.inner.plan_file(file).map_err(|e| with.error(e))?;
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

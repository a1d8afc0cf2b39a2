//! The step before a data file with deletes is planned: these are read, and become the file's access plan.
//!
//! Row-group and page pruning, row filters and projections then work as they do for any file. Where none of these is asked for
//! and deletes are scattered, whole row groups are read instead, and the rows dropped from what was read ([`masked`](super::masked)).

use std::fmt;
use std::sync::Arc;

use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileScanConfig, FileSource, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_datasource::morsel::{MorselPlan, MorselPlanner, Morselizer};
use object_store::ObjectStore;

use super::access::access_plan;
use super::masked::Masked;
use super::rows::{RowChoice, Selected};
use crate::error::to_datafusion;
use crate::scan::morsel::Wrapped;
use crate::scan::reader::FileLocation;

/// The morselizer of a Parquet source, with deletes applied to the files that carry a [`RowChoice`]. With `in_order`, the source
/// hands over all rows of the row groups that are left to it, as they are stored.
pub(in crate::scan) fn morselizer(
    source: &dyn FileSource,
    store: Arc<dyn ObjectStore>,
    config: &FileScanConfig,
    partition: usize,
    in_order: bool,
) -> Result<Box<dyn Morselizer>> {
    // The footers that these readers find stay in the cache for the source's own.
    let readers = source.downcast_ref::<ParquetSource>().and_then(|s| s.parquet_file_reader_factory());
    let Some(readers) = readers else {
        return internal_err!("a scan whose source has no readers");
    };
    // The source would stop at the row groups that have enough rows, deleted ones counted. The stream above stops in time.
    let mut unlimited = config.clone();
    unlimited.limit = None;
    Ok(Box::new(Deleting {
        plain: source.create_morselizer(store.clone(), config, partition)?,
        unlimited: Arc::from(source.create_morselizer(store, &unlimited, partition)?),
        readers: readers.clone(),
        metrics: source.metrics().clone(),
        partition,
        in_order: in_order && source.filter().is_none(),
    }))
}

#[derive(Debug)]
struct Deleting {
    /// For files without deletes.
    plain: Box<dyn Morselizer>,
    unlimited: Arc<dyn Morselizer>,
    readers: Arc<dyn ParquetFileReaderFactory>,
    metrics: ExecutionPlanMetricsSet,
    partition: usize,
    in_order: bool,
}

impl Morselizer for Deleting {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        match file.extension::<Arc<dyn RowChoice>>().cloned() {
            None => self.plain.plan_file(file),
            Some(deletes) => Ok(Box::new(LoadDeletes {
                deletes,
                file,
                inner: self.unlimited.clone(),
                readers: self.readers.clone(),
                metrics: self.metrics.clone(),
                partition: self.partition,
                in_order: self.in_order,
            })),
        }
    }
}

struct LoadDeletes {
    deletes: Arc<dyn RowChoice>,
    file: PartitionedFile,
    inner: Arc<dyn Morselizer>,
    readers: Arc<dyn ParquetFileReaderFactory>,
    metrics: ExecutionPlanMetricsSet,
    partition: usize,
    in_order: bool,
}

impl fmt::Debug for LoadDeletes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadDeletes").field("deletes", &self.deletes).finish_non_exhaustive()
    }
}

impl MorselPlanner for LoadDeletes {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_pending_planner(self.load())))
    }
}

impl LoadDeletes {
    async fn load(mut self: Box<Self>) -> Result<Box<dyn MorselPlanner>> {
        let selected = self.deletes.selected().await.map_err(to_datafusion)?;
        if matches!(&*selected, Selected::Without(rows) if rows.is_empty()) {
            return self.inner.plan_file(self.file);
        }
        let mut reader =
            self.readers.create_reader(self.partition, self.file.clone(), None, &self.metrics)?;
        let footer = reader.get_metadata(None).await?;
        // What was read with the footer stays for the source's own readers.
        if let Some(tail) = self.file.extensions.get_arc::<FileLocation>().and_then(|at| at.tail()) {
            self.file = self.file.with_extension(tail);
        }
        let bytes = self.file.range.as_ref().map(|range| range.start..range.end);
        let masked = if self.in_order { Masked::plan(&footer, bytes, &selected) } else { None };
        let Some((plan, with)) = masked else {
            let plan = access_plan(&footer, &selected);
            return self.inner.plan_file(self.file.with_extension(plan));
        };
        self.file.range = None;
        let inner = self.inner.plan_file(self.file.with_extension(plan))?;
        Ok(Box::new(Wrapped { with, inner }))
    }
}

//! [`DecodeExec`]: reads the files of a scan that are not Parquet, which DataFusion has no source for.
//!
//! What holds for Parquet files holds for these: columns are found by field id, through the same adapter; rows deleted by
//! position are dropped, metadata columns and partition values come from the manifests. Nothing inside a file is pruned, so
//! every filter is left to those above. [`file`] reads one file.

mod file;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result as DfResult, Statistics, exec_datafusion_err, exec_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::stream::{BoxStream, try_unfold};
use futures::{StreamExt, TryStreamExt};
use iceberg::spec::DataFileFormat;

use super::file::ScanFile;
use super::split::split;

pub(super) use file::Decoding;
use file::Piece;

/// Reads Avro and ORC files.
#[derive(Debug)]
pub(super) struct DecodeExec {
    /// The files of each partition.
    groups: Vec<Vec<Piece>>,
    decoding: Arc<Decoding>,
    /// How many rows are enough of a partition.
    limit: Option<usize>,
    statistics: Arc<Statistics>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DecodeExec {
    /// Over files, with statistics of all of them, that are spread over at most `partitions` partitions.
    pub(super) fn new(
        files: &[&ScanFile<'_>],
        decoding: Decoding,
        total: Statistics,
        limit: Option<usize>,
        partitions: usize,
    ) -> Self {
        let sizes: Vec<u64> = files.iter().map(|file| file.live.file.file_size_in_bytes()).collect();
        // The blocks of an Avro file don't tell the positions of their rows.
        let cuts: Vec<Option<&[i64]>> = files
            .iter()
            .map(|file| match file.live.file.file_format() {
                DataFileFormat::Orc => Some(file.live.file.split_offsets().unwrap_or_default()),
                _ => Some(&[][..]),
            })
            .collect();
        let groups: Vec<Vec<Piece>> = split(&sizes, &cuts, partitions)
            .into_iter()
            .map(|pieces| {
                let pieces = pieces.into_iter().filter_map(|piece| {
                    let (file, size) = (files.get(piece.file)?, sizes.get(piece.file)?);
                    let range = piece.start..piece.end;
                    Some(Piece::new(file, (range.end - range.start < *size).then_some(range)))
                });
                pieces.collect()
            })
            .collect();
        let statistics = Arc::new(total.project(Some(&decoding.projection)));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(decoding.schema().clone()),
            Partitioning::UnknownPartitioning(groups.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            groups,
            decoding: Arc::new(decoding),
            limit,
            statistics,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for DecodeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: usize = self.groups.iter().map(Vec::len).sum();
        let fields = self.decoding.schema().fields();
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        write!(
            f,
            "DecodeExec: partitions={}, files={files}, projection=[{}]",
            self.groups.len(),
            names.join(", ")
        )?;
        self.limit.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }
}

impl ExecutionPlan for DecodeExec {
    fn name(&self) -> &'static str {
        "DecodeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { exec_err!("files that are decoded have no input") }
    }

    fn execute(&self, at: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let pieces = self.groups.get(at).cloned();
        let pieces = pieces.ok_or_else(|| exec_datafusion_err!("a scan without partition {at}"))?;
        let (decoding, batch_rows) = (self.decoding.clone(), context.session_config().batch_size());
        let metrics = BaselineMetrics::new(&self.metrics, at);
        let rows = futures::stream::iter(pieces)
            .map(move |piece| decoding.clone().rows(piece, batch_rows))
            .flatten()
            .boxed();
        let rows = match self.limit {
            Some(limit) => limited(rows, limit),
            None => rows,
        };
        let rows = rows.inspect_ok(move |batch| metrics.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows.boxed())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, at: Option<usize>) -> DfResult<Arc<Statistics>> {
        Ok(match at {
            Some(_) => Arc::new(Statistics::new_unknown(&self.schema())),
            None => self.statistics.clone(),
        })
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> DfResult<FilterDescription> {
        Ok(FilterDescription::all_unsupported(&filters, &[]))
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        pushed: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> DfResult<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::all_unsupported(pushed))
    }
}

/// The first `limit` rows.
fn limited(
    rows: BoxStream<'static, DfResult<RecordBatch>>,
    limit: usize,
) -> BoxStream<'static, DfResult<RecordBatch>> {
    try_unfold((rows, limit), |(mut rows, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(batch) = rows.try_next().await? else { return Ok(None) };
        let batch = batch.slice(0, batch.num_rows().min(left));
        let left = left - batch.num_rows();
        Ok(Some((batch, (rows, left))))
    })
    .boxed()
}

impl Decoding {
    /// What is produced.
    fn schema(&self) -> &SchemaRef {
        &self.projected
    }
}

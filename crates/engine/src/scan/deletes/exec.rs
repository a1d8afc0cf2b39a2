//! [`EqualityDeleteExec`]: drops the rows that equality deletes name, or all others, and the hidden columns that told which.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{filter_record_batch, partition};
use arrow::datatypes::{Int32Type, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result as DfResult, Statistics, exec_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::equivalence::ProjectionMapping;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use icefield_core::Result;

use super::EqualityDeletes;
use crate::error::to_datafusion;

/// Drops deleted rows of its input, whose last columns are the hidden ones. Filters from above pass through to the input:
/// they commute with deletes. Limits stay above.
#[derive(Debug)]
pub(in crate::scan) struct EqualityDeleteExec {
    input: Arc<dyn ExecutionPlan>,
    deletes: Arc<EqualityDeletes>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl EqualityDeleteExec {
    pub(in crate::scan) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        deletes: Arc<EqualityDeletes>,
    ) -> DfResult<Self> {
        let all = input.schema();
        let Some(columns) = all.fields().len().checked_sub(deletes.hidden()) else {
            return exec_err!("the hidden columns of equality deletes are not there");
        };
        let kept: Vec<usize> = (0..columns).collect();
        let schema = Arc::new(all.project(&kept)?);
        let same = kept.iter().map(|at| {
            let name = all.field(*at).name();
            (Arc::new(Column::new(name, *at)) as Arc<dyn PhysicalExpr>, name.clone())
        });
        let mapping = ProjectionMapping::try_new(same, &all)?;
        let equivalence: EquivalenceProperties =
            input.properties().equivalence_properties().project(&mapping, schema.clone());
        let from = input.properties();
        let partitioning = from.partitioning.project(&mapping, &equivalence);
        let properties = PlanProperties::new(equivalence, partitioning, from.emission_type, from.boundedness);
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        Ok(Self { input, deletes, properties, metrics })
    }
}

impl DisplayAs for EqualityDeleteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EqualityDeleteExec")
    }
}

impl ExecutionPlan for EqualityDeleteExec {
    fn name(&self) -> &'static str {
        "EqualityDeleteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::try_new(input, self.deletes.clone())?)),
            _ => exec_err!("equality deletes have one input"),
        }
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, at: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let input = self.input.execute(at, context)?;
        let (deletes, schema) = (self.deletes.clone(), self.schema());
        let metrics = BaselineMetrics::new(&self.metrics, at);
        let rows = input.and_then(move |batch| {
            let (deletes, schema) = (deletes.clone(), schema.clone());
            async move { apply(&deletes, batch, schema).await.map_err(to_datafusion) }
        });
        let rows = rows.inspect_ok(move |batch| metrics.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows.boxed())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, at: Option<usize>) -> DfResult<Arc<Statistics>> {
        let mut statistics = Arc::unwrap_or_clone(self.input.partition_statistics(at)?).to_inexact();
        statistics.column_statistics.truncate(self.schema().fields().len());
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> DfResult<FilterDescription> {
        FilterDescription::from_children(filters, &self.children())
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        pushed: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> DfResult<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(pushed))
    }
}

/// The rows of a batch that are left, without the hidden columns.
async fn apply(deletes: &EqualityDeletes, batch: RecordBatch, schema: SchemaRef) -> Result<RecordBatch> {
    let (own, hidden) = batch.columns().split_at(schema.fields().len());
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let visible = RecordBatch::try_new_with_options(schema, own.to_vec(), &options)?;
    let (Some(classes), true) = (hidden.last(), batch.num_rows() > 0) else { return Ok(visible) };
    let mut keep: Option<Vec<bool>> = None;
    // One run, unless batches of several files were put together.
    for run in partition(std::slice::from_ref(classes))?.ranges() {
        let Some(class) = class_at(classes, run.start) else { continue };
        let length = run.end - run.start;
        let columns: Vec<ArrayRef> = hidden.iter().map(|column| column.slice(run.start, length)).collect();
        if let Some(of_run) = deletes.keep(class, &columns).await? {
            let keep = keep.get_or_insert_with(|| vec![true; batch.num_rows()]);
            keep.splice(run, of_run);
        }
    }
    match keep {
        None => Ok(visible),
        Some(keep) => Ok(filter_record_batch(&visible, &BooleanArray::from(keep))?),
    }
}

fn class_at(classes: &ArrayRef, row: usize) -> Option<i32> {
    classes.as_primitive_opt::<Int32Type>().map(|classes| classes.value(row))
}

//! Counts what DataFusion's operators hold and take from no memory pool.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result as DfResult, exec_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::WindowAggExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, Statistics};
use futures::StreamExt;

use crate::write::lanes::bytes_of;

/// A plan that counts what DataFusion does not: all rows of windows whose frames have no end.
pub(super) fn counted(plan: Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
    let counted = plan.transform_up(|plan| {
        if !plan.is::<WindowAggExec>() {
            return Ok(Transformed::no(plan));
        }
        let made = plan.schema().fields().len();
        let held = |child: &Arc<dyn ExecutionPlan>| -> Arc<dyn ExecutionPlan> {
            let made = made.saturating_sub(child.schema().fields().len());
            Arc::new(HeldExec { input: child.clone(), made })
        };
        let children = plan.children().into_iter().map(held).collect();
        Ok(Transformed::yes(plan.with_new_children(children)?))
    })?;
    Ok(counted.data)
}

/// Its input, of which all is held until the query ends, and copied once: that much memory is taken from the pool.
#[derive(Debug)]
struct HeldExec {
    input: Arc<dyn ExecutionPlan>,
    /// The number of columns that come to it.
    made: usize,
}

impl DisplayAs for HeldExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeldExec")
    }
}

impl ExecutionPlan for HeldExec {
    fn name(&self) -> &'static str {
        "HeldExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return exec_err!("what is held is of one plan") };
        Ok(Arc::new(Self { input, made: self.made }))
    }

    fn execute(&self, at: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let memory = MemoryConsumer::new(format!("rows of a window[{at}]")).register(context.memory_pool());
        let rows = self.input.execute(at, context)?;
        // A value of a column is eight bytes or more, and there are two of it for a while.
        let made = self.made * 16;
        let schema = rows.schema();
        let counted = rows.map(move |batch| {
            let batch = batch?;
            memory.try_grow(2 * bytes_of(&batch) + made * batch.num_rows())?;
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)))
    }

    fn partition_statistics(&self, at: Option<usize>) -> DfResult<Arc<Statistics>> {
        self.input.partition_statistics(at)
    }
}

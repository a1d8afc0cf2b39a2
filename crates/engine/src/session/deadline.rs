//! [`Deadline`]: when a query has to be done, and the places in its plan that look at it.
//!
//! DataFusion's operators give way now and then, but a join may go through billions of pairs before it does, on all threads of the
//! runtime, and no timer fires meanwhile. So the clock is looked at wherever rows are read and joined. A single call of a function
//! is not interrupted.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result as DfResult, exec_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, Statistics};
use futures::future::{BoxFuture, Either, Shared, select};
use futures::stream::poll_fn;
use futures::{FutureExt, StreamExt};
use icefield_core::{Clock, Error, ErrorKind, Result};

use crate::error::to_datafusion;

/// When a query has to be done.
#[derive(Clone)]
pub(super) struct Deadline {
    timeout: Duration,
    passed: Shared<BoxFuture<'static, ()>>,
    /// When that is by the clock: timers wait for a thread that is free, and a join may keep all of them.
    ends_ms: i64,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Deadline {
    pub(super) fn new(timeout: Duration, clock: &Arc<dyn Clock>) -> Self {
        let ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let ends_ms = clock.now_ms().saturating_add(ms).saturating_add(1);
        Self { timeout, passed: clock.sleep(timeout).shared(), ends_ms, clock: clock.clone() }
    }

    pub(super) async fn bound<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        match select(self.passed.clone(), std::pin::pin!(work)).await {
            Either::Left(_) => Err(self.error()),
            Either::Right((done, _)) => Ok(done),
        }
    }

    fn has_passed(&self) -> bool {
        self.clock.now_ms() > self.ends_ms
    }

    fn error(&self) -> Error {
        Error::new(
            ErrorKind::ResourceExhausted,
            "the query took longer than its time limit; ask for less, or raise the limit (SqlOptions::timeout)",
        )
        .with("limit", format!("{:?}", self.timeout))
    }

    /// The stream, which ends with an error, and with all that it holds, once the time is over.
    fn stream(self, stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let schema = stream.schema();
        let mut open = Some((self.passed.clone(), stream));
        let rows = poll_fn(move |context| {
            let Some((passed, stream)) = &mut open else { return Poll::Ready(None) };
            if passed.poll_unpin(context).is_ready() || self.has_passed() {
                open = None;
                return Poll::Ready(Some(Err(to_datafusion(self.error()))));
            }
            let next = stream.poll_next_unpin(context);
            if matches!(next, Poll::Ready(None)) {
                open = None;
            }
            next
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

impl Deadline {
    /// A plan that ends in time. It is looked at above the plan, above what is read, and above whatever is joined: a join may go
    /// through many of its rows before it gives one.
    pub(super) fn on(self, plan: Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let limited = |input: Arc<dyn ExecutionPlan>| -> Arc<dyn ExecutionPlan> {
            Arc::new(TimeLimitExec { input, deadline: self.clone() })
        };
        let within = plan.transform_up(|plan| {
            let plan = self.on_filter(plan)?;
            let children = plan.children();
            if children.len() < 2 && !children.iter().any(|child| child.children().is_empty()) {
                return Ok(Transformed::no(plan));
            }
            let children = children.into_iter().cloned().map(limited).collect();
            Ok(Transformed::yes(plan.with_new_children(children)?))
        })?;
        Ok(limited(within.data))
    }

    /// A join whose filter ends in time: it is looked at for each row of one side with many of the other.
    fn on_filter(&self, plan: Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let limited = |filter: &JoinFilter| {
            let expression = InTime { inner: filter.expression().clone(), deadline: self.clone() };
            let (columns, schema) = (filter.column_indices().to_vec(), filter.schema().clone());
            Some(JoinFilter::new(Arc::new(expression), columns, schema))
        };
        if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
            && let Some(filter) = join.filter()
        {
            return Ok(Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(limited(filter)).build()?));
        }
        if let Some(join) = plan.downcast_ref::<HashJoinExec>()
            && let Some(filter) = join.filter()
        {
            return join.builder().with_filter(limited(filter)).build_exec();
        }
        Ok(plan)
    }
}

/// An expression, as long as there is time.
#[derive(Debug)]
struct InTime {
    inner: Arc<dyn PhysicalExpr>,
    deadline: Deadline,
}

impl PartialEq for InTime {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for InTime {}

impl Hash for InTime {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for InTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for InTime {
    fn data_type(&self, schema: &Schema) -> DfResult<DataType> {
        self.inner.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> DfResult<bool> {
        self.inner.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> DfResult<FieldRef> {
        self.inner.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        if self.deadline.has_passed() {
            return Err(to_datafusion(self.deadline.error()));
        }
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DfResult<Arc<dyn PhysicalExpr>> {
        let Some(inner) = children.pop() else { return exec_err!("a time limit is that of one expression") };
        Ok(Arc::new(Self { inner, deadline: self.deadline.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}

/// Its input, as long as there is time.
#[derive(Debug)]
struct TimeLimitExec {
    input: Arc<dyn ExecutionPlan>,
    deadline: Deadline,
}

impl DisplayAs for TimeLimitExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeLimitExec: {:?}", self.deadline.timeout)
    }
}

impl ExecutionPlan for TimeLimitExec {
    fn name(&self) -> &'static str {
        "TimeLimitExec"
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
        let Some(input) = children.pop() else { return exec_err!("a time limit is that of one plan") };
        Ok(Arc::new(Self { input, deadline: self.deadline.clone() }))
    }

    fn execute(&self, at: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        Ok(self.deadline.clone().stream(self.input.execute(at, context)?))
    }

    fn partition_statistics(&self, at: Option<usize>) -> DfResult<Arc<Statistics>> {
        self.input.partition_statistics(at)
    }
}

//! Limits of one query: of its memory ([`QueryPool`]), and of the time that it runs ([`Deadline`]).
//!
//! A query runs by the state that its DataFrame holds. So a limited one has a state of its own, with a pool in front of the
//! session's, and a planner that starts the clock and puts a [`TimeLimitExec`] above the plan.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::common::{DataFusionError, Result as DfResult, exec_err, human_readable_size};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, Statistics};
use futures::future::{BoxFuture, Either, Shared, select};
use futures::stream::poll_fn;
use futures::{FutureExt, StreamExt};
use icefield_core::{Clock, Error, ErrorKind, Result};

use super::SqlOptions;
use crate::error::to_datafusion;
use crate::memory::{SharedMemoryPool, with_room_to_merge};

impl SqlOptions {
    /// The state with these limits.
    pub(super) fn limit(&self, mut state: SessionState, clock: &Arc<dyn Clock>) -> SessionState {
        if let Some(limit) = self.memory_limit {
            let session = state.runtime_env().clone();
            let runtime = RuntimeEnv {
                memory_pool: QueryPool::shared(limit, &session.memory_pool),
                ..(*session).clone()
            };
            let config = with_room_to_merge(state.config().clone(), limit);
            state = SessionStateBuilder::new_from_existing(state)
                .with_config(config)
                .with_runtime_env(Arc::new(runtime))
                .build();
        }
        if let Some(timeout) = self.timeout {
            let (inner, clock) = (state.query_planner().clone(), clock.clone());
            let planner = Arc::new(TimedPlanner { inner, timeout, clock });
            state = SessionStateBuilder::new_from_existing(state).with_query_planner(planner).build();
        }
        state
    }

    /// What a future gives, if it does in time.
    ///
    /// # Errors
    /// [`ResourceExhausted`](ErrorKind::ResourceExhausted) when it does not.
    pub(super) async fn in_time<T>(
        &self,
        clock: &dyn Clock,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match self.timeout {
            Some(timeout) => Deadline::new(timeout, clock).bound(work).await?,
            None => work.await,
        }
    }
}

/// When a query has to be done.
#[derive(Clone)]
struct Deadline {
    timeout: Duration,
    passed: Shared<BoxFuture<'static, ()>>,
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Deadline {
    fn new(timeout: Duration, clock: &dyn Clock) -> Self {
        Self { timeout, passed: clock.sleep(timeout).shared() }
    }

    async fn bound<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        match select(self.passed.clone(), std::pin::pin!(work)).await {
            Either::Left(_) => Err(self.error()),
            Either::Right((done, _)) => Ok(done),
        }
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
            if passed.poll_unpin(context).is_ready() {
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

/// A planner whose plans have to be done in time, planning included.
#[derive(Debug)]
struct TimedPlanner {
    inner: Arc<dyn QueryPlanner + Send + Sync>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl QueryPlanner for TimedPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        state: &SessionState,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let deadline = Deadline::new(self.timeout, &*self.clock);
        let input =
            deadline.bound(self.inner.create_physical_plan(plan, state)).await.map_err(to_datafusion)??;
        Ok(Arc::new(TimeLimitExec { input, deadline }))
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

/// The memory of one query: shared out among its operators as a session's is, and taken from the session's.
#[derive(Debug)]
struct QueryPool {
    limit: usize,
    own: Arc<SharedMemoryPool>,
    session: Arc<dyn MemoryPool>,
}

impl QueryPool {
    fn shared(limit: usize, session: &Arc<dyn MemoryPool>) -> Arc<dyn MemoryPool> {
        Arc::new(Self { limit, own: SharedMemoryPool::new(limit), session: session.clone() })
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query({}, of {})", self.own, self.session)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
        self.session.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
        self.session.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.session.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.session.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DfResult<()> {
        self.own.try_grow(reservation, additional).map_err(|error| {
            DataFusionError::ResourcesExhausted(format!(
                "the query's memory limit of {} does not suffice; ask for less, or raise the limit (SqlOptions::memory_limit): {}",
                human_readable_size(self.limit),
                error.message(),
            ))
        })?;
        self.session
            .try_grow(reservation, additional)
            .inspect_err(|_| self.own.shrink(reservation, additional))
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        match self.session.memory_limit() {
            MemoryLimit::Finite(session) => MemoryLimit::Finite(session.min(self.limit)),
            _ => MemoryLimit::Finite(self.limit),
        }
    }
}

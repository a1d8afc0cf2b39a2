//! Limits of one query: of its memory ([`QueryPool`], [`held`]), and of the time that it runs ([`Deadline`]).
//!
//! A query runs by the state that its DataFrame holds. So a limited one has a state of its own, with a pool in front of the
//! session's, and a planner that starts the clock and has the
//! plan look at it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::common::{DataFusionError, Result as DfResult, human_readable_size};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use icefield_core::{Clock, Result};

use super::deadline::Deadline;
use super::{SqlOptions, held};
use crate::error::to_datafusion;
use crate::memory::{SharedMemoryPool, with_room_to_merge};
use crate::values::{self, BoundedValues};

impl SqlOptions {
    /// The state with these limits.
    pub(crate) fn limit(&self, mut state: SessionState, clock: &Arc<dyn Clock>) -> SessionState {
        if let Some(limit) = self.memory_limit {
            let session = state.runtime_env().clone();
            let pool = QueryPool::shared(limit, &session.memory_pool);
            let runtime = RuntimeEnv { memory_pool: pool.clone(), ..(*session).clone() };
            let config = with_room_to_merge(state.config().clone(), limit);
            let rules = state.analyzer().rules.iter().filter(|rule| rule.name() != values::RULE).cloned();
            let mut rules: Vec<_> = rules.collect();
            rules.push(Arc::new(BoundedValues::of_query(pool)));
            state = SessionStateBuilder::new_from_existing(state)
                .with_config(config)
                .with_analyzer_rules(rules)
                .with_runtime_env(Arc::new(runtime))
                .build();
        }
        if self.timeout.is_some() || self.memory_limit.is_some() {
            let (inner, clock) = (state.query_planner().clone(), clock.clone());
            let (timeout, counts) = (self.timeout, self.memory_limit.is_some());
            let planner = Arc::new(LimitedPlanner { inner, timeout, counts, clock });
            state = SessionStateBuilder::new_from_existing(state).with_query_planner(planner).build();
        }
        state
    }

    /// What a future gives, if it does in time.
    ///
    /// # Errors
    /// [`ResourceExhausted`](ErrorKind::ResourceExhausted) when it does not.
    pub(crate) async fn in_time<T>(
        &self,
        clock: &Arc<dyn Clock>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match self.timeout {
            Some(timeout) => Deadline::new(timeout, clock).bound(work).await?,
            None => work.await,
        }
    }
}

/// A planner whose plans have to be done in time, planning included, and count what their operators hold.
#[derive(Debug)]
struct LimitedPlanner {
    inner: Arc<dyn QueryPlanner + Send + Sync>,
    timeout: Option<Duration>,
    counts: bool,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl QueryPlanner for LimitedPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        state: &SessionState,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let planning = self.inner.create_physical_plan(plan, state);
        let counted = |plan| if self.counts { held::counted(plan) } else { Ok(plan) };
        let Some(timeout) = self.timeout else { return counted(planning.await?) };
        let deadline = Deadline::new(timeout, &self.clock);
        let plan = deadline.bound(planning).await.map_err(to_datafusion)??;
        deadline.on(counted(plan)?)
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

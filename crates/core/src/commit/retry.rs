//! How often and how long a commit is tried (`commit.retry.*`, `commit.status-check.*`), and the queue of one process's
//! commits to one table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::MutexGuard;
use uuid::Uuid;

use crate::clock::{Backoff, Clock};
use crate::config::Properties;
use crate::error::Result;

/// The most that a table's properties may ask for: whoever may set them must not make other writers wait for a year.
const MOST_WAIT: Duration = Duration::from_secs(5 * 60);
const MOST_TOTAL: Duration = Duration::from_secs(24 * 60 * 60);
const MOST_CHECKS: u32 = 50;

#[derive(Debug, Clone)]
pub(super) struct RetryPolicy {
    /// Unset: lost races are retried for as long as `total` lasts. Each lost race is another's commit, so that they are
    /// bounded by the others' work; a fixed number only makes some writer fail under load.
    retries: Option<u32>,
    backoff: Backoff,
    total: Duration,
    pub(super) status_checks: u32,
    status: Backoff,
    started_ms: i64,
}

impl RetryPolicy {
    pub(super) fn new(properties: &HashMap<String, String>, clock: &dyn Clock) -> Result<Self> {
        let properties = Properties::new(properties);
        let wait = |name, default| Ok::<_, crate::Error>(properties.millis_or(name, default)?.min(MOST_WAIT));
        let first = wait("commit.retry.min-wait-ms", 100)?;
        // A lost race says that others make progress, not that the catalog needs rest.
        let most = wait("commit.retry.max-wait-ms", 60_000)?.min(first.saturating_mul(32));
        Ok(Self {
            retries: properties.get("commit.retry.num-retries")?,
            backoff: Backoff::new(first, most),
            total: properties.millis_or("commit.retry.total-timeout-ms", 1_800_000)?.min(MOST_TOTAL),
            status_checks: properties.get_or("commit.status-check.num-retries", 3)?.min(MOST_CHECKS),
            status: Backoff::new(
                wait("commit.status-check.min-wait-ms", 1_000)?,
                wait("commit.status-check.max-wait-ms", 60_000)?,
            ),
            started_ms: clock.now_ms(),
        })
    }

    /// Whether another try may follow after `attempts`. `raced` tells a lost race from a passing failure, of which there
    /// are `commit.retry.num-retries` (4) at most.
    pub(super) fn may_retry(&self, attempts: u32, raced: bool, clock: &dyn Clock) -> bool {
        let in_time = clock.now_ms().saturating_sub(self.started_ms) < self.total.as_millis() as i64;
        let retries = match self.retries {
            Some(retries) => retries,
            None if raced => u32::MAX,
            None => 4,
        };
        in_time && attempts <= retries
    }

    /// The wait before try `attempts + 1`: doubling, with jitter, so that writers that collided part.
    pub(super) fn wait(&self, attempts: u32, clock: &dyn Clock) -> Duration {
        self.backoff.wait(attempts, clock)
    }

    pub(super) fn status_wait(&self, check: u32) -> Duration {
        self.status.longest(check + 1)
    }
}

/// The queue of this process's commits to one table. Those that wait in it don't race each other; other processes are met
/// at the catalog.
#[derive(Debug, Default)]
pub(super) struct Queue {
    turn: tokio::sync::Mutex<()>,
    commits: AtomicU64,
}

impl Queue {
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// A turn, where nobody has one or waits for one.
    pub(super) fn try_turn(&self) -> Option<MutexGuard<'_, ()>> {
        self.turn.try_lock().ok()
    }

    /// How many commits were asked of the catalog.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    pub(super) fn committed(&self) {
        self.commits.fetch_add(1, Ordering::AcqRel);
    }
}

/// The queue of a table.
pub(super) fn queue(table: Uuid) -> Arc<Queue> {
    static QUEUES: LazyLock<Mutex<HashMap<Uuid, Weak<Queue>>>> = LazyLock::new(Mutex::default);
    let mut queues = QUEUES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(queue) = queues.get(&table).and_then(Weak::upgrade) {
        return queue;
    }
    queues.retain(|_, queue| queue.strong_count() > 0);
    let queue = Arc::<Queue>::default();
    queues.insert(table, Arc::downgrade(&queue));
    queue
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn no_property_makes_a_writer_wait_for_long() {
        let names = ["retry.min-wait-ms", "retry.max-wait-ms", "retry.total-timeout-ms"];
        let names = names.into_iter().chain(["status-check.min-wait-ms", "status-check.max-wait-ms"]);
        let mut properties: HashMap<_, _> =
            names.map(|name| (format!("commit.{name}"), "31536000000".to_string())).collect();
        for name in ["commit.retry.num-retries", "commit.status-check.num-retries"] {
            properties.insert(name.to_string(), u32::MAX.to_string());
        }
        let policy = RetryPolicy::new(&properties, &SystemClock).unwrap();
        assert!((1..100).all(|tries| policy.wait(tries, &SystemClock) <= MOST_WAIT));
        let checks: Duration = (0..policy.status_checks).map(|check| policy.status_wait(check)).sum();
        assert!(checks <= MOST_TOTAL && policy.total <= MOST_TOTAL, "{policy:?}");
        // Waits within reason are kept.
        let names = ["commit.retry.min-wait-ms", "commit.retry.max-wait-ms"];
        let properties = names.map(|name| (name.to_string(), "240000".to_string()));
        let policy = RetryPolicy::new(&properties.into(), &SystemClock).unwrap();
        assert_eq!(policy.backoff.longest(1), Duration::from_secs(240));
    }
}

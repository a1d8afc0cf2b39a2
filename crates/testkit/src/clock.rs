//! [`FakeClock`]: time that moves when a test says so, chance from a seed.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use icefield_core::Clock;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// 2024-01-01T00:00:00Z: where a clock starts unless it is set.
const START_MS: i64 = 1_704_067_200_000;

/// A clock whose time moves by [`FakeClock::advance`] and by sleeping, which returns at once. Clones share their time.
#[derive(Debug, Clone)]
pub struct FakeClock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    now_ms: AtomicI64,
    sleeps: Mutex<Vec<Duration>>,
    random: Mutex<StdRng>,
}

impl FakeClock {
    /// A clock at 2024-01-01T00:00:00Z, its chance from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Inner {
            now_ms: AtomicI64::new(START_MS),
            sleeps: Mutex::default(),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        }))
    }

    /// The clock, ready to share.
    pub fn shared(&self) -> Arc<dyn Clock> {
        Arc::new(self.clone())
    }

    /// Sets the time, in milliseconds since the epoch.
    pub fn set_ms(&self, now_ms: i64) {
        self.0.now_ms.store(now_ms, Ordering::SeqCst);
    }

    /// Moves the time on.
    pub fn advance(&self, by: Duration) {
        self.0.now_ms.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// How long each sleep was, in order.
    pub fn sleeps(&self) -> Vec<Duration> {
        self.0.sleeps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Clock for FakeClock {
    fn now_ms(&self) -> i64 {
        self.0.now_ms.load(Ordering::SeqCst)
    }

    fn random(&self) -> u64 {
        self.0.random.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            clock.advance(duration);
            clock.0.sleeps.lock().unwrap_or_else(PoisonError::into_inner).push(duration);
            // Whoever this sleep waits for gets a turn.
            tokio::task::yield_now().await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleeping_moves_time_and_a_seed_repeats_its_ids() {
        let clock = FakeClock::new(7);
        let before = clock.now_ms();
        clock.sleep(Duration::from_secs(90)).await;
        assert_eq!(clock.now_ms() - before, 90_000);
        assert_eq!(clock.sleeps(), [Duration::from_secs(90)]);
        assert_eq!(FakeClock::new(7).uuid(), FakeClock::new(7).uuid());
        assert_ne!(FakeClock::new(7).uuid(), FakeClock::new(8).uuid());
    }
}

//! The sources of time, ids and chance. Everything else in the library gets them from here, so that tests can hold them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serializer;
use uuid::Uuid;

/// Time and chance, injected. [`SystemClock`] is the real one.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64;

    /// 64 random bits.
    fn random(&self) -> u64;

    /// Waits.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// A random (version 4) UUID.
    fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.random().to_be_bytes());
        bytes[8..].copy_from_slice(&self.random().to_be_bytes());
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

/// Waits between tries of the same work: each at most twice the one before it, and by chance shorter, so that
/// those who collided part.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    most: Duration,
}

impl Backoff {
    /// Waits of up to `first`, then up to twice as much, and so on up to `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most }
    }

    /// The longest wait after a number of tries that failed, of which there was one at least.
    pub fn longest(&self, failed: u32) -> Duration {
        let doublings = failed.saturating_sub(1).min(u32::BITS - 1);
        self.first.saturating_mul(1 << doublings).min(self.most)
    }

    /// The wait after a number of tries that failed: a tenth of the longest at least.
    pub fn wait(&self, failed: u32, clock: &dyn Clock) -> Duration {
        let share = (clock.random() >> 11) as f64 / (1u64 << 53) as f64;
        self.longest(failed).mul_f64(0.1 + 0.9 * share)
    }
}

/// A duration of a report as `serde` writes it: seconds, and their fractions.
///
/// # Errors
/// The serializer's.
pub fn serialize_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// The operating system's clock and the process's random number generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The system clock, ready to share.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that asks the system
    fn now_ms(&self) -> i64 {
        chrono::Utc::now().timestamp_millis()
    }

    #[allow(clippy::disallowed_methods)]
    fn random(&self) -> u64 {
        rand::random()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

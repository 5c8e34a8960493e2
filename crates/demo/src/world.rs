//! The only file of this crate that reads the clock and starts tasks.
//!
//! It decides nothing and measures nothing; everything else gets its time from a [`Clock`] and its tasks from [`spawn`].
//! Called by the whole crate. Invariant: all times of one run count from the same start, so differences between them hold.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Monotonic time since the start of a run, and the wall time of that start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    start_unix_us: i64,
}

impl Clock {
    /// A clock that starts now.
    #[allow(clippy::disallowed_methods, reason = "the one place of this crate that reads the clock")]
    pub fn start() -> Self {
        let start = Instant::now();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start, start_unix_us: i64::try_from(unix.as_micros()).unwrap_or(i64::MAX) }
    }

    /// Microseconds since the start.
    #[allow(clippy::disallowed_methods, reason = "the one place of this crate that reads the clock")]
    pub fn now_us(&self) -> i64 {
        i64::try_from(Instant::now().duration_since(self.start).as_micros()).unwrap_or(i64::MAX)
    }

    /// Turns a wall time of another process on this machine (microseconds) into microseconds since the start.
    pub fn from_unix_us(&self, unix_us: i64) -> i64 {
        unix_us.saturating_sub(self.start_unix_us)
    }

    /// The wall time in microseconds, as this clock has it.
    pub fn now_unix_us(&self) -> i64 {
        self.start_unix_us.saturating_add(self.now_us())
    }

    /// Sleeps until `at_us` microseconds after the start; returns at once when that has passed.
    pub async fn sleep_until_us(&self, at_us: i64) {
        let offset = Duration::from_micros(u64::try_from(at_us).unwrap_or(0));
        tokio::time::sleep_until(self.start + offset).await;
    }
}

/// Starts a task on the current runtime.
#[allow(clippy::disallowed_methods, reason = "the one place of this crate that starts tasks")]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// A task that ends with its owner: dropping this aborts it.
#[derive(Debug)]
pub struct Background(JoinHandle<()>);

impl Background {
    /// Starts `future` as a task that lives as long as the returned value.
    pub fn start(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(spawn(future))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

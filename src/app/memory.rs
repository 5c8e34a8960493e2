//! Lets sessions go to rest before their memory is more than `[state] max_memory`: those first that nobody used for longest.
//!
//! It never touches a session that was used just now, and never drops one: what cannot rest stays, and beyond the limit whatever
//! would make a session larger is refused (`src/store/memory.rs`).
//!
//! | memory | |
//! |---|---|
//! | above 9/10 of the limit | sessions go to rest until it is 8/10 |
//! | at the limit | births and growing writes are refused with Redis's OOM error |
//!
//! Bounds: [`AT_ONCE_MAX`] sessions a turn.

use crate::driver::{Handle, clock};
use crate::store::Store;
use crate::telemetry::names;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// A session that was used within this time is in use.
const IN_USE_US: u64 = 1_000_000;
/// Sessions of one turn.
const AT_ONCE_MAX: usize = 10_000;

/// Runs until told to stop.
pub(super) async fn keep_within(store: Arc<Store>, driver: Handle, mut stopping: watch::Receiver<bool>) {
    let mut period = tokio::time::interval(PAUSE);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            _ = period.tick() => {}
        }
        let Some((bytes, bytes_max)) = store.memory() else { return };
        metrics::gauge!(names::MEMORY).set(bytes as f64);
        metrics::gauge!(names::MEMORY_MAX).set(bytes_max as f64);
        if bytes < bytes_max / 10 * 9 {
            continue;
        }
        let mut unused =
            store.least_used(bytes.saturating_sub(bytes_max / 10 * 8), clock::now().boot_us.saturating_sub(IN_USE_US));
        unused.truncate(AT_ONCE_MAX);
        if unused.is_empty() {
            continue;
        }
        // An error means that the node was fenced meanwhile, and what it had is gone with that life.
        if let Ok((done, failed)) = driver.check_in(unused).await {
            metrics::counter!(names::MEMORY_CHECK_INS).increment(done);
            tracing::debug!(done, failed, "sessions went to rest to make room");
        }
    }
}

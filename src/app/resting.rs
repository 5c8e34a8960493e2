//! Sends sessions that nobody uses to rest, now and then.
//!
//! It decides only who has not been used for long enough; whether one can go, the engine says. Runs where sessions are at rest.
//! Bounds: [`AT_ONCE_MAX`] sessions a turn, so that their batches do not stand before those of sessions in use.

use crate::driver::{Handle, clock};
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Sessions of one turn.
const AT_ONCE_MAX: usize = 10_000;
/// The longest pause between turns; the pause is a quarter of the time after which a session is unused.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Runs until told to stop.
pub(super) async fn check_in_unused(store: Arc<Store>, driver: Handle, after_ms: u64, mut stopping: watch::Receiver<bool>) {
    let pause = Duration::from_millis(after_ms / 4).clamp(Duration::from_millis(25), PAUSE_MAX);
    let mut period = tokio::time::interval(pause);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            _ = period.tick() => {}
        }
        let unused = store.unused_since(clock::now().boot_us.saturating_sub(after_ms * 1000), AT_ONCE_MAX);
        if unused.is_empty() {
            continue;
        }
        match driver.check_in(unused).await {
            Ok((done, failed)) => tracing::debug!(done, failed, "unused sessions went to rest"),
            // The node was fenced meanwhile, and what it had is gone with that life; or it ends, and this is told to stop.
            Err(_) => tracing::debug!("unused sessions were not heard of again"),
        }
    }
}

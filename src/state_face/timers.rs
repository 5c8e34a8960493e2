//! The times that a client's loop measures.
//!
//! It decides nothing. Called by the loop in [`super::connection`].
//! Invariant: a time that nobody wants is not measured.

use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Begins to measure a time when it is first wanted.
pub(super) fn arm(timer: Pin<&mut Sleep>, runs: &mut bool, wanted: bool, time: Duration) {
    if wanted && !*runs {
        timer.reset(after(time));
    }
    *runs = wanted;
}

/// A timer that costs nothing until it is waited for.
pub(super) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

#[allow(clippy::disallowed_methods, reason = "a deadline of tokio's own timer needs tokio's own clock")]
fn after(pause: Duration) -> Instant {
    Instant::now() + pause
}

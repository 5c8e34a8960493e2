//! The clock and the pauses of the comparison; nothing else here reads the time.
//!
//! It never says what a time means. Called by every other file.

use std::time::{Duration, Instant};

/// Now, on a clock that only goes forward.
#[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Sleeps: between two looks at a condition, or for the length of a measurement.
#[allow(clippy::disallowed_methods, reason = "no runtime runs here: there is nothing to stall")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

//! What this crate asks of the world beside its sockets: the time, and random bytes.
//!
//! It decides nothing. The exchange calls it and hands what it gets to the pure parts as arguments. Invariant: no other file of this crate reads
//! a clock.

use crate::trace;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The time of day: of lines in the access log, and of passes.
#[allow(
    clippy::disallowed_methods,
    reason = "lines of the access log have the time of day, and passes an age that two machines can tell"
)]
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(0))
}

/// What new traces are made of. Without random bytes a trace's id would be zero, which nobody takes for one.
pub(crate) fn random() -> [u8; trace::RANDOM_BYTES] {
    let mut bytes = [0; trace::RANDOM_BYTES];
    if getrandom::fill(&mut bytes).is_err() {
        tracing::error!("the system gives no random bytes");
    }
    bytes
}

/// For durations.
#[allow(clippy::disallowed_methods, reason = "durations of requests are measured here and nowhere else in this crate")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

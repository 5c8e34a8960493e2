//! The only clock of the product.
//!
//! It never says what a time means: leases and deadlines count CLOCK_BOOTTIME, which goes on while the machine sleeps, so that a
//! lease cannot outlast a suspend; the expiry of keys counts the wall clock, as Redis does.

use rustix::time::{ClockId, clock_gettime};
use wayfarer_engine::ids::Now;

use crate::store::Clock;

/// The system's clocks, for the hot path.
pub struct System;

impl Clock for System {
    fn unix_ms(&self) -> u64 {
        unix_us() / 1_000
    }

    fn boot_us(&self) -> u64 {
        of(ClockId::Boottime)
    }
}

/// The time now.
pub fn now() -> Now {
    Now { boot_us: of(ClockId::Boottime), unix_ms: unix_us() / 1_000 }
}

/// Microseconds since 1970.
pub fn unix_us() -> u64 {
    of(ClockId::Realtime)
}

fn of(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let part = |n: i64| u64::try_from(n).unwrap_or(0);
    part(time.tv_sec) * 1_000_000 + part(time.tv_nsec) / 1_000
}

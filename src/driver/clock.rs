//! The only clock of the product.
//!
//! It never says what a time means: leases and deadlines count CLOCK_BOOTTIME, which goes on while the machine sleeps, so that a
//! lease cannot outlast a suspend; the expiry of keys counts the wall clock, as Redis does.

use rustix::time::{ClockId, clock_gettime};
use wayfarer_engine::ids::Now;

/// The time now.
pub fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let unix = clock_gettime(ClockId::Realtime);
    let part = |n: i64| u64::try_from(n).unwrap_or(0);
    Now {
        boot_us: part(boot.tv_sec) * 1_000_000 + part(boot.tv_nsec) / 1_000,
        unix_ms: part(unix.tv_sec) * 1_000 + part(unix.tv_nsec) / 1_000_000,
    }
}

/// Microseconds since 1970, for the log of moves.
pub fn unix_us() -> u64 {
    let unix = clock_gettime(ClockId::Realtime);
    let part = |n: i64| u64::try_from(n).unwrap_or(0);
    part(unix.tv_sec) * 1_000_000 + part(unix.tv_nsec) / 1_000
}

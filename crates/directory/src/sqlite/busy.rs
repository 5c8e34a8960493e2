//! Waiting for what another process or thread holds: SQLite's locks, and mutexes of this process.
//!
//! It never waits for ever. SQLite's own handler pauses up to 100 ms between tries, which is many times the length of a
//! commit here; this one pauses a quarter of a millisecond, so a birth that meets another process's commit stays short.

use rusqlite::Connection;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const PAUSE: Duration = Duration::from_micros(250);
const PAUSES_PER_MS: u64 = 4;

/// Makes `conn` try again for about `busy_ms` milliseconds when another connection has the lock.
pub(super) fn wait_while_busy(conn: &mut Connection, busy_ms: u64) -> rusqlite::Result<()> {
    let tries_max = busy_ms.saturating_mul(PAUSES_PER_MS);
    conn.busy_handler(Some(move |tries: i32| {
        let again = u64::try_from(tries).unwrap_or(u64::MAX) < tries_max;
        if again {
            pause();
        }
        again
    }))
}

/// One short pause between two tries.
#[allow(clippy::disallowed_methods, reason = "the pause of a bounded retry, on a thread of its own")]
pub(super) fn pause() {
    std::thread::sleep(PAUSE);
}

/// How many pauses make `busy_ms`.
pub(super) fn pauses(busy_ms: u64) -> u64 {
    busy_ms.saturating_mul(PAUSES_PER_MS)
}

/// The guard of a mutex; what is behind ours stays whole when a holder panics.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What the second process and the test that starts it know alike: the directory's options and the crowds of sessions.
//!
//! It starts and writes nothing.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

use std::path::PathBuf;
use wayfarer_directory::{SqliteDirectory, SqliteOptions};
use wayfarer_engine::ids::SessionId;

/// How many crowds of sessions the storm writes in turn.
pub const CROWDS: u64 = 16;
/// How many sessions a crowd has.
const CROWD: u64 = 64;

pub fn open(path: impl Into<PathBuf>) -> SqliteDirectory {
    SqliteDirectory::open(path, SqliteOptions { busy_ms: 20_000, ..SqliteOptions::default() }).unwrap()
}

/// The sessions that one transaction moves: so many that a kill at any time is most likely in the middle of one.
pub fn crowd(n: u64) -> impl Iterator<Item = SessionId> {
    (0..CROWD).map(move |i| SessionId::copy_of(format!("crowd {n} session {i}").as_bytes()))
}

//! End to end: what the sidecar promises to those who use it, with real processes and real sockets.
//!
//! It asks only from outside: Redis commands, HTTP, signals, exit codes, the command line. Each test has a cluster of its own in
//! a folder of its own, so all may run at the same time. What happens when something breaks is in `tests/faults`.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test reports by panicking"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod admin;
mod adopt;
mod channels;
mod commands;
mod forward;
mod forward_leave;
mod instance;
mod lazy;
mod leave;
mod life;
mod listeners;
mod memory;
mod private;
mod rename;
mod routes;
mod scale;
mod starting;
mod storm;
mod turns;
mod unread;

use harness::resp::{Client, Reply};
use harness::scene::{KEYS, cluster, filler, hset};

fn set(client: &mut Client, key: &str, value: &[u8]) -> Reply {
    client.call(&[b"SET".as_slice(), key.as_bytes(), value])
}

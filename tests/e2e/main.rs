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
mod instance;
mod lazy;
mod leave;
mod life;
mod private;
mod scale;
mod starting;

use harness::Cluster;
use harness::resp::{Client, Reply};

/// The keys of all these tests: a hash and a blob belong to one session.
const KEYS: &str =
    r#"[{ pattern = "s:{session}", layout = "hash" }, { pattern = "k:{session}", layout = "key", variable = "blob" }]"#;

/// A cluster whose nodes do not wait before they close: no balancer watches them.
fn cluster() -> Cluster {
    Cluster::new(KEYS).set(&["drain.settle_ms=0"])
}

/// Bytes that are not the same anywhere, so that a mix-up shows: of this length, for this name.
fn filler(name: &str, length: usize) -> Vec<u8> {
    name.bytes().cycle().zip(0u32..).take(length).map(|(b, i)| b ^ u8::try_from((i * 31 + i / 7) % 251).unwrap()).collect()
}

fn hset(client: &mut Client, key: &str, field: &str, value: &[u8]) -> Reply {
    client.call(&[b"HSET".as_slice(), key.as_bytes(), field.as_bytes(), value])
}

fn set(client: &mut Client, key: &str, value: &[u8]) -> Reply {
    client.call(&[b"SET".as_slice(), key.as_bytes(), value])
}

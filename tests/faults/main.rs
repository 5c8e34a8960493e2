//! Faults: nodes that are killed, frozen and started again, and clients that send anything at all.
//!
//! Real processes, SIGKILL and SIGSTOP. What is checked afterwards is always the same: one owner, never a wrong value, nothing
//! acknowledged lost while its owner lives, and whatever cannot be known now is a clear error. Each test has a cluster of its own.
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

mod bad_input;
mod holder_gone;
mod paused;
mod restarted;
mod target_gone;

use harness::resp::{Client, Reply};
use harness::{Cluster, until};

/// The keys of all these tests: a hash and a blob belong to one session.
const KEYS: &str =
    r#"[{ pattern = "s:{session}", layout = "hash" }, { pattern = "k:{session}", layout = "key", variable = "blob" }]"#;

fn cluster() -> Cluster {
    Cluster::new(KEYS).set(&["drain.settle_ms=0"])
}

/// Bytes that differ for each name.
fn filler(name: &str, length: usize) -> Vec<u8> {
    name.bytes().cycle().zip(0u32..).take(length).map(|(b, i)| b ^ u8::try_from((i * 31 + i / 7) % 251).unwrap()).collect()
}

/// Asks until the answer is another than "ask again": what a client does.
fn settled<A: AsRef<[u8]>>(client: &mut Client, words: &[A]) -> Reply {
    until("an answer that is none of TRYAGAIN", || Some(client.call(words)).filter(|r| !r.is_try_again()))
}

fn hset(client: &mut Client, key: &str, field: &str, value: &[u8]) -> Reply {
    client.call(&[b"HSET".as_slice(), key.as_bytes(), field.as_bytes(), value])
}

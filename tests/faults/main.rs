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
mod directory_held;
mod holder_gone;
mod paused;
mod restarted;
mod target_gone;

use harness::resp::{Client, Reply};
use harness::scene::{cluster, filler, hset};
use harness::until;

/// Asks until the answer is another than "ask again": what a client does.
fn settled<A: AsRef<[u8]>>(client: &mut Client, words: &[A]) -> Reply {
    until("an answer that is none of TRYAGAIN", || Some(client.call(words)).filter(|r| !r.is_try_again()))
}

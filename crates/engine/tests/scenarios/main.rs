//! Scripted scenarios of the engine's node: each message delivered and each transaction answered by hand, in an order that matters.
//!
//! Nothing here is random and nothing passes by itself: what is not in the script does not happen. After every step the world
//! checks that at most one node would answer and that the directory names it. The simulator (`wayfarer-sim`) looks for orders
//! that nobody thought of; these are the ones that somebody did.
//!
//! | file | sentences about |
//! |---|---|
//! | `whole` | one handover from its proposal to its last confirmation; the budgets |
//! | `deaths` | the target or the origin dies on the way |
//! | `doubt` | commits and fences whose outcome is unknown, applied late |
//! | `disorder` | messages that are lost, late, or out of order |
//! | `chains` | sessions that move on, or back, with variables still elsewhere |
//! | `births` | births, ends and reads under uncertainty |
//! | `following` | when a session follows its clients |
//! | `standing` | leases, groups, the drain |
//! | `rests` | check-out, write-behind, check-in, debts: with an upstream |
//! | `renames` | keys that become another session's |
//! | `world`, `requests`, `clients`, `book`, `upstream` | the stage: nodes and letters, what is asked, who reads and writes, the directory, the upstream |
//! | `faults` | each deliberate bug is seen by one of them (with the feature `bugs`) |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod births;
mod book;
mod chains;
mod clients;
mod deaths;
mod disorder;
mod doubt;
#[cfg(feature = "bugs")]
mod faults;
mod following;
mod renames;
mod requests;
mod rests;
mod standing;
mod upstream;
mod whole;
mod world;

//! The stage: real nodes on this machine, and what can be seen of them from outside.
//!
//! It knows no virtual users. Called by the run. `config` writes what a node is told, `node` starts and ends it, `admin` asks it,
//! `board` keeps what it answered, `moves` makes moves and pauses of that; `machine` says who else was at work.
//! Invariant: whatever ends the demo ends its nodes too.

pub mod admin;
pub mod board;
pub mod config;
pub mod machine;
pub mod moves;
pub mod node;

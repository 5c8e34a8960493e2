//! The seeded world in which the production machines of the engine are tried.
//!
//! It never imitates a machine: the nodes are [`wayfarer_engine::node::Node`]s with tables in memory. Everything else is modelled:
//! clocks that drift, a network that loses and delays, a directory whose outcomes may be unknown and late, processes that crash,
//! pause and start again under their names, and clients that quarrel over a few sessions. A seed is a whole run.
//!
//! In reading order: [`run`] (a run) · [`profile`] (what a seed gives) · [`world`] (events) · [`host`], [`shell`], [`operation`]
//! (a node and its operations) · [`clients`] · [`faults`] · [`network`], [`directory`] · [`truth`], [`history`], [`invariants`]
//! (what must hold) · [`coverage`], [`trace`] (what happened) · [`random`].
#![allow(
    clippy::indexing_slicing,
    reason = "indices are those of the world's own lists; a wrong one is a mistake of the simulator"
)]

pub mod clients;
pub mod coverage;
pub mod directory;
pub mod faults;
pub mod history;
pub mod host;
pub mod invariants;
mod modes;
mod names;
pub mod network;
pub mod operation;
pub mod profile;
pub mod random;
pub mod rename;
mod requests;
pub mod run;
pub mod shell;
pub mod trace;
pub mod truth;
pub mod upstream;
pub mod world;

//! What Wayfarer decides: pure, synchronous, without sockets, clocks or tasks.
//!
//! Time, randomness and ids are arguments; what the world must do comes back as effects. The same machines run in production
//! (package `wayfarer`, folder `driver`) and in the simulator (`wayfarer-sim`).
//!
//! In reading order: [`ids`] and [`directory`] (the terms) · [`session`] (variables, layouts, manifest) · [`plan`] (classes) · [`profile`] (who uses which sessions) ·
//! [`command`] (Redis commands on a session) · [`residence`] (a session at its owner) · [`lease`] · [`mode`] · [`handover`] (the tables) ·
//! [`node`] (all of it together) · [`wire`] (bytes) · [`bugs`] (for the checks).

pub mod bugs;
pub mod command;
pub mod directory;
pub mod handover;
pub mod ids;
pub mod lease;
pub mod mode;
pub mod node;
pub mod plan;
pub mod profile;
pub mod residence;
pub mod rest;
pub mod session;
pub mod wire;

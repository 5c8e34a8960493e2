//! Wayfarer: a sidecar proxy that lets the sessions of a stateful service travel between its instances.
//!
//! ```text
//!  client ─► balancer ─► http face ─► instance ─► state face ─┬─ open here ────► store ─► reply
//!                                                             └─ else ─► operations ─► driver ─► engine
//!                                     other sidecars ◄─► control      directory ◄────┘
//! ```
//! In reading order: [`app`] puts everything together · [`state_face`] speaks RESP · [`store`] holds the sessions of this node ·
//! [`operations`] is the way of what the store cannot answer · [`passage`] is their way in each mode of the cluster ·
//! [`driver`] runs the engine · [`control`] talks to other nodes · [`questions`] joins their answers · [`bus`] tells subscribers ·
//! [`routing`] says where requests run · [`rebalance`] evens out · [`rest`] keeps sessions in the upstream · [`upstream`] reaches it · [`redirect`] takes what
//! rules have redirected · [`admin`] talks to operators · [`telemetry`] · [`cli`].

pub mod admin;
pub mod app;
pub mod bus;
pub mod cli;
pub mod control;
pub mod driver;
pub mod operations;
pub mod passage;
pub mod questions;
pub mod rebalance;
pub mod redirect;
mod replies;
pub mod rest;
pub mod routing;
pub mod state_face;
pub mod store;
pub mod telemetry;
pub mod upstream;

/// A real Redis for the tests of these modules.
#[cfg(test)]
#[path = "../tests/harness/redis_server.rs"]
mod redis_server;

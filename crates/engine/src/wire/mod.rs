//! Bytes to values and back: RESP for clients, the control channel for nodes.
//!
//! Never performs I/O: a shell hands in what it read and sends what comes out.

pub mod control;
pub mod resp;

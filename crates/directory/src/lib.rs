//! Backends of the directory and the conformance suite that each of them runs.
//!
//! Nothing here decides who owns what: the machines of `wayfarer-engine` build transactions, a backend performs them. The
//! composition root opens a backend and hands it to the driver as a [`wayfarer_engine::directory::Directory`].
//!
//! | module | what |
//! |---|---|
//! | [`sqlite`] | one machine, several processes, one file |
//! | `conformance` | what every backend must keep (feature `conformance`) |

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod sqlite;

pub use sqlite::{SqliteDirectory, SqliteOptions};

//! Connections that rules of the kernel have redirected to here (`wayfarer redirect` writes them): where each wanted to go, and who gets it.
//!
//! It never speaks for a face: what a face is to serve it hands over as it came. Nothing of what was said on it has been read by then.
//! The composition root binds its listeners and runs its gates, one a direction.
//!
//! | wanted to go to (SO_ORIGINAL_DST) | outbound | inbound |
//! |---|---|---|
//! | the upstream, by an address that its name has; the instance's port | the state face | the HTTP face |
//! | another server | passed through to it, byte for byte | refused |
//! | nowhere else: somebody has connected to the listener itself | refused | refused |
//! | not known, for the upstream's name is not resolved | closed | |
//!
//! | file | |
//! |---|---|
//! | `original` | listeners, and where a connection wanted to go |
//! | `gate` | accepts, and gives each connection its way |
//! | `known` | whether an address is the upstream's |
//! | `passing` | what is passed through, and what is refused |
//! | `user` | users and their numbers |
//!
//! Bounds: connections that are passed through or not decided yet, for each gate; [`known::NAMES_MS_MAX`] for the name.
//! Invariant: what went to another server is never answered here, and nothing is sent back to the listener that it came from.

mod gate;
mod known;
mod original;
mod passing;
mod user;

pub use gate::Gate;
pub use known::Known;
pub use original::{Addresses, Listeners};
pub use user::{number_of, runs_as};

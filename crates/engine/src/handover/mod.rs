//! The state machines of one handover: what each side does next, given what it hears.
//!
//! Pure tables: (state, event) → (state, action). They never see a session, a message or a record; [`crate::node`] turns what
//! happens into events and performs the actions. A batch is many handovers at once: each has its own outcome, their messages
//! share frames and their transactions share commits.
//!
//! [`origin`]: the owner that gives · [`target`]: the member that takes. Both tables are printed in full by a test and
//! compared with a snapshot.

pub mod origin;
pub mod target;

#[cfg(test)]
mod tests;

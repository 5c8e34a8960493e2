//! The table of a check-in: an owned session goes to rest.
//!
//! ```text
//!  Flushing ──written──► Removing ──removed──► AtRest
//!    │  ▲                  │   └──another's──► Taken
//!    │  └─written behind─┐ └──unknown──► (the same transaction again)
//!    └──refused, late──► Reopened
//! ```
//! The gate is closed (`Resting`) from the first state on: what comes is parked, and checks the session out again.
//!
//! Invariant: *planned moves lose nothing*: the record goes only when the upstream has confirmed everything. Once the transaction
//! that removes it is out, only the directory knows, and the gate stays closed.

use crate::bugs::{self, Bug};

/// Where a check-in is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The gate is closed; what is unwritten goes upstream.
    Flushing,
    /// The upstream has everything; the record is being removed.
    Removing,
    /// Done. Ended.
    AtRest,
    /// It stays here and answers again. Ended.
    Reopened,
    /// The record is not ours any more. Ended.
    Taken,
}

/// What happens to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The gate is closed and something is unwritten.
    Dirty,
    /// The upstream has everything.
    Written,
    /// The upstream did not take it in time.
    Late,
    /// The record is gone.
    Removed,
    /// The record is another's.
    Another,
    /// Nobody knows what became of the transaction.
    Unknown,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing.
    None,
    /// Write what is unwritten.
    Flush,
    /// Send the transaction that removes the record.
    Remove,
    /// Send it again, after a pause.
    RemoveAgain,
    /// Forget the session.
    Forget,
    /// Open the gate.
    Open,
}

/// All states.
pub const STATES: [State; 5] = [State::Flushing, State::Removing, State::AtRest, State::Reopened, State::Taken];
/// All events.
pub const EVENTS: [Event; 6] = [Event::Dirty, Event::Written, Event::Late, Event::Removed, Event::Another, Event::Unknown];

/// The table.
pub fn step(state: State, event: Event) -> (State, Action) {
    use Action as A;
    use Event as E;
    use State as S;
    match (state, event) {
        (S::Flushing, E::Dirty) if bugs::on(Bug::CheckInBeforeFlush) => (S::Removing, A::Remove),
        (S::Flushing, E::Dirty) => (S::Flushing, A::Flush),
        (S::Flushing, E::Written) => (S::Removing, A::Remove),
        (S::Flushing, E::Late) => (S::Reopened, A::Open),
        (S::Removing, E::Removed) => (S::AtRest, A::Forget),
        (S::Removing, E::Another) => (S::Taken, A::Forget),
        (S::Removing, E::Unknown) => (S::Removing, A::RemoveAgain),
        (state, _) => (state, A::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn transition_table() {
        let mut text = String::new();
        for state in STATES {
            for event in EVENTS {
                let (to, action) = step(state, event);
                let _ = writeln!(text, "{state:?} × {event:?} → {to:?} · {action:?}");
            }
        }
        insta::assert_snapshot!(text);
    }
}

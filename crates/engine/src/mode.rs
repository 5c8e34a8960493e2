//! The cluster's mode: who answers for sessions, the upstream (`observe`) or their owners (`own`), and how that changes.
//!
//! It never looks at a member by itself and performs nothing: it is a table, and the transactions that follow it.
//! [`crate::node`] confirms, goes on and takes back; the admin interface orders.
//!
//! ```text
//!            ordered                    all confirmed
//!   Own ───────────────► Settling ───────────────────────────► Observe
//!    ▲                     │  ▲  late, or ordered back           │  ▲  late, or ordered back
//!    │              ordered▼  │                            ordered▼  │
//!    ├──────────── Parking(from Settling)   ┌──────────── Parking(from Observe)
//!    └──────────────────────────────────────┘ all confirmed
//! ```
//! | phase | an operation on a session | claims | a member confirms when |
//! |---|---|---|---|
//! | own | its owner; at rest: claimed | yes | – |
//! | settling | its owner; without one: the upstream, after a read of the directory | of what has a record already | it has no session any more |
//! | observe | the upstream; the directory is not asked | no | – |
//! | parking | waits; what is under way to the upstream ends | no | nothing of it is under way to the upstream |
//!
//! **Why nobody needs to confirm before `settling` begins.** Every claim compares the generation, so from that transaction on no
//! session gets an owner that had none; a member that has not heard of it yet is refused, reads again and finds out. Whoever sends
//! an operation upstream has read, in one snapshot, that the session has no owner and that the mode is not `own`.
//!
//! **Why everybody must confirm before `own` begins.** A member in `observe` asks nobody. Until it has confirmed that what it had
//! under way has been answered and that new operations wait, a claim could load a session that a write is still on its way to.
//!
//! Invariant: *one owner*: while a session has an owner, nothing but that owner's guarded stores goes to its keys.

use crate::directory::{Compare, MemberState, Transaction, View, Write};
use crate::ids::Incarnation;

/// The longest note of a change, in bytes.
pub const NOTE_BYTES_MAX: usize = 512;
/// Members that a note names at most.
const NAMED_MAX: usize = 8;

/// What an operator wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Goal {
    /// Owners answer for sessions.
    Own,
    /// The upstream answers for sessions.
    Observe,
}

/// Where the cluster is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Sessions have owners.
    Own,
    /// On the way to `Observe`: every owner sends its sessions to rest.
    Settling,
    /// No session has an owner.
    Observe,
    /// On the way to `Own`: new operations wait, those under way end.
    Parking {
        /// Whether it began in `Observe`, and goes back there.
        observed: bool,
    },
}

/// The record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mode {
    /// Grows with each change, never reused.
    pub generation: u64,
    /// Where the cluster is.
    pub phase: Phase,
}

impl Default for Mode {
    /// That of a directory without a change.
    fn default() -> Mode {
        Mode { generation: 1, phase: Phase::Own }
    }
}

/// What happens to the mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// An operator wants this.
    Ordered(Goal),
    /// Every living member has confirmed.
    AllConfirmed,
    /// Somebody did not confirm in time.
    Late,
}

/// Where operations of clients go at a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// To owners.
    Owner,
    /// To the upstream, without asking anybody.
    Upstream,
    /// They wait; the generation to confirm when those under way have ended.
    Wait {
        /// See above.
        generation: u64,
    },
}

/// The table; `None`: the event changes nothing.
pub fn step(phase: Phase, event: Event) -> Option<Phase> {
    use Event as E;
    use Phase as P;
    match (phase, event) {
        (P::Own, E::Ordered(Goal::Observe)) => Some(P::Settling),
        (P::Settling, E::AllConfirmed) => Some(P::Observe),
        (P::Settling, E::Ordered(Goal::Own)) => Some(P::Parking { observed: false }),
        (P::Observe, E::Ordered(Goal::Own)) => Some(P::Parking { observed: true }),
        (P::Parking { .. }, E::AllConfirmed) => Some(P::Own),
        (P::Parking { observed: false }, E::Ordered(Goal::Observe) | E::Late) => Some(P::Settling),
        (P::Parking { observed: true }, E::Ordered(Goal::Observe) | E::Late) => Some(P::Observe),
        _ => None,
    }
}

impl Phase {
    /// What the cluster is, or is becoming.
    pub fn goal(self) -> Goal {
        match self {
            Phase::Own | Phase::Parking { .. } => Goal::Own,
            Phase::Settling | Phase::Observe => Goal::Observe,
        }
    }

    /// Its word for people, and on status pages.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Own => "own",
            Phase::Settling => "settling",
            Phase::Observe => "observe",
            Phase::Parking { .. } => "parking",
        }
    }
}

impl Mode {
    /// Where operations go.
    pub fn route(self) -> Route {
        match self.phase {
            Phase::Own | Phase::Settling => Route::Owner,
            Phase::Observe => Route::Upstream,
            Phase::Parking { .. } => Route::Wait { generation: self.generation },
        }
    }

    /// The change that an event makes; `None`: it makes none. Sent again it is refused, for the generation has grown.
    pub fn change(self, event: Event, note: String) -> Option<Transaction> {
        let phase = step(self.phase, event)?;
        let generation = self.generation;
        let mut compare = vec![Compare::Mode { generation }];
        if event == Event::AllConfirmed {
            compare.push(Compare::Confirmed { generation });
        }
        Some(Transaction { compare, write: vec![Write::Mode { phase, note }] })
    }

    /// A member's confirmation of it.
    pub fn confirmation(self, incarnation: Incarnation) -> Transaction {
        let generation = self.generation;
        let mut write = vec![Write::Confirm { incarnation, generation }];
        if self.phase == Phase::Settling {
            write.push(Write::Disown { incarnation });
        }
        Transaction { compare: vec![Compare::Mode { generation }, Compare::Alive { incarnation }], write }
    }
}

/// The living members that have not confirmed the present mode.
pub fn unconfirmed(view: &View) -> impl Iterator<Item = &str> {
    let late = |m: &&crate::directory::MemberRecord| m.state != MemberState::Fenced && m.confirmed != view.mode.generation;
    view.members.values().filter(late).map(|m| m.draft.name.as_str())
}

/// The note of a change that is taken back: who did not confirm.
pub fn taken_back(view: &View) -> String {
    let names: Vec<&str> = unconfirmed(view).take(NAMED_MAX).collect();
    let mut note = format!("taken back: {} did not confirm in time", names.join(", "));
    while note.len() > NOTE_BYTES_MAX {
        note.pop();
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    const PHASES: [Phase; 5] =
        [Phase::Own, Phase::Settling, Phase::Observe, Phase::Parking { observed: false }, Phase::Parking { observed: true }];

    #[test]
    fn transition_table() {
        let mut text = String::new();
        for phase in PHASES {
            for event in [Event::Ordered(Goal::Own), Event::Ordered(Goal::Observe), Event::AllConfirmed, Event::Late] {
                let to = step(phase, event).map_or_else(|| "–".to_owned(), |to| format!("{to:?}"));
                let _ = writeln!(text, "{phase:?} × {event:?} → {to}");
            }
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_change_compares_what_it_needs() {
        let mode = Mode { generation: 7, phase: Phase::Parking { observed: true } };
        let own = mode.change(Event::AllConfirmed, String::new());
        assert_eq!(own.map(|t| t.compare), Some(vec![Compare::Mode { generation: 7 }, Compare::Confirmed { generation: 7 }]));
        let back = mode.change(Event::Late, String::new());
        assert_eq!(back.map(|t| t.compare), Some(vec![Compare::Mode { generation: 7 }]));
        assert_eq!(mode.change(Event::Ordered(Goal::Own), String::new()), None);
    }
}

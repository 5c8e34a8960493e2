//! A session as it resides on its owner: data, location, gate, and who asks for it.
//!
//! It never changes an owner: [`crate::node`] does. The store holds one [`Resident`] a session; the hot path asks
//! [`Resident::is_open`] with the shard's lock held.
//!
//! ```text
//!            freeze(H)                commit(H)
//!   Open ───────────────► Frozen(H) ───────────► (gone: a residual)
//!    │ ▲   fence won or      │
//!    │ └───── promised ──────┘
//!    ├── last key removed ──► Ending ── record removed ──► (gone)
//!    └── check-in ──► Resting ── written, record removed ──► (gone: at rest)
//! ```
//! Invariant: *one owner*: a resident answers only while its gate is open.

use crate::bugs::{self, Bug};
use crate::directory::Location;
use crate::ids::{HandoverId, Incarnation, SessionId};
use crate::rest::copy::RestCopy;
use crate::session::Session;
use bytes::Bytes;

/// Whether operations may run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// They may.
    Open,
    /// A handover has frozen it: they are parked.
    Frozen(HandoverId),
    /// Its last key is gone and its record is being removed: they are parked.
    Ending,
    /// It goes to rest: they are parked, and check it out again.
    Resting,
}

/// When arrivals from one node make it the better owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdoptionRule {
    /// So many arrivals from one node, with none elsewhere.
    pub arrivals: u32,
    /// Operations within so long after an arrival belong to it. What comes later is the next one, however dense operations are:
    /// clients that never pause arrive too.
    pub gap_us: u64,
    /// A session stays at least this long where it is.
    pub residence_us_min: u64,
}

/// Counts arrivals at other nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arrivals {
    from: Option<Incarnation>,
    count: u32,
    counted_us: u64,
}

/// See the head of this file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resident {
    /// Its variables.
    pub session: Session,
    /// Its record in the directory, as this node has written it.
    pub location: Location,
    /// Whether operations may run.
    pub gate: Gate,
    /// When it came here, on this node's clock.
    pub opened_us: u64,
    /// When an operation ran on it last, on this node's clock.
    pub used_us: u64,
    /// What the upstream has of it; `None`: sessions are never at rest here.
    pub rest: Option<Box<RestCopy>>,
    arrivals: Arrivals,
}

impl Resident {
    /// A session that opens now.
    pub fn new(session: Session, location: Location, now_us: u64) -> Resident {
        Resident {
            session,
            location,
            gate: Gate::Open,
            opened_us: now_us,
            used_us: now_us,
            rest: None,
            arrivals: Arrivals::default(),
        }
    }

    /// The same, with what the upstream has of it.
    pub fn with_rest(self, rest: Option<RestCopy>) -> Resident {
        Resident { rest: rest.map(Box::new), ..self }
    }

    /// The keys of these names that have to be loaded first: nobody knows whether they are at rest.
    pub fn unknown<'a>(&self, mut names: impl Iterator<Item = &'a Bytes>) -> bool {
        let Some(rest) = &self.rest else { return false };
        names.any(|name| self.session.held(name).is_none() && !rest.knows(name))
    }

    /// Whether it may answer, as far as its gate is concerned; the lease is another matter.
    pub fn is_open(&self) -> bool {
        self.gate == Gate::Open || (bugs::on(Bug::AnswerWhileFrozen) && matches!(self.gate, Gate::Frozen(_)))
    }

    /// Notes an arrival: at this node (`None`) or at another. True if that other should adopt the session now.
    pub fn arrived(&mut self, from: Option<Incarnation>, now_us: u64, rule: &AdoptionRule) -> bool {
        let Some(from) = from else {
            self.arrivals = Arrivals::default();
            return false;
        };
        let arrivals = &mut self.arrivals;
        if arrivals.from != Some(from) {
            *arrivals = Arrivals { from: Some(from), count: 1, counted_us: now_us };
        } else if now_us.saturating_sub(arrivals.counted_us) >= rule.gap_us {
            arrivals.count = arrivals.count.saturating_add(1);
            arrivals.counted_us = now_us;
        }
        arrivals.count >= rule.arrivals && now_us.saturating_sub(self.opened_us) >= rule.residence_us_min
    }
}

/// The sessions of a node. One operation at a time on one session; implementations must not be entered twice by one thread.
pub trait Table {
    /// Shows the resident of an id, or `None`, and keeps what `f` leaves there.
    fn with<R>(&self, id: &SessionId, f: impl FnOnce(&mut Option<Resident>) -> R) -> R;

    /// The ids of all residents, in no order.
    fn ids(&self) -> Vec<SessionId>;

    /// How many residents there are.
    fn count(&self) -> usize;

    /// The sessions of which something became unwritten since the last call. One that is never at rest need not be told.
    fn take_unwritten(&self) -> Vec<SessionId> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, GroupId};

    #[test]
    fn arrivals_are_counted_however_dense_operations_are() {
        let rule = AdoptionRule { arrivals: 3, gap_us: 20_000, residence_us_min: 0 };
        let (b, c) = (Some(Incarnation(Epoch(2))), Some(Incarnation(Epoch(3))));
        let first_adoption = |step_us: u64| {
            let location = Location { group: GroupId(1), epoch: Epoch(1), last: None, depends: Vec::new() };
            let mut resident = Resident::new(Session::default(), location, 0);
            assert!(!resident.arrived(b, 0, &rule));
            (1..).map(|n| n * step_us).find(|at| resident.arrived(b, *at, &rule))
        };
        // A burst of any density is one arrival for 20 ms; the third begins at 40 ms.
        assert_eq!([1_000, 5_000, 20_000, 300_000].map(first_adoption), [40_000, 40_000, 40_000, 600_000].map(Some));

        let location = Location { group: GroupId(1), epoch: Epoch(1), last: None, depends: Vec::new() };
        let mut resident = Resident::new(Session::default(), location, 0);
        for at in (0..100).map(|n| n * 30_000) {
            assert!(!resident.arrived(b, at, &rule) && !resident.arrived(b, at + 20_000, &rule), "one is missing");
            let elsewhere = if at % 60_000 == 0 { None } else { c };
            assert!(!resident.arrived(elsewhere, at + 25_000, &rule), "elsewhere: counted anew");
        }
    }
}

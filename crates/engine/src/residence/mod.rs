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
//!    ├── check-in ──► Resting ── written, record removed ──► (gone: at rest)
//!    └── a key goes to another session, or comes from one ──► Renaming ──► Open, or Ending
//! ```
//! Invariant: *one owner*: a resident answers only while its gate is open.

pub mod arrivals;

pub use arrivals::{AdoptionRule, Came};

use crate::bugs::{self, Bug};
use crate::directory::Location;
use crate::ids::{HandoverId, Incarnation, SessionId};
use crate::rest::copy::RestCopy;
use crate::session::Session;
use arrivals::Arrivals;
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
    /// A key of it becomes another session's, or one of another session becomes its own: they are parked.
    Renaming,
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

    /// The same, having followed its clients in vain so often.
    pub fn with_restlessness(self, restlessness: u8) -> Resident {
        Resident { arrivals: Arrivals::of_newcomer(restlessness), ..self }
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

    /// Notes what came in at this node (`None`) or at another. True if that other should adopt the session now.
    pub fn arrived(&mut self, from: Option<Incarnation>, came: Came, now_us: u64, rule: &AdoptionRule) -> bool {
        self.arrivals.note(from, came, self.opened_us, now_us, rule)
    }

    /// Whether its clients still arrive at the member that was to adopt it, and nowhere else.
    pub fn is_still_called_to(&mut self, to: Incarnation) -> bool {
        self.arrivals.still_call_to(to)
    }

    /// How often this session has followed its clients in vain, to be taken along when it leaves now.
    pub fn restlessness(&self) -> u8 {
        self.arrivals.restlessness()
    }
}

/// The names of a key that has become another session's, each within its session.
#[derive(Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The former.
    pub from: Bytes,
    /// The present.
    pub to: Bytes,
    /// Whether a key had the present name whose time had come.
    pub over_expired: bool,
}

impl std::fmt::Debug for Renamed {
    // Keys stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Renamed({} B, {} B)", self.from.len(), self.to.len())
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

    /// A key of one session has become another's; told while the gates of both are closed, so that what happens to these keys is
    /// told in order.
    fn renamed(&self, _change: &Renamed, _now_us: u64) {}

    /// The sessions of which something became unwritten since the last call. One that is never at rest need not be told.
    fn take_unwritten(&self) -> Vec<SessionId> {
        Vec::new()
    }
}

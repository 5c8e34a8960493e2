//! One machine of the simulation: its clock, the process on it, and what waits for a process that is paused.
//!
//! It never decides what happens: the world does. A process is one life of a node: the production machine
//! [`wayfarer_engine::node::Node`], its table, and the operations that wait there.

use crate::operation::Reply;
use crate::rename::Step;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wayfarer_engine::ids::{Incarnation, Now, SessionId, Ticket};
use wayfarer_engine::mode::Route;
use wayfarer_engine::node::{Input, Node, Verdict};
use wayfarer_engine::residence::{Renamed, Resident, Table};

/// A clock that starts somewhere and runs at a rate of its own.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What it showed when the simulation began.
    pub offset_us: u64,
    /// How much faster it runs than true time, in millionths.
    pub ahead_ppm: i64,
}

impl Clock {
    /// What it shows at a true time.
    pub fn now(&self, true_us: u64) -> Now {
        let error = (true_us as i64).saturating_mul(self.ahead_ppm) / 1_000_000;
        Now { boot_us: self.offset_us + true_us.saturating_add_signed(error), unix_ms: true_us / 1000 }
    }
}

/// The sessions of a process, in order, so that a run depends on its seed alone.
#[derive(Debug, Default)]
pub struct MemoryTable(RefCell<BTreeMap<SessionId, Option<Resident>>>, RefCell<Vec<SessionId>>, RefCell<Option<Bytes>>);

impl Table for MemoryTable {
    fn with<R>(&self, id: &SessionId, f: impl FnOnce(&mut Option<Resident>) -> R) -> R {
        let mut slots = self.0.borrow_mut();
        let slot = slots.entry(id.clone()).or_default();
        let result = f(slot);
        if slot.is_none() {
            slots.remove(id);
        }
        result
    }

    fn ids(&self) -> Vec<SessionId> {
        self.0.borrow().keys().cloned().collect()
    }

    fn count(&self) -> usize {
        self.0.borrow().len()
    }

    fn renamed(&self, change: &Renamed, _: u64) {
        *self.2.borrow_mut() = Some(change.from.clone());
    }

    fn take_unwritten(&self) -> Vec<SessionId> {
        std::mem::take(&mut *self.1.borrow_mut())
    }
}

impl MemoryTable {
    /// The name of the key that was renamed last.
    pub fn last_renamed(&self) -> Option<Bytes> {
        self.2.borrow().clone()
    }

    /// Something of this session became unwritten.
    pub fn unwritten(&self, id: &SessionId) {
        self.1.borrow_mut().push(id.clone());
    }
}

/// One operation at one process.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// Which operation.
    pub operation: u64,
    /// The node that forwarded it; `None`: its client is here.
    pub from: Option<Incarnation>,
    /// How often it has tried.
    pub tries: u32,
    /// When this process gives it up, on its own clock.
    pub deadline_us: u64,
    /// What it answers once the end of the session is in the directory.
    pub ends: Option<Reply>,
    /// How far a rename is.
    pub step: Step,
}

/// Something that happens to a process.
#[derive(Clone, Debug)]
pub enum Stimulus {
    /// For the machine.
    Input(Input),
    /// A client sends an operation.
    Begin(u64),
    /// Another node sends an operation.
    Forwarded {
        /// Which node.
        from: Incarnation,
        /// Which operation.
        operation: u64,
    },
    /// The answer of another node to an operation.
    Replied {
        /// Which operation.
        operation: u64,
        /// The answer.
        reply: Reply,
    },
    /// What the upstream said to an operation that went straight there.
    Answered {
        /// Which operation.
        operation: u64,
        /// What.
        reply: Reply,
    },
    /// An operation tries again.
    Again(Visit),
    /// The machine's answer to an operation that asked it.
    Verdict(Ticket, Verdict),
    /// Parked operations of a session may try again.
    Wake(SessionId),
}

/// One life of a node.
pub struct Process {
    /// Its name in the cluster.
    pub me: Incarnation,
    /// The machine.
    pub node: Node,
    /// Its sessions.
    pub table: MemoryTable,
    /// Until when it may answer, on its own clock.
    pub lease_until_us: u64,
    /// Operations that wait for a verdict.
    pub tickets: BTreeMap<Ticket, Visit>,
    /// Operations that wait for a wake.
    pub parked: Vec<(SessionId, Visit)>,
    /// Operations that were sent on, by number.
    pub sent_on: BTreeMap<u64, Visit>,
    /// Where operations of clients go.
    pub route: Route,
    /// Until when they may go straight to the upstream, on its own clock.
    pub direct_until_us: u64,
    /// Operations of clients that are under way: the mode is not confirmed before they have ended.
    pub passes: BTreeSet<u64>,
    /// Operations of clients that wait for the mode.
    pub holding: Vec<Visit>,
    /// Operations that are at the upstream, by number.
    pub direct: BTreeMap<u64, Visit>,
    /// Counts tickets.
    pub last_ticket: u64,
    /// Whether everything has left, so that it serves nobody any more.
    pub leaving: bool,
}

/// See the head of this file.
pub struct Host {
    /// Its clock.
    pub clock: Clock,
    /// The life that runs there, if any.
    pub process: Option<Process>,
    /// Until when it is paused, in true time.
    pub paused_until_us: Option<u64>,
    /// What came meanwhile.
    pub inbox: VecDeque<Stimulus>,
    /// Until when it cannot talk to the directory, in true time.
    pub cut_until_us: u64,
    /// Whether a view is on its way to it.
    pub view_under_way: bool,
    /// Whether a start has been scheduled.
    pub starting: bool,
}

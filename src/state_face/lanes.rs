//! Operations that wait, one lane a session: later ones on the same session wait behind the first, those on others do not.
//!
//! It never executes anything. [`super::connection`] keeps one for each client; its size is bounded by the client's commands in
//! flight.
//!
//! Invariant: at most one operation of a lane is under way, and they start in the order of their arrival.

use crate::replies::Unit;
use std::collections::{HashMap, VecDeque};
use wayfarer_engine::command::Op;
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::wire::resp::Protocol;

/// An operation that waits for its turn.
pub(super) struct Waiting {
    pub(super) unit: Unit,
    pub(super) op: Op,
    pub(super) protocol: Protocol,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<SessionId, VecDeque<Waiting>>,
}

impl Lanes {
    /// Whether an operation on this session is under way. Costs nothing while none is.
    pub(super) fn is_busy(&self, session: &SessionId) -> bool {
        self.lanes.contains_key(session)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// An operation on this session is under way from now on.
    pub(super) fn open(&mut self, session: SessionId) {
        self.lanes.entry(session).or_default();
    }

    /// Puts an operation behind the one under way.
    pub(super) fn wait(&mut self, session: &SessionId, waiting: Waiting) {
        if let Some(lane) = self.lanes.get_mut(session) {
            lane.push_back(waiting);
        }
    }

    /// The one under way has ended: the next, or the lane is closed.
    pub(super) fn next(&mut self, session: &SessionId) -> Option<Waiting> {
        let next = self.lanes.get_mut(session)?.pop_front();
        if next.is_none() {
            self.lanes.remove(session);
        }
        next
    }
}

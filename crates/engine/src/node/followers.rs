//! Sessions that are to follow their clients, and wait for the gap between two requests.
//!
//! It proposes a handover and performs no other step of one. What calls a session away are its clients' requests, so one of them is
//! under way at that moment, and a freeze would park its next operations. Following is never urgent, for operations are forwarded
//! until then; so it happens when the session rests, as it does between the clicks of a user, and soon in any case:
//!
//! | at a tick, not before [`BUSY_US`] after the call | then |
//! |---|---|
//! | it is not open here, or its clients arrive elsewhere now | forgotten: later arrivals say where to |
//! | it was used within [`BUSY_US`], and waits for less than [`GAP_WAIT_US_MAX`] | it waits |
//! | otherwise | proposed |
//!
//! Called by the node. Bound: as many as may leave at once, those that leave included; more are told as skipped.

use super::moves::{BUSY_US, NO_BATCH};
use super::{Node, Note, Turn};
use crate::ids::{Incarnation, SessionId};
use crate::node::message::Proposer;
use crate::residence::{Gate, Table};

/// A session whose operations never pause follows its clients after so long.
const GAP_WAIT_US_MAX: u64 = 200_000;

struct Follower {
    session: SessionId,
    to: Incarnation,
    called_us: u64,
}

/// Those that wait for a gap.
#[derive(Default)]
pub(super) struct Followers {
    waiting: Vec<Follower>,
}

impl Node {
    /// The clients of a session arrive at another member.
    pub(super) fn follow_clients<T: Table>(&mut self, session: SessionId, to: Incarnation, turn: &mut Turn<'_, T>) {
        if self.outgoing.is_moving(&session) {
            return;
        }
        let may_offer = self.may_offer();
        let waiting = &mut self.followers.waiting;
        if let Some(follower) = waiting.iter_mut().find(|follower| follower.session == session) {
            follower.to = to;
            return;
        }
        if self.outgoing.count() + waiting.len() >= self.settings.at_once_max || !may_offer {
            return turn.note(Note::AdoptionSkipped);
        }
        waiting.push(Follower { session, to, called_us: turn.now.boot_us });
    }

    pub(super) fn tick_followers<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let now_us = turn.now.boot_us;
        for follower in std::mem::take(&mut self.followers.waiting) {
            let Follower { ref session, to, called_us } = follower;
            let used_us = turn.table.with(session, |slot| {
                let resident = slot.as_mut().filter(|resident| resident.gate == Gate::Open)?;
                resident.is_still_called_to(to).then_some(resident.used_us)
            });
            let Some(used_us) = used_us else { continue };
            let since_us = |at_us| now_us.saturating_sub(at_us);
            let is_busy = since_us(used_us) < BUSY_US && since_us(called_us) < GAP_WAIT_US_MAX;
            if is_busy || since_us(called_us) < BUSY_US {
                self.followers.waiting.push(follower);
            } else if self.may_offer() {
                self.propose(follower.session, to, Proposer::Origin, NO_BATCH, turn);
            }
        }
    }
}

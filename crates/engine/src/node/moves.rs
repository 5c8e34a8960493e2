//! What starts the handovers of many sessions: gifts (rebalancing) and the drain; and when a drain is complete.
//!
//! It performs no step of a handover: it queues sessions with a target each, and starts as many at once as may be. A handover
//! that fails is counted; in a drain the session is queued again until the drain's time is over. From then on nothing more is
//! offered, so that what could not leave can be named: once nothing is under way, what is here stays here.
//!
//! Invariant: *planned moves lose nothing*: a drain is complete when no session, no handover and no residual is left.

use super::{Effect, Node, Note, Pending, Turn};
use crate::directory::MemberState;
use crate::ids::{Incarnation, SessionId};
use crate::node::message::Proposer;
use crate::residence::{Gate, Table};
use std::collections::{BTreeMap, HashSet, VecDeque};

/// Between the starts of two rounds of a drain: a round looks at every session, and what gives the lease back must have its turn.
const ROUND_US_MIN: u64 = 25_000;
/// No batch: the outcomes of a drain are seen by the table being empty, nobody counts those of adoptions.
pub(super) const NO_BATCH: Option<u64> = None;

struct Gift {
    left: u64,
    moved: u64,
    failed: u64,
}

/// So many sessions of a queue are moved at the same time however short it is,
const GENTLY: usize = 4;
/// and one more for so many that wait.
const QUEUED_FOR_ONE_MORE: usize = 64;

/// What became of one session of a gift.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Given {
    /// It is where it should go.
    Moved,
    /// It is still here.
    Failed,
    /// When its turn came it was not here to be given: it has ended, rests, or follows its clients to somebody.
    Gone,
}

/// A session that was used within so long has a request under way, most likely, whose next operations a freeze would park: others
/// are moved before it, and by its next turn the request is over.
pub(super) const BUSY_US: u64 = 10_000;
/// So many sessions are looked at for one that is not busy; if all of them are, the first one goes. Nothing waits for a gap.
const LOOKS_MAX: usize = 16;

#[cfg_attr(test, derive(PartialEq, Eq, Debug))]
struct Queued {
    session: SessionId,
    to: Incarnation,
    batch: Option<u64>,
    proposer: Proposer,
}

/// Gifts and the drain of one node.
#[derive(Default)]
pub(super) struct Moves {
    queue: VecDeque<Queued>,
    gifts: BTreeMap<u64, Gift>,
    next_target: usize,
    drained: bool,
    /// The time of the drain is over: nothing more is offered to anybody.
    closed: bool,
    /// Until when a drain starts no new round.
    rest_until_us: u64,
}

impl Moves {
    /// Whether everything has left; nothing may come any more.
    pub(super) fn is_drained(&self) -> bool {
        self.drained
    }

    /// A drain starts no new round until then, or until later if that was said before.
    pub(super) fn rest(&mut self, until_us: u64) {
        self.rest_until_us = self.rest_until_us.max(until_us);
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The next one to move: the first that is not busy, if there is one near. Those before it go behind all others.
    fn next(&mut self, is_busy: impl Fn(&SessionId) -> bool) -> Option<Queued> {
        let near = self.queue.iter().take(LOOKS_MAX);
        let passed_over = near.take_while(|queued| is_busy(&queued.session)).count();
        if passed_over < self.queue.len().min(LOOKS_MAX) {
            self.queue.rotate_left(passed_over);
        }
        self.queue.pop_front()
    }
}

impl Node {
    /// What became of one session of a gift.
    pub(super) fn count_gift<T: Table>(&mut self, batch: Option<u64>, given: Given, turn: &mut Turn<'_, T>) {
        let Some(batch) = batch else { return };
        let Some(gift) = self.outgoing.moves.gifts.get_mut(&batch) else { return };
        gift.left = gift.left.saturating_sub(1);
        gift.moved += u64::from(given == Given::Moved);
        gift.failed += u64::from(given == Given::Failed);
        if gift.left == 0 {
            let (moved, failed) = (gift.moved, gift.failed);
            self.outgoing.moves.gifts.remove(&batch);
            turn.effects.push(Effect::Gave { batch, moved, failed });
        }
    }

    /// One session should move now. Not queued when as many leave already as may.
    pub(super) fn order<T: Table>(&mut self, session: SessionId, to: Incarnation, proposer: Proposer, turn: &mut Turn<'_, T>) {
        if self.outgoing.count() >= self.settings.at_once_max || !self.may_offer() {
            return turn.note(Note::AdoptionSkipped);
        }
        self.propose(session, to, proposer, NO_BATCH, turn);
    }

    /// Queues the sessions that have been here longest for another member.
    pub(super) fn give<T: Table>(&mut self, to: Incarnation, count: u64, batch: u64, turn: &mut Turn<'_, T>) {
        let mut found: Vec<(u64, SessionId)> = Vec::new();
        // Those that wait for their turn are promised to somebody already.
        let queued: HashSet<&SessionId> = self.outgoing.moves.queue.iter().map(|q| &q.session).collect();
        for id in turn.table.ids() {
            if !self.outgoing.is_moving(&id) && !queued.contains(&id) {
                let opened = turn.table.with(&id, |slot| slot.as_ref().filter(|r| r.gate == Gate::Open).map(|r| r.opened_us));
                found.extend(opened.map(|at| (at, id)));
            }
        }
        // Those that have been here longest go first, so that a session is not sent on and on.
        found.sort();
        found.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        if found.is_empty() {
            turn.effects.push(Effect::Gave { batch, moved: 0, failed: 0 });
            return;
        }
        self.outgoing.moves.gifts.insert(batch, Gift { left: found.len() as u64, moved: 0, failed: 0 });
        let gifts = found.into_iter().map(|(_, session)| Queued { session, to, batch: Some(batch), proposer: Proposer::Router });
        self.outgoing.moves.queue.extend(gifts);
        self.start_queued(turn);
    }

    /// Everything leaves from now on.
    pub(super) fn drain<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        if self.state != MemberState::Draining {
            self.state = MemberState::Draining;
            self.publish_state(turn);
        }
    }

    /// The time of the drain is over: handovers under way go on to their end, and no other begins.
    pub(super) fn close_moves<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        self.outgoing.moves.closed = true;
        self.start_queued(turn);
    }

    /// Whether sessions may be offered to others.
    pub(super) fn may_offer(&self) -> bool {
        self.modes.owns() && !self.outgoing.moves.closed
    }

    /// Queues every session, spread over the members that take sessions.
    fn queue_all<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let others = self.others();
        if turn.table.count() == 0 {
            return;
        }
        if others.is_empty() || !self.may_offer() {
            return self.check_in_all(turn);
        }
        for session in turn.table.ids() {
            if self.outgoing.is_moving(&session) {
                continue;
            }
            self.outgoing.moves.next_target = self.outgoing.moves.next_target.wrapping_add(1);
            if let Some(to) = others.get(self.outgoing.moves.next_target % others.len()) {
                self.outgoing.moves.queue.push_back(Queued { session, to: *to, batch: NO_BATCH, proposer: Proposer::Origin });
            }
        }
    }

    pub(super) fn tick_moves<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        // Without a lease nothing could start, and all would be queued again at once.
        let may_start = turn.now.boot_us >= self.outgoing.moves.rest_until_us && self.lease.is_valid(turn.now.boot_us);
        if self.state == MemberState::Draining && self.outgoing.moves.queue.is_empty() && may_start {
            self.outgoing.moves.rest(turn.now.boot_us + ROUND_US_MIN);
            self.queue_all(turn);
        }
        self.start_queued(turn);
        // A read that finds a record of this node's own is a birth too.
        let bears = self.pending.values().any(|p| matches!(p, Pending::Birth { .. } | Pending::Load { .. }));
        let moving = self.outgoing.count() > 0 || self.incoming.count() > 0 || !self.check_ins.is_idle();
        let idle = !moving && self.locate.is_idle() && !bears;
        let empty = idle && turn.table.count() == 0 && self.late.residuals.count() == 0;
        if self.state == MemberState::Draining && !self.outgoing.moves.drained && empty {
            self.outgoing.moves.drained = true;
            turn.effects.push(Effect::Drained);
        }
    }

    fn start_queued<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        // What is frozen at the same time competes for the same processors: few sessions are moved a few at a time, so that each
        // is quick, many as fast as may be.
        let many = self.outgoing.moves.queue.len() / QUEUED_FOR_ONE_MORE;
        let at_once = many.clamp(GENTLY.min(self.settings.at_once_max), self.settings.at_once_max);
        while self.outgoing.count() < at_once || !self.may_offer() {
            let since_us = turn.now.boot_us.saturating_sub(BUSY_US);
            let table = &turn.table;
            let is_busy = |id: &SessionId| table.with(id, |slot| slot.as_ref().is_some_and(|r| r.used_us > since_us));
            let Some(next) = self.outgoing.moves.next(is_busy) else { return };
            if !self.may_offer() {
                self.count_gift(next.batch, Given::Failed, turn);
                continue;
            }
            self.propose(next.session, next.to, next.proposer, next.batch, turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use bytes::Bytes;

    fn queue(names: &[&'static str]) -> Moves {
        let queued = |name: &&'static str| Queued {
            session: SessionId(Bytes::from_static(name.as_bytes())),
            to: Incarnation(Epoch(1)),
            batch: NO_BATCH,
            proposer: Proposer::Origin,
        };
        Moves { queue: names.iter().map(queued).collect(), ..Moves::default() }
    }

    /// The order in which they go while those of `busy` stay so.
    fn order(names: &[&'static str], busy: &[&str]) -> Vec<Bytes> {
        let mut moves = queue(names);
        let is_busy = |id: &SessionId| busy.iter().any(|name| name.as_bytes() == &id.0[..]);
        std::iter::from_fn(|| moves.next(is_busy).map(|queued| queued.session.0)).collect()
    }

    #[test]
    fn sessions_with_a_request_under_way_go_after_the_others() {
        assert_eq!(order(&["a", "b", "c", "d"], &[]), ["a", "b", "c", "d"]);
        assert_eq!(order(&["a", "b", "c", "d"], &["a", "c"]), ["b", "d", "a", "c"]);
    }

    #[test]
    fn nothing_waits_for_those_that_are_always_busy() {
        assert_eq!(order(&["a", "b", "c"], &["a", "b", "c"]), ["a", "b", "c"]);
        let many: Vec<&'static str> = vec!["x"; LOOKS_MAX + 1];
        assert_eq!(order(&many, &["x"]).len(), LOOKS_MAX + 1);
    }
}

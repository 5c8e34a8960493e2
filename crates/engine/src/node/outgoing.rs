//! The handovers that this node gives: proposal, pre-copy, freeze, stage, fence.
//!
//! What happens next is in the table of [`crate::handover::origin`]; here are the events that feed it and the actions.
//! A session is in at most one handover. Nothing is kept of one that ended but its residual.
//!
//! Longer than 400 lines because the events of one table and its actions share the handovers under way.
//! Invariants: *one owner* (the gate closes before the manifest is made, and opens only by the table); *planned moves lose
//! nothing* (the values are kept until the target has confirmed).

use super::moves::Given;
use super::{Node, Note, Pending, Reason, Turn, Verdict};
use crate::directory::{Compare, NextEpoch, Outcome, Transaction, Write};
use crate::handover::origin::{Action, Event, State, step};
use crate::ids::{Digest, Epoch, GroupId, HandoverId, Incarnation, SessionId};
use crate::node::message::{Message, Proposer, Stage};
use crate::node::moves::Moves;
use crate::node::payload::{Budget, Frozen, Known, can_cross, summarize};
use crate::plan::{Policy, Treatment};
use crate::residence::{Gate, Table};
use crate::rest::debts::Debts;
use crate::session::residual::Residual;
use crate::session::{Class, VariableId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One handover that is being given.
struct Origin {
    session: SessionId,
    to: Incarnation,
    state: State,
    batch: Option<u64>,
    /// When the present step is late, or the fence is to be sent again.
    deadline_us: u64,
    /// Messages of the pre-copy that the target has not staged yet.
    copies_left: usize,
    /// What is known of its values.
    known: Known,
    /// What the freeze made, until it is sent.
    stage: Option<Box<Stage>>,
    /// Whether the manifest names this handover as a holder.
    holds: bool,
}

impl Origin {
    /// Computes the digests that are not known yet, without the table: operations on this session and on its neighbours go on.
    fn learn<T: Table>(&mut self, turn: &Turn<'_, T>) {
        let known = &self.known;
        let unhashed = turn.table.with(&self.session, |slot| slot.as_ref().map(|r| known.unhashed(r)).unwrap_or_default());
        self.known.learn(unhashed);
    }
}

/// See the head of this file.
pub(super) struct Outgoing {
    me: Incarnation,
    last_serial: u64,
    origins: BTreeMap<HandoverId, Origin>,
    moving: HashMap<SessionId, HandoverId>,
    over: u64,
    /// The policy for moves when residuals are full.
    carry_all: Arc<Policy>,
    pub(super) moves: Moves,
}

impl Outgoing {
    pub(super) fn new(me: Incarnation, policy: &Policy) -> Outgoing {
        let default = Treatment { class: Class::Carried, ..policy.default };
        let carry_all = Arc::new(Policy { rules: Vec::new(), default });
        let (origins, moving) = (BTreeMap::new(), HashMap::new());
        Outgoing { me, last_serial: 0, origins, moving, over: 0, carry_all, moves: Moves::default() }
    }

    pub(super) fn count(&self) -> usize {
        self.origins.len()
    }

    /// Handovers of this life that are over, one way or another.
    pub(super) fn over(&self) -> u64 {
        self.over
    }

    pub(super) fn is_moving(&self, session: &SessionId) -> bool {
        self.moving.contains_key(session)
    }
}

impl Node {
    /// Step 1. Does nothing if the session cannot leave now; a gift then counts it as failed, unless it is leaving anyway.
    pub(super) fn propose<T: Table>(
        &mut self,
        session: SessionId,
        to: Incarnation,
        proposer: Proposer,
        batch: Option<u64>,
        turn: &mut Turn<'_, T>,
    ) {
        let leaves = self.outgoing.moving.contains_key(&session);
        let willing = to != self.me.incarnation
            && self.lease.is_valid(turn.now.boot_us)
            && self.view.accepting().any(|m| m.incarnation == to)
            && !leaves;
        let policy = self.move_policy();
        let budget = self.budget();
        let (mut crosses, mut is_here) = (true, false);
        let made = turn.table.with(&session, |slot| {
            is_here = slot.as_ref().is_some_and(|r| r.gate == Gate::Open && !r.session.is_empty()) && !leaves;
            let resident = slot.as_ref().filter(|_| willing && is_here)?;
            crosses = can_cross(resident, budget);
            crosses.then(|| (summarize(resident, &policy, budget), Known::default().unhashed(resident)))
        });
        if !crosses {
            self.unsendable(session.clone(), turn);
        }
        let Some((summary, unhashed)) = made else {
            return self.count_gift(batch, if is_here { Given::Failed } else { Given::Gone }, turn);
        };
        let mut known = Known::default();
        known.learn(unhashed);
        self.outgoing.last_serial += 1;
        let handover = HandoverId { origin: self.outgoing.me, serial: self.outgoing.last_serial };
        let deadline_us = turn.now.boot_us + self.settings.propose_us_max;
        let origin = Origin {
            session: session.clone(),
            to,
            state: State::Proposed,
            batch,
            deadline_us,
            copies_left: 0,
            known,
            stage: None,
            holds: false,
        };
        self.outgoing.moving.insert(session.clone(), handover);
        self.outgoing.origins.insert(handover, origin);
        turn.send(to, Message::Propose { handover, session, proposer, summary });
    }

    /// The policy for a move that starts now: when residuals are full, everything is carried.
    fn move_policy(&self) -> Arc<Policy> {
        let full = self.late.residuals.bytes() >= self.settings.residual_bytes_max;
        (if full { &self.outgoing.carry_all } else { &self.settings.policy }).clone()
    }

    fn budget(&self) -> Budget {
        let frame_max = self.settings.frame_bytes_max;
        if self.late.residuals.bytes() < self.settings.residual_bytes_max {
            return Budget { carried_max: self.settings.carried_bytes_max, pause_max: self.settings.pause_bytes_max, frame_max };
        }
        Budget { carried_max: u64::MAX, pause_max: u64::MAX, frame_max }
    }

    /// A session cannot cross, or a message about it could not be sent. What drains rests for a moment, so that it does not try
    /// the same again at once and for ever; where it can, such a session goes to rest instead.
    fn unsendable<T: Table>(&mut self, session: SessionId, turn: &mut Turn<'_, T>) {
        self.outgoing.moves.rest(turn.now.boot_us + self.settings.propose_us_max);
        self.check_in_unsendable(session.clone());
        turn.note(Note::Unsendable(session));
    }

    pub(super) fn not_sent<T: Table>(&mut self, handover: HandoverId, stage: bool, turn: &mut Turn<'_, T>) {
        let Some(origin) = self.outgoing.origins.get(&handover) else { return };
        // Only the stage is sent of a frozen session: nothing else can stop it any more.
        if stage == (origin.state == State::Frozen) {
            self.unsendable(origin.session.clone(), turn);
            self.origin_event(handover, Event::NotSent, turn);
        }
    }

    pub(super) fn accepted<T: Table>(
        &mut self,
        from: Incarnation,
        handover: HandoverId,
        _group: (GroupId, Epoch),
        have: Vec<(VariableId, Digest)>,
        turn: &mut Turn<'_, T>,
    ) {
        let policy = self.move_policy();
        let budget = self.budget();
        let Some(origin) = self.outgoing.origins.get_mut(&handover).filter(|o| o.to == from && o.state == State::Proposed) else {
            // The handover is over here, so the target must not wait for it.
            return self.abort_unknown(from, handover, turn);
        };
        origin.known.target_has(have);
        origin.learn(turn);
        let batches = turn.table.with(&origin.session, |slot| {
            slot.as_ref().map(|resident| origin.known.pre_copy(resident, &policy, budget)).unwrap_or_default()
        });
        origin.copies_left = batches.len();
        let event = if batches.is_empty() { Event::AcceptedAll } else { Event::Accepted };
        for values in batches {
            turn.send(from, Message::PreCopy { handover, values });
        }
        self.origin_event(handover, event, turn);
    }

    fn abort_unknown<T: Table>(&mut self, from: Incarnation, handover: HandoverId, turn: &mut Turn<'_, T>) {
        if handover.origin == self.me.incarnation && !self.outgoing.origins.contains_key(&handover) {
            turn.send(from, Message::Abort { handover });
        }
    }

    pub(super) fn rejected<T: Table>(&mut self, from: Incarnation, handover: HandoverId, turn: &mut Turn<'_, T>) {
        self.origin_event_from(from, handover, Event::Rejected, turn);
    }

    pub(super) fn pre_copied<T: Table>(&mut self, from: Incarnation, handover: HandoverId, turn: &mut Turn<'_, T>) {
        let Some(origin) = self.outgoing.origins.get_mut(&handover).filter(|o| o.to == from) else { return };
        origin.copies_left = origin.copies_left.saturating_sub(1);
        if origin.copies_left == 0 {
            return self.origin_event(handover, Event::PreCopied, turn);
        }
        if origin.state == State::PreCopying {
            origin.deadline_us = turn.now.boot_us + self.settings.propose_us_max;
        }
    }

    pub(super) fn committed<T: Table>(&mut self, from: Incarnation, handover: HandoverId, turn: &mut Turn<'_, T>) {
        self.origin_event_from(from, handover, Event::Committed, turn);
    }

    pub(super) fn promised<T: Table>(&mut self, from: Incarnation, handover: HandoverId, turn: &mut Turn<'_, T>) {
        self.origin_event_from(from, handover, Event::Promised, turn);
    }

    /// Something that can only follow the commit has been heard of.
    pub(super) fn commit_is_known<T: Table>(&mut self, handover: HandoverId, turn: &mut Turn<'_, T>) {
        self.origin_event(handover, Event::Committed, turn);
    }

    /// The session cannot leave any more: it ends.
    pub(super) fn cancel_move<T: Table>(&mut self, session: &SessionId, turn: &mut Turn<'_, T>) {
        if let Some(handover) = self.outgoing.moving.get(session).copied() {
            // It goes to rest or ends instead: no failure of a gift.
            let batch = self.outgoing.origins.get_mut(&handover).and_then(|origin| origin.batch.take());
            self.count_gift(batch, Given::Gone, turn);
            self.origin_event(handover, Event::Cancelled, turn);
        }
    }

    /// What a message says counts only from the target of that handover.
    fn origin_event_from<T: Table>(&mut self, from: Incarnation, handover: HandoverId, event: Event, turn: &mut Turn<'_, T>) {
        if self.outgoing.origins.get(&handover).is_some_and(|o| o.to == from) {
            self.origin_event(handover, event, turn);
        }
    }

    fn origin_event<T: Table>(&mut self, handover: HandoverId, event: Event, turn: &mut Turn<'_, T>) {
        let Some(origin) = self.outgoing.origins.get_mut(&handover) else { return };
        let (state, action) = step(origin.state, event);
        origin.state = state;
        let (session, to) = (origin.session.clone(), origin.to);
        match action {
            Action::None => {}
            Action::PreCopy => origin.deadline_us = turn.now.boot_us + self.settings.propose_us_max,
            Action::Abort => turn.send(to, Message::Abort { handover }),
            Action::Freeze => self.freeze(handover, turn),
            Action::Stage => self.send_stage(handover, turn),
            Action::Fence => self.origin_fence(handover, turn),
            Action::FenceAgain => origin.deadline_us = turn.now.boot_us + self.settings.retry_us,
            Action::Unfreeze => self.unfreeze(&session, handover, None, turn),
            Action::UnfreezeUnsent => {
                self.unfreeze(&session, handover, None, turn);
                turn.send(to, Message::Abort { handover });
            }
            Action::UnfreezeFenced => turn.send(to, Message::Abort { handover }),
            Action::Leave => self.leave(&session, handover, turn),
            Action::Forget => {
                turn.table.with(&session, |slot| slot.take_if(|r| r.gate == Gate::Frozen(handover)));
                turn.wake(&session);
            }
        }
        if matches!(state, State::Gone | State::Aborted | State::Forgotten) {
            self.origin_over(handover, state, turn);
        }
    }

    fn origin_over<T: Table>(&mut self, handover: HandoverId, state: State, turn: &mut Turn<'_, T>) {
        let Some(origin) = self.outgoing.origins.remove(&handover) else { return };
        self.outgoing.moving.remove(&origin.session);
        self.outgoing.over += 1;
        let (id, now_ms) = (&origin.session, turn.now.unix_ms);
        // One that expired on its way, here or there, has ended: nothing of it could be moved any more.
        let lives = turn.table.with(id, |slot| {
            let mut keys = slot.iter().flat_map(|resident| resident.session.keys().iter());
            keys.any(|key| key.expires_at_ms.is_none_or(|at_ms| at_ms > now_ms))
        });
        let given = match state {
            State::Gone => Given::Moved,
            _ if lives => Given::Failed,
            _ => Given::Gone,
        };
        if state != State::Gone {
            turn.note(Note::Aborted(handover, origin.session));
        }
        self.count_gift(origin.batch, given, turn);
    }

    /// Steps 4 and 5: closes the gate, and sends what changed and the manifest.
    fn freeze<T: Table>(&mut self, handover: HandoverId, turn: &mut Turn<'_, T>) {
        let policy = self.move_policy();
        let budget = self.budget();
        let now = turn.now;
        let Some(origin) = self.outgoing.origins.get_mut(&handover) else { return };
        // What was written since the pre-copy: hashed before the gate closes, for nobody answers after that.
        origin.learn(turn);
        let (mut crosses, mut gone) = (true, Vec::new());
        let frozen = turn.table.with(&origin.session, |slot| {
            let resident = slot.as_mut().filter(|r| r.gate == Gate::Open)?;
            gone = resident.session.expire(now.unix_ms);
            crosses = can_cross(resident, budget);
            if resident.session.is_empty() || !crosses {
                return None;
            }
            resident.gate = Gate::Frozen(handover);
            let frozen = origin.known.freeze(resident, handover, &policy, budget);
            let debts = resident.rest.as_ref().map(|r| Debts::of(r, &resident.session, &frozen.manifest, now.boot_us));
            Some((frozen, debts, resident.restlessness()))
        });
        turn.expired(gone);
        let Some((Frozen { location, manifest, values, demoted }, debts, restlessness)) = frozen else {
            if !crosses {
                let session = origin.session.clone();
                self.unsendable(session, turn);
            }
            return self.origin_event(handover, Event::Cancelled, turn);
        };
        let group_epoch = self.me.groups.iter().find(|(g, _)| *g == location.group).map(|(_, e)| *e);
        let origin_group_epoch = group_epoch.unwrap_or_default();
        origin.holds = manifest.depends().contains(&handover);
        origin.deadline_us = turn.now.boot_us + self.settings.stage_us_max;
        origin.stage = Some(Box::new(Stage { location, origin_group_epoch, manifest, values, debts, restlessness }));
        if demoted > 0 {
            turn.note(Note::Demoted(demoted));
        }
        turn.note(Note::Froze(handover, origin.session.clone()));
        // What ran before the freeze and must be in the upstream before it is acknowledged is written first.
        let session = origin.session.clone();
        if self.must_write_first(&session, turn) {
            return self.behind.schedule(&session, now.boot_us);
        }
        // No group has replicas yet: all of them, none, are prepared.
        self.origin_event(handover, Event::Prepared, turn);
    }

    /// Nothing critical of a session that may be frozen is unwritten any more, or the upstream does not take it.
    pub(super) fn wrote_frozen<T: Table>(&mut self, session: &SessionId, turn: &mut Turn<'_, T>) {
        if let Some(handover) = self.outgoing.moving.get(session).copied().filter(|_| self.is_preparing(session)) {
            self.origin_event(handover, Event::Prepared, turn);
        }
    }

    /// Whether a session is frozen and its stage is not sent yet.
    pub(super) fn is_preparing(&self, session: &SessionId) -> bool {
        let origin = self.outgoing.moving.get(session).and_then(|handover| self.outgoing.origins.get(handover));
        origin.is_some_and(|origin| origin.state == State::Preparing)
    }

    fn send_stage<T: Table>(&mut self, handover: HandoverId, turn: &mut Turn<'_, T>) {
        let Some(origin) = self.outgoing.origins.get_mut(&handover) else { return };
        if let Some(stage) = origin.stage.take() {
            turn.send(origin.to, Message::Stage { handover, stage });
        }
    }

    fn origin_fence<T: Table>(&mut self, handover: HandoverId, turn: &mut Turn<'_, T>) {
        let Some(origin) = self.outgoing.origins.get_mut(&handover) else { return };
        origin.deadline_us = u64::MAX;
        let session = origin.session.clone();
        let Some(location) = turn.table.with(&session, |slot| slot.as_ref().map(|r| r.location.clone())) else {
            return self.origin_event(handover, Event::FoundAnother, turn);
        };
        let (group, epoch) = (location.group, location.epoch);
        let owned = self.me.groups.iter().find(|(g, _)| *g == group).map(|(_, e)| *e).unwrap_or_default();
        let compare = vec![
            Compare::Location { session: session.clone(), is: Some((group, epoch)) },
            Compare::Group { group, owner: self.me.incarnation, epoch: owned },
        ];
        let fresh = if crate::bugs::on(crate::bugs::Bug::ReuseEpochs) { NextEpoch::Keep(epoch) } else { NextEpoch::Fresh };
        let place = Write::Place { session, group, epoch: fresh, last: location.last, depends: location.depends };
        self.transact(Pending::OriginFence(handover), Transaction { compare, write: vec![place] }, turn);
    }

    pub(super) fn origin_fence_ended<T: Table>(
        &mut self,
        handover: HandoverId,
        outcome: Option<Outcome>,
        turn: &mut Turn<'_, T>,
    ) {
        let Some(origin) = self.outgoing.origins.get(&handover).filter(|o| o.state == State::Fencing) else { return };
        let session = origin.session.clone();
        match outcome {
            None => self.origin_event(handover, Event::FenceUnknown, turn),
            Some(Outcome::Applied { epoch }) => {
                self.unfreeze(&session, handover, Some(epoch), turn);
                self.origin_event(handover, Event::FenceWon, turn);
            }
            Some(Outcome::Refused { found }) => {
                let location = found.location.as_ref();
                // The target may have sent the session on already: then the record depends on what is here, if on anything.
                if location.is_some_and(|l| l.last == Some(handover) || l.depends.contains(&handover)) {
                    self.origin_event(handover, Event::FoundCommitted, turn);
                } else if let (true, Some(location)) = (found.owner() == Some(self.me.incarnation), location) {
                    // Only a fence of ours whose outcome we missed can have given the session another epoch and left it here.
                    self.unfreeze(&session, handover, Some(location.epoch), turn);
                    self.origin_event(handover, Event::FenceWon, turn);
                } else {
                    self.origin_event(handover, Event::FoundAnother, turn);
                }
            }
        }
    }

    fn unfreeze<T: Table>(&mut self, session: &SessionId, handover: HandoverId, epoch: Option<Epoch>, turn: &mut Turn<'_, T>) {
        turn.table.with(session, |slot| {
            if let Some(resident) = slot.as_mut().filter(|r| r.gate == Gate::Frozen(handover)) {
                resident.gate = Gate::Open;
                resident.location.epoch = epoch.unwrap_or(resident.location.epoch);
            }
        });
        if self.settings.rest.is_some() {
            self.behind.schedule(session, turn.now.boot_us);
        }
        turn.wake(session);
    }

    /// Step 7: the session is the target's; its values stay for as long as the record depends on them.
    fn leave<T: Table>(&mut self, session: &SessionId, handover: HandoverId, turn: &mut Turn<'_, T>) {
        let resident = turn.table.with(session, |slot| slot.take_if(|r| r.gate == Gate::Frozen(handover)));
        let holds = self.outgoing.origins.get(&handover).is_some_and(|o| o.holds);
        if let (true, Some(resident)) = (holds, resident) {
            self.keep(handover, Residual::of(session.clone(), &resident.session), turn);
        }
        self.behind.forget(session, Verdict::TryAgain(Reason::Taken), turn.effects);
        turn.note(Note::Left(handover, session.clone()));
        turn.wake(session);
    }

    pub(super) fn tick_outgoing<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let now = turn.now.boot_us;
        let late: Vec<(HandoverId, State)> =
            self.outgoing.origins.iter().filter(|(_, o)| o.deadline_us <= now).map(|(h, o)| (*h, o.state)).collect();
        for (handover, state) in late {
            match state {
                State::Fencing => self.origin_fence(handover, turn),
                _ => self.origin_event(handover, Event::Late, turn),
            }
        }
        self.tick_moves(turn);
    }
}

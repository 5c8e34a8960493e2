//! The handovers that this node takes: accept, stage, commit, open.
//!
//! What happens next is in the table of [`crate::handover::target`]; here are the events that feed it and the actions.
//! A stage is kept only for handovers that were accepted; a message about any other is answered with the promise never to commit
//! it, which is true because nothing is kept of it.
//!
//! Invariants: *one owner* (opens only on a certain outcome); *never wrong data* (a stage that does not fit is never committed).

use super::{Node, Note, Pending, Turn};
use crate::bugs::{self, Bug};
use crate::directory::{Compare, Location, NextEpoch, Outcome, Transaction, Write};
use crate::handover::target::{Action, Event, State, step};
use crate::ids::{Epoch, GroupId, HandoverId, Incarnation, SessionId};
use crate::node::message::{Message, Rejection, Stage, Summary};
use crate::node::payload::{frame_room, framed};
use crate::residence::{Resident, Table};
use crate::rest::debts::Debts;
use crate::session::manifest::{Batch, Held, Unfit};
use crate::session::{Session, VariableId};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};

/// An accepted handover waits so many times the proposal's time for its stage: pre-copy, an answer, and the stage itself.
const STAGE_WAIT_FACTOR: u64 = 4;

struct Target {
    session: SessionId,
    from: Incarnation,
    state: State,
    group: (GroupId, Epoch),
    /// When the stage is late, or the commit is to be sent again.
    deadline_us: u64,
    staged: HashMap<VariableId, Bytes>,
    /// What the commit needs and what opens after it.
    ready: Option<Ready>,
}

struct Ready {
    session: Session,
    debts: Option<Debts>,
    restlessness: u8,
    location: Location,
    origin_group_epoch: Epoch,
    depends: Vec<HandoverId>,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Incoming {
    targets: BTreeMap<HandoverId, Target>,
    by_session: HashMap<SessionId, HandoverId>,
    opened: u64,
}

impl Incoming {
    pub(super) fn count(&self) -> usize {
        self.targets.len()
    }

    /// Sessions that this life has taken.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    /// Whether a commit of this session is under way, so that it may be ours any moment.
    pub(super) fn expects(&self, session: &SessionId) -> bool {
        self.by_session.get(session).and_then(|h| self.targets.get(h)).is_some_and(|t| t.state == State::Committing)
    }
}

impl Node {
    pub(super) fn proposed<T: Table>(
        &mut self,
        from: Incarnation,
        handover: HandoverId,
        session: SessionId,
        _summary: Summary,
        turn: &mut Turn<'_, T>,
    ) {
        if handover.origin != from {
            return;
        }
        let resides = turn.table.with(&session, |slot| slot.is_some());
        let group =
            self.group_for(&session).filter(|_| self.accepts() && self.modes.owns() && self.lease.is_valid(turn.now.boot_us));
        let Some(group) = group else {
            return turn.send(from, Message::Reject { handover, reason: Rejection::NotAccepting });
        };
        if resides || self.incoming.expects(&session) || self.incoming.targets.contains_key(&handover) {
            return turn.send(from, Message::Reject { handover, reason: Rejection::Busy });
        }
        if let Some(old) = self.incoming.by_session.get(&session).copied() {
            self.target_event(old, Event::Late, turn);
        }
        // One message must hold the list: what it leaves out crosses once more.
        let mut room = frame_room(self.settings.frame_bytes_max);
        let mut have = self.late.residuals.held_of(&session);
        have.retain(|(id, _)| {
            let fits = room.checked_sub(framed(id, 0));
            room = fits.unwrap_or(room);
            fits.is_some()
        });
        let deadline_us = turn.now.boot_us + self.settings.propose_us_max * STAGE_WAIT_FACTOR;
        let staged = HashMap::new();
        self.incoming.by_session.insert(session.clone(), handover);
        self.incoming
            .targets
            .insert(handover, Target { session, from, state: State::Accepted, group, deadline_us, staged, ready: None });
        turn.send(from, Message::Accept { handover, group, have });
    }

    pub(super) fn pre_copy<T: Table>(&mut self, from: Incarnation, handover: HandoverId, values: Batch, turn: &mut Turn<'_, T>) {
        if let Some(target) = self.incoming.targets.get_mut(&handover).filter(|t| t.from == from && t.state == State::Accepted) {
            values.unpack_into(&mut target.staged);
            self.target_event(handover, Event::PreCopy, turn);
        }
    }

    pub(super) fn staged<T: Table>(&mut self, from: Incarnation, handover: HandoverId, stage: Stage, turn: &mut Turn<'_, T>) {
        let Some(target) = self.incoming.targets.get_mut(&handover).filter(|t| t.from == from) else {
            return turn.send(from, Message::Promised { handover });
        };
        if target.state != State::Accepted {
            return;
        }
        stage.values.unpack_into(&mut target.staged);
        for key in &stage.manifest.keys {
            for entry in &key.entries {
                let Held::Staged { digest, .. } = &entry.held else { continue };
                let id = VariableId { key: key.name.clone(), name: entry.name.clone() };
                if !target.staged.contains_key(&id)
                    && let Some(value) = self.late.residuals.held_value(&target.session, &id, digest)
                {
                    target.staged.insert(id, value);
                }
            }
        }
        let event = match stage.manifest.open(&target.staged) {
            Ok(session) => {
                let depends = stage.manifest.depends();
                let (location, origin_group_epoch) = (stage.location, stage.origin_group_epoch);
                let (debts, restlessness) = (stage.debts, stage.restlessness);
                target.ready = Some(Ready { session, debts, restlessness, location, origin_group_epoch, depends });
                target.staged = HashMap::new();
                Event::Staged
            }
            // What the target had when it was asked, and has no more: the origin keeps the session, and nothing is wrong.
            Err(Unfit::Absent) => Event::Unfit,
            Err(Unfit::Differs | Unfit::Malformed) => {
                turn.note(Note::Mismatch);
                Event::Unfit
            }
        };
        self.target_event(handover, event, turn);
    }

    pub(super) fn aborted<T: Table>(&mut self, from: Incarnation, handover: HandoverId, turn: &mut Turn<'_, T>) {
        if self.incoming.targets.get(&handover).is_some_and(|t| t.from == from) {
            self.target_event(handover, Event::Aborted, turn);
        }
    }

    fn target_event<T: Table>(&mut self, handover: HandoverId, event: Event, turn: &mut Turn<'_, T>) {
        let Some(target) = self.incoming.targets.get_mut(&handover) else { return };
        let (state, action) = step(target.state, event);
        target.state = state;
        let from = target.from;
        match action {
            Action::None | Action::Open => {}
            Action::Stage => turn.send(from, Message::PreCopied { handover }),
            // No group has replicas yet: all of them, none, hold the stage.
            Action::Replicate => self.target_event(handover, Event::Replicated, turn),
            Action::Commit => self.commit(handover, turn),
            Action::CommitAgain => target.deadline_us = turn.now.boot_us + self.settings.retry_us,
            Action::Promise => {
                turn.note(Note::Declined(handover));
                turn.send(from, Message::Promised { handover });
            }
        }
        if matches!(state, State::Refused | State::Promised) {
            self.target_over(handover, turn);
        }
    }

    fn target_over<T: Table>(&mut self, handover: HandoverId, turn: &mut Turn<'_, T>) -> Option<Target> {
        let target = self.incoming.targets.remove(&handover)?;
        if self.incoming.by_session.get(&target.session) == Some(&handover) {
            self.incoming.by_session.remove(&target.session);
        }
        turn.wake(&target.session);
        Some(target)
    }

    /// Step 6: one transaction. The same each time that it is sent.
    fn commit<T: Table>(&mut self, handover: HandoverId, turn: &mut Turn<'_, T>) {
        let Some(target) = self.incoming.targets.get_mut(&handover) else { return };
        target.deadline_us = u64::MAX;
        let Some(ready) = &target.ready else { return };
        let is = Some((ready.location.group, ready.location.epoch));
        let (group, epoch) = target.group;
        let mut compare = vec![Compare::Location { session: target.session.clone(), is }];
        if !bugs::on(Bug::SkipGroupCondition) {
            compare.push(Compare::Group { group: ready.location.group, owner: target.from, epoch: ready.origin_group_epoch });
            compare.push(Compare::Group { group, owner: self.me.incarnation, epoch });
        }
        let next = if bugs::on(Bug::ReuseEpochs) { NextEpoch::Keep(ready.location.epoch) } else { NextEpoch::Fresh };
        let place = Write::Place {
            session: target.session.clone(),
            group,
            epoch: next,
            last: Some(handover),
            depends: ready.depends.clone(),
        };
        self.transact(Pending::Commit(handover), Transaction { compare, write: vec![place] }, turn);
    }

    pub(super) fn commit_ended<T: Table>(&mut self, handover: HandoverId, outcome: Option<Outcome>, turn: &mut Turn<'_, T>) {
        let (event, epoch) = match outcome {
            None => (Event::Unknown, None),
            Some(Outcome::Applied { epoch }) => (Event::Applied, Some(epoch)),
            Some(Outcome::Refused { found }) => match found.location {
                Some(location) if location.last == Some(handover) => (Event::FoundOurs, Some(location.epoch)),
                _ => (Event::Refused, None),
            },
        };
        if let Some(epoch) = epoch {
            self.open(handover, epoch, turn);
        }
        self.target_event(handover, event, turn);
        if epoch.is_some() {
            self.target_over(handover, turn);
        }
    }

    /// Step 7: the session is ours; it answers from now on.
    fn open<T: Table>(&mut self, handover: HandoverId, epoch: Epoch, turn: &mut Turn<'_, T>) {
        let now_us = turn.now.boot_us;
        let Some(target) = self.incoming.targets.get_mut(&handover) else { return };
        let Some(ready) = target.ready.take() else { return };
        let (session, from, group) = (target.session.clone(), target.from, target.group.0);
        let depends_on_others = !ready.depends.is_empty();
        let location = Location { group, epoch, last: Some(handover), depends: ready.depends };
        if ready.session.is_empty() {
            self.locate.expect_key(session.clone(), now_us);
        }
        let rest = self.settings.rest.map(|_| Debts::open(ready.debts.as_ref(), &ready.session, now_us));
        if let Some(at_us) = rest.as_ref().zip(self.settings.rest).and_then(|(rest, settings)| rest.due_us(&settings)) {
            self.behind.schedule(&session, at_us);
        }
        let resident = Resident::new(ready.session, location, now_us).with_rest(rest).with_restlessness(ready.restlessness);
        turn.table.with(&session, |slot| *slot = Some(resident));
        if depends_on_others {
            self.late.depend(session.clone());
        }
        self.incoming.opened += 1;
        turn.note(Note::Opened(handover, session.clone()));
        turn.send(from, Message::Committed { handover });
        turn.wake(&session);
        self.follow(&session, turn);
    }

    pub(super) fn tick_incoming<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let now = turn.now.boot_us;
        let late: Vec<(HandoverId, State)> =
            self.incoming.targets.iter().filter(|(_, t)| t.deadline_us <= now).map(|(h, t)| (*h, t.state)).collect();
        for (handover, state) in late {
            match state {
                State::Committing => self.commit(handover, turn),
                _ => self.target_event(handover, Event::Late, turn),
            }
        }
    }
}

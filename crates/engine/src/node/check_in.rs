//! Owned → at rest: what is unwritten goes upstream, then the record goes, then the session is forgotten here.
//!
//! What happens next is in the table of [`crate::rest::check_in`]; here are the events that feed it and the actions. A session is
//! in at most one check-in, and `check_ins_max` are under way at once; the others wait in line.
//!
//! Invariant: *planned moves lose nothing*: the gate closes before the last batch is made, and stays closed until the record is
//! gone or the check-in has been given up.

use super::write_behind::Progress;
use super::{Effect, Node, Note, Pending, Reason, Turn, Verdict};
use crate::directory::{Compare, MemberState, Outcome, Transaction, Write};
use crate::ids::SessionId;
use crate::node::message::Message;
use crate::residence::{Gate, Table};
use crate::rest::check_in::{Action, Event, State, step};
use std::collections::{BTreeMap, VecDeque};

/// A check-in that the upstream does not take within so many times the longest pause is given up.
const LATE_FACTOR: u64 = 2;

#[derive(Debug)]
struct CheckIn {
    state: State,
    batch: Option<u64>,
    /// When it is given up, or its transaction is sent again.
    deadline_us: u64,
}

#[derive(Debug)]
struct Asked {
    left: u64,
    done: u64,
    failed: u64,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct CheckIns {
    under_way: BTreeMap<SessionId, CheckIn>,
    queue: VecDeque<(SessionId, Option<u64>)>,
    asked: BTreeMap<u64, Asked>,
}

impl CheckIns {
    /// Those under way and those in line.
    pub(super) fn count(&self) -> usize {
        self.under_way.len() + self.queue.len()
    }

    /// Whether a drain must wait before it puts sessions in line again.
    pub(super) fn is_idle(&self) -> bool {
        self.count() == 0
    }
}

impl Node {
    /// Puts sessions in line.
    pub(super) fn check_in<T: Table>(&mut self, sessions: Vec<SessionId>, batch: Option<u64>, turn: &mut Turn<'_, T>) {
        if let Some(batch) = batch {
            let left = sessions.len() as u64;
            self.check_ins.asked.insert(batch, Asked { left, done: 0, failed: 0 });
            if left == 0 {
                self.count_check_in(Some(batch), None, turn);
            }
        }
        self.check_ins.queue.extend(sessions.into_iter().map(|session| (session, batch)));
        self.start_check_ins(turn);
    }

    /// One of a batch has ended; `None`: the batch had none.
    fn count_check_in<T: Table>(&mut self, batch: Option<u64>, done: Option<bool>, turn: &mut Turn<'_, T>) {
        let Some(batch) = batch else { return };
        let Some(asked) = self.check_ins.asked.get_mut(&batch) else { return };
        if let Some(done) = done {
            asked.left = asked.left.saturating_sub(1);
            asked.done += u64::from(done);
            asked.failed += u64::from(!done);
        }
        if asked.left == 0 {
            let (done, failed) = (asked.done, asked.failed);
            self.check_ins.asked.remove(&batch);
            turn.effects.push(Effect::CheckedIn { batch, done, failed });
        }
    }

    fn start_check_ins<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let Some(settings) = self.settings.rest else {
            for (_, batch) in std::mem::take(&mut self.check_ins.queue) {
                self.count_check_in(batch, Some(false), turn);
            }
            return;
        };
        while self.check_ins.under_way.len() < settings.check_ins_max {
            let Some((session, batch)) = self.check_ins.queue.pop_front() else { return };
            self.start_check_in(session, batch, turn);
        }
    }

    fn start_check_in<T: Table>(&mut self, session: SessionId, batch: Option<u64>, turn: &mut Turn<'_, T>) {
        let Some(settings) = self.settings.rest else { return };
        let now = turn.now;
        // One that is only proposed to somebody goes to rest instead; one that is frozen is on its way.
        if turn.table.with(&session, |slot| slot.as_ref().is_some_and(|r| r.gate == Gate::Open)) {
            self.cancel_move(&session, turn);
        }
        let may = self.lease.is_valid(now.boot_us)
            && !self.outgoing.is_moving(&session)
            && !self.check_ins.under_way.contains_key(&session);
        // An ended one is on its way out, and one that is gone is where it should be.
        let mut gone = Vec::new();
        let closed = turn.table.with(&session, |slot| {
            let Some(resident) = slot.as_mut() else { return Some(false) };
            if !may || resident.gate != Gate::Open || resident.rest.is_none() {
                return None;
            }
            gone = resident.session.expire(now.unix_ms);
            if resident.session.is_empty() {
                resident.gate = Gate::Ending;
                return Some(true);
            }
            resident.gate = Gate::Resting;
            None
        });
        turn.expired(gone);
        if let Some(ends) = closed {
            if ends {
                self.end(session, None, turn);
            }
            return self.count_check_in(batch, Some(true), turn);
        }
        if turn.table.with(&session, |slot| slot.as_ref().is_none_or(|r| r.gate != Gate::Resting)) || !may {
            return self.count_check_in(batch, Some(false), turn);
        }
        let deadline_us = now.boot_us + settings.pause_us_max * LATE_FACTOR;
        self.check_ins.under_way.insert(session.clone(), CheckIn { state: State::Flushing, batch, deadline_us });
        self.check_in_on(session, turn);
    }

    /// The next step of one that is flushing.
    pub(super) fn check_in_on<T: Table>(&mut self, session: SessionId, turn: &mut Turn<'_, T>) {
        if self.check_ins.under_way.get(&session).is_none_or(|c| c.state != State::Flushing) {
            return;
        }
        self.check_in_event(&session, Event::Dirty, turn);
    }

    fn check_in_event<T: Table>(&mut self, session: &SessionId, event: Event, turn: &mut Turn<'_, T>) {
        let Some(check_in) = self.check_ins.under_way.get_mut(session) else { return };
        let (state, action) = step(check_in.state, event);
        check_in.state = state;
        match action {
            Action::None => {}
            Action::Flush => {
                if self.write(session, false, turn) == Progress::Clean {
                    self.check_in_event(session, Event::Written, turn);
                }
                return;
            }
            Action::Remove => self.remove_record(session, turn),
            Action::RemoveAgain => check_in.deadline_us = turn.now.boot_us + self.settings.retry_us,
            Action::Forget => self.forget_resting(session, state == State::AtRest, turn),
            Action::Open => {
                turn.note(Note::CheckInFailed(session.clone()));
                turn.table.with(session, |slot| {
                    if let Some(resident) = slot.as_mut().filter(|r| r.gate == Gate::Resting) {
                        resident.gate = Gate::Open;
                    }
                });
                turn.wake(session);
                self.behind.schedule(session, turn.now.boot_us);
            }
        }
        if matches!(state, State::AtRest | State::Reopened | State::Taken) {
            let ended = self.check_ins.under_way.remove(session);
            self.count_check_in(ended.and_then(|c| c.batch), Some(state != State::Reopened), turn);
        }
    }

    fn remove_record<T: Table>(&mut self, session: &SessionId, turn: &mut Turn<'_, T>) {
        if let Some(check_in) = self.check_ins.under_way.get_mut(session) {
            check_in.deadline_us = u64::MAX;
        }
        let key = turn.table.with(session, |slot| slot.as_ref().map(|r| (r.location.group, r.location.epoch)));
        let Some((group, epoch)) = key else { return self.check_in_event(session, Event::Another, turn) };
        let mut compare = vec![Compare::Location { session: session.clone(), is: Some((group, epoch)) }];
        if let Some((group, epoch)) = self.me.groups.iter().find(|(g, _)| *g == group) {
            compare.push(Compare::Group { group: *group, owner: self.me.incarnation, epoch: *epoch });
        }
        let write = vec![Write::Forget { session: session.clone() }];
        self.transact(Pending::CheckIn(session.clone()), Transaction { compare, write }, turn);
    }

    pub(super) fn check_in_ended<T: Table>(&mut self, session: SessionId, outcome: Option<Outcome>, turn: &mut Turn<'_, T>) {
        let event = match outcome {
            None => Event::Unknown,
            Some(Outcome::Applied { .. }) => Event::Removed,
            // An earlier try of ours; or another has claimed it since, which comes to the same.
            Some(Outcome::Refused { found }) if found.location.is_none() => Event::Removed,
            Some(Outcome::Refused { .. }) => Event::Another,
        };
        self.check_in_event(&session, event, turn);
    }

    fn forget_resting<T: Table>(&mut self, session: &SessionId, at_rest: bool, turn: &mut Turn<'_, T>) {
        let resident = turn.table.with(session, |slot| slot.take_if(|r| r.gate == Gate::Resting));
        let of_writes = if at_rest { Verdict::Written } else { Verdict::TryAgain(Reason::Taken) };
        self.behind.forget(session, of_writes, turn.effects);
        if at_rest {
            turn.note(Note::CheckedIn);
            for handover in resident.map(|r| r.location.depends).unwrap_or_default() {
                self.confirm(handover, turn, Message::Confirm { handover });
            }
        }
        turn.wake(session);
    }

    /// A drain where nobody takes sessions: they go to rest.
    pub(super) fn check_in_all<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        if self.settings.rest.is_some() && self.state == MemberState::Draining && self.check_ins.is_idle() {
            self.check_ins.queue.extend(turn.table.ids().into_iter().map(|session| (session, None)));
        }
    }

    /// A drain cannot send a session to any member: it goes to rest.
    pub(super) fn check_in_unsendable(&mut self, session: SessionId) {
        if self.settings.rest.is_some() && self.state == MemberState::Draining {
            self.check_ins.queue.push_back((session, None));
        }
    }

    pub(super) fn tick_check_ins<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let now_us = turn.now.boot_us;
        let late = |c: &CheckIn| c.deadline_us <= now_us;
        let due: Vec<(SessionId, State)> =
            self.check_ins.under_way.iter().filter(|(_, c)| late(c)).map(|(s, c)| (s.clone(), c.state)).collect();
        for (session, state) in due {
            match state {
                State::Removing => self.remove_record(&session, turn),
                _ => self.check_in_event(&session, Event::Late, turn),
            }
        }
        self.start_check_ins(turn);
    }
}

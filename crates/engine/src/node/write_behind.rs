//! What goes to the upstream, and when: by the deadline of the most urgent change, all changes of a session in one batch.
//!
//! It never has two batches of one session under way, and never more than `in_flight_max` in all. A failure is tried again after
//! a pause that doubles: of the whole node when the upstream does not answer, of one session when it answers with an error to a
//! key of that. Whoever waits for a critical write is told at once. It never sends without a lease.
//!
//! | gate | a batch goes out when |
//! |---|---|
//! | open | its deadline has come, or an operation waits for it |
//! | frozen | something critical is unwritten, or an operation waits for it: the stage follows |
//! | ending | at once: every key that may be there is removed |
//! | resting | at once |
//! | renaming | never: what is due waits until the key that goes or comes is in its place |
//!
//! Invariant: *a crash loses at most what policy allows*: an operation of impact `critical` is told `Written` only when the
//! upstream has confirmed a batch that was made after it ran.

use super::{Effect, Node, Note, Pending, Reason, Turn, Verdict};
use crate::ids::{RequestId, SessionId, Ticket};
use crate::residence::{Gate, Resident, Table};
use crate::rest::change::{Batch, Stored};
use crate::rest::copy::{Landed, Taken};
use crate::session::VariableId;
use std::collections::{BTreeMap, BTreeSet};

/// After a fetch was sent for a batch that needs it, the batch is made again.
const FETCH_PAUSE_US: u64 = 20_000;
/// After a batch was refused because a newer owner has been there, the next one waits so long.
const REFUSED_PAUSE_US: u64 = 1_000_000;

/// So long after an operation has run its question for the upstream may come: longer than any operation takes.
const OWING_US: u64 = 30_000_000;

/// Who waits for critical writes of one session.
#[derive(Debug, Default)]
struct Waiting {
    /// For the batch under way.
    served: Vec<Ticket>,
    /// For the next one.
    next: Vec<Ticket>,
}

/// How far a session's writing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// The upstream has everything; or sessions are never at rest here.
    Clean,
    /// A batch is under way, or will be: `stored` goes on, or the clock does.
    UnderWay,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Behind {
    due: BTreeSet<(u64, SessionId)>,
    due_of: BTreeMap<SessionId, u64>,
    waiting: BTreeMap<SessionId, Waiting>,
    in_flight: usize,
    /// How often in a row the upstream did not answer.
    failures: u32,
    paused_until_us: u64,
    /// When a session last left with critical changes that are not written.
    left_owing_us: Option<u64>,
}

impl Behind {
    /// One more batch is under way, if there is room for it; when to try again if not.
    pub(super) fn depart(&mut self, in_flight_max: usize, now_us: u64) -> Result<(), u64> {
        if self.is_paused(now_us) || self.in_flight >= in_flight_max {
            return Err(self.paused_until_us.max(now_us + 1));
        }
        self.in_flight += 1;
        Ok(())
    }

    /// One is over.
    pub(super) fn arrive(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    pub(super) fn count(&self) -> usize {
        self.due.len() + self.in_flight
    }

    pub(super) fn fails(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn is_paused(&self, now_us: u64) -> bool {
        now_us < self.paused_until_us
    }

    /// Whether some session has just left with critical changes unwritten: then nobody is told that theirs are.
    fn has_left_owing(&self, now_us: u64) -> bool {
        self.left_owing_us.is_some_and(|at_us| now_us < at_us + OWING_US)
    }

    /// Whether operations wait for a critical write of this session.
    pub(super) fn is_waited_for(&self, session: &SessionId) -> bool {
        self.waiting.contains_key(session)
    }

    pub(super) fn schedule(&mut self, session: &SessionId, at_us: u64) {
        if self.due_of.get(session).is_some_and(|before| *before <= at_us) {
            return;
        }
        self.unschedule(session);
        self.due_of.insert(session.clone(), at_us);
        self.due.insert((at_us, session.clone()));
    }

    fn unschedule(&mut self, session: &SessionId) {
        if let Some(before) = self.due_of.remove(session) {
            self.due.remove(&(before, session.clone()));
        }
    }

    /// The session is not here any more.
    pub(super) fn forget(&mut self, session: &SessionId, verdict: Verdict, effects: &mut Vec<Effect>) {
        self.unschedule(session);
        let waiting = self.waiting.remove(session).unwrap_or_default();
        let tickets = waiting.served.into_iter().chain(waiting.next);
        effects.extend(tickets.map(|ticket| Effect::Answer { ticket, verdict }));
    }

    /// Tells those whom the batch served how it ended; with `all` also those who came after it was made.
    fn answer(&mut self, session: &SessionId, verdict: Verdict, all: bool, effects: &mut Vec<Effect>) {
        let Some(waiting) = self.waiting.get_mut(session) else { return };
        let mut told = std::mem::take(&mut waiting.served);
        if all {
            told.append(&mut waiting.next);
        }
        if waiting.next.is_empty() {
            self.waiting.remove(session);
        }
        effects.extend(told.into_iter().map(|ticket| Effect::Answer { ticket, verdict }));
    }

    /// What the batch under way should have brought is not there: those whom it served wait for a later one, which may be another
    /// than the next.
    fn serve_later(&mut self, session: &SessionId) {
        if let Some(waiting) = self.waiting.get_mut(session) {
            let later = std::mem::take(&mut waiting.next);
            waiting.next = std::mem::take(&mut waiting.served);
            waiting.next.extend(later);
        }
    }

    /// All who wait, for a node that is over.
    pub(super) fn give_up(&mut self) -> Vec<(SessionId, Ticket)> {
        let waiting = std::mem::take(&mut self.waiting);
        let all = waiting.into_iter().flat_map(|(s, w)| w.served.into_iter().chain(w.next).map(move |t| (s.clone(), t)));
        all.collect()
    }
}

impl Node {
    /// An operation of impact `critical` has run and waits for the upstream.
    pub(super) fn flush_for<T: Table>(&mut self, session: SessionId, ticket: Ticket, turn: &mut Turn<'_, T>) {
        let now_us = turn.now.boot_us;
        let state = |slot: &mut Option<Resident>| {
            let rest = slot.as_ref()?.rest.as_ref()?;
            Some((rest.retry_at_us(), rest.since().owes_critical()))
        };
        let verdict = match turn.table.with(&session, state) {
            // It has left, rests or has ended since the operation ran: after everything critical had been written.
            None if !self.behind.has_left_owing(now_us) => Some(Verdict::Written),
            None => Some(Verdict::TryAgain(Reason::Taken)),
            Some((_, false)) => Some(Verdict::Written),
            Some(_) if self.behind.is_paused(now_us) => Some(Verdict::TryAgain(Reason::Upstream)),
            Some((at_us, true)) => (now_us < at_us).then_some(Verdict::TryAgain(Reason::Refused)),
        };
        if let Some(verdict) = verdict {
            turn.effects.push(Effect::Answer { ticket, verdict });
            return;
        }
        self.behind.waiting.entry(session.clone()).or_default().next.push(ticket);
        self.rest_step(session, turn);
    }

    /// Whether a frozen session may leave only when the upstream has answered: an operation has run that waits for it, or will as
    /// soon as its question comes. While the upstream fails, what is critical goes along unwritten, and whoever asks for it is not
    /// told that it is written.
    pub(super) fn must_write_first<T: Table>(&mut self, session: &SessionId, turn: &mut Turn<'_, T>) -> bool {
        let now_us = turn.now.boot_us;
        let owes = |slot: &mut Option<Resident>| Some(slot.as_ref()?.rest.as_ref()?.since().owes_critical());
        if self.behind.is_waited_for(session) {
            return true;
        }
        let owes = self.is_preparing(session) && turn.table.with(session, owes) == Some(true);
        if owes && self.behind.is_paused(now_us) {
            self.behind.left_owing_us = Some(now_us);
            return false;
        }
        owes
    }

    /// The next step of a session of which something is unwritten, by its gate.
    pub(super) fn rest_step<T: Table>(&mut self, session: SessionId, turn: &mut Turn<'_, T>) {
        match turn.table.with(&session, |slot| slot.as_ref().map(|r| r.gate)) {
            None => self.behind.forget(&session, Verdict::TryAgain(Reason::Taken), turn.effects),
            Some(Gate::Ending) => self.end_on(session, turn),
            Some(Gate::Resting) => self.check_in_on(session, turn),
            Some(Gate::Renaming) => self.rename_on(&session, turn),
            Some(Gate::Frozen(_)) if !self.must_write_first(&session, turn) => {
                self.behind.unschedule(&session);
                self.wrote_frozen(&session, turn);
            }
            Some(Gate::Frozen(_) | Gate::Open) => {
                if self.write(&session, false, turn) == Progress::Clean {
                    self.behind.forget(&session, Verdict::Written, turn.effects);
                    self.wrote_frozen(&session, turn);
                }
            }
        }
    }

    /// Sends what is unwritten of a session; with `all` it ends, and everything of it goes.
    pub(super) fn write<T: Table>(&mut self, session: &SessionId, all: bool, turn: &mut Turn<'_, T>) -> Progress {
        let Some(settings) = self.settings.rest else { return Progress::Clean };
        let now = turn.now;
        let may_send = self.lease.is_valid(now.boot_us) && now.boot_us >= self.behind.paused_until_us;
        if !may_send || self.behind.in_flight >= settings.in_flight_max {
            let at_us = self.behind.paused_until_us.max(now.boot_us + 1);
            self.behind.schedule(session, at_us);
            // Whether there is anything to send is not known yet.
            return Progress::UnderWay;
        }
        self.behind.unschedule(session);
        let request = self.request(Pending::Store(session.clone()));
        let taken = turn.table.with(session, |slot| {
            let resident = slot.as_mut()?;
            let epoch = resident.location.epoch;
            let rest = resident.rest.as_mut()?;
            let put_off = rest.retry_at_us();
            Some(if now.boot_us < put_off {
                Err(put_off)
            } else {
                Ok(rest.take(&resident.session, epoch, request, now.unix_ms, all))
            })
        });
        match taken {
            Some(Ok(Taken::Batch(batch))) => {
                if let Some(waiting) = self.behind.waiting.get_mut(session) {
                    waiting.served.append(&mut waiting.next);
                }
                self.send_batch(session, request, batch, turn)
            }
            // What an operation waits for may be what is not sent yet.
            Some(Ok(Taken::Part(batch))) => self.send_batch(session, request, batch, turn),
            other => {
                self.pending.remove(&request);
                match other {
                    Some(Err(retry_at_us)) => {
                        self.behind.schedule(session, retry_at_us);
                        Progress::UnderWay
                    }
                    Some(Ok(Taken::InFlight)) => Progress::UnderWay,
                    Some(Ok(Taken::Fetch(variables))) => {
                        self.fetch_to_write(session, &variables, turn);
                        self.behind.schedule(session, now.boot_us + FETCH_PAUSE_US);
                        Progress::UnderWay
                    }
                    _ => Progress::Clean,
                }
            }
        }
    }

    fn send_batch<T: Table>(
        &mut self,
        session: &SessionId,
        request: RequestId,
        batch: Batch,
        turn: &mut Turn<'_, T>,
    ) -> Progress {
        self.behind.in_flight += 1;
        turn.effects.push(Effect::Store { request, session: session.clone(), batch });
        Progress::UnderWay
    }

    fn fetch_to_write<T: Table>(&mut self, session: &SessionId, variables: &[VariableId], turn: &mut Turn<'_, T>) {
        self.fetch_behind(session, |id| variables.contains(id), turn);
    }

    /// A batch has ended.
    pub(super) fn stored<T: Table>(
        &mut self,
        session: SessionId,
        request: RequestId,
        stored: Option<Vec<Stored>>,
        turn: &mut Turn<'_, T>,
    ) {
        let (now_us, settings) = (turn.now.boot_us, self.settings.rest);
        self.behind.in_flight = self.behind.in_flight.saturating_sub(1);
        let landed = turn.table.with(&session, |slot| {
            let rest = slot.as_mut()?.rest.as_mut()?;
            let bytes = rest.unwritten_bytes();
            let landed = rest.landed(request, stored.as_deref())?;
            if let Some(settings) = settings.filter(|_| landed.failed) {
                rest.put_off(&settings, now_us);
            }
            Some((landed, bytes.saturating_sub(rest.unwritten_bytes())))
        });
        self.pause_after(stored.is_none(), turn);
        if let Some((landed, bytes)) = landed {
            note_landed(&session, landed, bytes, turn);
        }
        // The session has left; what a handover took over is unwritten there. Its waiters were answered by the batch itself.
        let everything = |all: &Vec<Stored>| all.iter().all(|s| matches!(s, Stored::Written | Stored::WrittenOver));
        let written = landed.map_or(stored.as_ref().is_some_and(everything), |(landed, _)| landed.written);
        let again = landed.is_some_and(|(l, _)| !l.written && !l.unknown && !l.refused && !l.failed);
        let landed = landed.map(|(landed, _)| landed).unwrap_or_default();
        if again {
            self.behind.serve_later(&session);
        } else {
            let reason = if landed.failed { Reason::Refused } else { Reason::Upstream };
            let verdict = if written { Verdict::Written } else { Verdict::TryAgain(reason) };
            self.behind.answer(&session, verdict, landed.failed, turn.effects);
        }
        let at_gate = turn.table.with(&session, |slot| {
            let resident = slot.as_ref()?;
            let rest = resident.rest.as_ref().zip(settings);
            let due = rest.and_then(|(rest, settings)| rest.due_us(&settings).map(|at| at.max(rest.retry_at_us())));
            Some((resident.gate, due))
        });
        let Some((gate, due)) = at_gate else {
            return self.behind.forget(&session, Verdict::TryAgain(Reason::Taken), turn.effects);
        };
        let due = if gate == Gate::Open { due } else { Some(now_us) };
        let waits = self.behind.is_waited_for(&session);
        match due {
            // A newer owner has it, and this node will hear of it; hammering would not help.
            Some(at) if landed.refused => self.behind.schedule(&session, at.max(now_us + REFUSED_PAUSE_US)),
            Some(at) if again || waits || at <= now_us => self.rest_step(session, turn),
            Some(at) => self.behind.schedule(&session, at),
            None if waits => self.rest_step(session, turn),
            None => {}
        }
    }

    /// After the upstream failed, pauses that double; after an answer, none.
    pub(super) fn pause_after<T: Table>(&mut self, failed: bool, turn: &mut Turn<'_, T>) {
        let Some(settings) = self.settings.rest else { return };
        if !failed {
            self.behind.failures = 0;
            return;
        }
        turn.note(Note::UpstreamFailed);
        if turn.now.boot_us >= self.behind.paused_until_us {
            self.behind.paused_until_us = turn.now.boot_us + settings.pause_after_us(self.behind.failures);
            self.behind.failures = self.behind.failures.saturating_add(1);
        }
    }

    pub(super) fn tick_behind<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let Some(settings) = self.settings.rest else { return };
        let now_us = turn.now.boot_us;
        for session in turn.table.take_unwritten() {
            let due = turn.table.with(&session, |slot| slot.as_ref()?.rest.as_ref()?.due_us(&settings));
            if let Some(at_us) = due {
                self.behind.schedule(&session, at_us);
            }
        }
        if now_us < self.behind.paused_until_us {
            return;
        }
        let mut steps = self.behind.due.len();
        while self.behind.in_flight < settings.in_flight_max && steps > 0 {
            let Some((at_us, session)) = self.behind.due.first().cloned() else { return };
            if at_us > now_us {
                return;
            }
            steps -= 1;
            self.behind.unschedule(&session);
            self.rest_step(session, turn);
        }
    }
}

pub(super) fn note_landed<T: Table>(session: &SessionId, landed: Landed, bytes: u64, turn: &mut Turn<'_, T>) {
    if landed.foreign > 0 {
        turn.note(Note::Foreign(session.clone(), landed.foreign));
    }
    if landed.refused {
        turn.note(Note::Stale(session.clone()));
    }
    if landed.written {
        turn.note(Note::Flushed { bytes });
    }
}

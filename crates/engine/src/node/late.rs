//! What comes late: fetches and streams.
//!
//! A variable that is elsewhere is fetched once, however many wait for it: on access (with a deadline for the reader), at once
//! behind the handover (`streamed`), at a low rate (`deferred`, if policy lets it trickle), or because its holder leaves.
//! It never believes a value that does not match its manifest, and never one for a variable that was overwritten meanwhile.
//!
//! When nothing of a handover is elsewhere any more, `settling` ends it.
//!
//! Longer than 400 lines because readers and streams share one state and one way of asking.
//!
//! Invariant: *never wrong data*.

use super::settling::Settlements;
use super::{Effect, Input, Node, Note, Reason, Turn, Verdict};
use crate::ids::{Digest, HandoverId, Incarnation, RequestId, SessionId, Ticket};
use crate::node::keeping::Residuals;
use crate::node::message::Message;
use crate::node::payload::{frame_room, framed};
use crate::residence::{Gate, Table};
use crate::session::{Class, Content, Remote, VariableId};
use bytes::Bytes;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

/// Sessions with residuals that one tick looks at.
const EXAMINED_MAX: usize = 64;
/// Variables in one fetch.
const FETCH_VARIABLES_MAX: usize = 256;
/// Bytes in one fetch, as far as one variable does not exceed them alone.
const FETCH_BYTES_MAX: u64 = 1 << 20;
/// An answer to a fetch may still be used for so many times the reader's patience.
const FETCH_LATE_FACTOR: u64 = 50;
/// A reader waits for a holder that lives, but does not answer, for so many times its patience.
const SLOW_FACTOR: u64 = 20;
/// Ticks come every few milliseconds. If one comes so much later, this node was not running.
const TICK_US_MAX: u64 = 25_000;

/// One request on its way to a holder.
struct Asked {
    session: SessionId,
    handover: HandoverId,
    variables: Vec<VariableId>,
    bytes: u64,
    sent_us: u64,
    background: bool,
}

/// One variable that is being fetched.
struct Fetching {
    holder: Incarnation,
    sent_us: u64,
    waiters: Vec<Ticket>,
    on_access: bool,
    /// Its holder is gone: it was looked for at rest.
    at_rest: bool,
}

/// One reader and how much it still waits for.
struct Reader {
    left: usize,
    since_us: u64,
    deadline_us: u64,
}

/// See the head of this file.
pub(super) struct Late {
    pub(super) residuals: Residuals,
    asked: BTreeMap<RequestId, Asked>,
    fetching: BTreeMap<(SessionId, VariableId), Fetching>,
    readers: BTreeMap<Ticket, Reader>,
    /// When each node sent something last, as long as anything is being fetched.
    heard: BTreeMap<Incarnation, u64>,
    dependents: VecDeque<SessionId>,
    known: HashSet<SessionId>,
    pub(super) settlements: Settlements,
    background_bytes: u64,
    /// What may trickle now, in millionths of a byte, so that short ticks at low rates count; negative after a large value.
    trickle_microbytes: i64,
    ticked_us: u64,
}

fn microbytes(bytes: u64) -> i64 {
    i64::try_from(bytes.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}

impl Late {
    pub(super) fn new(now_us: u64) -> Late {
        Late {
            residuals: Residuals::default(),
            asked: BTreeMap::new(),
            fetching: BTreeMap::new(),
            readers: BTreeMap::new(),
            heard: BTreeMap::new(),
            dependents: VecDeque::new(),
            known: HashSet::new(),
            settlements: Settlements::default(),
            background_bytes: 0,
            trickle_microbytes: 0,
            ticked_us: now_us,
        }
    }

    pub(super) fn dependent_count(&self) -> usize {
        self.known.len()
    }

    /// The record of this session depends on handovers: look after it.
    pub(super) fn depend(&mut self, session: SessionId) {
        if self.known.insert(session.clone()) {
            self.dependents.push_back(session);
        }
    }

    /// Another node has sent something: it lives.
    pub(super) fn heard(&mut self, from: Incarnation, now_us: u64) {
        if self.fetching.is_empty() {
            self.heard.clear();
        } else {
            self.heard.insert(from, now_us);
        }
    }

    /// A variable is to be fetched from a holder, which may be gone. True: it must be asked for now, for nobody has, or not there.
    fn begin(&mut self, session: &SessionId, id: &VariableId, from: (Incarnation, bool), now_us: u64, patience_us: u64) -> bool {
        let (holder, is_gone) = from;
        match self.fetching.entry((session.clone(), id.clone())) {
            Entry::Vacant(place) => {
                place.insert(Fetching { holder, sent_us: now_us, waiters: Vec::new(), on_access: false, at_rest: is_gone });
                true
            }
            Entry::Occupied(mut place) => {
                let fetching = place.get_mut();
                let again = is_gone && (!fetching.at_rest || fetching.sent_us + patience_us <= now_us);
                if again {
                    (fetching.at_rest, fetching.sent_us) = (true, now_us);
                }
                again
            }
        }
    }

    /// The readers, taken out, that have waited long enough. A holder that is silent has so much time; one that has sent something
    /// else meanwhile lives and is only slow, and its readers are told nothing for [`SLOW_FACTOR`] times as long: a move is no
    /// reason for an error. With each, who has not answered.
    fn out_of_patience(&mut self, now_us: u64, patience_us: u64) -> Vec<(Ticket, Reason)> {
        if self.readers.values().all(|reader| reader.deadline_us > now_us) {
            return Vec::new();
        }
        for fetching in self.fetching.values() {
            // The upstream is given as much time as a holder that lives.
            let heard_us = if fetching.at_rest { Some(&now_us) } else { self.heard.get(&fetching.holder) };
            let Some(heard_us) = heard_us else { continue };
            for ticket in &fetching.waiters {
                if let Some(reader) = self.readers.get_mut(ticket) {
                    let last_us = reader.since_us.saturating_add(patience_us.saturating_mul(SLOW_FACTOR));
                    reader.deadline_us = reader.deadline_us.max(last_us.min(heard_us.saturating_add(patience_us)));
                }
            }
        }
        let at_rest: HashSet<Ticket> =
            self.fetching.values().filter(|f| f.at_rest).flat_map(|f| f.waiters.iter().copied()).collect();
        let late = self.readers.extract_if(.., |_, reader| reader.deadline_us <= now_us).map(|(ticket, _)| ticket);
        late.map(|t| (t, if at_rest.contains(&t) { Reason::Upstream } else { Reason::Holder })).collect()
    }

    pub(super) fn give_up(&mut self, inputs: &mut Vec<Input>) {
        let none = || SessionId(Bytes::new());
        let readers = std::mem::take(&mut self.readers);
        inputs.extend(readers.into_keys().map(|ticket| Input::Need { session: none(), variables: Vec::new(), ticket }));
    }
}

impl Node {
    /// Whether the values of this handover are still here.
    pub fn keeps(&self, handover: HandoverId) -> bool {
        self.late.residuals.contains_key(&handover)
    }

    /// A reader needs variables that are elsewhere.
    pub(super) fn need<T: Table>(
        &mut self,
        session: SessionId,
        variables: Vec<VariableId>,
        ticket: Ticket,
        turn: &mut Turn<'_, T>,
    ) {
        if self.late.readers.len() >= self.settings.waiting_max {
            turn.effects.push(Effect::Answer { ticket, verdict: Verdict::TryAgain(Reason::Full) });
            return;
        }
        let wanted = self.remote(&session, turn, |id, _| variables.contains(id));
        if wanted.is_empty() {
            turn.effects.push(Effect::Answer { ticket, verdict: Verdict::Fetched });
            return;
        }
        let deadline_us = turn.now.boot_us + self.settings.fetch_us_max;
        self.late.readers.insert(ticket, Reader { left: wanted.len(), since_us: turn.now.boot_us, deadline_us });
        let mut ask = Vec::new();
        for (id, handover, size) in wanted {
            let asks = self.begin(&session, &id, handover, turn);
            if let Some(fetching) = self.late.fetching.get_mut(&(session.clone(), id.clone())) {
                fetching.waiters.push(ticket);
                fetching.on_access = true;
            }
            if asks {
                ask.push((id, handover, size));
            }
        }
        self.ask(&session, ask, false, turn);
    }

    fn begin<T: Table>(&mut self, session: &SessionId, id: &VariableId, handover: HandoverId, turn: &Turn<'_, T>) -> bool {
        let from = (handover.origin, self.is_orphaned(handover));
        self.late.begin(session, id, from, turn.now.boot_us, self.settings.fetch_us_max)
    }

    /// Whether the holder of its values is another node, and gone.
    fn is_orphaned(&self, handover: HandoverId) -> bool {
        handover.origin != self.me.incarnation && self.is_gone(handover.origin)
    }

    /// The variables of a session that are elsewhere and that `choose` wants. Where nothing is at rest, those whose holder is gone for
    /// good are declared lost on the way.
    fn remote<T: Table>(
        &self,
        session: &SessionId,
        turn: &mut Turn<'_, T>,
        choose: impl Fn(&VariableId, &Remote) -> bool,
    ) -> Vec<(VariableId, HandoverId, u64)> {
        let rests = self.settings.rest.is_some();
        let (found, lost) = turn.table.with(session, |slot| {
            let (mut found, mut lost) = (Vec::new(), Vec::new());
            let Some(resident) = slot.as_mut().filter(|r| r.session.missing_count() > 0) else { return (found, 0) };
            // Of a frozen session the manifest is made: whoever has it after the handover declares lost what is.
            let frozen = matches!(resident.gate, Gate::Frozen(_));
            for key in resident.session.keys() {
                for (name, variable) in key.variables() {
                    let Content::Elsewhere(remote) = &variable.content else { continue };
                    let id = VariableId { key: key.name.to_bytes(), name: name.clone() };
                    let gone = self.is_orphaned(remote.handover);
                    if gone && (frozen || !rests) {
                        lost.extend((!frozen).then_some(id));
                    } else if choose(&id, remote) {
                        found.push((id, remote.handover, remote.size));
                    }
                }
            }
            (found, lost.iter().filter(|id| resident.session.resolve(id, Content::Lost)).count())
        });
        (0..lost).for_each(|_| turn.note(Note::Lost));
        found
    }

    /// Sends fetches, by holder, in pieces that are bounded. What this node holds itself needs no message; what was with a node that
    /// is gone is looked for at rest.
    fn ask<T: Table>(
        &mut self,
        session: &SessionId,
        variables: Vec<(VariableId, HandoverId, u64)>,
        background: bool,
        turn: &mut Turn<'_, T>,
    ) {
        // One message must hold the question, and another one the answer.
        let room = frame_room(self.settings.frame_bytes_max).min(FETCH_BYTES_MAX);
        let mut pieces: BTreeMap<HandoverId, Vec<(Vec<VariableId>, u64, u64)>> = BTreeMap::new();
        let (orphans, variables): (Vec<_>, Vec<_>) =
            variables.into_iter().partition(|(_, handover, _)| self.is_orphaned(*handover));
        self.recover(session, orphans.into_iter().map(|(id, ..)| id).collect(), turn);
        for (id, handover, size) in variables {
            let pieces = pieces.entry(handover).or_default();
            let takes = framed(&id, size);
            match pieces.last_mut() {
                Some((ids, bytes, taken)) if ids.len() < FETCH_VARIABLES_MAX && taken.saturating_add(takes) <= room => {
                    ids.push(id);
                    *bytes += size;
                    *taken += takes;
                }
                _ => pieces.push((vec![id], size, takes)),
            }
        }
        for (handover, pieces) in pieces {
            for (variables, bytes, _) in pieces {
                let request = self.next_request();
                let message = Message::Fetch { request, handover, variables: variables.clone() };
                let sent_us = turn.now.boot_us;
                self.late.background_bytes += if background { bytes } else { 0 };
                let asked = Asked { session: session.clone(), handover, variables, bytes, sent_us, background };
                self.late.asked.insert(request, asked);
                if handover.origin == self.me.incarnation {
                    self.heard(self.me.incarnation, message, turn);
                } else {
                    turn.send(handover.origin, message);
                }
            }
        }
    }

    /// An answer counts only from the holder that was asked.
    pub(super) fn fetched<T: Table>(
        &mut self,
        from: Incarnation,
        request: RequestId,
        values: Vec<Option<Bytes>>,
        turn: &mut Turn<'_, T>,
    ) {
        if self.late.asked.get(&request).is_none_or(|asked| asked.handover.origin != from) {
            return;
        }
        let Some(asked) = self.late.asked.remove(&request) else { return };
        if asked.background {
            self.late.background_bytes = self.late.background_bytes.saturating_sub(asked.bytes);
        }
        for (id, value) in asked.variables.iter().zip(values) {
            let fetching = self.late.fetching.remove(&(asked.session.clone(), id.clone()));
            let on_access = fetching.as_ref().is_some_and(|f| f.on_access);
            self.arrive(&asked, id, value, on_access, turn);
            for ticket in fetching.map(|f| f.waiters).unwrap_or_default() {
                self.reader_has_one(ticket, turn);
            }
        }
        // What this node holds itself answers at once, and a frozen session cannot take that it holds it no more: the clock goes on.
        if from == self.me.incarnation {
            self.settle(&asked.session, turn);
        } else {
            self.follow(&asked.session, turn);
        }
    }

    /// Puts a fetched value into its place, if that still waits for exactly this value.
    fn arrive<T: Table>(
        &mut self,
        asked: &Asked,
        id: &VariableId,
        value: Option<Bytes>,
        on_access: bool,
        turn: &mut Turn<'_, T>,
    ) {
        let note = turn.table.with(&asked.session, |slot| {
            let resident = slot.as_mut()?;
            let frozen = matches!(resident.gate, Gate::Frozen(_));
            let session = &mut resident.session;
            let Some(Content::Elsewhere(remote)) = session.variable(id).map(|v| &v.content) else { return None };
            if remote.handover != asked.handover {
                return None;
            }
            // The holder lives and does not have it, or has another: nobody will ever have it.
            // But not while a manifest that says otherwise is on its way: then the next fetch will tell.
            let Some(value) = value else {
                return (!frozen && session.resolve(id, Content::Lost)).then_some(Note::Lost);
            };
            if value.len() as u64 != remote.size || Digest::of(&value) != remote.digest {
                if !frozen {
                    session.resolve(id, Content::Lost);
                }
                return Some(Note::Mismatch);
            }
            let bytes = value.len() as u64;
            session.resolve(id, Content::Here(value)).then_some(Note::Fetched { bytes, on_access })
        });
        turn.effects.extend(note.map(Effect::Note));
    }

    fn reader_has_one<T: Table>(&mut self, ticket: Ticket, turn: &mut Turn<'_, T>) {
        let Some(reader) = self.late.readers.get_mut(&ticket) else { return };
        reader.left = reader.left.saturating_sub(1);
        if reader.left == 0 {
            self.late.readers.remove(&ticket);
            turn.effects.push(Effect::Answer { ticket, verdict: Verdict::Fetched });
        }
    }

    /// Whether a reader waits for this variable.
    pub(super) fn is_read(&self, session: &SessionId, id: &VariableId) -> bool {
        self.late.fetching.get(&(session.clone(), id.clone())).is_some_and(|fetching| fetching.on_access)
    }

    /// Nobody needs to wait for this variable any more.
    pub(super) fn has_come<T: Table>(&mut self, session: &SessionId, id: &VariableId, turn: &mut Turn<'_, T>) {
        let fetching = self.late.fetching.remove(&(session.clone(), id.clone()));
        for ticket in fetching.map(|f| f.waiters).unwrap_or_default() {
            self.reader_has_one(ticket, turn);
        }
    }

    /// Looks after one session whose record depends on handovers: streams what is due, settles what is complete. False if there
    /// is nothing more to look after.
    pub(super) fn follow<T: Table>(&mut self, session: &SessionId, turn: &mut Turn<'_, T>) -> bool {
        let leaving: BTreeSet<Incarnation> = if self.settings.drain_residuals { self.leaving() } else { BTreeSet::new() };
        let hurries = |remote: &Remote| {
            let handover = remote.handover;
            remote.class == Class::Streamed || leaving.contains(&handover.origin) || self.is_orphaned(handover)
        };
        let mut due = self.remote(session, turn, |_, remote| hurries(remote));
        let hurried = due.len();
        if self.late.trickle_microbytes > 0 {
            due.extend(self.remote(session, turn, |_, remote| !hurries(remote)));
        }
        let mut ask = Vec::new();
        let mut bytes = self.late.background_bytes;
        for (at, (id, handover, size)) in due.into_iter().enumerate() {
            let trickles = at >= hurried;
            let must_wait = bytes >= self.settings.stream_bytes_max || (trickles && self.late.trickle_microbytes <= 0);
            if must_wait || !self.begin(session, &id, handover, turn) {
                continue;
            }
            bytes += size;
            if trickles {
                self.late.trickle_microbytes = self.late.trickle_microbytes.saturating_sub(microbytes(size));
            }
            ask.push((id, handover, size));
        }
        self.ask(session, ask, true, turn);
        self.settle(session, turn)
    }

    /// Fetches variables that are elsewhere because the upstream must get them.
    pub(super) fn fetch_behind<T: Table>(
        &mut self,
        session: &SessionId,
        choose: impl Fn(&VariableId) -> bool,
        turn: &mut Turn<'_, T>,
    ) {
        let mut ask = self.remote(session, turn, |id, _| choose(id));
        ask.retain(|(id, handover, _)| self.begin(session, id, *handover, turn));
        self.ask(session, ask, true, turn);
    }

    /// The members that leave and hold something: theirs is fetched first.
    fn leaving(&self) -> BTreeSet<Incarnation> {
        let draining = self.view.members.values().filter(|m| m.state == crate::directory::MemberState::Draining);
        draining.map(|m| m.incarnation).collect()
    }

    /// A fetch that nobody answered is sent again while a reader waits for it, so that no reader misses the answer; without one it
    /// may be asked for again later. An answer to the first one is still welcome for a while.
    fn fetch_again<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let (now, patience_us) = (turn.now.boot_us, self.settings.fetch_us_max);
        let readers = &self.late.readers;
        let mut again: BTreeMap<SessionId, Vec<VariableId>> = BTreeMap::new();
        self.late.fetching.retain(|(session, id), fetching| {
            if fetching.sent_us + patience_us > now {
                return true;
            }
            fetching.waiters.retain(|ticket| readers.contains_key(ticket));
            if !fetching.waiters.is_empty() {
                fetching.sent_us = now;
                again.entry(session.clone()).or_default().push(id.clone());
                return true;
            }
            !fetching.on_access && fetching.sent_us + patience_us * FETCH_LATE_FACTOR > now
        });
        for (session, ids) in again {
            let wanted = self.remote(&session, turn, |id, _| ids.contains(id));
            for id in ids.iter().filter(|id| !wanted.iter().any(|(w, ..)| w == *id)) {
                // It has come by another way, was overwritten, or is lost: its readers look for themselves.
                self.has_come(&session, id, turn);
            }
            self.ask(&session, wanted, false, turn);
        }
    }

    pub(super) fn tick_late<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let now = turn.now.boot_us;
        let passed_us = now.saturating_sub(std::mem::replace(&mut self.late.ticked_us, now));
        let rate = self.settings.trickle_bytes_per_s;
        let earned = i64::try_from(rate.saturating_mul(passed_us)).unwrap_or(i64::MAX);
        self.late.trickle_microbytes = self.late.trickle_microbytes.saturating_add(earned).min(microbytes(rate));
        // What this node overslept is not the holder's: the answer may have come and wait to be heard.
        let overslept_us = passed_us.saturating_sub(TICK_US_MAX);
        for reader in self.late.readers.values_mut() {
            reader.deadline_us += overslept_us.min(now.saturating_sub(reader.since_us));
        }
        let patience_us = self.settings.fetch_us_max;
        for (ticket, reason) in self.late.out_of_patience(now, patience_us) {
            turn.effects.push(Effect::Answer { ticket, verdict: Verdict::TryAgain(reason) });
        }
        self.fetch_again(turn);
        let background = &mut self.late.background_bytes;
        self.late.asked.retain(|_, a| {
            let keep = a.sent_us + patience_us * FETCH_LATE_FACTOR > now;
            if !keep && a.background {
                *background = background.saturating_sub(a.bytes);
            }
            keep
        });
        for _ in 0..self.late.dependents.len().min(EXAMINED_MAX) {
            let Some(session) = self.late.dependents.pop_front() else { break };
            if self.follow(&session, turn) {
                self.late.dependents.push_back(session);
            } else {
                self.late.known.remove(&session);
            }
        }
        self.sweep(turn);
    }
}

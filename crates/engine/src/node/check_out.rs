//! At rest → owned: a session that nobody owns is looked for in the upstream, claimed, loaded, and then answers.
//!
//! It never answers from the upstream: what is there is loaded under a claim first. It never remembers that a session is absent.
//!
//! ```text
//!  nobody's ─┬─ to read, no record ─► look ─┬─ nothing ─► Absent
//!            │                              └─ something ─┐
//!            └─ to create, or a record whose owner is gone ┴─► claim (compare-and-set) ─► load ─► Here
//! ```
//! The keys whose names follow from the session's id are loaded at once. Others are loaded when they are first asked for
//! ([`crate::node::Input::Reach`]); that a key is not at rest is remembered for as long as the session is owned.
//!
//! Invariants: *one owner*: a load guards the keys for the claim's epoch, so that what a former owner sends late is refused;
//! *never wrong data*: a load without an answer opens nothing.

use super::locate::{Claim, version_before};
use super::{Effect, Node, Note, Pending, Purpose, Reason, Turn, Verdict};
use crate::command::Target;
use crate::directory::{Location, Placement};
use crate::ids::{Epoch, SessionId, Ticket};
use crate::mode::Mode;
use crate::residence::{Gate, Resident, Table};
use crate::rest::change::{Loaded, LoadedKey};
use crate::rest::copy::{KNOWN_ABSENT_MAX, KeyCopy, RestCopy};
use crate::session::Session;

impl Node {
    /// Nobody answers for the session, by a read that began after all who are asked came.
    pub(super) fn located_nowhere<T: Table>(&mut self, session: SessionId, placement: &Placement, turn: &mut Turn<'_, T>) {
        let has_record = placement.location.is_some();
        if has_record || self.is_wanted(&session, |purpose| purpose == Purpose::Create) {
            return self.bear(session, placement, Claim::AtRest, turn);
        }
        let request = self.request(Pending::Look(session.clone(), placement.mode));
        turn.effects.push(Effect::Look { request, session });
    }

    pub(super) fn looked<T: Table>(&mut self, session: SessionId, mode: Mode, found: Option<bool>, turn: &mut Turn<'_, T>) {
        if let Some(verdict) = self.known(&session, turn) {
            return self.conclude(&session, turn, |_| Some(verdict));
        }
        match found {
            Some(true) => self.bear(session, &Placement { mode, ..Placement::default() }, Claim::AtRest, turn),
            Some(false) => self.conclude(&session, turn, |_| Some(Verdict::Absent)),
            None => {
                turn.note(Note::UpstreamFailed);
                self.conclude(&session, turn, |_| Some(Verdict::TryAgain(Reason::Upstream)));
            }
        }
    }

    /// The claim is in the directory; whoever waits goes on waiting.
    pub(super) fn load<T: Table>(&mut self, session: SessionId, location: Location, turn: &mut Turn<'_, T>) {
        let epoch = location.epoch;
        let request = self.request(Pending::Load { session: session.clone(), location });
        turn.effects.push(Effect::Load { request, session, epoch, keys: None, becomes_ours: true });
    }

    pub(super) fn loaded<T: Table>(&mut self, session: SessionId, location: Location, loaded: Loaded, turn: &mut Turn<'_, T>) {
        let reason = match loaded {
            Loaded::Keys(keys) => {
                self.open_loaded(&session, location, keys, turn);
                return self.conclude(&session, turn, |_| Some(Verdict::Here));
            }
            Loaded::Unfit => Reason::Unfit,
            Loaded::Refused => {
                turn.note(Note::Stale(session.clone()));
                Reason::Upstream
            }
            Loaded::Unknown => {
                turn.note(Note::UpstreamFailed);
                Reason::Upstream
            }
        };
        // The record stays ours with nothing here: the next operation claims it again, under a new epoch.
        self.conclude(&session, turn, |_| Some(Verdict::TryAgain(reason)));
    }

    fn open_loaded<T: Table>(&mut self, session: &SessionId, location: Location, keys: Vec<LoadedKey>, turn: &mut Turn<'_, T>) {
        let now_us = turn.now.boot_us;
        let mut opened = Session::new(version_before(location.epoch));
        let mut rest = RestCopy::default();
        keys.into_iter().for_each(|key| put(key, &mut opened, &mut rest));
        let is_empty = opened.is_empty();
        turn.note(if is_empty { Note::Born } else { Note::CheckedOut });
        if is_empty {
            self.locate.expect_key(session.clone(), now_us);
        }
        turn.table.with(session, |slot| {
            slot.get_or_insert_with(|| Resident::new(opened, location, now_us).with_rest(Some(rest)));
        });
        turn.wake(session);
    }

    /// An operation here names keys that nobody has looked for.
    pub(super) fn reach<T: Table>(&mut self, session: SessionId, keys: Vec<Target>, ticket: Ticket, turn: &mut Turn<'_, T>) {
        let found = turn.table.with(&session, |slot| {
            let resident = slot.as_ref().filter(|r| r.is_open())?;
            // With those that are known to be absent: what is found to be absent now must find its place beside them.
            let absent = keys.iter().filter(|key| resident.session.held(&key.key).is_none());
            Some((resident.location.epoch, absent.count()))
        });
        let Some((epoch, absent)) = found else {
            turn.effects.push(Effect::Answer { ticket, verdict: Verdict::Here });
            return;
        };
        if absent > KNOWN_ABSENT_MAX {
            turn.effects.push(Effect::Answer { ticket, verdict: Verdict::TryAgain(Reason::Keys) });
            return;
        }
        let request = self.request(Pending::Reach { session: session.clone(), epoch, ticket });
        turn.effects.push(Effect::Load { request, session, epoch, keys: Some(keys), becomes_ours: true });
    }

    pub(super) fn reached<T: Table>(
        &mut self,
        session: &SessionId,
        epoch: Epoch,
        ticket: Ticket,
        loaded: Loaded,
        turn: &mut Turn<'_, T>,
    ) {
        let is_still = |slot: Option<&Resident>| slot.is_some_and(|r| r.location.epoch == epoch && r.gate == Gate::Open);
        let verdict = match loaded {
            Loaded::Keys(keys) => {
                turn.table.with(session, |slot| {
                    // What was loaded for another epoch, or twice, or is written by now, is older than what is here.
                    let Some(resident) = slot.as_mut().filter(|r| is_still(Some(r))) else {
                        return;
                    };
                    let Some(mut rest) = resident.rest.take() else { return };
                    for key in keys {
                        if !rest.knows(&key.target.key) && resident.session.held(&key.target.key).is_none() {
                            put(key, &mut resident.session, &mut rest);
                        }
                    }
                    resident.rest = Some(rest);
                });
                Verdict::Fetched
            }
            Loaded::Unfit => Verdict::TryAgain(Reason::Unfit),
            // It has moved on while its key was looked for: the operation looks for it where it is now.
            Loaded::Refused if !turn.table.with(session, |slot| is_still(slot.as_ref())) => Verdict::Fetched,
            Loaded::Refused => {
                turn.note(Note::Stale(session.clone()));
                Verdict::TryAgain(Reason::Upstream)
            }
            Loaded::Unknown => {
                turn.note(Note::UpstreamFailed);
                Verdict::TryAgain(Reason::Upstream)
            }
        };
        turn.effects.push(Effect::Answer { ticket, verdict });
    }
}

/// Puts a loaded key into a session and its books.
fn put(loaded: LoadedKey, session: &mut Session, rest: &mut RestCopy) {
    let LoadedKey { target, content, expires_at_ms } = loaded;
    let Some(content) = content else { return rest.add(KeyCopy::absent(target.key)) };
    content.load(session, &target.key, target.layout, &target.label, expires_at_ms);
    if let Some(key) = session.held(&target.key) {
        rest.add(KeyCopy::of(key, session.last_version()));
    }
}

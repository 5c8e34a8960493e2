//! A key that becomes another session's (RENAME at login, when a session gets a new id): both sessions are at this node, both gates
//! close, the value goes over whole, both gates open.
//!
//! It never brings sessions together: whoever asks has looked that both are open here and that all of the value is
//! ([`look_at_source`], [`look_at_target`]), has fetched what a former holder still had, and has moved a session that was elsewhere
//! ([`meeting_place`]). So no list of handovers need go along: the new name depends on none. Values are fetched rather than
//! described to the other session, because a residual is kept and confirmed for one session by its id.
//!
//! ```text
//!            ┌─ not open, not here ─► look again          (nothing has changed)
//!  close ────┼─ no key, name taken ─► answered
//!            └─ Renaming, both ─┬─ never at rest ───────────────────────────────┐
//!                               └─ store both in one step ─┬─ written ──────────┼─► Open, both; a session without a key ends
//!                                      ▲  unknown: again   ├─ refused, failed ──┴─► Open, both, as they were
//!                                      └───────────────────┘
//! ```
//! **No transaction of the directory** is needed: neither session gets another owner. Both belong to one incarnation, which is fenced
//! as a whole, so both halves stay or go together; a session that is left without a key ends as any other does, and one that did not
//! exist was born before, by its own compare-and-set. **At rest** the two keys could part: so one script looks at both guards, writes
//! the new key and removes the old, or does nothing. It runs before the value goes over here; a crash at any instant leaves either
//! the old name or the new one. A store of unknown outcome is sent again, under the next sequence, until it is known, with both gates
//! closed: to open them would let somebody write under the old name what the late store then takes away.
//!
//! Invariants: *one owner* (nobody sees the value under both names or under none: between the two halves both gates are closed);
//! *planned moves lose nothing*.

use super::write_behind::note_landed;
use super::{Effect, Node, Note, Pending, Reason, Turn, Verdict};
use crate::bugs::{self, Bug};
use crate::command::Target;
use crate::directory::View;
use crate::ids::{Incarnation, RequestId, SessionId, Ticket};
use crate::residence::{Gate, Renamed, Resident, Table};
use crate::rest::change::{KeyChange, KeyStore, Stored, Swap};
use crate::rest::content::KeyContent;
use crate::rest::copy::{KeyCopy, Landed};
use crate::session::{Missing, Session};
use std::collections::BTreeMap;

/// A key that should become another session's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rename {
    /// The session that has it.
    pub from: SessionId,
    /// Its name there.
    pub source: Target,
    /// The session that gets it.
    pub to: SessionId,
    /// Its name there.
    pub target: Target,
    /// Whether a key that has this name already is left alone.
    pub if_none: bool,
}

/// How a session stands for a rename.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look {
    /// It is not here, or its gate is closed.
    Closed,
    /// Nobody has looked whether the key is at rest.
    Unknown,
    /// The session has no such key.
    Absent,
    /// Some of the key is not here.
    Missing(Missing),
    /// Nothing is in the way.
    Ready,
}

/// How the session stands that has the key.
pub fn look_at_source(resident: Option<&Resident>, name: &bytes::Bytes, unix_ms: u64) -> Look {
    let Some(resident) = resident.filter(|r| r.gate == Gate::Open) else { return Look::Closed };
    if resident.unknown(std::iter::once(name)) {
        return Look::Unknown;
    }
    if resident.session.key(name, unix_ms).is_none() {
        return Look::Absent;
    }
    resident.session.missing_of(name, None).map_or(Look::Ready, Look::Missing)
}

/// How the session stands that gets it. Whatever has the name there is replaced, so its values may be anywhere.
pub fn look_at_target(resident: Option<&Resident>, name: &bytes::Bytes) -> Look {
    let Some(resident) = resident.filter(|r| r.gate == Gate::Open) else { return Look::Closed };
    if resident.unknown(std::iter::once(name)) { Look::Unknown } else { Look::Ready }
}

/// Where the sessions of two members meet: at that of the two which takes sessions, at the older life if both do, so that two
/// renames in opposite directions meet at the same place; else at any that does. `None`: nobody takes any.
pub fn meeting_place(view: &View, one: Incarnation, other: Incarnation) -> Option<Incarnation> {
    let takes = |who: &Incarnation| view.accepting().any(|m| m.incarnation == *who);
    let of_both = [one.min(other), one.max(other)].into_iter().find(takes);
    of_both.or_else(|| view.accepting().map(|m| m.incarnation).next())
}

#[derive(Debug)]
struct UnderWay {
    rename: Box<Rename>,
    ticket: Ticket,
    /// The key, alone, as the session that gets it will have it.
    key: Session,
    over_expired: bool,
    request: Option<RequestId>,
    /// Nobody knows how an earlier store ended: there is no way back.
    doubtful: bool,
    /// Of the deliberate bug: one half is done.
    halved: bool,
}

/// Those that wait for the upstream, by the session that has the key.
#[derive(Debug, Default)]
pub(super) struct Renames {
    under_way: BTreeMap<SessionId, UnderWay>,
    /// By the session that gets a key, the one that has it.
    sources: BTreeMap<SessionId, SessionId>,
}

impl Renames {
    /// All who wait, for a node that is over.
    pub(super) fn give_up(&mut self) -> Vec<(Box<Rename>, Ticket)> {
        self.sources.clear();
        std::mem::take(&mut self.under_way).into_values().map(|u| (u.rename, u.ticket)).collect()
    }

    fn add(&mut self, under_way: UnderWay) {
        self.sources.insert(under_way.rename.to.clone(), under_way.rename.from.clone());
        self.under_way.insert(under_way.rename.from.clone(), under_way);
    }

    fn remove(&mut self, from: &SessionId) -> Option<UnderWay> {
        let under_way = self.under_way.remove(from)?;
        self.sources.remove(&under_way.rename.to);
        Some(under_way)
    }
}

impl Node {
    pub(super) fn rename<T: Table>(&mut self, rename: Box<Rename>, ticket: Ticket, turn: &mut Turn<'_, T>) {
        match self.close_both(&rename, turn) {
            Ok((key, over_expired)) => {
                let from = rename.from.clone();
                let (request, doubtful, halved) = (None, false, false);
                self.renames.add(UnderWay { rename, ticket, key, over_expired, request, doubtful, halved });
                if self.settings.rest.is_some() { self.rename_on(&from, turn) } else { self.complete_rename(&from, turn) }
            }
            Err(verdict) => turn.effects.push(Effect::Answer { ticket, verdict }),
        }
    }

    /// Closes both gates; the key as the other session will have it, and whether one whose time has come had its name.
    fn close_both<T: Table>(&mut self, rename: &Rename, turn: &mut Turn<'_, T>) -> Result<(Session, bool), Verdict> {
        let unix_ms = turn.now.unix_ms;
        if !self.lease.is_valid(turn.now.boot_us) {
            return Err(Verdict::TryAgain(Reason::Directory));
        }
        let elsewhere = |slot: &Option<Resident>| if slot.is_some() { Verdict::Parked } else { Verdict::Here };
        turn.table.with(&rename.from, |slot| match look_at_source(slot.as_ref(), &rename.source.key, unix_ms) {
            Look::Absent => Err(Verdict::NoKey),
            Look::Closed => Err(elsewhere(slot)),
            Look::Unknown | Look::Missing(_) => Err(Verdict::Here),
            Look::Ready => {
                slot.iter_mut().for_each(|resident| resident.gate = Gate::Renaming);
                Ok(())
            }
        })?;
        let name = &rename.target.key;
        let closed = turn.table.with(&rename.to, |slot| match (look_at_target(slot.as_ref(), name), slot.as_mut()) {
            (Look::Ready, Some(resident)) => {
                let (held, lives) = (resident.session.held(name).is_some(), resident.session.key(name, unix_ms).is_some());
                if rename.if_none && lives {
                    return Err(Verdict::NameTaken);
                }
                resident.gate = Gate::Renaming;
                Ok((resident.session.last_version(), held && !lives))
            }
            (Look::Closed, _) => Err(elsewhere(slot)),
            _ => Err(Verdict::Here),
        });
        let closed = closed.and_then(|(after, over_expired)| {
            let (target, name) = (&rename.target, &rename.source.key);
            let to = (target.key.as_ref(), target.layout, target.label.as_ref());
            let key = turn.table.with(&rename.from, |slot| slot.as_ref()?.session.extract(name, to, after, unix_ms));
            key.map(|key| (key, over_expired)).ok_or_else(|| {
                self.open_renaming(&rename.to, turn);
                Verdict::Here
            })
        });
        if closed.is_err() {
            self.open_renaming(&rename.from, turn);
        }
        closed
    }

    /// Opens one of the two.
    fn open_renaming<T: Table>(&mut self, session: &SessionId, turn: &mut Turn<'_, T>) {
        let now_us = turn.now.boot_us;
        let empty = turn.table.with(session, |slot| {
            let resident = slot.as_mut().filter(|r| r.gate == Gate::Renaming)?;
            resident.gate = Gate::Open;
            Some(resident.session.is_empty())
        });
        if empty == Some(true) {
            self.locate.expect_key(session.clone(), now_us);
        }
        if self.settings.rest.is_some() {
            self.behind.schedule(session, now_us);
        }
        turn.wake(session);
    }

    /// It comes to nothing: both sessions are as they were.
    fn abandon_rename<T: Table>(&mut self, from: &SessionId, reason: Reason, turn: &mut Turn<'_, T>) {
        let Some(UnderWay { rename, ticket, .. }) = self.renames.remove(from) else { return };
        self.open_renaming(&rename.to, turn);
        self.open_renaming(from, turn);
        turn.effects.push(Effect::Answer { ticket, verdict: Verdict::TryAgain(reason) });
    }

    /// The next step of one that goes to the upstream, by either of its sessions: the store, as soon as nothing else of the two is
    /// on its way there.
    pub(super) fn rename_on<T: Table>(&mut self, session: &SessionId, turn: &mut Turn<'_, T>) {
        let from = self.renames.sources.get(session).unwrap_or(session).clone();
        let Some((under_way, settings)) = self.renames.under_way.get(&from).zip(self.settings.rest) else { return };
        let (to, doubtful) = (under_way.rename.to.clone(), under_way.doubtful);
        let books = |slot: &mut Option<Resident>| {
            let rest = slot.as_ref()?.rest.as_ref()?;
            Some((rest.is_in_flight(), rest.retry_at_us()))
        };
        let of_both = turn.table.with(&from, books).zip(turn.table.with(&to, books));
        let Some(((from_flies, from_us), (to_flies, to_us))) = of_both else { return };
        if under_way.request.is_some() || from_flies || to_flies {
            return;
        }
        let now_us = turn.now.boot_us;
        let (retry_us, put_off) = (self.settings.retry_us, from_us.max(to_us));
        let wait = if !self.lease.is_valid(now_us) {
            Some((Reason::Directory, now_us + retry_us))
        } else if now_us < put_off {
            Some((Reason::Refused, put_off))
        } else if self.behind.is_paused(now_us) {
            Some((Reason::Upstream, now_us + retry_us))
        } else {
            None
        };
        match wait {
            // Nothing was sent yet.
            Some((reason, _)) if !doubtful => return self.abandon_rename(&from, reason, turn),
            Some((_, at_us)) => return self.behind.schedule(&from, at_us),
            None => {}
        }
        match self.behind.depart(settings.in_flight_max, now_us) {
            Ok(()) => self.store_both(&from, turn),
            Err(at_us) => self.behind.schedule(&from, at_us),
        }
    }

    fn store_both<T: Table>(&mut self, from: &SessionId, turn: &mut Turn<'_, T>) {
        let request = self.request(Pending::Rename(from.clone()));
        let now_us = turn.now.boot_us;
        let swap = self.renames.under_way.get_mut(from).and_then(|under_way| {
            let (rename, last) = (&under_way.rename, under_way.key.last_version());
            let key = under_way.key.keys().first()?;
            let change = KeyChange::Whole(KeyContent::of(key)?);
            let arrival = KeyStore { key: key.name.to_bytes(), change, expires_at_ms: key.expires_at_ms };
            let name = &rename.source.key;
            let removal = KeyStore { key: name.clone(), change: KeyChange::Gone, expires_at_ms: None };
            let (gone, there) = (KeyCopy::absent(name.clone()), KeyCopy::of(key, last));
            let batch = |session: &SessionId, store, after| {
                turn.table.with(session, |slot| {
                    let resident = slot.as_mut()?;
                    let epoch = resident.location.epoch;
                    Some(resident.rest.as_mut()?.take_one(store, after, epoch, request, now_us))
                })
            };
            let (removal, arrival) = (batch(from, removal, gone)?, batch(&rename.to, arrival, there)?);
            under_way.request = Some(request);
            Some(Swap { from: from.clone(), removal, to: rename.to.clone(), arrival })
        });
        match swap {
            Some(swap) => turn.effects.push(Effect::StoreBoth { request, swap: Box::new(swap) }),
            None => {
                self.pending.remove(&request);
                self.behind.arrive();
                self.abandon_rename(from, Reason::Taken, turn);
            }
        }
    }

    /// The store has ended.
    pub(super) fn rename_stored<T: Table>(
        &mut self,
        from: &SessionId,
        request: RequestId,
        stored: Option<[Stored; 2]>,
        turn: &mut Turn<'_, T>,
    ) {
        self.behind.arrive();
        self.pause_after(stored.is_none(), turn);
        let Some(under_way) = self.renames.under_way.get_mut(from).filter(|u| u.request == Some(request)) else { return };
        under_way.request = None;
        under_way.doubtful |= stored.is_none();
        let (doubtful, to) = (under_way.doubtful, under_way.rename.to.clone());
        let now_us = turn.now.boot_us;
        let (mut written, mut refused) = (true, false);
        for (session, outcome) in [(from, stored.map(|[gone, _]| [gone])), (&to, stored.map(|[_, there]| [there]))] {
            let settings = self.settings.rest;
            let landed = turn.table.with(session, |slot| {
                let rest = slot.as_mut()?.rest.as_mut()?;
                let landed = rest.landed(request, outcome.as_ref().map(<[Stored; 1]>::as_slice))?;
                settings.iter().filter(|_| landed.failed).for_each(|settings| rest.put_off(settings, now_us));
                Some(landed)
            });
            let landed = landed.unwrap_or_else(Landed::default);
            note_landed(session, landed, 0, turn);
            written &= landed.written;
            refused |= landed.refused;
        }
        match () {
            () if written => self.complete_rename(from, turn),
            // A newer owner has been there: this node will hear of it, and what it has counts no more.
            () if refused => self.abandon_rename(from, Reason::Taken, turn),
            () if doubtful => self.behind.schedule(from, now_us + self.settings.retry_us),
            () => self.abandon_rename(from, Reason::Refused, turn),
        }
    }

    /// The upstream has it, or there is none: the value goes over.
    fn complete_rename<T: Table>(&mut self, from: &SessionId, turn: &mut Turn<'_, T>) {
        let Some(mut under_way) = self.renames.remove(from) else { return };
        let unix_ms = turn.now.unix_ms;
        turn.table.with(from, |slot| {
            slot.iter_mut().for_each(|resident| {
                resident.session.remove(&under_way.rename.source.key, unix_ms);
            });
        });
        if bugs::on(Bug::RenameInHalves) && !under_way.halved {
            under_way.halved = true;
            return self.renames.add(under_way);
        }
        let UnderWay { rename, ticket, key, over_expired, .. } = under_way;
        let Rename { source, to, target, .. } = *rename;
        turn.table.with(&to, |slot| slot.iter_mut().for_each(|resident| resident.session.take_over(key.clone(), unix_ms)));
        turn.table.renamed(&Renamed { from: source.key, to: target.key, over_expired }, turn.now.boot_us);
        turn.note(Note::Renamed(from.clone(), to.clone()));
        self.open_renaming(&to, turn);
        let ends = turn.table.with(from, |slot| {
            let resident = slot.as_mut().filter(|r| r.session.is_empty());
            resident.map(|resident| resident.gate = Gate::Ending).is_some()
        });
        if ends {
            return self.end(from.clone(), Some(ticket), turn);
        }
        self.open_renaming(from, turn);
        turn.effects.push(Effect::Answer { ticket, verdict: Verdict::Renamed });
    }

    /// For the deliberate bug alone: the second halves.
    pub(super) fn tick_renames<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        if bugs::on(Bug::RenameInHalves) {
            let halved: Vec<SessionId> =
                self.renames.under_way.iter().filter(|(_, u)| u.halved).map(|(from, _)| from.clone()).collect();
            halved.iter().for_each(|from| self.complete_rename(from, turn));
        }
    }
}

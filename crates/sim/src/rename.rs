//! Renames of a key from one session to another: their way at a node, as the production shell goes it, and what must come of them.
//!
//! It decides nothing about ownership: the machine is asked at every step, and which step is next is looked up in the table of
//! sessions each time. What the product asks another member by a question is a letter here.
//!
//! A rename takes place at one instant: where sessions are never at rest when the machine says so, else when the upstream has both
//! halves. Between that and the machine's word both gates are closed, and the machine still has the value under its old name.
//!
//! | invariant | here |
//! |---|---|
//! | one owner | no value is under two names at any instant, at rest or not |
//! | planned moves lose nothing | what a rename writes is what the old name had |

use crate::host::{Stimulus, Visit};
use crate::operation::{KEYS, Kind, Operation, Reply, WriteId, fields_of, id_of};
use crate::upstream::target;
use crate::world::{Event, World};
use bytes::Bytes;
use std::collections::BTreeMap;
use wayfarer_engine::ids::{Incarnation, SessionId};
use wayfarer_engine::node::message::Proposer;
use wayfarer_engine::node::rename::{Look, Rename, look_at_source, look_at_target, meeting_place};
use wayfarer_engine::node::{Input, Purpose, Reason, Verdict};
use wayfarer_engine::residence::Table;
use wayfarer_engine::session::Missing;

/// What the machine was asked last for a rename.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Step {
    /// About the session that has the key.
    #[default]
    First,
    /// Where the other session is, so that it comes here or is born.
    Second,
    /// Whether the other session is at rest too, for a rename there.
    AtRest,
    /// To rename.
    Rename,
}

/// What a rename that took place is answered with; `None` in its place: there was no such key.
const RENAMED: Reply = Reply::Done(Some(1));

impl World {
    /// One try of a rename at a node.
    pub(crate) fn visit_rename(&mut self, host: usize, mut visit: Visit, operation: &Operation) {
        let Kind::Rename { place, to, .. } = operation.kind else { return };
        let now = self.hosts[host].clock.now(self.now_us);
        let (from, to) = (self.sessions[operation.session].clone(), self.sessions[to].clone());
        let name = Bytes::from_static(KEYS[place]);
        let Some(process) = self.hosts[host].process.as_mut() else { return };
        let in_lease = now.boot_us < process.lease_until_us;
        (visit.step, visit.ends) = (Step::First, None);
        let input = match process.table.with(&from, |slot| look_at_source(slot.as_ref(), &name, now.unix_ms)) {
            Look::Closed => {
                self.ticket_for(host, visit, |ticket| Input::Locate { session: from, purpose: Purpose::Read, ticket })
            }
            Look::Unknown => {
                self.ticket_for(host, visit, |ticket| Input::Reach { session: from, keys: vec![target(name)], ticket })
            }
            Look::Absent => return self.finish(host, visit, if in_lease { Reply::Done(None) } else { Reply::Failed }),
            Look::Missing(Missing::Lost) => return self.finish(host, visit, if in_lease { Reply::Lost } else { Reply::Failed }),
            Look::Missing(Missing::Fetch(variables)) => {
                self.ticket_for(host, visit, |ticket| Input::Need { session: from, variables, ticket })
            }
            Look::Ready => {
                visit.step = Step::Second;
                match process.table.with(&to, |slot| look_at_target(slot.as_ref(), &name)) {
                    Look::Closed => {
                        self.ticket_for(host, visit, |ticket| Input::Locate { session: to, purpose: Purpose::Create, ticket })
                    }
                    Look::Unknown => {
                        self.ticket_for(host, visit, |ticket| Input::Reach { session: to, keys: vec![target(name)], ticket })
                    }
                    Look::Ready | Look::Absent | Look::Missing(_) => {
                        // Whoever gives up from here on does not know how it ended.
                        (visit.step, visit.ends) = (Step::Rename, Some(RENAMED));
                        let (source, target) = (target(name.clone()), target(name));
                        let rename = Box::new(Rename { from, source, to, target, if_none: false });
                        self.ticket_for(host, visit, |ticket| Input::Rename { rename, ticket })
                    }
                }
            }
        };
        self.feed(host, input);
    }

    /// The machine's verdict for a rename.
    pub(crate) fn rename_decided(&mut self, host: usize, visit: Visit, operation: &Operation, verdict: Verdict) {
        let Kind::Rename { to, .. } = operation.kind else { return };
        let now = self.hosts[host].clock.now(self.now_us);
        let Some(process) = self.hosts[host].process.as_mut() else { return };
        let in_lease = now.boot_us < process.lease_until_us;
        let is_clients = visit.from.is_none();
        match (verdict, visit.step) {
            (Verdict::Renamed | Verdict::Ended, Step::Rename) => {
                self.coverage.renames += 1;
                self.finish(host, visit, if in_lease { RENAMED } else { Reply::Unknown });
            }
            (Verdict::NoKey, _) => self.finish(host, visit, if in_lease { Reply::Done(None) } else { Reply::Failed }),
            (Verdict::Absent, Step::First) => {
                if !is_clients || !operation.answered {
                    self.judge_absence(operation.session, operation.called_us);
                }
                self.finish(host, visit, Reply::Done(None));
            }
            (Verdict::At(_) | Verdict::Upstream, Step::First) if !is_clients => self.finish(host, visit, Reply::NotHere),
            (Verdict::At(owner), Step::First) => self.send_on(host, visit, owner),
            (Verdict::Upstream, Step::First) => {
                let (session, purpose) = (self.sessions[to].clone(), Purpose::Read);
                let visit = Visit { step: Step::AtRest, ..visit };
                let input = self.ticket_for(host, visit, |ticket| Input::Locate { session, purpose, ticket });
                self.feed(host, input);
            }
            (Verdict::Upstream, Step::AtRest) => self.send_upstream(host, visit),
            (Verdict::At(owner), Step::Second) => self.meet(host, visit, operation, owner),
            (Verdict::Parked, Step::First | Step::Second) => {
                let waits_for = if visit.step == Step::First { operation.session } else { to };
                let session = self.sessions[waits_for].clone();
                self.hosts[host].process.iter_mut().for_each(|process| process.parked.push((session.clone(), visit)));
            }
            (Verdict::TryAgain(Reason::Taken), Step::Rename) => self.finish(host, visit, Reply::Unknown),
            (Verdict::TryAgain(_), _) => self.finish(host, visit, Reply::Failed),
            (Verdict::Here | Verdict::Fetched, _) => self.visit(host, visit),
            _ => self.visit_later(host, visit),
        }
    }

    fn visit_later(&mut self, host: usize, visit: Visit) {
        let delay_us = self.random.between(1_000, 20_000);
        let Some(process) = self.hosts[host].process.as_ref() else { return };
        // Nothing of it is under way.
        let visit = Visit { ends: None, ..visit };
        self.after(delay_us, Event::Reach(process.me, Stimulus::Again(visit)));
    }

    /// The two sessions are at two members.
    fn meet(&mut self, host: usize, visit: Visit, operation: &Operation, owner: Incarnation) {
        let Kind::Rename { to, .. } = operation.kind else { return };
        let Some(process) = self.hosts[host].process.as_ref() else { return };
        let me = process.me;
        match meeting_place(process.node.view(), me, owner) {
            None => return self.finish(host, visit, Reply::Failed),
            Some(place) if place == me => {
                let come = Input::Move { session: self.sessions[to].clone(), to: me, proposer: Proposer::Target };
                if let Some(there) = self.homes.get(&owner).copied()
                    && let Some(delay_us) = self.network.carry(host, there, self.now_us, &self.profile, &mut self.random)
                {
                    self.after(delay_us, Event::Reach(owner, Stimulus::Input(come)));
                }
            }
            Some(place) => {
                let session = self.sessions[operation.session].clone();
                self.feed(host, Input::Move { session, to: place, proposer: Proposer::Origin });
            }
        }
        self.coverage.meetings += 1;
        self.visit_later(host, visit);
    }

    /// The machine has renamed. Where sessions are at rest, that was so when the upstream had it.
    pub(crate) fn note_renamed(&mut self, host: usize, from: &SessionId, to: &SessionId) {
        let names = self.hosts[host].process.as_ref().and_then(|process| process.table.last_renamed());
        if self.profile.node.rest.is_none()
            && let (Some(from), Some(to), Some(name)) = (self.place_of(from), self.place_of(to), names)
        {
            self.rename_truth(from, to, &name, None);
        }
    }

    /// Where a session is among all.
    pub(crate) fn place_of(&self, session: &SessionId) -> Option<usize> {
        self.sessions.iter().position(|id| id == session)
    }

    /// A key goes from one session to another in the account of the truth. `written`: what the upstream has got; the same again
    /// changes nothing.
    pub(crate) fn rename_truth(&mut self, from: usize, to: usize, name: &Bytes, written: Option<&BTreeMap<usize, WriteId>>) {
        let Some(place) = KEYS.iter().position(|key| *key == name.as_ref()) else { return };
        let ids = |truth: &crate::truth::SessionTruth| -> BTreeMap<usize, WriteId> {
            fields_of(place, self.profile.keys).filter_map(|field| Some((field, truth.read(field)?))).collect()
        };
        let (had, has) = (ids(&self.truth[from]), ids(&self.truth[to]));
        if let Some(written) = written {
            if had.is_empty() && has == *written {
                return;
            }
            if had != *written {
                let what = format!("a rename of session {from} to {to} wrote {written:?}, and it had {had:?}");
                self.violate("planned moves lose nothing", what);
            }
        }
        self.trace.line(self.now_us, format_args!("{had:?} goes from session {from} to {to}"));
        let values = self.truth[from].give(place, self.profile.keys);
        self.truth[to].receive(values, place, self.profile.keys, self.now_us);
    }

    /// No value is under two names.
    pub(crate) fn check_names(&mut self) {
        let mut found: BTreeMap<WriteId, usize> = BTreeMap::new();
        let mut twice = None;
        for (session, truth) in self.truth.iter().enumerate() {
            for (id, _) in truth.values.values() {
                if let Some(other) = found.insert(*id, session).filter(|other| *other != session) {
                    twice = Some((*id, other, session));
                }
            }
        }
        if let Some((id, one, other)) = twice {
            self.violate("one owner", format!("w{id} is in session {one} and in session {other}"));
        }
    }

    /// The writes whose values a key of a batch has.
    pub(crate) fn ids_of(pairs: &[(Bytes, Bytes)]) -> BTreeMap<usize, WriteId> {
        let field = |name: &Bytes| crate::operation::FIELDS.iter().position(|(field, _)| field.as_bytes() == name.as_ref());
        pairs
            .iter()
            .filter_map(|(name, value)| field(name).map(|field| (field, id_of(value, field).unwrap_or(WriteId::MAX))))
            .collect()
    }
}

//! What must hold after every event, by the names of the design, and what must hold once everything has healed.
//!
//! It never changes anything but the account of the truth. The directory's records are the truth about ownership: they are one
//! linearizable history by construction. What clients see is judged once more, and without this knowledge, in `history`.
//!
//! | invariant | here |
//! |---|---|
//! | one owner | at most one node would answer, the record names it, and each answer agrees with the order of execution |
//! | planned moves lose nothing | what goes, goes with a crash or a fence of whoever had it; contents agree with the truth; |
//! | | a residual stays while it is needed; no client sees an error where nothing fails |
//! | no lease, no answer | nobody answers from a life that was fenced; nobody is fenced within its lease |

use crate::names::name_of_handover;
use crate::operation::{FIELDS, Kind, WriteId, id_of, key_of};
use crate::profile::{LEASE_US, MARGIN_US};
use crate::world::World;
use wayfarer_engine::directory::{Compare, Location, NextEpoch, Transaction, Write};
use wayfarer_engine::ids::{Epoch, GroupId, HandoverId, Incarnation};
use wayfarer_engine::mode::Phase;
use wayfarer_engine::residence::{Gate, Resident, Table};
use wayfarer_engine::session::Content;

const ONE_OWNER: &str = "one owner";
const LOSE_NOTHING: &str = "planned moves lose nothing";
const NO_LEASE: &str = "no lease, no answer";
const QUIET: &str = "everything ends";

impl World {
    /// Who owns each session.
    pub(crate) fn owners(&self) -> Vec<Option<Incarnation>> {
        self.sessions.iter().map(|id| self.directory.read(id).owner()).collect()
    }

    /// After a change of the directory: whose sessions went, and why.
    pub(crate) fn judge_owners(&mut self, before: &[Option<Incarnation>]) {
        for (session, before) in before.iter().enumerate() {
            let placement = self.directory.read(&self.sessions[session]);
            let (Some(owner), None, Some(location)) = (*before, placement.owner(), &placement.location) else { continue };
            let fenced = !self.directory.is_alive(owner);
            let empty = self.truth[session].values.is_empty();
            let rests = self.profile.node.rest.is_some();
            if !empty && !rests && (self.left.contains(&owner) || !fenced) {
                let group = location.group.0;
                self.violate(LOSE_NOTHING, format!("session {session} of {} is in group {group}, which nobody owns", owner.0.0));
            }
            if self.profile.node.rest.is_some() {
                self.trace.line(self.now_us, format_args!("session {session} is at rest after the end of {}", owner.0.0));
                self.follow_upstream(session);
                continue;
            }
            self.trace.line(self.now_us, format_args!("session {session} is lost with {}", owner.0.0));
            self.coverage.lost_sessions += u64::from(self.truth[session].lose());
            self.history.lost(session, self.now_us);
        }
    }

    /// After a transaction was applied: epochs grow, and nobody is fenced without cause.
    pub(crate) fn judge_writes(&mut self, transaction: &Transaction) {
        self.note_who_accepts();
        for write in &transaction.write {
            match write {
                Write::Renew { incarnation } => {
                    self.renewed_us.insert(*incarnation, self.now_us);
                }
                Write::Place { session, epoch, .. } => self.judge_epoch(session, *epoch),
                Write::Fence { incarnation } => self.judge_fence(*incarnation),
                Write::Forget { session } if self.profile.node.rest.is_some() => {
                    if let Some(at) = self.sessions.iter().position(|id| id == session) {
                        let compared = transaction.compare.iter().find_map(|compare| match compare {
                            Compare::Location { session: of, is } if of == session => *is,
                            _ => None,
                        });
                        self.judge_forget(at, compared.map(|(_, epoch)| epoch));
                    }
                }
                _ => {}
            }
        }
    }

    /// Takes note of whether anybody takes sessions.
    pub(crate) fn note_who_accepts(&mut self) {
        if self.directory.nobody_accepts() {
            self.nobody_accepts_us = Some(self.now_us);
        }
    }

    fn judge_epoch(&mut self, session: &wayfarer_engine::ids::SessionId, next: NextEpoch) {
        let Some(at) = self.sessions.iter().position(|id| id == session) else { return };
        let epoch = self.directory.read(session).location.map_or(Epoch::default(), |l| l.epoch);
        let highest = self.truth[at].epoch;
        if epoch < highest || (epoch == highest && next == NextEpoch::Fresh) {
            self.violate(ONE_OWNER, format!("the epoch of session {at} went from {} to {}", highest.0, epoch.0));
        }
        self.truth[at].epoch = epoch;
    }

    fn judge_fence(&mut self, who: Incarnation) {
        if self.host_of(who).is_none() {
            self.coverage.fenced_dead += 1;
            return;
        }
        self.coverage.fenced_unproven += 1;
        let silent_us = self.now_us.saturating_sub(self.renewed_us.get(&who).copied().unwrap_or(0));
        if !self.profile.unproven || silent_us < LEASE_US + MARGIN_US / 2 {
            self.violate(NO_LEASE, format!("{} was fenced {silent_us} us after its last renewal", who.0.0));
        }
    }

    /// An operation ran at a node; `answers`: it will tell its client.
    pub(crate) fn judge_run(
        &mut self,
        me: Incarnation,
        session: usize,
        (number, kind): (u64, Kind),
        key: (GroupId, Epoch),
        saw: Option<WriteId>,
        answers: bool,
    ) {
        let placement = self.directory.read(&self.sessions[session]);
        if placement.owner() != Some(me) || placement.key() != Some(key) {
            if answers {
                let name = if self.directory.is_alive(me) { ONE_OWNER } else { NO_LEASE };
                self.violate(name, format!("{} answers for session {session}, which is not its own", me.0.0));
            }
            return;
        }
        if let Kind::Read(field) | Kind::Update(field, _) = kind {
            let truth = self.truth[session].read(field);
            if truth != saw {
                let name = FIELDS[field].0;
                self.violate(ONE_OWNER, format!("{} read {saw:?} in {name} of session {session}, where {truth:?} is", me.0.0));
            }
        }
        self.truth[session].execute(kind, self.now_us);
        self.promise_run(session, kind, number);
    }

    /// A client called at `called_us` is told that there is no session.
    pub(crate) fn judge_absence(&mut self, session: usize, called_us: u64) {
        if !self.truth[session].was_absent(called_us) {
            let there = self.truth[session].describe();
            self.violate(ONE_OWNER, format!("session {session} is said not to exist, but holds {there}"));
        }
    }

    /// What holds at every instant.
    pub(crate) fn check(&mut self) {
        self.check_names();
        for session in 0..self.sessions.len() {
            self.check_answerers(session);
            if let Some((owner, resident)) = self.resident_of(session) {
                // The upstream has both halves of a rename before the machine knows.
                if resident.gate != Gate::Renaming || self.profile.node.rest.is_none() {
                    self.check_contents(session, owner, &resident);
                }
                self.check_books(session, owner, &resident);
            }
        }
    }

    fn check_answerers(&mut self, session: usize) {
        let id = &self.sessions[session];
        let key = self.directory.read(id).key();
        let mut answerers = Vec::new();
        for host in &self.hosts {
            let Some(process) = host.process.as_ref() else { continue };
            if host.clock.now(self.now_us).boot_us >= process.lease_until_us {
                continue;
            }
            let open = process.table.with(id, |slot| {
                slot.as_ref().filter(|r| r.is_open()).map(|r| (r.gate == Gate::Open, (r.location.group, r.location.epoch)))
            });
            answerers.extend(open.map(|(open, is)| (process.me, open, is)));
        }
        if answerers.len() > 1 {
            return self.violate(ONE_OWNER, format!("session {session} would be answered for by {answerers:?}"));
        }
        if let Some((who, true, is)) = answerers.first()
            && Some(*is) != key
        {
            let name = if self.directory.is_alive(*who) { ONE_OWNER } else { NO_LEASE };
            self.violate(name, format!("{} would answer for session {session} at {is:?}, the record has {key:?}", who.0.0));
        }
    }

    /// The resident at the owner that the record names, if it is there.
    fn resident_of(&self, session: usize) -> Option<(Incarnation, Resident)> {
        let placement = self.directory.read(&self.sessions[session]);
        let owner = placement.owner()?;
        let process = self.hosts[self.host_of(owner)?].process.as_ref()?;
        let resident = process.table.with(&self.sessions[session], |slot| slot.clone())?;
        (Some((resident.location.group, resident.location.epoch)) == placement.key()).then_some((owner, resident))
    }

    fn check_contents(&mut self, session: usize, owner: Incarnation, resident: &Resident) {
        for (field, (name, size)) in FIELDS.iter().enumerate() {
            let expected = self.truth[session].values.get(&field).copied();
            let key = resident.session.key(key_of(field, self.profile.keys), 0);
            let content = key.and_then(|k| k.variable(name.as_bytes())).map(|v| v.content.clone());
            let wrong = match (&content, expected) {
                (None, None) => None,
                (Some(Content::Here(value)), Some((id, _))) if id_of(value, field) == Some(id) => None,
                (Some(Content::Here(value)), _) => Some(format!("w{:?}", id_of(value, field))),
                (Some(Content::Elsewhere(remote)), Some((_, digest)))
                    if remote.digest == digest && remote.size == *size as u64 =>
                {
                    None
                }
                (Some(Content::Elsewhere(remote)), _) => Some(format!("another value, at {}", name_of_handover(remote.handover))),
                (Some(Content::Lost), _) => None,
                (None, Some(_)) => Some("nothing".into()),
            };
            if let Some(wrong) = wrong {
                let truth = expected.map(|(id, _)| id);
                self.violate(
                    LOSE_NOTHING,
                    format!("{} has {wrong} in {name} of session {session} instead of w{truth:?}", owner.0.0),
                );
            }
            match content {
                Some(Content::Elsewhere(remote)) => {
                    self.elsewhere.insert((session, field), remote.handover);
                    self.check_held(session, field, remote.handover);
                }
                Some(Content::Lost) => {
                    if let Some(handover) = self.elsewhere.remove(&(session, field)) {
                        self.check_lost(session, field, handover);
                    }
                }
                _ => {
                    self.elsewhere.remove(&(session, field));
                }
            }
        }
    }

    /// A variable is declared lost: its holder must be gone.
    fn check_lost(&mut self, session: usize, field: usize, handover: HandoverId) {
        let holder = handover.origin;
        let gone = self.host_of(holder).is_none() || !self.directory.is_alive(holder);
        if !gone || self.left.contains(&holder) {
            let (name, of) = (FIELDS[field].0, name_of_handover(handover));
            self.violate(
                LOSE_NOTHING,
                format!("{name} of session {session} is declared lost, but the holder of {of} did not fail"),
            );
        }
    }

    /// A variable is elsewhere: its holder must have it, or be gone.
    fn check_held(&mut self, session: usize, field: usize, handover: HandoverId) {
        let holder = handover.origin;
        let process =
            self.host_of(holder).filter(|_| self.directory.is_alive(holder)).and_then(|h| self.hosts[h].process.as_ref());
        let Some(process) = process else {
            if self.left.contains(&holder) {
                self.violate(LOSE_NOTHING, format!("the holder of {} left", name_of_handover(handover)));
            }
            return;
        };
        let frozen =
            process.table.with(&self.sessions[session], |slot| slot.as_ref().is_some_and(|r| r.gate == Gate::Frozen(handover)));
        if !frozen && !process.node.keeps(handover) {
            let (name, of) = (FIELDS[field].0, name_of_handover(handover));
            self.violate(LOSE_NOTHING, format!("{name} of session {session} is in {of}, whose origin has freed it"));
        }
    }

    /// What has not ended although everything has healed; `None`: all is quiet.
    pub(crate) fn unrest(&self) -> Option<String> {
        if let Some((number, operation)) = self.operations.iter().find(|(_, o)| !o.answered) {
            return Some(format!("operation {number} of client {} has no answer", operation.client));
        }
        if let Some(host) = self.hosts.iter().position(|h| h.process.is_none() || h.paused_until_us.is_some()) {
            return Some(format!("host {host} does not run"));
        }
        if matches!(self.directory.view().mode.phase, Phase::Settling | Phase::Parking { .. }) {
            return Some(format!("the mode is {:?}", self.directory.view().mode));
        }
        let mut needed: Vec<HandoverId> = Vec::new();
        for session in 0..self.sessions.len() {
            let Some(location) = self.directory.read(&self.sessions[session]).location else { continue };
            match self.resident_of(session) {
                Some((_, resident)) => needed.extend(handovers_needed(&resident)),
                None if self.directory.read(&self.sessions[session]).owner().is_none() => {}
                None => {
                    // An unknown birth: the next who asks finishes it. A record with anything in it must have a resident.
                    if !self.truth[session].values.is_empty() && self.profile.node.rest.is_none() {
                        return Some(format!("session {session} at {location:?} has no resident"));
                    }
                }
            }
        }
        self.hosts.iter().filter_map(|h| h.process.as_ref()).find_map(|process| {
            let (me, status) = (process.me.0.0, process.node.status());
            let residents = process.table.ids().into_iter().filter_map(|id| process.table.with(&id, |slot| slot.clone()));
            if let Some(stuck) =
                residents.filter(|r| r.gate != Gate::Open || r.session.is_empty()).map(|r| (r.gate, r.location)).next()
            {
                let (gate, Location { group, epoch, .. }) = stuck;
                return Some(format!("{me} has a session that is {gate:?} or empty, at {group:?} {epoch:?}"));
            }
            let residuals = needed.iter().filter(|h| h.origin == process.me).count();
            let under_way = status.handovers_out + status.handovers_queued + status.handovers_in;
            match () {
                () if under_way > 0 => Some(format!("{me} has {under_way} handovers under way")),
                () if !process.tickets.is_empty() => Some(format!("{me} owes {} verdicts", process.tickets.len())),
                () if !process.parked.is_empty() => Some(format!("{me} has {} parked operations", process.parked.len())),
                () if status.residuals > residuals => {
                    Some(format!("{me} keeps {} residuals, {residuals} are needed", status.residuals))
                }
                () => None,
            }
        })
    }

    pub(crate) fn violate_quiet(&mut self, what: String) {
        self.violate(QUIET, what);
    }
}

fn handovers_needed(resident: &Resident) -> Vec<HandoverId> {
    let mut needed: Vec<HandoverId> = Vec::new();
    for (_, variable) in resident.session.keys().iter().flat_map(|k| k.variables()) {
        if let Content::Elsewhere(remote) = &variable.content {
            needed.push(remote.handover);
        }
    }
    needed.sort();
    needed.dedup();
    needed
}

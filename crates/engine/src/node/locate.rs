//! Where an operation runs when its session is not open here: birth, miss, forward; and the end of a session.
//!
//! It never answers from memory that a session does not exist, and never from a read that began before the operation came: who
//! comes while a read is under way waits for the next one. (Otherwise an operation could see a state from before its own time.)
//!
//! ```text
//!  locate ─► read ─┬─ nobody's, to read ───────► Absent
//!                  ├─ nobody's, to create ─► compare-and-set ─┬─ applied ─► resident, Here
//!                  │                                          └─ refused ─► as read
//!                  ├─ ours ─► Here, Parked (a commit is under way), or compare-and-set as for a birth: we missed its outcome
//!                  ├─ another's ─► At(owner)
//!                  └─ nobody's, and the mode is not `own` ─► Upstream
//! ```
//! Invariant: *one owner*: a birth and an end are changes of ownership, by compare-and-set.

use super::write_behind::Progress;
use super::{Effect, Input, Node, Note, Pending, Purpose, Reason, Turn, Verdict, spread};
use crate::bugs::{self, Bug};
use crate::directory::{Compare, Location, MemberState, NextEpoch, Outcome, Placement, Role, Transaction, Write};
use crate::ids::{Epoch, GroupId, SessionId, Ticket, Version};
use crate::mode::Phase;
use crate::node::message::Message;
use crate::residence::{Gate, Resident, Table};
use crate::session::Session;
use std::collections::{BTreeMap, HashMap};

/// A session without a key that nobody writes to ends after this: its record would keep a draining node for ever.
const EMPTY_US_MAX: u64 = 1_000_000;

/// Whoever has joined may be in the view of a node that much later.
const VIEW_LATE_US: u64 = 250_000;

/// Lost sessions that are remembered. Beyond it the memory begins anew, and one that is read again is counted again.
const LOST_REMEMBERED_MAX: usize = 65_536;
/// A session's versions begin at its epoch times this.
const VERSIONS_PER_EPOCH: u64 = 1 << 20;

/// One operation that waits.
type Waiter = (Purpose, Ticket);

/// One session that is being looked for.
#[derive(Debug, Default)]
struct Search {
    /// Those that the read under way can answer.
    asked: Vec<Waiter>,
    /// Those that came after it was sent.
    next: Vec<Waiter>,
}

/// A session whose record is being removed.
#[derive(Debug)]
struct Ending {
    tickets: Vec<Ticket>,
    retry_at_us: Option<u64>,
}

/// Whose a session is that this node claims.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    /// Nobody's, and it is to be created.
    New,
    /// Nobody's, and it may be at rest: whoever waits is served.
    AtRest,
    /// The record names this node already: whoever waits is served.
    Ours,
}

/// Searches and ends under way.
#[derive(Debug, Default)]
pub(super) struct Locations {
    searches: BTreeMap<SessionId, Search>,
    waiting: usize,
    endings: BTreeMap<SessionId, Ending>,
    /// Sessions that opened without a key, and when they end if nobody writes.
    empty: BTreeMap<SessionId, u64>,
    /// Sessions that were found lost, with the epochs of their records, so that each is counted once.
    lost: HashMap<SessionId, Epoch>,
}

impl Locations {
    /// Turns all waiters into inputs, for a node that is over.
    pub(super) fn give_up(&mut self, inputs: &mut Vec<Input>) {
        for (session, search) in std::mem::take(&mut self.searches) {
            let all = search.asked.into_iter().chain(search.next);
            inputs.extend(all.map(|(purpose, ticket)| Input::Locate { session: session.clone(), purpose, ticket }));
        }
        for (session, ending) in std::mem::take(&mut self.endings) {
            inputs.extend(ending.tickets.into_iter().map(|t| Input::Ended { session: session.clone(), ticket: Some(t) }));
        }
        self.waiting = 0;
    }

    /// A session opens without a key.
    pub(super) fn expect_key(&mut self, session: SessionId, now_us: u64) {
        self.empty.insert(session, now_us + EMPTY_US_MAX);
    }

    /// Whether no session is ending, and no operation waits that may create one: readers hold nothing up, however many they are.
    pub(super) fn is_idle(&self) -> bool {
        let creates = |search: &Search| search.asked.iter().chain(&search.next).any(|(purpose, _)| *purpose == Purpose::Create);
        self.endings.is_empty() && !self.searches.values().any(creates)
    }
}

impl Node {
    pub(super) fn locate<T: Table>(&mut self, session: SessionId, purpose: Purpose, ticket: Ticket, turn: &mut Turn<'_, T>) {
        if let Some(verdict) = self.known(&session, turn) {
            turn.effects.push(Effect::Answer { ticket, verdict });
            return;
        }
        if self.locate.waiting >= self.settings.waiting_max {
            turn.effects.push(Effect::Answer { ticket, verdict: Verdict::TryAgain(Reason::Full) });
            return;
        }
        self.locate.waiting += 1;
        if let Some(search) = self.locate.searches.get_mut(&session) {
            search.next.push((purpose, ticket));
            return;
        }
        self.locate.searches.insert(session.clone(), Search { asked: vec![(purpose, ticket)], next: Vec::new() });
        self.read(session, turn);
    }

    fn read<T: Table>(&mut self, session: SessionId, turn: &mut Turn<'_, T>) {
        let request = self.request(Pending::Locate(session.clone()));
        turn.effects.push(Effect::Read { request, session });
    }

    /// What this node knows of a session without asking: it is here, or on its way to be.
    pub(super) fn known<T: Table>(&self, session: &SessionId, turn: &Turn<'_, T>) -> Option<Verdict> {
        let here =
            turn.table.with(session, |slot| slot.as_ref().map(|r| if r.is_open() { Verdict::Here } else { Verdict::Parked }));
        here.or_else(|| self.incoming.expects(session).then_some(Verdict::Parked))
    }

    /// Whether this search waits for the upstream or a claim: whoever comes waits for the next one.
    pub(super) fn is_wanted(&self, session: &SessionId, wanted: impl Fn(Purpose) -> bool) -> bool {
        self.locate.searches.get(session).is_some_and(|s| s.asked.iter().any(|(p, _)| wanted(*p)))
    }

    pub(super) fn located<T: Table>(&mut self, session: SessionId, placement: Option<Placement>, turn: &mut Turn<'_, T>) {
        let Some(placement) = placement else {
            return self.conclude(&session, turn, |_| Some(Verdict::TryAgain(Reason::Directory)));
        };
        if let Some(verdict) = self.known(&session, turn) {
            return self.conclude(&session, turn, |_| Some(verdict));
        }
        if placement.mode.phase != Phase::Own {
            return self.located_in_mode(session, &placement, turn);
        }
        match placement.owner() {
            // The record was ours when it was read, and nothing is here: a birth of ours whose outcome did not reach us, or a
            // session that has left since. Only a compare-and-set can tell; a record that is still the same holds nothing.
            Some(owner) if owner == self.me.incarnation => self.bear(session, &placement, Claim::Ours, turn),
            Some(owner) => self.conclude(&session, turn, |_| Some(Verdict::At(owner))),
            None if self.settings.rest.is_some() => self.located_nowhere(session, &placement, turn),
            None => {
                self.note_lost(&session, &placement, turn);
                if self.conclude_some(&session, turn, |purpose| (purpose == Purpose::Read).then_some(Verdict::Absent)) {
                    self.bear(session, &placement, Claim::New, turn);
                }
            }
        }
    }

    /// A record whose group has no owner: the session was lost with the node that had it.
    fn note_lost<T: Table>(&mut self, session: &SessionId, placement: &Placement, turn: &mut Turn<'_, T>) {
        let Some(location) = placement.location.as_ref().filter(|_| placement.owner().is_none()) else { return };
        if self.locate.lost.len() >= LOST_REMEMBERED_MAX {
            self.locate.lost.clear();
        }
        if self.locate.lost.insert(session.clone(), location.epoch) != Some(location.epoch) {
            turn.note(Note::SessionLost(session.clone()));
        }
    }

    /// Answers all whom the last read can answer; goes on with those who came later.
    pub(super) fn conclude<T: Table>(
        &mut self,
        session: &SessionId,
        turn: &mut Turn<'_, T>,
        verdict: impl Fn(Purpose) -> Option<Verdict>,
    ) {
        self.conclude_some(session, turn, verdict);
    }

    /// The same for a verdict that leaves some of them waiting. True if it does: only then may the caller act on that read, for
    /// else the next one may be on its way.
    fn conclude_some<T: Table>(
        &mut self,
        session: &SessionId,
        turn: &mut Turn<'_, T>,
        verdict: impl Fn(Purpose) -> Option<Verdict>,
    ) -> bool {
        let Some(search) = self.locate.searches.get_mut(session) else { return false };
        let mut rest = Vec::new();
        for (purpose, ticket) in std::mem::take(&mut search.asked) {
            match verdict(purpose) {
                Some(verdict) => {
                    self.locate.waiting = self.locate.waiting.saturating_sub(1);
                    turn.effects.push(Effect::Answer { ticket, verdict });
                }
                None => rest.push((purpose, ticket)),
            }
        }
        if !rest.is_empty() {
            search.asked = rest;
            return true;
        } else if search.next.is_empty() {
            self.locate.searches.remove(session);
        } else {
            search.asked = std::mem::take(&mut search.next);
            self.read(session.clone(), turn);
        }
        false
    }

    /// Claims a session for those who wait for it, if any are left.
    pub(super) fn bear<T: Table>(&mut self, session: SessionId, placement: &Placement, claim: Claim, turn: &mut Turn<'_, T>) {
        if !self.is_wanted(&session, |purpose| claim != Claim::New || purpose == Purpose::Create) {
            return;
        }
        let others = self.others();
        if claim != Claim::Ours
            && !self.accepts()
            && let Some(other) = others.get(spread(&session) % others.len().max(1))
        {
            return self.conclude(&session, turn, |_| Some(Verdict::At(*other)));
        }
        // Whoever has given everything away or has asked to be removed must own nothing new: it would be lost with its groups. So
        // it is with the last member when it drains, while one that is not the last waits for somebody who takes what it has. A
        // record that is its own already is opened in any case: without that nobody could read or end it. Where sessions are at rest
        // a cordoned member is better than one that drains, and nobody is better than one that would put it to rest again.
        let drains = self.state == MemberState::Draining && claim != Claim::Ours;
        let alone = self.is_without_heirs() && self.alone_since_us.is_some_and(|since| since + VIEW_LATE_US <= turn.now.boot_us);
        let stays_at_rest = self.settings.rest.is_some() && self.cordoned().is_some();
        let last_leaves = drains && (alone || stays_at_rest);
        let may_own = self.me.role == Role::Owner && !self.left && !last_leaves && !self.outgoing.moves.is_drained();
        let Some((group, epoch)) = self.group_for(&session).filter(|_| may_own) else {
            // Nobody accepts: one that is only cordoned is better than an error for the client.
            let verdict = self.cordoned().map_or(Verdict::TryAgain(Reason::NoOwner), Verdict::At);
            return self.conclude(&session, turn, |_| Some(verdict));
        };
        let mut compare = vec![
            Compare::Location { session: session.clone(), is: placement.key() },
            Compare::Group { group, owner: self.me.incarnation, epoch },
        ];
        if !bugs::on(Bug::ClaimInAnyMode) {
            compare.push(Compare::Mode { generation: placement.mode.generation });
        }
        let place = Write::Place { session: session.clone(), group, epoch: NextEpoch::Fresh, last: None, depends: Vec::new() };
        self.transact(Pending::Birth { session, group }, Transaction { compare, write: vec![place] }, turn);
    }

    pub(super) fn birth_ended<T: Table>(
        &mut self,
        session: SessionId,
        group: GroupId,
        outcome: Option<Outcome>,
        turn: &mut Turn<'_, T>,
    ) {
        match outcome {
            Some(Outcome::Applied { epoch }) => {
                let location = Location { group, epoch, last: None, depends: Vec::new() };
                if self.settings.rest.is_some() {
                    return self.load(session, location, turn);
                }
                turn.note(Note::Born);
                self.open_empty(&session, location, turn);
                self.conclude(&session, turn, |_| Some(Verdict::Here));
            }
            // The placement is a read of its own, made after all who are asked came.
            Some(Outcome::Refused { found }) => self.located(session, Some(found), turn),
            None => self.conclude(&session, turn, |_| Some(Verdict::TryAgain(Reason::Directory))),
        }
    }

    fn open_empty<T: Table>(&mut self, session: &SessionId, location: Location, turn: &mut Turn<'_, T>) {
        let now_us = turn.now.boot_us;
        self.locate.expect_key(session.clone(), now_us);
        let opened = Session::new(version_before(location.epoch));
        turn.table.with(session, |slot| {
            slot.get_or_insert_with(|| Resident::new(opened, location, now_us));
        });
    }

    /// The session has no key left and its gate is `Ending`: remove its record, then answer.
    pub(super) fn end<T: Table>(&mut self, session: SessionId, ticket: Option<Ticket>, turn: &mut Turn<'_, T>) {
        if let Some(ending) = self.locate.endings.get_mut(&session) {
            ending.tickets.extend(ticket);
            return;
        }
        let ending = turn.table.with(&session, |slot| slot.as_ref().is_some_and(|r| r.gate == Gate::Ending));
        if !ending {
            turn.effects.extend(ticket.map(|ticket| Effect::Answer { ticket, verdict: Verdict::TryAgain(Reason::Taken) }));
            return;
        }
        self.cancel_move(&session, turn);
        self.locate.endings.insert(session.clone(), Ending { tickets: ticket.into_iter().collect(), retry_at_us: None });
        self.end_on(session, turn);
    }

    /// The next step of an end: what is at rest goes before the record does, so that nothing deleted comes back.
    pub(super) fn end_on<T: Table>(&mut self, session: SessionId, turn: &mut Turn<'_, T>) {
        if self.locate.endings.contains_key(&session) && self.write(&session, true, turn) == Progress::Clean {
            self.forget(session, turn);
        }
    }

    fn forget<T: Table>(&mut self, session: SessionId, turn: &mut Turn<'_, T>) {
        let key = turn.table.with(&session, |slot| slot.as_ref().map(|r| (r.location.group, r.location.epoch)));
        let Some((group, epoch)) = key else { return };
        let mut compare = vec![Compare::Location { session: session.clone(), is: Some((group, epoch)) }];
        if let Some((group, epoch)) = self.me.groups.iter().find(|(g, _)| *g == group) {
            compare.push(Compare::Group { group: *group, owner: self.me.incarnation, epoch: *epoch });
        }
        let write = vec![Write::Forget { session: session.clone() }];
        self.transact(Pending::End(session), Transaction { compare, write }, turn);
    }

    pub(super) fn end_ended<T: Table>(&mut self, session: SessionId, outcome: Option<Outcome>, turn: &mut Turn<'_, T>) {
        let verdict = match outcome {
            None => {
                // Sent again with the same comparison: if the first one happened, the record is gone and that tells.
                let retry = turn.now.boot_us + self.settings.retry_us;
                if let Some(ending) = self.locate.endings.get_mut(&session) {
                    ending.retry_at_us = Some(retry);
                }
                return;
            }
            Some(Outcome::Applied { .. }) => Verdict::Ended,
            Some(Outcome::Refused { found }) if found.location.is_none() => Verdict::Ended,
            Some(Outcome::Refused { .. }) => Verdict::TryAgain(Reason::Taken),
        };
        let depends = turn.table.with(&session, |slot| slot.take().map(|r| r.location.depends)).unwrap_or_default();
        // What ran before the end needs no writing any more: that it ended is certain.
        let of_writes = if verdict == Verdict::Ended { Verdict::Written } else { verdict };
        self.behind.forget(&session, of_writes, turn.effects);
        if verdict == Verdict::Ended {
            turn.note(Note::Ended);
            for handover in depends {
                self.confirm(handover, turn, Message::Confirm { handover });
            }
        }
        for ticket in self.locate.endings.remove(&session).map(|e| e.tickets).unwrap_or_default() {
            turn.effects.push(Effect::Answer { ticket, verdict });
        }
        turn.wake(&session);
    }

    /// Ends the sessions that opened without a key and have none yet (whoever created them has given up).
    fn end_empty<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let (now, leaving) = (turn.now.boot_us, self.state == MemberState::Draining);
        let due: Vec<SessionId> =
            self.locate.empty.iter().filter(|(_, at)| leaving || **at <= now).map(|(session, _)| session.clone()).collect();
        for session in due {
            self.locate.empty.remove(&session);
            let ends = turn.table.with(&session, |slot| match slot.as_mut() {
                Some(resident) if resident.gate == Gate::Open && resident.session.is_empty() => {
                    resident.gate = Gate::Ending;
                    true
                }
                _ => false,
            });
            if ends {
                self.end(session, None, turn);
            }
        }
    }

    pub(super) fn tick_locate<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        self.end_empty(turn);
        let now = turn.now.boot_us;
        let due: Vec<SessionId> = self
            .locate
            .endings
            .iter()
            .filter(|(_, e)| e.retry_at_us.is_some_and(|at| at <= now))
            .map(|(s, _)| s.clone())
            .collect();
        for session in due {
            if let Some(ending) = self.locate.endings.get_mut(&session) {
                ending.retry_at_us = None;
            }
            self.end_on(session, turn);
        }
    }
}

/// The versions of a session that opens under a claim are above this. Epochs are never reused, so those of a former life of its id
/// cannot come again, and `WATCH` sees another life.
pub(super) fn version_before(epoch: Epoch) -> Version {
    Version(epoch.0.saturating_mul(VERSIONS_PER_EPOCH))
}

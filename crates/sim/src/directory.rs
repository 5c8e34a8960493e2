//! A directory in memory: records and transactions exactly as `wayfarer_engine::directory` documents them.
//!
//! It never delays or loses anything: the network does. Each call is one instant, so it is linearizable by construction.
//! Called by the world when a request arrives; read by the invariants as the truth about who owns what.

use std::collections::BTreeMap;
use wayfarer_engine::directory::{
    Compare, GroupRecord, Location, MemberDraft, MemberRecord, MemberState, NextEpoch, Outcome, Placement, Registration,
    Transaction, View, Write,
};
use wayfarer_engine::ids::{Epoch, GroupId, Incarnation, SessionId};
use wayfarer_engine::mode::Mode;

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Model {
    counter: u64,
    view: View,
    locations: BTreeMap<SessionId, Location>,
}

impl Model {
    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Registers a new life of a name; `None` if a life of it may still go on.
    pub fn register(&mut self, draft: MemberDraft, groups: usize, is_dead: impl Fn(Incarnation) -> bool) -> Option<Registration> {
        let living = |m: &&MemberRecord| m.draft.name == draft.name && m.state != MemberState::Fenced;
        let earlier: Vec<Incarnation> = self.view.members.values().filter(living).map(|m| m.incarnation).collect();
        if earlier.iter().any(|who| !is_dead(*who)) {
            return None;
        }
        for who in earlier {
            self.fence(who);
        }
        let epoch = Epoch(self.next());
        let incarnation = Incarnation(epoch);
        let groups: Vec<(GroupId, Epoch)> = (0..groups).map(|_| (GroupId(self.next()), epoch)).collect();
        for (group, epoch) in &groups {
            self.view.groups.insert(*group, GroupRecord { group: *group, owner: Some(incarnation), epoch: *epoch });
        }
        let record = MemberRecord { incarnation, draft, state: MemberState::Accepting, renewals: 0, confirmed: 0 };
        self.view.members.insert(incarnation, record);
        Some(Registration { incarnation, groups })
    }

    /// Performs one transaction.
    pub fn transact(&mut self, transaction: &Transaction) -> Outcome {
        if !transaction.compare.iter().all(|c| self.holds(c)) {
            let session = transaction.compare.iter().find_map(|c| match c {
                Compare::Location { session, .. } => Some(session),
                _ => None,
            });
            return Outcome::Refused { found: session.map(|s| self.read(s)).unwrap_or_default() };
        }
        let fresh = transaction.write.iter().any(|w| matches!(w, Write::Place { epoch: NextEpoch::Fresh, .. }));
        let epoch = Epoch(if fresh { self.next() } else { self.counter });
        for write in &transaction.write {
            self.write(write, epoch);
        }
        Outcome::Applied { epoch }
    }

    /// Whether no living member takes sessions.
    pub fn nobody_accepts(&self) -> bool {
        self.view.accepting().next().is_none()
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Location { session, is } => self.locations.get(session).map(|l| (l.group, l.epoch)) == *is,
            Compare::Group { group, owner, epoch } => {
                self.view.groups.get(group).is_some_and(|g| g.owner == Some(*owner) && g.epoch == *epoch)
            }
            Compare::Alive { incarnation } => self.is_alive(*incarnation),
            Compare::StandsStill { incarnation, renewals } => {
                self.is_alive(*incarnation) && self.view.members.get(incarnation).is_some_and(|m| m.renewals == *renewals)
            }
            Compare::Mode { generation } => self.view.mode.generation == *generation,
            Compare::Confirmed { generation } => {
                let mut living = self.view.members.values().filter(|m| m.state != MemberState::Fenced);
                living.all(|member| member.confirmed == *generation)
            }
        }
    }

    fn write(&mut self, write: &Write, fresh: Epoch) {
        match write {
            Write::Place { session, group, epoch, last, depends } => {
                let epoch = match epoch {
                    NextEpoch::Fresh => fresh,
                    NextEpoch::Keep(epoch) => *epoch,
                };
                let location = Location { group: *group, epoch, last: *last, depends: depends.clone() };
                self.locations.insert(session.clone(), location);
            }
            Write::Forget { session } => {
                self.locations.remove(session);
            }
            Write::Renew { incarnation } => {
                if let Some(member) = self.view.members.get_mut(incarnation) {
                    member.renewals += 1;
                }
            }
            Write::State { incarnation, state } => {
                if let Some(member) = self.view.members.get_mut(incarnation) {
                    member.state = *state;
                }
            }
            Write::Fence { incarnation } => self.fence(*incarnation),
            Write::Leave { incarnation } => {
                self.lose_groups(*incarnation);
                self.view.members.remove(incarnation);
            }
            Write::Confirm { incarnation, generation } => {
                if let Some(member) = self.view.members.get_mut(incarnation) {
                    member.confirmed = *generation;
                }
            }
            Write::Disown { incarnation } => {
                for session in self.disowned(*incarnation) {
                    self.locations.remove(&session);
                }
            }
            Write::Mode { phase, note } => {
                self.view.mode = Mode { generation: self.view.mode.generation + 1, phase: *phase };
                self.view.mode_note.clone_from(note);
            }
        }
    }

    fn fence(&mut self, who: Incarnation) {
        self.lose_groups(who);
        if let Some(member) = self.view.members.get_mut(&who) {
            member.state = MemberState::Fenced;
        }
    }

    fn lose_groups(&mut self, who: Incarnation) {
        for group in self.view.groups.values_mut().filter(|g| g.owner == Some(who)) {
            group.owner = None;
        }
    }

    /// Whether the incarnation is registered and not fenced.
    pub fn is_alive(&self, who: Incarnation) -> bool {
        self.view.members.get(&who).is_some_and(|m| m.state != MemberState::Fenced)
    }

    /// The sessions in the groups of a member.
    pub fn disowned(&self, who: Incarnation) -> Vec<SessionId> {
        let owner = |location: &Location| self.view.groups.get(&location.group).and_then(|group| group.owner);
        self.locations.iter().filter(|(_, location)| owner(location) == Some(who)).map(|(id, _)| id.clone()).collect()
    }

    /// One linearizable read.
    pub fn read(&self, session: &SessionId) -> Placement {
        let location = self.locations.get(session).cloned();
        let group = location.as_ref().and_then(|l| self.view.groups.get(&l.group)).copied();
        Placement { location, group, mode: self.view.mode }
    }

    /// Members and groups.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// All records of sessions.
    pub fn locations(&self) -> &BTreeMap<SessionId, Location> {
        &self.locations
    }
}

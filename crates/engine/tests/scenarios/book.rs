//! The directory of the scenarios: records in memory, changed only when a script applies a transaction.
//!
//! It never delays or repeats anything. Called by `world`; scripts read it as the truth about who owns what.

use std::collections::BTreeMap;
use wayfarer_engine::directory::{
    Compare, GroupRecord, Location, MemberDraft, MemberRecord, MemberState, NextEpoch, Outcome, Placement, Registration,
    Transaction, View, Write,
};
use wayfarer_engine::ids::{Epoch, GroupId, Incarnation, SessionId};
use wayfarer_engine::mode::Mode;

/// See the head of this file.
#[derive(Default)]
pub struct Book {
    counter: u64,
    pub view: View,
    locations: BTreeMap<SessionId, Location>,
}

impl Book {
    pub fn register(&mut self, name: String) -> Registration {
        self.counter += 2;
        let (epoch, group) = (Epoch(self.counter - 1), GroupId(self.counter));
        let incarnation = Incarnation(epoch);
        self.view.groups.insert(group, GroupRecord { group, owner: Some(incarnation), epoch });
        let draft = MemberDraft { name, ..MemberDraft::default() };
        let record = MemberRecord { incarnation, draft, state: MemberState::Accepting, renewals: 0, confirmed: 0 };
        self.view.members.insert(incarnation, record);
        Registration { incarnation, groups: vec![(group, epoch)] }
    }

    pub fn read(&self, session: &SessionId) -> Placement {
        let location = self.locations.get(session).cloned();
        let group = location.as_ref().and_then(|l| self.view.groups.get(&l.group)).copied();
        Placement { location, group, mode: self.view.mode }
    }

    pub fn transact(&mut self, transaction: &Transaction) -> Outcome {
        if !transaction.compare.iter().all(|c| self.holds(c)) {
            let first = transaction.compare.iter().find_map(|c| match c {
                Compare::Location { session, .. } => Some(session),
                _ => None,
            });
            return Outcome::Refused { found: first.map(|s| self.read(s)).unwrap_or_default() };
        }
        self.counter += 1;
        let epoch = Epoch(self.counter);
        transaction.write.iter().for_each(|w| self.write(w, epoch));
        Outcome::Applied { epoch }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let alive = |who| self.view.members.get(who).filter(|m| m.state != MemberState::Fenced);
        match compare {
            Compare::Location { session, is } => self.locations.get(session).map(|l| (l.group, l.epoch)) == *is,
            Compare::Group { group, owner, epoch } => {
                self.view.groups.get(group).is_some_and(|g| g.owner == Some(*owner) && g.epoch == *epoch)
            }
            Compare::Alive { incarnation } => alive(incarnation).is_some(),
            Compare::StandsStill { incarnation, renewals } => alive(incarnation).is_some_and(|m| m.renewals == *renewals),
            Compare::Mode { generation } => self.view.mode.generation == *generation,
            Compare::Confirmed { generation } => {
                self.view.members.keys().filter_map(alive).all(|member| member.confirmed == *generation)
            }
        }
    }

    fn write(&mut self, write: &Write, fresh: Epoch) {
        match write {
            Write::Place { session, group, epoch, last, depends } => {
                let epoch = if let NextEpoch::Keep(epoch) = epoch { *epoch } else { fresh };
                let location = Location { group: *group, epoch, last: *last, depends: depends.clone() };
                self.locations.insert(session.clone(), location);
            }
            Write::Forget { session } => drop(self.locations.remove(session)),
            Write::Renew { incarnation } => self.view.members.get_mut(incarnation).unwrap().renewals += 1,
            Write::State { incarnation, state } => self.view.members.get_mut(incarnation).unwrap().state = *state,
            Write::Fence { incarnation } => {
                self.lose_groups(*incarnation);
                self.view.members.get_mut(incarnation).unwrap().state = MemberState::Fenced;
            }
            Write::Leave { incarnation } => {
                self.lose_groups(*incarnation);
                self.view.members.remove(incarnation);
            }
            Write::Confirm { incarnation, generation } => {
                self.view.members.get_mut(incarnation).unwrap().confirmed = *generation;
            }
            Write::Disown { incarnation } => {
                let groups = &self.view.groups;
                self.locations.retain(|_, l| groups.get(&l.group).and_then(|g| g.owner) != Some(*incarnation));
            }
            Write::Mode { phase, note } => {
                self.view.mode = Mode { generation: self.view.mode.generation + 1, phase: *phase };
                self.view.mode_note = note.clone();
            }
        }
    }

    fn lose_groups(&mut self, who: Incarnation) {
        self.view.groups.values_mut().filter(|g| g.owner == Some(who)).for_each(|g| g.owner = None);
    }
}

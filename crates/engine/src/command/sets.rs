//! Actions on sets: a member names a variable without a value.
//!
//! They never need a value, so nothing is fetched for them. What is stored is copied. Called by `execute`.
//!
//! Redis orders large sets by chance; here members come in the order in which they were added.
//! Invariant: a set without members does not exist.

use super::errors;
use super::events::Classes;
use super::execute::Run;
use crate::session::{Kind, Session};
use bytes::Bytes;
use std::collections::HashSet;

/// What is done with sets; their keys and members are in the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SetAction {
    Add,
    AreMembers,
    Combine(Combination),
    IsMember,
    Members,
    Move,
    Remove,
}

/// How several sets make one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Combination {
    Difference,
    Intersection,
    Union,
}

/// The members of the set under `key`; `None`: there is another kind of key.
fn members_of(session: &Session, key: &[u8], now: u64) -> Option<Vec<Bytes>> {
    match session.key(key, now) {
        None => Some(Vec::new()),
        Some(key) if key.kind == Kind::Set => Some(key.variables().map(|(name, _)| name.clone()).collect()),
        Some(_) => None,
    }
}

impl<'a> Run<'a> {
    pub(super) fn of_set(&mut self, action: SetAction) {
        match action {
            SetAction::Combine(combination) => return self.combine(combination),
            SetAction::Move => return self.move_member(),
            _ => {}
        }
        if self.of_kind(Kind::Set).is_none() {
            return;
        }
        let members: &'a [Bytes] = self.op.args().get(2..).unwrap_or_default();
        match action {
            SetAction::Add => {
                let added = members.iter().filter(|member| self.add_member(&self.target().key, member)).count();
                if added > 0 {
                    self.note(Classes::SET, "sadd", &self.target().key);
                }
                self.reply.count(added);
            }
            SetAction::Remove => {
                let key = &self.target().key;
                let removed = members.iter().filter(|m| self.session.remove_field(key, m, self.now)).count();
                if removed > 0 {
                    self.wrote = true;
                    self.note_removal(Classes::SET, "srem", key);
                }
                self.reply.count(removed);
            }
            SetAction::AreMembers => {
                self.reply.array(members.len());
                members.iter().for_each(|member| self.reply_membership(member));
            }
            SetAction::IsMember => self.reply_membership(self.arg(2)),
            SetAction::Members => {
                let members = members_of(self.session, &self.target().key, self.now).unwrap_or_default();
                self.session.count_reads(&self.target().key, self.now);
                self.reply_set(&members);
            }
            SetAction::Combine(_) | SetAction::Move => {}
        }
    }

    fn reply_membership(&mut self, member: &[u8]) {
        let is = self.key().is_some_and(|k| k.variable(member).is_some());
        self.reply.integer(i64::from(is));
    }

    fn reply_set(&mut self, members: &[Bytes]) {
        self.reply.set(members.len());
        members.iter().for_each(|member| self.reply.bulk(member));
    }

    /// Adds a member; true if it is new.
    fn add_member(&mut self, key: &[u8], member: &[u8]) -> bool {
        if self.session.key(key, self.now).is_some_and(|k| k.variable(member).is_some()) {
            return false;
        }
        self.wrote = true;
        self.session.write_member(key, Kind::Set, member, b"", self.now)
    }

    fn move_member(&mut self) {
        let (from, to, member) = (&self.target().key, &self.second_target().key, self.arg(3));
        let Some(source) = self.session.key(from, self.now) else { return self.reply.integer(0) };
        let kinds = [Some(source.kind), self.session.key(to, self.now).map(|k| k.kind)];
        if kinds.iter().flatten().any(|kind| *kind != Kind::Set) {
            return self.reply.error(errors::WRONG_TYPE);
        }
        let is = source.variable(member).is_some();
        if is && from != to {
            self.wrote |= self.session.remove_field(from, member, self.now);
            self.note_removal(Classes::SET, "srem", from);
            if self.add_member(to, member) {
                self.note(Classes::SET, "sadd", to);
            }
        }
        self.reply.integer(i64::from(is));
    }

    fn combine(&mut self, combination: Combination) {
        let mut sets = Vec::new();
        for target in self.op.targets() {
            match members_of(self.session, &target.key, self.now) {
                Some(members) => sets.push(members),
                None => return self.reply.error(errors::WRONG_TYPE),
            }
        }
        for target in self.op.targets() {
            self.session.count_reads(&target.key, self.now);
        }
        let Some((first, others)) = sets.split_first() else { return self.reply_set(&[]) };
        let result: Vec<Bytes> = match combination {
            Combination::Union => {
                let mut seen = HashSet::new();
                sets.iter().flatten().filter(|member| seen.insert(*member)).cloned().collect()
            }
            Combination::Intersection | Combination::Difference => {
                let others: Vec<HashSet<&Bytes>> = others.iter().map(|set| set.iter().collect()).collect();
                let kept = |member: &&Bytes| match combination {
                    Combination::Difference => !others.iter().any(|set| set.contains(*member)),
                    _ => others.iter().all(|set| set.contains(*member)),
                };
                first.iter().filter(kept).cloned().collect()
            }
        };
        self.reply_set(&result);
    }
}

//! What every session must contain at this instant: the sum of all that its true owner has executed.
//!
//! It never asks a node. The owner by the directory's records executes one operation at a time, so the order of execution is
//! the order that every answer must agree with. A session becomes empty by a deletion, or when its owner is declared dead.

use crate::operation::{FIELDS, Kind, WriteId, fields_of, value_of};
use std::collections::BTreeMap;
use wayfarer_engine::ids::{Digest, Epoch};

/// One session.
#[derive(Clone, Debug, Default)]
pub struct SessionTruth {
    /// By field: the write that gave the value, and the digest of that value.
    pub values: BTreeMap<usize, (WriteId, Digest)>,
    /// The last instant at which the session did not exist, when it exists now.
    absent_us: u64,
    /// The highest epoch of its records so far.
    pub epoch: Epoch,
}

impl SessionTruth {
    /// The write whose value a read must see.
    pub fn read(&self, field: usize) -> Option<WriteId> {
        self.values.get(&field).map(|(id, _)| *id)
    }

    /// Does what `kind` does at `now_us`.
    pub fn execute(&mut self, kind: Kind, now_us: u64) {
        match kind {
            // Two sessions are in it: see `give`.
            Kind::Read(_) | Kind::Rename { .. } => {}
            Kind::Write(field, id) | Kind::Update(field, id) => {
                if self.values.is_empty() {
                    self.absent_us = now_us;
                }
                self.values.insert(field, (id, Digest::of(&value_of(id, field))));
            }
            Kind::Delete => self.values.clear(),
            Kind::Drop(place, keys) => fields_of(place, keys).for_each(|field| {
                self.values.remove(&field);
            }),
        }
    }

    /// The key at a place, of so many, leaves it.
    pub fn give(&mut self, place: usize, keys: usize) -> Vec<(usize, (WriteId, Digest))> {
        fields_of(place, keys).filter_map(|field| Some((field, self.values.remove(&field)?))).collect()
    }

    /// What another session gave takes the place of that key.
    pub fn receive(&mut self, values: Vec<(usize, (WriteId, Digest))>, place: usize, keys: usize, now_us: u64) {
        if self.values.is_empty() {
            self.absent_us = now_us;
        }
        for field in fields_of(place, keys) {
            self.values.remove(&field);
        }
        self.values.extend(values);
    }

    /// The session is lost with its owner; false if there was nothing to lose.
    pub fn lose(&mut self) -> bool {
        let existed = !self.values.is_empty();
        self.values.clear();
        existed
    }

    /// It is what is at rest from now on; false if that is nothing new.
    pub fn replace(&mut self, there: &BTreeMap<usize, WriteId>, now_us: u64) -> bool {
        let values = there.iter().map(|(field, id)| (*field, (*id, Digest::of(&value_of(*id, *field))))).collect();
        let changed = self.values != values;
        if self.values.is_empty() && changed {
            self.absent_us = now_us;
        }
        self.values = values;
        changed
    }

    /// Whether there was an instant from `since_us` on at which it did not exist.
    pub fn was_absent(&self, since_us: u64) -> bool {
        self.values.is_empty() || self.absent_us >= since_us
    }

    /// Its variables by name of field, for messages.
    pub fn describe(&self) -> String {
        let all: Vec<String> = self.values.iter().map(|(field, (id, _))| format!("{}=w{id}", FIELDS[*field].0)).collect();
        if all.is_empty() { "nothing".into() } else { all.join(" ") }
    }
}

//! What a node knows of subscribers to keys: its own, those of other members, and which events the cluster tells.
//!
//! Plain state, without I/O and without locks. [`super::Bus`] keeps one.
//!
//! The classes of events (`CONFIG SET notify-keyspace-events`) are the same in the whole cluster: each change has a stamp above all
//! that its node has seen, and the highest stamp wins everywhere.
//! Invariant: nothing is wanted that nobody listens to.

use std::collections::{BTreeSet, HashMap};
use wayfarer_engine::command::events::Classes;
use wayfarer_engine::ids::Incarnation;

/// What a node says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Said {
    /// Whether it has subscribers to keys.
    pub listens: bool,
    /// The change of classes that it knows: a count, and who made it.
    pub stamp: (u64, u64),
    /// The classes since then.
    pub classes: Classes,
}

/// See the head of this file.
pub(super) struct Knowledge {
    by: u64,
    stamp: (u64, u64),
    classes: Classes,
    /// Clients of this node that listen to keys.
    listeners: usize,
    members: HashMap<Incarnation, bool>,
}

impl Knowledge {
    pub(super) fn new(classes: Classes, by: u64) -> Knowledge {
        Knowledge { by, stamp: (0, 0), classes, listeners: 0, members: HashMap::new() }
    }

    pub(super) fn classes(&self) -> Classes {
        self.classes
    }

    /// True if there is something new to say.
    pub(super) fn set_classes(&mut self, classes: Classes) -> bool {
        if self.classes == classes {
            return false;
        }
        self.stamp = (self.stamp.0.saturating_add(1), self.by);
        self.classes = classes;
        true
    }

    /// True if there is something new to say.
    pub(super) fn listeners_changed(&mut self, more: bool) -> bool {
        let before = self.listeners > 0;
        self.listeners = if more { self.listeners.saturating_add(1) } else { self.listeners.saturating_sub(1) };
        before != (self.listeners > 0)
    }

    pub(super) fn said(&self) -> Said {
        Said { listens: self.listeners > 0, stamp: self.stamp, classes: self.classes }
    }

    pub(super) fn heard(&mut self, from: Incarnation, said: Said) {
        self.members.insert(from, said.listens);
        if said.stamp > self.stamp {
            (self.stamp, self.classes) = (said.stamp, said.classes);
        }
    }

    pub(super) fn keep(&mut self, members: &BTreeSet<Incarnation>) {
        self.members.retain(|member, _| members.contains(member));
    }

    /// In order of their incarnations.
    pub(super) fn interested(&self) -> Vec<Incarnation> {
        let mut all: Vec<Incarnation> = self.members.iter().filter(|(_, listens)| **listens).map(|(member, _)| *member).collect();
        all.sort_unstable();
        all
    }

    /// The classes that the store is to note.
    pub(super) fn wanted(&self) -> Classes {
        let listens = self.listeners > 0 || self.members.values().any(|listens| *listens);
        if listens && self.classes.tells_something() { self.classes } else { Classes::NONE }
    }
}

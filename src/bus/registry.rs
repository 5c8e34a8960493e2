//! The channels and patterns that clients of this node have subscribed to.
//!
//! It never encodes a message and never waits for a subscriber. [`super::Subscriber`] enters and leaves; whoever publishes asks it.
//!
//! A client with a channel and two patterns that match it gets the message three times, as in Redis.
//! Invariant: a name without subscribers is not kept; subscribers of one name hear in the order in which they subscribed.

use super::mailbox::{Mailbox, Message};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use wayfarer_engine::command::glob;

/// What a subscription is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    /// One channel.
    Channel,
    /// All that match a pattern.
    Pattern,
}

/// Subscribers of one name, by their numbers.
type Subscribers = BTreeMap<u64, Arc<Mailbox>>;

#[derive(Default)]
struct Names {
    channels: HashMap<Bytes, Subscribers>,
    patterns: HashMap<Bytes, Subscribers>,
}

impl Names {
    fn of(&mut self, of: Of) -> &mut HashMap<Bytes, Subscribers> {
        match of {
            Of::Channel => &mut self.channels,
            Of::Pattern => &mut self.patterns,
        }
    }
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Registry {
    names: RwLock<Names>,
    last: AtomicU64,
}

impl Registry {
    /// A number for a new subscriber.
    pub(super) fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn enter(&self, of: Of, name: &Bytes, number: u64, mailbox: &Arc<Mailbox>) {
        let mut names = self.write();
        names.of(of).entry(name.clone()).or_default().insert(number, mailbox.clone());
    }

    pub(super) fn leave(&self, of: Of, name: &Bytes, number: u64) {
        let mut names = self.write();
        if let Some(subscribers) = names.of(of).get_mut(name) {
            subscribers.remove(&number);
            if subscribers.is_empty() {
                names.of(of).remove(name);
            }
        }
    }

    /// Gives a message to all who want it; how many got it.
    pub(super) fn publish(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let names = self.read();
        let mut count = 0;
        let mut give = |subscribers: &Subscribers, pattern: Option<&Bytes>| {
            for mailbox in subscribers.values() {
                mailbox.put(Message { pattern: pattern.cloned(), channel: channel.clone(), payload: payload.clone() });
            }
            count += subscribers.len();
        };
        if let Some(subscribers) = names.channels.get(channel) {
            give(subscribers, None);
        }
        for (pattern, subscribers) in &names.patterns {
            if glob::matches(pattern, channel) {
                give(subscribers, Some(pattern));
            }
        }
        count
    }

    /// The channels that have subscribers and match.
    pub(super) fn channels(&self, pattern: Option<&[u8]>) -> Vec<Bytes> {
        let names = self.read();
        names.channels.keys().filter(|name| pattern.is_none_or(|pattern| glob::matches(pattern, name))).cloned().collect()
    }

    /// How many have subscribed to a channel, patterns not counted.
    pub(super) fn count_of(&self, channel: &[u8]) -> usize {
        self.read().channels.get(channel).map_or(0, |subscribers| subscribers.len())
    }

    /// The patterns that somebody has subscribed to.
    pub(super) fn patterns(&self) -> Vec<Bytes> {
        self.read().patterns.keys().cloned().collect()
    }

    /// Nothing in here panics with the lock held.
    fn read(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Names> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }
}

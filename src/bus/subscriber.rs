//! One client that listens: what it has subscribed to, and what waits for it.
//!
//! It never encodes anything. The client's connection at the state face owns it; when it is dropped, nothing of it stays.
//!
//! Bounds: [`SUBSCRIPTIONS_MAX`] names; the bytes that wait.
//! Invariant: while one of its names may be about keys, the cluster knows that this node listens to keys.

use super::mailbox::{Mailbox, Message, Overflow};
use super::registry::Of;
use super::{Bus, concerns_keys};
use crate::telemetry::names;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Channels and patterns of one client.
pub const SUBSCRIPTIONS_MAX: usize = 65_536;

/// See the head of this file.
pub struct Subscriber {
    bus: Arc<Bus>,
    mailbox: Arc<Mailbox>,
    number: u64,
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
    /// Names that may be about keys.
    of_keys: usize,
    listens: bool,
}

impl Subscriber {
    /// Without a subscription. No more than `bytes_max` of messages wait for it.
    pub fn new(bus: Arc<Bus>, bytes_max: usize) -> Subscriber {
        let number = bus.registry.number();
        Subscriber {
            bus,
            mailbox: Arc::new(Mailbox::new(bytes_max)),
            number,
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            of_keys: 0,
            listens: false,
        }
    }

    fn names(&mut self, of: Of) -> &mut BTreeSet<Bytes> {
        match of {
            Of::Channel => &mut self.channels,
            Of::Pattern => &mut self.patterns,
        }
    }

    /// It is about to subscribe to names about keys: the members are told. `None`: they know already; else the number to wait for.
    pub fn listen(&mut self) -> Option<u64> {
        (!std::mem::replace(&mut self.listens, true)).then(|| self.bus.listeners_changed(true))
    }

    /// Subscribes. False: it has too many subscriptions.
    pub fn add(&mut self, of: Of, name: &Bytes) -> bool {
        let known = self.names(of).contains(name);
        if known || self.count() >= SUBSCRIPTIONS_MAX {
            return known;
        }
        // The buffer in which it was received must not live as long as this.
        let name = Bytes::copy_from_slice(name);
        if concerns_keys(of, &name) {
            self.listen();
            self.of_keys += 1;
        }
        self.bus.registry.enter(of, &name, self.number, &self.mailbox);
        metrics::gauge!(names::SUBSCRIPTIONS).increment(1.0);
        self.names(of).insert(name)
    }

    /// Ends a subscription, if there is one.
    pub fn remove(&mut self, of: Of, name: &Bytes) {
        if !self.names(of).remove(name) {
            return;
        }
        self.bus.registry.leave(of, name, self.number);
        metrics::gauge!(names::SUBSCRIPTIONS).decrement(1.0);
        if concerns_keys(of, name) {
            self.of_keys -= 1;
            if self.of_keys == 0 && std::mem::replace(&mut self.listens, false) {
                self.bus.listeners_changed(false);
            }
        }
    }

    /// Its channels or its patterns.
    pub fn all(&self, of: Of) -> Vec<Bytes> {
        let names = match of {
            Of::Channel => &self.channels,
            Of::Pattern => &self.patterns,
        };
        names.iter().cloned().collect()
    }

    /// How many subscriptions it has.
    pub fn count(&self) -> usize {
        self.channels.len().saturating_add(self.patterns.len())
    }

    /// Waits until something may be there to take.
    pub async fn ready(&self) {
        self.mailbox.ready().await;
    }

    /// Waits until more waits for it than may.
    pub async fn overflow(&self) {
        self.mailbox.overflow().await;
    }

    /// What waits for it.
    pub fn take(&self) -> Result<Vec<Message>, Overflow> {
        self.mailbox.take()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        for of in [Of::Channel, Of::Pattern] {
            for name in self.all(of) {
                self.remove(of, &name);
            }
        }
        if self.listens {
            self.bus.listeners_changed(false);
        }
    }
}

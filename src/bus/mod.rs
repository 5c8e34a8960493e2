//! Channels inside the cluster: who of this node has subscribed to what, what is told to them, and what the members know of one
//! another's subscribers.
//!
//! It never talks to another node or to the upstream: the composition root does, and asks and tells the [`Bus`]. The state face has
//! a [`Subscriber`] for each client that listens; the store hands over what happens to keys ([`Happened`]).
//!
//! | channel | who publishes |
//! |---|---|
//! | any, where there is no upstream | clients, at any member |
//! | `__keyspace@N__:key`, `__keyevent@N__:event` of session keys | the owner, for what happens to keys that it owns |
//!
//! | file | |
//! |---|---|
//! | `registry` | channels and patterns of this node |
//! | `subscriber`, `mailbox` | one client: what it listens to, what waits for it |
//! | `knowledge` | which events are wanted, and by which members |
//! | `question` | what members ask one another |
//! | `sieve`, `told` | which of the upstream's events of session keys are news |
//!
//! Delivery is at most once; what happens to one key is told in order.
//! Invariant: while nobody in the cluster listens to keys, an operation pays one relaxed load.

mod knowledge;
mod mailbox;
pub mod question;
mod registry;
mod sieve;
mod subscriber;
mod told;

pub use knowledge::Said;
pub use mailbox::{Message, Overflow};
pub use registry::Of;
pub use sieve::Sieve;
pub use subscriber::{SUBSCRIPTIONS_MAX, Subscriber};

use crate::driver::clock;
use crate::store::Happened;
use bytes::Bytes;
use knowledge::Knowledge;
use registry::Registry;
use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use told::Told;
use wayfarer_engine::command::compound::{database_of, in_database};
use wayfarer_engine::command::events::Classes;
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::wire::control::KeyEvent;
use wayfarer_settings::Numbering;

/// How long a subscriber waits until all members know that it listens.
const TOLD_PATIENCE: Duration = Duration::from_secs(1);
const BY_KEY: &[u8] = b"__keyspace@";
const BY_EVENT: &[u8] = b"__keyevent@";

/// See the head of this file.
pub struct Bus {
    registry: Registry,
    happened: Arc<Happened>,
    /// Events wait that were not told yet.
    ready: Arc<Notify>,
    knowledge: Mutex<Knowledge>,
    /// Counts what this node has to say of itself.
    says: watch::Sender<u64>,
    /// All members know what was said up to this one. `None`: there are no other members.
    told: watch::Sender<Option<u64>>,
    numbering: Numbering,
    sieve: OnceLock<Sieve>,
    expired: Mutex<Told>,
}

impl Bus {
    /// Nobody listens. `classes`: the events that are told until somebody says otherwise.
    pub fn new(classes: Classes, numbering: Numbering) -> Bus {
        let ready = Arc::new(Notify::new());
        let wakes = ready.clone();
        // Told apart from other nodes by chance: two that change the classes at the same moment must not think that they agree.
        let by = std::hash::RandomState::new().hash_one(std::process::id());
        Bus {
            registry: Registry::default(),
            happened: Arc::new(Happened::new(Box::new(move || wakes.notify_one()))),
            ready,
            knowledge: Mutex::new(Knowledge::new(classes, by)),
            says: watch::Sender::new(0),
            told: watch::Sender::new(None),
            numbering,
            sieve: OnceLock::new(),
            expired: Mutex::default(),
        }
    }

    /// Where the store puts what happens to keys.
    pub fn happened(&self) -> &Arc<Happened> {
        &self.happened
    }

    /// Sets who looks at what the upstream tells of session keys; the first one stays.
    pub fn set_sieve(&self, sieve: Sieve) {
        self.sieve.get_or_init(|| sieve);
    }

    /// Who looks at what the upstream tells of session keys; `None`: nobody need.
    pub fn sieve(&self) -> Option<&Sieve> {
        self.sieve.get()
    }

    /// The database of a number of the upstream's, as clients count; `None`: no client can select it.
    pub fn database(&self, number: u8) -> Option<u8> {
        (number != 0 || self.numbering.first == 0).then(|| self.numbering.canonical(number))
    }

    /// Which events are told.
    pub fn classes(&self) -> Classes {
        self.knowledge().classes()
    }

    /// Sets them for the whole cluster; the number of what this node says now.
    pub fn set_classes(&self, classes: Classes) -> u64 {
        let changed = {
            let mut knowledge = self.knowledge();
            let changed = knowledge.set_classes(classes);
            self.happened.set_wanted(knowledge.wanted());
            changed
        };
        self.say_if(changed)
    }

    /// One client more (or less) of this node listens to keys; the number of what this node says now.
    fn listeners_changed(&self, more: bool) -> u64 {
        let changed = {
            let mut knowledge = self.knowledge();
            let changed = knowledge.listeners_changed(more);
            self.happened.set_wanted(knowledge.wanted());
            changed
        };
        self.say_if(changed)
    }

    fn say_if(&self, changed: bool) -> u64 {
        if changed {
            self.says.send_modify(|number| *number = number.saturating_add(1));
        }
        *self.says.borrow()
    }

    /// What this node says of itself, and its number.
    pub fn said(&self) -> (u64, Said) {
        let number = *self.says.borrow();
        (number, self.knowledge().said())
    }

    /// Changes when this node has something to say.
    pub fn says(&self) -> watch::Receiver<u64> {
        self.says.subscribe()
    }

    /// All other members know what this node said with this number, or there are none.
    pub fn set_told(&self, number: Option<u64>) {
        self.told.send_if_modified(|told| std::mem::replace(told, number) != number);
    }

    /// Waits until all members know what this node said with this number, but not for one that does not answer.
    pub async fn until_told(&self, number: u64) {
        let mut told = self.told.subscribe();
        let heard = told.wait_for(|told| told.is_none_or(|told| told >= number));
        // A member that does not answer is told again later; until then it tells nothing to here.
        drop(tokio::time::timeout(TOLD_PATIENCE, heard).await);
    }

    /// Another member says this of itself.
    fn heard(&self, from: Incarnation, said: Said) {
        let mut knowledge = self.knowledge();
        knowledge.heard(from, said);
        self.happened.set_wanted(knowledge.wanted());
    }

    /// Forgets all members but these.
    pub fn keep(&self, members: &BTreeSet<Incarnation>) {
        let mut knowledge = self.knowledge();
        knowledge.keep(members);
        self.happened.set_wanted(knowledge.wanted());
    }

    /// The other members that have subscribers to keys.
    pub fn interested(&self) -> Vec<Incarnation> {
        self.knowledge().interested()
    }

    /// Waits until something has happened that was not told, and takes it, as clients see it.
    pub async fn news(&self) -> Vec<KeyEvent> {
        self.ready.notified().await;
        let events = self.happened.take().into_iter().map(|event| {
            let (database, key) = database_of(&event.key);
            let number = u8::try_from(self.numbering.at_upstream(database)).unwrap_or(database);
            KeyEvent { database: number, key, name: Bytes::from_static(event.name.as_bytes()) }
        });
        events.collect()
    }

    /// Tells the subscribers of this node what happened to keys.
    pub fn tell(&self, events: &[KeyEvent]) {
        let classes = self.classes();
        for KeyEvent { database, key, name } in events {
            if let Some(of) = self.database(*database) {
                let key = in_database(of, key);
                let mut expired = self.expired();
                if name.as_ref() == b"expired" { expired.note(key, clock::now().boot_us) } else { expired.forget(&key) }
            }
            if classes.has(Classes::BY_KEY) {
                self.publish(&[BY_KEY, database.to_string().as_bytes(), b"__:", key].concat().into(), name);
            }
            if classes.has(Classes::BY_EVENT) {
                self.publish(&[BY_EVENT, database.to_string().as_bytes(), b"__:", name].concat().into(), key);
            }
        }
    }

    /// Gives a message to the subscribers of this node; how many there were.
    pub fn publish(&self, channel: &Bytes, payload: &Bytes) -> usize {
        self.registry.publish(channel, payload)
    }

    /// Whether the owner of a key, by its name within its session, has just told of its expiry: the upstream's finding the same is no
    /// news.
    pub fn is_told(&self, key: &Bytes) -> bool {
        self.expired().has(key, clock::now().boot_us)
    }

    /// Nothing in here panics with the lock held.
    fn expired(&self) -> MutexGuard<'_, Told> {
        self.expired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knowledge(&self) -> MutexGuard<'_, Knowledge> {
        self.knowledge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether messages on this channel, or on one that matches this pattern, may be about keys.
pub fn concerns_keys(of: Of, name: &[u8]) -> bool {
    let meets = |prefix: &[u8]| match of {
        Of::Channel => name.starts_with(prefix),
        Of::Pattern => {
            let text = name.split(|byte| b"*?[\\".contains(byte)).next().unwrap_or_default();
            text.starts_with(prefix) || (prefix.starts_with(text) && text.len() < name.len())
        }
    };
    meets(BY_KEY) || meets(BY_EVENT)
}

/// What a message on a channel of key events is about: the number of the database and the key. `None`: it is no such channel.
pub fn key_of(channel: &Bytes, payload: &Bytes) -> Option<(u8, Bytes)> {
    let of = |prefix: &[u8]| {
        let rest = channel.strip_prefix(prefix)?;
        let end = rest.windows(3).position(|three| three == b"__:")?;
        let number = std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
        Some((number, rest.get(end.checked_add(3)?..)?))
    };
    match of(BY_KEY) {
        Some((number, key)) => Some((number, channel.slice_ref(key))),
        None => of(BY_EVENT).map(|(number, _)| (number, payload.clone())),
    }
}

#[cfg(test)]
mod tests;

//! What happened to keys here and was not told yet, in order: noted on the hot path, taken by whoever tells subscribers.
//!
//! It never tells anybody and never waits. [`super::Store`] calls it with a shard's lock held, so that the events of one key keep
//! their order; its own lock is always the inner one. While nobody wants events, the hot path pays one relaxed load.
//!
//! Invariant: *everything is bounded*: [`WAITING_MAX`] events wait; what comes on top is counted and lost.

use super::Store;
use bytes::Bytes;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wayfarer_engine::command::events::{Classes, Event, Events};
use wayfarer_engine::residence::Renamed;

/// Events that wait to be told.
const WAITING_MAX: usize = 65_536;

/// See the head of this file.
pub struct Happened {
    wanted: AtomicU16,
    waiting: Mutex<Vec<Event>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Happened {
    /// Nothing is wanted yet. `wake` is called when events wait that did not; it must not block.
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Happened {
        Happened { wanted: AtomicU16::new(0), waiting: Mutex::default(), wake }
    }

    /// The classes that somebody wants to hear of.
    pub fn wanted(&self) -> Classes {
        Classes::from_bits(self.wanted.load(Ordering::Relaxed))
    }

    /// Sets them.
    pub fn set_wanted(&self, wanted: Classes) {
        self.wanted.store(wanted.bits(), Ordering::Relaxed);
    }

    /// Adds events behind those that wait.
    pub fn add(&self, mut events: Vec<Event>) {
        let wakes = {
            let mut waiting = self.waiting();
            let room = WAITING_MAX.saturating_sub(waiting.len());
            if events.len() > room {
                metrics::counter!(crate::telemetry::names::EVENTS_DROPPED).increment((events.len() - room) as u64);
                events.truncate(room);
            }
            let was_empty = waiting.is_empty();
            waiting.append(&mut events);
            was_empty
        };
        if wakes {
            (self.wake)();
        }
    }

    /// Takes all that wait.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.waiting())
    }

    /// Nothing in here panics with the lock held.
    fn waiting(&self) -> MutexGuard<'_, Vec<Event>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// The same; what happens to keys goes there.
    pub fn with_happened(self, happened: Arc<Happened>) -> Store {
        Store { happened: Some(happened), ..self }
    }

    /// The events that somebody wants to hear of.
    pub(super) fn events(&self) -> Events {
        Events::of(self.happened.as_ref().map_or(Classes::NONE, |happened| happened.wanted()))
    }

    /// Something happened to keys here, in a life and at a time in which this node may say so. Called with the shard's lock held, so
    /// that what happens to one key is told in order.
    pub(super) fn tell(&self, events: Vec<Event>, life: u64, boot_us: u64) {
        if let Some(happened) = self.happened.as_ref().filter(|_| !events.is_empty())
            && self.may_answer(life, boot_us)
        {
            happened.add(events);
        }
    }

    /// A key of one session has become another's, and both gates are closed.
    pub(super) fn tell_renamed(&self, change: &Renamed, boot_us: u64) {
        let mut events = self.events();
        if change.over_expired {
            events.note(Classes::EXPIRED, "expired", &change.to);
        }
        events.note(Classes::GENERIC, "rename_from", &change.from);
        events.note(Classes::GENERIC, "rename_to", &change.to);
        self.tell(events.into_noted(), self.life(), boot_us);
    }

    /// The time of these keys of sessions here has come.
    pub fn tell_expired(&self, keys: Vec<Bytes>, life: u64, boot_us: u64) {
        let mut events = self.events();
        keys.iter().for_each(|key| events.note(Classes::EXPIRED, "expired", key));
        self.tell(events.into_noted(), life, boot_us);
    }
}

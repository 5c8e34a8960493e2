//! When which session is to be looked at: one entry a session, in order of time.
//!
//! It never looks at a session and reads no clock. [`super::Store`] calls it with a shard's lock held, and only when a time is
//! drawn nearer; this lock is always the inner one.
//!
//! Invariant: no more entries than sessions, and looking for what is due costs nothing for what is not.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use wayfarer_engine::ids::SessionId;

/// A time that never comes: such a session has no entry.
pub(super) const NEVER: u64 = u64::MAX;

/// See the head of this file.
#[derive(Default)]
pub(super) struct Schedule(Mutex<BTreeSet<(u64, SessionId)>>);

impl Schedule {
    /// Moves the entry of a session from one time to another, in milliseconds since 1970.
    pub(super) fn move_to(&self, id: &[u8], from_ms: u64, to_ms: u64) {
        let mut entries = self.entries();
        if from_ms != NEVER {
            entries.remove(&(from_ms, SessionId::copy_of(id)));
        }
        if to_ms != NEVER {
            entries.insert((to_ms, SessionId::copy_of(id)));
        }
    }

    /// Takes out up to `max` entries that are due, the earliest first.
    pub(super) fn take_due(&self, unix_ms: u64, max: usize) -> Vec<(u64, SessionId)> {
        let mut entries = self.entries();
        let mut due = Vec::new();
        while due.len() < max && entries.first().is_some_and(|(at_ms, _)| *at_ms <= unix_ms) {
            due.extend(entries.pop_first());
        }
        due
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.entries().clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries().len()
    }

    /// Nothing in here panics with the lock held.
    fn entries(&self) -> MutexGuard<'_, BTreeSet<(u64, SessionId)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

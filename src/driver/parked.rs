//! Where operations wait for a session's gate to open, in a fixed number of places.
//!
//! It knows nothing of sessions but a hash: a wake-up may concern another session of the same place, so whoever is woken looks
//! again. It never loses a wake-up: a waiter registers before it looks.

use std::hash::{BuildHasher, RandomState};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use wayfarer_engine::ids::SessionId;

/// Sessions share this many places: enough that a wake-up rarely concerns another one.
const PLACES: usize = 1024;

/// See the head of this file.
pub struct Parked {
    hasher: RandomState,
    places: Vec<Notify>,
}

impl Default for Parked {
    fn default() -> Parked {
        Parked { hasher: RandomState::new(), places: (0..PLACES).map(|_| Notify::new()).collect() }
    }
}

impl Parked {
    fn place(&self, session: &SessionId) -> Option<&Notify> {
        let at = usize::try_from(self.hasher.hash_one(session) % PLACES as u64).ok()?;
        self.places.get(at)
    }

    /// A future of the next wake-up, registered as soon as it is enabled or polled.
    pub fn wait(&self, session: &SessionId) -> Option<Notified<'_>> {
        self.place(session).map(Notify::notified)
    }

    /// Wakes whoever waits for this session.
    pub fn wake(&self, session: &SessionId) {
        if let Some(place) = self.place(session) {
            place.notify_waiters();
        }
    }

    /// Wakes everybody.
    pub fn wake_all(&self) {
        self.places.iter().for_each(Notify::notify_waiters);
    }
}

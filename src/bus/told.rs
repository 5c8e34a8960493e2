//! The keys whose expiry their owners have told lately: when the upstream finds the same, it is no news.
//!
//! It never looks at the upstream. [`super::Bus::tell`] notes, [`super::Bus::is_told`] asks for events of sessions that nobody owns
//! (any more).
//!
//! An owner leaves a copy that expires by itself to the upstream, which may notice after the session has ended.
//! Bounds: [`KEYS_MAX`] keys, [`KEPT_US`]; what is forgotten may be told twice.
//! Invariant: what is told of a key later takes its note away: what follows is of another life of it.

use bytes::Bytes;
use std::collections::{HashMap, VecDeque};

/// Keys that are remembered.
const KEYS_MAX: usize = 65_536;
/// How long, in microseconds: longer than a Redis usually needs to find what has expired.
const KEPT_US: u64 = 60_000_000;

/// See the head of this file.
#[derive(Default)]
pub(super) struct Told {
    at_us: HashMap<Bytes, u64>,
    order: VecDeque<(u64, Bytes)>,
}

impl Told {
    /// The expiry of a key, by its name within its session, was told.
    pub(super) fn note(&mut self, key: Bytes, now_us: u64) {
        self.forget_old(now_us);
        self.at_us.insert(key.clone(), now_us);
        self.order.push_back((now_us, key));
    }

    /// Something else was told of it since.
    pub(super) fn forget(&mut self, key: &Bytes) {
        self.at_us.remove(key);
    }

    /// Whether it was, and nothing else since.
    pub(super) fn has(&mut self, key: &Bytes, now_us: u64) -> bool {
        self.forget_old(now_us);
        self.at_us.contains_key(key)
    }

    fn forget_old(&mut self, now_us: u64) {
        while let Some((at_us, key)) = self.order.front() {
            if self.order.len() < KEYS_MAX && now_us.saturating_sub(*at_us) < KEPT_US {
                return;
            }
            if self.at_us.get(key) == Some(at_us) {
                self.at_us.remove(key);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_stands_until_something_else_is_told_or_for_a_time() {
        let (mut told, key) = (Told::default(), Bytes::from_static(b"k"));
        told.note(key.clone(), 1);
        assert!(told.has(&key, 2) && told.has(&key, 3));
        told.forget(&key);
        assert!(!told.has(&key, 4));
        told.note(key.clone(), 10);
        told.note(key.clone(), 20);
        assert!(told.has(&key, KEPT_US + 15), "the later note counts");
        told.note(key.clone(), 30);
        assert!(!told.has(&key, 30 + KEPT_US));
        for n in 0..2 * KEYS_MAX {
            told.note(Bytes::from(n.to_string()), 100);
        }
        assert!(told.at_us.len() <= KEYS_MAX && told.order.len() <= KEYS_MAX);
    }
}

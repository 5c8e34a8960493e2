//! Whose read a write rests on: which values requests have read, and which requests are with the instance.
//!
//! It never sees a command and never merges: [`super::merging`] asks it what a write rests on, the HTTP face's side tells it when
//! requests begin and end. One for all listeners of a node.
//!
//! A session whose requests the HTTP face sees:
//!
//! | requests with the instance | what is read and written of the session |
//! |---|---|
//! | none | belongs to nobody that is known |
//! | one, and no other since it began | is that request's |
//! | several, or several a moment ago | may be anybody's, until all have ended |
//! | one that ended without its answer | may be anybody's for [`ABANDONED_US`]: the instance may still work on it |
//!
//! Bounds: [`VALUE_BYTES_MAX`] a value, [`KEYS_MAX`] keys a request, [`ALL_BYTES_MAX`] in all; [`ABANDONED_MAX`] sessions with an
//! abandoned request, beyond which nothing is known of any session for a while.
//! Invariant: a value that is given out was read by the one who may write now.

use crate::telemetry::names;
use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use wayfarer_engine::ids::SessionId;
use wayfarer_settings::MergeBy;

/// A longer value is not remembered: a write that rests on it replaces all.
const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Keys of one request, or one connection, whose values are remembered.
const KEYS_MAX: usize = 8;
/// Bytes of all values that are remembered.
const ALL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long the instance may work on a request whose client has gone.
const ABANDONED_US: u64 = 300_000_000;
/// Sessions that are remembered for an abandoned request alone.
const ABANDONED_MAX: usize = 100_000;

/// A value that somebody has read, counted for as long as it is remembered.
struct Kept {
    value: Bytes,
    all: Arc<AtomicUsize>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.value.len(), Ordering::AcqRel);
    }
}

/// The values that one request, or one connection, has read, by key.
#[derive(Default)]
pub(super) struct Reads(Vec<(Bytes, Kept)>);

impl Reads {
    pub(super) fn of(&self, key: &Bytes) -> Option<Bytes> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, kept)| kept.value.clone())
    }

    pub(super) fn forget(&mut self, key: &Bytes) {
        self.0.retain(|(known, _)| known != key);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The requests of one session.
#[derive(Default)]
struct Flight {
    /// Distinguishes it from earlier ones of its session.
    number: u64,
    requests: usize,
    mixed: bool,
    /// An abandoned request may go on until then: microseconds of CLOCK_BOOTTIME.
    abandoned_until_us: u64,
    reads: Reads,
}

/// See the head of this file.
pub struct Flights {
    by: MergeBy,
    sessions: DashMap<SessionId, Flight>,
    next: AtomicU64,
    abandoned: AtomicUsize,
    /// Nothing is known before this time.
    blind_until_us: AtomicU64,
    all: Arc<AtomicUsize>,
}

impl Flights {
    /// Nothing is under way.
    pub fn new(by: MergeBy) -> Flights {
        Flights {
            by,
            sessions: DashMap::new(),
            next: AtomicU64::new(1),
            abandoned: AtomicUsize::new(0),
            blind_until_us: AtomicU64::new(0),
            all: Arc::default(),
        }
    }

    /// What tells whose read it was.
    pub fn by(&self) -> MergeBy {
        self.by
    }

    /// A request of a session goes to the instance.
    pub fn begins(&self, session: &[u8], now_us: u64) {
        if self.by == MergeBy::Connection {
            return;
        }
        let mut flight = self.sessions.entry(SessionId::copy_of(session)).or_default();
        if flight.requests == 0 {
            if flight.abandoned_until_us > 0 {
                self.abandoned.fetch_sub(1, Ordering::AcqRel);
            }
            flight.mixed = now_us < flight.abandoned_until_us;
            flight.number = self.next.fetch_add(1, Ordering::Relaxed);
        } else {
            flight.mixed = true;
        }
        flight.requests += 1;
        flight.reads.clear();
    }

    /// It has ended; `answered`: with an answer of the instance, so that the instance does nothing for it any more.
    pub fn ends(&self, session: &[u8], answered: bool, now_us: u64) {
        let Entry::Occupied(mut entry) = self.sessions.entry(SessionId::copy_of(session)) else { return };
        let flight = entry.get_mut();
        flight.requests = flight.requests.saturating_sub(1);
        if !answered {
            flight.abandoned_until_us = now_us.saturating_add(ABANDONED_US);
            flight.mixed = true;
        }
        if flight.requests > 0 {
            return;
        }
        flight.reads.clear();
        if now_us >= flight.abandoned_until_us {
            entry.remove();
        } else if self.abandoned.fetch_add(1, Ordering::AcqRel) >= ABANDONED_MAX {
            self.abandoned.fetch_sub(1, Ordering::AcqRel);
            self.blind_until_us.fetch_max(flight.abandoned_until_us, Ordering::AcqRel);
            metrics::counter!(names::BOUNDS_HIT, "bound" => "merge_abandoned").increment(1);
            entry.remove();
        }
    }

    /// Forgets sessions whose abandoned requests have ended by now. Looks at all: to be called now and then.
    pub fn forget_abandoned(&self, now_us: u64) {
        self.sessions.retain(|_, flight| {
            let over = flight.requests == 0 && now_us >= flight.abandoned_until_us;
            if over {
                self.abandoned.fetch_sub(1, Ordering::AcqRel);
            }
            !over
        });
    }

    /// The number of the one request of a session that is with the instance; `None`: there is none, or not one alone.
    pub(super) fn alone(&self, session: &[u8], now_us: u64) -> Option<u64> {
        if now_us < self.blind_until_us.load(Ordering::Acquire) {
            return None;
        }
        self.sessions.get(session).filter(|flight| flight.requests == 1 && !flight.mixed).map(|flight| flight.number)
    }

    /// Does something to what a request has read, if it is still alone.
    pub(super) fn with<R: Default>(&self, session: &[u8], number: u64, f: impl FnOnce(&mut Reads) -> R) -> R {
        match self.sessions.get_mut(session) {
            Some(mut flight) if flight.number == number && !flight.mixed => f(&mut flight.reads),
            _ => R::default(),
        }
    }

    /// What was read of a session is worth nothing any more.
    pub(super) fn forget(&self, session: &[u8]) {
        if let Some(mut flight) = self.sessions.get_mut(session) {
            flight.reads.clear();
        }
    }

    /// Remembers what was read under a key, in place of what was read before.
    pub(super) fn keep(&self, reads: &mut Reads, key: &Bytes, value: &[u8]) {
        reads.forget(key);
        let before = self.all.fetch_add(value.len(), Ordering::AcqRel);
        let kept = Kept { value: Bytes::copy_from_slice(value), all: self.all.clone() };
        if value.len() > VALUE_BYTES_MAX || reads.0.len() >= KEYS_MAX || before.saturating_add(value.len()) > ALL_BYTES_MAX {
            metrics::counter!(names::BOUNDS_HIT, "bound" => "merge").increment(1);
            return;
        }
        reads.0.push((Bytes::copy_from_slice(key), kept));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn flights() -> Flights {
        Flights::new(MergeBy::Request)
    }

    #[test]
    fn what_one_request_alone_reads_is_its_until_another_comes() {
        let flights = flights();
        assert_eq!(flights.alone(b"s", 0), None, "nobody is there");
        flights.begins(b"s", 0);
        let number = flights.alone(b"s", 0).unwrap();
        let key = Bytes::from_static(b"k");
        flights.with(b"s", number, |reads| flights.keep(reads, &key, b"value"));
        assert_eq!(flights.with(b"s", number, |reads| reads.of(&key)).as_deref(), Some(&b"value"[..]));
        flights.begins(b"s", 0);
        assert_eq!((flights.alone(b"s", 0), flights.with(b"s", number, |reads| reads.of(&key))), (None, None));
        flights.ends(b"s", true, 0);
        assert_eq!(flights.alone(b"s", 0), None, "whose write comes now is not known");
        flights.ends(b"s", true, 0);
        flights.begins(b"s", 0);
        let later = flights.alone(b"s", 0).unwrap();
        assert_eq!(flights.with(b"s", later, |reads| reads.of(&key)), None);
        flights.with(b"s", number, |reads| flights.keep(reads, &key, b"late"));
        assert_eq!(flights.with(b"s", later, |reads| reads.of(&key)), None, "a reply of the former request");
        assert_eq!(flights.all.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_request_that_was_left_may_go_on_for_a_while() {
        let flights = flights();
        flights.begins(b"s", 0);
        flights.ends(b"s", false, 0);
        flights.begins(b"s", ABANDONED_US - 1);
        assert_eq!(flights.alone(b"s", ABANDONED_US - 1), None);
        flights.ends(b"s", true, ABANDONED_US - 1);
        flights.forget_abandoned(ABANDONED_US);
        assert_eq!((flights.sessions.len(), flights.abandoned.load(Ordering::SeqCst)), (0, 0));
        flights.begins(b"s", ABANDONED_US);
        assert!(flights.alone(b"s", ABANDONED_US).is_some());
        flights.ends(b"s", true, ABANDONED_US);
        assert!(flights.sessions.is_empty());
    }

    #[test]
    fn too_many_that_were_left_make_all_unknown() {
        let flights = flights();
        for session in 0..=ABANDONED_MAX {
            flights.begins(&session.to_be_bytes(), 0);
            flights.ends(&session.to_be_bytes(), false, 0);
        }
        assert_eq!(flights.sessions.len(), ABANDONED_MAX);
        flights.begins(b"s", 1);
        assert_eq!(flights.alone(b"s", 1), None);
        assert!(flights.alone(b"s", ABANDONED_US).is_some());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let flights = flights();
        let mut reads = Reads::default();
        flights.keep(&mut reads, &Bytes::from_static(b"long"), &vec![0; VALUE_BYTES_MAX + 1]);
        assert_eq!((reads.0.len(), flights.all.load(Ordering::SeqCst)), (0, 0));
        for key in 0..=KEYS_MAX {
            flights.keep(&mut reads, &Bytes::from(key.to_string()), b"value");
        }
        assert_eq!((reads.0.len(), flights.all.load(Ordering::SeqCst)), (KEYS_MAX, KEYS_MAX * 5));
        reads.clear();
        let mut many: Vec<Reads> = Vec::new();
        for _ in 0..=ALL_BYTES_MAX / VALUE_BYTES_MAX {
            let mut reads = Reads::default();
            flights.keep(&mut reads, &Bytes::from_static(b"k"), &vec![0; VALUE_BYTES_MAX]);
            many.push(reads);
        }
        assert_eq!(flights.all.load(Ordering::SeqCst), ALL_BYTES_MAX);
        assert!(many.last().unwrap().0.is_empty());
    }
}

//! How much memory the sessions here use, about, and whether that is more than they may.
//!
//! It never lets a session go: who is asked to make room decides which ([`Store::least_used`]). [`super::Store`] calls it with a
//! shard's lock held, after each change.
//!
//! ```text
//! memory = sum over sessions of (what the session costs + sum over keys of (name + what it costs + what its variables take))
//! ```
//! A small session is counted anew after each write. A large one is counted anew when an eighth as many writes have come as it has
//! variables, and by the bytes of the commands in between, so that a write costs the same however large its session is.
//!
//! Invariant: the sum is that of the weights of the sessions that are here.

use super::{Held, Store};
use std::sync::atomic::{AtomicU64, Ordering};
use wayfarer_engine::command::{self, Op};
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::residence::Gate;
use wayfarer_engine::session::Session;

/// A session of up to so many variables is counted anew at once.
const EXACT_UP_TO: usize = 64;
/// One of more, after this part of them was written.
const ANEW_AFTER: usize = 8;

/// What one session counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Weight {
    bytes: u64,
    /// Since it was counted anew.
    writes: u32,
}

/// See the head of this file.
pub(super) struct Memory {
    bytes: AtomicU64,
    bytes_max: u64,
}

impl Memory {
    pub(super) fn new(bytes_max: u64) -> Memory {
        Memory { bytes: AtomicU64::new(0), bytes_max }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    /// A session has changed, by commands of so many bytes.
    pub(super) fn weigh(&self, weight: &mut Weight, session: &Session, added: u64) {
        let keys = session.keys();
        let variables = keys.iter().take(EXACT_UP_TO).map(|key| key.len()).sum::<usize>().max(keys.len());
        let before = weight.bytes;
        weight.writes = weight.writes.saturating_add(1);
        if variables <= EXACT_UP_TO || weight.writes as usize >= variables / ANEW_AFTER {
            *weight = Weight { bytes: session.memory_bytes(), writes: 0 };
        } else {
            weight.bytes = weight.bytes.saturating_add(added);
        }
        self.moved(before, weight.bytes);
    }

    /// A session has gone.
    pub(super) fn forget(&self, weight: Weight) {
        self.moved(weight.bytes, 0);
    }

    fn moved(&self, before: u64, after: u64) {
        if after >= before {
            self.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            // Never below zero: each session's bytes were added before they are taken off.
            self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    pub(super) fn clear(&self) {
        self.bytes.store(0, Ordering::Relaxed);
    }
}

impl Store {
    /// The same; all sessions together use about so much memory at most.
    pub fn with_memory_max(self, bytes_max: u64) -> Store {
        Store { memory: Some(Memory::new(bytes_max)), ..self }
    }

    /// The bounds of an operation now.
    pub(super) fn limits(&self, op: &Op) -> command::Limits {
        let full = op.is_write() && self.is_full();
        if full && op.grows() {
            metrics::counter!(crate::telemetry::names::MEMORY_REFUSED).increment(1);
        }
        command::Limits { value_bytes_max: self.value_bytes_max, full }
    }

    /// Whether what would make sessions larger is refused now.
    pub fn is_full(&self) -> bool {
        self.memory.as_ref().is_some_and(Memory::is_full)
    }

    /// Bytes of memory that sessions use, about, and may use; `None`: they may use all.
    pub fn memory(&self) -> Option<(u64, u64)> {
        self.memory.as_ref().map(|memory| (memory.bytes.load(Ordering::Relaxed), memory.bytes_max))
    }

    /// The sessions that were not used for longest, and not since `before_us`, and that use `bytes` of memory together: to let go
    /// of. Only such as can go to rest.
    pub fn least_used(&self, bytes: u64, before_us: u64) -> Vec<SessionId> {
        let goes = |held: &Held| {
            let resident = &held.resident;
            resident.gate == Gate::Open && resident.rest.is_some() && resident.used_us <= before_us
        };
        let all = self.residents.iter().filter(|held| goes(held));
        let mut all: Vec<_> =
            all.map(|held| (held.resident.used_us, held.weight.bytes, SessionId(held.key().to_bytes()))).collect();
        all.sort_unstable();
        let mut left = bytes;
        let enough = all.into_iter().take_while(|(_, size, _)| {
            let goes = left > 0;
            left = left.saturating_sub(*size);
            goes
        });
        enough.map(|(.., id)| id).collect()
    }
}

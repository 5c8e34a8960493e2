//! What the upstream lacks of the sessions here: noted on the hot path, taken by the engine.
//!
//! It never talks to the upstream and never waits. [`super::Store`] calls it with a shard's lock held; its own lock is always the
//! inner one, and is taken only when a session becomes unwritten, or more urgently so.
//!
//! Invariant: *everything is bounded*: at most one entry a session and impact, and bytes up to `bytes_max`; beyond it writes are
//! refused before they run.

use super::Store;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wayfarer_engine::command::Op;
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::plan::{Impact, Policy};
use wayfarer_engine::residence::Gate;
use wayfarer_engine::residence::Resident;
use wayfarer_engine::rest::Since;
use wayfarer_engine::rest::copy::Before;
use wayfarer_engine::session::Key;

/// See the head of this file.
pub(super) struct Unwritten {
    policy: Arc<Policy>,
    /// Whether policy calls anything `critical`.
    has_critical: bool,
    bytes: AtomicU64,
    bytes_max: u64,
    sessions: Mutex<Vec<SessionId>>,
}

impl Unwritten {
    pub(super) fn new(policy: Arc<Policy>, bytes_max: u64) -> Unwritten {
        let all = policy.rules.iter().map(|rule| rule.treatment.impact).chain([policy.default.impact]);
        let has_critical = all.into_iter().any(|impact| impact == Impact::Critical);
        Unwritten { policy, has_critical, bytes: AtomicU64::new(0), bytes_max, sessions: Mutex::default() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes() >= self.bytes_max
    }

    /// Accounts for a change of what one session lacks.
    pub(super) fn moved(&self, before: u64, after: u64) {
        if after >= before {
            self.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            // Never below zero: each session's bytes were added before they are taken off.
            self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// What an operation's keys are like before it runs.
    pub(super) fn before(resident: &Resident, op: &Op) -> Before {
        let compound = op.is_script() || op.commands().len() > 1;
        Before::of(&resident.session, op.targets().iter().map(|target| &target.key), compound)
    }

    /// An operation has changed something. True if it must be in the upstream before it is acknowledged.
    pub(super) fn changed(&self, id: &[u8], resident: &mut Resident, before: Before, op: &Op, now_us: u64) -> bool {
        let Some(rest) = &mut resident.rest else { return false };
        let keys = op.targets().iter().map(|target| &target.key);
        let Some(impact) = rest.changed(&resident.session, before, keys, &self.policy, now_us) else { return false };
        let bytes = op.size_bytes() as u64;
        rest.weigh(bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if rest.tell(impact) {
            self.sessions().push(SessionId::copy_of(id));
        }
        impact == Impact::Critical
    }

    /// Whether a write might change a variable of impact `critical`: more often yes than it is so. The caller who cannot wait for
    /// the upstream leaves such a write to one who can.
    pub(super) fn may_be_critical(&self, resident: &Resident, op: &Op) -> bool {
        if !self.has_critical {
            return false;
        }
        if self.policy.default.impact == Impact::Critical || op.targets().iter().any(|t| t.layout.is_divided()) {
            return true;
        }
        let is_critical = |name: &[u8]| self.policy.of(name).impact == Impact::Critical;
        let names = op.args().iter().skip(1).chain(op.targets().iter().map(|t| &t.label));
        if names.into_iter().any(|name| is_critical(name)) {
            return true;
        }
        // A change of some fields, or of an expiry that does not end the key, leaves the others alone.
        let name = op.name();
        let only_some = name.starts_with('h') || (name.contains("expire") && !name.contains("at") && !ends_at_once(op));
        let holds_critical = |key: &Key| key.variables().any(|(n, _)| self.policy.of_variable(key, n).impact == Impact::Critical);
        let of_op = |key: &&Key| op.targets().iter().any(|t| t.key == key.name);
        !only_some && resident.session.keys().iter().filter(of_op).any(holds_critical)
    }

    /// The sessions that became unwritten since the last call.
    pub(super) fn take(&self) -> Vec<SessionId> {
        std::mem::take(&mut *self.sessions())
    }

    pub(super) fn clear(&self) {
        self.sessions().clear();
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// Nothing in here panics with the lock held.
    fn sessions(&self) -> MutexGuard<'_, Vec<SessionId>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the amount of an `EXPIRE` is none or in the past.
fn ends_at_once(op: &Op) -> bool {
    op.args().get(2).is_none_or(|amount| amount.starts_with(b"-") || amount.iter().all(|b| *b == b'0'))
}

/// Bytes of commands whose effect the upstream lacks.
pub(super) fn bytes_of(resident: &Resident) -> u64 {
    resident.rest.as_ref().map_or(0, |rest| rest.unwritten_bytes())
}

impl Store {
    /// Since when the upstream lacks something, by impact: the oldest of all sessions here.
    pub fn unwritten_since(&self) -> Since {
        let mut since = Since::default();
        for held in &self.residents {
            since.merge(held.resident.rest.as_ref().map(|rest| rest.since()).unwrap_or_default());
        }
        since
    }

    /// Bytes of commands whose effect the upstream lacks, about.
    pub fn unwritten_bytes(&self) -> u64 {
        self.unwritten.as_ref().map_or(0, Unwritten::bytes)
    }

    /// Up to `max` sessions that nobody has used since `boot_us` and that could go to rest.
    pub fn unused_since(&self, boot_us: u64, max: usize) -> Vec<SessionId> {
        let unused = |r: &Resident| r.used_us <= boot_us && r.gate == Gate::Open && r.rest.is_some();
        self.residents
            .iter()
            .filter(|held| unused(&held.resident))
            .take(max)
            .map(|held| SessionId(held.key().to_bytes()))
            .collect()
    }
}

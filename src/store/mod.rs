//! The concurrent table of the sessions that this node owns, and the hot path through it.
//!
//! It never awaits, never decides an ownership, never asks the directory. The state face and the operations execute on it; the
//! driver lends it to the engine as its [`Table`]. One shard's lock is held while one operation runs, and no other.
//!
//! Invariants: *one owner* (only an open gate answers); *no lease, no answer*: the lease is checked after the access to state and
//! before the reply is queued. A reply that was made without a lease is thrown away, and its operator is told to try again.

use bytes::BytesMut;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use wayfarer_engine::command::{self, Executed, Op};
use wayfarer_engine::ids::{Incarnation, Now, SessionId};
use wayfarer_engine::residence::{AdoptionRule, Gate, Resident, Table};
use wayfarer_engine::session::{Class, Content, Missing, VariableId};
use wayfarer_engine::wire::resp::Protocol;

/// One operation, as it came.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// On this session.
    pub session: &'a [u8],
    /// The command.
    pub op: &'a Op,
    /// What its client speaks.
    pub protocol: Protocol,
    /// The member at which the client's operation arrived, if it was forwarded.
    pub from: Option<Incarnation>,
    /// Whether the caller can wait for the end of the session. If not, an operation that would remove the last key does nothing
    /// and finds the session [`Tried::NotOpen`].
    pub may_end: bool,
}

/// How an attempt to execute ended.
#[derive(Debug)]
pub enum Tried {
    /// The reply is appended. With a member: that one should adopt the session.
    Done(Option<Incarnation>),
    /// The reply is appended but must wait: the session has ended, its gate is `Ending`.
    Ended,
    /// Values are needed that are not here; nothing has changed.
    Missing(Missing),
    /// This node may not answer now; nothing has changed.
    NoLease,
    /// The lease ended while the operation ran. It has run, and must not run again; nobody may be told how it ended.
    Unanswered,
    /// No session of this id is open here; nothing has changed.
    NotOpen,
}

/// See the head of this file.
pub struct Store {
    residents: DashMap<SessionId, Resident>,
    /// The table's size, so that [`Table::count`] need not visit the shards.
    count: AtomicUsize,
    lease_until_us: AtomicU64,
    rule: AdoptionRule,
}

impl Store {
    /// An empty store of a node that may not answer yet.
    pub fn new(rule: AdoptionRule) -> Store {
        Store { residents: DashMap::new(), count: AtomicUsize::new(0), lease_until_us: AtomicU64::new(0), rule }
    }

    /// Until when this node may answer, in microseconds of CLOCK_BOOTTIME.
    pub fn lease_until_us(&self) -> u64 {
        self.lease_until_us.load(Ordering::Acquire)
    }

    /// Sets it. 0: not at all.
    pub fn set_lease_until_us(&self, at: u64) {
        self.lease_until_us.store(at, Ordering::Release);
    }

    /// Executes a call if its session is open here. `clock` is read before the access, for expiry, and after it, for the lease.
    pub fn execute(&self, call: Call<'_>, clock: impl Fn() -> Now, out: &mut BytesMut) -> Tried {
        let Call { session, op, protocol, from, may_end } = call;
        let before = out.len();
        let now = clock();
        if now.boot_us >= self.lease_until_us() {
            return Tried::NoLease;
        }
        let tried = {
            let Some(mut resident) = self.residents.get_mut(session) else { return Tried::NotOpen };
            if !resident.is_open() || (!may_end && could_end(&resident, op)) {
                return Tried::NotOpen;
            }
            let adopt = resident.arrived(from, now.boot_us, &self.rule);
            match command::execute(&mut resident.session, op, now.unix_ms, protocol, out) {
                Executed::Missing(missing) => return Tried::Missing(missing),
                Executed::Done { wrote } if wrote && may_end && resident.session.is_empty() => {
                    resident.gate = Gate::Ending;
                    Tried::Ended
                }
                Executed::Done { .. } => Tried::Done(from.filter(|_| adopt)),
            }
        };
        if clock().boot_us >= self.lease_until_us() {
            out.truncate(before);
            // The engine ends the session in any case: an ended one must not stay behind its closed gate.
            return if matches!(tried, Tried::Ended) { Tried::Ended } else { Tried::Unanswered };
        }
        tried
    }

    /// Notes that a request of this session has arrived at another member. True if that one should adopt it.
    pub fn arrived(&self, session: &[u8], from: Incarnation, now: Now) -> bool {
        self.residents.get_mut(session).is_some_and(|mut r| r.is_open() && r.arrived(Some(from), now.boot_us, &self.rule))
    }

    /// The variables of a session here that stream and have not arrived; `None`: the session is not open here.
    pub fn streamed_missing(&self, session: &[u8]) -> Option<Vec<VariableId>> {
        let resident = self.residents.get(session).filter(|r| r.is_open())?;
        let mut missing = Vec::new();
        if resident.session.missing_count() > 0 {
            for key in resident.session.keys() {
                for (name, variable) in key.variables() {
                    if let Content::Elsewhere(remote) = &variable.content
                        && remote.class == Class::Streamed
                    {
                        missing.push(VariableId { key: key.name.clone(), name: name.clone() });
                    }
                }
            }
        }
        Some(missing)
    }

    /// Removes expired keys; the sessions that have ended by it, their gates closed.
    pub fn expire(&self, now: Now) -> Vec<SessionId> {
        let mut ended = Vec::new();
        for mut entry in self.residents.iter_mut() {
            // Whoever closed this gate may have given up before the engine was told; telling it twice does no harm.
            if entry.gate == Gate::Ending {
                ended.push(entry.key().clone());
                continue;
            }
            let due = entry.session.next_expiry_ms().is_some_and(|at| at <= now.unix_ms) || entry.session.is_empty();
            if due && entry.gate == Gate::Open {
                entry.session.expire(now.unix_ms);
                if entry.session.is_empty() {
                    entry.gate = Gate::Ending;
                    ended.push(entry.key().clone());
                }
            }
        }
        ended
    }

    /// Looks at up to `limit` sessions, for the admin interface.
    pub fn list<R>(&self, limit: usize, show: impl Fn(&SessionId, &Resident) -> R) -> Vec<R> {
        self.residents.iter().take(limit).map(|e| show(e.key(), e.value())).collect()
    }

    /// Bytes of names and values, and variables that are not here, of all sessions.
    pub fn totals(&self) -> (u64, u64) {
        self.residents
            .iter()
            .fold((0, 0), |(bytes, missing), e| (bytes + e.session.size_bytes(), missing + e.session.missing_count() as u64))
    }

    /// Drops everything: this life of the node is over.
    pub fn clear(&self) {
        self.set_lease_until_us(0);
        self.residents.clear();
        self.count.store(0, Ordering::Release);
    }
}

/// Whether `op` might remove the last key. Cheap, and right for the commands that delete; a key that goes because its new
/// expiry is in the past is found by [`Store::expire`].
fn could_end(resident: &Resident, op: &Op) -> bool {
    let keys = resident.session.keys();
    match op.name() {
        "del" | "unlink" | "getdel" => keys.len() <= op.targets().len(),
        "hdel" => keys.first().is_some_and(|k| keys.len() == 1 && k.len() + 2 <= op.args().len()),
        _ => false,
    }
}

impl Table for Store {
    fn with<R>(&self, id: &SessionId, f: impl FnOnce(&mut Option<Resident>) -> R) -> R {
        match self.residents.entry(id.clone()) {
            Entry::Occupied(mut occupied) => {
                // The placeholder is never seen: the shard stays locked until the resident is back or gone.
                let empty = Resident::new(Default::default(), occupied.get().location.clone(), 0);
                let mut slot = Some(std::mem::replace(occupied.get_mut(), empty));
                let result = f(&mut slot);
                match slot {
                    Some(resident) => *occupied.get_mut() = resident,
                    None => {
                        occupied.remove();
                        self.count.fetch_sub(1, Ordering::AcqRel);
                    }
                }
                result
            }
            Entry::Vacant(vacant) => {
                let mut slot = None;
                let result = f(&mut slot);
                if let Some(resident) = slot {
                    vacant.insert(resident);
                    self.count.fetch_add(1, Ordering::AcqRel);
                }
                result
            }
        }
    }

    fn ids(&self) -> Vec<SessionId> {
        self.residents.iter().map(|e| e.key().clone()).collect()
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}

//! The concurrent table of the sessions that this node owns, and the hot path through it.
//!
//! It never awaits, never decides an ownership, never asks the directory. The state face and the operations execute on it; the
//! driver lends it to the engine as its [`Table`]. One shard's lock is held while one operation runs, and no other.
//!
//! An operation reads two clocks: the wall clock before the access, for expiry, and CLOCK_BOOTTIME after it, for the lease. It
//! does not look at the lease's end before: whoever finds it over says so in `lease_until_us`, and the next ones do not run.
//!
//! Longer than 400 lines because the hot path and the table behind it share one lock and one schedule.
//! Invariants: *one owner* (only an open gate answers); *no lease, no answer*: the lease is checked after the access to state and
//! before the reply is queued, and that the node still lives the life in which the operation began: the lease of the next one
//! says nothing about what was read in this one. A reply that was made without a lease is thrown away, and its operator is told
//! to try again.

mod ahead;
mod happened;
mod memory;
mod schedule;
mod unwritten;

pub use happened::Happened;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use memory::{Memory, Weight};
use schedule::{NEVER, Schedule};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use unwritten::{Unwritten, bytes_of};
use wayfarer_engine::command::{self, Executed, Op};
use wayfarer_engine::ids::{Incarnation, Now, SessionId};
use wayfarer_engine::plan::Policy;
use wayfarer_engine::residence::{AdoptionRule, Came, Gate, Renamed, Resident, Table};
use wayfarer_engine::session::{Missing, Name};
use wayfarer_engine::wire::resp::{Answer, Protocol};

/// Parts of the table with a lock each: so many that operations on different sessions seldom meet.
const SHARDS: usize = 128;
/// Sessions that one call of [`Store::expire`] looks at; the others wait for the next one.
const EXPIRE_AT_ONCE_MAX: usize = 20_000;
/// When to look again at a session that is due and cannot end yet, because it is frozen or its end is not confirmed.
const LOOK_AGAIN_MS: u64 = 250;

/// The clocks, given by the driver's side.
pub trait Clock {
    /// Milliseconds since 1970.
    fn unix_ms(&self) -> u64;
    /// Microseconds of CLOCK_BOOTTIME.
    fn boot_us(&self) -> u64;
}

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
    /// and finds the session [`Tried::NotOpen`]; so does one that might have to be in the upstream before it is acknowledged.
    pub may_end: bool,
}

/// How an attempt to execute ended.
#[derive(Debug)]
pub enum Tried {
    /// The reply is appended. With a member: that one should adopt the session.
    Done(Option<Incarnation>),
    /// The reply is appended but must wait: the session has ended, its gate is `Ending`.
    Ended,
    /// The reply is appended but must wait until the upstream has the change. With a member: as for `Done`.
    Critical(Option<Incarnation>),
    /// Nobody has looked whether its keys are at rest; nothing has changed.
    Unknown,
    /// The upstream lacks too much already; nothing has changed.
    Full,
    /// Values are needed that are not here; nothing has changed.
    Missing(Missing),
    /// This node may not answer now; nothing has changed.
    NoLease,
    /// The lease ended while the operation ran. It has run, and must not run again; nobody may be told how it ended.
    Unanswered,
    /// No session of this id is open here; nothing has changed.
    NotOpen,
}

/// A session, and where it stands in the schedule.
struct Held {
    resident: Resident,
    /// When it is to be looked at, as the schedule has it: never later than the expiry of its next key.
    due_ms: u64,
    weight: Weight,
}

/// See the head of this file.
pub struct Store {
    /// An id is compared where it stands, and a table of boxes has little to move when it grows and little room to spare.
    residents: DashMap<Name, Box<Held>>,
    schedule: Schedule,
    /// The table's size, so that [`Table::count`] need not visit the shards.
    count: AtomicUsize,
    lease_until_us: AtomicU64,
    /// Counts the lives of this node, so that an operation that outlives one is found out.
    life: AtomicU64,
    /// Sessions that went with a life.
    lost: AtomicU64,
    rule: AdoptionRule,
    value_bytes_max: usize,
    /// What the upstream lacks; `None`: sessions are never at rest.
    unwritten: Option<Unwritten>,
    /// What subscribers are to be told; `None`: nobody is.
    happened: Option<Arc<Happened>>,
    /// What sessions use of memory; `None`: they may use all.
    memory: Option<Memory>,
}

impl Store {
    /// An empty store of a node that may not answer yet.
    pub fn new(rule: AdoptionRule) -> Store {
        Store {
            residents: DashMap::with_shard_amount(SHARDS),
            schedule: Schedule::default(),
            count: AtomicUsize::new(0),
            lease_until_us: AtomicU64::new(0),
            life: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            rule,
            value_bytes_max: usize::MAX,
            unwritten: None,
            happened: None,
            memory: None,
        }
    }

    /// The same, with a limit on the bytes of one value.
    pub fn with_value_bytes_max(self, value_bytes_max: usize) -> Store {
        Store { value_bytes_max, ..self }
    }

    /// The same, for sessions at rest: impacts are those of `policy`, and writes are refused while the upstream lacks
    /// `unwritten_bytes_max`.
    pub fn with_rest(self, policy: Arc<Policy>, unwritten_bytes_max: u64) -> Store {
        Store { unwritten: Some(Unwritten::new(policy, unwritten_bytes_max)), ..self }
    }

    /// Until when this node may answer, in microseconds of CLOCK_BOOTTIME. 0: not now.
    pub fn lease_until_us(&self) -> u64 {
        self.lease_until_us.load(Ordering::Acquire)
    }

    /// Sets it. 0: not at all.
    pub fn set_lease_until_us(&self, at: u64) {
        self.lease_until_us.store(at, Ordering::Release);
    }

    /// Which life of the node this is: read it before an access to state, for [`Store::may_answer`] after it.
    pub fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// Sessions that were lost with former lives of this node; of those at rest, the ones with changes that the upstream lacked.
    pub fn lost_with_lives(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }

    /// Whether what was read in this life may be answered at `boot_us`, a time after the access.
    pub fn may_answer(&self, life: u64, boot_us: u64) -> bool {
        let until_us = self.lease_until_us();
        if boot_us >= until_us {
            // The next operation finds it before it runs. A renewal that comes just now is not overwritten.
            let _ = self.lease_until_us.compare_exchange(until_us, 0, Ordering::AcqRel, Ordering::Acquire);
            return false;
        }
        life == self.life()
    }

    /// Whether the session is here, whatever its gate.
    pub fn has(&self, session: &[u8]) -> bool {
        self.residents.contains_key(session)
    }

    /// Executes a call if its session is open here.
    pub fn execute<'o>(&self, call: Call<'_>, clock: &impl Clock, out: impl Into<Answer<'o>>) -> Tried {
        let mut out: Answer<'_> = out.into();
        let Call { session, op, protocol, from, may_end } = call;
        let (before, life) = (out.mark(), self.life());
        if self.lease_until_us() == 0 {
            return Tried::NoLease;
        }
        let (tried, boot_us) = {
            let Some(mut held) = self.residents.get_mut(session) else { return Tried::NotOpen };
            let resident = &held.resident;
            if !resident.is_open() || (!may_end && could_end(resident, op)) {
                return Tried::NotOpen;
            }
            if resident.unknown(op.targets().iter().map(|target| &target.key)) {
                return Tried::Unknown;
            }
            let unwritten = self.unwritten.as_ref().filter(|_| op.is_write());
            if let Some(unwritten) = unwritten {
                if unwritten.is_full() && !op.only_removes() {
                    return Tried::Full;
                }
                if !may_end && unwritten.may_be_critical(resident, op) {
                    return Tried::NotOpen;
                }
            }
            let unix_ms = clock.unix_ms();
            let held: &mut Held = held.value_mut();
            let resident = &mut held.resident;
            let was = unwritten.map(|_| Unwritten::before(resident, op));
            let limits = self.limits(op);
            let (mut wrote_something, mut events) = (false, self.events());
            let (answer, noted) = (out.again(), &mut events);
            let tried = match command::execute_noting(limits, &mut resident.session, op, unix_ms, protocol, answer, noted) {
                Executed::Missing(missing) => return Tried::Missing(missing),
                Executed::Done { wrote } if wrote && may_end && resident.session.is_empty() => {
                    resident.gate = Gate::Ending;
                    Tried::Ended
                }
                Executed::Done { wrote } => {
                    wrote_something = wrote;
                    Tried::Done(None)
                }
            };
            // Behind the access: this one stamp serves the lease and the arrival.
            let boot_us = clock.boot_us();
            self.tell(events.into_noted(), life, boot_us);
            if let Some(memory) = self.memory.as_ref().filter(|_| wrote_something || matches!(tried, Tried::Ended)) {
                memory.weigh(&mut held.weight, &resident.session, op.size_bytes() as u64);
            }
            let follows = resident.arrived(from, Came::Operation, boot_us, &self.rule);
            let adopt = from.filter(|_| follows);
            resident.used_us = boot_us;
            let is_critical = match (unwritten, was) {
                (Some(unwritten), Some(was)) if wrote_something => unwritten.changed(session, resident, was, op, boot_us),
                _ => false,
            };
            if op.is_write() {
                self.reschedule(session, held);
            }
            let tried = match tried {
                Tried::Done(_) if is_critical && may_end => Tried::Critical(adopt),
                Tried::Done(_) => Tried::Done(adopt),
                tried => tried,
            };
            (tried, boot_us)
        };
        if !self.may_answer(life, boot_us) {
            out.back_to(before);
            // The engine ends the session in any case: an ended one must not stay behind its closed gate.
            return if matches!(tried, Tried::Ended) { Tried::Ended } else { Tried::Unanswered };
        }
        tried
    }

    /// Makes sure that a session is looked at when its next key expires, or soon if it has ended. An expiry that was put off
    /// costs nothing here: it is found when the former one is due.
    fn reschedule(&self, id: &[u8], held: &mut Held) {
        let ended = held.resident.gate == Gate::Ending || held.resident.session.is_empty();
        let due_ms = if ended { 0 } else { held.resident.session.next_expiry_ms().unwrap_or(NEVER) };
        if due_ms < held.due_ms {
            self.schedule.move_to(id, held.due_ms, due_ms);
            held.due_ms = due_ms;
        }
    }

    /// Notes that a request of this session has arrived at another member. True if that one should adopt it.
    pub fn arrived(&self, session: &[u8], from: Incarnation, now: Now) -> bool {
        self.residents.get_mut(session).is_some_and(|mut held| {
            let resident = &mut held.resident;
            resident.is_open() && resident.arrived(Some(from), Came::Request, now.boot_us, &self.rule)
        })
    }

    /// Removes expired keys of the sessions that are due; those that have ended by it, their gates closed. Touches no other.
    pub fn expire(&self, now: Now) -> Vec<SessionId> {
        let (mut ended, life) = (Vec::new(), self.life());
        for (due_ms, id) in self.schedule.take_due(now.unix_ms, EXPIRE_AT_ONCE_MAX) {
            let Some(mut held) = self.residents.get_mut(&*id.0) else { continue };
            // Scheduled anew meanwhile, or another session of this id.
            if held.due_ms != due_ms {
                continue;
            }
            let Held { resident, weight, .. } = &mut **held.value_mut();
            if resident.gate == Gate::Open {
                let gone = resident.session.expire(now.unix_ms);
                if let Some(memory) = self.memory.as_ref().filter(|_| !gone.is_empty()) {
                    memory.weigh(weight, &resident.session, 0);
                }
                self.tell_expired(gone, life, now.boot_us);
                if resident.session.is_empty() {
                    resident.gate = Gate::Ending;
                }
            }
            // Whoever closed this gate may have given up before the engine was told; telling it twice does no harm.
            let next_ms = match resident.gate {
                Gate::Open => resident.session.next_expiry_ms().unwrap_or(NEVER),
                Gate::Frozen(_) | Gate::Resting | Gate::Renaming => now.unix_ms.saturating_add(LOOK_AGAIN_MS),
                Gate::Ending => {
                    ended.push(id.clone());
                    now.unix_ms.saturating_add(LOOK_AGAIN_MS)
                }
            };
            held.due_ms = next_ms;
            self.schedule.move_to(&id.0, NEVER, next_ms);
        }
        ended
    }

    /// Looks at up to `limit` sessions, for the admin interface.
    pub fn list<R>(&self, limit: usize, show: impl Fn(&SessionId, &Resident) -> R) -> Vec<R> {
        self.residents.iter().take(limit).map(|e| show(&SessionId(e.key().to_bytes()), &e.resident)).collect()
    }

    /// Bytes of names and values, and variables that are not here, of all sessions.
    pub fn totals(&self) -> (u64, u64) {
        self.residents.iter().fold((0, 0), |(bytes, missing), held| {
            let session = &held.resident.session;
            (bytes + session.size_bytes(), missing + session.missing_count() as u64)
        })
    }

    /// How many sessions here are not in the upstream as they are here, or not at all.
    pub fn count_unwritten(&self) -> u64 {
        let lacks = |r: &Resident| r.rest.as_ref().is_none_or(|rest| !rest.since().is_clean());
        self.residents.iter().filter(|held| lacks(&held.resident)).count() as u64
    }

    /// Drops everything: this life of the node is over. Operations that began in it are not answered any more.
    pub fn clear(&self) {
        self.set_lease_until_us(0);
        self.life.fetch_add(1, Ordering::AcqRel);
        let lost = self.count_unwritten();
        self.residents.clear();
        self.schedule.clear();
        self.unwritten.iter().for_each(Unwritten::clear);
        self.memory.iter().for_each(Memory::clear);
        self.count.store(0, Ordering::Release);
        self.lost.fetch_add(lost, Ordering::AcqRel);
    }
}

/// Whether `op` might remove the last key. Cheap, and right for the commands that delete; a key that goes because its new
/// expiry is in the past is found by [`Store::expire`].
fn could_end(resident: &Resident, op: &Op) -> bool {
    let keys = resident.session.keys();
    if op.is_script() {
        return true;
    }
    // Of several commands one may leave what the next takes.
    let several = op.commands().len() > 1;
    op.commands().iter().any(|op| match op.name() {
        "del" | "unlink" | "getdel" => several || keys.len() <= op.targets().len(),
        "hdel" => several || keys.first().is_some_and(|k| keys.len() == 1 && k.len() + 2 <= op.args().len()),
        _ => false,
    })
}

impl Table for Store {
    fn with<R>(&self, id: &SessionId, f: impl FnOnce(&mut Option<Resident>) -> R) -> R {
        match self.residents.entry(Name::copy_of(&id.0)) {
            Entry::Occupied(mut occupied) => {
                // The placeholder is never seen: the shard stays locked until the resident is back or gone.
                let empty = Resident::new(Default::default(), occupied.get().resident.location.clone(), 0);
                let mut slot = Some(std::mem::replace(&mut occupied.get_mut().resident, empty));
                let was_empty = slot.as_ref().is_some_and(|r| r.session.is_empty());
                let lacked = slot.as_ref().map_or(0, bytes_of);
                let result = f(&mut slot);
                if let Some(unwritten) = &self.unwritten {
                    unwritten.moved(lacked, slot.as_ref().map_or(0, bytes_of));
                }
                match slot {
                    Some(resident) => {
                        // One that opened without a key is the engine's to end; one that has lost its last is due.
                        let due = resident.gate == Gate::Ending || !was_empty || !resident.session.is_empty();
                        let held = occupied.get_mut();
                        held.resident = resident;
                        if let Some(memory) = &self.memory {
                            memory.weigh(&mut held.weight, &held.resident.session, 0);
                        }
                        if due {
                            self.reschedule(&id.0, held);
                        }
                    }
                    None => {
                        let (_, held) = occupied.remove_entry();
                        self.schedule.move_to(&id.0, held.due_ms, NEVER);
                        self.memory.iter().for_each(|memory| memory.forget(held.weight));
                        self.count.fetch_sub(1, Ordering::AcqRel);
                    }
                }
                result
            }
            Entry::Vacant(vacant) => {
                let mut slot = None;
                let result = f(&mut slot);
                if let Some(resident) = slot {
                    if let Some(unwritten) = &self.unwritten {
                        unwritten.moved(0, bytes_of(&resident));
                    }
                    let opens_without_key = resident.session.is_empty() && resident.gate != Gate::Ending;
                    let mut held = Held { resident, due_ms: NEVER, weight: Weight::default() };
                    if let Some(memory) = &self.memory {
                        memory.weigh(&mut held.weight, &held.resident.session, 0);
                    }
                    if !opens_without_key {
                        self.reschedule(&id.0, &mut held);
                    }
                    vacant.insert(Box::new(held));
                    self.count.fetch_add(1, Ordering::AcqRel);
                }
                result
            }
        }
    }

    fn ids(&self) -> Vec<SessionId> {
        self.residents.iter().map(|e| SessionId(e.key().to_bytes())).collect()
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    fn renamed(&self, change: &Renamed, now_us: u64) {
        self.tell_renamed(change, now_us);
    }

    fn take_unwritten(&self) -> Vec<SessionId> {
        self.unwritten.as_ref().map(Unwritten::take).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;

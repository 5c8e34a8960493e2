//! What the users found: one record for each request, errors by reason, faults by kind.
//!
//! It judges nothing. The users write, the progress display and the report read. Its size is bounded by the limits on the demo's
//! arguments (users, seconds) and by the constants here. Invariant: every request that was due is in exactly one of `records`
//! and `undispatched`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::users::session::{Fault, FaultKind};

/// A request that leaves later than this after its due time counts as late, in microseconds.
pub const LATE_US: i64 = 10_000;
const REASONS_MAX: usize = 16;
const SAMPLES_MAX: usize = 10;

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The users log in one after the other.
    Login,
    /// Before anything happens.
    Before,
    /// From the start of the third node until the drained one is gone.
    During,
    /// After that.
    After,
    /// The final read of every session.
    ReadBack,
}

impl Phase {
    /// Its name in the display and the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Before => "before",
            Self::During => "during",
            Self::After => "after",
            Self::ReadBack => "read back",
        }
    }
}

/// One request, its times in microseconds since the start of the run.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// Number of its session in the ledger.
    pub session: u32,
    /// When it was due.
    pub due_us: i64,
    /// When it left.
    pub sent_us: i64,
    /// When its whole answer was there.
    pub done_us: i64,
    /// The phase in which it was due.
    pub phase: Phase,
}

/// All that is counted.
#[derive(Debug)]
pub struct Counts {
    /// The phase now.
    pub phase: Phase,
    /// Every request that was sent.
    pub records: Vec<Record>,
    /// The session ids, by number.
    pub sessions: Vec<String>,
    /// Requests without a good answer.
    pub errors: u64,
    /// Errors by reason; the last reason stands for all further ones.
    pub reasons: BTreeMap<String, u64>,
    /// Reads that returned an older value than they had to, and what came back after its end.
    pub stale_reads: u64,
    /// Acknowledged writes that were not there at the end.
    pub lost_writes: u64,
    /// Values that nobody wrote.
    pub wrong_values: u64,
    /// The first faults, in words.
    pub samples: Vec<String>,
    /// Requests that were never sent, because their user was too far behind.
    pub undispatched: u64,
    /// Requests that left late.
    pub late: u64,
}

/// The ledger.
#[derive(Debug)]
pub struct Ledger(Mutex<Counts>);

impl Default for Ledger {
    fn default() -> Self {
        Self(Mutex::new(Counts {
            phase: Phase::Login,
            records: Vec::new(),
            sessions: Vec::new(),
            errors: 0,
            reasons: BTreeMap::new(),
            stale_reads: 0,
            lost_writes: 0,
            wrong_values: 0,
            samples: Vec::new(),
            undispatched: 0,
            late: 0,
        }))
    }
}

impl Ledger {
    /// The counts, locked: never hold them across an await.
    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests that are due from now on belong to `phase`.
    pub fn enter(&self, phase: Phase) {
        self.counts().phase = phase;
    }

    /// Gives a session its number.
    pub fn open_session(&self, sid: &str) -> u32 {
        let mut counts = self.counts();
        counts.sessions.push(sid.to_owned());
        u32::try_from(counts.sessions.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Notes a request that has ended; `error` is why it has no good answer.
    pub fn note(&self, record: Record, error: Option<String>) {
        let mut counts = self.counts();
        counts.late += u64::from(record.sent_us.saturating_sub(record.due_us) > LATE_US);
        counts.records.push(record);
        if let Some(mut reason) = error {
            counts.errors += 1;
            if !counts.reasons.contains_key(&reason) && counts.reasons.len() >= REASONS_MAX {
                reason = "other reasons".into();
            }
            *counts.reasons.entry(reason).or_insert(0) += 1;
        }
    }

    /// Notes requests that were due and not sent.
    pub fn skip(&self, requests: u64) {
        self.counts().undispatched += requests;
    }

    /// Notes what was wrong with an answer that was due at `due_us`.
    pub fn blame(&self, user: u64, due_us: i64, faults: &[Fault]) {
        let mut counts = self.counts();
        for fault in faults {
            let (count, what) = match fault.kind {
                FaultKind::Stale => (&mut counts.stale_reads, "old value"),
                FaultKind::CameBack => (&mut counts.stale_reads, "came back after its end"),
                FaultKind::Lost => (&mut counts.lost_writes, "acknowledged write lost"),
                FaultKind::Wrong => (&mut counts.wrong_values, "wrong value"),
            };
            *count += 1;
            if counts.samples.len() < SAMPLES_MAX {
                let phase = counts.phase.name();
                let Fault { variable, expected, found, .. } = fault;
                let at_s = due_us as f64 / 1e6;
                counts.samples.push(format!(
                    "{at_s:.3} s, {phase}, user {user}: {what}: {variable}: write {found} was answered, at least {expected} expected"
                ));
            }
        }
    }
}

//! What happened to which session: counters, and a bounded log of the latest moves for operators.
//!
//! It never holds an id in the clear: sessions are shown by their keyed hash. The driver writes, the admin interface reads.

use super::clock;
use crate::telemetry::names;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use wayfarer_engine::ids::{HandoverId, IdKey, SessionId};
use wayfarer_engine::node::Note;

/// Moves that are remembered.
const MOVES_MAX: usize = 65_536;

/// Sessions of one kind of mishap that are named in the log; after that one at each doubling, with the count.
const NAMED_MAX: u64 = 1000;

/// Which side of a handover this node was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// It gave.
    Origin,
    /// It took.
    Target,
}

/// How a move ended here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveOutcome {
    /// The session is at the target.
    Committed,
    /// It stayed.
    Aborted,
}

/// One side of one move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    /// Counts the moves of this process, from 1.
    pub seq: u64,
    /// The handover, as `origin-serial`.
    pub handover: String,
    /// The session's keyed hash.
    pub session: String,
    /// Which side this node was.
    pub side: Side,
    /// When the origin froze the session, or the target opened it: microseconds since 1970.
    pub at_unix_us: u64,
    /// How it ended.
    pub outcome: MoveOutcome,
}

/// Totals since the start of the process.
#[derive(Default, Debug)]
pub struct Totals {
    /// Sessions that were born here.
    pub born: AtomicU64,
    /// Sessions that ended here.
    pub ended: AtomicU64,
    /// Handovers that this node gave and that committed.
    pub left: AtomicU64,
    /// Handovers that this node took.
    pub opened: AtomicU64,
    /// Handovers that this node gave and that did not commit.
    pub aborted: AtomicU64,
    /// Handovers that this node was offered and did not take in the end.
    pub declined: AtomicU64,
    /// Variables that came late.
    pub fetched_late: AtomicU64,
    /// Those of them that a reader had asked for.
    pub fetched_on_access: AtomicU64,
    /// Variables that were declared lost.
    pub lost: AtomicU64,
    /// Sessions that operations here found lost with the nodes that had them.
    pub sessions_lost: AtomicU64,
    /// Times that a session was not handed over because a message could not be sent.
    pub unsendable: AtomicU64,
    /// Sessions that were at rest and became owned here.
    pub checked_out: AtomicU64,
    /// Sessions that went to rest.
    pub checked_in: AtomicU64,
    /// Times that a session could not go to rest.
    pub check_ins_failed: AtomicU64,
    /// Batches of changes that the upstream has taken.
    pub flushed: AtomicU64,
    /// Keys that somebody else had written at rest.
    pub foreign: AtomicU64,
    /// Loads and stores that the upstream refused, because a later owner had been there.
    pub stale: AtomicU64,
}

/// See the head of this file.
pub struct Journal {
    key: IdKey,
    /// Totals.
    pub totals: Totals,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    last: u64,
    moves: VecDeque<Move>,
    froze: std::collections::HashMap<HandoverId, u64>,
}

impl Journal {
    /// An empty journal that shows sessions under `key`.
    pub fn new(key: IdKey) -> Journal {
        Journal { key, totals: Totals::default(), log: Mutex::default() }
    }

    /// The session's keyed hash.
    pub fn show(&self, session: &SessionId) -> String {
        self.key.show(&session.0)
    }

    // A panic while the lock was held leaves a log that is at worst short of one line.
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves after `seq`, oldest first, at most `limit`; and the number of the latest.
    pub fn moves_after(&self, seq: u64, limit: usize) -> (Vec<Move>, u64) {
        let log = self.log();
        (log.moves.iter().filter(|m| m.seq > seq).take(limit).cloned().collect(), log.last)
    }

    /// Takes note of what the engine did.
    pub fn note(&self, note: Note) {
        let totals = &self.totals;
        let count = |total: &AtomicU64, name: &'static str, n: u64| {
            total.fetch_add(n, Ordering::Relaxed);
            metrics::counter!(name).increment(n);
        };
        match note {
            Note::Born => count(&totals.born, names::SESSIONS_BORN, 1),
            Note::Ended => count(&totals.ended, names::SESSIONS_ENDED, 1),
            Note::Renamed(..) => metrics::counter!(names::KEYS_RENAMED).increment(1),
            Note::Froze(handover, _) => {
                self.log().froze.insert(handover, clock::unix_us());
            }
            Note::Left(handover, session) => {
                count(&totals.left, names::HANDOVERS_GIVEN, 1);
                self.origin_ended(handover, &session, MoveOutcome::Committed);
            }
            Note::Aborted(handover, session) => {
                count(&totals.aborted, names::HANDOVERS_ABORTED, 1);
                self.origin_ended(handover, &session, MoveOutcome::Aborted);
            }
            Note::Opened(handover, session) => {
                count(&totals.opened, names::HANDOVERS_TAKEN, 1);
                self.add(handover, &session, Side::Target, clock::unix_us(), MoveOutcome::Committed);
            }
            Note::Declined(_) => count(&totals.declined, names::HANDOVERS_DECLINED, 1),
            Note::Demoted(n) => metrics::counter!(names::VARIABLES_DEMOTED).increment(n as u64),
            Note::Fetched { bytes, on_access } => {
                count(&totals.fetched_late, names::VARIABLES_FETCHED_LATE, 1);
                totals.fetched_on_access.fetch_add(u64::from(on_access), Ordering::Relaxed);
                metrics::counter!(names::VARIABLES_FETCHED_LATE_BYTES).increment(bytes);
            }
            Note::Mismatch => {
                tracing::error!("a value from another node did not match its manifest and was refused");
                metrics::counter!(names::VALUES_MISMATCHED).increment(1);
            }
            Note::Lost => count(&totals.lost, names::VARIABLES_LOST, 1),
            Note::Fenced(who) => {
                tracing::warn!(
                    incarnation = who.0.0,
                    "a member was declared dead; what only it held is lost, but for what is at rest as it was"
                );
                metrics::counter!(names::MEMBERS_FENCED).increment(1);
            }
            Note::SessionLost(session) => {
                count(&totals.sessions_lost, names::SESSIONS_LOST, 1);
                self.name(&session, &totals.sessions_lost, "was lost with the node that had it");
            }
            Note::Unsendable(session) => {
                count(&totals.unsendable, names::HANDOVERS_UNSENDABLE, 1);
                self.name(&session, &totals.unsendable, "could not be handed over: a message about it could not be sent");
            }
            Note::AdoptionSkipped => metrics::counter!(names::ADOPTIONS_SKIPPED).increment(1),
            Note::CheckedOut => count(&totals.checked_out, names::CHECK_OUTS, 1),
            Note::CheckedIn => count(&totals.checked_in, names::CHECK_INS, 1),
            Note::CheckInFailed(session) => {
                count(&totals.check_ins_failed, names::CHECK_INS_FAILED, 1);
                self.name(
                    &session,
                    &totals.check_ins_failed,
                    "could not go to rest and stays: the upstream did not take it in time",
                );
            }
            Note::Flushed { bytes } => {
                count(&totals.flushed, names::FLUSHES, 1);
                metrics::counter!(names::FLUSHED_BYTES).increment(bytes);
            }
            // The shell has said why, and has counted it.
            Note::UpstreamFailed => {}
            Note::Foreign(session, keys) => {
                count(&totals.foreign, names::FOREIGN_WRITES, keys as u64);
                self.name(
                    &session,
                    &totals.foreign,
                    "at rest was written to by somebody else while it was owned here, which wins",
                );
            }
            Note::Stale(session) => {
                count(&totals.stale, names::STALE_STORES, 1);
                self.name(&session, &totals.stale, "has a later owner in the upstream: do all nodes of it share one directory?");
            }
            Note::ResidualEnded => metrics::counter!(names::RESIDUALS_ENDED).increment(1),
        }
    }

    /// Names a session in the log; of many, the first ones and then ever fewer.
    fn name(&self, session: &SessionId, so_far: &AtomicU64, what: &'static str) {
        let times = so_far.load(Ordering::Relaxed);
        if times <= NAMED_MAX || times.is_power_of_two() {
            tracing::warn!(session = self.show(session), times, "a session {what}");
        }
    }

    /// The life that froze them is over, and nobody tells how their handovers end.
    pub fn forget_frozen(&self) {
        self.log().froze.clear();
    }

    fn origin_ended(&self, handover: HandoverId, session: &SessionId, outcome: MoveOutcome) {
        // A handover that never froze moved nothing and kept nobody waiting.
        let frozen_at = self.log().froze.remove(&handover);
        if let Some(at) = frozen_at {
            self.add(handover, session, Side::Origin, at, outcome);
        }
    }

    fn add(&self, handover: HandoverId, session: &SessionId, side: Side, at_unix_us: u64, outcome: MoveOutcome) {
        let session = self.show(session);
        let handover = format!("{}-{}", handover.origin.0.0, handover.serial);
        let mut log = self.log();
        log.last += 1;
        let seq = log.last;
        log.moves.push_back(Move { seq, handover, session, side, at_unix_us, outcome });
        if log.moves.len() > MOVES_MAX {
            log.moves.pop_front();
        }
    }
}

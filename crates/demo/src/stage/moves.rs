//! Moves of sessions and what the clients felt of them, from both nodes' notes and the users' records.
//!
//! It asks nobody. Called by the report. A move is an origin's freeze and a target's opening with the same handover and session.
//!
//! ```text
//! freeze of a move = opened − frozen
//! pause of a move  = the largest latency, from the due time, of the session's requests that were due before it opened
//!                    and done after it froze; if there was none, the freeze
//! ```
//! The pause of a move that a request met is therefore never smaller than an undisturbed request: it is what a client waited, not
//! what the move added. If none met it nobody waited; whoever had come at the worst moment would have waited for the freeze. The
//! moves that were met are told apart too.
//! Invariant: a move is counted once, whatever order the notes come in.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sha2::{Digest, Sha256};

use serde::Serialize;

use crate::stage::admin::{MoveSide, Side};
use crate::users::ledger::Record;
use crate::world::Clock;

/// How many of the longest pauses are told one by one.
const LONGEST_MAX: usize = 5;

/// One pause and what it consists of, so that a long one can be understood. Times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pause {
    /// Since the start of the run: when the request was due.
    pub due_at_ms: f64,
    /// From the due time to the answer.
    pub pause_ms: f64,
    /// From the due time until the request left the user: what the machine of the users added.
    pub sent_late_ms: f64,
    /// From the due time until the session froze; negative if it was frozen already.
    pub before_freeze_ms: f64,
    /// Frozen at the old node until open at the new one.
    pub freeze_ms: f64,
    /// From the opening to the answer.
    pub after_open_ms: f64,
}

/// What is known of the moves of a run. Times in microseconds.
#[derive(Debug, Default, PartialEq)]
pub struct MoveFigures {
    /// Moves that were committed.
    pub moves: u64,
    /// Sessions that moved at least once.
    pub sessions_moved: u64,
    /// Moves that were aborted, as their origins say.
    pub aborted: u64,
    /// Moves of which only one side is known.
    pub one_sided: u64,
    /// Moves that no request overlapped.
    pub without_request: u64,
    /// The pause of each move.
    pub pauses_us: Vec<u64>,
    /// The pause of each move that a request met.
    pub met_us: Vec<u64>,
    /// The longest of these, longest first.
    pub longest: Vec<Pause>,
    /// The freeze of each move.
    pub freezes_us: Vec<u64>,
    /// Of each move the latency of the first request that was due after its freeze, whenever that was: it pays for what has to be
    /// fetched.
    pub firsts_us: Vec<u64>,
}

/// When a move froze its session and opened it again, as far as known.
#[derive(Debug, Default, Clone, Copy)]
struct Times {
    frozen_us: Option<i64>,
    opened_us: Option<i64>,
}

/// A session id as nodes show it: the first 8 bytes of SHA-256(key ‖ id), in hexadecimal.
pub fn shown(id_key: &[u8], sid: &str) -> String {
    let digest = Sha256::new().chain_update(id_key).chain_update(sid.as_bytes()).finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Joins the sides of all moves with the requests of their sessions.
pub fn figures<'a>(
    sides: impl Iterator<Item = &'a MoveSide>,
    records: &[Record],
    sessions: &[String],
    id_key: &[u8],
    clock: &Clock,
) -> MoveFigures {
    let mut joined: BTreeMap<(&str, &str), Times> = BTreeMap::new();
    let mut figures = MoveFigures::default();
    for side in sides {
        let at_us = clock.from_unix_us(side.at_unix_us);
        match (side.outcome.as_str(), side.side) {
            ("committed", Side::Origin) => joined.entry((&side.handover, &side.session)).or_default().frozen_us = Some(at_us),
            ("committed", Side::Target) => joined.entry((&side.handover, &side.session)).or_default().opened_us = Some(at_us),
            (_, Side::Origin) => figures.aborted += 1,
            (_, Side::Target) => {}
        }
    }
    let moved: BTreeSet<&str> = joined.keys().map(|(_, session)| *session).collect();
    figures.moves = joined.len() as u64;
    figures.sessions_moved = moved.len() as u64;

    let numbers: HashMap<String, u32> = sessions
        .iter()
        .zip(0u32..)
        .map(|(sid, number)| (shown(id_key, sid), number))
        .filter(|(shown, _)| moved.contains(shown.as_str()))
        .collect();
    let wanted: BTreeSet<u32> = numbers.values().copied().collect();
    let mut requests: HashMap<u32, Vec<&Record>> = HashMap::new();
    for record in records.iter().filter(|record| wanted.contains(&record.session)) {
        requests.entry(record.session).or_default().push(record);
    }
    for ((_, session), times) in joined {
        let Times { frozen_us: Some(frozen_us), opened_us: Some(opened_us) } = times else {
            figures.one_sided += 1;
            continue;
        };
        let freeze_us = positive(opened_us.saturating_sub(frozen_us));
        figures.freezes_us.push(freeze_us);
        let of_session = numbers.get(session).and_then(|number| requests.get(number)).map(Vec::as_slice).unwrap_or_default();
        if let Some(first) = of_session.iter().filter(|record| record.due_us >= frozen_us).min_by_key(|record| record.due_us) {
            figures.firsts_us.push(positive(first.done_us.saturating_sub(first.due_us)));
        }
        let overlapping = of_session.iter().filter(|record| record.due_us <= opened_us && record.done_us >= frozen_us);
        match overlapping.max_by_key(|record| record.done_us.saturating_sub(record.due_us)) {
            Some(record) => {
                let pause_us = positive(record.done_us.saturating_sub(record.due_us));
                figures.pauses_us.push(pause_us);
                figures.met_us.push(pause_us);
                figures.longest.push(Pause::of(record, frozen_us, opened_us));
            }
            None => {
                figures.pauses_us.push(freeze_us);
                figures.without_request += 1;
            }
        }
    }
    figures.longest.sort_by(|a, b| b.pause_ms.total_cmp(&a.pause_ms));
    figures.longest.truncate(LONGEST_MAX);
    figures
}

impl Pause {
    fn of(record: &Record, frozen_us: i64, opened_us: i64) -> Pause {
        let ms = |from: i64, to: i64| to.saturating_sub(from) as f64 / 1000.0;
        Pause {
            due_at_ms: ms(0, record.due_us),
            pause_ms: ms(record.due_us, record.done_us),
            sent_late_ms: ms(record.due_us, record.sent_us),
            before_freeze_ms: ms(record.due_us, frozen_us),
            freeze_ms: ms(frozen_us, opened_us),
            after_open_ms: ms(opened_us, record.done_us),
        }
    }
}

fn positive(us: i64) -> u64 {
    u64::try_from(us).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::users::ledger::Phase;

    fn side(handover: &str, sid: &str, side: Side, at_us: i64, outcome: &str, clock: &Clock) -> MoveSide {
        let start = clock.from_unix_us(0);
        let outcome = outcome.into();
        MoveSide { seq: 1, handover: handover.into(), session: shown(b"key", sid), side, at_unix_us: at_us - start, outcome }
    }

    fn record(session: u32, due_us: i64, done_us: i64) -> Record {
        Record { session, due_us, sent_us: due_us, done_us, phase: Phase::During }
    }

    #[test]
    fn a_shown_id_is_the_start_of_the_keyed_hash() {
        assert_eq!(shown(b"", "abc"), "ba7816bf8f01cfea");
        assert_eq!(shown(b"a", "bc"), "ba7816bf8f01cfea");
    }

    #[test]
    fn the_pause_is_the_longest_request_that_overlaps_the_move_or_else_the_freeze() {
        let clock = Clock::start();
        let sessions = ["s0".to_owned(), "s1".to_owned()];
        let sides = [
            side("1-1", "s0", Side::Target, 1_500, "committed", &clock),
            side("1-1", "s0", Side::Origin, 1_000, "committed", &clock),
            side("1-1", "s1", Side::Origin, 1_000, "committed", &clock),
            side("1-1", "s1", Side::Target, 1_100, "committed", &clock),
            side("1-2", "s1", Side::Origin, 9_000, "aborted", &clock),
            side("1-3", "s1", Side::Target, 9_500, "committed", &clock),
        ];
        let records = [
            record(0, 0, 999),        // done before
            record(0, 600, 1_700),    // overlaps: 1100
            record(0, 1_400, 1_900),  // overlaps: 500
            record(0, 1_501, 90_000), // due after
            record(1, 5_000, 80_000), // another time
        ];
        let found = figures(sides.iter(), &records, &sessions, b"key", &clock);
        let expected = MoveFigures {
            moves: 3,
            sessions_moved: 2,
            aborted: 1,
            one_sided: 1,
            without_request: 1,
            pauses_us: vec![1_100, 100],
            met_us: vec![1_100],
            longest: vec![Pause {
                due_at_ms: 0.6,
                pause_ms: 1.1,
                sent_late_ms: 0.0,
                before_freeze_ms: 0.4,
                freeze_ms: 0.5,
                after_open_ms: 0.2,
            }],
            freezes_us: vec![500, 100],
            firsts_us: vec![500, 75_000],
        };
        let sorted = |mut figures: MoveFigures| {
            figures.freezes_us.sort_unstable();
            figures.firsts_us.sort_unstable();
            figures
        };
        assert_eq!(sorted(found), sorted(expected));
    }
}

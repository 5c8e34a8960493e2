//! Who asks for a session, and when it should follow them.
//!
//! It moves nothing: the owner asks it at each operation, and a handover takes the restlessness along.
//!
//! An *arrival* is a request that the HTTP face of a node has announced; operations from there belong to it, but not for ever: one
//! that comes [`REQUEST_US_MAX`] after the last arrival is an arrival too, for a WebSocket is a request that does not end. Where
//! nothing is announced an arrival is an operation. In all cases what comes within
//! [`AdoptionRule::gap_us`] after an arrival at the same node belongs to it, for one request has several operations, and one page
//! several requests.
//!
//! Behind a balancer that spreads the requests of one session, an instance that thinks for longer than the gap between two
//! operations makes one request look like several where none is announced, and the session would follow each. So whether it was
//! right to follow shows afterwards, and the session remembers:
//!
//! | arrivals while it stayed, before those that call it away | it leaves to follow the clients | it leaves otherwise |
//! |---|---|---|
//! | at least [`SETTLED_MIN`] here, [`SETTLED`] for each elsewhere | restlessness 0: they had settled | as before |
//! | fewer | one more, up to [`RESTLESSNESS_MAX`] | as before |
//!
//! It follows after `arrivals × 2^restlessness` arrivals from one node with none elsewhere, and not before it has stayed for
//! [`AdoptionRule::residence_us_min`]. So a session that nobody keeps follows a few times and then stays, its operations forwarded.
//!
//! Invariant: with the requests spread, a session follows a number of times that grows with the logarithm of how many operations a
//! request has, not with the number of requests.

use crate::ids::Incarnation;

/// So many arrivals here for each one elsewhere mean that the clients have settled.
const SETTLED: u32 = 4;
/// And so many are more than one request makes.
const SETTLED_MIN: u32 = 64;
/// Operations are taken for those of an announced request for so long.
const REQUEST_US_MAX: u64 = 1_000_000;
/// How often what is needed to follow doubles at most: 768 arrivals by default.
pub const RESTLESSNESS_MAX: u8 = 8;

/// When arrivals from one node make it the better owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdoptionRule {
    /// So many arrivals from one node, with none elsewhere; doubled for a session that has followed in vain.
    pub arrivals: u32,
    /// Operations within so long after an arrival belong to it. What comes later is the next one, however dense operations are:
    /// clients that never pause arrive too.
    pub gap_us: u64,
    /// A session stays at least this long where it is.
    pub residence_us_min: u64,
}

/// What has come in at a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    /// A request that will have operations, as its HTTP face says.
    Request,
    /// An operation, of whichever request.
    Operation,
}

/// See the head of this file. Small, for each session has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arrivals {
    /// Where the last one was; `None`: here.
    from: Option<Incarnation>,
    counted_us: u64,
    /// How many there were one after the other.
    run: u16,
    /// How many since the session came, here and elsewhere; the run that goes on elsewhere is not counted yet.
    here: u8,
    elsewhere: u8,
    /// Whether requests are announced where the last one was.
    announced: bool,
    /// How often it has followed in vain, one after the other.
    restlessness: u8,
    /// Whether it was to follow. It takes a while until it does, and others come in meanwhile.
    called: bool,
}

impl Arrivals {
    /// Those of a session that has come just now, with the restlessness that it brought.
    pub fn of_newcomer(restlessness: u8) -> Arrivals {
        Arrivals { restlessness: restlessness.min(RESTLESSNESS_MAX), ..Arrivals::default() }
    }

    /// Notes what came in at this node (`None`) or at another. True if it is an arrival after which that other should adopt the
    /// session, which came here at `opened_us`.
    pub(super) fn note(
        &mut self,
        from: Option<Incarnation>,
        came: Came,
        opened_us: u64,
        now_us: u64,
        rule: &AdoptionRule,
    ) -> bool {
        let goes_on = self.from == from && self.run > 0;
        self.announced = came == Came::Request || (goes_on && self.announced);
        let gap_us = match came {
            Came::Operation if self.announced => rule.gap_us.max(REQUEST_US_MAX),
            _ => rule.gap_us,
        };
        if !goes_on && self.from.is_some() {
            self.count_elsewhere();
        }
        let counts = !goes_on || now_us.saturating_sub(self.counted_us) >= gap_us;
        if counts {
            self.run = if goes_on { self.run.saturating_add(1) } else { 1 };
            (self.from, self.counted_us) = (from, now_us);
            if from.is_none() {
                self.count_here();
            }
        }
        let needed = rule.arrivals.saturating_mul(1 << self.restlessness).min(u32::from(u16::MAX));
        let is_due = u32::from(self.run) >= needed && now_us.saturating_sub(opened_us) >= rule.residence_us_min;
        let follows = counts && is_due && from.is_some();
        self.called |= follows;
        follows
    }

    fn count_here(&mut self) {
        if self.here == u8::MAX {
            self.halve();
        }
        self.here += 1;
    }

    fn count_elsewhere(&mut self) {
        let run = u8::try_from(self.run).unwrap_or(u8::MAX);
        if self.elsewhere.checked_add(run).is_none() {
            self.halve();
        }
        self.elsewhere = self.elsewhere.saturating_add(run);
    }

    /// Their ratio counts, and what is long ago counts less.
    fn halve(&mut self) {
        (self.here, self.elsewhere) = (self.here / 2, self.elsewhere / 2);
    }

    /// Whether arrivals still call it to that member. If there were others since, it is not called any more.
    pub(super) fn still_call_to(&mut self, to: Incarnation) -> bool {
        self.called &= self.from == Some(to);
        self.called
    }

    /// What the session takes along if it leaves now.
    pub fn restlessness(&self) -> u8 {
        match self.called {
            false => self.restlessness,
            true if u32::from(self.here) >= (SETTLED * u32::from(self.elsewhere)).max(SETTLED_MIN) => 0,
            true => self.restlessness.saturating_add(1).min(RESTLESSNESS_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Came::{Operation, Request};
    use super::*;
    use crate::ids::Epoch;

    const A: Incarnation = Incarnation(Epoch(1));
    const B: Incarnation = Incarnation(Epoch(2));
    const C: Incarnation = Incarnation(Epoch(3));
    const RULE: AdoptionRule = AdoptionRule { arrivals: 3, gap_us: 20_000, residence_us_min: 0 };

    #[test]
    fn arrivals_are_counted_however_dense_operations_are() {
        let first_adoption = |step_us: u64| {
            let mut arrivals = Arrivals::default();
            assert!(!arrivals.note(Some(B), Operation, 0, 0, &RULE));
            (1..).map(|n| n * step_us).find(|at| arrivals.note(Some(B), Operation, 0, *at, &RULE))
        };
        // A burst of any density is one arrival for 20 ms; the third begins at 40 ms.
        assert_eq!([1_000, 5_000, 20_000, 300_000].map(first_adoption), [40_000, 40_000, 40_000, 600_000].map(Some));

        let mut arrivals = Arrivals::default();
        for at in (0..100).map(|n| n * 30_000) {
            let two = [at, at + 20_000].map(|at| arrivals.note(Some(B), Operation, 0, at, &RULE));
            assert_eq!(two, [false; 2], "one is missing");
            let elsewhere = if at % 60_000 == 0 { None } else { Some(C) };
            assert!(!arrivals.note(elsewhere, Operation, 0, at + 25_000, &RULE), "elsewhere: counted anew");
        }
    }

    #[test]
    fn operations_of_announced_requests_are_no_arrivals() {
        let mut arrivals = Arrivals::default();
        let mut now_us = 0;
        for _ in 0..2 {
            now_us += RULE.gap_us;
            assert!(!arrivals.note(Some(B), Request, 0, now_us, &RULE));
            for _ in 0..10 {
                now_us += RULE.gap_us;
                assert!(!arrivals.note(Some(B), Operation, 0, now_us, &RULE));
            }
        }
        assert!(arrivals.note(Some(B), Request, 0, now_us + RULE.gap_us, &RULE), "the third request");
        assert!(!arrivals.note(Some(B), Operation, 0, now_us + RULE.gap_us, &RULE), "said once an arrival");
        assert!(arrivals.still_call_to(B) && !Arrivals { ..arrivals }.still_call_to(C));
        assert!(!arrivals.note(None, Operation, 0, now_us + RULE.gap_us, &RULE));
        // C announces nothing.
        let at_c = [1, 2, 3].map(|n| arrivals.note(Some(C), Operation, 0, now_us + (1 + n) * RULE.gap_us, &RULE));
        assert_eq!(at_c, [false, false, true]);
    }

    #[test]
    fn a_request_that_does_not_end_is_followed_too() {
        let mut arrivals = Arrivals::default();
        assert!(!arrivals.note(Some(B), Request, 0, 0, &RULE));
        let followed = (1..).map(|n| n * 25_000).find(|at| arrivals.note(Some(B), Operation, 0, *at, &RULE));
        assert_eq!(followed, Some(2 * REQUEST_US_MAX));
    }

    /// How often a session follows, with so many operations a request, each an arrival of its own.
    fn follows(requests: impl Iterator<Item = Incarnation>, operations: u64) -> usize {
        let (mut owner, mut arrivals, mut now_us, mut follows) = (A, Arrivals::default(), 0, 0);
        for at in requests {
            for _ in 0..operations {
                now_us += RULE.gap_us;
                if arrivals.note((at != owner).then_some(at), Operation, 0, now_us, &RULE) {
                    (owner, arrivals, follows) = (at, Arrivals::of_newcomer(arrivals.restlessness()), follows + 1);
                }
            }
        }
        follows
    }

    #[test]
    fn a_session_whose_requests_are_spread_stays_in_the_end() {
        let spread = |operations| follows([A, B, C].into_iter().cycle().take(3_000), operations);
        // 3, 6, 12, 24, 48 in a row: as often as a request has more operations than that.
        assert_eq!([1, 2, 3, 4, 8, 20, 40].map(spread), [0, 0, 1, 1, 2, 3, 4]);
    }

    #[test]
    fn a_session_follows_clients_that_settle_again_after_they_did_not() {
        for restlessness in 0..=RESTLESSNESS_MAX {
            let mut arrivals = Arrivals::of_newcomer(restlessness);
            let at = |n: u64| n * RULE.gap_us;
            assert!((1..=100).all(|n| !arrivals.note(None, Operation, 0, at(n), &RULE)));
            let called = (101..).find(|n| arrivals.note(Some(B), Operation, 0, at(*n), &RULE));
            assert_eq!(called, Some(100 + (3 << restlessness)));
            assert_eq!(arrivals.restlessness(), 0, "after {restlessness}");
        }
    }

    #[test]
    fn a_session_follows_clients_that_settle_each_time() {
        let settling = [A, B, C].into_iter().cycle().take(30).flat_map(|at| std::iter::repeat_n(at, 100));
        assert_eq!(follows(settling, 1), 29);
    }

    #[test]
    fn only_following_makes_restless_and_it_has_a_bound() {
        let mut arrivals = Arrivals::of_newcomer(2);
        assert!(!arrivals.note(Some(B), Operation, 0, 0, &RULE) && arrivals.restlessness() == 2, "drained or rebalanced");
        let wild = Arrivals::of_newcomer(u8::MAX);
        assert_eq!((wild.restlessness(), Arrivals { called: true, elsewhere: 1, ..wild }.restlessness()), (8, 8));
        let mut long = Arrivals { here: u8::MAX, elsewhere: u8::MAX, ..Arrivals::default() };
        assert!(!long.note(None, Operation, 0, 1, &RULE));
        assert_eq!((long.here, long.elsewhere), (u8::MAX / 2 + 1, u8::MAX / 2));
    }
}

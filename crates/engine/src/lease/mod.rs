//! Leases: how long a member may answer, and when another may be declared dead.
//!
//! Never reads a clock: times are arguments in microseconds of CLOCK_BOOTTIME. Used by [`crate::node`]; the hot path compares
//! [`Lease::valid_until_us`] with its own clock.
//!
//! | who | may | until / when |
//! |---|---|---|
//! | the member | answer | **send** time of its last successful renewal + length − margin |
//! | a claimant | fence it | its renewals stood still for length + margin on the claimant's clock, and then: proof of death, or `lost_after` and the fence compares the renewals that were seen |
//!
//! Invariant: *no lease, no answer*. The receipt of a renewal says nothing: the answer may have been on its way for long.

use crate::bugs::{self, Bug};
use crate::directory::View;
use crate::ids::Incarnation;
use std::collections::HashMap;

/// The times of leases, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseTimes {
    /// How long a renewal is good for.
    pub length_us: u64,
    /// Taken off by the member and added by the claimant: what clocks may drift apart in one length.
    pub margin_us: u64,
    /// How long a member whose lease stood still is waited for without proof of death; `None`: for ever.
    pub lost_after_us: Option<u64>,
}

/// A member's own lease.
#[derive(Clone, Debug)]
pub struct Lease {
    times: LeaseTimes,
    valid_until_us: u64,
    asked_us: Option<u64>,
}

impl Lease {
    /// A lease that is not valid yet.
    pub fn new(times: LeaseTimes) -> Lease {
        Lease { times, valid_until_us: 0, asked_us: None }
    }

    /// Until when the member may answer.
    pub fn valid_until_us(&self) -> u64 {
        self.valid_until_us
    }

    /// Whether it may answer now.
    pub fn is_valid(&self, now_us: u64) -> bool {
        now_us < self.valid_until_us
    }

    /// Whether to send a renewal now: a quarter of the length after the last one, whether that was answered or not.
    pub fn due(&mut self, now_us: u64) -> bool {
        let due = self.asked_us.is_none_or(|at| now_us >= at + self.times.length_us / 4);
        if due {
            self.asked_us = Some(now_us);
        }
        due
    }

    /// A renewal that was sent at `sent_us` succeeded and its answer is here at `received_us`.
    pub fn renewed(&mut self, sent_us: u64, received_us: u64) {
        let from = if bugs::on(Bug::LeaseFromReceipt) { received_us } else { sent_us };
        self.valid_until_us = self.valid_until_us.max((from + self.times.length_us).saturating_sub(self.times.margin_us));
    }

    /// It will never be valid again.
    pub fn end(&mut self) {
        self.valid_until_us = 0;
    }
}

/// What a claimant may do about a member whose lease stands still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// Look for proof of its death.
    Probe(Incarnation),
    /// Fence it without proof, if it still has this count of renewals: `lost_after` has passed too.
    Fence(Incarnation, u64),
}

/// Watches the leases of others on this node's own clock.
#[derive(Clone, Debug)]
pub struct Watchdog {
    times: LeaseTimes,
    seen: HashMap<Incarnation, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    renewals: u64,
    since_us: u64,
    probed_us: u64,
}

impl Watchdog {
    /// One that has seen nothing.
    pub fn new(times: LeaseTimes) -> Watchdog {
        Watchdog { times, seen: HashMap::new() }
    }

    /// Takes note of a view.
    pub fn observe(&mut self, view: &View, me: Incarnation, now_us: u64) {
        for member in view.others(me) {
            let fresh = Seen { renewals: member.renewals, since_us: now_us, probed_us: now_us };
            let seen = self.seen.entry(member.incarnation).or_insert(fresh);
            if seen.renewals != member.renewals {
                *seen = fresh;
            }
        }
        self.seen.retain(|who, _| !view.is_dead(*who));
    }

    /// Forgets for how long anybody stood still: the claimant was not able to see it.
    pub fn restart(&mut self, now_us: u64) {
        for seen in self.seen.values_mut() {
            seen.since_us = now_us;
        }
    }

    /// What may be done now; a probe of one member is asked for at most every half length.
    pub fn claims(&mut self, now_us: u64) -> Vec<Claim> {
        let mut claims = Vec::new();
        let still = self.times.length_us + self.times.margin_us;
        for (who, seen) in &mut self.seen {
            let stood_us = now_us.saturating_sub(seen.since_us);
            if stood_us <= still || now_us.saturating_sub(seen.probed_us) < self.times.length_us / 2 {
                continue;
            }
            seen.probed_us = now_us;
            let given_up = self.times.lost_after_us.is_some_and(|after| stood_us > still + after);
            claims.push(if given_up { Claim::Fence(*who, seen.renewals) } else { Claim::Probe(*who) });
        }
        claims.sort_by_key(|c| match c {
            Claim::Probe(who) | Claim::Fence(who, _) => *who,
        });
        claims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: LeaseTimes = LeaseTimes { length_us: 1000, margin_us: 100, lost_after_us: None };

    #[test]
    fn a_lease_counts_from_the_time_of_sending() {
        let mut lease = Lease::new(TIMES);
        assert!(!lease.is_valid(0));
        assert!(lease.due(10));
        assert!(!lease.due(259));
        assert!(lease.due(260));
        lease.renewed(10, 5000);
        assert!(lease.is_valid(909));
        assert!(!lease.is_valid(910));
        lease.renewed(5, 5000);
        assert_eq!(lease.valid_until_us(), 910, "an older renewal shortens nothing");
    }
}

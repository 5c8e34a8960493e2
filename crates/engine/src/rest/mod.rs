//! Sessions at rest: what the upstream has of a session, what it lacks, and what is asked of it.
//!
//! It never talks to an upstream and never decides an owner: [`crate::node`] does, with the parts that are here. Kinds of keys
//! appear in [`content`] alone, one arm each.
//!
//! | file | |
//! |---|---|
//! | [`content`] | a key's value as the upstream has it, and as a session has it |
//! | [`change`] | what is loaded and stored, with the outcomes |
//! | [`copy`] | what the upstream has of one session: dirty, due, in flight |
//! | [`debts`] | what a handover owes |
//! | [`check_in`] | the table of a check-in |
//!
//! Invariant: *a crash loses at most what policy allows*: what is not in the upstream has a deadline from the instant of its write.

pub mod change;
pub mod check_in;
pub mod content;
pub mod copy;
pub mod debts;

use crate::plan::Impact;

/// Deadlines and bounds of sessions at rest. Times in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestSettings {
    /// Deadline of impact `high`.
    pub high_us: u64,
    /// Deadline of impact `medium`.
    pub medium_us: u64,
    /// Deadline of impact `low`.
    pub low_us: u64,
    /// Batches under way at once, those of check-ins and ends included.
    pub in_flight_max: usize,
    /// First pause after the upstream failed; doubled up to [`RestSettings::pause_us_max`].
    pub pause_us: u64,
    /// The longest pause.
    pub pause_us_max: u64,
    /// Sessions that check in at the same time.
    pub check_ins_max: usize,
}

impl RestSettings {
    /// How far behind a variable may be.
    pub fn deadline_us(&self, impact: Impact) -> u64 {
        match impact {
            Impact::Critical => 0,
            Impact::High => self.high_us,
            Impact::Medium => self.medium_us,
            Impact::Low => self.low_us,
        }
    }

    /// The pause after one more failure, when there have been `failures` in a row before.
    pub fn pause_after_us(&self, failures: u32) -> u64 {
        self.pause_us.saturating_mul(1 << failures.min(16)).min(self.pause_us_max)
    }
}

/// All impacts, the most urgent first.
pub const IMPACTS: [Impact; 4] = [Impact::Critical, Impact::High, Impact::Medium, Impact::Low];

/// One value for each impact.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ByImpact<T>(pub [T; 4]);

impl<T> ByImpact<T> {
    /// The one of `impact`.
    pub fn of(&mut self, impact: Impact) -> &mut T {
        let [critical, high, medium, low] = &mut self.0;
        match impact {
            Impact::Critical => critical,
            Impact::High => high,
            Impact::Medium => medium,
            Impact::Low => low,
        }
    }

    /// Impacts with their values, the most urgent first.
    pub fn iter(&self) -> impl Iterator<Item = (Impact, &T)> {
        IMPACTS.into_iter().zip(&self.0)
    }
}

/// Since when something of an impact is unwritten.
pub type Since = ByImpact<Option<u64>>;

impl Since {
    /// Something of `impact` changed at `at_us`; the older instant stays.
    pub fn note(&mut self, impact: Impact, at_us: u64) {
        let place = self.of(impact);
        *place = Some(place.map_or(at_us, |before| before.min(at_us)));
    }

    /// Takes over what `other` knows.
    pub fn merge(&mut self, other: Since) {
        for (impact, at_us) in other.iter() {
            if let Some(at_us) = at_us {
                self.note(impact, *at_us);
            }
        }
    }

    /// Whether something of impact `critical` is unwritten.
    pub fn owes_critical(&self) -> bool {
        self.iter().any(|(impact, at_us)| impact == Impact::Critical && at_us.is_some())
    }

    /// Whether nothing is unwritten.
    pub fn is_clean(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// When the first of it is due.
    pub fn due_us(&self, settings: &RestSettings) -> Option<u64> {
        self.iter().filter_map(|(impact, at)| at.map(|at| at.saturating_add(settings.deadline_us(impact)))).min()
    }
}

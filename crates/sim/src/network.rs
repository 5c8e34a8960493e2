//! What becomes of a message or a request: lost, slow, cut off, or in time. Each has its own fate, so they overtake one another.
//!
//! It never delivers anything: the world does, when the time that is given here has come.

use crate::profile::{DIRECTORY_PATIENCE_US, Profile};
use crate::random::Random;
use std::collections::BTreeMap;

/// What becomes of a request to the directory. Times from now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fate {
    /// When it is applied; `None`: never.
    pub applied_us: Option<u64>,
    /// When its answer arrives; `None`: an unknown outcome is reported after the asker's patience.
    pub answered_us: Option<u64>,
}

/// Which pairs of hosts cannot talk.
#[derive(Clone, Debug, Default)]
pub struct Network {
    parted: BTreeMap<(usize, usize), u64>,
}

impl Network {
    /// Parts two hosts until a time.
    pub fn part(&mut self, one: usize, other: usize, until_us: u64) {
        self.parted.insert((one.min(other), one.max(other)), until_us);
    }

    /// Ends all partitions.
    pub fn heal(&mut self) {
        self.parted.clear();
    }

    /// How long a message takes; `None`: it is lost.
    pub fn carry(&self, from: usize, to: usize, now_us: u64, profile: &Profile, random: &mut Random) -> Option<u64> {
        let parted = self.parted.get(&(from.min(to), from.max(to))).is_some_and(|until| *until > now_us);
        if parted || random.chance(profile.lost) {
            return None;
        }
        Some(if random.chance(profile.slow) { random.between(5_000, 120_000) } else { random.between(100, 3_000) })
    }
}

/// What becomes of a request.
pub fn fate(profile: &Profile, random: &mut Random) -> Fate {
    let slowest_us = if random.chance(profile.slow) { 25_000 } else { 3_000 };
    let applied_us = random.between(200, slowest_us);
    let slowest_us = if random.chance(profile.slow_answers) { 50_000 } else { 2_000 };
    let answer_us = applied_us + random.between(200, slowest_us);
    let answered_us = Some(answer_us).filter(|at| *at < DIRECTORY_PATIENCE_US);
    if random.chance(profile.unasked) {
        return Fate { applied_us: None, answered_us: None };
    }
    if random.chance(profile.belated) {
        return Fate { applied_us: Some(random.between(DIRECTORY_PATIENCE_US, 1_200_000)), answered_us: None };
    }
    Fate { applied_us: Some(applied_us), answered_us: answered_us.filter(|_| !random.chance(profile.unanswered)) }
}

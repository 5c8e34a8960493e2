//! One run: a storm, then calm, until everything is quiet or an invariant is broken.
//!
//! It never prints. Called by the program and by the tests. The same seed gives the same report, hash included.

use crate::coverage::Coverage;
use crate::world::{Violation, World};

/// How long everything may take to become quiet after it has healed.
const CALM_US_MAX: u64 = 8_000_000;
/// How often it is looked at.
const LOOK_US: u64 = 100_000;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The first broken invariant.
    pub violation: Option<Violation>,
    /// Events until then.
    pub events: u64,
    /// What happened.
    pub coverage: Coverage,
    /// Of the whole log.
    pub hash: u64,
    /// The log, if it was kept.
    pub log: Vec<String>,
}

/// Runs `seed` for at most `events_max` events; with `keep_log` the log is kept.
pub fn run(seed: u64, events_max: u64, keep_log: bool) -> Report {
    let mut world = World::new(seed, keep_log);
    let healed_us = world.profile.stormy_us;
    let mut look_us = healed_us + LOOK_US;
    while world.violation.is_none() && world.coverage.events < events_max {
        if world.now_us >= healed_us && !world.calm {
            world.heal();
        }
        if world.now_us >= look_us {
            look_us = world.now_us + LOOK_US;
            match world.unrest() {
                None => break,
                Some(what) if world.now_us > healed_us + CALM_US_MAX => world.violate_quiet(what),
                Some(_) => {}
            }
        }
        if !world.step() {
            break;
        }
    }
    Report {
        seed,
        violation: world.violation,
        events: world.coverage.events,
        coverage: world.coverage,
        hash: world.trace.hash(),
        log: world.trace.lines().to_vec(),
    }
}

//! A fixed set of seeds holds, something happens in them, and a seed is a whole run.

use wayfarer_sim::coverage::Coverage;
use wayfarer_sim::run::run;

#[test]
fn two_hundred_seeds_hold_and_everything_happens_in_them() {
    let mut coverage = Coverage::default();
    for seed in 0..200 {
        let report = run(seed, u64::MAX, false);
        assert_eq!(report.violation, None, "seed {seed}, event {}; replay: make sim SEED={seed}", report.events);
        coverage.add(&report.coverage);
    }
    println!("{coverage}");
    let never: Vec<&str> = coverage.all().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
    assert!(never.is_empty(), "never happened: {never:?}");
    assert!(coverage.answered > 10 * (coverage.failed + coverage.unknown) / 4, "most operations fail: {coverage}");
}

/// Fresh seeds of the gate that once broke an invariant.
#[test]
fn seeds_that_were_broken_hold() {
    for seed in [347_923_320_689, 1_063_058_371_865, 166_070_008_349, 42_561_404_857] {
        let report = run(seed, u64::MAX, false);
        assert_eq!(report.violation, None, "seed {seed}, event {}; replay: make sim SEED={seed}", report.events);
    }
}

#[test]
fn a_seed_is_a_whole_run() {
    for seed in [1, 77, 4_000_000_000] {
        let (one, other) = (run(seed, u64::MAX, false), run(seed, u64::MAX, true));
        assert_eq!((one.hash, one.events, one.coverage), (other.hash, other.events, other.coverage), "seed {seed}");
        assert!(!other.log.is_empty() && one.log.is_empty());
    }
    assert_ne!(run(1, u64::MAX, false).hash, run(2, u64::MAX, false).hash);
}

//! The program: runs fresh seeds, or replays one, and says how to see a failure again.
//!
//! It never decides what holds: the library does. `make sim` calls it; so does continuous integration.
//! Exit codes: 0 everything held, 1 an invariant was broken, 2 the command line is wrong.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use wayfarer_engine::bugs::{Bug, switch};
use wayfarer_sim::coverage::Coverage;
use wayfarer_sim::run::{Report, run};

const USAGE: &str = "usage: wayfarer-sim [--seed N] [--seeds COUNT] [--steps N] [--seconds S] [--bug NAME] [--trace]
  --seed N       the first seed; without it a fresh one
  --seeds COUNT  how many seeds, one after the other (1 with --seed, else as many as the time allows)
  --steps N      at most so many events a seed
  --seconds S    stop after so many seconds (30)
  --bug NAME     switch a deliberate bug on: ask-instead-of-fence, skip-group-condition, answer-while-frozen, reuse-epochs,
                 lease-from-receipt, guard-ignored, check-in-before-flush, outcomes-of-other-keys, claim-in-any-mode,
                 confirm-under-way, confirm-unsettled, rename-in-halves
  --trace        print the whole log of each seed";
/// Lines of the log that are shown with a failure.
const TAIL_LINES: usize = 120;
/// Seeds between two lines of progress.
const PROGRESS_SEEDS: u64 = 100;

struct Options {
    seed: Option<u64>,
    seeds: Option<u64>,
    steps: u64,
    seconds: u64,
    bug: Option<(Bug, String)>,
    trace: bool,
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { seed: None, seeds: None, steps: u64::MAX, seconds: 30, bug: None, trace: false };
    let mut arguments = arguments.peekable();
    while let Some(name) = arguments.next() {
        if name == "--trace" {
            options.trace = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} is unknown or lacks its value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name}: {value:?} is no number"));
        match name.as_str() {
            "--seed" => options.seed = Some(number()?),
            "--seeds" => options.seeds = Some(number()?),
            "--steps" => options.steps = number()?,
            "--seconds" => options.seconds = number()?,
            "--bug" => options.bug = Some((bug(&value).ok_or_else(|| format!("there is no bug {value:?}"))?, value.clone())),
            _ => return Err(format!("{name} is unknown")),
        }
    }
    Ok(options)
}

/// A bug by its name, as the usage writes it.
fn bug(name: &str) -> Option<Bug> {
    let plain = |text: &str| text.replace('-', "").to_ascii_lowercase();
    Bug::ALL.into_iter().find(|bug| name.contains('-') && plain(&format!("{bug:?}")) == plain(name))
}

#[allow(clippy::disallowed_methods, reason = "the program bounds its own running time; no run looks at a clock")]
fn started() -> Instant {
    Instant::now()
}

fn show_failure(report: &Report, options: &Options) {
    let Some(violation) = &report.violation else { return };
    // The log stops at the first broken invariant, so its end is what led there.
    let log = run(report.seed, options.steps, true).log;
    let skipped = log.len().saturating_sub(TAIL_LINES);
    if skipped > 0 && !options.trace {
        println!("… {skipped} lines before (--trace shows them)");
    }
    for line in log.iter().skip(if options.trace { 0 } else { skipped }) {
        println!("{line}");
    }
    println!("seed {}: \"{}\" is broken after {} events: {}", report.seed, violation.invariant, report.events, violation.what);
    match &options.bug {
        None => println!("replay: make sim SEED={}", report.seed),
        Some((_, name)) => println!("replay: cargo run --package wayfarer-sim -- --seed {} --bug {name}", report.seed),
    }
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("wayfarer-sim: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    switch(options.bug.as_ref().map(|(bug, _)| *bug));
    // Small numbers are easier to type; a run of consecutive seeds is as good as any other.
    let first = options.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 24);
    let count = options.seeds.unwrap_or(if options.seed.is_some() { 1 } else { u64::MAX });
    println!("seeds from {first}");
    let (began, limit) = (started(), Duration::from_secs(options.seconds));
    let (mut done, mut coverage) = (0, Coverage::default());
    while done < count && (done == 0 || began.elapsed() < limit) {
        let seed = first.wrapping_add(done);
        let report = run(seed, options.steps, options.trace);
        done += 1;
        coverage.add(&report.coverage);
        if report.violation.is_some() {
            show_failure(&report, &options);
            return ExitCode::FAILURE;
        }
        report.log.iter().for_each(|line| println!("{line}"));
        if done % PROGRESS_SEEDS == 0 {
            println!("{done} seeds up to {seed}, {} events, {} s", coverage.events, began.elapsed().as_secs());
        }
    }
    println!("{done} seeds from {first}, every invariant held");
    println!("{coverage}");
    ExitCode::SUCCESS
}

//! Wayfarer beside redis-server, and beside proxies, on this machine, in one call: CPU, throughput, latency, memory, births, misses,
//! size, requests.
//!
//! It never compares figures of different calls, and leaves nothing behind. `make bench-compare` builds the release binary and
//! runs this; `docs/performance.md` says what the figures mean.
//!
//! ```text
//! wayfarer-compare [--quick] [--json FILE] [--only operations,memory,births,million,http,service] [--binary PATH]
//!                  [--envoy PATH] [--bare PATH]
//! ```
//! | exit code | |
//! |---|---|
//! | 0 | measured; the table says which goals are met |
//! | 1 | a measurement failed |
//! | 2 | wrong arguments, or too few CPUs |

mod clock;
mod http;
mod load;
mod measure;
mod operations;
mod report;
mod servers;
mod service;
mod sessions;
mod wire;

use std::process::ExitCode;

const USAGE: &str = "usage: wayfarer-compare [--quick] [--json FILE] [--only operations,memory,births,million,http,service] [--binary PATH] [--envoy PATH] [--bare PATH]";
/// The last one only where it is named.
const PARTS: [&str; 6] = ["operations", "memory", "births", "million", "http", "service"];

/// What is measured, and how long.
pub struct Plan {
    /// The release binary of Wayfarer.
    binary: String,
    /// The proxies that are compared with and are in no package of Debian.
    envoy: String,
    bare: String,
    /// The CPUs that may be used.
    cpus: Vec<String>,
    runs: usize,
    /// Of one measurement.
    seconds: f64,
    /// Keys of each type.
    keys: u64,
    /// Sessions whose memory is measured.
    sessions: u64,
    /// The large number of sessions.
    many: u64,
    parts: Vec<String>,
    json: Option<String>,
}

fn plan(words: &[String]) -> Result<Plan, String> {
    let mut plan = Plan {
        binary: "target/release/wayfarer".to_owned(),
        envoy: "target/clients/venv/bin/envoy".to_owned(),
        bare: "target/compare/release/wayfarer-compare-bare".to_owned(),
        cpus: cpus()?,
        runs: 5,
        seconds: 1.0,
        keys: 20_000,
        sessions: 100_000,
        many: 1_000_000,
        parts: PARTS.iter().filter(|part| **part != "service").map(|part| (*part).to_owned()).collect(),
        json: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().ok_or(format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--quick" => (plan.runs, plan.seconds, plan.keys, plan.many) = (3, 0.4, 5_000, 100_000),
            "--json" => plan.json = Some(value()?),
            "--only" => plan.parts = value()?.split(',').map(str::to_owned).collect(),
            "--binary" => plan.binary = value()?,
            "--envoy" => plan.envoy = value()?,
            "--bare" => plan.bare = value()?,
            other => return Err(format!("what is {other}?\n{USAGE}")),
        }
    }
    if let Some(part) = plan.parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(format!("there is no part {part}\n{USAGE}"));
    }
    // Programs run in folders of their own.
    let whole = |path: &str, remedy: &str| match std::fs::canonicalize(path) {
        Ok(path) => Ok(path.to_string_lossy().into_owned()),
        Err(error) => Err(format!("{path}: {error}; {remedy}")),
    };
    plan.binary = whole(&plan.binary, "build it: cargo build --release --package wayfarer")?;
    if plan.parts.iter().any(|part| part == "http") {
        plan.envoy = whole(&plan.envoy, "make clients installs it")?;
        plan.bare = whole(&plan.bare, "make bench-compare builds it")?;
    }
    Ok(plan)
}

/// The CPUs that this process may run on.
fn cpus() -> Result<Vec<String>, String> {
    let set = rustix::thread::sched_getaffinity(None).map_err(|e| format!("which CPUs: {e}"))?;
    let cpus: Vec<String> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).map(|cpu| cpu.to_string()).collect();
    if cpus.len() < 2 { Err("two CPUs are needed: one for the server and one for its load".to_owned()) } else { Ok(cpus) }
}

fn compare(plan: &Plan) -> Result<(), String> {
    let mut report = report::Report::default();
    let wanted = |part: &str| plan.parts.iter().any(|wanted| wanted == part);
    let mut found = Ok(());
    if wanted("operations") {
        found = found.and_then(|()| operations::compare(plan, &mut report));
    }
    if wanted("memory") {
        found = found.and_then(|()| sessions::memory(plan, &mut report));
    }
    if wanted("births") {
        found = found.and_then(|()| sessions::births_and_misses(plan, &mut report));
    }
    if wanted("million") {
        found = found.and_then(|()| sessions::million(plan, &mut report));
    }
    if wanted("http") {
        found = found.and_then(|()| http::compare(plan, &mut report));
    }
    if wanted("service") {
        found = found.and_then(|()| service::compare(plan, &mut report));
    }
    // What was measured before a failure is worth showing.
    let all = report.print();
    let verdict = match (all && found.is_ok(), plan.parts.iter().all(|part| part == "service")) {
        (true, true) => "measured; a service has no goals, for what it pays depends on where its Redis is",
        (true, false) => "all goals that were measured are met",
        (false, _) => "not all goals are met",
    };
    println!("\n{verdict}");
    if let Some(file) = &plan.json {
        std::fs::write(file, format!("{:#}\n", report.json())).map_err(|e| format!("{file}: {e}"))?;
    }
    found
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.split_first() {
        Some((first, rest)) if first == "load" => match measure::load_of(rest) {
            Some(load) => load::run(&load).map(|found| println!("{found}")),
            None => Err("unreadable load".to_owned()),
        },
        _ => match plan(&words) {
            Ok(plan) => compare(&plan),
            Err(mistake) => {
                eprintln!("{mistake}");
                return ExitCode::from(2);
            }
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wayfarer-compare: {error}");
            ExitCode::FAILURE
        }
    }
}

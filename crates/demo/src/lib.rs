//! The demonstration: an example shop, a balancer that knows nothing, virtual users and a report.
//!
//! It never looks inside a sidecar: it starts the real program as processes, talks HTTP to it and reads its admin interface, as
//! an operator would. The command line calls [`run`] for `wayfarer demo` and [`shop::run`] for `wayfarer shop`.
//!
//! ```text
//! users ──HTTP──► balancer ──HTTP──► sidecar a ──► shop a ──Redis protocol──► sidecar a
//! (know what they        └────────► sidecar b …                 (state face)   ▲ control channel ▼
//!  must read back)       └────────► sidecar c …                               sidecars b, c
//! ```
//! | module | knows |
//! |---|---|
//! | `model`, `value`, `random` | what a session holds, and how each byte follows from the seed |
//! | `shop` | the service, with its session in "Redis" |
//! | `users` | who does what when, and what every answer must contain |
//! | `balancer` | round robin, nothing else |
//! | `stage` | nodes as processes, their status and moves |
//! | `run`, `display`, `report`, `percentile` | the play, what is shown meanwhile, what came of it |
//! | `world` | clock and tasks |
//!
//! Invariant: exit code 0 means that no request failed, no acknowledged write was lost, no read was stale, sessions moved, and,
//! if enough sessions moved to tell, variables were fetched late. Exit code 2 means that nothing was started.

pub mod balancer;
mod display;
pub mod model;
mod percentile;
pub mod random;
mod report;
mod run;
pub mod shop;
pub mod stage;
pub mod users;
pub mod value;
pub mod world;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::display::{Screen, say};
use crate::report::{Asked, Report};
use crate::run::{Outcome, RunPlan, SoFar, play};
use crate::stage::config::MovePlan;
use crate::users::Crowd;

/// The exit code when nothing was started, the same as for a wrong option.
const EXIT_NOT_STARTED: u8 = 2;

/// Options of `wayfarer demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Length of the measured part in seconds; the run for reference takes about half of it again.
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(4..=600))]
    pub seconds: u32,
    /// Virtual users, each with 1.5 requests a second on average.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub users: u32,
    /// Print plain lines instead of redrawing a block.
    #[arg(long)]
    pub headless: bool,
    /// Write the result to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Fixes users, sizes and due times.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// No variable of a session is larger than this, in bytes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(64..=65_536))]
    pub max_variable_bytes: Option<u32>,
    /// The program that is started as node and as shop; this one by default.
    #[arg(long, value_name = "FILE", hide = true)]
    pub node_binary: Option<PathBuf>,
    /// Keep the working folder with the nodes' configurations and logs.
    #[arg(long)]
    pub keep: bool,
}

/// Runs the demonstration and gives 0 only if all is well.
pub async fn run(args: DemoArgs) -> ExitCode {
    // Opened before anything runs: nobody should wait for a result that has no place to go.
    let json = match args.json.as_deref().map(open_result).transpose() {
        Ok(json) => json,
        Err(message) => {
            complain(&message);
            return ExitCode::from(EXIT_NOT_STARTED);
        }
    };
    let folder = match tempfile::Builder::new().prefix("wayfarer-demo-").tempdir() {
        Ok(folder) => folder,
        Err(error) => return fail(&format!("no working folder: {error}")),
    };
    let (measured, reference) = (SoFar::default(), SoFar::default());
    let outcome = tokio::select! {
        outcome = demonstrate(&args, folder.path(), &measured, &reference) => outcome,
        () = told_to_end() => Err("interrupted".into()),
    };
    let outcome = outcome.map_err(|why| match (measured.outcome(), reference.outcome()) {
        (_, Some((_, phase))) => format!("{why}, in the phase {:?} of the run for reference", phase.name()),
        (Some((_, phase)), None) => format!("{why}, in the phase {:?} of the measured run", phase.name()),
        (None, None) => why,
    });
    // A script must find out of the file, too, that there is no whole result, and not read an older one.
    let written = json.map_or(Ok(()), |json| match &outcome {
        Ok(report) => json.write(report),
        Err(why) => {
            let found = |run: &SoFar| run.outcome().map(|(outcome, _)| outcome).unwrap_or_default();
            json.write(&Report::unfinished(asked(&args), &found(&measured), &found(&reference), why))
        }
    });
    let outcome = written.and(outcome);
    if args.keep {
        say(&format!("Working folder: {}", folder.keep().display()));
    }
    match outcome {
        Ok(report) if report.ok => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => fail(&message),
    }
}

fn asked(args: &DemoArgs) -> Asked {
    Asked { seed: args.seed, users: args.users, variable_bytes_max: args.max_variable_bytes }
}

async fn demonstrate(args: &DemoArgs, folder: &Path, measured: &SoFar, carrying: &SoFar) -> Result<Report, String> {
    let binary = match &args.node_binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?,
    };
    let variable_bytes_max = args.max_variable_bytes.unwrap_or(u32::MAX);
    let plan = RunPlan {
        seconds: f64::from(args.seconds),
        crowd: Crowd { users: args.users, seed: args.seed, variable_bytes_max },
        moves: MovePlan::Light,
        with_after: true,
        binary,
        screen: Screen::choose(args.headless),
    };
    // Starts, logins and the read back take about ten seconds in each run.
    let about_s = args.seconds.saturating_mul(8) / 5 + 20;
    say(&format!(
        "Two nodes of a shop, {} users behind a round-robin balancer; a third node joins and takes its share, then the first is\n\
         drained. Every user checks every answer. Then the same once more, carrying everything, to compare. About {about_s} s.",
        args.users
    ));
    let outcome = play_in(&plan, &folder.join("run"), measured).await?;
    say("Now the same seed with a plan that carries everything, for comparison.");
    let reference = RunPlan { moves: MovePlan::Everything, with_after: false, ..plan };
    let reference = play_in(&reference, &folder.join("reference"), carrying).await?;
    let report = Report::new(asked(args), &outcome, &reference);
    say(&report.table());
    Ok(report)
}

/// The file for the result and its name.
struct ResultFile {
    path: PathBuf,
    file: File,
}

/// Opens the file for the result, which keeps what it holds until there is a result.
fn open_result(path: &Path) -> Result<ResultFile, String> {
    if path.as_os_str() == "-" {
        return Err("--json wants a file, and standard output shows the demonstration; /dev/fd/3 is one, for example".to_owned());
    }
    let file = File::options().write(true).create(true).truncate(false).open(path);
    let file = file.map_err(|error| format!("cannot write --json {}: {error}", path.display()))?;
    Ok(ResultFile { path: path.to_owned(), file })
}

impl ResultFile {
    fn write(mut self, report: &impl serde::Serialize) -> Result<(), String> {
        let text = serde_json::to_string_pretty(report).map_err(|error| error.to_string())? + "\n";
        // A pipe or a device has no length to cut.
        let cut = self.file.metadata().and_then(|kind| if kind.is_file() { self.file.set_len(0) } else { Ok(()) });
        let written = cut.and_then(|()| self.file.write_all(text.as_bytes()));
        written.map_err(|error| format!("cannot write --json {}: {error}", self.path.display()))
    }
}

async fn play_in(plan: &RunPlan, folder: &Path, so_far: &SoFar) -> Result<Outcome, String> {
    std::fs::create_dir(folder).map_err(|error| format!("no working folder: {error}"))?;
    play(plan, folder, so_far).await
}

fn fail(message: &str) -> ExitCode {
    complain(message);
    ExitCode::FAILURE
}

/// Writes to standard error, which is gone, without harm, when the terminal has been closed.
fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "demo: {message}");
}

/// Resolves at SIGTERM and SIGINT, and at SIGHUP: when its terminal is closed, nothing may stay behind.
async fn told_to_end() {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) = signals else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => (), _ = int.recv() => (), _ = hup.recv() => () }
}

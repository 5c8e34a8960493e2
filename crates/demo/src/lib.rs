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
//! Invariant: exit code 0 means that no request failed, no acknowledged write was lost, no read was stale, sessions moved, and
//! variables were fetched late.

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

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::display::{Screen, say};
use crate::report::{Asked, Report};
use crate::run::{Outcome, RunPlan, play};
use crate::stage::config::MovePlan;
use crate::users::Crowd;

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
    let folder = match tempfile::Builder::new().prefix("wayfarer-demo-").tempdir() {
        Ok(folder) => folder,
        Err(error) => return fail(&format!("no working folder: {error}")),
    };
    let outcome = tokio::select! {
        outcome = demonstrate(&args, folder.path()) => outcome,
        () = told_to_end() => Err("interrupted".into()),
    };
    if args.keep {
        say(&format!("Working folder: {}", folder.keep().display()));
    }
    match outcome {
        Ok(report) if report.ok => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => fail(&message),
    }
}

async fn demonstrate(args: &DemoArgs, folder: &std::path::Path) -> Result<Report, String> {
    let binary = match &args.node_binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?,
    };
    let asked = Asked { seed: args.seed, users: args.users, variable_bytes_max: args.max_variable_bytes };
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
    let outcome = play_in(&plan, &folder.join("run")).await?;
    say("Now the same seed with a plan that carries everything, for comparison.");
    let reference = RunPlan { moves: MovePlan::Everything, with_after: false, ..plan };
    let reference = play_in(&reference, &folder.join("reference")).await?;
    let report = Report::new(asked, &outcome, &reference);
    say(&report.table());
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        std::fs::write(file, text + "\n").map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(report)
}

async fn play_in(plan: &RunPlan, folder: &std::path::Path) -> Result<Outcome, String> {
    std::fs::create_dir(folder).map_err(|error| format!("no working folder: {error}"))?;
    play(plan, folder).await
}

fn fail(message: &str) -> ExitCode {
    eprintln!("demo: {message}");
    ExitCode::FAILURE
}

async fn told_to_end() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => (), _ = int.recv() => () }
}

//! `wayfarer init --redis URL`: looks at the Redis of a service, names its session library, and writes a configuration.
//!
//! It never writes to that Redis, and what it prints and writes holds no session id, value or password. `sample` looks, `library`
//! names, `report` words; here is the order of things and the exit code: 0 written, 1 nothing found or no Redis, 2 usage.
//!
//! Invariant: an existing file is only replaced with `--force`, and a configuration that `wayfarer check` would refuse is never
//! written.

mod client;
mod library;
mod report;
mod sample;
mod sniff;

use super::{USAGE, put};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use wayfarer_settings::{Settings, Sources, Upstream};

/// Most keys that may be looked at.
const SAMPLES_MAX: usize = 100_000;
/// Longest look, in seconds.
const SECONDS_MAX: u64 = 3600;

#[derive(Args)]
pub(super) struct InitArgs {
    /// The Redis that holds the sessions now: redis://[user:password@]host[:port], or rediss, redis-sentinel, redis+cluster
    #[arg(long, value_name = "URL")]
    redis: String,
    /// How many keys to look at
    #[arg(long, value_name = "N", default_value_t = 1000)]
    samples: usize,
    /// How long to look at most
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u64,
    /// Where the configuration goes
    #[arg(long, value_name = "FILE", default_value = "wayfarer.toml")]
    out: PathBuf,
    /// Replace that file
    #[arg(long)]
    force: bool,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

fn usage(line: &str) -> ExitCode {
    complain!("wayfarer: {line}");
    ExitCode::from(USAGE)
}

fn failed(line: &str) -> ExitCode {
    complain!("wayfarer: {line}");
    ExitCode::FAILURE
}

pub(super) async fn init(args: InitArgs) -> ExitCode {
    let upstream = match Upstream::parse(&args.redis) {
        Ok(upstream) => upstream,
        Err(complaint) => return usage(&format!("--redis: {}; {}", complaint.message, complaint.remedy)),
    };
    if !(1..=SAMPLES_MAX).contains(&args.samples) || !(1..=SECONDS_MAX).contains(&args.seconds) {
        return usage(&format!("--samples is 1 to {SAMPLES_MAX}, --seconds 1 to {SECONDS_MAX}"));
    }
    if args.out.exists() && !args.force {
        return usage(&format!("{} exists: name another file with --out, or replace it with --force", args.out.display()));
    }
    let bounds = sample::Bounds { samples: args.samples, time: Duration::from_secs(args.seconds) };
    let seen = match look(&upstream, &bounds).await {
        Ok(seen) => seen,
        Err(why) => return failed(&why),
    };
    let (found, rest) = library::find(&seen);
    let lines = report::lines(&seen, &found, &rest);
    let mut json = report::as_json(&seen, &found, &rest);
    let outcome = if found.is_empty() {
        Err(nothing_found(&seen))
    } else {
        write(&args.out, args.force, &report::configuration(&found, &upstream))
    };
    put(&mut json, "written", outcome.as_ref().ok().map(|()| args.out.display().to_string()));
    if args.json {
        say!("{json}");
    } else {
        lines.iter().for_each(|line| say!("{line}"));
    }
    match outcome {
        Err(why) => failed(&why),
        Ok(()) => {
            if !args.json {
                say!("\nwritten: {0}; next: wayfarer check -c {0}", args.out.display());
            }
            ExitCode::SUCCESS
        }
    }
}

async fn look(upstream: &Upstream, bounds: &sample::Bounds) -> Result<sample::Seen, String> {
    let mut client = client::Client::connect(upstream).await?;
    sample::look(&mut client, bounds).await
}

fn nothing_found(seen: &sample::Seen) -> String {
    if seen.databases.iter().all(|database| database.keys == 0) {
        return "the Redis is empty: let a few users of your service log in, then run this again; nothing was written".to_owned();
    }
    "no key looks like a session's; if the library writes none of the forms in docs/presets.md, write [state] keys by hand; \
     nothing was written"
        .to_owned()
}

/// Writes the configuration, if it is right.
fn write(path: &Path, force: bool, text: &str) -> Result<(), String> {
    let sources =
        Sources { file: Some((path.display().to_string(), text.to_owned())), host_name: "node".to_owned(), ..Sources::default() };
    if let Err(mistakes) = Settings::load(&sources) {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        return Err(format!("the configuration for these keys would not be right; nothing was written:\n{}", lines.join("\n")));
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(force).create_new(!force);
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests;

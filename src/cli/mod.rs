//! The command line: one file a command; the exit code is 0 fine, 1 failed, 2 usage or configuration.
//!
//! It decides nothing: `run` goes to the composition root, the questions go to the admin interface of a running sidecar.

/// Says on standard error what is wrong, or how far something is.
macro_rules! complain {
    ($($words:tt)*) => {
        $crate::cli::print_complaint(format_args!($($words)*))
    };
}

/// Prints a line. A reader who has seen enough (`wayfarer sessions | head`) is no error.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::print_line(format_args!($($words)*))
    };
}

mod ask;
mod check;
mod configuration;
mod init;
mod instance;
mod mode;
mod named;
mod redirect;
mod taken;

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

fn print_line(line: std::fmt::Arguments<'_>) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}")
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        complain!("wayfarer: the answer cannot be written: {error}");
    }
}

/// Where nobody reads standard error any more there is nobody to tell so, and what is to be done is done all the same.
fn print_complaint(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A sidecar's threads where nothing else is said.
const WORKERS_MIN: usize = 2;
/// Usage or configuration is wrong.
const USAGE: u8 = 2;

/// Lets the sessions of a stateful service travel between its instances.
#[derive(Parser)]
#[command(name = "wayfarer", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The sidecar, beside one instance (and, with --, the instance itself)
    Run(RunArgs),
    /// All of it on this machine: a shop, its sidecars, users, a scale-out and a drain
    Demo(wayfarer_demo::DemoArgs),
    /// Look at a Redis, name its session library, write a configuration
    Init(init::InitArgs),
    /// Every mistake of a configuration, with line and remedy; what a key or a request is taken for
    Check(check::CheckArgs),
    /// What a running sidecar is doing
    Status(ask::AskArgs),
    /// The sessions of a running sidecar, by keyed hash
    Sessions(ask::SessionsArgs),
    /// Give every accepting member its share of the sessions
    Rebalance(ask::AskArgs),
    /// Send every session of a sidecar to rest in the upstream; they come back when they are used
    Checkin(ask::CheckInArgs),
    /// The mode of the cluster: observe (the upstream answers for sessions), own (their owners do); without one, show it
    Mode(mode::ModeArgs),
    /// Take no more sessions (--off: take them again)
    Cordon(ask::CordonArgs),
    /// Give every session away and end
    Drain(ask::DrainArgs),
    /// The rules that bring a service's connections here though it is not configured: print, apply or remove them
    Redirect(redirect::RedirectArgs),
    /// The example shop of the demo
    #[command(hide = true)]
    Shop,
    /// The instance's command, in a process that ends with its sidecar
    #[command(hide = true)]
    Instance(instance::InstanceArgs),
}

/// Where the configuration comes from.
#[derive(Args, Clone)]
struct ConfigurationArgs {
    /// Configuration file (TOML); without one the defaults hold
    #[arg(short = 'c', long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, over file and environment; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Args)]
struct RunArgs {
    /// Address of the instance
    #[arg(long, value_name = "IP:PORT")]
    app: Option<String>,
    #[command(flatten)]
    configuration: ConfigurationArgs,
    /// The instance's command; it finds PORT and REDIS_URL in its environment
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Sets a member of an answer in JSON.
fn put(answer: &mut serde_json::Value, name: &str, value: impl Into<serde_json::Value>) {
    if let serde_json::Value::Object(members) = answer {
        members.insert(name.to_owned(), value.into());
    }
}

/// Parses the arguments and does what they say.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no mistakes; where they cannot be printed nobody reads them.
            let code = if error.use_stderr() { USAGE } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    if let Command::Run(run) = &cli.command
        && run.command.is_empty()
        && std::env::args_os().next_back().is_some_and(|last| last == "--")
    {
        complain!("wayfarer: no command after --: give one, or leave -- out to run the sidecar alone");
        return ExitCode::from(USAGE);
    }
    match cli.command {
        Command::Run(args) => run(args),
        Command::Demo(args) => wait_for(wayfarer_demo::run(args)),
        Command::Shop => wait_for(wayfarer_demo::shop::run()),
        Command::Instance(args) => instance::become_it(&args),
        Command::Init(args) => wait_for(init::init(args)),
        Command::Check(args) => check::check(&args),
        Command::Status(args) => wait_for(ask::status(args)),
        Command::Sessions(args) => wait_for(ask::sessions(args)),
        Command::Rebalance(args) => wait_for(ask::rebalance(args)),
        Command::Checkin(args) => wait_for(ask::check_in(args)),
        Command::Mode(args) => wait_for(mode::mode(args)),
        Command::Cordon(args) => wait_for(ask::cordon(args)),
        Command::Redirect(args) => redirect::redirect(&args),
        Command::Drain(args) => wait_for(ask::drain(args)),
    }
}

fn wait_for(what: impl Future<Output = ExitCode>) -> ExitCode {
    on_workers(half_of_the_cpus(), what)
}

/// At least one.
fn half_of_the_cpus() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (cpus / 2).max(1)
}

fn on_workers(workers: usize, what: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build() {
        Ok(runtime) => runtime.block_on(what),
        Err(error) => {
            complain!("wayfarer: the runtime cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: RunArgs) -> ExitCode {
    let mut configuration = args.configuration;
    configuration.set.extend(args.app.map(|app| format!("app.address={app}")));
    let loaded = match configuration::load(&configuration) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            mistakes.iter().for_each(|m| complain!("{m}"));
            complain!("wayfarer: the configuration cannot be used; `wayfarer check` shows the same");
            return ExitCode::from(USAGE);
        }
    };
    loaded.warnings.iter().for_each(|w| complain!("warning: {w}"));
    if let Some(mistake) = check::upstream_of(&loaded.settings) {
        complain!("{mistake}");
        complain!("wayfarer: the configuration cannot be used; `wayfarer check` shows the same");
        return ExitCode::from(USAGE);
    }
    // The instance beside it needs the others. With one alone nobody else is served during a client's long turn.
    let workers = loaded.settings.runtime.workers.unwrap_or_else(|| half_of_the_cpus().max(WORKERS_MIN));
    on_workers(workers, async {
        match crate::app::run(loaded.settings, args.command).await {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                complain!("wayfarer: {error}");
                ExitCode::FAILURE
            }
        }
    })
}

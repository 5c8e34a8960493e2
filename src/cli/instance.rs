//! `wayfarer instance` (hidden): becomes the instance's command, in a process that ends with its sidecar.
//!
//! The kernel sends SIGTERM to a process that has asked for it when its parent dies, and the wish outlives `exec`. So a sidecar that
//! is killed leaves no instance behind that holds the port. Started by `app/child.rs`, never by people.

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// What a shell says of a command that cannot be run.
const CANNOT_RUN: u8 = 127;

#[derive(Args)]
pub(super) struct InstanceArgs {
    /// The sidecar's process
    #[arg(long)]
    parent: i32,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub(super) fn become_it(args: &InstanceArgs) -> ExitCode {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        complain!("wayfarer: the instance will not end with its sidecar: {error}");
    }
    // It may have died before the wish was heard.
    if getppid().map(Pid::as_raw_pid) != Some(args.parent) {
        return ExitCode::FAILURE;
    }
    let Some((program, words)) = args.command.split_first() else { return ExitCode::from(CANNOT_RUN) };
    let error = Command::new(program).args(words).exec();
    complain!("wayfarer: the instance's command {program:?} cannot be run: {error}");
    ExitCode::from(CANNOT_RUN)
}

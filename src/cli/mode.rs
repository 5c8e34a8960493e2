//! `wayfarer mode`: shows the mode of the cluster, or orders another one and waits for it.
//!
//! It decides nothing: any member takes the order for all. Progress goes to the standard error; `--json` prints the status at the
//! end. Exit code 1: the change was taken back, or cannot be.

use super::ask::{AskArgs, Trouble, ask, read};
use crate::admin::view::{ModeStatus, Outlook};
use clap::{Args, ValueEnum};
use hyper::Method;
use std::process::ExitCode;
use std::time::Duration;

/// How often a change is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A mode of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Goal {
    /// Sessions have owners, and are beside their instances
    Own,
    /// The upstream answers for sessions; nothing is at risk
    Observe,
}

#[derive(Args)]
pub(super) struct ModeArgs {
    /// The mode to change to; without one it is shown
    to: Option<Goal>,
    #[command(flatten)]
    ask: AskArgs,
    /// Return only when the cluster is there
    #[arg(long, requires = "to")]
    wait: bool,
}

/// The line of a mode on pages.
pub(super) fn say(mode: &ModeStatus) {
    let on_the_way = if mode.mode == mode.goal { String::new() } else { format!(" (on the way to {})", mode.goal) };
    let waits = if mode.unconfirmed.is_empty() { String::new() } else { format!(", waits for {}", mode.unconfirmed.join(", ")) };
    say!("mode        {}{on_the_way}, {} sessions with owners{waits}", mode.mode, mode.owned_sessions);
    if !mode.note.is_empty() {
        say!("            {}", mode.note);
    }
}

/// What was seen in less time says nothing of a minute.
const MEASURED_S_MIN: u64 = 10;

/// The lines of what the mode own would do.
pub(super) fn say_outlook(o: &Outlook) {
    let of = if o.measured_s < MEASURED_S_MIN {
        "the operations beside the instance (how many a minute is not known yet)".to_owned()
    } else {
        format!("{} operations a minute beside the instance ({})", o.operations_per_minute, o.local_per_minute)
    };
    say!("own would   answer {} % of {of}, and hold {} sessions, {} B", o.local_percent, o.sessions, o.bytes);
    for (event, moved) in [("a join", o.join), ("a drain", o.drain)] {
        say!(
            "            {event} would move {} sessions: {} B now, {} B late",
            moved.sessions,
            moved.now_bytes,
            moved.late_bytes
        );
    }
    say!("            (estimated from {} sampled sessions, measured for {} s)", o.sampled_sessions, o.measured_s);
}

pub(super) async fn mode(args: ModeArgs) -> ExitCode {
    change(&args).await.unwrap_or_else(Trouble::report)
}

async fn change(args: &ModeArgs) -> Result<ExitCode, Trouble> {
    let Some(to) = args.to else {
        let text = ask(&args.ask, Method::GET, "/api/v1/mode").await?;
        return show(args, &text, ExitCode::SUCCESS);
    };
    let word = if to == Goal::Own { "own" } else { "observe" };
    let mut text = ask(&args.ask, Method::POST, &format!("/api/v1/mode?to={word}")).await?;
    let mut told = None;
    loop {
        let status: ModeStatus = read(&text)?;
        // Another operator may want something else meanwhile: then there is nothing to wait for either.
        let taken_back = status.goal != word;
        if !args.wait || taken_back || status.mode == word {
            let code = if taken_back { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            return show(args, &text, code);
        }
        let progress = (status.owned_sessions, status.unconfirmed.join(", "));
        if told.as_ref() != Some(&progress) {
            complain!("{}: {} sessions with owners; not confirmed yet by {}", status.mode, progress.0, progress.1);
            told = Some(progress);
        }
        tokio::time::sleep(LOOK).await;
        text = ask(&args.ask, Method::GET, "/api/v1/mode").await?;
    }
}

fn show(args: &ModeArgs, text: &str, code: ExitCode) -> Result<ExitCode, Trouble> {
    if args.ask.json {
        say!("{text}");
    } else {
        say(&read(text)?);
    }
    Ok(code)
}

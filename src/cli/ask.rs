//! Questions and orders to a running sidecar, through its admin interface.
//!
//! With `--json` the answer is printed as it came. An address that nobody answers at gives exit code 1 and says what to do.

use super::{ConfigurationArgs, USAGE, configuration};
use crate::admin::view;
use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Method;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::process::ExitCode;
use std::time::Duration;

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long a rebalancing may take.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long a question may take: a sidecar that is stopped accepts a connection and says nothing.
const QUESTION_PATIENCE: Duration = Duration::from_secs(10);
/// How long a drain may take; its budget is the sidecar's setting.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3600);
/// How long a check-in of everything may take.
const CHECK_IN_PATIENCE: Duration = Duration::from_secs(3600);
/// How often a check-in of everything is looked at.
const PROGRESS_LOOK: Duration = Duration::from_millis(500);
/// How often a drain is looked at.
const DRAIN_LOOK: Duration = Duration::from_millis(200);

/// Which sidecar.
#[derive(Args)]
pub(super) struct AskArgs {
    /// Address of its admin interface; else from the configuration
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    #[command(flatten)]
    configuration: ConfigurationArgs,
    /// Answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args)]
pub(super) struct SessionsArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// How many to list
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

#[derive(Args)]
pub(super) struct CheckInArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Every session of this sidecar
    #[arg(long)]
    all: bool,
}

#[derive(Args)]
pub(super) struct CordonArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Take sessions again
    #[arg(long)]
    off: bool,
}

#[derive(Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Return only when the sidecar has ended
    #[arg(long)]
    wait: bool,
}

/// Why there is no answer.
pub(super) enum Trouble {
    Usage(Vec<String>),
    Failed(String),
    /// It answered with this status and body.
    Refused(http::StatusCode, String),
}

impl Trouble {
    pub(super) fn report(self) -> ExitCode {
        match self {
            Trouble::Usage(lines) => {
                lines.iter().for_each(|line| complain!("{line}"));
                ExitCode::from(USAGE)
            }
            Trouble::Failed(line) => {
                complain!("wayfarer: {line}");
                ExitCode::FAILURE
            }
            Trouble::Refused(status, body) => {
                complain!("wayfarer: the sidecar says {status}: {}", body.trim());
                ExitCode::FAILURE
            }
        }
    }
}

fn address(args: &AskArgs) -> Result<String, Trouble> {
    if let Some(address) = &args.admin {
        if !address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
            return Err(Trouble::Usage(vec![format!("--admin {address:?}: is not HOST:PORT, as in 127.0.0.1:7301")]));
        }
        return Ok(address.clone());
    }
    let loaded = configuration::load(&args.configuration)
        .map_err(|mistakes| Trouble::Usage(mistakes.iter().map(ToString::to_string).collect()))?;
    Ok(loaded.settings.admin.listen.to_string())
}

pub(super) async fn ask(args: &AskArgs, method: Method, path: &str) -> Result<String, Trouble> {
    ask_within(QUESTION_PATIENCE, args, method, path).await
}

async fn ask_within(patience: Duration, args: &AskArgs, method: Method, path: &str) -> Result<String, Trouble> {
    let address = address(args)?;
    let uri: http::Uri =
        format!("http://{address}{path}").parse().map_err(|e| Trouble::Usage(vec![format!("--admin {address:?}: {e}")]))?;
    let failed = |why: String| Trouble::Failed(format!("no answer from the sidecar's admin interface at {address}: {why}"));
    let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = http::Request::builder().method(method).uri(uri).body(Empty::new()).map_err(|e| failed(e.to_string()))?;
    let answer = async {
        let response = client
            .request(request)
            .await
            .map_err(|e| failed(format!("{e}; is it running, and is this its [admin] listen? (--admin names another)")))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|e| failed(e.to_string()))?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        if status.is_success() { Ok(text) } else { Err(Trouble::Refused(status, text)) }
    };
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(failed(format!("it took longer than {} s", patience.as_secs()))),
    }
}

pub(super) fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Trouble> {
    serde_json::from_str(text).map_err(|e| Trouble::Failed(format!("the answer is not understood ({e}); same version?")))
}

fn end(result: Result<(), Trouble>) -> ExitCode {
    result.map_or_else(Trouble::report, |()| ExitCode::SUCCESS)
}

pub(super) async fn status(args: AskArgs) -> ExitCode {
    let show = async {
        let text = ask(&args, Method::GET, "/api/v1/status").await?;
        if args.json {
            say!("{text}");
            return Ok(());
        }
        let s: view::Status = read(&text)?;
        say!(
            "node        {} (incarnation {}), {}, {}",
            s.node,
            s.incarnation,
            s.state,
            if s.ready { "ready" } else { "NOT READY" }
        );
        // An older sidecar does not say it.
        if !s.instance.is_empty() {
            say!("instance    {}", s.instance);
        }
        say!("lease       {} ms left", s.lease_ms_left);
        say!("sessions    {} here, {} B, {} born, {} ended", s.sessions, s.value_bytes, s.born, s.ended);
        say!(
            "variables   {} elsewhere or lost, {} came late ({} on access), {} lost",
            s.missing_variables,
            s.variables_fetched_late,
            s.variables_fetched_on_access,
            s.variables_lost
        );
        say!(
            "handovers   {} given, {} taken, {} aborted, {} under way, {} waiting",
            s.handovers.given,
            s.handovers.taken,
            s.handovers.aborted,
            s.handovers.in_progress,
            s.handovers.queued
        );
        say!("residuals   {} ({} B) kept for others", s.residuals, s.residual_bytes);
        s.mode.iter().for_each(super::mode::say);
        s.outlook.iter().for_each(super::mode::say_outlook);
        if let Some(r) = &s.rest {
            let behind = r.staleness_ms.iter().map(|(impact, ms)| format!("{impact} {ms} ms"));
            say!(
                "at rest     {} checked out, {} checked in, {} going; {} foreign writes",
                r.checked_out,
                r.checked_in,
                r.checking_in,
                r.foreign_writes
            );
            say!(
                "upstream    {}, behind by {}; {} sessions, {} B unwritten; {} flushes",
                if r.upstream_answers { "answers" } else { "DOES NOT ANSWER" },
                behind.collect::<Vec<_>>().join(", "),
                r.unwritten_sessions,
                r.unwritten_bytes,
                r.flushes
            );
        }
        say!("sent        {} B eager, {} B late, {} B other", s.bytes.eager, s.bytes.late, s.bytes.other);
        say!("{:<16} {:>12} {:<10} {:>9}", "member", "incarnation", "state", "sessions");
        for m in s.members {
            let sessions = m.sessions.map_or_else(|| "?".to_owned(), |n| n.to_string());
            let warning = if m.other_keys { "  OTHER [state] keys than this node" } else { "" };
            say!("{:<16} {:>12} {:<10} {:>9}{warning}", m.name, m.incarnation, m.state, sessions);
        }
        Ok(())
    };
    end(show.await)
}

pub(super) async fn sessions(args: SessionsArgs) -> ExitCode {
    let show = async {
        let text = ask(&args.ask, Method::GET, &format!("/api/v1/sessions?limit={}", args.limit)).await?;
        if args.ask.json {
            say!("{text}");
            return Ok(());
        }
        let s: view::Sessions = read(&text)?;
        say!(
            "{:<16} {:<7} {:>8} {:>5} {:>9} {:>8} {:>10} {:>7}",
            "session",
            "gate",
            "epoch",
            "keys",
            "variables",
            "missing",
            "bytes",
            "depends"
        );
        for one in &s.sessions {
            say!(
                "{:<16} {:<7} {:>8} {:>5} {:>9} {:>8} {:>10} {:>7}",
                one.session,
                one.gate,
                one.epoch,
                one.keys,
                one.variables,
                one.missing,
                one.bytes,
                one.depends
            );
        }
        say!("{} of {}", s.sessions.len(), s.total);
        Ok(())
    };
    end(show.await)
}

/// The answer to an order.
type Order = serde_json::Map<String, serde_json::Value>;

/// Sends an order and prints its answer.
async fn order(patience: Duration, args: &AskArgs, path: &str) -> Result<Order, Trouble> {
    let text = ask_within(patience, args, Method::POST, path).await?;
    let answer: Order = read(&text)?;
    if args.json {
        say!("{text}");
        return Ok(answer);
    }
    say!("{}", answer.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", "));
    Ok(answer)
}

/// Exit code 1 if a session that was to move did not.
pub(super) async fn rebalance(args: AskArgs) -> ExitCode {
    match order(PATIENCE, &args, "/api/v1/rebalance").await {
        Ok(answer) if answer.get("failed").and_then(serde_json::Value::as_u64) != Some(0) => ExitCode::FAILURE,
        other => end(other.map(|_| ())),
    }
}

/// Says on the standard error how many sessions are still to go, for as long as it is polled.
async fn tell_progress(args: &AskArgs) -> std::convert::Infallible {
    let mut told = None;
    loop {
        tokio::time::sleep(PROGRESS_LOOK).await;
        // Who gives no status now will answer the order, or fail it.
        let status = ask(args, Method::GET, "/api/v1/status").await.and_then(|text| read::<view::Status>(&text));
        let left = status.ok().and_then(|status| Some((status.sessions, status.rest?.checking_in)));
        if let Some((sessions, going)) = left.filter(|left| told != Some(*left)) {
            complain!("{sessions} sessions here, {going} of them on their way to rest");
            told = left;
        }
    }
}

/// Exit code 1 if a session did not go to rest.
pub(super) async fn check_in(args: CheckInArgs) -> ExitCode {
    if !args.all {
        return Trouble::Usage(vec!["wayfarer checkin needs --all: every session of the sidecar goes to rest".to_owned()])
            .report();
    }
    let ordered = async { order(CHECK_IN_PATIENCE, &args.ask, "/api/v1/checkin").await };
    let answered = tokio::select! {
        answered = ordered => answered,
        never = tell_progress(&args.ask) => match never {},
    };
    match answered {
        Ok(answer) if answer.get("failed").and_then(serde_json::Value::as_u64) != Some(0) => ExitCode::FAILURE,
        other => end(other.map(|_| ())),
    }
}

pub(super) async fn cordon(args: CordonArgs) -> ExitCode {
    end(order(PATIENCE, &args.ask, &format!("/api/v1/cordon?on={}", !args.off)).await.map(|_| ()))
}

pub(super) async fn drain(args: DrainArgs) -> ExitCode {
    let path = if args.wait { "/drain?wait=true" } else { "/drain" };
    let ended = match order(DRAIN_PATIENCE, &args.ask, path).await {
        Ok(_) => ExitCode::SUCCESS,
        // It drained, and not everything left: it ends all the same.
        Err(Trouble::Refused(status, body)) if read::<view::Drained>(&body).is_ok() => {
            if args.ask.json {
                say!("{body}");
            }
            Trouble::Refused(status, body).report()
        }
        Err(trouble) => return trouble.report(),
    };
    if args.wait {
        // The sidecar closes its admin interface as the last thing that it does.
        while ask(&args.ask, Method::GET, "/livez").await.is_ok() {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }
    ended
}

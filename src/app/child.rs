//! The instance as a child process: started with `PORT` and `REDIS_URL`, signalled, waited for.
//!
//! It never restarts it: what ends is reported, and the sidecar drains. Signals go to the child alone, for those that it forks are
//! its own to lead; what it leaves behind in its process group when it has ended is told to end, and then ended.
//!
//! The group is the child's own, so that nobody else is in it. With a terminal as its input the child stays in the sidecar's group:
//! the terminal gives its keys and its input to one group alone. So Ctrl-C reaches everybody there, and nothing is swept up.
//! Whether it accepts connections is for `probe` to see. Called by the composition root.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, test_kill_process_group, waitpgid};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::{Child, Command};
use wayfarer_settings::ListenAt;

/// How often what the child has left behind is looked at.
const GROUP_LOOKS: Duration = Duration::from_millis(20);
/// The URL of the state face for the instance: by loopback where it listens on every address, with the password that it wants.
pub(super) fn redis_url(listens: &ListenAt, password: Option<&str>) -> String {
    let login = password.map(|password| format!(":{}@", percent_encoded(password))).unwrap_or_default();
    let listens = match listens {
        ListenAt::Tcp(address) => address,
        // The form that the libraries have in common; not all know one.
        ListenAt::Unix(path) => return format!("unix://{login}{}", path.display()),
    };
    let ip = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    format!("redis://{login}{}/0", SocketAddr::new(ip, listens.port()))
}

/// What is neither a letter nor a digit, nor `-._~`, is `%XX` (RFC 3986, unreserved characters).
fn percent_encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// A running instance.
pub(super) struct Instance {
    child: Child,
    pid: Option<Pid>,
    /// The process group of the child and of those that it forks, unless that is the sidecar's.
    group: Option<Pid>,
}

/// The status that a shell would report: the exit code, or 128 and the number of the signal.
pub(super) fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// The same for an instance that was told to stop: to end by that signal, as programs without a handler do, is what it was told.
pub(super) fn code_when_told(status: ExitStatus, by: Signal) -> u8 {
    if status.signal() == Some(by.as_raw()) { 0 } else { code_of(status) }
}

/// Whether a command can be found as the system would: by its path, or in `PATH`. The error names it.
pub(super) fn can_be_found(command: &[OsString]) -> Result<(), String> {
    let Some(program) = command.first() else { return Ok(()) };
    let is_path = Path::new(program).components().count() > 1;
    let places = std::env::var_os("PATH").unwrap_or_default();
    let found =
        if is_path { Path::new(program).is_file() } else { std::env::split_paths(&places).any(|p| p.join(program).is_file()) };
    if !found {
        return Err(format!("{program:?} is not found; give the command after -- as you would in a shell"));
    }
    // One in PATH that cannot be executed is passed over by the system, and the next one may do.
    if is_path && !may_be_executed(Path::new(program)) {
        return Err(format!("{program:?} is not executable: chmod +x, or name its interpreter before it"));
    }
    Ok(())
}

/// Whether anybody may execute it. Whether this process may is seen when it does.
fn may_be_executed(program: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(program).is_ok_and(|kind| kind.permissions().mode() & 0o111 != 0)
}

impl Instance {
    /// Starts the command, so that it ends with this process. It learns where to listen (the port, if it is one) and where its
    /// Redis is.
    pub(super) fn start(command: &[OsString], port: Option<u16>, redis: Option<String>) -> std::io::Result<Instance> {
        let mut start = std::process::Command::new(std::env::current_exe()?);
        start.arg("instance").arg("--parent").arg(std::process::id().to_string()).arg("--").args(command);
        if let Some(port) = port {
            start.env("PORT", port.to_string());
        }
        if let Some(redis) = redis {
            start.env("REDIS_URL", redis);
        }
        let has_group = !std::io::stdin().is_terminal();
        if has_group {
            start.process_group(0);
        }
        let child = Command::from(start).kill_on_drop(true).spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Instance { child, pid, group: pid.filter(|_| has_group) })
    }

    /// Waits until it ends by itself.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await;
        // It led those whom it has left behind; nobody asks them for anything any more.
        self.signal_group(Signal::TERM);
        status
    }

    /// A signal for all that are in the group. There may be nobody left.
    fn signal_group(&self, signal: Signal) {
        if let Some(Err(error)) = self.group.map(|group| kill_process_group(group, signal)) {
            tracing::debug!(%error, "nobody of the instance's group took a signal");
        }
    }

    /// Whether somebody of the group lives, when the child itself has ended.
    fn has_left_some(&self) -> bool {
        let Some(group) = self.group else { return false };
        // As the first process of a container the sidecar is the parent of whoever has lost its own.
        while matches!(waitpgid(group, WaitOptions::NOHANG), Ok(Some(_))) {}
        test_kill_process_group(group).is_ok()
    }

    /// Waits for the end of the child, tells those that it leaves behind to end, and waits for them.
    async fn all_ended(&mut self, by: Signal) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        if self.has_left_some() {
            tracing::info!("the instance has left processes behind, which are told to end");
            self.signal_group(by);
        }
        while self.has_left_some() {
            tokio::time::sleep(GROUP_LOOKS).await;
        }
        Ok(status)
    }

    /// Passes a signal on. One that has just ended needs none.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(%error, "the instance did not take a signal");
        }
    }

    /// Asks it to end, waits, and ends it by force if it does not.
    pub(super) async fn stop(mut self, by: Signal, patience: Duration) -> std::io::Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            self.signal(by);
        }
        match tokio::time::timeout(patience, self.all_ended(by)).await {
            Ok(status) => status,
            Err(_) => {
                tracing::warn!(patience_ms = patience.as_millis() as u64, "the instance did not end in time and is killed");
                self.signal_group(Signal::KILL);
                // It may be one that it has left behind who does not end.
                if self.child.try_wait()?.is_none() {
                    self.child.kill().await?;
                }
                self.child.wait().await
            }
        }
    }
}

impl Drop for Instance {
    /// Whoever leaves at once leaves nobody behind.
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test reports by panicking")]

    use super::*;

    #[test]
    fn the_instance_gets_an_url_that_it_can_use() {
        let url = |listens: &str, password| redis_url(&ListenAt::Tcp(listens.parse().unwrap()), password);
        assert_eq!(url("127.0.0.1:6379", None), "redis://127.0.0.1:6379/0");
        assert_eq!(url("0.0.0.0:1", Some("p@ss:w/rd é")), "redis://:p%40ss%3Aw%2Frd%20%C3%A9@127.0.0.1:1/0");
        assert_eq!(url("[::]:2", None), "redis://[::1]:2/0");
        assert_eq!(url("10.0.0.7:3", Some("")), "redis://:@10.0.0.7:3/0");
        let socket = ListenAt::Unix("/run/x.sock".into());
        assert_eq!(redis_url(&socket, None), "unix:///run/x.sock");
        assert_eq!(redis_url(&socket, Some("p@ss")), "unix://:p%40ss@/run/x.sock");
    }
}

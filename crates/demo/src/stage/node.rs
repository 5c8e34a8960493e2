//! One node: a real sidecar process that starts its own instance of the shop.
//!
//! It never looks into the node; it starts it, ends it and keeps its last words. Called by the run. A sidecar is started as
//! `<binary> instance --parent PID -- <binary> run -c FILE -- <binary> shop`. It writes `final {status}` on its standard output when it
//! ends; the rest of what it says is in `node-<name>.log` in the run's folder. Dropping a node kills the sidecar; its shop sees that
//! and ends by itself.
//! Invariant: no process outlives its `Node`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::stage::admin::{AdminClient, MoveSide, Status};
use crate::stage::config::{Addresses, NodeConfig};
use crate::world::spawn;

const START_DEADLINE: Duration = Duration::from_secs(20);
const POLL_EVERY: Duration = Duration::from_millis(25);
const LOG_TAIL_LINES: usize = 12;

/// What a node says when it ends.
#[derive(Debug, Clone, Deserialize)]
pub struct LastWords {
    /// Its status at the end.
    #[serde(flatten)]
    pub status: Status,
    /// The latest moves, if it tells them: those that nobody could ask for any more.
    #[serde(default)]
    pub moves: Vec<MoveSide>,
}

/// A running node.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub addresses: Addresses,
    child: Child,
    last_words: JoinHandle<Option<LastWords>>,
    log: PathBuf,
}

impl Node {
    /// Starts a node and waits until it is ready. The error holds the end of its log.
    pub async fn start(binary: &Path, config: &NodeConfig<'_>, admin: &AdminClient) -> Result<Self, String> {
        let mut node = Self::spawn(binary, config).map_err(|error| format!("cannot start node {}: {error}", config.name))?;
        let ready = async {
            let mut beat = tokio::time::interval(POLL_EVERY);
            while !admin.ready(node.addresses.admin).await {
                if let Ok(Some(status)) = node.child.try_wait() {
                    return Err(format!("it ended at once ({status})"));
                }
                beat.tick().await;
            }
            Ok(())
        };
        let outcome = tokio::time::timeout(START_DEADLINE, ready).await.unwrap_or_else(|_| Err("it did not get ready".into()));
        outcome.map_err(|why| format!("node {}: {why}\n{}", node.name, node.log_tail()))?;
        Ok(node)
    }

    fn spawn(binary: &Path, config: &NodeConfig<'_>) -> std::io::Result<Self> {
        let file = config.folder.join(format!("node-{}.toml", config.name));
        std::fs::write(&file, config.to_toml())?;
        let log = config.folder.join(format!("node-{}.log", config.name));
        let mut command = Command::new(binary);
        // Ends with this process, also when that is killed.
        command.arg("instance").arg("--parent").arg(std::process::id().to_string()).arg("--").arg(binary);
        command.arg("run").arg("-c").arg(&file).arg("--").arg(binary).arg("shop");
        // What the user has set for a sidecar of their own does not concern these.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WAYFARER_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take();
        let last_words = spawn(async move { listen(stdout).await });
        Ok(Self { name: config.name.to_owned(), addresses: config.addresses, child, last_words, log })
    }

    /// Whether it runs; the error is how it ended.
    pub fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("node {} ended on its own ({status})\n{}", self.name, self.log_tail())),
            Err(error) => Err(format!("node {}: {error}", self.name)),
        }
    }

    /// Waits until it has ended by itself and gives its status and its last words.
    pub async fn ended(mut self, within: Duration) -> Result<(ExitStatus, Option<LastWords>), String> {
        let waited = tokio::time::timeout(within, self.child.wait()).await;
        let status = waited
            .map_err(|_| format!("node {} has not ended in {} s\n{}", self.name, within.as_secs(), self.log_tail()))?
            .map_err(|error| format!("node {}: {error}", self.name))?;
        // Its instance may hold the pipe open a little longer than the sidecar lives.
        let words = tokio::time::timeout(within, &mut self.last_words).await;
        Ok((status, words.ok().and_then(Result::ok).flatten()))
    }

    /// Asks it to end and, if it does not within the time, kills it.
    pub async fn stop(mut self, within: Duration) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // An error means that it has ended already.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        if tokio::time::timeout(within, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default();
        tail.iter().map(|line| format!("  {} | {line}\n", self.name)).collect()
    }
}

/// Reads a node's output to its end; the line `final {…}` is what it leaves.
async fn listen(stdout: Option<ChildStdout>) -> Option<LastWords> {
    let mut lines = BufReader::new(stdout?).lines();
    let mut words = None;
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(json) = line.strip_prefix("final ") {
            words = serde_json::from_str(json).ok().or(words);
        }
    }
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_a_status_with_or_without_moves() {
        let words: LastWords =
            serde_json::from_str(r#"{"node":"a","state":"gone","sessions":0,"bytes":{"eager":5,"late":6}}"#).unwrap();
        assert_eq!((words.status.bytes.eager, words.moves.len()), (5, 0));
        let text = r#"{"bytes":{"eager":5},"moves":[{"seq":9,"handover":"1-1","session":"00","side":"target","at_unix_us":1,"outcome":"committed"}]}"#;
        assert_eq!(serde_json::from_str::<LastWords>(text).unwrap().moves.len(), 1);
    }
}

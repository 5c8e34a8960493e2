//! The demonstration from its start to its exit code, over a stand-in for the sidecar and a real Redis.
//!
//! The stand-in is `examples/stand_in.rs`. These tests say that nodes are started, watched, drained and ended and that the result
//! adds up; whether sessions move is for the tests with the real sidecar.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::Value;
use support::{Redis, until};
use tokio::io::AsyncBufReadExt as _;

fn stand_in() -> PathBuf {
    // target/<profile>/deps/play-… → target/<profile>/examples/stand_in
    let profile = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    profile.join("examples").join("stand_in")
}

fn command(redis: &Redis, arguments: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(stand_in());
    command.arg("demo").args(["--headless", "--seconds", "4", "--users", "30"]).args(arguments);
    command.env("STAND_IN_REDIS", &redis.url).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn lines(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn a_good_run_ends_with_zero_and_a_full_result() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("result.json");
    let output = command(&redis, &["--json", json.to_str().unwrap()]).output().await.unwrap();
    assert!(output.status.success(), "{}", lines(&output));
    let result: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    for (field, least) in
        [("requests", 100), ("sessions", 30), ("sessions_moved", 25), ("moves", 25), ("bytes_eager", 1000), ("bytes_total", 1000)]
    {
        assert!(result[field].as_u64().unwrap() >= least, "{field}: {result}");
    }
    for field in ["errors", "lost_writes", "stale_reads", "wrong_values", "undispatched", "moves_one_sided"] {
        assert_eq!(result[field], 0, "{field}: {result}");
    }
    assert_eq!(result["freeze_ms_p50"], 50.0);
    assert!(result["latency_ms_p99_after"].is_f64() && result["latency_ms_p50_before"].is_f64());
    assert!(lines(&output).contains("All well"));
}

#[tokio::test]
async fn a_drain_that_leaves_sessions_behind_fails_the_run() {
    let redis = Redis::start().await;
    let output = command(&redis, &[]).env("STAND_IN_DRAIN_EXIT", "1").output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(lines(&output).contains("FAILED: node a left sessions behind"), "{}", lines(&output));
}

#[tokio::test]
async fn a_sidecar_that_does_not_start_is_named() {
    let redis = Redis::start().await;
    let json = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(json.path(), "{\"ok\": true, \"of\": \"an earlier run\"}").unwrap();
    let arguments = ["--node-binary", "/bin/false", "--json", json.path().to_str().unwrap()];
    let output = command(&redis, &arguments).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(lines(&output).contains("node a: it ended at once"), "{}", lines(&output));
    let result: Value = serde_json::from_slice(&std::fs::read(json.path()).unwrap()).unwrap();
    assert_eq!(result["ok"], false);
    assert!(result["failures"][0].as_str().unwrap().contains("node a: it ended at once"), "{result}");
}

#[tokio::test]
async fn a_result_that_cannot_be_written_is_told_before_anything_starts() {
    let redis = Redis::start().await;
    let output = command(&redis, &["--json", "/nonexistent/result.json"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty() && lines(&output).contains("/nonexistent/result.json"), "{}", lines(&output));
}

#[tokio::test]
async fn sigterm_ends_the_demo_and_everything_that_it_started() {
    ends_everything_at(rustix::process::Signal::TERM).await;
}

#[tokio::test]
async fn a_closed_terminal_ends_the_demo_and_everything_that_it_started() {
    ends_everything_at(rustix::process::Signal::HUP).await;
}

#[tokio::test]
async fn an_interrupted_demo_says_what_it_has_measured() {
    let redis = Redis::start().await;
    let json = tempfile::NamedTempFile::new().unwrap();
    let arguments = ["--json", json.path().to_str().unwrap()];
    let mut demo = command(&redis, &arguments).spawn().unwrap();
    // Its lines show the phase; nobody else knows when it measures.
    let mut shown = tokio::io::BufReader::new(demo.stdout.take().unwrap()).lines();
    while !shown.next_line().await.unwrap().unwrap().contains("node c starts") {}
    let pid = rustix::process::Pid::from_raw(i32::try_from(demo.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(demo.wait().await.unwrap().code(), Some(1));
    let result: Value = serde_json::from_slice(&std::fs::read(json.path()).unwrap()).unwrap();
    assert_eq!((&result["ok"], &result["users"]), (&Value::Bool(false), &Value::from(30)), "{result}");
    assert_eq!(result["failures"], serde_json::json!(["interrupted, in the phase \"during\" of the measured run"]));
    assert!(result["requests"].as_u64().unwrap() > 30 && result["sessions"].as_u64().unwrap() >= 30, "{result}");
    assert!(result["seconds"].as_f64().unwrap() >= 1.0 && result["latency_ms_p50_before"].is_f64(), "{result}");
    assert!(result["bytes_total"] == 0 && result["bytes_eager_percent_of_total"].is_null(), "{result}");
}

async fn ends_everything_at(signal: rustix::process::Signal) {
    let redis = Redis::start().await;
    let mut demo = command(&redis, &["--keep"]).spawn().unwrap();
    let pid = i32::try_from(demo.id().unwrap()).unwrap();
    until("the nodes run", || children(pid).len() == 2).await;
    let sidecars = children(pid);
    until("the shops run", || sidecars.iter().all(|sidecar| !children(*sidecar).is_empty())).await;
    let shops: Vec<i32> = sidecars.iter().flat_map(|sidecar| children(*sidecar)).collect();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    assert_eq!(demo.wait().await.unwrap().code(), Some(1));
    let alive = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    until("everything has ended", || !sidecars.iter().chain(&shops).any(alive)).await;
    let output = demo.wait_with_output().await.unwrap();
    let folder = lines(&output).lines().find_map(|line| line.strip_prefix("Working folder: ").map(PathBuf::from)).unwrap();
    assert!(folder.join("run").join("node-a.toml").exists());
    std::fs::remove_dir_all(folder).unwrap();
}

/// The processes whose parent is `pid`.
fn children(pid: i32) -> Vec<i32> {
    let list = format!("/proc/{pid}/task");
    let tasks = std::fs::read_dir(list).into_iter().flatten().filter_map(Result::ok);
    let texts = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    texts.flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

//! A stand-in for the sidecar, so that the demonstration itself can be tested without one.
//!
//! It moves nothing: all its shops share one Redis, named by `STAND_IN_REDIS`, and its admin interface only tells of moves.
//! `tests/play.rs` runs it: `stand_in demo …` is the demonstration over itself, `stand_in run -c FILE -- …` plays the sidecar,
//! `stand_in shop` is the shop. `STAND_IN_DRAIN_EXIT` is the exit code after a drain. Invariant: what it tells of moves names
//! sessions that exist.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use serde_json::{Value, json};
use wayfarer_demo::stage::moves::shown;
use wayfarer_demo::world::Clock;

#[derive(Parser)]
enum Command {
    /// The demonstration.
    Demo(wayfarer_demo::DemoArgs),
    /// The shop.
    Shop,
    /// Another of these, which ends with its parent.
    Instance {
        #[arg(long)]
        parent: i32,
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// The sidecar's part.
    Run {
        #[arg(short)]
        config: String,
        #[arg(last = true)]
        command: Vec<String>,
    },
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match Command::parse() {
        Command::Demo(args) => wayfarer_demo::run(args).await,
        Command::Instance { parent, command } => {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
            assert_eq!(rustix::process::getppid().unwrap().as_raw_pid(), parent);
            let error = std::os::unix::process::CommandExt::exec(std::process::Command::new(&command[0]).args(&command[1..]));
            panic!("{}: {error}", command[0]);
        }
        Command::Shop => {
            // As with the real sidecar: an instance does not outlive it, also when it is killed.
            let parent = rustix::process::getppid();
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
            if parent != rustix::process::getppid() || parent == rustix::process::Pid::from_raw(1) {
                return ExitCode::FAILURE;
            }
            wayfarer_demo::shop::run().await
        }
        Command::Run { config, command } => play_sidecar(&std::fs::read_to_string(config).unwrap(), &command).await,
    }
}

#[derive(Default)]
struct Told {
    id_key: Vec<u8>,
    redis: String,
    moves: Mutex<Vec<Value>>,
    draining: tokio::sync::Notify,
    unready: std::sync::atomic::AtomicBool,
    /// How many probes have been told so.
    refused: tokio::sync::watch::Sender<u64>,
}

async fn play_sidecar(config: &str, command: &[String]) -> ExitCode {
    let of = |section: &str, key: &str| {
        let rest = config.split(&format!("[{section}]\n")).nth(1).expect("the section");
        let line = rest.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).expect("the key");
        line.trim_matches('"').to_owned()
    };
    let key = of("admin", "id_key");
    let id_key = (0..key.len()).step_by(2).map(|at| u8::from_str_radix(&key[at..at + 2], 16).unwrap()).collect();
    let redis = std::env::var("STAND_IN_REDIS").expect("STAND_IN_REDIS");
    let told = Arc::new(Told { id_key, redis: redis.clone(), ..Told::default() });
    // Before the shop starts, so that a signal does not end this process alone.
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    // The shop takes the place of the HTTP face.
    let port = of("http", "listen").rsplit_once(':').unwrap().1.to_owned();
    let mut shop = tokio::process::Command::new(&command[0])
        .args(&command[1..])
        .env("PORT", port)
        .env("REDIS_URL", redis)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let routes = Router::new()
        .route("/readyz", get(ready))
        .route("/drain", post(drain))
        .route("/api/v1/status", get(|told: State<Arc<Told>>| async move { Json(status(&told)) }))
        .route("/api/v1/moves", get(moves))
        .route("/api/v1/rebalance", post(rebalance))
        .with_state(Arc::clone(&told));
    let admin = tokio::net::TcpListener::bind(of("admin", "listen")).await.unwrap();
    let code = tokio::select! {
        _ = term.recv() => 0,
        _ = shop.wait() => 1,
        outcome = axum::serve(admin, routes) => panic!("{outcome:?}"),
        () = drained(&told) => std::env::var("STAND_IN_DRAIN_EXIT").map_or(0, |code| code.parse().unwrap()),
    };
    println!("final {}", status(&told));
    ExitCode::from(code)
}

/// Ends when it was told to drain and nobody sends requests any more.
async fn drained(told: &Told) {
    told.draining.notified().await;
    // As the real one: readiness fails for a while before anything closes. Who asks for the second time has read the first
    // answer; what was under way then has some time to end.
    told.refused.subscribe().wait_for(|refused| *refused >= 2).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
}

fn status(told: &Told) -> Value {
    let moved = told.moves.lock().unwrap().len() as u64;
    json!({ "state": "accepting", "sessions": 1, "bytes": { "eager": moved * 100, "late": moved }, "variables_fetched_late": moved, "variables_fetched_on_access": moved })
}

async fn ready(told: State<Arc<Told>>) -> StatusCode {
    let unready = told.unready.load(std::sync::atomic::Ordering::Relaxed);
    if unready {
        told.refused.send_modify(|refused| *refused += 1);
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    StatusCode::OK
}

async fn drain(told: State<Arc<Told>>) -> StatusCode {
    told.unready.store(true, std::sync::atomic::Ordering::Relaxed);
    told.draining.notify_one();
    StatusCode::ACCEPTED
}

async fn moves(told: State<Arc<Told>>) -> Json<Value> {
    let moves = told.moves.lock().unwrap().clone();
    Json(json!({ "last": moves.len(), "moves": moves }))
}

/// Tells that every session of the store moved here within the last 50 milliseconds.
async fn rebalance(told: State<Arc<Told>>) -> Json<Value> {
    let mut connection = redis::Client::open(told.redis.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("shop:*").query_async(&mut connection).await.unwrap();
    let now_us = Clock::start().now_unix_us();
    let mut moves = told.moves.lock().unwrap();
    for (number, key) in keys.iter().enumerate() {
        let session = shown(&told.id_key, key.trim_start_matches("shop:"));
        for (side, at_unix_us) in [("origin", now_us - 50_000), ("target", now_us)] {
            let seq = moves.len() + 1;
            let handover = format!("1-{number}");
            moves.push(json!({ "seq": seq, "handover": handover, "session": session, "side": side, "at_unix_us": at_unix_us, "outcome": "committed" }));
        }
    }
    Json(json!({ "moved": keys.len(), "failed": 0 }))
}

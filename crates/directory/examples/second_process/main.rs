//! A member in a process of its own, for `tests/sqlite_processes.rs`, which kills it: `second_process TASK FILE`.
//!
//! It says numbers on standard output, one line at a time, and ends when its standard input does.
//!
//! | task | does | says |
//! |---|---|---|
//! | `live` | registers | its incarnation |
//! | `parent` | the same, and starts a child that outlives it | incarnation and the child's process id |
//! | `storm` | the same, and moves crowds of sessions for ever | its incarnation, then each crowd and its epoch |
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test's second process fails by panicking")]

mod shared;

use shared::{CROWDS, crowd, open};
use std::process::{Command, Stdio};
use wayfarer_directory::SqliteDirectory;
use wayfarer_directory::conformance::member;
use wayfarer_engine::directory::{Directory, NextEpoch, Outcome, Transaction, Write};
use wayfarer_engine::ids::GroupId;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [task, file] = arguments.as_slice() else { panic!("second_process TASK FILE") };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let directory = open(file);
    runtime.block_on(async {
        let (a, group, _) = member(&directory, "a").await;
        match task.as_str() {
            "live" => say(&[a.0.0]),
            "parent" => {
                let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
                say(&[a.0.0, u64::from(child.id())]);
                child.wait().unwrap();
            }
            "storm" => {
                say(&[a.0.0]);
                let storm = (0..8).map(|n| storm(&directory, group, n));
                let mut storm: Vec<_> = storm.map(Box::pin).collect();
                // All of them at once, so that commits hold several transactions.
                std::future::poll_fn(|cx| {
                    storm.iter_mut().for_each(|s| assert!(s.as_mut().poll(cx).is_pending()));
                    std::task::Poll::<()>::Pending
                })
                .await;
            }
            other => panic!("no task {other}"),
        }
    });
    // Its end of the pipe closes when the test's process ends, however that happens.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

fn say(numbers: &[u64]) {
    use std::io::Write as _;
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    let mut out = std::io::stdout();
    // If nobody hears it any more, its test has ended.
    if writeln!(out, "{}", numbers.join(" ")).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// Moves crowds of sessions to fresh epochs, and says each that was applied.
async fn storm(directory: &SqliteDirectory, group: GroupId, first: u64) {
    let mut n = first;
    loop {
        n = (n + 8) % CROWDS;
        let place = |session| Write::Place { session, group, epoch: NextEpoch::Fresh, last: None, depends: Vec::new() };
        let transaction = Transaction { compare: Vec::new(), write: crowd(n).map(place).collect() };
        match directory.transact(transaction).await {
            Ok(Outcome::Applied { epoch }) => say(&[n, epoch.0]),
            other => panic!("{other:?}"),
        }
    }
}

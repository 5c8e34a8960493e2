//! The SQLite backend and processes that are killed: proof of death, and commits in the middle.
//!
//! The second process is `examples/second_process`. Every process that is started is killed by its id, also when the test fails.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for processes"
)]

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wayfarer_directory::SqliteDirectory;
use wayfarer_directory::conformance::{DEADLINE, draft, member};
use wayfarer_engine::directory::{Directory, DirectoryError};
use wayfarer_engine::ids::{Epoch, Incarnation};

#[path = "../examples/second_process/shared.rs"]
mod shared;
use shared::{CROWDS, crowd, open};

/// Where Cargo puts the example.
fn second_process() -> PathBuf {
    // target/<profile>/deps/sqlite_processes-… → target/<profile>/examples/second_process
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join("examples").join("second_process")
}

/// A second process, killed when dropped.
struct Helper {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    fn start(task: &str, file: &Path) -> Helper {
        let mut child =
            Command::new(second_process()).arg(task).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Helper { child, lines }
    }

    /// The numbers of the next line that it says.
    fn hear(&mut self) -> Option<Vec<u64>> {
        let said = self.lines.next()?.ok()?;
        said.split(' ').map(|n| n.parse().ok()).collect()
    }

    /// Ends it as a crash would.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have been killed already, and there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until it is proven, or the deadline is over.
async fn proven_dead(directory: &SqliteDirectory, incarnation: Incarnation) -> bool {
    let until = Instant::now() + DEADLINE;
    while !directory.is_proven_dead(incarnation).await.unwrap() {
        if Instant::now() > until {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_is_proven_dead_and_its_name_is_free() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("d.db");
    let directory = open(&file);
    let mut helper = Helper::start("live", &file);
    let first = Incarnation(Epoch(*helper.hear().unwrap().first().unwrap()));
    for _ in 0..50 {
        assert_eq!(directory.is_proven_dead(first).await, Ok(false), "it is alive, and asking does not kill it");
    }
    assert_eq!(directory.register(draft("a"), 1).await, Err(DirectoryError::NameTaken("a".to_owned())));
    helper.kill();
    assert!(proven_dead(&directory, first).await, "no proof within the deadline");
    assert!(!directory.view().await.unwrap().is_dead(first));
    let (second, ..) = member(&directory, "a").await;
    let view = directory.view().await.unwrap();
    assert!(view.is_dead(first) && !view.is_dead(second));
    assert_eq!(directory.is_proven_dead(first).await, Ok(true), "the proof stays while its record does");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_does_not_keep_its_parent_alive() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("d.db");
    let directory = open(&file);
    let mut helper = Helper::start("parent", &file);
    let said = helper.hear().unwrap();
    let [incarnation, child] = said.as_slice() else { panic!("{said:?}") };
    let child = Pid::from_raw(i32::try_from(*child).unwrap()).unwrap();
    helper.kill();
    let proven = proven_dead(&directory, Incarnation(Epoch(*incarnation))).await;
    // Signal 0 would do to see whether the child is there; ending it shows the same, and cleans up.
    kill_process(child, Signal::KILL).unwrap();
    assert!(proven, "the lock was inherited by the child");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probers_do_not_see_one_another() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("d.db");
    let (dead, here, there) = (open(&file), open(&file), open(&file));
    let (incarnation, ..) = member(&dead, "a").await;
    dead.release();
    let handle = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for directory in [&here, &there, &here, &there] {
                let ask = || handle.block_on(directory.is_proven_dead(incarnation));
                scope.spawn(move || assert!((0..300).all(|_| ask() == Ok(true)), "a prober took another one for the living"));
            }
        });
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_directory_does_not_end_the_process() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("d.db");
    let (here, there) = (open(&file), open(&file));
    let (a, ..) = member(&here, "a").await;
    drop(here);
    assert_eq!(there.is_proven_dead(a).await, Ok(false), "the process may still answer for its sessions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_a_storm_of_commits_leaves_no_half_transaction() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("d.db");
    let directory = open(&file);
    let mut last = 0;
    for round in 0..4 {
        let mut helper = Helper::start("storm", &file);
        let incarnation = Incarnation(Epoch(*helper.hear().unwrap().first().unwrap()));
        let mut told = std::collections::BTreeMap::new();
        // Killed after a different number of commits each time, while it goes on writing.
        for _ in 0..(100 + 37 * round) {
            let said = helper.hear().unwrap();
            let [n, epoch] = said.as_slice() else { panic!("{said:?}") };
            told.insert(*n, *epoch);
        }
        helper.kill();
        // What it said before it died, but was not read yet, was applied too.
        while let Some(said) = helper.hear() {
            if let [n, epoch] = said.as_slice() {
                told.insert(*n, *epoch);
            }
        }
        for n in 0..CROWDS {
            let mut keys = std::collections::HashSet::new();
            for session in crowd(n) {
                keys.insert(directory.read(session).await.unwrap().key());
            }
            assert_eq!(keys.len(), 1, "half a transaction, crowd {n}: {keys:?}");
            let stored = keys.into_iter().flatten().map(|(_, epoch)| epoch.0).max().unwrap_or(0);
            assert!(stored >= told.get(&n).copied().unwrap_or(0), "crowd {n} has lost what was told to be applied");
            last = last.max(stored);
        }
        assert!(proven_dead(&directory, incarnation).await);
        let (probe, ..) = member(&directory, &format!("probe {round}")).await;
        assert!(probe.0.0 > last, "the counter went back: {} after {last}", probe.0.0);
    }
}

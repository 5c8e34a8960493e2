//! The SQLite backend and processes that are killed: proof of death, and commits in the middle.
//!
//! The second process is this test binary again, started for the test `helper` alone with a task in its environment. Every
//! process that is started is killed by its id, also when the test fails.

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
use wayfarer_directory::conformance::{DEADLINE, draft, member};
use wayfarer_directory::{SqliteDirectory, SqliteOptions};
use wayfarer_engine::directory::{Directory, DirectoryError, NextEpoch, Outcome, Transaction, Write};
use wayfarer_engine::ids::{Epoch, GroupId, Incarnation, SessionId};

const TASK: &str = "WAYFARER_TEST_TASK";
const FILE: &str = "WAYFARER_TEST_FILE";
/// Begins each line that a helper says.
const SAYS: &str = "helper: ";
/// How many crowds of sessions the storm writes in turn.
const CROWDS: u64 = 16;
/// How many sessions a crowd has.
const CROWD: u64 = 64;

fn open(path: impl Into<PathBuf>) -> SqliteDirectory {
    SqliteDirectory::open(path, SqliteOptions { busy_ms: 20_000, ..SqliteOptions::default() }).unwrap()
}

/// A second process, killed when dropped.
struct Helper {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    fn start(task: &str, file: &Path) -> Helper {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "helper", "--nocapture", "--ignored"])
            .env(TASK, task)
            .env(FILE, file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Helper { child, lines }
    }

    /// The numbers of the next line that it says.
    fn hear(&mut self) -> Option<Vec<u64>> {
        let said = self.lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix(SAYS).map(str::to_owned))?;
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

fn say(numbers: &[u64]) {
    use std::io::Write as _;
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    let mut out = std::io::stdout();
    // The harness may have begun a line of its own. If nobody hears it any more, its test has ended.
    if writeln!(out, "\n{SAYS}{}", numbers.join(" ")).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// What the second process does.
#[test]
#[ignore = "started by the other tests as a process of its own"]
fn helper() {
    let (Ok(task), Ok(file)) = (std::env::var(TASK), std::env::var(FILE)) else { return };
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

/// The sessions that one transaction moves: so many that a kill at any time is most likely in the middle of one.
fn crowd(n: u64) -> impl Iterator<Item = SessionId> {
    (0..CROWD).map(move |i| SessionId::copy_of(format!("crowd {n} session {i}").as_bytes()))
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

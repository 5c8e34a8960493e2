//! Two sidecars, where clients go, and the three ways by which sessions move from A to B while clients go on.
//!
//! It knows no library: [`crate::web`] and [`crate::hash`] bring the clients. Invariant: [`Stage::move_sessions`] returns only
//! when the log of moves of both nodes, their counters and their numbers of sessions agree that the sessions have moved.

use crate::harness::{Cluster, Node, http, until};
use crate::ledger::Ledger;
use crate::services::Service;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use wayfarer_engine::ids::IdKey;

/// As in the configuration that the harness writes.
const ID_KEY: IdKey = IdKey([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
/// Failures that are kept for the message of the test.
const FAILURES_MAX: usize = 10;

/// How the sessions come to B.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// B joins, and an operator has it take its share; clients stay at A.
    Rebalance,
    /// The clients come to B only.
    Arrival,
    /// A is told to leave by SIGTERM; clients go to B once A is not ready.
    Drain,
}

/// Where clients go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Road {
    OnlyA,
    /// In turns, whoever owns the session.
    Both,
    OnlyB,
}

/// What clients share: the ways to the nodes (`T`), where to go now, when to stop, and what went wrong.
pub struct Roads<T> {
    a: T,
    b: OnceLock<T>,
    road: AtomicU8,
    turn: AtomicUsize,
    stopped: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl<T> Roads<T> {
    pub fn to_a(a: T) -> Roads<T> {
        Roads {
            a,
            b: OnceLock::new(),
            road: AtomicU8::new(Road::OnlyA as u8),
            turn: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            failures: Mutex::default(),
        }
    }

    pub fn a(&self) -> &T {
        &self.a
    }

    pub fn b(&self) -> &T {
        self.b.get().expect("B has been started")
    }

    /// B can be reached from now on.
    pub fn open_b(&self, b: T) {
        assert!(self.b.set(b).is_ok(), "B is opened once");
    }

    pub fn take(&self, road: Road) {
        self.road.store(road as u8, Ordering::SeqCst);
    }

    /// Where the next request goes.
    pub fn next(&self) -> &T {
        let road = self.road.load(Ordering::SeqCst);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let to_b = road == Road::OnlyB as u8 || (road == Road::Both as u8 && turn.is_multiple_of(2));
        if to_b { self.b() } else { &self.a }
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Notes what went wrong and stops all clients; a request that ended well changes nothing.
    pub fn note(&self, outcome: Result<(), String>) {
        if let Err(failure) = outcome {
            let mut failures = self.failures.lock().unwrap();
            if failures.len() < FAILURES_MAX {
                failures.push(failure);
            }
            self.stop();
        }
    }

    /// Fails the test if a request has failed.
    pub fn assert_no_failure(&self) {
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "clients saw errors during the moves:\n{}", failures.join("\n"));
    }

    /// Waits until each session has seen so many more requests end well; fails the test if one did not.
    pub fn wait_for_requests<'a>(&self, sessions: impl Iterator<Item = &'a Ledger>, more: u64) {
        let due: Vec<(&Ledger, u64)> = sessions.map(|s| (s, s.done() + more)).collect();
        until("more requests of each session", || {
            (self.is_stopped() || due.iter().all(|(session, at)| session.done() >= *at)).then_some(())
        });
        self.assert_no_failure();
    }
}

/// The nodes.
pub struct Stage {
    way: Way,
    command: Vec<String>,
    a: Option<Node>,
    b: Option<Node>,
    /// Goes last: it is the folder that holds the logs of the nodes.
    cluster: Cluster,
}

/// When each session moved, by its keyed hash: the times in the nodes' logs, in microseconds since 1970.
pub type Moved = BTreeMap<String, Vec<u64>>;

/// The keyed hash by which the nodes show a session.
pub fn shown(session: &[u8]) -> String {
    ID_KEY.show(session)
}

impl Stage {
    /// A, and B unless it is to join later. With a service: an instance beside each. `policy`: sections of the configuration.
    pub fn start(way: Way, keys: &str, policy: &str, service: Option<Service>) -> Stage {
        // A rebalancing is seen by itself: no session comes back because its clients stay at A.
        let residence_ms_min = if way == Way::Rebalance { 600_000 } else { 300 };
        let mut cluster = Cluster::new(keys).with(&format!("[handover]\nresidence_ms_min = {residence_ms_min}\n{policy}"));
        if let Some(service) = service {
            cluster.codec = service.codec;
        }
        let command = service.map(|s| s.command()).unwrap_or_default();
        let mut stage = Stage { way, cluster, command, a: None, b: None };
        stage.a = Some(stage.node("a"));
        if way != Way::Rebalance {
            stage.b = Some(stage.node("b"));
        }
        stage
    }

    fn node(&self, name: &str) -> Node {
        let command: Vec<&str> = self.command.iter().map(String::as_str).collect();
        let node = self.cluster.start(name, &command);
        if !command.is_empty() {
            until("the instance", || http::get(node.http, "/healthz").ok().filter(|answer| answer.status == 200));
            let text = http::get(node.http, "/healthz").unwrap().text();
            assert!(text.contains(&format!("\"{name}\"")), "beside {name} runs another instance: {text}");
        }
        node
    }

    pub fn a(&self) -> &Node {
        self.a.as_ref().expect("A still runs")
    }

    /// A, if it still runs.
    pub fn a_if_it_runs(&self) -> Option<&Node> {
        self.a.as_ref()
    }

    pub fn b(&self) -> &Node {
        self.b.as_ref().expect("B has been started")
    }

    /// Has the sessions (their keyed hashes) move from A to B, half of them by a rebalancing, else all.
    pub fn move_sessions<T>(&mut self, roads: &Roads<T>, sessions: &BTreeSet<String>, open: impl Fn(&Node) -> T) -> Moved {
        let all = sessions.len() as u64;
        assert_eq!(self.a().sessions(), all, "all sessions were born at A");
        match self.way {
            Way::Rebalance => {
                self.b = Some(self.node("b"));
                roads.open_b(open(self.b()));
                assert_eq!(self.a().rebalance(), (all / 2, 0), "sessions moved, sessions that did not");
                assert_eq!((self.a().sessions(), self.b().sessions()), (all - all / 2, all / 2));
            }
            Way::Arrival => {
                roads.open_b(open(self.b()));
                roads.take(Road::OnlyB);
                until("all sessions at B", || (roads.is_stopped() || self.b().sessions() == all).then_some(()));
                roads.assert_no_failure();
                assert_eq!(self.a().sessions(), 0);
            }
            Way::Drain => {
                roads.open_b(open(self.b()));
                self.drain_a(roads);
                roads.assert_no_failure();
                assert_eq!(self.b().sessions(), all);
            }
        }
        let moved = self.moved();
        let expected = if self.way == Way::Rebalance { sessions.len() / 2 } else { sessions.len() };
        assert_eq!(moved.len(), expected, "sessions in the log of moves: {moved:?}");
        assert!(moved.keys().all(|session| sessions.contains(session)), "{moved:?} are not all of {sessions:?}");
        let taken = self.b().metric("wayfarer_handovers_taken_total");
        assert!(taken >= expected as f64, "B counts {taken} sessions taken");
        moved
    }

    /// A leaves; what it says about itself while it does is for the balancer alone.
    fn drain_a<T>(&mut self, roads: &Roads<T>) {
        let mut a = self.a.take().expect("A still runs");
        a.signal(rustix::process::Signal::TERM);
        until("A not ready", || http::get(a.admin, "/readyz").map_or(Some(()), |answer| (answer.status != 200).then_some(())));
        roads.take(Road::OnlyB);
        let status = a.wait_exit();
        assert_eq!(status.code(), Some(0), "A left with {status}:\n{}", a.log_text());
        for gone in [a.http, a.state, a.admin] {
            assert!(std::net::TcpStream::connect(gone).is_err(), "somebody still listens at {gone}");
        }
    }

    /// What the logs of moves say: when B opened a session, and when A froze it.
    fn moved(&self) -> Moved {
        let mut moved = Moved::new();
        for (node, side) in [(self.b.as_ref(), "target"), (self.a.as_ref(), "origin")] {
            let Some(node) = node else { continue };
            for entry in node.moves()["moves"].as_array().unwrap() {
                if entry["side"] == side && entry["outcome"] == "committed" {
                    let session = entry["session"].as_str().unwrap().to_owned();
                    moved.entry(session).or_default().push(entry["at_unix_us"].as_u64().unwrap());
                }
            }
        }
        moved
    }

    /// After clients went to both nodes while each owned some of the sessions: each has asked the other.
    pub fn assert_both_forwarded(&self) {
        for node in self.a.iter().chain(&self.b) {
            let forwarded = node.metric("wayfarer_operations_forwarded_total");
            assert!(forwarded > 0.0, "{} has forwarded no operation", node.name);
        }
    }

    /// No session anywhere, no value refused, none lost.
    pub fn assert_nothing_is_left(&self) {
        for node in self.a.iter().chain(&self.b) {
            assert_eq!(node.sessions(), 0, "sessions at {} after all have logged out", node.name);
            for trouble in ["wayfarer_values_mismatched_total", "wayfarer_variables_lost_total"] {
                assert_eq!(node.metric(trouble), 0.0, "{trouble} at {}", node.name);
            }
        }
    }
}

/// At least half of the sessions moved with so many requests of theirs in flight. That all of them do is up to chance: the moment
/// of the freeze is the sidecar's, and the lanes of a session pause between two requests.
pub fn assert_in_flight<'a>(moved: &Moved, least: usize, session: impl Fn(&str) -> &'a Ledger) {
    let most_of = |(name, times): (&String, &Vec<u64>)| times.iter().map(|at| session(name).in_flight_at(*at)).max().unwrap_or(0);
    let in_flight: Vec<usize> = moved.iter().map(most_of).collect();
    println!("requests in flight of each session when it moved: {in_flight:?}");
    let met = in_flight.iter().filter(|most| **most >= least).count();
    assert!(
        met > 0 && met * 2 >= in_flight.len(),
        "too few sessions had {least} requests in flight when they moved: {in_flight:?}"
    );
}

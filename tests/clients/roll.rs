//! A fleet is rolled, under load all the time: plain Redis → sidecars in `observe` → `own` → `observe` → plain Redis.
//!
//! The sessions are made before the first sidecar is there, by the library itself, in a real Redis. Two places take requests in
//! turns; an instance is replaced as a balancer does it: new requests go to the new one, and the old one ends when those under way
//! have been answered. Invariant: every request of every phase is answered, with what was written last: no logout, nothing lost,
//! no error.

use crate::harness::redis_cluster::RedisCluster;
use crate::harness::redis_server::RedisServer;
use crate::harness::{Cluster, Node, free_port, http, until, wayfarer};
use crate::ledger::Ledger;
use crate::services::Service;
use crate::{hash, web};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tokio::sync::RwLock;
use tokio::task::JoinSet;

/// Requests of each session in each phase.
const REQUESTS: u64 = 6;

/// Where requests go: a request holds its place while it is under way, so that whoever changes it waits for those.
type Places<T> = Arc<[RwLock<T>; 2]>;

/// An instance without a sidecar.
struct Plain {
    child: Child,
    address: SocketAddr,
}

impl Plain {
    fn start(service: Service, redis: &RedisServer, name: &str) -> Plain {
        let (command, port) = (service.command(), free_port());
        let mut start = Command::new(&command[0]);
        start.args(&command[1..]).env("PORT", port.to_string()).env("INSTANCE", name);
        start.env("REDIS_URL", format!("redis://127.0.0.1:{}", redis.port));
        let child = start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let plain = Plain { child, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        until("the instance", || http::get(plain.address, "/healthz").ok().filter(|answer| answer.status == 200));
        plain
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        // It may have ended by itself; then there is nothing to end.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        drop(self.child.wait());
    }
}

/// Changes the mode of the whole cluster by one of its nodes.
fn reach(node: &Node, mode: &str) {
    let done = wayfarer(&["mode", mode, "--wait", "--admin", &node.admin.to_string()]);
    assert!(done.status.success(), "{done:?}\n{}", node.log_text());
}

/// The node leaves; nothing may stay behind.
fn leave(mut node: Node) {
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait_exit().code(), Some(0), "{}", node.log_text());
}

fn cluster(keys: &str, redis: &RedisServer, codec: &'static str) -> Cluster {
    cluster_of_url(keys, &format!("redis://127.0.0.1:{}/0", redis.port), codec)
}

fn cluster_of_url(keys: &str, url: &str, codec: &'static str) -> Cluster {
    let upstream = format!("state.upstream={url}");
    let mut cluster = Cluster::new(keys).set(&[&upstream, "cluster.mode=observe", "drain.settle_ms=0"]);
    cluster.codec = codec;
    cluster
}

/// Sidecars in `observe` to `own` and back, with requests in each mode; what only sidecars can tell is checked.
fn through_the_modes(nodes: &[Node], more: impl Fn()) {
    let owned = || nodes.iter().map(Node::sessions).sum::<u64>();
    more();
    assert_eq!(owned(), 0, "nobody owns a session in observe");
    reach(&nodes[0], "own");
    more();
    assert!(owned() > 0, "sessions have owners");
    reach(&nodes[1], "observe");
    assert_eq!(owned(), 0, "all are at rest again");
    more();
    for node in nodes {
        assert_eq!(node.metric("wayfarer_foreign_writes_total"), 0.0, "{}", node.log_text());
    }
}

/// A web service of this library, unchanged, before a Redis Cluster, which its client cannot speak to: through the modes, and with each node
/// replaced.
pub fn before_a_cluster(service: Service) {
    if !service.is_installed() {
        return;
    }
    let Some(redis) = RedisCluster::start(3, 0, &[]) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cluster = cluster_of_url(service.keys, &redis.url(), service.codec);
    let command = service.command();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let start = |name: &str| {
        let node = cluster.start(name, &command);
        until("the instance", || http::get(node.http, "/healthz").ok().filter(|answer| answer.status == 200));
        node
    };
    let mut nodes = vec![start("a"), start("b")];
    let clients = Arc::new(runtime.block_on(web::log_in(nodes[0].http, service)).unwrap());
    let places: Places<SocketAddr> = Arc::new([RwLock::new(nodes[0].http), RwLock::new(nodes[1].http)]);
    let lanes = lanes_of_web(&runtime, &clients, &places);
    let more = || clients.roads.wait_for_requests(clients.sessions.iter().map(|s| &s.ledger), REQUESTS);
    let go_to = |place: usize, to: SocketAddr| runtime.block_on(async { *places[place].write().await = to });
    through_the_modes(&nodes, more);
    reach(&nodes[0], "own");
    for place in 0..2 {
        let node = start(["c", "d"][place]);
        go_to(place, node.http);
        leave(nodes.remove(0));
        nodes.push(node);
        more();
    }
    clients.roads.stop();
    runtime.block_on(lanes.join_all());
    clients.roads.assert_no_failure();
    let ends: Vec<SocketAddr> = nodes.iter().map(|node| node.http).collect();
    for session in &clients.sessions {
        runtime.block_on(clients.read_apart(ends[1], session, 0)).unwrap();
        runtime.block_on(clients.log_out(ends[0], &ends, session)).unwrap();
    }
}

/// A web service of this library.
pub fn in_and_out(service: Service) {
    if !service.is_installed() {
        return;
    }
    let Some(redis) = RedisServer::start(&[]) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut plain = vec![Plain::start(service, &redis, "first"), Plain::start(service, &redis, "second")];
    let clients = Arc::new(runtime.block_on(web::log_in(plain[0].address, service)).unwrap());
    let places: Places<SocketAddr> = Arc::new([RwLock::new(plain[0].address), RwLock::new(plain[1].address)]);
    let lanes = lanes_of_web(&runtime, &clients, &places);
    let more = || clients.roads.wait_for_requests(clients.sessions.iter().map(|s| &s.ledger), REQUESTS);
    let go_to = |place: usize, to: SocketAddr| runtime.block_on(async { *places[place].write().await = to });
    more();

    let cluster = cluster(service.keys, &redis, service.codec);
    let command = service.command();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut nodes = Vec::new();
    for place in 0..2 {
        let node = cluster.start(["a", "b"][place], &command);
        until("the instance", || http::get(node.http, "/healthz").ok().filter(|answer| answer.status == 200));
        go_to(place, node.http);
        plain.remove(0);
        nodes.push(node);
        // With the first one a sidecar and a plain instance answer side by side.
        more();
    }
    through_the_modes(&nodes, more);
    for place in 0..2 {
        let instance = Plain::start(service, &redis, "plain again");
        go_to(place, instance.address);
        leave(nodes.remove(0));
        plain.push(instance);
        more();
    }
    clients.roads.stop();
    runtime.block_on(lanes.join_all());
    clients.roads.assert_no_failure();
    let ends: Vec<SocketAddr> = plain.iter().map(|instance| instance.address).collect();
    for session in &clients.sessions {
        runtime.block_on(clients.read_apart(ends[1], session, 0)).unwrap();
        runtime.block_on(clients.log_out(ends[0], &ends, session)).unwrap();
    }
}

fn lanes_of_web(runtime: &tokio::runtime::Runtime, clients: &Arc<web::Clients>, places: &Places<SocketAddr>) -> JoinSet<()> {
    let mut lanes = JoinSet::new();
    for (at, lane) in (0..clients.sessions.len()).flat_map(|at| [(at, 0u64), (at, 1)]) {
        let (clients, places) = (clients.clone(), places.clone());
        let run = async move {
            let (session, mut turn) = (&clients.sessions[at], lane);
            while !clients.roads.is_stopped() {
                let to = places[usize::from(!turn.is_multiple_of(2))].read().await;
                let hold_ms = turn * 7 % 20;
                let outcome = match lane {
                    0 => clients.change(*to, session, turn, hold_ms).await,
                    _ => clients.read_apart(*to, session, hold_ms).await,
                };
                clients.roads.note(outcome.map_err(|failure| format!("{}: {failure}", session.user)));
                turn += 1;
            }
        };
        lanes.spawn_on(run, runtime.handle());
    }
    lanes
}

/// redis-rs, straight at Redis and at the state faces: several writers of one hash.
pub fn hashes_in_and_out() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let open = |address: SocketAddr| runtime.block_on(hash::Pool::open(address)).unwrap();
    let clients = Arc::new(runtime.block_on(hash::log_in(redis.address())).unwrap());
    let places: Places<hash::Pool> = Arc::new([RwLock::new(open(redis.address())), RwLock::new(open(redis.address()))]);
    let mut lanes = JoinSet::new();
    for (at, lane) in (0..clients.sessions.len()).flat_map(|at| (0..2 * hash::WRITERS).map(move |lane| (at, lane))) {
        let (clients, places) = (clients.clone(), places.clone());
        let run = async move {
            let (session, mut turn) = (&clients.sessions[at], 0);
            while !clients.roads.is_stopped() {
                let to = places[(turn + lane) % 2].read().await;
                let outcome = if lane < hash::WRITERS {
                    clients.write(&to, session, lane + hash::WRITERS * (turn / 2 % 2)).await
                } else {
                    clients.read(&to, session, turn).await
                };
                clients.roads.note(outcome.map_err(|failure| format!("session {}: {failure}", session.id)));
                turn += 1;
            }
        };
        lanes.spawn_on(run, runtime.handle());
    }
    let ledgers = || -> Vec<&Ledger> { clients.sessions.iter().map(|s| &s.ledger).collect() };
    let more = || clients.roads.wait_for_requests(ledgers().into_iter(), 10 * REQUESTS);
    let go_to = |place: usize, to: hash::Pool| runtime.block_on(async { *places[place].write().await = to });
    more();
    let cluster = cluster(hash::KEYS, &redis, "plain").set(&["http.enabled=false"]);
    let mut nodes = Vec::new();
    for place in 0..2 {
        let node = cluster.start(["a", "b"][place], &[]);
        go_to(place, open(node.state));
        nodes.push(node);
        more();
    }
    through_the_modes(&nodes, more);
    for place in 0..2 {
        go_to(place, open(redis.address()));
        leave(nodes.remove(0));
        more();
    }
    clients.roads.stop();
    runtime.block_on(lanes.join_all());
    clients.roads.assert_no_failure();
    clients.sessions.iter().for_each(|session| clients.check_counts(session).unwrap());
}

//! A service that keeps each session as a hash, in this process: redis-rs over a few multiplexed connections to each state face.
//!
//! It does what such services do: HSET, HINCRBY and EXPIRE in a pipeline, HGETALL, HMGET, HGET, DEL; and never repeats a command.
//! Fields are variables, so that several lanes of one session write at a time. Invariants: each HINCRBY counts once, which the
//! numbers that came back show; every reply is one that Redis would have given.

use crate::ledger::{Ledger, VARIABLES, unix_us};
use crate::stage::{Road, Roads, Stage, Way, assert_in_flight, shown};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

pub const KEYS: &str = r#"[{ pattern = "shop:{session}", layout = "hash" }]"#;
/// One variable of each class that keeps its value: in the handover, behind it, on first access.
const POLICY: &str = r#"
[[policy.variable]]
name = "picture"
class = "deferred"
[[policy.variable]]
name = "token"
class = "streamed"
[[policy.variable]]
name = "*"
class = "carried"
"#;
const SESSIONS: u64 = 16;
/// Lanes that write, each fields of its own; then as many that read.
pub const WRITERS: usize = 2;
const LANES: usize = 2 * WRITERS;
const RESPONSE_MAX: Duration = Duration::from_secs(5);
/// Replies of one session to HINCRBY that are kept; far more than a test brings about.
const COUNTS_MAX: usize = 200_000;

pub struct Session {
    pub id: String,
    key: String,
    pub ledger: Ledger,
    counts: Mutex<Vec<u64>>,
}

/// The connections to one node.
pub struct Pool {
    connections: Vec<MultiplexedConnection>,
    turn: AtomicUsize,
}

pub struct Clients {
    pub roads: Roads<Pool>,
    pub sessions: Vec<Session>,
}

/// The whole story: as [`crate::web`] tells it.
pub fn sessions_move(way: Way) {
    let mut stage = Stage::start(way, KEYS, POLICY, None);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let clients = Arc::new(runtime.block_on(log_in(stage.a().state)).unwrap());
    let by_id: BTreeMap<String, &Session> = clients.sessions.iter().map(|s| (shown(s.id.as_bytes()), s)).collect();
    let ledgers = || clients.sessions.iter().map(|s| &s.ledger);
    let roads = &clients.roads;

    let lanes = start_lanes(&runtime, &clients);
    roads.wait_for_requests(ledgers(), 20);
    let moved = stage.move_sessions(roads, &by_id.keys().cloned().collect(), |b| runtime.block_on(Pool::open(b.state)).unwrap());
    if stage.a_if_it_runs().is_some() {
        roads.take(Road::Both);
        roads.wait_for_requests(ledgers(), 200);
        stage.assert_both_forwarded();
        roads.take(Road::OnlyB);
    }
    roads.wait_for_requests(ledgers(), 100);
    roads.stop();
    runtime.block_on(lanes.join_all());
    roads.assert_no_failure();
    assert_in_flight(&moved, 2, |id| &by_id[id].ledger);

    let late = stage.b().metric("wayfarer_variables_fetched_late_total");
    assert!(late > 0.0, "no variable came late");
    let a_runs = stage.a_if_it_runs().is_some();
    for session in &clients.sessions {
        runtime.block_on(clients.last_words(session, a_runs)).unwrap();
    }
    stage.assert_nothing_is_left();
}

pub async fn log_in(a: SocketAddr) -> Result<Clients, String> {
    let sessions = (0..SESSIONS).map(|number| Session {
        id: format!("{number:032x}"),
        key: format!("shop:{number:032x}"),
        ledger: Ledger::new(number),
        counts: Mutex::default(),
    });
    let clients = Clients { roads: Roads::to_a(Pool::open(a).await.map_err(text)?), sessions: sessions.collect() };
    for session in &clients.sessions {
        let mut connection = clients.roads.a().connection();
        let new: u64 =
            redis::cmd("HSET").arg(&session.key).arg("user").arg(&session.id).query_async(&mut connection).await.map_err(text)?;
        assert_eq!(new, 1, "a new session has a new field");
        for at in 0..VARIABLES.len() {
            clients.write(clients.roads.a(), session, at).await?;
        }
    }
    Ok(clients)
}

fn start_lanes(runtime: &Runtime, clients: &Arc<Clients>) -> JoinSet<()> {
    let mut lanes = JoinSet::new();
    for at in 0..clients.sessions.len() {
        for lane in 0..LANES {
            let clients = clients.clone();
            lanes.spawn_on(async move { clients.lane(&clients.sessions[at], lane).await }, runtime.handle());
        }
    }
    lanes
}

fn text(error: RedisError) -> String {
    error.to_string()
}

impl Pool {
    /// Two connections that all lanes share, one for each version of the protocol.
    pub async fn open(state: SocketAddr) -> Result<Pool, RedisError> {
        let mut connections = Vec::new();
        for protocol in ["", "?protocol=resp3"] {
            let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_MAX));
            let client = Client::open(format!("redis://{state}/0{protocol}"))?;
            connections.push(client.get_multiplexed_async_connection_with_config(&config).await?);
        }
        Ok(Pool { connections, turn: AtomicUsize::new(0) })
    }

    fn connection(&self) -> MultiplexedConnection {
        self.connections[self.turn.fetch_add(1, Ordering::Relaxed) % self.connections.len()].clone()
    }
}

impl Clients {
    async fn lane(&self, session: &Session, lane: usize) {
        let mut turn = 0;
        while !self.roads.is_stopped() {
            let to = self.roads.next();
            let outcome = if lane < WRITERS {
                self.write(to, session, lane + WRITERS * (turn % (VARIABLES.len() / WRITERS))).await
            } else {
                self.read(to, session, turn).await
            };
            self.roads.note(outcome.map_err(|failure| format!("session {}: {failure}", session.id)));
            turn += 1;
        }
    }

    /// One pipeline that writes a variable and counts.
    pub async fn write(&self, to: &Pool, session: &Session, at: usize) -> Result<(), String> {
        let (number, value) = session.ledger.begin(at);
        let mut pipeline = redis::pipe();
        pipeline.cmd("HSET").arg(&session.key).arg(VARIABLES[at].name).arg(value).ignore();
        pipeline.cmd("HINCRBY").arg(&session.key).arg("hits").arg(1);
        pipeline.cmd("EXPIRE").arg(&session.key).arg(1_800);
        let began_us = unix_us();
        let (count, expires): (u64, bool) = pipeline.query_async(&mut to.connection()).await.map_err(text)?;
        session.ledger.acknowledged(at, number);
        session.ledger.flew(began_us);
        let mut counts = session.counts.lock().unwrap();
        if counts.len() < COUNTS_MAX {
            counts.push(count);
        }
        expires.then_some(()).ok_or_else(|| "EXPIRE found no session".to_owned())
    }

    /// One read, in one of three ways.
    pub async fn read(&self, to: &Pool, session: &Session, turn: usize) -> Result<(), String> {
        let floors = session.ledger.floors();
        let mut connection = to.connection();
        let began_us = unix_us();
        let names = VARIABLES.iter().map(|v| v.name);
        let seen: Vec<(usize, Option<Vec<u8>>)> = match turn % 3 {
            0 => {
                let hash = redis::cmd("HGETALL").arg(&session.key).query_async(&mut connection).await;
                let mut all: BTreeMap<String, Vec<u8>> = hash.map_err(text)?;
                if all.get("user").map(Vec::as_slice) != Some(session.id.as_bytes()) {
                    return Err(format!("HGETALL gives {} fields, and not the user", all.len()));
                }
                names.map(|name| all.remove(name)).enumerate().collect()
            }
            1 => {
                let list =
                    redis::cmd("HMGET").arg(&session.key).arg(names.collect::<Vec<_>>()).query_async(&mut connection).await;
                let list: Vec<Option<Vec<u8>>> = list.map_err(text)?;
                list.into_iter().enumerate().collect()
            }
            _ => {
                let at = turn % VARIABLES.len();
                let value = redis::cmd("HGET").arg(&session.key).arg(VARIABLES[at].name).query_async(&mut connection).await;
                vec![(at, value.map_err(text)?)]
            }
        };
        session.ledger.flew(began_us);
        seen.iter().try_for_each(|(at, value)| session.ledger.check(*at, floors[*at], value.as_deref()))
    }

    /// Each increment has counted once.
    pub fn check_counts(&self, session: &Session) -> Result<(), String> {
        let mut counts = std::mem::take(&mut *session.counts.lock().unwrap());
        counts.sort_unstable();
        let expected: Vec<u64> = (1..=counts.len() as u64).collect();
        if counts != expected {
            let wrong = counts.iter().zip(&expected).find(|(count, number)| count != number);
            return Err(format!("increments were lost or counted twice: {} in all, first wrong: {wrong:?}", counts.len()));
        }
        Ok(())
    }

    /// As for web services; and each increment has counted once.
    async fn last_words(&self, session: &Session, a_runs: bool) -> Result<(), String> {
        let b = self.roads.b();
        let nodes = if a_runs { vec![self.roads.a(), b] } else { vec![b] };
        for at in 0..VARIABLES.len() {
            self.write(b, session, at).await?;
            for (turn, to) in nodes.iter().flat_map(|to| (0..3).map(move |turn| (turn, to))) {
                self.read(to, session, turn).await?;
            }
        }
        self.check_counts(session)?;
        let removed: u64 = redis::cmd("DEL").arg(&session.key).query_async(&mut b.connection()).await.map_err(text)?;
        if removed != 1 {
            return Err(format!("DEL removed {removed}"));
        }
        for to in nodes.iter().cycle().take(2 * nodes.len()) {
            let mut ask = redis::pipe();
            ask.cmd("EXISTS").arg(&session.key).cmd("HLEN").arg(&session.key).cmd("HGET").arg(&session.key).arg("user");
            ask.cmd("EXPIRE").arg(&session.key).arg(1_800).cmd("DEL").arg(&session.key);
            let gone: (u64, u64, Option<String>, u64, u64) = ask.query_async(&mut to.connection()).await.map_err(text)?;
            if gone != (0, 0, None, 0, 0) {
                return Err(format!("after the logout a node answers {gone:?}"));
            }
        }
        Ok(())
    }
}

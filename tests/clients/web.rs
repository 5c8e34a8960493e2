//! A web service beside each of two sidecars, its clients over HTTP: several requests of each session at a time, while it moves.
//!
//! Log in and write at A · move with requests in flight · read and write wherever clients come · write, log out at B · A and B say
//! the same from then on. The services read a session whole and write it whole, so that of two writes of one session at a time
//! one is lost with any store: each session has one lane that writes and several that read. Invariant: every request is answered
//! with 200 until the logout, and with 401 after it.

use crate::http_client::{HttpClient, escaped, from_base64};
use crate::ledger::{Ledger, VARIABLES, unix_us};
use crate::services::Service;
use crate::stage::{Road, Roads, Stage, Way, assert_in_flight, shown};
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;
use tokio::sync::RwLock;
use tokio::task::JoinSet;

const SESSIONS: u64 = 6;
const READERS: u64 = 3;
/// The session with a variable that is much larger than the others.
const HEAVY: u64 = 0;

/// One client's session: what it sends and what it knows.
pub struct Session {
    pub user: String,
    /// Changes when the client logs in again.
    cookie: Mutex<String>,
    pub ledger: Ledger,
    counted: AtomicU64,
    heavy: Bytes,
    /// Held shared by a read and alone by a write, where a read would write back what it has read.
    apart: Option<RwLock<()>>,
}

pub struct Clients {
    http: HttpClient,
    pub roads: Roads<SocketAddr>,
    pub sessions: Vec<Session>,
}

/// The whole story, see the head of this file.
pub fn sessions_move(service: Service, way: Way) {
    if !service.is_installed() {
        return;
    }
    let mut stage = Stage::start(way, service.keys, policy(way), Some(service));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let clients = Arc::new(runtime.block_on(log_in(stage.a().http, service)).unwrap());
    let id = |s: &Session| shown(&service.session_id(&s.cookie()));
    let by_id: BTreeMap<String, &Session> = clients.sessions.iter().map(|s| (id(s), s)).collect();
    let ledgers = || clients.sessions.iter().map(|s| &s.ledger);
    let roads = &clients.roads;

    let lanes = start_lanes(&runtime, &clients);
    roads.wait_for_requests(ledgers(), 4);
    let moved = stage.move_sessions(roads, &by_id.keys().cloned().collect(), |b| b.http);
    if stage.a_if_it_runs().is_some() {
        roads.take(Road::Both);
        roads.wait_for_requests(ledgers(), 10);
        stage.assert_both_forwarded();
        roads.take(Road::OnlyB);
    }
    roads.wait_for_requests(ledgers(), 6);
    roads.stop();
    runtime.block_on(lanes.join_all());
    roads.assert_no_failure();
    let least = if service.reads_keep_writes { 2 } else { 1 };
    assert_in_flight(&moved, least, |id| &by_id[id].ledger);

    let late = stage.b().metric("wayfarer_variables_fetched_late_total");
    assert!(late > 0.0, "no value came behind its session");
    let a_runs = stage.a_if_it_runs().is_some();
    for session in &clients.sessions {
        runtime.block_on(clients.last_words(session, a_runs)).unwrap();
    }
    stage.assert_nothing_is_left();
}

/// Sessions that follow their clients bring their values on first access, the others right behind the handover.
fn policy(way: Way) -> &'static str {
    if way == Way::Arrival { "[policy]\nclass = \"deferred\"" } else { "" }
}

pub async fn log_in(a: SocketAddr, service: Service) -> Result<Clients, String> {
    let http = HttpClient::default();
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let user = format!("user-{number}");
        let answer = http.post(a, &format!("/login?user={user}"), "", Bytes::new()).await?.ok()?;
        let heavy: Vec<u8> =
            if number == HEAVY { (0..service.heavy_bytes).map(|i| (i * i / 7 + i) as u8).collect() } else { vec![0, 255] };
        sessions.push(Session {
            user,
            cookie: Mutex::new(answer.cookie.ok_or("no cookie at login")?),
            ledger: Ledger::new(number),
            counted: AtomicU64::new(0),
            heavy: heavy.into(),
            apart: (!service.reads_keep_writes).then(RwLock::default),
        });
    }
    let clients = Clients { http, roads: Roads::to_a(a), sessions };
    for session in &clients.sessions {
        clients.http.post(a, "/write?name=album", &session.cookie(), session.heavy.clone()).await?.ok()?;
        for at in 0..VARIABLES.len() {
            clients.write(a, session, at, 0).await?;
        }
        clients.read(a, session, 0).await?;
    }
    Ok(clients)
}

/// For each session one lane that writes and counts, and several that read, until they are stopped.
fn start_lanes(runtime: &Runtime, clients: &Arc<Clients>) -> JoinSet<()> {
    let mut lanes = JoinSet::new();
    for at in 0..clients.sessions.len() {
        for lane in 0..=READERS {
            let clients = clients.clone();
            lanes.spawn_on(async move { clients.lane(&clients.sessions[at], lane).await }, runtime.handle());
        }
    }
    lanes
}

impl Session {
    fn cookie(&self) -> String {
        self.cookie.lock().unwrap().clone()
    }
}

impl Clients {
    async fn lane(&self, session: &Session, lane: u64) {
        let mut turn = lane;
        while !self.roads.is_stopped() {
            // The holds differ, so that the requests of a session begin and end at all sides of the freeze.
            let hold_ms = turn * 37 % 120;
            let to = *self.roads.next();
            let outcome = match lane {
                0 => self.change(to, session, turn, hold_ms / 2).await,
                _ => self.read_apart(to, session, hold_ms).await,
            };
            self.roads.note(outcome.map_err(|failure| format!("{}: {failure}", session.user)));
            turn += 1;
        }
    }

    /// One request that changes something.
    pub async fn change(&self, to: SocketAddr, session: &Session, turn: u64, hold_ms: u64) -> Result<(), String> {
        let _alone = match &session.apart {
            Some(apart) => Some(apart.write().await),
            None => None,
        };
        match usize::try_from(turn % 5).unwrap_or(0) {
            4 => self.count(to, session, hold_ms).await,
            at => self.write(to, session, at, hold_ms).await,
        }
    }

    /// One request that reads everything.
    pub async fn read_apart(&self, to: SocketAddr, session: &Session, hold_ms: u64) -> Result<(), String> {
        let _shared = match &session.apart {
            Some(apart) => Some(apart.read().await),
            None => None,
        };
        self.read(to, session, hold_ms).await
    }

    async fn write(&self, to: SocketAddr, session: &Session, at: usize, hold_ms: u64) -> Result<(), String> {
        let variable = &VARIABLES[at];
        let (number, value) = session.ledger.begin(at);
        let mut path = format!("/write?name={}&hold_ms={hold_ms}", variable.name);
        let body = if variable.binary {
            Bytes::from(value)
        } else {
            path.push_str(&format!("&value={}", escaped(std::str::from_utf8(&value).map_err(|e| e.to_string())?)));
            Bytes::new()
        };
        let began_us = unix_us();
        let answer = self.http.post(to, &path, &session.cookie(), body).await?.ok()?;
        session.ledger.acknowledged(at, number);
        session.ledger.flew(began_us);
        self.same_user(session, &answer.json)
    }

    /// Only this lane counts: the number must be the next one, wherever the session is.
    async fn count(&self, to: SocketAddr, session: &Session, hold_ms: u64) -> Result<(), String> {
        let began_us = unix_us();
        let path = format!("/incr?name=hits&hold_ms={hold_ms}");
        let answer = self.http.post(to, &path, &session.cookie(), Bytes::new()).await?.ok()?;
        session.ledger.flew(began_us);
        let expected = session.counted.fetch_add(1, Ordering::SeqCst) + 1;
        match answer.json["number"].as_u64() {
            Some(number) if number == expected => Ok(()),
            other => Err(format!("hits is {other:?}, and not {expected}")),
        }
    }

    /// All variables, byte for byte, as fresh as they must be.
    async fn read(&self, to: SocketAddr, session: &Session, hold_ms: u64) -> Result<(), String> {
        let (floors, counted) = (session.ledger.floors(), session.counted.load(Ordering::SeqCst));
        let began_us = unix_us();
        let answer = self.http.get(to, &format!("/read?hold_ms={hold_ms}"), &session.cookie()).await?.ok()?;
        session.ledger.flew(began_us);
        self.same_user(session, &answer.json)?;
        let list = &answer.json["variables"];
        for (at, (variable, floor)) in VARIABLES.iter().zip(floors).enumerate() {
            let seen = bytes_of(&list[variable.name], variable.binary)?;
            session.ledger.check(at, floor, seen.as_deref())?;
        }
        if bytes_of(&list["album"], true)?.as_deref() != Some(&session.heavy[..]) {
            return Err("album: the bytes differ from those written".to_owned());
        }
        let hits = list["hits"]["number"].as_u64().unwrap_or(0);
        // One lane counts, one request at a time: at most one increment has begun and not ended.
        let allowed = counted..=session.counted.load(Ordering::SeqCst) + 1;
        if allowed.contains(&hits) { Ok(()) } else { Err(format!("hits is {hits}, and not in {allowed:?}")) }
    }

    fn same_user(&self, session: &Session, answer: &Value) -> Result<(), String> {
        let same = answer["user"] == session.user.as_str();
        same.then_some(()).ok_or_else(|| format!("the session of {} instead of {}", answer["user"], session.user))
    }

    /// Nothing is in flight any more: each node sees what was written at the other; the id changes at B, and then the session ends
    /// there; of an id that is gone no node knows anything.
    async fn last_words(&self, session: &Session, a_runs: bool) -> Result<(), String> {
        let b = *self.roads.b();
        let nodes = if a_runs { vec![*self.roads.a(), b] } else { vec![b] };
        for at in 0..VARIABLES.len() {
            self.write(b, session, at, 0).await?;
            for to in &nodes {
                self.read(*to, session, 0).await?;
            }
        }
        self.count(b, session, 0).await?;

        let before = session.cookie();
        let path = format!("/login?user={}", session.user);
        let again = self.http.post(b, &path, &before, Bytes::new()).await?.ok()?.cookie.ok_or("no cookie at the second login")?;
        if again == before {
            return Err("the second login has kept the session's id".to_owned());
        }
        *session.cookie.lock().unwrap() = again;
        self.must_be_gone(&nodes, &before).await?;
        for to in &nodes {
            self.count(*to, session, 0).await?;
            self.read(*to, session, 0).await?;
        }

        self.http.post(b, "/logout", &session.cookie(), Bytes::new()).await?.ok()?;
        self.must_be_gone(&nodes, &session.cookie()).await?;
        self.must_be_gone(&nodes, &before).await
    }

    /// What is asked with this cookie is answered as without a login, and brings nothing back.
    /// Logs out at one place, and is logged out at all.
    pub async fn log_out(&self, to: SocketAddr, nodes: &[SocketAddr], session: &Session) -> Result<(), String> {
        self.http.post(to, "/logout", &session.cookie(), Bytes::new()).await?.ok()?;
        self.must_be_gone(nodes, &session.cookie()).await
    }

    async fn must_be_gone(&self, nodes: &[SocketAddr], cookie: &str) -> Result<(), String> {
        for to in nodes.iter().cycle().take(2 * nodes.len()) {
            let read = self.http.get(*to, "/read", cookie).await?;
            let written = self.http.post(*to, "/write?name=step&value=back", cookie, Bytes::new()).await?;
            let who = self.http.get(*to, "/whoami", cookie).await?.ok()?;
            if (read.status, written.status, &who.json["user"]) != (401, 401, &Value::Null) {
                return Err(format!(
                    "an id that is gone: {to} answers {} and {} to {}",
                    read.status, written.status, who.json["user"]
                ));
            }
        }
        Ok(())
    }
}

/// The bytes of a variable in the answer of `/read`; `None` if it is not there.
fn bytes_of(shown: &Value, binary: bool) -> Result<Option<Vec<u8>>, String> {
    if shown.is_null() {
        return Ok(None);
    }
    let bytes = if binary {
        shown["base64"].as_str().and_then(from_base64)
    } else {
        shown["text"].as_str().map(|t| t.as_bytes().to_vec())
    };
    bytes.map(Some).ok_or_else(|| format!("a variable of another type than written (binary: {binary})"))
}

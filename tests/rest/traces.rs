//! What real session libraries send, replayed step by step against two sidecars and a plain `redis-server`, reply by reply.
//!
//! It never has a library: what can be installed runs live in `tests/clients`. Every line of the log that stands beside the project
//! is replayed; sequences that it lacks (Spring, Go, .NET, Redisson and others) are written in `traces/*.txt` from the sources of the
//! libraries. Of each library: begin at A · a third of the way, when a session is there, B joins, all clients go to B, and A gives it its
//! sessions and ends · the rest at B. What may differ is in the tables of [`wire`].

mod script;
mod wire;

use crate::cluster_of;
use crate::harness::{Cluster, Node};
use crate::redis::Redis;
use script::{Section, Step, sections};
use std::collections::BTreeMap;
use std::path::Path;
use wire::{Frame, Raw, difference};

/// Commands by which a client makes a new connection what the old one was.
const HANDSHAKE: &[&str] = &["hello", "auth", "select", "client", "subscribe", "psubscribe"];

/// A library: what the headings of its part begin with, its `[state] keys`, and whether it has sessions.
struct Library {
    headings: &'static [&'static str],
    keys: &'static str,
    has_sessions: bool,
}

const fn library(headings: &'static [&'static str], keys: &'static str) -> Library {
    Library { headings, keys, has_sessions: true }
}

/// A client that keeps no session in the log: its handshake and a key of others, which goes to the upstream.
const fn client(headings: &'static [&'static str]) -> Library {
    Library { headings, keys: r#"[{ preset = "connect-redis" }]"#, has_sessions: false }
}

const IN_THE_LOG: &[(&str, &[Library])] = &[
    (
        "python",
        &[
            client(&["redis-py"]),
            library(&["flask"], r#"[{ preset = "flask-session" }]"#),
            library(&["starsessions"], r#"[{ preset = "starsessions" }]"#),
            library(&["django_redis "], r#"[{ preset = "django-redis" }]"#),
            library(&["django "], r#"[{ preset = "django" }]"#),
        ],
    ),
    (
        "node",
        &[
            client(&["node-redis", "koa-redis own"]),
            library(&["node-redis 6 default", "express+"], r#"[{ preset = "connect-redis" }]"#),
            library(&["node-redis 6 default", "@fastify"], r#"[{ preset = "fastify-session" }]"#),
            library(&["ioredis 6", "koa-session"], r#"[{ preset = "koa-session" }]"#),
        ],
    ),
    (
        "php",
        &[
            library(&["php ", "url no db", "locking"], r#"[{ preset = "php" }, { preset = "php", prefix = "APP:" }]"#),
            library(&["php Redis ext", "sf "], r#"[{ preset = "symfony" }]"#),
            client(&["predis"]),
        ],
    ),
    (
        "ruby and rust",
        &[
            library(&["ruby redis-rack"], r#"[{ preset = "redis-rack" }, { preset = "redis-rack", prefix = "" }]"#),
            client(&["ruby redis-rb", "redis-rs", "end"]),
            library(&["rust fred", "tower"], r#"[{ preset = "tower-sessions" }]"#),
        ],
    ),
];

const SPRING: &[Library] = &[
    library(&["spring "], r#"[{ preset = "spring-session" }]"#),
    library(&["indexed "], r#"[{ preset = "spring-session-indexed" }]"#),
];
const GO: &[Library] = &[
    library(&["go-redis", "scs on go-redis"], r#"[{ preset = "scs" }]"#),
    library(&["scs on redigo"], r#"[{ preset = "scs" }]"#),
    library(&["rbcervilla"], r#"[{ preset = "redisstore" }]"#),
    library(&["boj"], r#"[{ preset = "redistore" }]"#),
];
const JAVA_AND_DOTNET: &[Library] =
    &[library(&["aspnetcore"], r#"[{ preset = "aspnetcore" }]"#), library(&["redisson"], r#"[{ preset = "redisson-tomcat" }]"#)];

/// Names the file, so that CI says why it has failed; `None` where it may be skipped.
fn log() -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/redis-client-wire-traces.log");
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            let why = format!("{} cannot be read ({error}): it stands beside the project", path.display());
            assert!(std::env::var_os("CI").is_none(), "{why}");
            println!("skipped: {why}");
            None
        }
    }
}

fn of_log(family: &str) {
    let Some(text) = log() else { return };
    let (_, libraries) = IN_THE_LOG.iter().find(|row| row.0 == family).unwrap();
    for library in *libraries {
        replay(library, &sections(&text));
    }
}

#[test]
fn libraries_of_python() {
    of_log("python");
}

#[test]
fn libraries_of_node() {
    of_log("node");
}

#[test]
fn libraries_of_php() {
    of_log("php");
}

#[test]
fn libraries_of_ruby_and_rust() {
    of_log("ruby and rust");
}

#[test]
fn no_line_of_the_log_is_left_out() {
    let Some(text) = log() else { return };
    let libraries = || IN_THE_LOG.iter().flat_map(|row| row.1);
    for section in sections(&text) {
        assert!(libraries().any(|library| library.has(&section)), "nobody replays '{}'", section.heading);
    }
    let lines = text.lines().filter(|line| !line.starts_with("###")).count();
    assert_eq!(sections(&text).iter().map(|s| s.steps.len()).sum::<usize>(), lines);
}

/// Every section of a text is of one of these libraries.
fn of_text(libraries: &[Library], text: &str) {
    let sections = sections(text);
    for section in &sections {
        assert!(libraries.iter().any(|library| library.has(section)), "nobody replays '{}'", section.heading);
    }
    for library in libraries {
        replay(library, &sections);
    }
}

#[test]
fn repositories_of_spring() {
    of_text(SPRING, include_str!("traces/spring.txt"));
}

#[test]
fn libraries_of_go() {
    of_text(GO, include_str!("traces/go.txt"));
}

#[test]
fn aspnetcore_and_redisson() {
    of_text(JAVA_AND_DOTNET, include_str!("traces/java_and_dotnet.txt"));
}

impl Library {
    fn has(&self, section: &Section) -> bool {
        self.headings.iter().any(|heading| section.heading.starts_with(heading))
    }
}

/// The two sides of what a library takes for one connection.
struct Pair {
    redis: Raw,
    ours: Raw,
    /// What it has said about itself, in order.
    handshake: Vec<Step>,
    is_in_transaction: bool,
}

impl Pair {
    /// The same step on both sides, and the same answer.
    fn take(&mut self, step: &Step, heading: &str) {
        let words = step.words.as_deref();
        // Shown when the test fails.
        println!("{heading}, line {}", step.line);
        let (redis, ours) = match words {
            Some(words) => (self.redis.call(words), self.ours.call(words)),
            None => (self.redis.read(), self.ours.read()),
        };
        if let Some(wrong) = difference(words, &redis, &ours) {
            let shown = words.map(|w| w.iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect::<Vec<_>>());
            panic!("{heading}, line {}: {} {shown:?}\n{wrong}", step.line, step.connection);
        }
        let name = words.map_or(String::new(), |w| String::from_utf8_lossy(&w[0]).to_ascii_lowercase());
        match name.as_str() {
            "multi" => self.is_in_transaction = matches!(ours, Frame::Line(_)),
            "exec" | "discard" => self.is_in_transaction = false,
            _ => {}
        }
        // Every channel of a SUBSCRIBE is confirmed apart.
        if name.ends_with("subscribe") {
            for _ in 2..words.map_or(0, <[_]>::len) {
                assert_eq!(self.redis.read(), self.ours.read(), "{heading}, line {}", step.line);
            }
        }
    }
}

/// A replay under way.
struct Stage {
    redis: Redis,
    cluster: Cluster,
    a: Option<Node>,
    b: Option<Node>,
    pairs: BTreeMap<String, Pair>,
}

impl Stage {
    fn node(&self) -> &Node {
        self.b.as_ref().or(self.a.as_ref()).expect("a node")
    }

    fn pair(&mut self, connection: &str) -> &mut Pair {
        let (redis, node) = (self.redis.address(), self.node().state);
        let made = || Pair {
            redis: Raw::to("Redis", redis),
            ours: Raw::to("Wayfarer", node),
            handshake: Vec::new(),
            is_in_transaction: false,
        };
        self.pairs.entry(connection.to_owned()).or_insert_with(made)
    }

    fn take(&mut self, step: &Step, heading: &str) {
        let pair = self.pair(&step.connection);
        pair.take(step, heading);
        let name = step.words.as_ref().map_or(String::new(), |w| String::from_utf8_lossy(&w[0]).to_ascii_lowercase());
        if HANDSHAKE.contains(&name.as_str()) {
            pair.handshake.push(step.clone());
        }
    }

    /// B joins; the clients connect to it, as they did to A, which gives it its sessions and ends.
    fn go_to_b(&mut self, heading: &str) {
        self.b = Some(self.cluster.start("b", &[]));
        for (connection, before) in std::mem::take(&mut self.pairs) {
            for step in &before.handshake {
                self.pair(&connection).take(step, heading);
            }
            self.pair(&connection).handshake = before.handshake;
        }
        let mut a = self.a.take().expect("A still runs");
        // One that knows of nobody else puts its sessions to rest.
        a.wait_members(2);
        a.ask_drain();
        let status = a.wait_exit();
        assert_eq!(status.code(), Some(0), "A left with {status}:\n{}", a.log_text());
    }
}

fn replay(library: &Library, all: &[Section]) {
    // One for what is compared with, one in which the sessions are at rest.
    let (Some(redis), Some(upstream)) = (Redis::start(), Redis::start()) else { return };
    let cluster = cluster_of(&upstream, library.keys).with("[handover]\nresidence_ms_min = 0");
    let a = cluster.start("a", &[]);
    let mut stage = Stage { redis, cluster, a: Some(a), b: None, pairs: BTreeMap::new() };
    let steps: Vec<(&Step, &str)> = all
        .iter()
        .filter(|section| library.has(section))
        .flat_map(|section| section.steps.iter().map(|step| (step, section.heading.as_str())))
        .collect();
    for (at, (step, heading)) in steps.iter().enumerate() {
        stage.take(step, heading);
        // What is under way to a client that listens is lost with its connection, as with Redis.
        let is_news_next = steps.get(at + 1).is_some_and(|(next, _)| next.words.is_none());
        let is_between = !is_news_next && stage.pairs.values().all(|pair| !pair.is_in_transaction);
        let is_time = stage.b.is_none() && at * 3 >= steps.len() && is_between;
        if library.has_sessions && is_time && stage.node().sessions() > 0 {
            stage.go_to_b(heading);
        }
    }
    let name = library.headings[library.headings.len() - 1];
    println!("{name}: {} steps", steps.len());
    if library.has_sessions {
        let b = stage.b.as_ref().unwrap_or_else(|| panic!("{name}: no session was there after a third of the steps"));
        let taken = b.metric("wayfarer_handovers_taken_total");
        assert!(taken > 0.0, "{name}: no session has moved");
        for trouble in ["wayfarer_values_mismatched_total", "wayfarer_variables_lost_total", "wayfarer_foreign_writes_total"] {
            assert_eq!(b.metric(trouble), 0.0, "{name}: {trouble}");
        }
    }
}

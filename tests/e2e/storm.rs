//! A storm: nodes join, take their share and leave again, in an order drawn from a seed, while clients at all of them read, write
//! and count. Everything is planned, so nobody may see an error, an old value, or a count that is off by one.
//!
//! ```text
//! WAYFARER_STORM_SEED=7 cargo nextest run -p wayfarer --test e2e storm
//! ```

use crate::filler;
use crate::harness::redis_server::RedisServer;
use crate::harness::resp::{Client, Reply};
use crate::harness::{Cluster, Node};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};

const SESSIONS: usize = 60;
const WORKERS: usize = 5;
const EVENTS: usize = 24;
const NODES_MAX: usize = 4;
/// Operations between two events at least, so that each event meets work.
const OPERATIONS_BETWEEN: usize = 300;
/// One variable for each class of the policy.
const VARIABLES: [&str; 3] = ["carried", "streamed", "deferred"];
const POLICY: &str = "[[policy.variable]]\nname = \"carried\"\nclass = \"carried\"\n\
                      [[policy.variable]]\nname = \"deferred\"\nclass = \"deferred\"\n";

/// Sessions follow their clients as fast as they may, so that moves of all kinds meet.
fn cluster() -> Cluster {
    crate::cluster().set(&["handover.residence_ms_min=50", "handover.arrival_gap_ms=0", "drain.settle_ms=0"])
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

/// What the clients know of one session.
#[derive(Default)]
struct Known {
    /// How often each variable has been written; the lock is held from the question to the answer.
    versions: Mutex<[u64; VARIABLES.len()]>,
    /// Acknowledged increments; several clients increment at the same time.
    counted: AtomicI64,
}

/// What everybody shares.
struct Scene {
    /// Those whom clients go to. A client holds the read lock while it waits for an answer, so nobody is told to leave with a
    /// client's question to itself under way; those of other nodes still are.
    up: RwLock<BTreeMap<String, Node>>,
    sessions: Vec<Known>,
    operations: AtomicUsize,
    over: AtomicBool,
    /// Whether sessions are at rest in an upstream.
    rests: bool,
}

fn value(session: usize, variable: usize, version: u64) -> Vec<u8> {
    let bytes = [10, 2_000, 9_000][usize::try_from(version % 3).unwrap()];
    let mut value = format!("{session}/{variable}/{version}/").into_bytes();
    value.extend(filler(&format!("{session}/{variable}"), bytes));
    value
}

/// One operation of one client, checked.
fn act(scene: &Scene, client: &mut Client, node: &str, draws: &mut Draws) {
    let n = draws.below(SESSIONS);
    let (key, known) = (format!("s:storm{n}"), &scene.sessions[n]);
    let which = draws.below(VARIABLES.len());
    match draws.below(5) {
        0 => {
            let reply = client.call(&["HINCRBY", &key, "count", "1"]);
            assert!(matches!(reply, Reply::Int(_)), "{key} at {node}: {reply:?}");
            known.counted.fetch_add(1, Ordering::Relaxed);
        }
        1 | 2 => {
            let mut versions = known.versions.lock().unwrap();
            let next = value(n, which, versions[which] + 1);
            let reply = client.call(&[b"HSET", key.as_bytes(), VARIABLES[which].as_bytes(), &next]);
            assert_eq!(reply, Reply::Int(0), "{key} at {node}");
            versions[which] += 1;
        }
        _ => {
            let versions = known.versions.lock().unwrap();
            let expected = Reply::Bulk(value(n, which, versions[which]));
            let reply = client.call(&["HGET", &key, VARIABLES[which]]);
            assert!(reply == expected, "{key} {} at {node}: not version {}", VARIABLES[which], versions[which]);
        }
    }
    scene.operations.fetch_add(1, Ordering::Relaxed);
}

/// One look at all keys, wherever they are just now. The sessions of a storm neither come nor go.
fn look(scene: &Scene, client: &mut Client, node: &str, draws: &mut Draws) {
    let every: BTreeSet<Vec<u8>> = (0..SESSIONS).map(|n| format!("s:storm{n}").into_bytes()).collect();
    match draws.below(3) {
        0 => {
            let Reply::Int(size) = client.call(&["DBSIZE"]) else { panic!("no size at {node}") };
            // The upstream counts its keys at another moment than the guards among them are counted.
            assert!(size == SESSIONS as i64 || scene.rests, "{size} keys at {node}");
        }
        1 => {
            let Reply::Array(keys) = client.call(&["KEYS", "s:storm*"]) else { panic!("no keys at {node}") };
            assert_eq!(keys.len(), SESSIONS, "each once, at {node}");
            let keys = keys.into_iter().map(|key| if let Reply::Bulk(key) = key { key } else { panic!("{key:?} at {node}") });
            assert_eq!(keys.collect::<BTreeSet<_>>(), every, "at {node}");
        }
        _ => {
            let mut cursor = b"0".to_vec();
            loop {
                let Reply::Array(part) = client.call(&[b"SCAN".as_slice(), &cursor]) else {
                    panic!("no part of a scan at {node}")
                };
                let [Reply::Bulk(next), Reply::Array(_)] = part.as_slice() else { panic!("{part:?} at {node}") };
                if next == b"0" {
                    break;
                }
                cursor.clone_from(next);
            }
        }
    }
}

/// A client that goes to any node in turn, over pooled connections.
fn work(scene: &Scene, seed: u64) {
    let mut draws = Draws(seed);
    let mut clients: BTreeMap<i32, Client> = BTreeMap::new();
    while !scene.over.load(Ordering::Acquire) {
        let up = scene.up.read().unwrap();
        let node = up.values().nth(draws.below(up.len())).unwrap();
        let client = clients.entry(node.pid()).or_insert_with(|| node.client());
        if draws.below(50) == 0 {
            look(scene, client, &node.name, &mut draws);
        }
        act(scene, client, &node.name, &mut draws);
    }
}

/// Joins, shares and leaves, each with clients at work.
fn weather(scene: &Scene, cluster: &Cluster, draws: &mut Draws) {
    for event in 0..EVENTS {
        let (before, count) = (scene.operations.load(Ordering::Relaxed), scene.up.read().unwrap().len());
        crate::harness::until("clients at work", || {
            (scene.over.load(Ordering::Acquire) || scene.operations.load(Ordering::Relaxed) >= before + OPERATIONS_BETWEEN)
                .then_some(())
        });
        match draws.below(3) {
            0 if count < NODES_MAX => {
                let node = cluster.start(&format!("n{event}"), &[]);
                scene.up.write().unwrap().insert(node.name.clone(), node);
            }
            1 if count > 2 => {
                let name = scene.up.read().unwrap().keys().nth(draws.below(count)).unwrap().clone();
                let mut node = scene.up.write().unwrap().remove(&name).unwrap();
                node.signal(Signal::TERM);
                assert_eq!(node.wait_exit().code(), Some(0), "{}", node.log_text());
            }
            _ => {
                let up = scene.up.read().unwrap();
                let node = up.values().nth(draws.below(count)).unwrap();
                let (_, failed) = node.rebalance();
                assert_eq!(failed, 0, "sessions did not move in a rebalance: {}", node.log_text());
            }
        }
    }
}

/// Ends the clients also when the weather has failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn joins_rebalances_and_drains_with_clients_at_all_nodes_show_no_error() {
    storm(&cluster().with(POLICY));
}

/// Sessions go to rest and come back meanwhile, and what several clients count at the same time is acknowledged only when the
/// upstream has it.
#[test]
fn a_storm_with_sessions_at_rest_and_critical_writes_shows_no_error() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let policy = format!("{POLICY}[[policy.variable]]\nname = \"count\"\nimpact = \"critical\"\n");
    let upstream = format!("state.upstream=redis://127.0.0.1:{}/0", redis.port);
    storm(&cluster().with(&policy).set(&[&upstream, "rest.after_ms=300"]));
}

fn storm(cluster: &Cluster) {
    let seed = std::env::var("WAYFARER_STORM_SEED").map_or_else(
        |_| std::hash::RandomState::new().hash_one(std::process::id()),
        |text| text.parse().expect("WAYFARER_STORM_SEED is a number"),
    );
    println!("WAYFARER_STORM_SEED={seed}");
    let first = ["first", "second"].map(|name| cluster.start(name, &[]));
    let mut client = first[0].client();
    for n in 0..SESSIONS {
        for (which, name) in VARIABLES.iter().enumerate() {
            let reply = client.call(&[b"HSET", format!("s:storm{n}").as_bytes(), name.as_bytes(), &value(n, which, 0)]);
            assert_eq!(reply, Reply::Int(1));
        }
    }
    let scene = Scene {
        up: RwLock::new(first.into_iter().map(|node| (node.name.clone(), node)).collect()),
        sessions: std::iter::repeat_with(Known::default).take(SESSIONS).collect(),
        operations: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        rests: cluster.set.iter().any(|setting| setting.starts_with("state.upstream=")),
    };
    std::thread::scope(|scope| {
        for worker in 0..WORKERS as u64 {
            let scene = &scene;
            scope.spawn(move || {
                // A client that fails ends the storm: nobody waits for it.
                let _over = Over(&scene.over);
                work(scene, seed.wrapping_add(1 + worker));
            });
        }
        let _over = Over(&scene.over);
        weather(&scene, cluster, &mut Draws(seed));
    });
    let (up, rests) = (scene.up.into_inner().unwrap(), scene.rests);
    // Some sessions still follow the clients' last operations, and the nodes are not asked at one moment.
    crate::harness::until("each session to have one owner", || {
        let owned: u64 = up.values().map(Node::sessions).sum();
        // Of those at rest nobody is the owner.
        let right = if rests { owned <= SESSIONS as u64 } else { owned == SESSIONS as u64 };
        let moving = up.values().any(|node| node.number("/handovers/in_progress") > 0);
        (right && !moving).then_some(())
    });
    for node in up.values() {
        let mut client = node.client();
        for (n, known) in scene.sessions.iter().enumerate() {
            let (key, versions) = (format!("s:storm{n}"), known.versions.lock().unwrap());
            for (which, name) in VARIABLES.iter().enumerate() {
                assert!(client.call(&["HGET", &key, name]) == Reply::Bulk(value(n, which, versions[which])), "{key} {name}");
            }
            let counted = known.counted.load(Ordering::Relaxed);
            let expected = if counted == 0 { Reply::Nil } else { Reply::text(counted.to_string()) };
            assert_eq!(client.call(&["HGET", &key, "count"]), expected, "{key} at {}", node.name);
        }
    }
}

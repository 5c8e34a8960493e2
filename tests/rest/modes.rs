//! Modes of the cluster, changed at run time under load: observe, own, and back; who is in the way of a change; what crosses it.
//!
//! Every worker counts for itself and compares each answer: an error, a lost or a doubled write fails the test at once.

use crate::harness::resp::{Client, Reply};
use crate::harness::{Cluster, Node, until, wayfarer};
use crate::redis::Redis;
use crate::{cluster, settled};
use rustix::process::Signal;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn observing(redis: &Redis) -> Cluster {
    cluster(redis).set(&["cluster.mode=observe"])
}

/// Orders a mode and waits for it. The status, and whether it was reached.
fn mode(node: &Node, to: &str) -> (Value, bool) {
    let done = wayfarer(&["mode", to, "--wait", "--json", "--admin", &node.admin.to_string()]);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    (serde_json::from_str(&text).unwrap_or_else(|_| panic!("{done:?}")), done.status.success())
}

fn reach(node: &Node, to: &str) {
    let (status, reached) = mode(node, to);
    assert!(reached && status["mode"] == to, "{status}\n{}", node.log_text());
}

/// Counts in sessions of its own through both nodes in turns until told to stop; the counts.
fn count(worker: usize, nodes: &[&Node], stop: &AtomicBool, calls: &AtomicU64) -> Vec<i64> {
    let mut clients: Vec<Client> = nodes.iter().map(|node| node.client()).collect();
    let mut counts = vec![0; 8];
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (at, client) = (turn % counts.len(), (turn / counts.len() + worker) % clients.len());
        let (key, client) = (format!("s:{worker}-{at}"), &mut clients[client]);
        counts[at] += 1;
        let reply = match turn % 3 {
            0 => {
                let words = [vec!["MULTI"], vec!["HINCRBY", &key, "count", "1"], vec!["EXEC"]];
                words.iter().for_each(|words| client.send(&crate::harness::resp::encode(words)).unwrap());
                let replies = [client.read().unwrap(), client.read().unwrap(), client.read().unwrap()];
                let Reply::Array(of_exec) = &replies[2] else { panic!("turn {turn} of {worker}: {replies:?}") };
                of_exec[0].clone()
            }
            1 => client.call(&["EVAL", "return redis.call('HINCRBY', KEYS[1], 'count', 1)", "1", &key]),
            _ => client.call(&["HINCRBY", &key, "count", "1"]),
        };
        assert_eq!(reply, Reply::Int(counts[at]), "turn {turn} of worker {worker}");
        calls.fetch_add(1, Ordering::Relaxed);
    }
    counts
}

#[test]
fn a_fleet_changes_its_mode_to_and_fro_under_load_and_no_client_notices() {
    let Some(redis) = Redis::start() else { return };
    let cluster = observing(&redis);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    let (stop, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let more = |count: u64| {
        let until_then = calls.load(Ordering::Relaxed) + count;
        until("calls to go on", || (calls.load(Ordering::Relaxed) >= until_then).then_some(()));
    };
    let counts: Vec<Vec<i64>> = std::thread::scope(|scope| {
        // Also after a failure: a scope waits for its threads.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stopping = Stop(&stop);
        let (nodes, stop, calls) = ([&a, &b], &stop, &calls);
        let workers: Vec<_> = (0..3).map(|worker| scope.spawn(move || count(worker, &nodes, stop, calls))).collect();
        for round in 0..3 {
            more(50);
            assert_eq!(a.sessions() + b.sessions(), 0, "nobody owns a session in observe");
            reach([&a, &b][round % 2], "own");
            more(200);
            assert!(a.sessions() + b.sessions() > 0, "sessions have owners");
            reach([&b, &a][round % 2], "observe");
        }
        drop(stopping);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut at_redis = redis.client();
    for (worker, counts) in counts.iter().enumerate() {
        for (at, count) in counts.iter().enumerate() {
            assert_eq!(at_redis.call(&["HGET", &format!("s:{worker}-{at}"), "count"]), Reply::text(count.to_string()));
        }
    }
    for node in [&a, &b] {
        assert_eq!(node.metric("wayfarer_foreign_writes_total"), 0.0, "{}", node.log_text());
    }
}

#[test]
fn what_a_connection_watched_in_one_mode_counts_as_changed_in_another() {
    let Some(redis) = Redis::start() else { return };
    let node = observing(&redis).start("a", &[]);
    let mut client = node.client();
    let mut across = |to: &str| {
        assert_eq!(client.say("WATCH s:1"), Reply::ok());
        reach(&node, to);
        assert_eq!(client.say("MULTI"), Reply::ok());
        assert_eq!(client.say("HSET s:1 field mine"), Reply::Simple("QUEUED".into()));
        assert_eq!(client.say("EXEC"), Reply::Nil, "to {to}");
        assert_eq!(client.say("WATCH s:1"), Reply::ok());
        assert_eq!(client.say("MULTI"), Reply::ok());
        assert_eq!(client.say("HSET s:1 field mine"), Reply::Simple("QUEUED".into()));
        assert!(matches!(client.say("EXEC"), Reply::Array(_)), "in {to}");
    };
    assert_eq!(redis.client().say("HSET s:1 field theirs"), Reply::Int(1));
    across("own");
    across("observe");
    assert_eq!(redis.client().say("HGET s:1 field"), Reply::text("mine"));
}

#[test]
fn in_observe_the_status_says_what_own_would_do() {
    let Some(redis) = Redis::start() else { return };
    let cluster = observing(&redis).with("[[policy.variable]]\nname = \"small\"\nclass = \"carried\"");
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    let (mut at_a, mut at_b) = (a.client(), b.client());
    for n in 0..40 {
        let key = format!("s:{n}");
        assert_eq!(at_a.call(&["HSET", &key, "small", &"x".repeat(100), "large", &"y".repeat(900)]), Reply::Int(2));
        (0..2).for_each(|_| drop(at_a.call(&["HGETALL", &key])));
        at_b.call(&["HGET", &key, "small"]);
    }
    let outlook = until("the outlook of both", || {
        let outlook = b.status()["outlook"].clone();
        (outlook["sessions"] == 40).then_some(outlook)
    });
    let number = |name: &str| outlook.pointer(name).and_then(Value::as_u64).unwrap_or_else(|| panic!("{name} in {outlook}"));
    assert_eq!(number("/local_percent"), 75, "three of four operations come to one node: {outlook}");
    assert!((1_000..1_300).contains(&(number("/bytes") / 40)), "{outlook}");
    assert_eq!((number("/join/sessions"), number("/drain/sessions")), (13, 20));
    assert_eq!(number("/drain/now_bytes"), 20 * 100);
    assert!((20 * 900..20 * 1_200).contains(&number("/drain/late_bytes")), "{outlook}");
    let said = wayfarer(&["status", "--admin", &b.admin.to_string()]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("own would   answer 75 %") && said.contains("a drain would move 20 sessions"), "{said}");
    assert_eq!(redis.client().say("KEYS wayfarer*"), Reply::Array(Vec::new()), "nothing was guarded");
    reach(&a, "own");
    assert!(a.status()["outlook"].is_null());
}

#[test]
fn in_observe_the_upstream_answers_whatever_it_is_asked() {
    let Some(redis) = Redis::start() else { return };
    let node = observing(&redis).start("a", &[]);
    let (mut here, mut there) = (node.client(), redis.client());
    for line in [
        "HSET s:1 a 1",
        "OBJECT ENCODING s:1",
        "BITCOUNT s:1",
        "SELECT 1",
        "HSET s:1 a 2",
        "SELECT 0",
        "HGET s:1 a",
        "RENAME s:1 s:2",
        "HGET s:2",
        "COPY s:2 s:3",
        "SORT s:2",
        "MULTI",
        "HSET s:2 b 1",
        "SET other 1",
        "EXEC",
        "EVAL return(KEYS) 2 s:1 other",
        "RPUSH s:list x y",
        "BLPOP s:list 1",
        "TYPE s:list",
        "DEL s:1 s:2 other s:list",
        "GETEX j:1",
        "XADD s:stream 1-1 f v",
    ] {
        let answer = here.say(line);
        println!("{line}: {answer:?}");
        assert!(!answer.is_try_again() && !format!("{answer:?}").contains("wayfarer"), "{line}: {answer:?}");
    }
    assert_eq!(there.say("XLEN s:stream"), Reply::Int(1));
    assert_eq!(there.say("HGET s:3 a"), Reply::text("1"));
    // One that blocks waits for another client, with a sidecar or without.
    here.send(&crate::harness::resp::encode(&["BLPOP", "s:list", "20"])).unwrap();
    there.say("RPUSH s:list z");
    assert_eq!(here.read().unwrap(), Reply::Array(vec![Reply::text("s:list"), Reply::text("z")]));
}

#[test]
fn a_change_is_taken_back_and_says_for_whom() {
    let Some(redis) = Redis::start() else { return };
    let cluster = observing(&redis).set(&["cluster.mode_ms_max=300"]);
    let (a, mut b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    let (mut at_a, mut at_b) = (a.client(), b.client());
    // A transaction that has begun at the upstream ends there.
    assert_eq!(at_b.say("MULTI"), Reply::ok());
    assert_eq!(at_b.say("HSET s:1 field open"), Reply::Simple("QUEUED".into()));
    let (status, reached) = mode(&a, "own");
    assert!(!reached && status["note"].as_str().unwrap().contains("b did not confirm"), "{status}");
    assert_eq!(at_a.say("HSET s:2 field 1"), Reply::Int(1), "everything goes on");
    assert_eq!(at_b.say("EXEC"), Reply::Array(vec![Reply::Int(1)]));
    reach(&a, "own");
    assert_eq!(at_a.say("HGET s:1 field"), Reply::text("open"));
    reach(&b, "observe");
    // Nor is one waited for that does not answer; when it is dead it need not confirm.
    b.freeze();
    let (status, reached) = mode(&a, "own");
    assert!(!reached && status["note"].as_str().unwrap().contains("b did not confirm"), "{status}");
    assert_eq!(settled(&mut at_a, &["HGET", "s:1", "field"]), Reply::text("open"));
    b.signal(Signal::CONT);
    b.kill();
    until("the change without the dead", || mode(&a, "own").1.then_some(()));
    assert_eq!(settled(&mut at_a, &["HSET", "s:1", "field", "owned"]), Reply::Int(0));
    assert_eq!(a.sessions(), 1);
    let c = cluster.start("c", &[]);
    reach(&c, "observe");
    assert_eq!(c.client().say("HGET s:1 field"), Reply::text("owned"));
}

#[test]
fn a_node_without_an_upstream_is_told_so() {
    let Some(redis) = Redis::start() else { return };
    let cluster = observing(&redis);
    let node = cluster.start("a", &[]);
    let check = wayfarer(&["check", "--set", "cluster.mode=observe"]);
    let said = String::from_utf8_lossy(&check.stderr).into_owned() + &String::from_utf8_lossy(&check.stdout);
    assert!(!check.status.success() && said.contains("cluster.mode") && said.contains("state.upstream"), "{said}");
    let without = cluster.set(&["cluster.mode=own", "rest.enabled=false"]);
    let mut b = without.spawn("b", &[]);
    assert_ne!(b.wait_exit().code(), Some(0));
    assert!(b.log_text().contains("mode observe"), "{}", b.log_text());
    assert_eq!(node.client().say("HSET s:1 a 1"), Reply::Int(1));
}

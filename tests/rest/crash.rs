//! Nothing of impact `critical` is lost with a node, and nothing else that is older than its deadline.

use crate::harness::resp::{Client, Reply};
use crate::redis::Redis;
use crate::{cluster, pairs, settled, wait_written};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn a_plain_client_sees_the_librarys_own_keys_with_types_and_expiries() {
    let Some(redis) = Redis::start() else { return };
    let node = cluster(&redis).start("a", &[]);
    let (mut at_node, mut at_rest) = (node.client(), redis.client());
    let blob: Vec<u8> = (0..=255).collect();
    assert_eq!(at_node.call(&[&b"HSET"[..], b"s:1", b"n", b"1", b"blob", &blob]), Reply::Int(2));
    assert_eq!(at_node.say("PEXPIRE s:1 600000"), Reply::Int(1));
    assert_eq!(at_node.call(&["SET", "j:1", r#"{"a":1, "b":[2]}"#, "PX", "500000"]), Reply::ok());
    wait_written(&node);
    assert_eq!(at_rest.say("TYPE s:1"), Reply::Simple("hash".into()));
    let seen = pairs(at_rest.say("HGETALL s:1"));
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(b"blob".to_vec(), blob), (b"n".to_vec(), b"1".to_vec())]);
    assert_eq!(at_rest.say("GET j:1"), Reply::text(r#"{"a":1, "b":[2]}"#));
    for (key, most) in [("s:1", 600_000), ("j:1", 500_000)] {
        let (Reply::Int(here), Reply::Int(there)) = (at_node.call(&["PEXPIRETIME", key]), at_rest.call(&["PEXPIRETIME", key]))
        else {
            panic!("no expiry")
        };
        assert_eq!(here, there, "{key}: to the millisecond");
        let Reply::Int(left) = at_rest.call(&["PTTL", key]) else { panic!("no time to live") };
        assert!(left > 0 && left <= most);
    }
    // Fields, expiries and keys that go, go there too.
    assert_eq!(at_node.say("HDEL s:1 blob"), Reply::Int(1));
    assert_eq!(at_node.say("PERSIST j:1"), Reply::Int(1));
    assert_eq!(at_node.say("SET lock:1 x"), Reply::ok());
    assert_eq!(at_node.say("DEL lock:1"), Reply::Int(1));
    crate::until("the changes to arrive", || (at_rest.say("HLEN s:1") == Reply::Int(1)).then_some(()));
    assert_eq!(at_rest.say("EXISTS lock:1"), Reply::Int(0));
    assert_eq!(at_node.say("DEL s:1 j:1"), Reply::Int(2));
    assert_eq!(at_rest.say("EXISTS s:1 j:1"), Reply::Int(0), "an end is acknowledged when it is there");
}

#[test]
fn a_sidecar_that_is_killed_and_started_again_has_all_that_was_written() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis);
    let mut node = cluster.start("a", &[]);
    let mut client = node.client();
    for n in 0..50 {
        assert_eq!(client.call(&["HSET", &format!("s:{n}"), "v", &n.to_string()]), Reply::Int(1));
        assert_eq!(client.call(&["SET", &format!("j:{n}"), &format!(r#"{{"n":{n}}}"#)]), Reply::ok());
    }
    assert_eq!(client.say("DEL s:7 j:7"), Reply::Int(2));
    wait_written(&node);
    for life in 0..2 {
        node.kill();
        node = cluster.start("a", &[]);
        let mut client = node.client();
        for n in 0..50 {
            let (hash, text) = if n == 7 {
                (Reply::Nil, Reply::Nil)
            } else {
                (Reply::text(n.to_string()), Reply::text(format!(r#"{{"n":{n}}}"#)))
            };
            assert_eq!(settled(&mut client, &["HGET", &format!("s:{n}"), "v"]), hash, "life {life}, session {n}");
            assert_eq!(settled(&mut client, &["GET", &format!("j:{n}")]), text);
        }
        assert_eq!(node.metric("wayfarer_check_outs_total"), 49.0, "what is not at rest is not claimed");
    }
}

/// Counts up in a critical variable until the node is gone; the last number that was acknowledged.
fn count_up(mut client: Client, session: usize, running: &AtomicBool, total: &AtomicU64) -> u64 {
    let (key, mut acknowledged) = (format!("s:{session}"), 0);
    for n in 1.. {
        let wrote = client.try_call(&["HSET", &key, "critical", &n.to_string(), "other", "x"]);
        match wrote {
            Ok(Reply::Int(_)) => acknowledged = n,
            Ok(reply) => assert!(reply.is_try_again(), "{reply:?}"),
            Err(_) => return acknowledged,
        }
        total.fetch_add(1, Ordering::Relaxed);
        if !running.load(Ordering::Relaxed) {
            return acknowledged;
        }
    }
    acknowledged
}

#[test]
fn no_acknowledged_critical_write_is_lost_with_the_only_node() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis);
    let mut node = cluster.start("a", &[]);
    let (running, total) = (AtomicBool::new(true), AtomicU64::new(0));
    let acknowledged: Vec<u64> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|session| {
                let client = node.client();
                let (running, total) = (&running, &total);
                scope.spawn(move || count_up(client, session, running, total))
            })
            .collect();
        crate::until("some load", || (total.load(Ordering::Relaxed) > 400).then_some(()));
        node.kill();
        running.store(false, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let mut at_rest = redis.client();
    for (session, acknowledged) in acknowledged.iter().enumerate() {
        let Reply::Bulk(there) = at_rest.call(&["HGET", &format!("s:{session}"), "critical"]) else { panic!("nothing there") };
        let there: u64 = String::from_utf8(there).unwrap().parse().unwrap();
        assert!(*acknowledged > 0 && there >= *acknowledged, "session {session}: {there} of {acknowledged}");
        assert!(there <= acknowledged + 1, "at most the one that was under way");
    }
}

#[test]
fn scale_to_zero_and_back() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis);
    let mut node = cluster.start("a", &[]);
    let mut client = node.client();
    for n in 0..100 {
        assert_eq!(client.call(&["HSET", &format!("s:{n}"), "low", &n.to_string()]), Reply::Int(1));
    }
    node.ask_drain();
    assert_eq!(node.wait_exit().code(), Some(0), "everything is at rest");
    let mut at_rest = redis.client();
    for n in 0..100 {
        assert_eq!(at_rest.call(&["HGET", &format!("s:{n}"), "low"]), Reply::text(n.to_string()));
    }
    let node = cluster.start("b", &[]);
    let mut client = node.client();
    for n in 0..100 {
        assert_eq!(settled(&mut client, &["HGET", &format!("s:{n}"), "low"]), Reply::text(n.to_string()));
    }
}

#[test]
fn what_only_a_killed_node_had_comes_from_the_upstream() {
    for on_lost in ["error", "absent"] {
        let Some(redis) = Redis::start() else { return };
        let on_lost = format!("policy.on_lost={on_lost}");
        let cluster = cluster(&redis).set(&["policy.class=deferred", "handover.trickle=false", &on_lost]);
        let mut a = cluster.start("a", &[]);
        let mut client = a.client();
        let value = |n: i32, of: &str| format!("{of} {n} {}", of.repeat(100));
        for n in 0..20 {
            let (hash, list) = (format!("s:{n}"), format!("lock:{n}"));
            assert_eq!(settled(&mut client, &["HSET", &hash, "one", &value(n, "one"), "two", &value(n, "two")]), Reply::Int(2));
            assert_eq!(client.call(&["SET", &format!("j:{n}"), &format!(r#"{{"n":{n},"m":"{}"}}"#, value(n, "m"))]), Reply::ok());
            // Lists of the same elements that came about in different ways.
            let (head, tail) = (value(n, "head"), value(n, "tail"));
            match n % 3 {
                0 => assert_eq!(client.call(&["RPUSH", &list, &head, &tail]), Reply::Int(2)),
                1 => assert_eq!(client.call(&["LPUSH", &list, &tail, &head]), Reply::Int(2)),
                _ => {
                    assert_eq!(client.call(&["RPUSH", &list, "gone", &head, "gone", &tail]), Reply::Int(4));
                    assert_eq!(client.call(&["LREM", &list, "0", "gone"]), Reply::Int(2));
                }
            }
        }
        wait_written(&a);
        let b = cluster.start("b", &[]);
        b.rebalance();
        let moved: Vec<i32> = (0..20).filter(|n| b.owns(&format!("{n}"))).collect();
        assert!(!moved.is_empty());
        a.kill();
        let mut client = b.client();
        for n in 0..20 {
            // A write must not take along what nobody looked at.
            assert_eq!(settled(&mut client, &["RPUSHX", &format!("lock:{n}"), "more"]), Reply::Int(3));
            assert_eq!(settled(&mut client, &["HGET", &format!("s:{n}"), "two"]), Reply::text(value(n, "two")), "{on_lost}");
            assert_eq!(settled(&mut client, &["HGET", &format!("s:{n}"), "one"]), Reply::text(value(n, "one")), "{on_lost}");
            let json = format!(r#"{{"n":{n},"m":"{}"}}"#, value(n, "m"));
            assert_eq!(settled(&mut client, &["GET", &format!("j:{n}")]), Reply::text(json), "{on_lost}");
        }
        wait_written(&b);
        let mut at_rest = redis.client();
        for n in 0..20 {
            assert_eq!(at_rest.call(&["HLEN", &format!("s:{n}")]), Reply::Int(2), "{on_lost}");
            let list = at_rest.call(&["LRANGE", &format!("lock:{n}"), "0", "-1"]).texts();
            assert_eq!(list, [value(n, "head"), value(n, "tail"), "more".to_owned()], "{on_lost}");
        }
    }
}

#[test]
fn a_lost_member_of_a_value_is_absent_alone() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis).set(&["policy.class=deferred", "handover.trickle=false", "policy.on_lost=absent"]);
    let mut a = cluster.start("a", &[]);
    let mut client = a.client();
    let long = |of: &str, n: i32| format!("{of} {n} {}", of.repeat(100));
    let text = |n: i32, low: &str| format!(r#"{{"auth":"{}","low":"{low}","cart":"{}"}}"#, long("auth", n), long("cart", n));
    for n in 0..20 {
        assert_eq!(settled(&mut client, &["SET", &format!("j:{n}"), &text(n, &long("old", n)), "PX", "500000"]), Reply::ok());
    }
    wait_written(&a);
    // What is low waits for half a minute.
    for n in 0..20 {
        assert_eq!(client.call(&["SET", &format!("j:{n}"), &text(n, &long("new", n)), "KEEPTTL"]), Reply::ok());
    }
    let b = cluster.start("b", &[]);
    b.rebalance();
    let moved: Vec<i32> = (0..20).filter(|n| b.owns(&format!("{n}"))).collect();
    assert!(!moved.is_empty());
    a.kill();
    let mut client = b.client();
    let mut at_rest = redis.client();
    let left = |n: i32| Reply::text(format!(r#"{{"auth":"{}","cart":"{}"}}"#, long("auth", n), long("cart", n)));
    for n in &moved {
        let key = format!("j:{n}");
        assert_eq!(settled(&mut client, &["GET", &key]), left(*n));
        let Reply::Int(expiry) = client.call(&["PTTL", &key]) else { panic!("no time to live") };
        assert!(expiry > 0 && expiry <= 500_000, "its expiry stays");
    }
    // It is of impact `low`, and would go up in half a minute.
    assert_eq!(crate::harness::http::post(b.admin, "/api/v1/checkin").unwrap().status, 200);
    for n in &moved {
        assert_eq!(at_rest.call(&["GET", &format!("j:{n}")]), left(*n), "the upstream lacks no more than the owner");
    }
}

#[test]
fn what_comes_from_the_upstream_hides_no_foreign_write() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis).set(&["policy.class=deferred", "handover.trickle=false"]);
    let mut a = cluster.start("a", &[]);
    let mut client = a.client();
    let value = |n: i32, of: &str| format!("{of} {n} {}", of.repeat(100));
    for n in 0..20 {
        let words = ["HSET", &format!("s:{n}"), "one", &value(n, "one"), "two", &value(n, "two")];
        assert_eq!(settled(&mut client, &words), Reply::Int(2));
    }
    wait_written(&a);
    let b = cluster.start("b", &[]);
    b.rebalance();
    let moved: Vec<i32> = (0..20).filter(|n| b.owns(&format!("{n}"))).collect();
    assert!(!moved.is_empty());
    let (mut client, mut stranger) = (b.client(), redis.client());
    for n in &moved {
        let key = format!("s:{n}");
        assert_eq!(settled(&mut client, &["HGET", &key, "one"]), Reply::text(value(*n, "one")));
        assert_eq!(stranger.call(&["HSET", &key, "one", "foreign"]), Reply::Int(0));
    }
    a.kill();
    for n in &moved {
        let key = format!("s:{n}");
        assert_eq!(settled(&mut client, &["HGET", &key, "two"]), Reply::text(value(*n, "two")), "from the upstream");
        assert_eq!(settled(&mut client, &["HSET", &key, "three", "3"]), Reply::Int(1));
    }
    wait_written(&b);
    assert_eq!(b.metric("wayfarer_foreign_writes_total"), moved.len() as f64);
    for n in &moved {
        assert_eq!(stranger.call(&["HGET", &format!("s:{n}"), "one"]), Reply::text(value(*n, "one")), "the owner's wins");
    }
}

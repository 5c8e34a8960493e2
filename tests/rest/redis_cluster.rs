//! A Redis Cluster as the upstream: the service sees one server, whatever the slots do; sessions are at rest in all of it.

use crate::harness::redis_cluster::RedisCluster;
use crate::harness::redis_server::RedisServer;
use crate::harness::resp::{Client, Reply, encode};
use crate::harness::{Node, until};
use crate::{cluster_of_url, settled, wait_written};
use std::sync::atomic::{AtomicBool, Ordering};

/// A cluster of three masters and a sidecar before it.
fn three(replicas: usize) -> Option<(RedisCluster, Node)> {
    let redis = RedisCluster::start(3, replicas, &[])?;
    let node = cluster_of_url(&redis.url()).start("a", &[]);
    Some((redis, node))
}

/// What both are told and answer alike; each key has a slot of its own, unless it has a tag.
const ALIKE: &[&str] = &[
    "SET a 1",
    "GET a",
    "GET nothing",
    "GET",
    "SET b 2 EX 100",
    "TTL b",
    "INCR a",
    "INCR c",
    "MSET d 4 e 5 f 6",
    "MSET d 4 e",
    "MGET a b c nothing d e f a",
    "EXISTS a b c nothing a",
    "TOUCH a b nothing",
    "DEL a b nothing",
    "UNLINK c d",
    "MGET a b c d e f",
    "DBSIZE",
    "RPUSH l a b c",
    "LRANGE l 0 -1",
    "LPUSH {l}2 x",
    "LMOVE l {l}2 LEFT RIGHT",
    "BLMOVE l {l}2 LEFT RIGHT 1",
    "BLPOP {l}2 1",
    "BLPOP {l}nothing 0.01",
    "BLMPOP 0.01 1 {l}2 LEFT COUNT 2",
    "GET l",
    "ZADD z 1 a 2 b",
    "ZRANGESTORE {z}2 z 0 -1",
    "ZUNIONSTORE {z}3 2 z {z}2",
    "ZRANGE {z}3 0 -1 WITHSCORES",
    "SORT l",
    "XADD x 1-1 f v",
    "XREAD COUNT 1 STREAMS x 0",
    "XGROUP CREATE x g 0",
    "XREADGROUP GROUP g c COUNT 1 STREAMS x >",
    "XINFO GROUPS x",
    "BITOP NOT {bit}d {bit}",
    "PFADD p a b",
    "PFCOUNT p",
    "GEOADD g 13 38 Palermo",
    "GEOPOS g Palermo",
    "OBJECT ENCODING z",
    "EVAL return{KEYS[1],ARGV[1]} 1 a x",
    "EVAL return(redis.call('SET',KEYS[1],ARGV[1])) 1 a x",
    "EVAL return(1) 0",
    "EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 a",
    "SCRIPT LOAD return(7)",
    "SCRIPT EXISTS 5dfa6ae5e5ef6cc4dd2a4f9a2ca43b2aff5a05d4 ffffffffffffffffffffffffffffffffffffffff",
    "MULTI",
    "SET {m}1 1",
    "INCR {m}1",
    "PING",
    "GET {m}1",
    "EXEC",
    "MULTI",
    "TIMES",
    "GET a",
    "EXEC",
    "MULTI",
    "LPUSH {m}1 x",
    "SET {m}2 2",
    "EXEC",
    "MULTI",
    "PUBLISH c m",
    "SET {m}3 3",
    "DISCARD",
    "GET {m}3",
    "MULTI",
    "PUBLISH c m",
    "GET {m}1",
    "EXEC",
    "MULTI",
    "EXEC",
    "WATCH {m}1",
    "MULTI",
    "GET {m}1",
    "EXEC",
    "WATCH {m}1",
    "SET {m}1 9",
    "MULTI",
    "GET {m}1",
    "EXEC",
    "WATCH {m}1",
    "UNWATCH",
    "EXEC",
    "CLUSTER INFO",
    "CLUSTER SLOTS",
    "READONLY",
    "SELECT 0",
    "PUBLISH nobody x",
    "PUBSUB CHANNELS",
    "RANDOMKEY-NOT",
    "NOSUCHCOMMAND a b",
    "CONFIG SET maxmemory-samples 5",
    "FUNCTION LIST",
    "WAIT 0 0",
    "MEMORY USAGE nothing",
    "DUMP nothing",
    "RENAME nothing {nothing}2",
    "COPY a {a}2",
    "GETDEL {a}2",
    "SPUBLISH shard x",
];

#[test]
fn commands_answer_as_those_of_one_server_do() {
    let Some((_redis, node)) = three(0) else { return };
    let Some(alone) = RedisServer::start(&[]) else { return };
    // What both relay is compared, so a second sidecar stands before the one server.
    let before = cluster_of_url(&format!("redis://127.0.0.1:{}/0", alone.port)).start("b", &[]);
    let (mut cluster, mut one) = (node.client(), before.client());
    let differ: Vec<String> = ALIKE
        .iter()
        .filter_map(|line| {
            let (in_cluster, in_one) = (cluster.say(line), one.say(line));
            (in_cluster != in_one).then(|| format!("{line}: {in_cluster:?} and not {in_one:?}"))
        })
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
    // All at once: replies come in the order of the commands.
    let (mut cluster, mut one) = (node.client(), before.client());
    let all: Vec<u8> = ALIKE.iter().flat_map(|line| encode(&line.split(' ').collect::<Vec<_>>())).collect();
    for client in [&mut cluster, &mut one] {
        assert_eq!(client.say("FLUSHALL").error().split(':').next(), Some("ERR wayfarer"));
        client.send(&all).unwrap();
    }
    for line in ALIKE {
        let (in_cluster, in_one) = (cluster.read().unwrap(), one.read().unwrap());
        assert_eq!(in_cluster, in_one, "{line}, all at once");
    }
    // RESP3 too.
    for client in [&mut cluster, &mut one] {
        client.say("HELLO 3");
        assert_eq!(client.say("HSET h f v"), Reply::Int(1));
    }
    for line in ["HGETALL h", "GET nothing", "ZRANGE z 0 -1", "HMGET h f g"] {
        assert_eq!(cluster.say(line), one.say(line), "{line}, in RESP3");
    }
}

#[test]
fn what_a_cluster_cannot_do_is_said() {
    let Some((_redis, node)) = three(0) else { return };
    let mut client = node.client();
    assert_eq!(client.say("SELECT 1"), Reply::Error("ERR DB index is out of range".into()));
    let crossed = "CROSSSLOT Keys in request don't hash to the same slot";
    for line in ["RENAME a b", "SUNIONSTORE d a b", "EVAL return(1) 2 a b", "MSETNX a 1 b 2", "WATCH a b"] {
        assert_eq!(client.say(line), Reply::Error(crossed.into()), "{line}");
    }
    assert_eq!(client.say("SHUTDOWN").error().split(':').next(), Some("ERR wayfarer"));
    // A key of a session becomes another session's in one step there.
    for session in ["s:1", "s:{t}1"] {
        assert_eq!(settled(&mut client, &["HSET", session, "other", "w"]), Reply::Int(1));
    }
    assert_eq!(client.say("RENAME s:1 s:2"), Reply::Error(crossed.into()));
    assert_eq!(settled(&mut client, &["RENAME", "s:{t}1", "s:{t}2"]), Reply::ok());
    assert_eq!(client.say("HGET s:1 other"), Reply::text("w"));
    assert_eq!(client.say("HGET s:{t}2 other"), Reply::text("w"));
    // A transaction over slots: as one node of a cluster says it.
    for (lines, said) in [
        (vec!["SET a 1", "SET b 1"], crossed),
        (vec!["SET a 1", "RENAME a b"], "EXECABORT Transaction discarded because of previous errors."),
    ] {
        assert_eq!(client.say("MULTI"), Reply::ok());
        for line in &lines {
            let reply = client.say(line);
            assert!(reply == Reply::Simple("QUEUED".into()) || reply.error() == crossed, "{line}: {reply:?}");
        }
        assert_eq!(client.say("EXEC"), Reply::Error(said.into()), "{lines:?}");
    }
    assert_eq!(client.say("MGET a b"), Reply::Array(vec![Reply::Nil, Reply::Nil]));
}

#[test]
fn questions_about_all_keys_are_asked_of_all_masters() {
    let Some((redis, node)) = three(0) else { return };
    let mut client = node.client();
    let names: Vec<String> = (0..300).map(|number| format!("other-{number}")).collect();
    let all: Vec<u8> = names.iter().flat_map(|name| encode(&["SET", name, name])).collect();
    client.send(&all).unwrap();
    for _ in &names {
        assert_eq!(client.read().unwrap(), Reply::ok());
    }
    for master in 0..3 {
        assert!(matches!(redis.client(master).say("DBSIZE"), Reply::Int(50..=150)), "all have a share");
    }
    assert_eq!(client.say("DBSIZE"), Reply::Int(300));
    let mut keys = client.say("KEYS *").texts();
    keys.sort();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(keys, sorted);
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    loop {
        let Reply::Array(parts) = client.call(&["SCAN", &cursor, "COUNT", "40"]) else { panic!("no scan") };
        let Reply::Bulk(next) = &parts[0] else { panic!("no cursor") };
        found.extend(parts[1].texts());
        cursor = String::from_utf8(next.clone()).unwrap();
        if cursor == "0" {
            break;
        }
    }
    found.sort();
    assert_eq!(found, sorted);
    assert!(matches!(client.say("RANDOMKEY"), Reply::Bulk(_)));
}

/// Counts with pipelines of one client until told to stop; the last count.
fn counts(client: &mut Client, key: &str, stop: &AtomicBool) -> i64 {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        client.send(&encode(&["INCR", key]).repeat(20)).unwrap();
        for _ in 0..20 {
            count += 1;
            assert_eq!(client.read().unwrap(), Reply::Int(count), "each runs once, in order");
        }
    }
    count
}

#[test]
fn slots_move_while_commands_run_and_no_client_notices() {
    let Some((redis, node)) = three(0) else { return };
    let mut client = node.client();
    let slot = RedisCluster::slot_of(&mut redis.client(0), "t");
    let owner = slot / 16_384_usize.div_ceil(3);
    let stop = AtomicBool::new(false);
    let totals: Vec<i64> = std::thread::scope(|scope| {
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stopping = Stop(&stop);
        let counting: Vec<_> = (0..3)
            .map(|number| {
                let (mut client, stop) = (node.client(), &stop);
                scope.spawn(move || counts(&mut client, &format!("count-{number}:{{t}}"), stop))
            })
            .collect();
        let mut turn = 0;
        for (from, to) in [(owner, (owner + 1) % 3), ((owner + 1) % 3, (owner + 2) % 3), ((owner + 2) % 3, owner)] {
            redis.move_slot(slot, from, to, || {
                turn += 1;
                for key in 0..5 {
                    assert_eq!(client.call(&["INCR", &format!("other-{key}:{{t}}")]), Reply::Int(turn));
                }
            });
            // The first that hears of it is a transaction.
            assert_eq!(client.say("MULTI"), Reply::ok());
            for _ in 0..2 {
                assert_eq!(client.say("APPEND moved:{t} x"), Reply::Simple("QUEUED".into()));
            }
            assert!(matches!(client.say("EXEC"), Reply::Array(of) if of.len() == 2));
        }
        drop(stopping);
        counting.into_iter().map(|counting| counting.join().unwrap()).collect()
    });
    for (number, total) in totals.iter().enumerate() {
        assert_eq!(client.say(&format!("GET count-{number}:{{t}}")), Reply::text(total.to_string()));
        assert!(*total > 0);
    }
    assert_eq!(client.say("STRLEN moved:{t}"), Reply::Int(6));

    // A slot that nobody has used moves between WATCH and EXEC: what is watched counts as changed. Then all is well again.
    assert_eq!(client.say("SET watched:{t} 1"), Reply::ok());
    assert_eq!(client.say("WATCH watched:{t}"), Reply::ok());
    redis.move_slot(slot, owner, (owner + 1) % 3, || {});
    assert_eq!(client.say("MULTI"), Reply::ok());
    client.say("SET watched:{t} 2");
    let said = client.say("EXEC");
    assert!(said == Reply::Nil || said.error().starts_with("EXECABORT"), "{said:?}");
    assert_eq!(client.say("GET watched:{t}"), Reply::text("1"));
    // And one moves between MULTI and EXEC.
    assert_eq!(client.say("MULTI"), Reply::ok());
    assert_eq!(client.say("INCR watched:{t}"), Reply::Simple("QUEUED".into()));
    redis.move_slot(slot, (owner + 1) % 3, owner, || {});
    assert_eq!(client.say("INCR watched:{t}"), Reply::Simple("QUEUED".into()));
    assert_eq!(client.say("EXEC"), Reply::Array(vec![Reply::Int(2), Reply::Int(3)]));
}

#[test]
fn a_master_that_dies_takes_its_slots_along_until_its_replica_has_them() {
    let Some((mut redis, node)) = three(1) else { return };
    let mut client = node.client();
    // A key of each master.
    let keys: Vec<String> = (0..3)
        .map(|master| {
            let mut names = (0..).map(|number| format!("other-{number}"));
            names.find(|name| RedisCluster::slot_of(&mut redis.client(0), name) / 16_384_usize.div_ceil(3) == master).unwrap()
        })
        .collect();
    for key in &keys {
        assert_eq!(client.call(&["SET", key, "1"]), Reply::ok());
    }
    assert_eq!(settled(&mut client, &["HSET", "s:one", "critical", "v"]), Reply::Int(1));
    assert_eq!(redis.client(0).say("WAIT 1 20000"), Reply::Int(1));
    let mut blocked = node.client();
    blocked.send(&encode(&["BLPOP", &format!("{{{}}}list", keys[0]), "0"])).unwrap();
    until("it blocks", || {
        let Reply::Bulk(clients) = redis.client(0).say("INFO clients") else { panic!("no info") };
        String::from_utf8_lossy(&clients).contains("blocked_clients:1").then_some(())
    });

    redis.masters[0].stop();
    assert!(blocked.read().unwrap().error().contains("upstream"), "what blocked there fails");
    // Those of its slots alone fail, each at once, and in order with those that do not.
    let all: Vec<u8> = keys.iter().chain(&keys).flat_map(|key| encode(&["GET", key])).collect();
    client.send(&all).unwrap();
    for number in 0..6 {
        let reply = client.read().unwrap();
        match number % 3 {
            0 => assert!(reply.error().contains("upstream") || reply == Reply::text("1"), "{reply:?}"),
            _ => assert_eq!(reply, Reply::text("1")),
        }
    }
    until("the replica has its slots", || (client.call(&["SET", &keys[0], "2"]) == Reply::ok()).then_some(()));
    assert_eq!(Client::to(redis.replicas[0].address()).call(&["GET", &keys[0]]), Reply::text("2"));
    assert_eq!(client.call(&["MGET", &keys[0], &keys[1], &keys[2]]).texts(), ["2", "1", "1"]);
    assert_eq!(client.say("HGET s:one critical"), Reply::text("v"));
    for number in 0..20 {
        assert_eq!(settled(&mut client, &["HSET", &format!("s:{number}"), "critical", "w"]), Reply::Int(1));
    }
    assert!(matches!(client.say("PUBLISH c x"), Reply::Int(_)));
}

#[test]
fn a_master_that_hangs_is_left_when_its_replica_has_its_slots() {
    let Some((redis, node)) = three(1) else { return };
    let mut client = node.client();
    let mut names = (0..).map(|number| format!("other-{number}"));
    let key = names.find(|name| RedisCluster::slot_of(&mut redis.client(1), name) < 5000).unwrap();
    assert_eq!(client.call(&["SET", &key, "1"]), Reply::ok());
    assert_eq!(redis.client(0).say("WAIT 1 20000"), Reply::Int(1));
    let pid = rustix::process::Pid::from_raw(i32::try_from(redis.masters[0].pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    // It hears the command, perhaps; nobody knows whether it will run there.
    let reply = client.call(&["GET", &key]);
    assert!(reply.error().contains("upstream"), "{reply:?}");
    until("the replica answers", || (client.call(&["GET", &key]) == Reply::text("1")).then_some(()));
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
}

#[test]
fn sessions_outlive_a_master_that_hangs() {
    let Some((redis, node)) = three(1) else { return };
    let mut client = node.client();
    assert_eq!(settled(&mut client, &["HSET", "s:first", "critical", "v"]), Reply::Int(1));
    let mut names = (0..).map(|number| format!("s:{number}"));
    let key = names.find(|name| RedisCluster::slot_of(&mut redis.client(1), name) < 5000).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(redis.masters[0].pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    // Nobody but the sessions uses the upstream, and nothing ends the connections to the one that hangs.
    assert_eq!(settled(&mut client, &["HSET", &key, "critical", "v"]), Reply::Int(1));
    let mut heir = Client::to(redis.replicas[0].address());
    assert_eq!(heir.call(&["HGET", &key, "critical"]), Reply::text("v"));
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
}

#[test]
fn sessions_are_at_rest_in_all_of_the_cluster() {
    let Some((redis, mut a)) = three(0) else { return };
    let cluster = cluster_of_url(&redis.url());
    let mut client = a.client();
    for number in 0..30 {
        let [hash, json, lock] = ["s", "j", "lock"].map(|kind| format!("{kind}:{number}"));
        assert_eq!(settled(&mut client, &["HSET", &hash, "critical", "v", "other", "w"]), Reply::Int(2));
        assert_eq!(client.call(&["SET", &json, r#"{"a":1,"b":2}"#]), Reply::ok());
        assert_eq!(client.call(&["SET", &lock, "x", "EX", "1000"]), Reply::ok());
    }
    // Keys that cannot be the tag of their guard.
    for key in ["s:a}b", "s:{}x", "s:{t}1", "s:a{b"] {
        assert_eq!(settled(&mut client, &["HSET", key, "critical", "v"]), Reply::Int(1), "{key}");
    }
    assert_eq!(client.say("SET other 1"), Reply::ok());
    wait_written(&a);
    assert_eq!(client.say("DBSIZE"), Reply::Int(95));
    let names = client.say("KEYS *").texts();
    assert!(names.len() == 95 && !names.iter().any(|name| name.starts_with("wf:")), "{names:?}");
    a.ask_drain();
    assert_eq!(a.wait_exit().code(), Some(0), "{}", a.log_text());
    for number in 0..30 {
        let hash = format!("s:{number}");
        assert_eq!(redis.client_of(&hash).call(&["HGET", &hash, "other"]), Reply::text("w"));
    }
    // Each key has its guard beside it, in the same slot.
    for master in 0..3 {
        let mut at = redis.client(master);
        let names = at.say("KEYS *").texts();
        for name in names.iter().filter(|name| *name != "other" && !name.starts_with("wf:{")) {
            let is_its_guard = |guard: &String| *guard == format!("wf:{{{name}}}") || guard.ends_with(&format!("}}{name}"));
            let is_tagged = |guard: &String| guard.starts_with("wf:{t}:") && guard.ends_with(name.as_str());
            assert!(names.iter().any(|guard| is_its_guard(guard) || is_tagged(guard)), "{name} among {names:?}");
        }
    }
    // Another node, in a directory of the same age, finds all of it.
    let b = cluster.start("b", &[]);
    let mut client = b.client();
    for number in 0..30 {
        let [hash, json, lock] = ["s", "j", "lock"].map(|kind| format!("{kind}:{number}"));
        assert_eq!(settled(&mut client, &["HGET", &hash, "critical"]), Reply::text("v"));
        assert_eq!(client.call(&["GET", &json]), Reply::text(r#"{"a":1,"b":2}"#));
        assert!(matches!(client.call(&["TTL", &lock]), Reply::Int(900..=1000)));
    }
    for key in ["s:a}b", "s:{}x", "s:{t}1", "s:a{b"] {
        assert_eq!(settled(&mut client, &["HGET", key, "critical"]), Reply::text("v"), "{key}");
    }
}

#[test]
fn in_observe_the_cluster_answers_for_sessions() {
    let Some(redis) = RedisCluster::start(3, 0, &[]) else { return };
    let a = cluster_of_url(&redis.url()).set(&["cluster.mode=observe"]).start("a", &[]);
    let mut client = a.client();
    for number in 0..20 {
        let key = format!("s:{number}");
        assert_eq!(client.call(&["HSET", &key, "f", "1"]), Reply::Int(1));
        assert_eq!(redis.client_of(&key).call(&["HGET", &key, "f"]), Reply::text("1"));
        assert_eq!(client.call(&["EVAL", "return redis.call('HINCRBY', KEYS[1], 'f', 1)", "1", &key]), Reply::Int(2));
        assert_eq!(client.say("MULTI"), Reply::ok());
        assert_eq!(client.call(&["HINCRBY", &key, "f", "1"]), Reply::Simple("QUEUED".into()));
        assert_eq!(client.say("EXEC"), Reply::Array(vec![Reply::Int(3)]));
    }
    let done = crate::harness::wayfarer(&["mode", "own", "--wait", "--admin", &a.admin.to_string()]);
    assert!(done.status.success(), "{done:?}");
    for number in 0..20 {
        let key = format!("s:{number}");
        assert_eq!(settled(&mut client, &["HINCRBY", &key, "f", "1"]), Reply::Int(4));
    }
    let done = crate::harness::wayfarer(&["mode", "observe", "--wait", "--admin", &a.admin.to_string()]);
    assert!(done.status.success(), "{done:?}");
    for number in 0..20 {
        let key = format!("s:{number}");
        assert_eq!(client.call(&["HGET", &key, "f"]), Reply::text("4"));
        assert_eq!(redis.client_of(&key).call(&["HGET", &key, "f"]), Reply::text("4"));
    }
    assert_eq!(a.metric("wayfarer_foreign_writes_total"), 0.0);
}

#[test]
fn every_master_tells_of_its_keys_and_messages_come_once() {
    let Some((redis, node)) = three(0) else { return };
    let (mut client, mut listens) = (node.client(), node.client());
    assert_eq!(client.say("CONFIG SET notify-keyspace-events KEA"), Reply::ok());
    for master in 0..3 {
        assert_eq!(redis.client(master).say("CONFIG GET notify-keyspace-events").texts()[1], "AKE");
    }
    assert_eq!(listens.say("PSUBSCRIBE __keyevent@0__:*").texts(), ["psubscribe", "__keyevent@0__:*", "1"]);
    assert_eq!(listens.say("SUBSCRIBE news").texts(), ["subscribe", "news", "2"]);
    // Every master has heard of it when it tells; then each event must come, and each message once.
    let mut heard = std::collections::BTreeSet::new();
    for number in 0.. {
        let key = format!("other-{number}");
        let told = redis.client_of(&key).call(&["SET", &key, "1"]);
        assert_eq!(told, Reply::ok());
        assert_eq!(client.say(&format!("PUBLISH news {number}")), Reply::Int(1));
        loop {
            let words = listens.read().unwrap().texts();
            if words[0] == "message" {
                assert_eq!(words[2], number.to_string(), "each message once");
                break;
            }
            heard.insert(RedisCluster::slot_of(&mut redis.client(0), &words[3]) / 16_384_usize.div_ceil(3));
        }
        if heard.len() == 3 {
            break;
        }
        assert!(number < 2000, "{heard:?} of three masters tell");
    }
    listens.send(&[encode(&["PUNSUBSCRIBE"]), encode(&["UNSUBSCRIBE"])].concat()).unwrap();
    until("the end of what is told", || {
        let words = listens.read().unwrap().texts();
        (words[0] == "unsubscribe" && words[2] == "0").then_some(())
    });
    assert_eq!(listens.say("SET mine 1"), Reply::ok());
    assert_eq!(listens.say("MGET mine other-0"), Reply::Array(vec![Reply::text("1"), Reply::text("1")]));
}

#[test]
fn every_master_asks_for_the_password() {
    let Some(redis) = RedisCluster::start(3, 0, &[]) else { return };
    // Who is connected before is asked for nothing.
    let mut masters: Vec<Client> = (0..3).map(|number| redis.client(number)).collect();
    for master in &mut masters {
        assert_eq!(master.say("ACL SETUSER shop on >secret-of-shop ~* &* +@all"), Reply::ok());
        assert_eq!(master.say("CONFIG SET requirepass secret-of-all"), Reply::ok());
    }
    let url_of = |who: &str| redis.url().replace("redis+cluster://", &format!("redis+cluster://{who}@"));
    for (name, who) in [("a", "shop:secret-of-shop"), ("b", ":secret-of-all")] {
        let mut node = cluster_of_url(&url_of(who)).start(name, &[]);
        let mut client = node.client();
        for number in 0..30 {
            assert_eq!(client.say(&format!("SET {name}-{number} {number}")), Reply::ok());
            assert_eq!(settled(&mut client, &["HSET", &format!("s:{name}{number}"), "other", "w"]), Reply::Int(1));
        }
        let there = ["1", "2", "29"].map(Reply::text).to_vec();
        assert_eq!(client.say(&format!("MGET {name}-1 {name}-2 {name}-29")), Reply::Array(there));
        node.ask_drain();
        assert_eq!(node.wait_exit().code(), Some(0), "{}", node.log_text());
    }
    let at_rest: usize = masters.iter_mut().map(|master| master.say("KEYS s:*").texts().len()).sum();
    assert_eq!(at_rest, 60);
    let node = cluster_of_url(&url_of("shop:not-the-secret")).start("c", &[]);
    assert!(node.client().say("GET a-1").error().contains("upstream"));
    until("the reason in the log", || node.log_text().contains("look at scheme, user and password").then_some(()));
    assert!(!node.log_text().contains("not-the-secret"));
}

#[test]
fn a_first_look_goes_through_all_masters() {
    let Some(redis) = RedisCluster::start(3, 0, &[]) else { return };
    for number in 0..300 {
        let key = format!("sess:{number:032}");
        let session = r#"{"cookie":{"originalMaxAge":null,"httpOnly":true,"path":"/"},"user":"u"}"#;
        assert_eq!(redis.client_of(&key).call(&["SET", &key, session, "EX", "1000"]), Reply::ok());
    }
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("wayfarer.toml");
    let look = |url: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_wayfarer"))
            .args(["init", "--redis", url, "--out", written.to_str().unwrap()])
            .output()
            .unwrap()
    };
    let done = look(&redis.url());
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("connect-redis") && said.contains("300"), "{said}");
    let text = std::fs::read_to_string(&written).unwrap();
    assert!(text.contains("redis+cluster://") && text.contains(r#"preset = "connect-redis""#), "{text}");
}

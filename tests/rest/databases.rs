//! Keys at rest in several databases, and of every type; and what SCAN, KEYS and DBSIZE show of them.

use crate::harness::Cluster;
use crate::harness::resp::{Client, Reply};
use crate::harness::wayfarer;
use crate::redis::Redis;
use crate::{cluster, cluster_of, settled};

fn check_in(node: &crate::Node) {
    let done = wayfarer(&["checkin", "--all", "--json", "--admin", &node.admin.to_string()]);
    let answer: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((answer["failed"].as_u64(), node.sessions()), (Some(0), 0));
}

/// The names in a reply, sorted.
fn names(reply: Reply) -> Vec<String> {
    let Reply::Array(items) = reply else { panic!("no array: {reply:?}") };
    let text =
        |item: &Reply| if let Reply::Bulk(name) = item { String::from_utf8(name.clone()).unwrap() } else { panic!("{item:?}") };
    let mut names: Vec<String> = items.iter().map(text).collect();
    names.sort();
    names
}

/// All that SCAN shows, as often as it shows it, sorted.
fn scanned(client: &mut Client) -> Vec<String> {
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    loop {
        let Reply::Array(answer) = client.call(&["SCAN", &cursor, "COUNT", "100"]) else { panic!("no array") };
        let Reply::Bulk(next) = &answer[0] else { panic!("no cursor") };
        cursor = String::from_utf8(next.clone()).unwrap();
        found.extend(names(answer[1].clone()));
        if cursor == "0" {
            found.sort();
            return found;
        }
    }
}

#[test]
fn a_session_is_at_rest_in_each_of_its_databases() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis);
    let mut node = cluster.start("a", &[]);
    let mut client = node.client();
    assert_eq!(client.say("HSET s:both a 0"), Reply::Int(1));
    assert_eq!(client.say("SELECT 1"), Reply::ok());
    assert_eq!(client.say("HSET s:both a 1"), Reply::Int(1));
    assert_eq!(client.say("HSET s:second a 1"), Reply::Int(1));
    assert_eq!(client.say("SET j:second {\"n\":1} EX 1000"), Reply::ok());
    check_in(&node);
    let mut at_rest = redis.client();
    assert_eq!(names(at_rest.say("KEYS [sj]*")), ["s:both"]);
    assert_eq!(at_rest.say("HGET s:both a"), Reply::text("0"));
    assert_eq!(at_rest.say("SELECT 1"), Reply::ok());
    assert_eq!(names(at_rest.say("KEYS [sj]*")), ["j:second", "s:both", "s:second"]);
    assert_eq!(at_rest.say("HGET s:both a"), Reply::text("1"));
    assert_eq!(at_rest.say("KEYS *db1*"), Reply::Array(Vec::new()));
    assert!(matches!(at_rest.say("TTL j:second"), Reply::Int(900..=1000)));

    // A process that has seen no database yet finds them all, whichever is asked for first.
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait_exit().code(), Some(0));
    let node = cluster.start("a", &[]);
    let mut client = node.client();
    assert_eq!(settled(&mut client, &["HGET", "s:both", "a"]), Reply::text("0"));
    assert_eq!(settled(&mut client, &["EXISTS", "s:second"]), Reply::Int(0));
    assert_eq!(client.say("SELECT 1"), Reply::ok());
    assert_eq!(settled(&mut client, &["HGET", "s:both", "a"]), Reply::text("1"));
    assert_eq!(settled(&mut client, &["GET", "j:second"]), Reply::text("{\"n\":1}"));
    assert_eq!(settled(&mut client, &["HINCRBY", "s:second", "a", "1"]), Reply::Int(2));
    assert_eq!(settled(&mut client, &["DEL", "s:both"]), Reply::Int(1));
    check_in(&node);
    assert_eq!(at_rest.say("HGET s:second a"), Reply::text("2"));
    assert_eq!(names(at_rest.say("KEYS [sj]*")), ["j:second", "s:second"]);
    assert_eq!(at_rest.say("SELECT 0"), Reply::ok());
    assert_eq!(at_rest.say("HGET s:both a"), Reply::text("0"), "the other database's key was not deleted");
    assert_eq!(node.metric("wayfarer_foreign_writes_total"), 0.0);
}

#[test]
fn the_database_of_the_url_has_two_numbers_and_is_one() {
    let Some(redis) = Redis::start() else { return };
    let upstream = format!("state.upstream=redis://127.0.0.1:{}/2", redis.port());
    let node = cluster(&redis).set(&[&upstream]).start("a", &[]);
    let (mut first, mut second) = (node.client(), node.client());
    assert_eq!(second.say("SELECT 2"), Reply::ok());
    assert_eq!(first.say("HSET s:one a 1"), Reply::Int(1));
    assert_eq!(second.say("HINCRBY s:one a 1"), Reply::Int(2));
    check_in(&node);
    let mut at_rest = redis.client();
    assert_eq!(at_rest.say("SELECT 2"), Reply::ok());
    assert_eq!(at_rest.say("HGET s:one a"), Reply::text("2"));
    assert_eq!(settled(&mut second, &["HGET", "s:one", "a"]), Reply::text("2"));
    assert_eq!(names(second.say("KEYS *")), ["s:one"]);
}

#[test]
fn a_pattern_of_one_database_rests_there() {
    let Some(redis) = Redis::start() else { return };
    let keys = r#"[{ pattern = "s:{session}", layout = "hash", database = 3 }]"#;
    for url in [0, 3] {
        let upstream = format!("state.upstream=redis://127.0.0.1:{}/{url}", redis.port());
        rests_in_three(cluster_of(&redis, keys).set(&[&upstream]), &format!("s:one{url}"));
    }
}

fn rests_in_three(cluster: Cluster, key: &str) {
    let mut node = cluster.start("a", &[]);
    let mut client = node.client();
    assert_eq!(client.say("SELECT 3"), Reply::ok());
    assert_eq!(client.say("HGET s:nobody a"), Reply::Nil);
    assert_eq!(client.call(&["HSET", key, "a", "1"]), Reply::Int(1));
    let other = cluster.start("b", &[]);
    let mut elsewhere = other.client();
    assert_eq!(elsewhere.say("SELECT 3"), Reply::ok());
    assert_eq!(elsewhere.call(&["HGET", key, "a"]), Reply::text("1"), "forwarded");
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait_exit().code(), Some(0), "{}", node.log_text());
    let mut other = other;
    other.signal(rustix::process::Signal::TERM);
    assert_eq!(other.wait_exit().code(), Some(0), "it went to rest: {}", other.log_text());
    let node = cluster.start("a", &[]);
    let mut client = node.client();
    assert_eq!(client.say("SELECT 3"), Reply::ok());
    assert_eq!(settled(&mut client, &["HGET", key, "a"]), Reply::text("1"));
}

#[test]
fn a_database_that_the_upstream_lacks_is_an_error_and_harms_nobody_else() {
    let Some(redis) = Redis::start_with(&["--databases", "2"]) else { return };
    let node = cluster(&redis).start("a", &[]);
    let (mut client, mut other) = (node.client(), node.client());
    assert_eq!(client.say("SELECT 3"), Reply::ok());
    for line in ["HGET s:one a", "HSET s:one a 1"] {
        assert!(client.say(line).error().starts_with("ERR wayfarer: the upstream has no such database"), "{line}");
    }
    assert_eq!(other.say("HSET s:one a 1"), Reply::Int(1));
    assert_eq!(other.say("HGET s:two a"), Reply::Nil);
    assert_eq!(other.say("SELECT 1"), Reply::ok());
    assert_eq!(other.say("HSET s:one a 2"), Reply::Int(1));
    check_in(&node);
    assert_eq!(settled(&mut other, &["HGET", "s:one", "a"]), Reply::text("2"));
}

#[test]
fn a_flush_of_one_database_leaves_the_others() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis).set(&["state.flush=true"]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let (mut first, mut second) = (a.client(), b.client());
    assert_eq!(second.say("SELECT 1"), Reply::ok());
    for n in 0..20 {
        assert_eq!(settled(&mut first, &["HSET", &format!("s:{n}"), "a", "0"]), Reply::Int(1));
        assert_eq!(settled(&mut second, &["HSET", &format!("s:{n}"), "a", "1"]), Reply::Int(1));
    }
    assert_eq!(a.rebalance().1, 0);
    crate::wait_written(&a);
    check_in(&b);
    assert_eq!(first.say("FLUSHDB"), Reply::ok());
    assert_eq!((first.say("DBSIZE"), second.say("DBSIZE")), (Reply::Int(0), Reply::Int(20)));
    for n in 0..20 {
        assert_eq!(settled(&mut first, &["EXISTS", &format!("s:{n}")]), Reply::Int(0));
        assert_eq!(settled(&mut second, &["HGET", &format!("s:{n}"), "a"]), Reply::text("1"));
    }
    assert_eq!(second.say("FLUSHALL"), Reply::ok());
    assert_eq!(second.say("KEYS *"), Reply::Array(Vec::new()));
    assert_eq!(settled(&mut first, &["HSET", "s:1", "a", "2"]), Reply::Int(1));
}

#[test]
fn surveys_show_each_key_once_and_no_guards() {
    let Some(redis) = Redis::start() else { return };
    let node = cluster(&redis).set(&["rest.high_ms=3600000"]).start("a", &[]);
    let (mut client, mut at_rest) = (node.client(), redis.client());
    for n in 0..30 {
        assert_eq!(client.call(&["HSET", &format!("s:{n}"), "f", "1"]), Reply::Int(1));
    }
    check_in(&node);
    assert_eq!(at_rest.say("SET other 1"), Reply::ok());
    // Ten are owned and at rest, five are owned and nowhere else.
    for n in 0..10 {
        assert_eq!(settled(&mut client, &["HGET", &format!("s:{n}"), "f"]), Reply::text("1"));
    }
    for n in 30..35 {
        assert_eq!(client.call(&["HSET", &format!("s:{n}"), "f", "1"]), Reply::Int(1));
    }
    assert!(matches!(at_rest.say("DBSIZE"), Reply::Int(60..)), "keys and guards");
    let mut all: Vec<String> = (0..35).map(|n| format!("s:{n}")).collect();
    all.push("other".to_owned());
    all.sort();
    assert_eq!(names(client.say("KEYS *")), all);
    assert_eq!(scanned(&mut client), all);
    assert_eq!(client.say("DBSIZE"), Reply::Int(36));
}

#[test]
fn keys_of_every_type_come_back_as_they_were() {
    let Some(redis) = Redis::start() else { return };
    let keys = r#"[{ pattern = "v:{session}:{variable}", layout = "key" }, { pattern = "s:{session}", layout = "hash" }]"#;
    let node = cluster_of(&redis, keys).start("a", &[]);
    let (mut client, mut at_rest) = (node.client(), redis.client());
    let bytes: Vec<u8> = (0..=255).collect();
    let word = |text: &str| text.as_bytes().to_vec();
    let mut writes: Vec<Vec<Vec<u8>>> = [
        "SADD v:one:set b a 3 2 1",
        "ZADD v:one:scores inf top -inf bottom 1.5 a -0.25 b 1e300 c 17179869184 d",
        "RPUSH v:one:list z y x z",
        "SADD v:one:numbers 1 2 3",
        "PEXPIRE v:one:list 900000",
    ]
    .map(|line| line.split(' ').map(word).collect())
    .into();
    writes.push(vec![word("SET"), word("v:one:bytes"), bytes.clone()]);
    writes.push(vec![word("HSET"), word("s:one"), bytes.clone(), Vec::new()]);
    for write in &writes {
        assert_eq!(settled_bytes(&mut client, write).error(), "");
    }
    let looks = [
        "SMEMBERS v:one:set",
        "ZRANGE v:one:scores 0 -1 WITHSCORES",
        "LRANGE v:one:list 0 -1",
        "SMEMBERS v:one:numbers",
        "GET v:one:bytes",
        "HGETALL s:one",
        "TYPE v:one:scores",
    ];
    let sorted = |reply: Reply, line: &str| match reply {
        Reply::Array(mut items) if line.starts_with("SMEMBERS") => {
            items.sort_by_key(|item| format!("{item:?}"));
            Reply::Array(items)
        }
        other => other,
    };
    let before: Vec<Reply> = looks.iter().map(|line| sorted(client.say(line), line)).collect();
    check_in(&node);
    for (line, before) in looks.iter().zip(&before) {
        assert_eq!(&sorted(at_rest.say(line), line), before, "at rest: {line}");
    }
    for (line, before) in looks.iter().zip(&before) {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(&sorted(settled(&mut client, &words), line), before, "checked out: {line}");
    }
    // Others' changes at rest are seen, of every type.
    check_in(&node);
    for line in ["SREM v:one:set a", "ZADD v:one:scores 7 a", "LPOP v:one:list", "APPEND v:one:bytes x"] {
        assert_eq!(at_rest.say(line).error(), "");
    }
    let after: Vec<Reply> = looks.iter().map(|line| sorted(at_rest.say(line), line)).collect();
    for (line, after) in looks.iter().zip(&after) {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(&sorted(settled(&mut client, &words), line), after, "changed at rest: {line}");
    }
    assert!(matches!(client.say("PTTL v:one:list"), Reply::Int(1..=900_000)));
    assert_eq!(node.metric("wayfarer_foreign_writes_total"), 0.0);
}

fn settled_bytes(client: &mut Client, words: &[Vec<u8>]) -> Reply {
    crate::until("an answer", || {
        let reply = client.call(words);
        (!reply.is_try_again()).then_some(reply)
    })
}

//! Channels and key events across members, without an upstream, beside a real `redis-server` that is told the same.

use crate::harness::redis_server::RedisServer;
use crate::harness::resp::{Client, Reply};
use crate::harness::{Node, until};
use crate::{cluster, filler, hset};

fn pair() -> (crate::harness::Cluster, Node, Node) {
    let mut cluster = cluster();
    cluster.set.push("handover.residence_ms_min=600000".into());
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    b.wait_members(2);
    (cluster, a, b)
}

/// `who [count] command`: who says it, and how many replies and messages they then read. Without a command they only read.
const TALK: &str = "
    A 2 SUBSCRIBE news other
    A 1 PSUBSCRIBE n*
    A 1 SUBSCRIBE news
    A 1 PING
    A 1 PING hi
    A 1 GET k:nobody
    A 1 HSET s:one f v
    A 1 CONFIG GET databases
    A 1 NOSUCH x
    A 1 SUBSCRIBE
    B 1 PUBLISH news hello
    A 2
    B 1 PUBLISH zero hello
    B 1 PUBLISH nearly one
    A 1
    B 1 PUBLISH news
    B 1 PUBSUB NUMSUB news zzz
    B 1 PUBSUB NUMSUB
    B 1 PUBSUB NUMPAT
    B 1 PUBSUB NUMPAT x
    B 1 PUBSUB CHANNELS o*
    B 1 PUBSUB CHANNELS a b
    B 1 PUBSUB NOTHING
    B 1 SUBSCRIBE news
    A 1 UNSUBSCRIBE other
    A 1 UNSUBSCRIBE never
    A 1 PUNSUBSCRIBE
    A 1 PUNSUBSCRIBE
    A 1 UNSUBSCRIBE
    A 1 UNSUBSCRIBE
    A 1 PING
    A 1 GET k:nobody
    A 2 SUBSCRIBE x y
    A 1 RESET
    A 1 PING
    A 1 UNSUBSCRIBE
    A 1 CONFIG GET notify-keyspace-events
    A 1 CONFIG SET notify-keyspace-events Egx?
    A 1 CONFIG SET notify-keyspace-events Egx
    A 1 CONFIG SET nothing-known 1
    A 1 CONFIG SET notify-keyspace-events
    A 1 CONFIG GET notify-keyspace-events
    A 1 CONFIG SET notify-keyspace-events KA
    A 1 CONFIG GET notify-keyspace-events
    A 1 CONFIG SET notify-keyspace-events xgm$E
    A 1 CONFIG GET notify-keyspace-events
";

fn talk(a: &mut Client, b: &mut Client) -> Vec<(String, Vec<Reply>)> {
    let mut heard = Vec::new();
    for line in TALK.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let client = if words.next() == Some("A") { &mut *a } else { &mut *b };
        let count: usize = words.next().unwrap().parse().unwrap();
        if let Some(command) = words.next() {
            client.send(format!("{command}\r\n").as_bytes()).unwrap();
        }
        heard.push((line.to_owned(), (0..count).map(|_| client.read().unwrap()).collect()));
    }
    heard
}

#[test]
fn channels_are_those_of_redis_across_members() {
    let (_cluster, a, b) = pair();
    for hello in ["HELLO 2", "HELLO 3"] {
        let Some(redis) = RedisServer::start(&[]) else { return };
        let connect = |address| {
            let mut client = Client::to(address);
            client.say(hello);
            client
        };
        let ours = talk(&mut connect(a.state), &mut connect(b.state));
        let theirs = talk(&mut connect(redis.address()), &mut connect(redis.address()));
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            assert_eq!(ours, theirs, "{hello}");
        }
        assert_eq!(a.client().say("CONFIG SET notify-keyspace-events xE").error(), "");
        assert!(!a.client().say("CONFIG SET notify-keyspace-events EMPTY").error().is_empty());
        // For the next protocol, as it was.
        let cleared = a.client().call(&["CONFIG", "SET", "notify-keyspace-events", ""]);
        assert_eq!(cleared, Reply::ok());
        a.client().say("DEL s:one");
    }
}

/// A client that hears all that is told of keys.
fn listener(address: std::net::SocketAddr) -> Client {
    let mut client = Client::to(address);
    assert_eq!(client.say("PSUBSCRIBE __key*__:*").texts(), ["psubscribe", "__key*__:*", "1"]);
    client
}

/// What it hears until it hears of this key on a channel of its own name.
fn heard_until(client: &mut Client, last: &str) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let words = client.read().unwrap().texts();
        let about = words[2..].join(" ");
        if about.contains(last) && about.starts_with("__keyevent") {
            return heard;
        }
        if !about.contains(last) {
            heard.push(about);
        }
    }
}

const CHANGES: &[&str] = &[
    "SET k:one v",
    "SET k:one w EX 100",
    "APPEND k:one x",
    "HSET s:one f v g w",
    "HDEL s:one f",
    "HINCRBY s:one n 1",
    "EXPIRE s:one 100",
    "PERSIST s:one",
    "GET k:one",
    "DEL k:one",
    "HDEL s:one g n",
    "RPUSH k:two a b",
    "LPOP k:two",
    "EXPIRE k:two -1",
    "SADD s:two a",
    "SREM s:two a",
    "SET k:three v",
    "EVAL return{redis.call('set',KEYS[1],'x'),redis.call('del',KEYS[1])} 1 k:three",
    "MULTI",
    "SET k:three v",
    "INCR k:three",
    "DEL k:three",
    "EXEC",
    "SELECT 3",
    "SET k:three v",
    "DEL k:three",
    "SELECT 0",
];

#[test]
fn what_happens_to_session_keys_is_told_to_every_subscriber_once() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let (_cluster, a, b) = pair();
    let (mut at_a, mut at_redis) = (a.client(), Client::to(redis.address()));
    for client in [&mut at_a, &mut at_redis] {
        assert_eq!(client.say("CONFIG SET notify-keyspace-events KEA"), Reply::ok());
    }
    assert_eq!(b.client().say("CONFIG GET notify-keyspace-events").texts(), ["notify-keyspace-events", "AKE"], "by all members");
    let mut listeners = [listener(a.state), listener(b.state), listener(b.state)];
    let mut theirs = listener(redis.address());
    for change in CHANGES {
        assert_eq!(at_a.say(change), at_redis.say(change), "{change}");
    }
    // What follows happened at another member: its session was used there first.
    let mut at_b = b.client();
    for client in [&mut at_b, &mut at_redis] {
        client.say("SET k:last v");
    }
    let expected = heard_until(&mut theirs, "k:last");
    assert!(expected.len() > 40, "{expected:?}");
    for (n, listener) in listeners.iter_mut().enumerate() {
        assert_eq!(heard_until(listener, "k:last"), expected, "listener {n}");
    }
    // An expiry is told when it comes, without anybody looking.
    for client in [&mut at_a, &mut at_redis] {
        client.say("SET k:short v PX 30");
        client.say("HSET s:short f v");
    }
    for listener in listeners.iter_mut().chain([&mut theirs]) {
        let mut words = until("the expiry", || {
            let words = listener.read().unwrap().texts();
            words.concat().contains("expired").then_some(words)
        });
        assert_eq!(words.split_off(1), ["__key*__:*", "__keyspace@0__:k:short", "expired"]);
        assert_eq!(listener.read().unwrap().texts()[1..], ["__key*__:*", "__keyevent@0__:expired", "k:short"]);
    }
    // Nobody listens any more: nothing is noted.
    drop(listeners);
    let count = || a.metric("wayfarer_key_events_total");
    until("the members to hear it", || {
        let before = count();
        at_a.say("SET k:quiet v");
        at_a.say("PING");
        (count() == before).then_some(())
    });
}

#[test]
fn a_move_is_told_to_nobody_and_the_new_owner_tells_what_follows() {
    let (_cluster, a, b) = pair();
    let mut at_a = a.client();
    assert_eq!(at_a.say("CONFIG SET notify-keyspace-events KEA"), Reply::ok());
    let mut listeners = [listener(a.state), listener(b.state)];
    hset(&mut at_a, "s:moves", "bag", &filler("bag", 5000));
    assert_eq!(at_a.say("SET k:moves v PX 600000"), Reply::ok());
    assert!(a.owns("moves"));
    // b is the only one that takes sessions then, and a goes on.
    crate::harness::http::post(a.admin, "/api/v1/rebalance").unwrap();
    a.ask_drain();
    until("the move", || b.owns("moves").then_some(()));
    let mut at_b = b.client();
    assert_eq!(at_b.say("HSET s:moves f v"), Reply::Int(1));
    assert_eq!(at_b.say("DEL s:moves k:moves"), Reply::Int(2));
    assert_eq!(at_b.say("SET k:last v"), Reply::ok());
    let expected = [
        "__keyspace@0__:s:moves hset",
        "__keyevent@0__:hset s:moves",
        "__keyspace@0__:k:moves set",
        "__keyevent@0__:set k:moves",
        "__keyspace@0__:k:moves expire",
        "__keyevent@0__:expire k:moves",
        "__keyspace@0__:s:moves hset",
        "__keyevent@0__:hset s:moves",
        "__keyspace@0__:s:moves del",
        "__keyevent@0__:del s:moves",
        "__keyspace@0__:k:moves del",
        "__keyevent@0__:del k:moves",
    ];
    assert_eq!(heard_until(&mut listeners[1], "k:last"), expected);
}

#[test]
fn a_subscriber_that_does_not_read_is_disconnected_and_counted() {
    let cluster = cluster().set(&["state.output_bytes_max=131072", "state.value_bytes_max=1024"]);
    let a = cluster.start("a", &[]);
    let (mut slow, mut healthy, mut other) = (a.client(), a.client(), a.client());
    for client in [&mut slow, &mut healthy] {
        assert_eq!(client.say("SUBSCRIBE news").texts(), ["subscribe", "news", "1"]);
    }
    let page = "x".repeat(20_000);
    until("the slow one to be let go", || {
        let count = other.call(&["PUBLISH", "news", &page]);
        let both = count == Reply::Int(2);
        assert!(both || count == Reply::Int(1), "{count:?}");
        assert_eq!(healthy.read().unwrap().texts()[0], "message");
        (!both).then_some(())
    });
    assert_eq!(a.metric("wayfarer_subscribers_overflowed_total"), 1.0);
    assert!(slow.is_closed());
}

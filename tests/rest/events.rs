//! Key events where sessions are at rest in an upstream: owners tell of theirs, the upstream of those at rest, and nothing is told twice.

use crate::harness::resp::{Client, Reply};
use crate::harness::wayfarer;
use crate::redis::Redis;
use crate::{cluster, cluster_of, until, wait_written};

/// Hears of keys through a sidecar.
fn listener(address: std::net::SocketAddr) -> Client {
    let mut client = Client::to(address);
    assert_eq!(client.say("PSUBSCRIBE __keyevent@*__:*").texts(), ["psubscribe", "__keyevent@*__:*", "1"]);
    assert_eq!(client.say("SUBSCRIBE done").texts(), ["subscribe", "done", "2"]);
    client
}

/// What it hears of these keys until something is published on `done`, which comes behind all that the upstream has said before.
fn heard(client: &mut Client, at_rest: &mut Client, about: &str) -> Vec<String> {
    assert!(matches!(at_rest.say("PUBLISH done now"), Reply::Int(n) if n > 0));
    let mut heard = Vec::new();
    loop {
        let words = client.read().unwrap().texts();
        if words.iter().any(|word| word == "done") {
            return heard;
        }
        let (event, key) = (words[2].rsplit(':').next().unwrap(), &words[3]);
        assert!(!key.starts_with("wf:"), "guards are nobody's business");
        if key.contains(about) {
            heard.push(format!("{event} {key}"));
        }
    }
}

/// Waits for an event.
fn next(client: &mut Client, wanted: &str) {
    until(wanted, || {
        let words = client.read().unwrap().texts();
        let event = words.get(2).and_then(|channel| channel.rsplit(':').next()).unwrap_or_default();
        (format!("{event} {}", words.last().unwrap()) == wanted).then_some(())
    });
}

#[test]
fn what_an_owner_does_is_told_once_and_its_flushes_are_not() {
    let Some(redis) = Redis::start_with(&["--notify-keyspace-events", "KEA"]) else { return };
    let cluster = cluster(&redis);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    b.wait_members(2);
    let (mut at_a, mut at_rest) = (a.client(), redis.client());
    let mut listeners = [listener(a.state), listener(b.state)];
    assert_eq!(at_a.say("HSET s:one f v"), Reply::Int(1));
    assert_eq!(at_a.say("EXPIRE s:one 1000"), Reply::Int(1));
    assert_eq!(at_a.say("HSET s:two f v"), Reply::Int(1));
    wait_written(&a);
    assert_eq!(at_a.say("DEL s:one"), Reply::Int(1));
    assert_eq!(at_a.say("SET lock:three v PX 50"), Reply::ok());
    for listener in &mut listeners {
        next(listener, "del s:one");
        next(listener, "expired lock:three");
    }
    until("the deletion to be flushed", || (at_rest.say("EXISTS s:one lock:three") == Reply::Int(0)).then_some(()));
    until("the sessions to end", || (a.sessions() == 1).then_some(()));
    // What goes to rest, goes silently.
    let admin = a.admin.to_string();
    assert!(wayfarer(&["checkin", "--all", "--admin", &admin]).status.success());
    assert_eq!((a.sessions(), at_rest.say("HGET s:two f")), (0, Reply::text("v")));
    for listener in &mut listeners {
        assert_eq!(heard(listener, &mut at_rest, ":"), [""; 0], "all was told before, or is a flush");
    }
    // What somebody else does to a session at rest, and its expiry there, the upstream tells.
    assert_eq!(at_rest.say("HSET s:two g w"), Reply::Int(1));
    assert_eq!(at_rest.say("PEXPIRE s:two 40"), Reply::Int(1));
    for listener in &mut listeners {
        next(listener, "hset s:two");
        next(listener, "expired s:two");
    }
    assert!(a.metric("wayfarer_upstream_events_withheld_total") > 0.0);
}

#[test]
fn an_older_copy_that_expires_is_no_news_of_an_owned_session() {
    let Some(redis) = Redis::start_with(&["--notify-keyspace-events", "KEA"]) else { return };
    // A lengthened expiry alone is due late.
    let node = cluster(&redis).set(&["rest.low_ms=600000", "rest.high_ms=20"]).start("a", &[]);
    let (mut client, mut at_rest) = (node.client(), redis.client());
    assert_eq!(client.say("HSET s:lives f v"), Reply::Int(1));
    assert_eq!(client.say("PEXPIRE s:lives 400"), Reply::Int(1));
    let mut listener = listener(node.state);
    until("the short expiry to be upstream", || matches!(at_rest.say("PTTL s:lives"), Reply::Int(n) if n > 0).then_some(()));
    assert_eq!(client.say("PEXPIRE s:lives 600000"), Reply::Int(1));
    until("the copy to expire", || (at_rest.say("EXISTS s:lives") == Reply::Int(0)).then_some(()));
    assert_eq!(client.say("HGET s:lives f"), Reply::text("v"));
    assert_eq!(heard(&mut listener, &mut at_rest, "lives"), ["expire s:lives"], "the owner's, and not the copy's end");
}

#[test]
fn channels_that_concern_no_session_are_the_upstreams() {
    let Some(redis) = Redis::start_with(&["--notify-keyspace-events", "KEA"]) else { return };
    let node = cluster(&redis).start("a", &[]);
    let (mut client, mut at_rest) = (listener(node.state), redis.client());
    assert_eq!(at_rest.say("SET other 1"), Reply::ok());
    assert_eq!(node.client().say("DEL other"), Reply::Int(1));
    assert_eq!(heard(&mut client, &mut at_rest, "other"), ["set other", "del other"]);
    assert_eq!(node.client().say("PUBLISH news x"), Reply::Int(0));
    assert_eq!(client.say("SUBSCRIBE news").texts(), ["subscribe", "news", "3"]);
    assert_eq!(node.client().say("PUBLISH news x"), Reply::Int(1));
    assert_eq!(client.read().unwrap().texts(), ["message", "news", "x"]);
    assert_eq!(at_rest.say("PUBSUB NUMSUB news").texts(), ["news", "1"]);
}

/// The commands of Spring's RedisIndexedSessionRepository, as its sources have them.
#[test]
fn spring_hears_that_a_session_has_expired_and_deletes_it() {
    let Some(redis) = Redis::start() else { return };
    let keys = r#"[{ preset = "spring-session-indexed" }]"#;
    let cluster = cluster_of(&redis, keys);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    b.wait_members(2);
    let id = "2f1d6c2e-5a57-4d35-9a1c-0d9f0c7a4f11";
    let [hash, shadow] = ["", "expires:"].map(|part| format!("spring:session:sessions:{part}{id}"));
    let (mut app, mut at_rest) = (a.client(), redis.client());
    // What it needs is switched on when it starts.
    assert_eq!(app.say("CONFIG GET notify-keyspace-events").texts(), ["notify-keyspace-events", ""]);
    assert_eq!(app.say("CONFIG SET notify-keyspace-events gxE"), Reply::ok());
    assert_eq!(at_rest.say("CONFIG GET notify-keyspace-events").texts()[1], "gxE");
    let mut listener = b.client();
    for (n, command) in
        ["PSUBSCRIBE spring:session:event:0:created:*", "SUBSCRIBE __keyevent@0__:del", "SUBSCRIBE __keyevent@0__:expired"]
            .into_iter()
            .enumerate()
    {
        assert_eq!(listener.say(command).texts()[2], (n + 1).to_string(), "{command}");
    }
    let saved = [
        (
            "HMSET",
            vec![&*hash, "lastAccessedTime", "1", "maxInactiveInterval", "1800", "creationTime", "1", "sessionAttr:u", "v"],
        ),
        ("SADD", vec!["spring:session:expirations:1700000000000", "expires:x"]),
        ("EXPIRE", vec!["spring:session:expirations:1700000000000", "2100"]),
        ("APPEND", vec![&shadow, ""]),
        ("PEXPIRE", vec![&shadow, "150"]),
        ("EXPIRE", vec![&hash, "2100"]),
    ];
    let created = format!("spring:session:event:0:created:{id}");
    for (name, arguments) in saved {
        let words: Vec<&str> = [name].into_iter().chain(arguments).collect();
        assert_eq!(app.call(&words).error(), "", "{name}");
    }
    assert_eq!(app.call(&["PUBLISH", &created, "x"]), Reply::Int(1));
    assert_eq!(listener.read().unwrap().texts(), ["pmessage", "spring:session:event:0:created:*", &created, "x"]);
    assert_eq!(listener.read().unwrap().texts(), ["message", "__keyevent@0__:expired", &shadow], "at its time, at every member");
    assert!(a.sessions() == 1 && app.call(&["HGET", &hash, "sessionAttr:u"]) == Reply::text("v"));
    // The application reads what has expired, and deletes it.
    assert_eq!(app.call(&["DEL", &hash]), Reply::Int(1));
    assert_eq!(listener.read().unwrap().texts(), ["message", "__keyevent@0__:del", &hash]);
    until("the end of the session", || (a.sessions() == 0).then_some(()));
    until("the flush of its end", || (at_rest.call(&["EXISTS", &hash, &shadow]) == Reply::Int(0)).then_some(()));
    assert_eq!(at_rest.call(&["PUBLISH", &created, "last"]), Reply::Int(1));
    assert_eq!(listener.read().unwrap().texts()[3], "last", "nothing twice");
}

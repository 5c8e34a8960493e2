//! RENAME from one session to another where sessions are at rest: whoever looks there finds one name, whatever ends in the middle.

use crate::gate::Gate;
use crate::harness::resp::{Client, Reply};
use crate::redis::Redis;
use crate::{cluster, cluster_in, pairs, settled, wait_written};
use rustix::process::Signal;
use std::sync::atomic::{AtomicU64, Ordering};

fn fields(client: &mut Client, key: &str) -> Vec<(String, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    pairs(client.call(&["HGETALL", key])).into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// The upstream learns a script when it is used first: what is held back then is only its name.
fn know_the_script(client: &mut Client) {
    assert_eq!(settled(client, &["SET", "lock:first", "x"]), Reply::ok());
    assert_eq!(settled(client, &["RENAME", "lock:first", "lock:second"]), Reply::ok());
}

#[test]
fn an_acknowledged_rename_is_there_and_sessions_at_rest_are_renamed() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis);
    let mut node = cluster.start("a", &[]);
    let (mut client, mut at_rest) = (node.client(), redis.client());
    // Both were left there by somebody, and have never been here.
    assert_eq!(at_rest.say("HSET s:old a 1 b 2"), Reply::Int(2));
    assert_eq!(at_rest.say("PEXPIREAT s:old 4102444800000"), Reply::Int(1));
    assert_eq!(at_rest.say("HSET s:taken x 1"), Reply::Int(1));
    assert_eq!(at_rest.say("SET j:taken {}"), Reply::ok());
    assert_eq!(client.say("RENAME s:none s:taken"), Reply::Error("ERR no such key".into()));
    assert_eq!(client.say("RENAMENX s:old s:taken"), Reply::Int(0));
    assert_eq!(client.say("RENAME s:old s:new"), Reply::ok());
    let old = |client: &mut Client| {
        assert_eq!(fields(client, "s:new"), [("a".into(), "1".into()), ("b".into(), "2".into())]);
        assert_eq!(client.say("EXISTS s:old"), Reply::Int(0));
        assert_eq!(client.say("PEXPIRETIME s:new"), Reply::Int(4_102_444_800_000));
    };
    old(&mut at_rest);
    // What is not there yet goes along, and what is replaced is gone at once.
    assert_eq!(client.say("HSET s:new low 3"), Reply::Int(1));
    assert_eq!(client.say("HSET s:taken low 9"), Reply::Int(1));
    assert_eq!(client.say("RENAME s:new s:taken"), Reply::ok());
    let expected: Vec<(String, String)> = [("a", "1"), ("b", "2"), ("low", "3")].map(|(f, v)| (f.into(), v.into())).into();
    assert_eq!(fields(&mut at_rest, "s:taken"), expected);
    assert_eq!(at_rest.say("EXISTS s:new s:old"), Reply::Int(0));
    node.kill();
    let node = cluster.start("a", &[]);
    let mut client = node.client();
    assert_eq!(settled(&mut client, &["EXISTS", "s:new"]), Reply::Int(0));
    assert_eq!(settled(&mut client, &["GET", "j:taken"]), Reply::text("{}"));
    assert_eq!(fields(&mut client, "s:taken"), expected);
    assert_eq!(client.say("RENAME j:taken j:other"), Reply::ok());
    assert_eq!((at_rest.say("GET j:other"), at_rest.say("EXISTS j:taken s:taken")), (Reply::text("{}"), Reply::Int(1)));
    assert_eq!(client.say("HSET s:taken a 5"), Reply::Int(0));
    wait_written(&node);
    assert_eq!(at_rest.say("HGET s:taken a"), Reply::text("5"));
    assert_eq!(node.metric("wayfarer_foreign_writes_total"), 0.0);
}

/// Gives a session one name after the other until the node is gone; the number of the last name that was acknowledged.
fn rename_on(mut client: Client, session: usize, total: &AtomicU64) -> u64 {
    let mut acknowledged = 0;
    for n in 1.. {
        let (from, to) = (format!("s:{session}n{}", n - 1), format!("s:{session}n{n}"));
        match client.try_call(&["RENAME", &from, &to]) {
            Ok(Reply::Simple(_)) => acknowledged = n,
            Ok(reply) => panic!("{reply:?}"),
            Err(_) => return acknowledged,
        }
        total.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

#[test]
fn a_node_that_is_killed_in_the_middle_leaves_one_name() {
    const SESSIONS: usize = 16;
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis);
    let (mut a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    b.wait_members(2);
    let (mut at_a, total) = (a.client(), AtomicU64::new(0));
    for session in 0..SESSIONS {
        assert_eq!(settled(&mut at_a, &["HSET", &format!("s:{session}n0"), "critical", "v", "low", "w"]), Reply::Int(2));
    }
    wait_written(&a);
    let acknowledged: Vec<u64> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..SESSIONS)
            .map(|session| {
                let (client, total) = (a.client(), &total);
                scope.spawn(move || rename_on(client, session, total))
            })
            .collect();
        crate::until("some load", || (total.load(Ordering::Relaxed) > 400).then_some(()));
        a.kill();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let (mut at_b, mut at_rest) = (b.client(), redis.client());
    for (session, acknowledged) in acknowledged.into_iter().enumerate() {
        let key = |n| format!("s:{session}n{n}");
        let there: Vec<u64> = (0..acknowledged + 3).filter(|n| at_rest.call(&["EXISTS", &key(*n)]) == Reply::Int(1)).collect();
        assert!(there == [acknowledged] || there == [acknowledged + 1], "session {session}: {there:?}, not {acknowledged}");
        let name = key(there[0]);
        assert_eq!(settled(&mut at_b, &["HMGET", &name, "critical", "low"]).texts(), ["v", "w"]);
        // Where it is now it goes on.
        assert_eq!(settled(&mut at_b, &["RENAME", &name, &format!("s:{session}")]), Reply::ok());
        assert_eq!(at_rest.call(&["HGET", &format!("s:{session}"), "critical"]), Reply::text("v"));
        assert_eq!(settled(&mut at_b, &["EXISTS", &name]), Reply::Int(0));
    }
}

/// What was sent arrives when its sender is dead, and nothing else of it ever does.
#[test]
fn what_a_killed_node_had_sent_is_a_whole_rename() {
    let Some(redis) = Redis::start() else { return };
    let gate = Gate::before(redis.port());
    let cluster = cluster(&redis);
    let mut through_the_gate = cluster_in(&cluster);
    through_the_gate.set.push(format!("state.upstream=redis://127.0.0.1:{}/0", gate.port()));
    let (mut a, b) = (through_the_gate.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b, mut at_rest) = (a.client(), b.client(), redis.client());
    assert_eq!(settled(&mut at_a, &["HSET", "s:old", "critical", "value"]), Reply::Int(1));
    assert_eq!(settled(&mut at_a, &["HSET", "s:new", "critical", "other"]), Reply::Int(1));
    know_the_script(&mut at_a);
    wait_written(&a);
    gate.hold();
    at_a.send(&crate::harness::resp::encode(&["RENAME", "s:old", "s:new"])).unwrap();
    crate::until("the rename under way", || gate.holds_back(b"s:new").then_some(()));
    a.kill();
    gate.open();
    crate::until("its delivery", || gate.is_delivered().then_some(()));
    crate::until("one name", || (at_rest.say("EXISTS s:old s:new") == Reply::Int(1)).then_some(()));
    assert_eq!(settled(&mut at_b, &["HGET", "s:old", "critical"]), Reply::Nil);
    assert_eq!(settled(&mut at_b, &["HGET", "s:new", "critical"]), Reply::text("value"));
}

#[test]
fn an_upstream_that_does_not_answer_leaves_one_name() {
    let Some(redis) = Redis::start() else { return };
    let node = cluster(&redis).set(&["rest.upstream_ms_max=200", "state.operation_ms_max=3000"]).start("a", &[]);
    let (mut client, mut at_rest) = (node.client(), redis.client());
    assert_eq!(client.say("HSET s:old critical 1"), Reply::Int(1));
    assert_eq!(client.say("HSET s:new high 1"), Reply::Int(1));
    wait_written(&node);
    redis.signal(Signal::STOP);
    client.send(&crate::harness::resp::encode(&["RENAME", "s:old", "s:new"])).unwrap();
    crate::until("a store without an answer", || (node.status()["rest"]["upstream_answers"] == false).then_some(()));
    // It is under way there: nobody is told either before it is known.
    assert!(node.client().say("HGET s:old critical").is_try_again());
    redis.signal(Signal::CONT);
    let said = client.read().unwrap();
    assert!(said == Reply::ok() || said.is_try_again(), "{said:?}");
    assert_eq!(settled(&mut client, &["HGET", "s:old", "critical"]), Reply::Nil);
    assert_eq!(settled(&mut client, &["HGETALL", "s:new"]).texts(), ["critical", "1"]);
    assert_eq!(at_rest.say("EXISTS s:old"), Reply::Int(0));
    assert_eq!(at_rest.say("HGETALL s:new").texts(), ["critical", "1"]);
    assert_eq!((node.metric("wayfarer_keys_renamed_total"), node.sessions()), (1.0, 1));
    assert_eq!(node.metric("wayfarer_foreign_writes_total"), 0.0, "what landed late was ours");
}

/// The rename is on its way when its node is paused; it arrives when another node has owned the session for a while.
#[test]
fn a_rename_of_a_paused_former_owner_takes_nothing_away() {
    let Some(redis) = Redis::start() else { return };
    let gate = Gate::before(redis.port());
    let cluster = cluster(&redis).set(&["cluster.lost_after_ms=1200"]);
    let mut through_the_gate = cluster_in(&cluster);
    through_the_gate.set.push(format!("state.upstream=redis://127.0.0.1:{}/0", gate.port()));
    let (a, b) = (through_the_gate.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b, mut at_rest) = (a.client(), b.client(), redis.client());
    for name in ["one", "two"] {
        assert_eq!(settled(&mut at_a, &["HSET", &format!("s:{name}"), "critical", "old"]), Reply::Int(1));
        assert_eq!(settled(&mut at_a, &["HSET", &format!("s:{name}-new"), "critical", "other"]), Reply::Int(1));
    }
    know_the_script(&mut at_a);
    wait_written(&a);
    gate.hold();
    let mut second = a.client();
    for (client, name) in [(&mut at_a, "one"), (&mut second, "two")] {
        let command = crate::harness::resp::encode(&["RENAME", &format!("s:{name}"), &format!("s:{name}-new")]);
        client.send(&command).unwrap();
    }
    let under_way = |name: &str| gate.holds_back(format!("s:{name}-new").as_bytes());
    crate::until("the renames under way", || (under_way("one") && under_way("two")).then_some(()));
    a.freeze();
    b.wait_members(1);
    // One guard is enough: of the first rename b has the source, of the second the target.
    assert_eq!(settled(&mut at_b, &["HGET", "s:one", "critical"]), Reply::text("old"));
    assert_eq!(settled(&mut at_b, &["HGET", "s:two-new", "critical"]), Reply::text("other"));
    gate.open();
    crate::until("the delivery of the late renames", || gate.is_delivered().then_some(()));
    for (key, value) in [("s:one", "old"), ("s:one-new", "other"), ("s:two", "old"), ("s:two-new", "other")] {
        assert_eq!(at_rest.call(&["HGET", key, "critical"]), Reply::text(value), "{key}");
        assert_eq!(settled(&mut at_b, &["HGET", key, "critical"]), Reply::text(value), "{key}");
    }
    a.signal(Signal::CONT);
}

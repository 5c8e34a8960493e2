//! Who else writes to a session's keys at rest: a stranger is counted, a former owner is refused.

use crate::gate::Gate;
use crate::harness::resp::Reply;
use crate::redis::Redis;
use crate::{cluster, cluster_in, settled, wait_written};
use rustix::process::Signal;

#[test]
fn a_foreign_write_is_counted_and_named_and_what_is_owned_wins() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis);
    let node = cluster.start("a", &[]);
    let (mut client, mut at_rest) = (node.client(), redis.client());
    assert_eq!(client.say("HSET s:secret a 1 b 2"), Reply::Int(2));
    assert_eq!(client.call(&["SET", "j:secret", r#"{"a":1}"#]), Reply::ok());
    wait_written(&node);
    assert_eq!(at_rest.say("HSET s:secret b foreign c foreign"), Reply::Int(1));
    assert_eq!(at_rest.say("SET j:secret foreign"), Reply::ok());
    assert_eq!(client.say("HSET s:secret a 3"), Reply::Int(0));
    assert_eq!(client.call(&["SET", "j:secret", r#"{"a":2}"#]), Reply::ok());
    crate::until("the foreign writes", || (node.metric("wayfarer_foreign_writes_total") == 2.0).then_some(()));
    wait_written(&node);
    let there = crate::pairs(at_rest.say("HGETALL s:secret"));
    assert_eq!(there, [(b"a".to_vec(), b"3".to_vec()), (b"b".to_vec(), b"2".to_vec())].into(), "the whole key is ours again");
    assert_eq!(at_rest.say("GET j:secret"), Reply::text(r#"{"a":2}"#));
    let log = node.log_text();
    assert!(log.contains("somebody else"), "{log}");
    assert!(!log.contains("secret"), "named by a keyed hash");
    // So is a removal; what expires by itself is nobody's write.
    assert_eq!(at_rest.say("DEL s:secret"), Reply::Int(1));
    assert_eq!(client.say("HSET s:secret a 4"), Reply::Int(0));
    crate::until("the foreign removal", || (node.metric("wayfarer_foreign_writes_total") == 3.0).then_some(()));
    crate::until("it is there again", || (at_rest.say("HGET s:secret b") == Reply::text("2")).then_some(()));
}

/// The store is on its way when its node is paused; it arrives when another node has owned the sessions for a while.
#[test]
fn a_store_of_a_paused_former_owner_overwrites_nothing() {
    const SESSIONS: usize = 20;
    let Some(redis) = Redis::start() else { return };
    let gate = Gate::before(redis.port());
    let cluster = cluster(&redis).set(&["cluster.lost_after_ms=1200"]);
    let mut through_the_gate = cluster_in(&cluster);
    through_the_gate.set.push(format!("state.upstream=redis://127.0.0.1:{}/0", gate.port()));
    let (a, b) = (through_the_gate.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    for n in 0..SESSIONS {
        assert_eq!(settled(&mut at_a, &["HSET", &format!("s:{n}"), "critical", "old", "given", "old"]), Reply::Int(2));
        assert_eq!(settled(&mut at_a, &["SET", &format!("j:{n}"), r#"{"text":"old"}"#]), Reply::ok());
    }
    wait_written(&a);
    assert_eq!(a.sessions(), SESSIONS as u64);
    gate.hold();
    for n in 0..SESSIONS {
        // Acknowledged, and due within 50 ms.
        assert_eq!(settled(&mut at_a, &["HSET", &format!("s:{n}"), "given", "late-store"]), Reply::Int(0));
        assert_eq!(settled(&mut at_a, &["SET", &format!("j:{n}"), r#"{"text":"late-text"}"#]), Reply::ok());
    }
    // A few fields of a key, which the fingerprint of what is there would stop too, and a whole value, which it would not.
    crate::until("stores under way", || (gate.holds_back(b"late-store") && gate.holds_back(b"late-text")).then_some(()));
    a.freeze();
    b.wait_members(1);
    for n in 0..SESSIONS {
        assert_eq!(settled(&mut at_b, &["HGET", &format!("s:{n}"), "given"]), Reply::text("old"));
        assert_eq!(settled(&mut at_b, &["HSET", &format!("s:{n}"), "critical", "new"]), Reply::Int(0));
        assert_eq!(settled(&mut at_b, &["SET", &format!("j:{n}"), r#"{"text":"new"}"#]), Reply::ok());
    }
    wait_written(&b);
    gate.open();
    crate::until("the delivery of the late stores", || gate.is_delivered().then_some(()));
    let expected = [("critical", "new"), ("given", "old")].map(|(f, v)| (f.as_bytes().to_vec(), v.as_bytes().to_vec()));
    let all_are_bs = |redis: &Redis| {
        let mut at_rest = redis.client();
        for n in 0..SESSIONS {
            assert_eq!(crate::pairs(at_rest.say(&format!("HGETALL s:{n}"))), expected.clone().into(), "session {n}");
            assert_eq!(at_rest.say(&format!("GET j:{n}")), Reply::text(r#"{"text":"new"}"#), "session {n}");
        }
    };
    all_are_bs(&redis);
    a.signal(Signal::CONT);
    crate::until("a new life of a", || {
        let status = a.status();
        (status["ready"] == true && status["sessions"] == 0).then_some(())
    });
    // An order to a's old life, had it any left, would write now.
    let answer = crate::harness::http::post(a.admin, "/api/v1/checkin").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    all_are_bs(&redis);
    for n in 0..SESSIONS {
        assert_eq!(settled(&mut at_a, &["HGET", &format!("s:{n}"), "critical"]), Reply::text("new"));
    }
    assert_eq!(b.metric("wayfarer_foreign_writes_total"), 0.0);
}

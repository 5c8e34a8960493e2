//! Who else writes to a session's keys at rest: a stranger is counted, a former owner is refused.

use crate::harness::resp::Reply;
use crate::redis::Redis;
use crate::{cluster, settled, wait_written};
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

#[test]
fn a_paused_former_owner_overwrites_nothing() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis).set(&["cluster.lost_after_ms=1200", "rest.medium_ms=300000", "rest.low_ms=300000"]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    for n in 0..20 {
        assert_eq!(settled(&mut at_a, &["HSET", &format!("s:{n}"), "critical", "old"]), Reply::Int(1));
        // Written, acknowledged, and not due for minutes: policy allows a crash to take it.
        assert_eq!(settled(&mut at_a, &["HSET", &format!("s:{n}"), "low", "unwritten"]), Reply::Int(1));
    }
    let owned = a.sessions();
    assert!(owned > 0);
    a.freeze();
    b.wait_members(1);
    for n in 0..20 {
        assert_eq!(settled(&mut at_b, &["HGET", &format!("s:{n}"), "critical"]), Reply::text("old"));
        assert_eq!(settled(&mut at_b, &["HSET", &format!("s:{n}"), "critical", "new"]), Reply::Int(0));
    }
    a.signal(Signal::CONT);
    crate::until("a new life of a", || {
        let status = a.status();
        (status["ready"] == true && status["sessions"] == 0).then_some(())
    });
    // An order to a's old life, had it any left, would write now.
    let answer = crate::harness::http::post(a.admin, "/api/v1/checkin").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut at_rest = redis.client();
    for n in 0..20 {
        assert_eq!(at_rest.call(&["HGET", &format!("s:{n}"), "critical"]), Reply::text("new"));
        assert_eq!(settled(&mut at_a, &["HGET", &format!("s:{n}"), "critical"]), Reply::text("new"));
    }
    assert_eq!(b.metric("wayfarer_foreign_writes_total"), 0.0);
}

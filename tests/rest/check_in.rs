//! Owned sessions go to rest: by order, unused, and when nobody takes them; and they move between nodes with what they owe.

use crate::harness::resp::Reply;
use crate::harness::wayfarer;
use crate::redis::Redis;
use crate::{cluster, settled};

#[test]
fn a_check_in_of_everything_leaves_all_in_the_upstream() {
    let Some(redis) = Redis::start() else { return };
    let node = cluster(&redis).start("a", &[]);
    let mut client = node.client();
    for n in 0..60 {
        assert_eq!(client.call(&["HSET", &format!("s:{n}"), "low", &n.to_string()]), Reply::Int(1));
    }
    let admin = node.admin.to_string();
    let done = wayfarer(&["checkin", "--all", "--json", "--admin", &admin]);
    assert!(done.status.success());
    let answer: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((answer["at_rest"].as_u64(), answer["failed"].as_u64(), node.sessions()), (Some(60), Some(0), 0));
    let mut at_rest = redis.client();
    for n in 0..60 {
        assert_eq!(
            at_rest.call(&["HGETALL", &format!("s:{n}")]),
            Reply::Array(vec![Reply::text("low"), Reply::text(n.to_string())])
        );
    }
    // At rest anybody may write; who checks the session out sees it.
    assert_eq!(at_rest.say("HSET s:3 low changed"), Reply::Int(0));
    assert_eq!(client.say("HGET s:3 low"), Reply::text("changed"));
    assert_eq!(client.say("HGET s:4 low"), Reply::text("4"));
    assert_eq!(node.metric("wayfarer_foreign_writes_total"), 0.0);
    assert_eq!(wayfarer(&["checkin", "--admin", &admin]).status.code(), Some(2), "of what?");
}

#[test]
fn unused_sessions_go_to_rest_and_come_back() {
    let Some(redis) = Redis::start() else { return };
    let node = cluster(&redis).set(&["rest.after_ms=300"]).start("a", &[]);
    let mut client = node.client();
    for n in 0..20 {
        assert_eq!(client.call(&["HSET", &format!("s:{n}"), "medium", &n.to_string()]), Reply::Int(1));
    }
    node.wait_status("/sessions", 0);
    assert_eq!(node.metric("wayfarer_check_ins_total"), 20.0);
    for n in 0..20 {
        assert_eq!(settled(&mut client, &["HGET", &format!("s:{n}"), "medium"]), Reply::text(n.to_string()));
    }
}

#[test]
fn memory_is_freed_by_sending_unused_sessions_to_rest() {
    let Some(redis) = Redis::start() else { return };
    let node = cluster(&redis).set(&["state.max_memory=1048576"]).start("a", &[]);
    let mut client = node.client();
    let value = "x".repeat(10_000);
    // Three times what fits: those of before make room, as soon as they are not in use.
    for n in 0..300 {
        crate::until("room", || {
            let reply = client.call(&["HSET", &format!("s:{n}"), "f", &value]);
            (reply == Reply::Int(1)).then_some(()).or_else(|| {
                assert!(reply.error().starts_with("OOM "), "{reply:?}");
                None
            })
        });
    }
    assert!(node.metric("wayfarer_memory_check_ins_total") > 100.0);
    assert!(node.metric("wayfarer_session_memory_bytes") <= 1_048_576.0 * 1.1);
    for n in 0..300 {
        assert_eq!(settled(&mut client, &["HSTRLEN", &format!("s:{n}"), "f"]), Reply::Int(10_000));
    }
}

#[test]
fn a_session_that_moves_takes_its_debts_along() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis).set(&["rest.medium_ms=600", "handover.residence_ms_min=0", "policy.class=deferred"]);
    let mut a = cluster.start("a", &[]);
    let big = "x".repeat(3000);
    let mut client = a.client();
    for n in 0..30 {
        let key = format!("s:{n}");
        assert_eq!(client.call(&["HSET", &key, "medium", &n.to_string(), "medium-big", &big, "gone", "1"]), Reply::Int(3));
        assert_eq!(client.call(&["HDEL", &key, "gone"]), Reply::Int(1));
    }
    let b = cluster.start("b", &[]);
    assert_eq!(a.rebalance().1, 0);
    a.ask_drain();
    assert_eq!(a.wait_exit().code(), Some(0), "{}", a.log_text());
    crate::wait_written(&b);
    let mut at_rest = redis.client();
    for n in 0..30 {
        let there = crate::pairs(at_rest.call(&["HGETALL", &format!("s:{n}")]));
        let all = [(b"medium".to_vec(), n.to_string().into_bytes()), (b"medium-big".to_vec(), big.clone().into_bytes())];
        assert_eq!(there, all.into(), "session {n}");
    }
    assert_eq!(b.metric("wayfarer_foreign_writes_total"), 0.0);
}

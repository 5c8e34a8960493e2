//! A later life of a session is another one, whatever it holds; and what a drain or a fence leaves at rest is not lost.

use crate::harness::resp::Reply;
use crate::harness::{http, wayfarer};
use crate::redis::Redis;
use crate::{cluster, settled, until, wait_written};
use rustix::process::Signal;

#[test]
fn a_watch_sees_another_life_and_another_stay() {
    let Some(redis) = Redis::start() else { return };
    let node = cluster(&redis).start("a", &[]);
    let (mut one, mut other) = (node.client(), node.client());
    let mut unwatched = |between: &mut dyn FnMut()| {
        assert_eq!(one.say("WATCH s:1"), Reply::ok());
        between();
        assert_eq!(one.say("MULTI"), Reply::ok());
        assert_eq!(one.say("HSET s:1 field mine"), Reply::Simple("QUEUED".into()));
        one.say("EXEC")
    };
    assert_eq!(other.say("HSET s:1 field a"), Reply::Int(1));
    assert_eq!(unwatched(&mut || {}), Reply::Array(vec![Reply::Int(0)]), "nothing has changed");
    assert_eq!(other.say("DEL s:1"), Reply::Int(1));
    assert_eq!(other.say("HSET s:1 field a"), Reply::Int(1));
    let again = unwatched(&mut || {
        assert_eq!(other.say("DEL s:1"), Reply::Int(1));
        assert_eq!(other.say("HSET s:1 field b"), Reply::Int(1));
    });
    assert_eq!(again, Reply::Nil, "deleted and made again with as many writes");
    let admin = node.admin.to_string();
    let stayed = unwatched(&mut || {
        assert!(wayfarer(&["checkin", "--all", "--admin", &admin]).status.success());
        assert_eq!(redis.client().say("HSET s:1 field c"), Reply::Int(0));
    });
    assert_eq!(stayed, Reply::Nil, "changed at rest");
    assert_eq!(other.say("HGET s:1 field"), Reply::text("c"));
}

#[test]
fn a_drain_over_its_budget_puts_to_rest_what_could_not_leave() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis).set(&["drain.budget_ms=700", "rest.low_ms=300000"]);
    let (mut a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    let mut client = a.client();
    for n in 0..20 {
        assert_eq!(settled(&mut client, &["HSET", &format!("s:{n}"), "low", &n.to_string()]), Reply::Int(1));
    }
    // It takes sessions, as far as anybody knows, and answers nothing.
    b.freeze();
    a.ask_drain();
    assert_eq!(a.wait_exit().code(), Some(0), "{}", a.log_text());
    assert!(a.log_text().contains("go to rest"), "{}", a.log_text());
    b.signal(Signal::CONT);
    let mut at_b = b.client();
    for n in 0..20 {
        assert_eq!(settled(&mut at_b, &["HGET", &format!("s:{n}"), "low"]), Reply::text(n.to_string()));
    }
}

#[test]
fn a_drain_ends_under_traffic_though_the_others_are_cordoned() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis);
    let (mut a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    let mut at_a = a.client();
    for n in 0..20 {
        assert_eq!(settled(&mut at_a, &["HSET", &format!("s:{n}"), "low", &n.to_string()]), Reply::Int(1));
    }
    let cordoned = wayfarer(&["cordon", "--admin", &b.admin.to_string()]);
    assert!(cordoned.status.success(), "{cordoned:?}");
    until("a to see it", || (a.status().to_string().contains("cordoned")).then_some(()));
    a.ask_drain();
    let mut rounds = 0;
    let traffic = until("the end of a, under traffic", || {
        // A connection that ends is the end of a.
        let ended = (0..20).any(|n| at_a.try_call(&["HGET", &format!("s:{n}"), "low"]).is_err());
        rounds += 1;
        ended.then_some(rounds)
    });
    assert_eq!(a.wait_exit().code(), Some(0), "after {traffic} rounds: {}", a.log_text());
    let mut at_b = b.client();
    for n in 0..20 {
        assert_eq!(settled(&mut at_b, &["HGET", &format!("s:{n}"), "low"]), Reply::text(n.to_string()));
    }
}

#[test]
fn a_fenced_node_has_lost_what_was_unwritten_and_puts_idle_sessions_to_rest_again() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis).set(&["cluster.lost_after_ms=1200", "rest.low_ms=300000", "rest.after_ms=300"]);
    let (mut a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    let mut at_a = a.client();
    assert_eq!(settled(&mut at_a, &["HSET", "s:1", "high", "1"]), Reply::Int(1));
    wait_written(&a);
    // A check-in is under way when the life ends.
    redis.signal(Signal::STOP);
    assert_eq!(settled(&mut at_a, &["HGET", "s:1", "high"]), Reply::text("1"));
    assert!(matches!(at_a.say("HSET s:1 high 1"), Reply::Int(0)));
    until("a check-in", || (a.number("/rest/checking_in") > 0).then_some(()));
    a.freeze();
    redis.signal(Signal::CONT);
    b.wait_members(1);
    a.signal(Signal::CONT);
    until("a new life", || (a.status()["ready"] == true && a.log_text().contains("declared dead")).then_some(()));
    b.wait_members(2);
    let before = a.metric("wayfarer_check_ins_total");
    assert_eq!(settled(&mut at_a, &["HSET", "s:2", "high", "2"]), Reply::Int(1));
    until("it goes to rest", || (a.metric("wayfarer_check_ins_total") > before).then_some(()));
    let answer = http::post(a.admin, "/api/v1/checkin").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    a.ask_drain();
    assert!(a.wait_exit().code().is_some());
}

#[test]
fn a_drain_after_a_fence_has_lost_nothing_that_was_at_rest_as_it_was() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis).set(&["cluster.lost_after_ms=1200"]);
    let (mut a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    let mut at_a = a.client();
    for n in 0..10 {
        assert_eq!(settled(&mut at_a, &["HSET", &format!("s:{n}"), "high", "1"]), Reply::Int(1));
    }
    wait_written(&a);
    assert!(a.sessions() > 0);
    a.freeze();
    b.wait_members(1);
    a.signal(Signal::CONT);
    until("a new life", || (a.status()["ready"] == true && a.log_text().contains("declared dead")).then_some(()));
    a.ask_drain();
    assert_eq!(a.wait_exit().code(), Some(0), "{}", a.log_text());
    assert!(!a.log_text().contains("is lost"), "{}", a.log_text());
    let mut at_b = b.client();
    for n in 0..10 {
        assert_eq!(settled(&mut at_b, &["HGET", &format!("s:{n}"), "high"]), Reply::text("1"));
    }
}

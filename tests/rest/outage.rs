//! While the upstream does not answer, critical writes are refused clearly, the others go on up to a bound, and nothing is lost.

use crate::harness::resp::Reply;
use crate::redis::Redis;
use crate::{cluster, settled, wait_written};
use rustix::process::Signal;

#[test]
fn an_upstream_that_is_stopped_and_goes_on() {
    let Some(redis) = Redis::start() else { return };
    let node = cluster(&redis).set(&["rest.upstream_ms_max=200"]).start("a", &[]);
    let mut client = node.client();
    assert_eq!(client.say("HSET s:1 critical 1 high 1"), Reply::Int(2));
    wait_written(&node);
    redis.signal(Signal::STOP);
    for n in 2..6 {
        assert_eq!(client.call(&["HSET", "s:1", "high", &n.to_string()]), Reply::Int(0), "goes on");
    }
    let said = client.say("HSET s:1 critical 2");
    assert!(said.is_try_again() && said.error().contains("upstream"), "{said:?}");
    let said = client.say("HSET s:unborn high 1");
    assert!(said.is_try_again(), "nobody knows what is at rest: {said:?}");
    assert!(client.say("HGET s:unborn high").is_try_again(), "never an old or empty value");
    crate::until("the staleness to grow", || (node.metric("wayfarer_staleness_seconds") > 1.0).then_some(()));
    let status = node.status();
    assert_eq!(status["rest"]["upstream_answers"], false, "{status}");
    redis.signal(Signal::CONT);
    wait_written(&node);
    assert_eq!(redis.client().say("HGET s:1 high"), Reply::text("5"));
    assert_eq!(settled(&mut client, &["HSET", "s:1", "critical", "3"]), Reply::Int(0));
    assert_eq!(redis.client().say("HGET s:1 critical"), Reply::text("3"));
    assert_eq!(settled(&mut client, &["HGET", "s:unborn", "high"]), Reply::Nil);
    assert_eq!(settled(&mut client, &["HSET", "s:unborn", "high", "1"]), Reply::Int(1));
    assert_eq!(node.metric("wayfarer_foreign_writes_total"), 0.0, "what landed late was ours");
}

#[test]
fn writes_are_refused_when_the_upstream_lacks_too_much() {
    let Some(redis) = Redis::start() else { return };
    let node = cluster(&redis).set(&["rest.unwritten_bytes_max=65536", "rest.upstream_ms_max=200"]).start("a", &[]);
    let mut client = node.client();
    assert_eq!(client.say("HSET s:1 a 1"), Reply::Int(1));
    redis.signal(Signal::STOP);
    let value = "x".repeat(1000);
    let refused = (0..200).map(|_| client.call(&["HSET", "s:1", "big", &value])).find(|reply| !matches!(reply, Reply::Int(_)));
    let refused = refused.expect("a bound");
    assert!(refused.is_try_again() && refused.error().contains("unwritten_bytes_max"), "{refused:?}");
    assert_eq!(client.say("HGET s:1 a"), Reply::text("1"), "reads go on");
    redis.signal(Signal::CONT);
    assert_eq!(settled(&mut client, &["HSET", "s:1", "a", "2"]), Reply::Int(0));
}

#[test]
fn an_end_waits_for_the_upstream_and_nothing_deleted_comes_back() {
    let Some(redis) = Redis::start() else { return };
    let cluster = cluster(&redis).set(&["rest.upstream_ms_max=200", "state.operation_ms_max=3000"]);
    let mut node = cluster.start("a", &[]);
    let mut client = node.client();
    assert_eq!(client.say("HSET s:1 a 1"), Reply::Int(1));
    wait_written(&node);
    redis.signal(Signal::STOP);
    let said = client.say("DEL s:1");
    assert!(said.is_try_again(), "not acknowledged: {said:?}");
    assert!(client.say("HGET s:1 a").is_try_again(), "nor answered otherwise");
    redis.signal(Signal::CONT);
    assert_eq!(settled(&mut client, &["HGET", "s:1", "a"]), Reply::Nil);
    node.kill();
    let node = cluster.start("a", &[]);
    assert_eq!(settled(&mut node.client(), &["HGET", "s:1", "a"]), Reply::Nil);
    assert_eq!(redis.client().say("EXISTS s:1"), Reply::Int(0));
}

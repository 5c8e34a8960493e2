//! A node is paused for longer than its lease: it must not answer from its old life.

use crate::harness::resp::{Reply, encode};
use crate::harness::until;
use crate::{cluster, hset, settled};
use rustix::process::Signal;

#[test]
fn a_node_that_was_declared_dead_while_paused_starts_again_with_nothing() {
    let cluster = cluster().set(&["cluster.lease_ms=500", "cluster.lease_margin_ms=100", "cluster.lost_after_ms=600"]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    for n in 0..10 {
        assert_eq!(hset(&mut at_a, &format!("s:p{n}"), "v", b"old"), Reply::Int(1));
    }
    let before = a.number("/incarnation");
    a.freeze();
    // What a will see first when it wakes up: reads of everything that it believes to own.
    let reads: Vec<u8> = (0..10).flat_map(|n| encode(&["HGET", &format!("s:p{n}"), "v"])).collect();
    at_a.send(&reads).unwrap();
    b.wait_members(1);
    for n in 0..10 {
        let key = format!("s:p{n}");
        assert_eq!(settled(&mut at_b, &["EXISTS", &key]), Reply::Int(0), "declared lost");
        if n % 2 == 0 {
            assert_eq!(settled(&mut at_b, &["HSET", &key, "v", "new"]), Reply::Int(1));
        }
    }
    a.signal(Signal::CONT);
    for n in 0..10 {
        let seen = at_a.read().unwrap();
        let truth = if n % 2 == 0 { Reply::text("new") } else { Reply::Nil };
        assert!(seen.is_try_again() || seen == truth, "session {n}: {seen:?}");
    }
    until("a new life", || {
        let status = a.status();
        (status["incarnation"].as_u64() > Some(before) && status["ready"] == true).then_some(())
    });
    assert_eq!(a.sessions(), 0);
    for n in 0..10 {
        let truth = if n % 2 == 0 { Reply::text("new") } else { Reply::Nil };
        assert_eq!(settled(&mut at_a, &["HGET", &format!("s:p{n}"), "v"]), truth, "over the old connection");
    }
    assert_eq!(settled(&mut at_a, &["HSET", "s:fresh", "v", "1"]), Reply::Int(1), "it serves again");
    assert_eq!(settled(&mut at_b, &["HGET", "s:fresh", "v"]), Reply::text("1"));
    b.wait_members(2);
    assert_eq!(b.rebalance().1, 0);
    for n in (0..10).step_by(2) {
        assert_eq!(settled(&mut at_a, &["HGET", &format!("s:p{n}"), "v"]), Reply::text("new"));
    }
}

#[test]
fn a_pause_beyond_the_lease_that_nobody_used_costs_nothing() {
    let cluster = cluster().set(&[
        "cluster.lease_ms=500",
        "cluster.lease_margin_ms=100",
        "state.park_ms_max=500",
        "state.operation_ms_max=1000",
    ]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    assert_eq!(hset(&mut at_a, "s:same", "v", b"old"), Reply::Int(1));
    let before = a.number("/incarnation");
    a.freeze();
    at_a.send(&encode(&["HGET", "s:same", "v"])).unwrap();
    // Without proof of death and without `lost_after` nobody takes it: b waits and says so.
    for _ in 0..2 {
        let said = at_b.say("HGET s:same v");
        assert!(said.is_try_again(), "{said:?}");
    }
    a.signal(Signal::CONT);
    let first = at_a.read().unwrap();
    assert!(first.is_try_again() || first == Reply::text("old"), "{first:?}");
    assert_eq!(settled(&mut at_a, &["HGET", "s:same", "v"]), Reply::text("old"));
    assert_eq!(settled(&mut at_b, &["HGET", "s:same", "v"]), Reply::text("old"));
    assert_eq!(a.number("/incarnation"), before, "the same life");
}

//! A node is killed and started again under its own name at once, within its lease.

use crate::harness::resp::Reply;
use crate::{cluster, filler, hset, settled};

#[test]
fn a_restarted_node_answers_nothing_of_its_former_life() {
    let mut cluster = cluster();
    // The longest lease that leaves the test in no doubt: no lapse can explain what is seen.
    cluster.set.extend(["cluster.lease_ms=60000".into(), "policy.class=carried".into()]);
    let mut a = cluster.start("a", &[]);
    let mut client = a.client();
    let value = |n: usize| filler(&format!("restart {n}"), 2000);
    for n in 0..20 {
        hset(&mut client, &format!("s:x{n}"), "v", &value(n));
    }
    let b = cluster.start("b", &[]);
    assert_eq!(a.rebalance(), (10, 0));
    let moved: Vec<usize> = (0..20).filter(|n| b.owns(&format!("x{n}"))).collect();
    let before = a.number("/incarnation");
    a.kill();

    let again = cluster.start("a", &[]);
    assert!(again.number("/incarnation") > before);
    again.wait_members(2);
    let (mut at_a, mut at_b) = (again.client(), b.client());
    for n in 0..20 {
        let key = format!("s:x{n}");
        if moved.contains(&n) {
            assert_eq!(settled(&mut at_a, &["HGET", &key, "v"]), Reply::Bulk(value(n)), "through the new a");
            assert_eq!(settled(&mut at_b, &["HGET", &key, "v"]), Reply::Bulk(value(n)));
        } else {
            assert_eq!(settled(&mut at_a, &["HGETALL", &key]), Reply::Array(vec![]), "declared lost");
            assert_eq!(settled(&mut at_b, &["EXISTS", &key]), Reply::Int(0));
        }
    }
    assert_eq!((again.sessions(), b.sessions()), (0, 10));
    assert_eq!(settled(&mut at_a, &["HSET", "s:x-new", "v", "1"]), Reply::Int(1), "it serves");
    assert_eq!(settled(&mut at_b, &["HGET", "s:x-new", "v"]), Reply::text("1"));
    assert_eq!(b.rebalance().1, 0);
    assert_eq!(again.sessions() + b.sessions(), 11);
    for n in moved {
        assert_eq!(settled(&mut at_a, &["HGET", &format!("s:x{n}"), "v"]), Reply::Bulk(value(n)));
    }
}

#[test]
fn a_node_can_be_killed_and_started_again_and_again() {
    let cluster = cluster();
    let b = cluster.start("b", &[]);
    let mut at_b = b.client();
    hset(&mut at_b, "s:stays", "v", b"here");
    let mut last = 0;
    for life in 0..5 {
        let mut a = cluster.start("a", &[]);
        let incarnation = a.number("/incarnation");
        assert!(incarnation > last);
        last = incarnation;
        let mut at_a = a.client();
        assert_eq!(settled(&mut at_a, &["HGET", "s:stays", "v"]), Reply::text("here"));
        // The same id in each life, never with anything of the life before.
        assert_eq!(settled(&mut at_a, &["HSET", "s:ofa", &format!("life{life}"), "1"]), Reply::Int(1));
        assert_eq!(settled(&mut at_b, &["HKEYS", "s:ofa"]), Reply::Array(vec![Reply::text(format!("life{life}"))]));
        a.kill();
    }
    b.wait_members(1);
    assert_eq!(settled(&mut at_b, &["EXISTS", "s:ofa"]), Reply::Int(0));
}

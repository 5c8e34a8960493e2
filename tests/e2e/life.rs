//! The life of a session: birth, use, miss, end, expiry, rebirth; wherever it is asked for.

use crate::harness::resp::Reply;
use crate::harness::until;
use crate::{cluster, filler, hset, set};

#[test]
fn a_session_is_one_and_the_same_at_every_node() {
    let cluster = cluster();
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    assert_eq!(at_b.say("GET k:one"), Reply::Nil, "a miss");
    assert_eq!(at_b.say("EXISTS s:one k:one"), Reply::Int(0));

    let blob = filler("one", 70_000);
    assert_eq!(hset(&mut at_a, "s:one", "user", b"ann"), Reply::Int(1));
    assert_eq!(set(&mut at_a, "k:one", &blob), Reply::ok());
    assert!(a.owns("one") && !b.owns("one"));

    assert_eq!(at_b.say("HGET s:one user"), Reply::text("ann"), "forwarded");
    assert_eq!(at_b.say("GET k:one"), Reply::Bulk(blob));
    assert_eq!(at_b.say("HINCRBY s:one visits 5"), Reply::Int(5));
    assert_eq!(at_a.say("HINCRBY s:one visits 1"), Reply::Int(6));
    assert_eq!(at_b.say("TYPE s:one"), Reply::Simple("hash".into()));
    assert!(at_b.say("GET s:one").error().starts_with("WRONGTYPE "), "Redis's own errors come through");
    assert!(b.metric("wayfarer_operations_forwarded_total") >= 4.0);

    assert_eq!(at_b.say("DEL s:one k:one"), Reply::Int(2), "the end, from the other node");
    for client in [&mut at_a, &mut at_b] {
        assert_eq!(client.say("HGETALL s:one"), Reply::Array(vec![]));
        assert_eq!(client.say("GET k:one"), Reply::Nil);
    }
    assert_eq!((a.sessions(), b.sessions()), (0, 0));
    assert_eq!((a.number("/born"), a.number("/ended")), (1, 1));
}

#[test]
fn expiry_is_seen_at_both_nodes_and_ends_the_session() {
    let cluster = cluster();
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    assert_eq!(at_a.say("SET k:brief here PX 700"), Reply::ok());
    assert_eq!(at_a.say("HSET s:long here 1"), Reply::Int(1));
    assert_eq!(at_b.say("PEXPIRE s:long 60000"), Reply::Int(1));
    let Reply::Int(left) = at_b.say("PTTL k:brief") else { panic!("no time to live") };
    assert!((1..=700).contains(&left), "{left}");
    until("the expiry at b", || (at_b.say("GET k:brief") == Reply::Nil).then_some(()));
    assert_eq!(at_a.say("EXISTS k:brief"), Reply::Int(0));
    assert_eq!(at_b.say("PTTL k:brief"), Reply::Int(-2));
    a.wait_status("/sessions", 1);
    assert_eq!(a.number("/ended"), 1);
    assert_eq!(at_b.say("HGET s:long here"), Reply::text("1"), "the other one lives on");
    let Reply::Int(left) = at_a.say("TTL s:long") else { panic!("no time to live") };
    assert!((55..=60).contains(&left), "{left}");
}

/// Nothing of a session that expires on its way to another node could be moved any more: no failure of the rebalance.
#[test]
fn sessions_that_expire_while_they_move_are_no_failure() {
    const SESSIONS: usize = 600;
    let cluster = cluster();
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let mut client = a.client();
    for round in 0..5 {
        for n in 0..SESSIONS {
            // Some expire before their turn, some in the middle of it, some behind it.
            let lives_ms = (150 + n / 2).to_string();
            assert_eq!(client.call(&["SET", &format!("k:{round}-{n}"), "v", "PX", &lives_ms]), Reply::ok());
        }
        let (moved, failed) = a.rebalance();
        assert_eq!(failed, 0, "{moved} moved: {}", a.log_text());
    }
    for node in [&a, &b] {
        node.wait_status("/sessions", 0);
    }
}

#[test]
fn an_id_can_be_born_again_and_has_nothing_of_its_former_lives() {
    let cluster = cluster();
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    for life in 0..8 {
        // Born at either node, ended at either node.
        let (first, second) = if life % 2 == 0 { (&mut at_a, &mut at_b) } else { (&mut at_b, &mut at_a) };
        let value = filler(&format!("life {life}"), 3000);
        assert_eq!(hset(first, "s:again", &format!("only{life}"), &value), Reply::Int(1));
        assert_eq!(second.say("HKEYS s:again"), Reply::Array(vec![Reply::text(format!("only{life}"))]));
        assert_eq!(second.call(&["HGET", "s:again", &format!("only{life}")]), Reply::Bulk(value));
        let ender = if life % 4 < 2 { first } else { second };
        assert_eq!(ender.say("DEL s:again"), Reply::Int(1));
        assert_eq!(ender.say("EXISTS s:again"), Reply::Int(0));
    }
    assert_eq!(a.number("/born") + b.number("/born"), 8);
    assert_eq!(a.number("/ended") + b.number("/ended"), 8);
    assert_eq!((a.sessions(), b.sessions()), (0, 0));
}

#[test]
fn a_session_that_was_moved_ends_and_is_born_again_elsewhere() {
    let mut cluster = cluster();
    cluster.set.push("handover.trickle=false".into());
    cluster.set.push("policy.class=deferred".into());
    let a = cluster.start("a", &[]);
    let mut at_a = a.client();
    for id in 0..4 {
        assert_eq!(hset(&mut at_a, &format!("s:moved{id}"), "old", &filler("old", 5000)), Reply::Int(1));
    }
    let b = cluster.start("b", &[]);
    assert_eq!(a.rebalance(), (2, 0));
    let mut at_b = b.client();
    let moved = (0..4).map(|id| format!("moved{id}")).find(|id| b.owns(id)).unwrap();
    let key = format!("s:{moved}");
    assert_eq!(at_a.call(&["DEL", &key]), Reply::Int(1), "with a residual at a, through a");
    assert_eq!(hset(&mut at_a, &key, "new", b"1"), Reply::Int(1));
    for client in [&mut at_a, &mut at_b] {
        assert_eq!(client.call(&["HGETALL", &key]), Reply::Array(vec![Reply::text("new"), Reply::text("1")]));
    }
    a.wait_status("/residuals", 1);
}

#[test]
fn what_no_message_between_nodes_holds_is_a_clear_error_at_once() {
    let cluster = cluster().set(&["state.value_bytes_max=1000", "cluster.frame_bytes_max=70000"]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    for n in 0..100 {
        assert_eq!(hset(&mut at_a, "s:large", &format!("f{n}"), &filler("large", 1000)), Reply::Int(1));
    }
    let frame = "[cluster] frame_bytes_max";
    let reply = at_b.say("HGETALL s:large");
    assert!(reply.error().starts_with("ERR wayfarer: the reply is longer") && reply.error().contains(frame), "{reply:?}");
    let mut long = vec![b"HSET".to_vec(), b"s:large".to_vec()];
    long.extend((0..100).flat_map(|n| [format!("g{n}").into_bytes(), filler("long", 1000)]));
    let reply = at_b.call(&long);
    assert!(reply.error().starts_with("ERR wayfarer: the command is longer") && reply.error().contains(frame), "{reply:?}");
    assert_eq!(at_b.say("HLEN s:large"), Reply::Int(100), "and the next one works");
    assert_eq!(set(&mut at_a, "k:large", &filler("k", 999)), Reply::ok());
    assert_eq!(at_b.say("APPEND k:large x"), Reply::Int(1000));
    let reply = at_b.say("APPEND k:large x");
    assert_eq!(reply.error(), "ERR string exceeds maximum allowed size ([state] value_bytes_max)");
}

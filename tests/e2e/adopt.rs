//! Adoption: a session follows its clients, and does not go back and forth.

use crate::harness::resp::Reply;
use crate::harness::until;
use crate::{cluster, filler, hset};

#[test]
fn a_session_follows_its_clients() {
    let mut cluster = cluster();
    cluster.set.extend(["handover.residence_ms_min=0".into(), "handover.arrival_gap_ms=0".into()]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    hset(&mut at_a, "s:walk", "bag", &filler("bag", 5000));
    // Two arrivals and one at home, again and again: not elsewhere only, so it stays.
    for _ in 0..10 {
        at_b.say("HGET s:walk none");
        at_b.say("HGET s:walk none");
        at_a.say("HGET s:walk none");
    }
    assert!(a.owns("walk"));
    assert_eq!(a.number("/handovers/given"), 0);
    for n in 1..=3 {
        assert_eq!(at_b.say("HINCRBY s:walk steps 1"), Reply::Int(n));
    }
    until("the adoption", || b.owns("walk").then_some(()));
    until("the word of it", || (!a.owns("walk")).then_some(()));
    assert_eq!(at_b.say("HGET s:walk bag"), Reply::Bulk(filler("bag", 5000)));
    assert_eq!(at_b.say("HGET s:walk steps"), Reply::text("3"));
    assert_eq!(at_a.say("HINCRBY s:walk steps 1"), Reply::Int(4));
}

#[test]
fn a_burst_is_one_arrival() {
    let mut cluster = cluster();
    cluster.set.extend(["handover.residence_ms_min=0".into(), "handover.arrival_gap_ms=60000".into()]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    hset(&mut a.client(), "s:burst", "n", b"0");
    let mut at_b = b.client();
    for n in 1..=200 {
        assert_eq!(at_b.say("HINCRBY s:burst n 1"), Reply::Int(n));
    }
    assert!(a.owns("burst"));
    assert_eq!((a.number("/handovers/given"), a.number("/handovers/aborted")), (0, 0));
}

#[test]
fn a_session_whose_requests_are_spread_does_not_follow_each() {
    let mut cluster = cluster();
    cluster.set.extend(["handover.residence_ms_min=0".into(), "handover.arrival_gap_ms=0".into()]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    hset(&mut at_a, "s:spread", "n", b"0");
    // A request has four operations, and each of them counts as an arrival, so that three in a row come with each request. Mostly the
    // next request is elsewhere before the session has rested, and it stays for that reason alone.
    for n in (0..240).step_by(8) {
        for (at, first) in [(&mut at_b, n), (&mut at_a, n + 4)] {
            for next in 1..=4 {
                assert_eq!(at.say("HINCRBY s:spread n 1"), Reply::Int(first + next));
            }
        }
    }
    let followed = a.number("/handovers/given") + b.number("/handovers/given");
    assert!(followed <= 3, "{followed} times");
}

#[test]
fn a_session_that_has_just_come_stays_for_a_while() {
    let mut cluster = cluster();
    cluster.set.extend(["handover.residence_ms_min=600000".into(), "handover.arrival_gap_ms=0".into()]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    for n in 0..2 {
        hset(&mut at_a, &format!("s:rest{n}"), "n", b"0");
    }
    for n in 1..=50 {
        assert_eq!(at_b.say("HINCRBY s:rest0 n 1"), Reply::Int(n));
    }
    assert_eq!(a.sessions(), 2, "not adopted");
    assert_eq!(a.rebalance(), (1, 0), "an order is an order");
    let (home, away) = if a.owns("rest0") { ("rest1", "rest0") } else { ("rest0", "rest1") };
    for _ in 0..50 {
        at_a.say(&format!("HINCRBY s:{home} n 1"));
        at_b.say(&format!("HINCRBY s:{away} n 1"));
    }
    assert!(b.owns(home) && a.owns(away), "and neither goes back");
    assert_eq!((a.number("/handovers/given"), b.number("/handovers/given")), (1, 0));
}

//! The target of a handover freezes or dies anywhere between proposal and commit: the origin has the session again, or it moved.
//!
//! The moment is when so many sessions have moved, another number for each round; all outcomes are right as long as there is one
//! owner. What the origin lost must be exactly what it knows to have given.

use crate::harness::resp::{Client, Reply};
use crate::harness::{Cluster, Node, http, until};
use crate::{cluster, filler, hset, settled};
use rustix::process::Signal;
use std::collections::BTreeMap;

const SESSIONS: usize = 40;
const ROUNDS: u64 = 8;

/// Outcomes are decided sooner than with the defaults, and few handovers run at once: whatever the moment, some sessions have
/// moved by then, some are on their way, and some have not started.
fn quick() -> Cluster {
    cluster().set(&[
        "handover.at_once_max=3",
        "handover.propose_ms_max=60",
        "handover.stage_ms_max=150",
        "handover.commit_ms_max=400",
        "policy.class=carried",
        "state.park_ms_max=900",
        "state.operation_ms_max=1000",
    ])
}

fn fill(client: &mut Client, round: u64) -> BTreeMap<String, (i64, Vec<u8>)> {
    let mut truth = BTreeMap::new();
    for n in 0..SESSIONS {
        let (id, value) = (format!("t{round}x{n}"), filler(&format!("{round} {n}"), 4000));
        assert_eq!(hset(client, &format!("s:{id}"), "v", &value), Reply::Int(1));
        assert_eq!(client.say(&format!("HINCRBY s:{id} count 1")), Reply::Int(1));
        truth.insert(id, (1, value));
    }
    truth
}

/// Orders a rebalancing and stops the target when handovers are under way, and some more have ended in each round.
#[allow(
    clippy::disallowed_methods,
    reason = "the order is answered when the handovers have ended, so it has a thread of its own"
)]
fn stop_during_rebalance(a: &Node, b: &Node, round: u64) -> std::thread::JoinHandle<()> {
    let (admin, before) = (a.admin, a.number("/handovers/given"));
    // It may end with any answer: what counts is what the sessions say.
    let order = std::thread::spawn(move || drop(http::post(admin, "/api/v1/rebalance")));
    until("handovers under way", || {
        let status = a.status();
        let given = status["handovers"]["given"].as_u64().unwrap() - before;
        let begun = given > 0 || status["handovers"]["in_progress"] != 0;
        (begun && given >= round * SESSIONS as u64 / 2 / ROUNDS).then_some(())
    });
    b.freeze();
    order
}

/// Waits until nothing is under way or waiting there, so that every outcome is decided. False: the other one was stopped while it
/// held the write lock of the directory's file; then there are no leases and no outcomes before it goes on or dies.
fn is_decided(node: &Node) -> bool {
    until("the end of all handovers", || {
        let status = node.status();
        let handovers = &status["handovers"];
        let decided = handovers["in_progress"] == 0 && handovers["queued"] == 0;
        (decided || status["lease_ms_left"] == 0).then_some(decided)
    })
}

fn wait_decided(node: &Node) {
    until("the end of all handovers", || is_decided(node).then_some(()));
}

#[test]
fn a_target_that_is_killed_takes_along_only_what_it_had_committed() {
    let cluster = quick();
    let a = cluster.start("a", &[]);
    let mut client = a.client();
    for round in 0..ROUNDS {
        let truth = fill(&mut client, round);
        let given = a.number("/handovers/given");
        let mut b = cluster.start(&format!("b{round}"), &[]);
        a.wait_members(2);
        let order = stop_during_rebalance(&a, &b, round);
        if round % 2 == 0 {
            // Frozen until the origin is in doubt and decides, if it can.
            is_decided(&a);
        }
        b.kill();
        order.join().unwrap();
        let mut gone = 0;
        for (id, (count, value)) in &truth {
            match settled(&mut client, &["HMGET", &format!("s:{id}"), "count", "v"]) {
                Reply::Array(all) if all == [Reply::Nil, Reply::Nil] => gone += 1,
                all => assert_eq!(all, Reply::Array(vec![Reply::text(count.to_string()), Reply::Bulk(value.clone())])),
            }
        }
        wait_decided(&a);
        assert_eq!(a.number("/handovers/given") - given, gone, "round {round}: lost is what had moved, and nothing else");
        assert_eq!(a.sessions(), SESSIONS as u64 - gone);
        for id in truth.keys() {
            client.call(&["DEL", &format!("s:{id}")]);
        }
        a.wait_members(1);
        a.wait_status("/sessions", 0);
    }
    let (given, aborted) = (a.number("/handovers/given"), a.number("/handovers/aborted"));
    assert!(given > 0 && aborted > 0, "the moments hit: {given} had moved, {aborted} stayed");
}

#[test]
fn a_target_that_wakes_up_after_the_fence_does_not_answer() {
    let cluster = quick();
    let a = cluster.start("a", &[]);
    let b = cluster.start("b", &[]);
    a.wait_members(2);
    let (mut at_a, mut at_b) = (a.client(), b.client());
    for round in 0..ROUNDS {
        let mut truth = fill(&mut at_a, round);
        let order = stop_during_rebalance(&a, &b, round);
        // What a has, or has got back by its fence, is written while b is away; what b has got waits for it.
        let mut asked_b = !is_decided(&a);
        let mut unknown = None;
        let at_home = if asked_b { Vec::new() } else { truth.keys().filter(|id| a.owns(id)).cloned().collect() };
        for (id, (count, _)) in &mut truth {
            let key = format!("s:{id}");
            if at_home.contains(id) && unknown.is_none() {
                match at_a.call(&["HINCRBY", &key, "count", "1"]) {
                    Reply::Int(now) => assert_eq!(now, 2, "round {round}: {id} is a's"),
                    // The lease lapsed just now, for the reason above: whether this one counted is unknown.
                    said => {
                        assert!(said.error().contains("no lease"), "round {round}: {id} is a's: {said:?}");
                        unknown = Some(id.clone());
                    }
                }
                *count = 2;
            } else if !at_home.contains(id) && !std::mem::replace(&mut asked_b, true) {
                let said = at_a.call(&["HGET", &key, "count"]);
                assert!(said.is_try_again(), "round {round}: {id} is b's, who is away: {said:?}");
            }
        }
        b.signal(Signal::CONT);
        order.join().unwrap();
        wait_decided(&a);
        wait_decided(&b);
        for (id, (count, value)) in truth.iter().filter(|(id, _)| unknown.as_ref() != Some(*id)) {
            let key = format!("s:{id}");
            let wanted = Reply::Array(vec![Reply::text(count.to_string()), Reply::Bulk(value.clone())]);
            assert_eq!(settled(&mut at_b, &["HMGET", &key, "count", "v"]), wanted, "round {round}: {id} at b");
            assert_eq!(settled(&mut at_a, &["HMGET", &key, "count", "v"]), wanted, "round {round}: {id} at a");
        }
        let (at_home, away) = (a.owned(), b.owned());
        assert!(at_home.is_disjoint(&away), "one owner");
        assert_eq!(at_home.len() + away.len(), SESSIONS);
        for id in truth.keys() {
            assert_eq!(settled(&mut at_b, &["DEL", &format!("s:{id}")]), Reply::Int(1));
        }
        assert_eq!((a.sessions(), b.sessions()), (0, 0));
    }
    let (given, aborted) = (a.number("/handovers/given"), a.number("/handovers/aborted"));
    assert!(given > 0 && aborted > 0, "the moments hit: {given} had moved, {aborted} stayed");
}

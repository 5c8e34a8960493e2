//! The target of a handover freezes or dies anywhere between proposal and commit: the origin has the session again, or it moved.
//!
//! The moment is a number of microseconds after the order, another for each round; all outcomes are right as long as there is
//! one owner. What the origin lost must be exactly what it knows to have given.

use crate::harness::resp::{Client, Reply};
use crate::harness::{Cluster, Node, http, until};
use crate::{cluster, filler, hset, settled};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::time::Duration;

const SESSIONS: usize = 40;

/// Outcomes are decided sooner than with the defaults.
fn quick() -> Cluster {
    cluster().set(&[
        "handover.propose_ms_max=150",
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

/// Orders a rebalancing and stops the target `after` that.
#[allow(clippy::disallowed_methods, reason = "the moment of the fault is what the test varies")]
fn stop_during_rebalance(a: &Node, b: &Node, after: Duration) -> std::thread::JoinHandle<()> {
    let admin = a.admin;
    // It may end with any answer: what counts is what the sessions say.
    let order = std::thread::spawn(move || drop(http::post(admin, "/api/v1/rebalance")));
    std::thread::sleep(after);
    b.signal(Signal::STOP);
    order
}

/// The moments, spread over the time that the first handovers take.
fn moment(round: u64) -> Duration {
    Duration::from_micros(400 + round * round * 400)
}

#[test]
fn a_target_that_is_killed_takes_along_only_what_it_had_committed() {
    let cluster = quick();
    let a = cluster.start("a", &[]);
    let mut client = a.client();
    for round in 0..8 {
        let truth = fill(&mut client, round);
        let given = a.number("/handovers/given");
        let mut b = cluster.start(&format!("b{round}"), &[]);
        a.wait_members(2);
        let order = stop_during_rebalance(&a, &b, moment(round));
        if round % 2 == 0 {
            // Long enough frozen for the origin to be in doubt.
            until("some doubt", || (a.number("/handovers/in_progress") == 0).then_some(()));
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
        eprintln!("STAT kill round {round} gone {gone} aborted {} ", a.number("/handovers/aborted"));
        until("the end of all handovers", || (a.number("/handovers/in_progress") == 0).then_some(()));
        assert_eq!(a.number("/handovers/given") - given, gone, "round {round}: lost is what had moved, and nothing else");
        assert_eq!(a.sessions(), SESSIONS as u64 - gone);
        for id in truth.keys() {
            client.call(&["DEL", &format!("s:{id}")]);
        }
        a.wait_members(1);
        a.wait_status("/sessions", 0);
    }
}

#[test]
fn a_target_that_wakes_up_after_the_fence_does_not_answer() {
    let cluster = quick();
    let a = cluster.start("a", &[]);
    let b = cluster.start("b", &[]);
    let (mut at_a, mut at_b) = (a.client(), b.client());
    for round in 0..8 {
        let mut truth = fill(&mut at_a, round);
        let order = stop_during_rebalance(&a, &b, moment(round));
        // The sessions that a has, or gets back by its fence, are written while b is away. The others are b's and wait.
        for (id, (count, _)) in &mut truth {
            let answer = at_a.call(&["HINCRBY", &format!("s:{id}"), "count", "1"]);
            match answer {
                Reply::Int(now) => {
                    assert_eq!(now, *count + 1);
                    *count = now;
                }
                // Whether this one was executed is not known: the session was forwarded to b, or was between both.
                other => {
                    assert!(other.is_try_again(), "{other:?}");
                    *count = -1;
                }
            }
            if *count == -1 {
                break;
            }
        }
        b.signal(Signal::CONT);
        order.join().unwrap();
        until("both are in order", || {
            (a.number("/handovers/in_progress") + b.number("/handovers/in_progress") == 0).then_some(())
        });
        for (id, (count, value)) in &truth {
            let key = format!("s:{id}");
            let seen = settled(&mut at_b, &["HGET", &key, "count"]);
            if *count > 0 {
                assert_eq!(seen, Reply::text(count.to_string()), "round {round}: {id} at b");
            } else {
                assert!(seen == Reply::text("1") || seen == Reply::text("2"), "round {round}: {seen:?}");
            }
            assert_eq!(settled(&mut at_a, &["HGET", &key, "count"]), seen, "both say the same");
            assert_eq!(settled(&mut at_a, &["HGET", &key, "v"]), Reply::Bulk(value.clone()));
            assert_eq!(u8::from(a.owns(id)) + u8::from(b.owns(id)), 1, "one owner");
            assert_eq!(settled(&mut at_b, &["DEL", &key]), Reply::Int(1));
        }
        eprintln!(
            "STAT wake round {round} given {} aborted {} unknown {} bdeclined {}",
            a.number("/handovers/given"),
            a.number("/handovers/aborted"),
            truth.values().filter(|(c, _)| *c < 0).count(),
            b.number("/handovers/refused")
        );
        assert_eq!((a.sessions(), b.sessions()), (0, 0));
    }
}

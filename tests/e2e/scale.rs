//! Rebalancing: sessions move under load, and nobody who uses them notices.

use crate::harness::resp::{Client, Reply, encode};
use crate::harness::{Node, until};
use crate::{cluster, filler, hset};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const SESSIONS: usize = 500;
const WORKERS: usize = 6;

/// Counts up the sessions `worker, worker + WORKERS, …` until told to stop, over connections to all nodes in turn. Each reply
/// must be exactly the next number: one that is too small is a lost write, one that is too large was executed twice.
fn work(worker: usize, nodes: &[&Node], stop: &AtomicBool, done: &AtomicU64) -> Vec<(usize, i64)> {
    let mut clients: Vec<Client> = nodes.iter().map(|n| n.client()).collect();
    let mut counts: Vec<(usize, i64)> = (worker..SESSIONS).step_by(WORKERS).map(|n| (n, 0)).collect();
    let mut turn = worker;
    while !stop.load(Ordering::Acquire) {
        for (n, count) in &mut counts {
            turn += 1;
            let at = turn % clients.len();
            let key = format!("s:load{n}");
            let client = &mut clients[at];
            // Three commands of one session and one of another key of it, in one write.
            let written = (*count + 1).to_string();
            let mut commands = encode(&["HINCRBY", &key, "count", "1"]);
            commands.extend(encode(&["HSET", &key, "last", &written]));
            commands.extend(encode(&["HGET", &key, "last"]));
            commands.extend(encode(&["SET", &format!("k:load{n}"), &written]));
            client.send(&commands).unwrap();
            *count += 1;
            let replies: [Reply; 4] = std::array::from_fn(|_| client.read().unwrap());
            let added = Reply::Int(i64::from(*count == 1));
            assert_eq!(replies, [Reply::Int(*count), added, Reply::text(&written), Reply::ok()], "session {n} through node {at}");
            done.fetch_add(4, Ordering::Relaxed);
        }
    }
    counts
}

#[test]
fn five_hundred_sessions_move_under_load_without_an_error() {
    // Without adoption, so that it is known how many the order has to move.
    let cluster = cluster().set(&["handover.residence_ms_min=3600000"]);
    let a = cluster.start("a", &[]);
    let mut client = a.client();
    for n in 0..SESSIONS {
        hset(&mut client, &format!("s:load{n}"), "big", &filler(&format!("big{n}"), 2000));
    }
    let (b, c) = (cluster.start("b", &[]), cluster.start("c", &[]));
    let nodes = [&a, &b, &c];
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let counts: Vec<(usize, i64)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|w| {
                scope.spawn({
                    let (stop, done) = (&stop, &done);
                    move || work(w, &nodes, stop, done)
                })
            })
            .collect();
        let round = || {
            let now = done.load(Ordering::Relaxed);
            until("another round", || {
                let broken = workers.iter().any(|w| w.is_finished());
                (broken || done.load(Ordering::Relaxed) > now + 4 * SESSIONS as u64).then_some(())
            });
        };
        round();
        let (moved, failed) = b.rebalance();
        round();
        stop.store(true, Ordering::Release);
        let counts = workers.into_iter().flat_map(|w| w.join().unwrap()).collect();
        assert_eq!((moved, failed), (333, 0));
        counts
    });
    let mut owned = nodes.map(Node::sessions);
    owned.sort_unstable();
    assert_eq!(owned, [166, 167, 167]);
    let mut clients = nodes.map(Node::client);
    for (n, count) in counts {
        let client = &mut clients[n % 3];
        assert_eq!(client.say(&format!("HGET s:load{n} count")), Reply::text(count.to_string()));
        assert_eq!(client.say(&format!("HGET s:load{n} big")), Reply::Bulk(filler(&format!("big{n}"), 2000)));
        assert_eq!(client.say(&format!("GET k:load{n}")), Reply::text(count.to_string()));
    }
    nodes.iter().for_each(|n| n.wait_status("/residuals", 0));
}

#[test]
fn a_rebalancing_gives_everybody_the_same_number() {
    let cluster = cluster();
    let a = cluster.start("a", &[]);
    let mut client = a.client();
    for n in 0..100 {
        hset(&mut client, &format!("s:even{n}"), "n", b"1");
    }
    assert_eq!(a.rebalance(), (0, 0), "nobody else is there");
    let (b, c) = (cluster.start("b", &[]), cluster.start("c", &[]));
    let (moved, failed) = c.rebalance();
    assert_eq!((moved, failed), (66, 0), "any node can be told");
    let mut counts = [&a, &b, &c].map(|n| n.sessions());
    counts.sort_unstable();
    assert_eq!(counts, [33, 33, 34]);
    assert_eq!(b.rebalance(), (0, 0), "it is even already");
}

#[test]
fn sessions_move_on_with_what_they_left_behind() {
    let mut cluster = cluster();
    cluster.set.extend(["handover.trickle=false".into(), "policy.class=deferred".into()]);
    let a = cluster.start("a", &[]);
    let mut client = a.client();
    for n in 0..30 {
        hset(&mut client, &format!("s:chain{n}"), "first", &filler(&format!("first{n}"), 4000));
    }
    let b = cluster.start("b", &[]);
    assert_eq!(a.rebalance(), (15, 0));
    for n in 0..30 {
        hset(&mut b.client(), &format!("s:chain{n}"), "second", &filler(&format!("second{n}"), 4000));
    }
    let c = cluster.start("c", &[]);
    assert_eq!(a.rebalance().1, 0);
    // And back: with c cordoned away everything of c's goes to the others.
    let mut d = cluster.start("d", &[]);
    assert_eq!(a.rebalance().1, 0);
    d.ask_drain();
    assert_eq!(d.wait_exit().code(), Some(0), "{}", d.log_text());
    for (n, node) in (0..30).zip([&a, &b, &c].into_iter().cycle()) {
        let mut client = node.client();
        assert_eq!(client.say(&format!("HGET s:chain{n} first")), Reply::Bulk(filler(&format!("first{n}"), 4000)));
        assert_eq!(client.say(&format!("HGET s:chain{n} second")), Reply::Bulk(filler(&format!("second{n}"), 4000)));
    }
    [&a, &b, &c].iter().for_each(|n| n.wait_status("/residuals", 0));
    assert_eq!([&a, &b, &c].map(|n| n.number("/variables_lost")), [0, 0, 0]);
}

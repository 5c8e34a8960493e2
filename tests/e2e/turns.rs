//! Scripts within their limits: those who have none are served between them, also by a sidecar with one worker.
//!
//! What is asserted are answers, never how long they took.

use crate::harness::resp::{Reply, encode};
use crate::{cluster, hset};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// Some milliseconds of work, then one more in the field `n`.
const SLOW: &str = "for i = 1, 400000 do local x = i * 2 end return redis.call('HINCRBY', KEYS[1], 'n', 1)";

#[test]
fn between_the_scripts_of_one_pipeline_others_are_served() {
    const SCRIPTS: i64 = 150;
    let a = cluster().set(&["runtime.workers=1", "state.script_ms_max=1500"]).start("a", &[]);
    let (mut one, mut other) = (a.client(), a.client());
    assert_eq!(hset(&mut one, "s:many", "n", b"0"), Reply::Int(1));
    let request = encode(&["EVAL", SLOW, "1", "s:many"]);
    one.send(&request.repeat(usize::try_from(SCRIPTS).unwrap())).unwrap();
    let (mut seen, done) = (BTreeSet::new(), SCRIPTS.to_string());
    while !seen.contains(done.as_bytes()) {
        let Reply::Bulk(count) = other.say("HGET s:many n") else { panic!("no count") };
        seen.insert(count);
    }
    for n in 1..=SCRIPTS {
        assert_eq!(one.read().unwrap(), Reply::Int(n), "in their order, and none failed");
    }
    assert!(seen.len() > 15, "the other had {} turns during {SCRIPTS} scripts", seen.len());
}

#[test]
fn scripts_of_many_clients_cost_one_worker_no_lease_and_nobody_an_answer() {
    const CLIENTS: usize = 6;
    const EACH: i64 = 70;
    let cluster = cluster().set(&["runtime.workers=1", "state.script_ms_max=1500"]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scripts: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let mut client = a.client();
                scope.spawn(move || {
                    for round in 1..=EACH {
                        assert_eq!(client.call(&["EVAL", SLOW, "1", &format!("s:script{n}")]), Reply::Int(round));
                    }
                })
            })
            .collect();
        // One at the same node, and one whose operations are forwarded there.
        for (name, mut client) in [("here", a.client()), ("there", b.client())] {
            let (ended, key) = (&ended, format!("s:{name}"));
            assert_eq!(hset(&mut a.client(), &key, "n", b"0"), Reply::Int(1));
            scope.spawn(move || {
                let mut rounds = 0;
                while !ended.load(Ordering::Acquire) {
                    rounds += 1;
                    assert_eq!(client.call(&["HINCRBY", &key, "n", "1"]), Reply::Int(rounds), "{name}");
                }
            });
        }
        let failed = scripts.into_iter().map(std::thread::ScopedJoinHandle::join).filter(Result::is_err).count();
        ended.store(true, Ordering::Release);
        assert_eq!(failed, 0);
    });
    assert!(!a.log_text().contains("lease"), "{}", a.log_text());
}

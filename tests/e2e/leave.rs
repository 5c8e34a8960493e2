//! Leaving: a drain takes everything along, or says what it could not.

use crate::harness::resp::{Client, Reply};
use crate::harness::until;
use crate::{cluster, filler, hset};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};

fn fill(client: &mut Client, sessions: usize) {
    for n in 0..sessions {
        let key = format!("s:leave{n}");
        assert_eq!(hset(client, &key, "n", n.to_string().as_bytes()), Reply::Int(1));
        assert_eq!(hset(client, &key, "big", &filler(&key, 6000)), Reply::Int(1));
        assert_eq!(client.call(&["PEXPIRE", &key, "600000"]), Reply::Int(1));
    }
}

fn check(client: &mut Client, sessions: usize) {
    for n in 0..sessions {
        let key = format!("s:leave{n}");
        assert_eq!(client.call(&["HGET", &key, "n"]), Reply::text(n.to_string()), "{key}");
        assert_eq!(client.call(&["HGET", &key, "big"]), Reply::Bulk(filler(&key, 6000)));
        let Reply::Int(left) = client.call(&["PTTL", &key]) else { panic!("no time to live") };
        assert!((500_000..=600_000).contains(&left), "{left}");
    }
}

#[test]
fn a_drain_takes_everything_along_residuals_included() {
    let mut cluster = cluster();
    cluster.set.extend(["handover.trickle=false".into(), "policy.class=deferred".into()]);
    let mut a = cluster.start("a", &[]);
    fill(&mut a.client(), 40);
    let b = cluster.start("b", &[]);
    assert_eq!(a.rebalance(), (20, 0));
    assert_eq!(a.number("/residuals"), 20, "deferred variables of what moved are still at a");
    assert_eq!(b.number("/variables_fetched_late"), 0);
    a.ask_drain();
    assert_eq!(a.wait_exit().code(), Some(0), "{}", a.log_text());
    assert_eq!((b.sessions(), b.number("/missing_variables"), b.number("/variables_lost")), (40, 0, 0));
    assert!(b.number("/variables_fetched_late") >= 40);
    check(&mut b.client(), 40);
    let last = std::fs::read_to_string(&a.out).unwrap();
    let last: serde_json::Value = serde_json::from_str(last.trim().strip_prefix("final ").unwrap()).unwrap();
    assert_eq!(
        (last["sessions"].as_u64(), last["residuals"].as_u64(), last["handovers"]["given"].as_u64()),
        (Some(0), Some(0), Some(40))
    );
    until("the departure", || (b.status()["members"].as_array().unwrap().len() == 1).then_some(()));
}

#[test]
fn a_drain_spreads_over_those_who_accept() {
    let cluster = cluster();
    let mut a = cluster.start("a", &[]);
    let nodes = [cluster.start("b", &[]), cluster.start("c", &[]), cluster.start("d", &[])];
    fill(&mut a.client(), 30);
    let cordon = crate::harness::http::post(nodes[2].admin, "/api/v1/cordon?on=true").unwrap();
    assert_eq!(cordon.status, 200);
    until("the cordon is known", || (a.status()["members"].to_string().contains("cordoned")).then_some(()));
    a.signal(Signal::TERM);
    assert_eq!(a.wait_exit().code(), Some(0), "{}", a.log_text());
    assert_eq!(nodes.each_ref().map(|n| n.sessions()), [15, 15, 0]);
    nodes.iter().for_each(|n| check(&mut n.client(), 30));
}

#[test]
fn a_drain_under_load_shows_no_error() {
    let cluster = cluster();
    let mut a = cluster.start("a", &[]);
    let b = cluster.start("b", &[]);
    fill(&mut a.client(), 60);
    let (mut at_b, mut rounds) = (b.client(), 0i64);
    a.signal(Signal::TERM);
    while b.sessions() < 60 || rounds < 2 {
        rounds += 1;
        for n in 0..60 {
            assert_eq!(at_b.say(&format!("HINCRBY s:leave{n} count 1")), Reply::Int(rounds));
        }
    }
    assert_eq!(a.wait_exit().code(), Some(0), "{}", a.log_text());
    check(&mut at_b, 60);
}

/// Clients at b and c touch each session seldom, so that many of their operations go by hints to where a session was, up to the
/// very end of the node that leaves. Every one of them counts once.
#[test]
fn operations_forwarded_to_a_node_that_leaves_are_neither_lost_nor_repeated() {
    const SESSIONS: usize = 400;
    let cluster = cluster();
    let mut a = cluster.start("a", &[]);
    let nodes = [cluster.start("b", &[]), cluster.start("c", &[])];
    // Both have given sessions to the one that will leave, so that it has both lanes of each, which fall one after the other.
    for node in &nodes {
        let mut client = node.client();
        for n in 0..60 {
            assert_eq!(hset(&mut client, &format!("s:{}{n}", node.name), "n", b"0"), Reply::Int(1));
        }
        assert_eq!(node.rebalance().1, 0);
    }
    let mut at_a = a.client();
    for n in 0..SESSIONS {
        assert_eq!(hset(&mut at_a, &format!("s:hint{n}"), "n", b"0"), Reply::Int(1));
    }
    let (gone, rounds_at_least) = (AtomicBool::new(false), 3);
    std::thread::scope(|scope| {
        for (place, node) in nodes.iter().enumerate() {
            let gone = &gone;
            scope.spawn(move || {
                let (mut client, mut rounds) = (node.client(), 0);
                while rounds < rounds_at_least || !gone.load(Ordering::Acquire) {
                    rounds += 1;
                    for n in 0..SESSIONS {
                        let reply = client.say(&format!("HINCRBY s:hint{n} count{place} 1"));
                        assert_eq!(reply, Reply::Int(rounds), "session {n} from {}", node.name);
                    }
                }
            });
        }
        a.signal(Signal::TERM);
        let status = a.wait_exit();
        gone.store(true, Ordering::Release);
        assert_eq!(status.code(), Some(0), "{}", a.log_text());
    });
}

#[test]
fn the_last_member_says_that_its_sessions_are_lost() {
    let cluster = cluster();
    let mut a = cluster.start("a", &[]);
    fill(&mut a.client(), 3);
    a.signal(Signal::TERM);
    assert_eq!(a.wait_exit().code(), Some(1));
    let log = a.log_text();
    assert!(log.contains("ERROR") && log.contains("THE LAST MEMBER LEAVES") && log.contains("sessions=3"), "{log}");

    let mut empty = cluster.start("b", &[]);
    empty.signal(Signal::TERM);
    assert_eq!(empty.wait_exit().code(), Some(0), "nothing is lost with an empty one");
}

#[test]
fn who_becomes_the_last_member_in_its_drain_says_so_and_waits_for_nobody() {
    // The budget is longer than this test is waited for.
    let cluster = cluster().set(&["drain.budget_ms=600000"]);
    let (mut a, mut b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    fill(&mut a.client(), 3);
    b.kill();
    a.signal(Signal::TERM);
    assert_eq!(a.wait_exit().code(), Some(1));
    let log = a.log_text();
    assert!(log.contains("THE LAST MEMBER LEAVES") && log.contains("sessions=3"), "{log}");
}

#[test]
fn whoever_waits_for_a_drain_hears_that_it_failed() {
    let cluster = cluster();
    let mut a = cluster.start("a", &[]);
    fill(&mut a.client(), 3);
    let out = crate::harness::wayfarer(&["drain", "--wait", "--admin", &a.admin.to_string()]);
    assert_eq!(out.status.code(), Some(1));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("\"left_behind\":3"), "{said}");
    assert_eq!(a.wait_exit().code(), Some(1));
}

#[test]
fn what_could_not_leave_within_the_budget_is_named() {
    let mut cluster = cluster();
    cluster.set.push("drain.budget_ms=400".into());
    let mut a = cluster.start("a", &[]);
    fill(&mut a.client(), 5);
    let b = cluster.start("b", &[]);
    a.wait_members(2);
    let names = a.owned();
    b.freeze();
    a.ask_drain();
    assert_eq!(a.wait_exit().code(), Some(1));
    let log = a.log_text();
    assert!(log.contains("could not leave") && log.contains("sessions=5"), "{log}");
    assert!(names.iter().all(|name| log.contains(name.as_str())), "by keyed hash: {names:?}\n{log}");
}

#[test]
fn a_cordoned_neighbour_is_waited_for_and_what_stays_is_named() {
    let mut cluster = cluster();
    cluster.set.push("drain.budget_ms=400".into());
    let mut a = cluster.start("a", &[]);
    fill(&mut a.client(), 4);
    let b = cluster.start("b", &[]);
    assert_eq!(crate::harness::http::post(b.admin, "/api/v1/cordon?on=true").unwrap().status, 200);
    until("the cordon is known", || (a.status()["members"].to_string().contains("cordoned")).then_some(()));
    let names = a.owned();
    a.ask_drain();
    assert_eq!(a.wait_exit().code(), Some(1));
    let log = a.log_text();
    assert!(log.contains("no other member takes sessions now") && !log.contains("THE LAST MEMBER"), "{log}");
    assert!(names.iter().all(|name| log.contains(name.as_str())), "by keyed hash: {names:?}\n{log}");
}

/// What a drain without time names is what is lost, and nothing else: a session that is on its way when the time is over arrives.
#[test]
fn what_is_named_as_left_behind_is_what_has_not_left() {
    const SESSIONS: usize = 2000;
    let cluster = cluster().set(&["drain.budget_ms=1", "handover.at_once_max=64"]);
    let mut a = cluster.start("a", &[]);
    let mut at_a = a.client();
    for n in 0..SESSIONS {
        assert_eq!(hset(&mut at_a, &format!("s:left{n}"), "n", &filler("n", 3000)), Reply::Int(1));
    }
    let b = cluster.start("b", &[]);
    a.wait_members(2);
    a.ask_drain();
    assert_eq!(a.wait_exit().code(), Some(1), "{}", a.log_text());
    let arrived = b.owned();
    let log = a.log_text();
    let lists = log.lines().filter(|line| line.contains("left behind"));
    let named: Vec<&str> =
        lists.filter_map(|line| line.split("sessions=").nth(1)).flat_map(|l| l.trim_matches('"').split(' ')).collect();
    assert!(!named.is_empty(), "{log}");
    assert_eq!(named.iter().filter(|name| arrived.contains(**name)).count(), 0, "named, though they have left");
    assert_eq!(named.len() + arrived.len(), SESSIONS, "{} named, {} arrived\n{log}", named.len(), arrived.len());
}

/// A node of which nobody reads what it says. It is killed when this is dropped.
struct Unheard(std::process::Child);

impl Drop for Unheard {
    fn drop(&mut self) {
        // An error means that it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A node leaves as well when what it says goes nowhere.
fn leaves_though_it_says_in_vain(to: fn() -> std::process::Stdio) {
    let cluster = cluster();
    let b = cluster.start("b", &[]);
    let mut a = cluster.start("a", &[]);
    a.kill();
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_wayfarer"));
    run.arg("run").arg("-c").arg(&a.config).stdin(std::process::Stdio::null()).stdout(to()).stderr(to());
    let mut unheard = Unheard(run.spawn().unwrap());
    drop((unheard.0.stdout.take(), unheard.0.stderr.take()));
    until("it is ready", || crate::harness::http::get(a.admin, "/readyz").ok().filter(|answer| answer.status == 200));
    hset(&mut a.client(), "s:unheard", "n", b"1");
    let pid = i32::try_from(unheard.0.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let status = until("its end", || unheard.0.try_wait().unwrap());
    assert_eq!((status.code(), b.owns("unheard")), (Some(0), true), "{status}");
}

#[test]
fn a_node_whose_log_nobody_reads_any_more_leaves_as_well() {
    leaves_though_it_says_in_vain(std::process::Stdio::piped);
}

#[test]
fn a_node_whose_log_is_on_a_full_disk_leaves_as_well() {
    leaves_though_it_says_in_vain(|| std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into());
}

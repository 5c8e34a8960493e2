//! Requests for owners that leave, die, stand still, or run another version of the application.

use crate::forward::{ask, cluster, count, start, start_all};
use crate::harness::redis_server::RedisServer;
use crate::harness::until;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn another_version_of_the_application_gets_none() {
    let first = cluster();
    let a = start(&first, "a");
    let newer = cluster().set(&["app.version=2"]);
    let newer = crate::harness::Cluster { folder: first.folder.clone(), ..newer };
    let b = start(&newer, "b");
    [&a, &b].iter().for_each(|stand| stand.node.wait_members(2));
    assert_eq!(count(b.node.http, "sid"), ("b".to_owned(), 1));
    assert_eq!(count(a.node.http, "sid"), ("a".to_owned(), 2), "here, its operations forwarded");
    let c = start(&newer, "c");
    [&a, &b, &c].iter().for_each(|stand| stand.node.wait_members(3));
    assert_eq!(count(c.node.http, "sid"), ("b".to_owned(), 3));
}

/// Its sidecar lives, and gives back what it cannot hand on.
#[test]
fn an_owner_without_its_instance_has_its_requests_run_where_they_come() {
    let cluster = cluster();
    let [a, b] = start_all(&cluster, ["a", "b"]);
    for user in 0..4 {
        assert_eq!(count(b.node.http, &format!("u{user}")), ("b".to_owned(), 1));
        assert_eq!(count(a.node.http, &format!("u{user}")), ("b".to_owned(), 2), "forwarded");
    }
    let forwarded = a.node.metric("wayfarer_http_forwarded_total");
    drop(b.instance);
    until("b's instance is gone", || std::net::TcpStream::connect(b.node.app).is_err().then_some(()));
    for n in 3..8 {
        for user in 0..4 {
            assert_eq!(count(a.node.http, &format!("u{user}")), ("a".to_owned(), n), "here, its operations forwarded");
        }
    }
    assert!(a.node.metric("wayfarer_http_forwarded_total") > forwarded, "none was given back");
    // None is lost; they may follow their clients, as always when requests of theirs run elsewhere.
    until("all sessions", || (a.node.sessions() + b.node.sessions() == 4).then_some(()));
}

/// Clients that come to two members while the third one, which owns sessions of theirs, drains and ends.
#[test]
fn no_request_fails_while_an_owner_drains() {
    const USERS: usize = 12;
    let cluster = cluster();
    let [a, mut b, c] = start_all(&cluster, ["a", "b", "c"]);
    let counts: Vec<AtomicU64> = (0..USERS).map(|_| AtomicU64::new(1)).collect();
    for user in 0..USERS {
        assert_eq!(count(b.node.http, &format!("u{user}")), ("b".to_owned(), 1));
    }
    let stop = AtomicBool::new(false);
    let at_b = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for (user, number) in counts.iter().enumerate() {
            let (to, stop, at_b) = ([a.node.http, c.node.http], &stop, &at_b);
            scope.spawn(move || {
                for turn in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let (at, n) = count(to[turn % 2], &format!("u{user}"));
                    at_b.fetch_add(u64::from(at == "b"), Ordering::SeqCst);
                    assert_eq!(
                        n,
                        i64::try_from(number.fetch_add(1, Ordering::SeqCst)).unwrap() + 1,
                        "user {user}: each write once"
                    );
                }
            });
        }
        let total = || counts.iter().map(|n| n.load(Ordering::SeqCst)).sum::<u64>();
        let more = |least: u64| {
            let from = total();
            until("more requests", || (total() >= from + least).then_some(()));
        };
        more(200);
        assert!(at_b.load(Ordering::SeqCst) > 150, "they go to b");
        b.node.signal(rustix::process::Signal::TERM);
        let status = b.node.wait_exit();
        more(200);
        stop.store(true, Ordering::SeqCst);
        assert!(status.success(), "{}", b.node.log_text());
    });
    for stand in [&a, &c] {
        assert_eq!(stand.node.metric("wayfarer_http_forwarded_total{outcome=\"failed\"}"), 0.0);
    }
    // Wherever they are now, each is asked at its owner.
    for user in 0..USERS {
        let sid = format!("u{user}");
        let owner = if a.node.owns(&sid) { "a" } else { "c" };
        assert_eq!((count(a.node.http, &sid).0, count(c.node.http, &sid).0), (owner.to_owned(), owner.to_owned()));
    }
}

/// A request that was at the owner when that was killed is not sent again, and the next ones run elsewhere.
#[test]
fn an_owner_that_is_killed_in_the_middle() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let upstream = format!("state.upstream=redis://127.0.0.1:{}/0", redis.port);
    let cluster = cluster().set(&[&upstream, "policy.impact=critical", "cluster.lease_ms=1000", "cluster.lease_margin_ms=100"]);
    let [a, mut b] = start_all(&cluster, ["a", "b"]);
    assert_eq!(count(b.node.http, "sid"), ("b".to_owned(), 1));
    assert_eq!(count(a.node.http, "sid"), ("b".to_owned(), 2));
    std::thread::scope(|scope| {
        let to = a.node.http;
        let waiting = scope.spawn(move || ask(to, "POST", "/wait", "sid"));
        until("the request at b", || (b.instance.count_of("/wait") == 1).then_some(()));
        b.node.kill();
        let answer = waiting.join().unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (502, Some("1")), "{}", answer.text());
    });
    assert_eq!((a.instance.count_of("/wait"), b.instance.count_of("/wait")), (0, 1), "never twice");
    // From now on it runs here, and finds what was acknowledged as soon as b's death is proved.
    let next = until("an answer of a", || {
        let answer = ask(a.node.http, "POST", "/count", "sid");
        assert!(answer.text().starts_with("a "), "{}", answer.text());
        (answer.status == 200).then(|| answer.text())
    });
    assert_eq!(next, "a 3");
}

#[test]
fn a_member_that_refuses_connections_is_asked_for_nothing() {
    let cluster = cluster();
    let [a, mut b] = start_all(&cluster, ["a", "b"]);
    for n in 0..3 {
        assert_eq!(count(b.node.http, &format!("s{n}")).0, "b");
    }
    b.node.kill();
    // No request has been sent to it yet, so nothing is lost: it runs at a, whose instance hears what has become of the session.
    for n in 0..3 {
        let answer = ask(a.node.http, "POST", "/count", &format!("s{n}"));
        assert!(answer.text().starts_with("a "), "{}", answer.text());
    }
    assert_eq!(a.instance.count_of("/count"), 3);
}

/// A paused owner: what it was sent is given up when its lease has lapsed, and nothing more is sent.
#[test]
fn an_owner_that_stands_still_gets_no_more() {
    let cluster = cluster().set(&["cluster.lease_ms=1000", "cluster.lease_margin_ms=100", "state.park_ms_max=300"]);
    let [a, b] = start_all(&cluster, ["a", "b"]);
    assert_eq!(count(b.node.http, "sid").0, "b");
    assert_eq!(count(a.node.http, "sid").0, "b");
    b.node.freeze();
    // Those that had been sent there before that was seen are told so; they may yet run.
    let mut answer = ask(a.node.http, "POST", "/count", "sid");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
    until("a request that runs at a", || {
        answer = ask(a.node.http, "POST", "/count", "sid");
        answer.text().starts_with("a ").then_some(())
    });
    assert!(answer.text().contains("TRYAGAIN"), "the session is still b's own: {}", answer.text());
    b.node.signal(rustix::process::Signal::CONT);
    until("b to answer again", || {
        let answer = ask(a.node.http, "POST", "/count", "sid");
        (answer.status == 200 && answer.text().starts_with("b ")).then_some(())
    });
}

//! Deferred variables: they cross the wire when they are first read, once, and not at all if nobody needs them.
//!
//! Trickle is off, so whatever crosses was asked for. `variables_fetched_late` is counted by the node that gets a variable,
//! `bytes.late` of the origin is what it sent of them.

use crate::harness::resp::{Client, Reply, encode};
use crate::harness::{Cluster, Node, until};
use crate::{KEYS, filler, hset, set};
use std::sync::Barrier;

/// The size of a deferred value.
const SIZE: usize = 20_000;
const READERS: usize = 100;

/// Two nodes, and the ids of sessions that moved from a to b with their fields `late*` and their blob left behind.
struct Moved {
    _cluster: Cluster,
    a: Node,
    b: Node,
    ids: Vec<String>,
}

impl Moved {
    fn new(sessions: usize) -> Moved {
        let policy = "[[policy.variable]]\nname = \"late*\"\nclass = \"deferred\"\n[[policy.variable]]\nname = \"blob\"\nclass = \"deferred\"\n\
                      [[policy.variable]]\nname = \"now\"\nclass = \"carried\"\n";
        let cluster = Cluster::new(KEYS).with(policy).set(&["handover.trickle=false", "drain.settle_ms=0"]);
        let a = cluster.start("a", &[]);
        let mut client = a.client();
        for n in 0..sessions * 2 {
            let key = format!("s:id{n}");
            hset(&mut client, &key, "now", b"at once");
            for field in ["late1", "late2"] {
                assert_eq!(hset(&mut client, &key, field, &late(&format!("id{n}"), field)), Reply::Int(1));
            }
            assert_eq!(set(&mut client, &format!("k:id{n}"), &late(&format!("id{n}"), "blob")), Reply::ok());
        }
        let b = cluster.start("b", &[]);
        assert_eq!(a.rebalance(), (sessions as u64, 0));
        let owned = b.owned();
        let shown = |id: &String| wayfarer_engine::ids::IdKey(std::array::from_fn(|i| i as u8)).show(id.as_bytes());
        let ids: Vec<String> = (0..sessions * 2).map(|n| format!("id{n}")).filter(|id| owned.contains(&shown(id))).collect();
        assert_eq!(ids.len(), sessions);
        let moved = Moved { _cluster: cluster, a, b, ids };
        assert_eq!(moved.fetched(), 0, "nothing of this was asked for");
        assert_eq!(moved.b.number("/missing_variables"), 3 * sessions as u64);
        moved
    }

    fn fetched(&self) -> u64 {
        let fetched = self.b.number("/variables_fetched_late");
        assert_eq!(fetched, self.b.metric("wayfarer_variables_fetched_late_total") as u64, "status and metrics say the same");
        assert_eq!(fetched, self.b.number("/variables_fetched_on_access"), "all of them were asked for");
        fetched
    }

    /// Bytes that a has sent late.
    fn sent(&self) -> u64 {
        self.a.number("/bytes/late")
    }
}

fn late(id: &str, name: &str) -> Vec<u8> {
    filler(&format!("{id} {name}"), SIZE)
}

#[test]
fn a_deferred_variable_crosses_once_for_a_hundred_readers() {
    let moved = Moved::new(2);
    let key = format!("s:{}", moved.ids[0]);
    assert_eq!(moved.b.client().call(&["HGET", &key, "now"]), Reply::text("at once"));
    assert_eq!((moved.fetched(), moved.sent()), (0, 0));

    let (barrier, address) = (Barrier::new(READERS), moved.b.state);
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let mut client = Client::to(address);
                barrier.wait();
                assert_eq!(client.call(&["HGET", &key, "late1"]), Reply::Bulk(late(&moved.ids[0], "late1")));
            });
        }
    });
    assert_eq!(moved.fetched(), 1, "once, over a hundred connections");
    let once = moved.sent();
    assert!((SIZE as u64..2 * SIZE as u64).contains(&once), "{once}");

    let mut client = moved.b.client();
    let one = encode(&["HGET", &key, "late2"]);
    client.send(&one.repeat(READERS)).unwrap();
    for _ in 0..READERS {
        assert_eq!(client.read().unwrap(), Reply::Bulk(late(&moved.ids[0], "late2")));
    }
    assert_eq!(moved.fetched(), 2, "once, over one connection");
    assert!(moved.sent() < 4 * SIZE as u64);

    // Through the origin, which has the value but not the right to answer.
    assert_eq!(moved.a.client().call(&["GET", &format!("k:{}", moved.ids[1])]), Reply::Bulk(late(&moved.ids[1], "blob")));
    assert_eq!(moved.fetched(), 3);
}

#[test]
fn what_is_overwritten_before_the_first_read_never_crosses() {
    let moved = Moved::new(2);
    let mut client = moved.b.client();
    for (n, id) in moved.ids.iter().enumerate() {
        assert_eq!(hset(&mut client, &format!("s:{id}"), "late1", b"new"), Reply::Int(0), "the field was there");
        assert_eq!(hset(&mut client, &format!("s:{id}"), "late2", &late(id, "newer")), Reply::Int(0));
        let write: &[&str] = if n == 0 { &["SET", "k", "new"] } else { &["SETEX", "k", "100", "new"] };
        let mut write = write.to_vec();
        let key = format!("k:{id}");
        write[1] = &key;
        assert_eq!(client.call(&write), Reply::ok());
    }
    for id in &moved.ids {
        assert_eq!(client.call(&["HGET", &format!("s:{id}"), "late1"]), Reply::text("new"));
        assert_eq!(client.call(&["HGET", &format!("s:{id}"), "late2"]), Reply::Bulk(late(id, "newer")));
        assert_eq!(client.call(&["GET", &format!("k:{id}")]), Reply::text("new"));
    }
    assert_eq!((moved.fetched(), moved.sent()), (0, 0));
    moved.a.wait_status("/residuals", 0);
    assert_eq!(moved.sent(), 0, "the residual ended without sending anything");
}

#[test]
fn what_the_manifest_knows_is_answered_from_it() {
    let moved = Moved::new(1);
    let (s, k) = (format!("s:{}", moved.ids[0]), format!("k:{}", moved.ids[0]));
    let mut client = moved.b.client();
    assert_eq!(client.call(&["HLEN", &s]), Reply::Int(3));
    assert_eq!(client.call(&["EXISTS", &s, &k]), Reply::Int(2));
    assert_eq!(client.call(&["HEXISTS", &s, "late1"]), Reply::Int(1));
    assert_eq!(client.call(&["TYPE", &k]), Reply::Simple("string".into()));
    assert_eq!(client.call(&["TTL", &k]), Reply::Int(-1));
    assert_eq!(client.call(&["EXPIRE", &k, "1000"]), Reply::Int(1));
    let Reply::Int(left) = client.call(&["TTL", &k]) else { panic!("no time to live") };
    assert!((990..=1000).contains(&left));
    assert_eq!(client.call(&["PERSIST", &k]), Reply::Int(1));
    let Reply::Array(mut names) = client.call(&["HKEYS", &s]) else { panic!("no names") };
    names.sort_by_key(|n| format!("{n:?}"));
    assert_eq!(names.len(), 3);
    assert_eq!(client.call(&["HSTRLEN", &s, "late1"]), Reply::Int(SIZE as i64));
    assert_eq!(client.call(&["STRLEN", &k]), Reply::Int(SIZE as i64));
    assert_eq!((moved.fetched(), moved.sent()), (0, 0));

    // What changes a value needs it first, and then only it.
    assert_eq!(client.call(&["APPEND", &k, "!"]), Reply::Int(SIZE as i64 + 1));
    assert_eq!(moved.fetched(), 1);
    let mut whole = late(&moved.ids[0], "blob");
    whole.push(b'!');
    assert_eq!(client.call(&["GETDEL", &k]), Reply::Bulk(whole));
}

#[test]
fn what_is_deleted_does_not_cross_and_does_not_come_back() {
    let moved = Moved::new(2);
    let mut client = moved.b.client();
    let (s, k) = (format!("s:{}", moved.ids[0]), format!("k:{}", moved.ids[0]));
    assert_eq!(client.call(&["HDEL", &s, "late1"]), Reply::Int(1));
    assert_eq!(client.call(&["DEL", &k]), Reply::Int(1));
    assert_eq!(client.call(&["HGET", &s, "late1"]), Reply::Nil);
    assert_eq!(client.call(&["GET", &k]), Reply::Nil);
    // The whole of the other one.
    let (s2, k2) = (format!("s:{}", moved.ids[1]), format!("k:{}", moved.ids[1]));
    assert_eq!(client.call(&["DEL", &s2, &k2]), Reply::Int(2));
    assert_eq!((moved.fetched(), moved.sent()), (0, 0));
    moved.a.wait_status("/residuals", 1);
    assert_eq!(client.call(&["HSET", &s2, "now", "again"]), Reply::Int(1));
    assert_eq!(client.call(&["HGETALL", &s2]), Reply::Array(vec![Reply::text("now"), Reply::text("again")]));

    assert_eq!(client.call(&["HGET", &s, "late2"]), Reply::Bulk(late(&moved.ids[0], "late2")));
    moved.a.wait_status("/residuals", 0);
    assert_eq!(moved.fetched(), 1);
    let mut at_a = moved.a.client();
    assert_eq!(at_a.call(&["HEXISTS", &s, "late1"]), Reply::Int(0));
    assert_eq!(at_a.call(&["EXISTS", &k, &k2]), Reply::Int(0));
}

#[test]
fn residuals_end_when_everything_has_been_fetched() {
    let moved = Moved::new(3);
    assert_eq!(moved.a.number("/residuals"), 3);
    assert!(moved.a.number("/residual_bytes") >= 9 * SIZE as u64);
    let mut client = moved.b.client();
    for (done, id) in moved.ids.iter().enumerate() {
        let got = client.call(&["HMGET", &format!("s:{id}"), "late1", "now", "late2", "none"]);
        let wanted = [Reply::Bulk(late(id, "late1")), Reply::text("at once"), Reply::Bulk(late(id, "late2")), Reply::Nil];
        assert_eq!(got, Reply::Array(wanted.into()));
        assert_eq!(moved.a.number("/residuals"), 3 - done as u64, "the blob is still there");
        assert_eq!(client.call(&["GET", &format!("k:{id}")]), Reply::Bulk(late(id, "blob")));
        moved.a.wait_status("/residuals", 2 - done as u64);
    }
    assert_eq!((moved.a.number("/residual_bytes"), moved.b.number("/missing_variables")), (0, 0));
    assert_eq!(moved.fetched(), 9);
}

#[test]
fn trickle_brings_everything_by_and_by() {
    let cluster = Cluster::new(KEYS).set(&["policy.class=deferred", "drain.settle_ms=0"]);
    let a = cluster.start("a", &[]);
    let mut client = a.client();
    for n in 0..10 {
        set(&mut client, &format!("k:t{n}"), &late("t", "blob"));
    }
    let b = cluster.start("b", &[]);
    assert_eq!(a.rebalance(), (5, 0));
    until("the trickle", || (b.number("/variables_fetched_late") == 5).then_some(()));
    a.wait_status("/residuals", 0);
    assert_eq!(b.number("/variables_fetched_on_access"), 0);
}

#[test]
fn a_request_at_the_http_face_starts_the_fetch_of_what_is_read_often() {
    let policy = "[[policy.variable]]\nname = \"*\"\nclass = \"deferred\"\n";
    let cluster = Cluster::new(KEYS).with(policy).set(&["handover.trickle=false", "drain.settle_ms=0"]);
    let a = cluster.start("a", &[]);
    let mut client = a.client();
    let value = filler("often", SIZE);
    let ids = ["one", "two"];
    for key in ids.map(|id| format!("s:{id}")) {
        for field in ["often", "seldom", "never"] {
            assert_eq!(hset(&mut client, &key, field, &value), Reply::Int(1));
        }
        for field in ["often", "often", "often", "seldom"] {
            assert_eq!(client.call(&["HGET", &key, field]), Reply::Bulk(value.clone()));
        }
    }
    let b = cluster.start("b", &[]);
    assert_eq!(a.rebalance(), (1, 0));
    let moved = ids.into_iter().find(|id| b.owns(id)).unwrap();
    assert_eq!((b.number("/missing_variables"), b.number("/variables_fetched_late")), (3, 0));
    // Nobody serves behind the face, and nobody asks the state face: what comes was fetched for the request.
    let cookie = format!("sid={moved}");
    assert_eq!(crate::harness::http::request(b.http, "GET", "/", &[("cookie", &cookie)]).unwrap().status, 502);
    until("the fetch", || (b.number("/variables_fetched_late") == 1).then_some(()));
    assert_eq!(b.number("/missing_variables"), 2);
    for field in ["often", "seldom", "never"] {
        assert_eq!(b.client().call(&["HGET", &format!("s:{moved}"), field]), Reply::Bulk(value.clone()));
    }
    assert_eq!(b.number("/variables_fetched_late"), 3);
}

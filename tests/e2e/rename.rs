//! RENAME and RENAMENX from one session to another: what a library does when a session gets a new id at login.

use crate::harness::redis_server::RedisServer;
use crate::harness::resp::{Client, Reply, encode};
use crate::harness::{Cluster, Node, until};
use crate::{KEYS, cluster, filler, hset, set};

/// Two members; sessions stay where they are unless something brings them elsewhere.
fn pair() -> (Cluster, Node, Node) {
    let mut cluster = cluster();
    cluster.set.push("handover.residence_ms_min=600000".into());
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    b.wait_members(2);
    (cluster, a, b)
}

fn no_such_key() -> Reply {
    Reply::Error("ERR no such key".into())
}

#[test]
fn a_session_gets_a_new_id_wherever_it_is() {
    let (_cluster, a, b) = pair();
    let (mut at_a, mut at_b) = (a.client(), b.client());
    hset(&mut at_a, "s:old", "cart", &filler("cart", 3000));
    assert_eq!(set(&mut at_a, "k:old", b"shadow"), Reply::ok());
    assert_eq!(at_a.say("PEXPIREAT s:old 4102444800000"), Reply::Int(1));
    // One key after the other, as libraries do it; the second command comes through the other member.
    assert_eq!(at_a.say("RENAME s:old s:new"), Reply::ok());
    assert_eq!((at_a.say("EXISTS s:old s:new k:old"), at_b.say("EXISTS s:old")), (Reply::Int(2), Reply::Int(0)));
    assert!(a.owns("old") && a.owns("new"));
    assert_eq!(at_b.say("RENAME k:old k:new"), Reply::ok());
    assert_eq!(at_b.say("PEXPIRETIME s:new"), Reply::Int(4_102_444_800_000));
    assert_eq!(at_b.say("HGET s:new cart"), Reply::Bulk(filler("cart", 3000)));
    assert_eq!((at_a.say("GET k:new"), at_a.say("TTL k:new")), (Reply::text("shadow"), Reply::Int(-1)));
    assert!(!a.owns("old") && !b.owns("old") && a.owns("new"), "the old session has ended with its last key");
    for client in [&mut at_a, &mut at_b] {
        assert_eq!((client.say("RENAME s:old s:new"), client.say("RENAMENX k:none s:new")), (no_such_key(), no_such_key()));
        assert_eq!(client.say("HLEN s:new"), Reply::Int(1));
    }
    assert_eq!(a.metric("wayfarer_keys_renamed_total") + b.metric("wayfarer_keys_renamed_total"), 2.0);
    assert_eq!((a.sessions(), b.sessions()), (1, 0));
    let mut three = b.client();
    three.say("HELLO 3");
    assert_eq!(three.say("RENAMENX s:new s:newer"), Reply::Int(1));
    assert_eq!(three.say("RENAME k:new s:newer"), Reply::ok());
    assert_eq!(three.say("GET s:newer"), Reply::text("shadow"));
}

#[test]
fn sessions_of_two_members_meet() {
    let (_cluster, a, b) = pair();
    let (mut at_a, mut at_b) = (a.client(), b.client());
    for (n, asked_at_a) in [(0, true), (1, false), (2, true), (3, false)] {
        let (one, other) = (format!("one{n}"), format!("other{n}"));
        hset(&mut at_a, &format!("s:{one}"), "cart", &filler("cart", 3000));
        hset(&mut at_b, &format!("s:{other}"), "old", b"value");
        set(&mut at_b, &format!("k:{other}"), b"stays");
        assert!(a.owns(&one) && b.owns(&other));
        // In both directions.
        let (from, to) = if n < 2 { (&one, &other) } else { (&other, &one) };
        let client = if asked_at_a { &mut at_a } else { &mut at_b };
        assert_eq!(client.say(&format!("RENAMENX s:{from} s:{to}")), Reply::Int(0));
        assert_eq!(client.say(&format!("RENAME s:{from} s:{to}")), Reply::ok());
        let expected = if n < 2 { ("cart", Reply::Bulk(filler("cart", 3000))) } else { ("old", Reply::text("value")) };
        for client in [&mut at_a, &mut at_b] {
            assert_eq!(client.say(&format!("EXISTS s:{from}")), Reply::Int(0));
            assert_eq!(client.say(&format!("HLEN s:{to}")), Reply::Int(1));
            assert_eq!(client.say(&format!("HGET s:{to} {}", expected.0)), expected.1);
            assert_eq!(client.say(&format!("GET k:{other}")), Reply::text("stays"));
        }
    }
}

#[test]
fn what_was_left_behind_is_fetched_first() {
    let policy = "[[policy.variable]]\nname = \"late*\"\nclass = \"deferred\"\n";
    let cluster = Cluster::new(KEYS).with(policy).set(&["handover.trickle=false", "drain.settle_ms=0"]);
    let a = cluster.start("a", &[]);
    let mut at_a = a.client();
    for field in ["late1", "late2"] {
        hset(&mut at_a, "s:id", field, &filler(field, 20_000));
    }
    set(&mut at_a, "k:other", b"x");
    let b = cluster.start("b", &[]);
    assert_eq!(a.rebalance(), (1, 0));
    let mut at_b = b.client();
    let (mover, name) = if b.owns("id") { (&mut at_b, "id") } else { panic!("the elder session is given first") };
    assert_eq!((name, b.number("/missing_variables")), ("id", 2));
    assert_eq!(mover.say("RENAME s:id s:login"), Reply::ok());
    assert_eq!(b.number("/missing_variables"), 0);
    for field in ["late1", "late2"] {
        assert_eq!(at_a.say(&format!("HGET s:login {field}")), Reply::Bulk(filler(field, 20_000)));
    }
    until("the end of the residual", || (a.number("/residuals") == 0).then_some(()));
}

#[test]
fn a_rename_keeps_the_order_of_its_connection() {
    let (_cluster, a, b) = pair();
    let (mut at_a, mut at_b) = (a.client(), b.client());
    for n in 0..20 {
        set(&mut at_a, &format!("k:p{n}"), b"v");
        let (old, new) = (format!("k:p{n}"), format!("k:q{n}"));
        let mut pipeline = Vec::new();
        for command in [
            &["APPEND", &old, "w"][..],
            &["RENAME", &old, &new],
            &["GET", &new],
            &["EXISTS", &old],
            &["APPEND", &new, "x"],
            &["RENAME", &new, &old],
            &["GET", &old],
        ] {
            pipeline.extend(encode(command));
        }
        at_b.send(&pipeline).unwrap();
        let replies: Vec<Reply> = (0..7).map(|_| at_b.read().unwrap()).collect();
        let expected =
            [Reply::Int(2), Reply::ok(), Reply::text("vw"), Reply::Int(0), Reply::Int(3), Reply::ok(), Reply::text("vwx")];
        assert_eq!(replies, expected);
    }
}

#[test]
fn watchers_of_either_key_see_it_and_a_transaction_over_both_is_refused() {
    let (_cluster, a, b) = pair();
    let (mut at_a, mut at_b) = (a.client(), b.client());
    set(&mut at_a, "k:w1", b"v");
    set(&mut at_a, "k:w2", b"old");
    for watched in ["k:w1", "k:w2"] {
        set(&mut at_a, "k:w1", b"v");
        assert_eq!(at_b.say(&format!("WATCH {watched}")), Reply::ok());
        assert_eq!(at_a.say("RENAME k:w1 k:w2"), Reply::ok());
        assert_eq!(at_b.say("MULTI"), Reply::ok());
        assert_eq!(at_b.say(&format!("SET {watched} mine")), Reply::Simple("QUEUED".into()));
        assert_eq!(at_b.say("EXEC"), Reply::Nil, "{watched}");
    }
    assert_eq!(at_b.say("MULTI"), Reply::ok());
    assert!(at_b.say("RENAME k:w2 k:w1").error().contains("session"));
    assert!(at_b.say("EXEC").error().starts_with("EXECABORT"));
    assert_eq!(at_b.say("GET k:w2"), Reply::text("v"));
}

#[test]
fn subscribers_hear_of_it_in_order() {
    let (_cluster, a, b) = pair();
    let (mut listener, mut at_a) = (a.client(), a.client());
    assert_eq!(at_a.say("CONFIG SET notify-keyspace-events KEA"), Reply::ok());
    listener.say("PSUBSCRIBE __keyevent@0__:rename*");
    set(&mut at_a, "k:e1", b"v");
    set(&mut b.client(), "k:e2", b"v");
    assert_eq!(at_a.say("RENAME k:e1 k:e2"), Reply::ok());
    let heard: Vec<Vec<String>> = (0..2).map(|_| listener.read().unwrap().texts()).collect();
    assert_eq!(heard[0][2..], ["__keyevent@0__:rename_from", "k:e1"]);
    assert_eq!(heard[1][2..], ["__keyevent@0__:rename_to", "k:e2"]);
}

/// A sequence of numbers that a seed gives.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What both are asked, with the reply of each.
fn same(client: &mut Client, redis: &mut Client, command: &str) -> Reply {
    let (ours, theirs) = (client.say(command), redis.say(command));
    assert_eq!(ours, theirs, "{command}");
    ours
}

#[test]
fn random_renames_are_answered_as_redis_answers_them_while_sessions_follow_their_clients() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let mut cluster = cluster();
    cluster.set.extend(["handover.residence_ms_min=0".into(), "handover.arrival_gap_ms=0".into()]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    b.wait_members(2);
    let (mut at_a, mut at_b, mut oracle) = (a.client(), b.client(), Client::to(redis.address()));
    let mut draw = Draw(0x5eed);
    let (mut renamed, ids) = (0, 6);
    for step in 0..1500 {
        let client = if draw.below(2) == 0 { &mut at_a } else { &mut at_b };
        let key = |draw: &mut Draw| format!("{}:r{}", ["s", "k"][draw.below(2) as usize], draw.below(ids));
        let (one, other) = (key(&mut draw), key(&mut draw));
        match draw.below(12) {
            0..=1 => same(client, &mut oracle, &format!("SET {one} v{step}")),
            2 => same(client, &mut oracle, &format!("SET {one} t{step} PXAT 4102444800{:03}", draw.below(1000))),
            3 => same(client, &mut oracle, &format!("HSET {one} f{} h{step}", draw.below(3))),
            4 => same(client, &mut oracle, &format!("RPUSH {one} e{step}")),
            5 => same(client, &mut oracle, &format!("DEL {one}")),
            6 => same(client, &mut oracle, &format!("RENAMENX {one} {other}")),
            _ => {
                let reply = same(client, &mut oracle, &format!("RENAME {one} {other}"));
                renamed += u64::from(reply == Reply::ok());
                reply
            }
        };
        for key in [&one, &other] {
            same(client, &mut oracle, &format!("PEXPIRETIME {key}"));
            let kind = same(client, &mut oracle, &format!("TYPE {key}"));
            let look = match kind {
                Reply::Simple(kind) if kind == "hash" => format!("HGETALL {key}"),
                Reply::Simple(kind) if kind == "list" => format!("LRANGE {key} 0 -1"),
                _ => format!("GET {key}"),
            };
            same(client, &mut oracle, &look);
        }
    }
    assert!(renamed > 300, "{renamed}");
    assert!(a.number("/handovers/given") + b.number("/handovers/given") > 50);
}

/// Nobody overwrites, so whatever is renamed by whom, and wherever sessions go meanwhile, the same values are there in the end, each
/// under one name.
#[test]
fn names_are_exchanged_by_many_while_sessions_move_and_no_value_is_lost_or_doubled() {
    const NAMES: u64 = 10;
    const VALUES: u64 = 5;
    let mut cluster = cluster();
    cluster.set.extend(["handover.residence_ms_min=0".into(), "handover.arrival_gap_ms=0".into()]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    a.wait_members(2);
    b.wait_members(2);
    for n in 0..VALUES {
        let client = if n % 2 == 0 { &mut a.client() } else { &mut b.client() };
        assert_eq!(set(client, &format!("k:x{n}"), format!("value{n}").as_bytes()), Reply::ok());
    }
    let renamed: u64 = std::thread::scope(|scope| {
        let renamers: Vec<_> = (0..6u64)
            .map(|thread| {
                let (mut client, mut draw) = (if thread % 2 == 0 { a.client() } else { b.client() }, Draw(thread));
                scope.spawn(move || {
                    let mut renamed = 0;
                    for _ in 0..150 {
                        let (from, to) = (draw.below(NAMES), draw.below(NAMES));
                        match client.say(&format!("RENAMENX k:x{from} k:x{to}")) {
                            Reply::Int(done) => renamed += u64::from(done == 1),
                            reply => assert!(reply == no_such_key() || reply.is_try_again(), "{reply:?}"),
                        }
                    }
                    renamed
                })
            })
            .collect();
        while renamers.iter().any(|renamer| !renamer.is_finished()) {
            a.rebalance();
            b.rebalance();
        }
        renamers.into_iter().map(|renamer| renamer.join().unwrap()).sum()
    });
    let mut client = a.client();
    let mut there: Vec<String> = (0..NAMES)
        .filter_map(|n| match client.say(&format!("GET k:x{n}")) {
            Reply::Bulk(value) => Some(String::from_utf8(value).unwrap()),
            reply => (reply != Reply::Nil).then(|| panic!("{reply:?}")),
        })
        .collect();
    there.sort();
    assert_eq!(there, (0..VALUES).map(|n| format!("value{n}")).collect::<Vec<_>>());
    assert!(renamed > 50, "{renamed}");
}

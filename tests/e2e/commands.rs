//! What a client asks of more than one key, wherever the session is: transactions, scripts, databases, and questions about all keys.

use crate::harness::resp::{Client, Reply};
use crate::harness::{Node, until};
use crate::{cluster, filler, hset};
use std::collections::BTreeSet;

fn array(replies: Vec<Reply>) -> Reply {
    Reply::Array(replies)
}

/// A session at a, used at b.
fn elsewhere() -> (crate::harness::Cluster, Node, Node) {
    let mut cluster = cluster();
    cluster.set.push("handover.residence_ms_min=600000".into());
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    hset(&mut a.client(), "s:far", "bag", &filler("bag", 5000));
    assert!(a.owns("far"));
    (cluster, a, b)
}

fn queue(client: &mut Client, commands: &[&str]) -> Reply {
    assert_eq!(client.say("MULTI"), Reply::ok());
    for command in commands {
        assert_eq!(client.say(command), Reply::Simple("QUEUED".into()), "{command}");
    }
    client.say("EXEC")
}

#[test]
fn a_transaction_runs_where_its_session_is() {
    let (_cluster, a, b) = elsewhere();
    let (mut at_a, mut at_b) = (a.client(), b.client());
    let done = queue(&mut at_b, &["HINCRBY s:far n 1", "SET k:far v", "HINCRBY s:far n 1", "GET k:far"]);
    assert_eq!(done, array(vec![Reply::Int(1), Reply::ok(), Reply::Int(2), Reply::text("v")]));
    assert_eq!((a.owns("far"), at_a.say("HGET s:far n")), (true, Reply::text("2")));
    // What was watched is compared at the owner, and goes along when the session moves.
    assert_eq!(at_b.say("WATCH s:far"), Reply::ok());
    assert_eq!(at_a.say("HINCRBY s:far n 1"), Reply::Int(3));
    assert_eq!(queue(&mut at_b, &["HSET s:far n 0"]), Reply::Nil);
    // A move alone changes nothing; and what was left behind is there when the transaction runs.
    assert_eq!(at_b.say("WATCH s:far k:far"), Reply::ok());
    a.ask_drain();
    until("the move", || b.owns("far").then_some(()));
    assert_eq!(queue(&mut at_b, &["HGET s:far bag"]), array(vec![Reply::Bulk(filler("bag", 5000))]));
}

#[test]
fn a_dead_life_of_an_id_is_not_its_next_one() {
    let cluster = cluster();
    let a = cluster.start("a", &[]);
    let (mut one, mut two) = (a.client(), a.client());
    assert_eq!(one.say("SET k:again v"), Reply::ok());
    assert_eq!(one.say("WATCH k:again"), Reply::ok());
    assert_eq!(two.say("DEL k:again"), Reply::Int(1));
    assert_eq!(two.say("SET k:again w"), Reply::ok());
    assert_eq!(queue(&mut one, &["SET k:again mine"]), Reply::Nil);
    assert_eq!(two.say("GET k:again"), Reply::text("w"));
}

#[test]
fn a_script_runs_where_its_session_is() {
    let (_cluster, a, b) = elsewhere();
    let mut at_b = b.client();
    let release = "if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end";
    assert_eq!(at_b.say("SET k:far token"), Reply::ok());
    assert_eq!(at_b.call(&["EVAL", release, "1", "k:far", "other"]), Reply::Int(0));
    assert_eq!(at_b.call(&["EVAL", release, "1", "k:far", "token"]), Reply::Int(1));
    assert_eq!(at_b.say("EXISTS k:far"), Reply::Int(0));
    let Reply::Bulk(digest) = at_b.call(&["SCRIPT", "LOAD", "return redis.call('hget',KEYS[1],'bag')"]) else { panic!() };
    assert_eq!(at_b.call(&[b"EVALSHA".as_slice(), &digest, b"1", b"s:far"]), Reply::Bulk(filler("bag", 5000)));
    assert!(a.client().call(&[b"EVALSHA".as_slice(), &digest, b"1", b"s:far"]).error().starts_with("NOSCRIPT"));
    // A lock of a session that does not exist.
    assert_eq!(at_b.call(&["EVAL", release, "1", "k:nobody", "x"]), Reply::Int(0));
    assert_eq!(at_b.call(&["EVAL", "return redis.call('set',KEYS[1],'born')", "1", "k:born"]), Reply::ok());
    assert_eq!(a.client().say("GET k:born"), Reply::text("born"));
}

#[test]
fn questions_about_all_keys_reach_every_member() {
    let (_cluster, a, b) = elsewhere();
    let (mut at_a, mut at_b) = (a.client(), b.client());
    let mut expected = BTreeSet::from(["s:far".to_owned()]);
    for n in 0..40 {
        let client = if n % 2 == 0 { &mut at_a } else { &mut at_b };
        assert_eq!(client.say(&format!("SET k:q{n} v")), Reply::ok());
        expected.insert(format!("k:q{n}"));
    }
    assert_eq!(at_b.say("SELECT 2"), Reply::ok());
    assert_eq!(at_b.say("SET k:q1 other"), Reply::ok());
    assert_eq!((at_b.say("DBSIZE"), at_b.say("KEYS *")), (Reply::Int(1), array(vec![Reply::text("k:q1")])));
    assert_eq!(at_b.say("SELECT 0"), Reply::ok());
    for client in [&mut at_a, &mut at_b] {
        assert_eq!(client.say("DBSIZE"), Reply::Int(41));
        assert_eq!(texts(client.say("KEYS *")), expected);
        assert_eq!(texts(client.say("KEYS k:q3?")), (30..40).map(|n| format!("k:q{n}")).collect());
        let (mut cursor, mut found) = ("0".to_owned(), BTreeSet::new());
        loop {
            let Reply::Array(mut both) = client.say(&format!("SCAN {cursor} MATCH *q* TYPE string COUNT 5")) else { panic!() };
            found.extend(texts(both.pop().unwrap()));
            let Some(Reply::Bulk(next)) = both.pop() else { panic!() };
            cursor = String::from_utf8(next).unwrap();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found.len(), 40);
    }
    assert!(at_a.say("FLUSHDB").error().contains("[state] flush"));
    assert_eq!(at_a.say("DBSIZE"), Reply::Int(41));
}

fn texts(reply: Reply) -> BTreeSet<String> {
    let Reply::Array(keys) = reply else { panic!("{reply:?}") };
    let text = |key| if let Reply::Bulk(key) = key { String::from_utf8(key).unwrap() } else { panic!() };
    keys.into_iter().map(text).collect()
}

#[test]
fn a_flush_that_is_allowed_ends_the_sessions_of_all_members() {
    let cluster = cluster().set(&["state.flush=true"]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    for n in 0..10 {
        assert_eq!(at_a.say(&format!("SET k:f{n} v")), Reply::ok());
        assert_eq!(at_b.say(&format!("HSET s:g{n} f v")), Reply::Int(1));
    }
    assert_eq!(at_a.say("FLUSHDB"), Reply::ok());
    assert_eq!((at_b.say("DBSIZE"), at_b.say("EXISTS k:f1 s:g1")), (Reply::Int(0), Reply::Int(0)));
    until("the records to go", || (a.sessions() + b.sessions() == 0).then_some(()));
}

/// The owner of one session hangs: the operations behind on the same connection run on all others.
#[test]
fn a_session_that_hangs_stalls_no_other_on_its_connection() {
    let mut cluster = cluster();
    cluster.set.extend(["state.park_ms_max=30000".into(), "state.operation_ms_max=60000".into()]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    hset(&mut a.client(), "s:hangs", "n", b"0");
    let mut shared = b.client();
    assert_eq!(shared.say("SET k:goes before"), Reply::ok());
    a.freeze();
    let mut pipeline = Vec::new();
    for command in
        ["HINCRBY s:hangs n 1", "SET k:goes on", "HINCRBY s:hangs n 1", "INCR k:count", "MULTI", "INCR k:count", "EXEC"]
    {
        pipeline.extend_from_slice(format!("{command}\r\n").as_bytes());
    }
    shared.send(&pipeline).unwrap();
    let mut other = b.client();
    until("the other sessions to go on", || (other.say("GET k:goes") == Reply::text("on")).then_some(()));
    until("and the transaction", || (other.say("GET k:count") == Reply::text("2")).then_some(()));
    a.signal(rustix::process::Signal::CONT);
    let replies: Vec<Reply> = (0..7).map(|_| shared.read().unwrap()).collect();
    let queued = Reply::Simple("QUEUED".into());
    let expected = [Reply::Int(1), Reply::ok(), Reply::Int(2), Reply::Int(1), Reply::ok(), queued, array(vec![Reply::Int(2)])];
    assert_eq!(replies, expected, "in order, each once");
}

//! Transactions, scripts and stamps on sessions whose values are partly elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::command::{Parsed, execute, execute_within, parse};
use crate::ids::{Epoch, HandoverId, Incarnation, Version};
use crate::session::{Class, Content, Layout, Remote, VariableId};

const NOW: u64 = 1_000_000;

fn single(database: u8, args: Vec<Bytes>) -> Option<Op> {
    match parse(args) {
        Parsed::Keyed(mut op) => {
            op.targets_mut().iter_mut().for_each(|t| t.key = in_database(database, &t.key));
            Some(op)
        }
        _ => None,
    }
}

fn op(command: &str) -> Op {
    single(0, command.split(' ').map(|w| Bytes::copy_from_slice(w.as_bytes())).collect()).unwrap()
}

fn run_op(session: &mut Session, op: &Op) -> (Executed, String) {
    let mut out = BytesMut::new();
    let executed = execute(session, op, NOW, Protocol::Resp2, &mut out);
    (executed, String::from_utf8_lossy(&out).replace("\r\n", " "))
}

fn stamp_of(session: &mut Session, key: &str) -> Bytes {
    stamp(session, &targets(&[Bytes::copy_from_slice(key.as_bytes())])[0], NOW)
}

fn transaction_of(commands: &[&str], watched: Vec<(Target, Bytes)>) -> Op {
    Op::transaction(commands.iter().map(|c| op(c)).collect(), watched)
}

/// `h` with fields a and b elsewhere, `s` elsewhere, `here` here.
fn remote() -> Session {
    let mut session = Session::new(Version(0));
    for command in ["HSET h a xxx b yyy", "SET s hello", "SET here 1"] {
        run_op(&mut session, &op(command));
    }
    let mut moved = Session::new(Version(9));
    for key in session.keys() {
        let mut key = key.clone();
        if *key.name != *b"here" {
            let ids: Vec<Bytes> = key.variables().map(|(n, _)| n.clone()).collect();
            for name in ids {
                let handover = HandoverId { origin: Incarnation(Epoch(1)), serial: 1 };
                let remote = Remote { handover, size: 3, digest: Digest::of(b""), class: Class::Deferred };
                key.fields.get_mut(&name).unwrap().content = Content::Elsewhere(Box::new(remote));
            }
        }
        moved.adopt(key);
    }
    moved
}

#[test]
fn a_transaction_runs_whole_or_not_at_all() {
    let mut session = remote();
    let before = session.clone();
    let both = transaction_of(&["SET here 2", "APPEND s x", "HGET h a", "HGET h b"], Vec::new());
    let (executed, reply) = run_op(&mut session, &both);
    let id = |key: &str, name: &str| VariableId {
        key: Bytes::copy_from_slice(key.as_bytes()),
        name: Bytes::copy_from_slice(name.as_bytes()),
    };
    assert_eq!(executed, Executed::Missing(Missing::Fetch(vec![id("h", "a"), id("h", "b"), id("s", "")])));
    assert_eq!((reply.as_str(), &session), ("", &before), "nothing has changed and nothing was said");
    for (key, name) in [("h", "a"), ("h", "b"), ("s", "")] {
        assert!(session.resolve(&id(key, name), Content::Here(Bytes::from_static(b"v"))));
    }
    let (executed, reply) = run_op(&mut session, &both);
    assert_eq!((executed, reply.as_str()), (Executed::Done { wrote: true }, "*4 +OK :2 $1 v $1 v "));
}

#[test]
fn an_overwrite_within_a_transaction_needs_no_fetch() {
    let mut session = remote();
    let (executed, reply) = run_op(&mut session, &transaction_of(&["SET s new", "GET s", "DEL h", "HGETALL h"], Vec::new()));
    assert_eq!((executed, reply.as_str()), (Executed::Done { wrote: true }, "*4 +OK $3 new :1 *0 "));
}

#[test]
fn an_error_within_a_transaction_does_not_stop_it() {
    let mut session = Session::new(Version(0));
    let (executed, reply) = run_op(&mut session, &transaction_of(&["SET s abc", "INCR s", "STRLEN s"], Vec::new()));
    assert_eq!(executed, Executed::Done { wrote: true });
    assert_eq!(reply, "*3 +OK -ERR value is not an integer or out of range :3 ");
}

#[test]
fn stamps_tell_what_has_changed() {
    let changes = ["SET s b", "SET s a", "EXPIRE s 10", "APPEND s x", "DEL s"];
    for change in changes {
        let mut session = Session::new(Version(0));
        run_op(&mut session, &op("SET s a"));
        let watched = vec![(targets(&[Bytes::from_static(b"s")])[0].clone(), stamp_of(&mut session, "s"))];
        let unchanged = run_op(&mut session, &transaction_of(&["GET s"], watched.clone()));
        assert_eq!(unchanged.1, "*1 $1 a ", "a read changes nothing");
        run_op(&mut session, &op(change));
        let (executed, reply) = run_op(&mut session, &transaction_of(&["SET s mine"], watched));
        assert_eq!((executed, reply.as_str()), (Executed::Done { wrote: false }, "*-1 "), "{change}");
    }
    let mut session = Session::new(Version(0));
    assert_eq!(stamp_of(&mut session, "none"), "");
    run_op(&mut session, &op("HSET h a 1 b 2"));
    let before = stamp_of(&mut session, "h");
    run_op(&mut session, &op("HDEL h b"));
    assert_ne!(stamp_of(&mut session, "h"), before);
}

#[test]
fn another_node_composes_the_same() {
    let original = transaction_of(&["SET s v", "HGET h a", "DEL x"], vec![(op("GET w").targets[0].clone(), "st".into())]);
    let again = compose(original.args().to_vec(), &single).unwrap();
    assert_eq!(again.args(), original.args());
    assert_eq!(again.targets(), original.targets());
    assert!(again.is_write() && again.creates() && again.commands().len() == 3);
    let stamps = Op::stamps(targets(&["a".into(), "b".into()]));
    assert_eq!(compose(stamps.args().to_vec(), &single).unwrap().targets(), stamps.targets());
    for bad in ["wayfarer:transaction", "wayfarer:transaction 1 a", "wayfarer:transaction x", "wayfarer:transaction 0 2 a"] {
        let args = bad.split(' ').map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
        assert!(compose(args, &single).is_none(), "{bad}");
    }
}

/// Calls its commands in turn and says how often it began.
struct Fixed(Vec<&'static str>, bool);

impl Script for Fixed {
    fn run(&self, calls: &mut Calls<'_>, protocol: Protocol, out: &mut BytesMut) -> bool {
        for command in &self.0 {
            let args = command.split(' ').map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
            if calls.call(args, protocol, out).is_err() {
                return false;
            }
        }
        self.1
    }
}

fn script_of(commands: &[&'static str], counts: bool, keys: &[&'static str]) -> Op {
    let keys: Vec<Bytes> = keys.iter().map(|k| Bytes::from_static(k.as_bytes())).collect();
    Op::script(vec!["EVAL".into()], targets(&keys), Arc::new(Fixed(commands.to_vec(), counts)))
}

#[test]
fn a_script_keeps_to_its_keys_and_to_all_or_nothing() {
    let mut session = remote();
    let before = session.clone();
    let (executed, _) = run_op(&mut session, &script_of(&["SET here 2"], true, &["here", "s"]));
    assert!(matches!(executed, Executed::Missing(Missing::Fetch(ids)) if ids.len() == 1));
    assert_eq!(session, before);
    let (executed, reply) =
        run_op(&mut session, &script_of(&["SET here 2", "GET s", "CLIENT ID", "SADD2 here x"], true, &["here"]));
    assert_eq!(executed, Executed::Done { wrote: true });
    assert!(reply.starts_with("+OK -ERR wayfarer: a script on a session may only use") && reply.contains("not allowed from"));
    assert!(reply.ends_with("-ERR Unknown Redis command called from script "), "{reply}");
    let (executed, _) = run_op(&mut session, &script_of(&["SET here 3"], false, &["here"]));
    assert_eq!(executed, Executed::Done { wrote: false });
    assert_eq!(run_op(&mut session, &op("GET here")).1, "$1 2 ", "a script that was stopped has done nothing");
}

#[test]
fn a_database_crosses_with_its_command() {
    let args = |command: &str| command.split(' ').map(|w| Bytes::copy_from_slice(w.as_bytes())).collect::<Vec<_>>();
    let set = single(3, args("SET k v")).unwrap();
    assert_eq!(set.crossing(), args("wayfarer:database 3 SET k v"));
    let both = Op::transaction(vec![set.clone(), single(0, args("GET k")).unwrap()], vec![(set.targets[0].clone(), "st".into())]);
    let again = compose(both.crossing(), &single).unwrap();
    assert_eq!((again.targets(), again.args()), (both.targets(), both.args()));
    assert_eq!(again.targets().len(), 2, "the same name in two databases is two keys");
    assert_eq!(database_of(&set.targets[0].key), (3, "k".into()));
    assert_eq!(compose(set.crossing(), &single).unwrap().targets(), set.targets());
    assert!(compose(args("wayfarer:database 3"), &single).is_none());
    let mut merged = set.clone();
    merged.merge_on("read".into());
    assert_eq!(merged.crossing(), args("wayfarer:merge read wayfarer:database 3 SET k v"));
    let again = compose(merged.crossing(), &single).unwrap();
    assert_eq!((again.targets(), again.args(), again.merges_on()), (set.targets(), set.args(), Some(&"read".into())));
    assert!(compose(args("wayfarer:merge read"), &single).is_none());
    assert_eq!(compose(args("wayfarer:merge read GET k"), &single).unwrap().merges_on(), None, "a read is as it is");
    let many = single(2, args("MGET a b c")).unwrap().part(&[0, 2]);
    assert_eq!((many.args().to_vec(), database_of(&many.targets()[1].key)), (args("MGET a c"), (2, "c".into())));
}

#[test]
fn calls_of_scripts_are_taken_apart_as_redis_does() {
    let call = |text: &str| {
        let args: Vec<Bytes> = text.split(' ').map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
        script_call(&args).map(|call| (call.keys.len(), call.rest.len()))
    };
    assert_eq!(call("EVAL s 1 k a b"), Ok((1, 2)));
    assert_eq!(call("EVAL s 0"), Ok((0, 0)));
    assert_eq!(call("EVAL s"), Err("ERR wrong number of arguments for 'eval' command".into()));
    assert_eq!(call("EVAL s 2 k"), Err("ERR Number of keys can't be greater than number of args".into()));
    assert_eq!(call("EVAL s -1 k"), Err("ERR Number of keys can't be negative".into()));
    assert_eq!(call("EVAL s x k"), Err("ERR value is not an integer or out of range".into()));
}

#[test]
fn the_replies_of_a_transaction_have_a_bound_and_beyond_it_nothing_is_done() {
    let mut session = Session::new(Version(0));
    let value = Bytes::from(vec![b'v'; 1 << 20]);
    session.write_string(b"s", Layout::Opaque, b"", value);
    let limits = Limits { value_bytes_max: 1 << 20, full: false };
    let mut run = |commands: &[&str]| {
        let before = session.clone();
        let mut out = BytesMut::new();
        let transaction = transaction_of(commands, Vec::new());
        let executed = execute_within(limits, &mut session, &transaction, NOW, Protocol::Resp2, &mut out);
        (executed, before == session, out.len(), out.starts_with(b"-ERR wayfarer: the replies"))
    };
    let mut commands = vec!["GET s"; 63];
    commands.extend(["SET t 1", "GET t"]);
    assert!(commands.len() > FEW);
    assert!(matches!(run(&commands), (Executed::Done { wrote: true }, false, 66_000_000.., false)), "within the bound");
    commands.extend(["SET t 2", "GET s"]);
    let (executed, same, bytes, refused) = run(&commands);
    assert_eq!((executed, same, refused), (Executed::Done { wrote: false }, true, true), "{bytes}");
}

//! Books of write-behind: what a batch holds, what its outcomes say of which key, and what must be written before it is acknowledged.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::command::{Executed, Op, Parsed, execute, parse};
use crate::plan::{OnLost, Rule, Treatment};
use crate::session::Class;
use crate::wire::resp::Protocol;
use bytes::BytesMut;

const EPOCH: Epoch = Epoch(7);

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// A session with a hash `s:1`, its fields 0 to 2, and a string `lock:1`, and books that say that the upstream has both.
fn written() -> (Session, RestCopy) {
    let mut session = Session::default();
    for field in ["f0", "f1", "f2"] {
        session.write_field(b"s:1", field.as_bytes(), b"old", 0);
    }
    session.write_string(b"lock:1", Layout::Opaque, b"", bytes("taken"));
    let books = session.keys().iter().map(|key| KeyCopy::of(key, session.last_version())).collect();
    (session, RestCopy::new(books))
}

fn take(books: &mut RestCopy, session: &Session, request: u64) -> Batch {
    match books.take(session, EPOCH, RequestId(request), 0, false) {
        Taken::Batch(batch) => batch,
        other => panic!("no batch: {other:?}"),
    }
}

fn names(batch: &Batch) -> Vec<&[u8]> {
    batch.keys.iter().map(|k| k.key.as_ref()).collect()
}

/// `lock:1` stands first in the books, and its removal last in the batch.
fn one_changed_and_one_removed() -> (Session, RestCopy, Batch) {
    let (mut session, mut books) = written();
    books.keys.reverse();
    session.write_field(b"s:1", b"f0", b"new", 0);
    session.remove(b"lock:1", 0);
    let batch = take(&mut books, &session, 1);
    assert_eq!(names(&batch), [b"s:1".as_ref(), b"lock:1".as_ref()]);
    (session, books, batch)
}

#[test]
fn the_deliberate_bug_loses_a_change() {
    bugs::switch(Some(Bug::OutcomesOfOtherKeys));
    let (session, mut books, _) = one_changed_and_one_removed();
    books.landed(RequestId(1), Some(&[Stored::Vanished, Stored::Written])).unwrap();
    bugs::switch(None);
    assert!(books.is_written(session.keys().first().unwrap()), "which it is not");
}

#[test]
fn each_outcome_is_booked_to_its_own_key() {
    for not_written in [Stored::Vanished, Stored::Foreign] {
        let (session, mut books, _) = one_changed_and_one_removed();
        let landed = books.landed(RequestId(1), Some(&[not_written, Stored::Written])).unwrap();
        assert!(!landed.written);
        let lock = books.keys().iter().find(|k| k.name == bytes("lock:1")).unwrap();
        assert!(lock.kind.is_none() && !lock.whole, "its removal was written");
        let again = take(&mut books, &session, 2);
        assert_eq!(names(&again), [b"s:1".as_ref()], "{not_written:?}: what was not written goes there again");
        assert!(matches!(&again.keys.first().unwrap().change, KeyChange::Whole(KeyContent::Hash(all)) if all.len() == 3));
        assert!(books.landed(RequestId(2), Some(&[Stored::Written])).unwrap().written);
        assert_eq!(books.take(&session, EPOCH, RequestId(3), 0, false), Taken::Clean);
    }
}

#[test]
fn a_refused_removal_is_sent_again_and_the_change_beside_it_is_not() {
    let (session, mut books, _) = one_changed_and_one_removed();
    let landed = books.landed(RequestId(1), Some(&[Stored::WrittenOver, Stored::Refused])).unwrap();
    assert_eq!((landed.written, landed.refused, landed.foreign), (false, true, 1));
    assert_eq!(names(&take(&mut books, &session, 2)), [b"lock:1".as_ref()]);
}

#[test]
fn an_unknown_outcome_makes_every_key_of_the_batch_go_whole() {
    let (session, mut books, _) = one_changed_and_one_removed();
    assert!(books.landed(RequestId(9), None).is_none(), "not the batch that is under way");
    assert!(books.landed(RequestId(1), None).unwrap().unknown);
    assert_eq!(names(&take(&mut books, &session, 2)), [b"s:1".as_ref(), b"lock:1".as_ref()]);
}

#[test]
fn a_change_during_a_flight_goes_with_the_next_batch() {
    let (mut session, mut books, _) = one_changed_and_one_removed();
    session.write_field(b"s:1", b"f1", b"newer", 0);
    assert_eq!(books.take(&session, EPOCH, RequestId(2), 0, false), Taken::InFlight);
    assert!(!books.is_written(session.keys().first().unwrap()));
    assert!(books.landed(RequestId(1), Some(&[Stored::Written, Stored::Written])).unwrap().written);
    let next = take(&mut books, &session, 2);
    let KeyChange::Fields { set, gone } = &next.keys.first().unwrap().change else { panic!("{next:?}") };
    assert_eq!((set.len(), gone.len()), (1, 0));
}

#[test]
fn an_end_removes_all_that_may_be_there() {
    let (session, mut books) = written();
    books.add(unknown(&bytes("s:2")));
    books.add(KeyCopy::absent(bytes("s:3")));
    let Taken::Batch(batch) = books.take(&session, EPOCH, RequestId(1), 0, true) else { panic!() };
    assert!(batch.keys.iter().all(|k| k.change == KeyChange::Gone));
    assert_eq!(names(&batch), [b"s:1".as_ref(), b"lock:1".as_ref(), b"s:2".as_ref()]);
}

/// `critical*` is critical, all else high.
fn policy() -> Policy {
    let treatment = |impact| Treatment { class: Class::Carried, impact, on_lost: OnLost::Error };
    let rules = vec![Rule { pattern: "critical*".into(), treatment: treatment(Impact::Critical) }];
    Policy { rules, default: treatment(Impact::High) }
}

fn op(command: &str) -> Op {
    match parse(command.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()) {
        Parsed::Keyed(op) => op,
        other => panic!("{command}: {other:?}"),
    }
}

fn run(session: &mut Session, command: &Op) {
    let ran = execute(session, command, 0, Protocol::Resp2, &mut BytesMut::new());
    assert_eq!(ran, Executed::Done { wrote: true }, "{:?}", command.args());
}

/// The impact of commands as one operation on what `at_rest` has made and the upstream has.
fn impact_of(at_rest: &[&str], commands: &str) -> Option<Impact> {
    let mut session = Session::default();
    at_rest.iter().for_each(|command| run(&mut session, &op(command)));
    let mut books = RestCopy::new(session.keys().iter().map(|key| KeyCopy::of(key, session.last_version())).collect());
    let mut ops: Vec<Op> = commands.split("; ").map(op).collect();
    let compound = ops.len() > 1;
    let op = if compound { Op::transaction(ops, Vec::new()) } else { ops.remove(0) };
    let keys = || op.targets().iter().map(|target| &target.key);
    let before = Before::of(&session, keys(), compound);
    run(&mut session, &op);
    books.changed(&session, before, keys(), &policy(), 5)
}

#[test]
fn a_critical_variable_that_goes_is_noticed_whatever_comes_in_its_place() {
    let a = "HSET a critical 1 b 2";
    let c = "HSET c x 1 y 2";
    for (at_rest, commands) in [
        (vec![a], "HDEL a critical"),
        (vec![a], "DEL a"),
        (vec![a], "SET a value"),
        (vec![a], "HDEL a critical; HSET a x 1"),
        (vec![a], "HSET a x 1; HDEL a critical"),
        (vec![a], "DEL a; HSET a x 1 y 2"),
        (vec![a], "DEL a; SADD a critical b"),
        (vec![a], "DEL a; RPUSH a critical b"),
        (vec![a, c], "COPY c a REPLACE"),
        (vec![a, c], "RENAME c a"),
        (vec![a, c], "RENAME a c"),
        (vec![a, c], "DEL a; HSET c z 1 u 1"),
        (vec!["SET critical 1"], "DEL critical; HSET critical x 1"),
    ] {
        let at_rest: Vec<&str> = at_rest.into_iter().collect();
        // The variable of a string has no name of its own here, so the last one is `high`.
        let expected = if commands.starts_with("DEL critical") { Impact::High } else { Impact::Critical };
        assert_eq!(impact_of(&at_rest, commands), Some(expected), "{commands}");
    }
}

#[test]
fn what_leaves_critical_variables_as_they_are_is_not_critical() {
    let a = "HSET a critical 1 b 2";
    for commands in ["HSET a b 3", "HDEL a b", "HDEL a b; HSET a c 1", "SADD s critical", "RPUSH l critical", "SET critical 1"] {
        assert_eq!(impact_of(&[a], commands), Some(Impact::High), "{commands}");
    }
    assert_eq!(impact_of(&["SADD s critical x"], "SREM s critical"), Some(Impact::High), "a member is no name");
    assert_eq!(impact_of(&[a], "PEXPIREAT a 1000000"), Some(Impact::Low));
}

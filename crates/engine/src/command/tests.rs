//! Commands on sessions whose values are partly elsewhere, and what a differential test cannot see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::ids::{Digest, Epoch, HandoverId, Incarnation, Version};
use crate::session::{Class, Content, Remote, VariableId};

const NOW: u64 = 1_000_000;

fn op(command: &str) -> Op {
    let args = command.split(' ').map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
    match parse(args) {
        Parsed::Keyed(mut op) => {
            op.targets_mut().iter_mut().for_each(|t| t.label = Bytes::from_static(b"value"));
            op
        }
        other => panic!("{command}: {other:?}"),
    }
}

fn run_at(session: &mut Session, command: &str, now: u64) -> String {
    let mut out = BytesMut::new();
    let executed = execute(session, &op(command), now, Protocol::Resp2, &mut out);
    let reply = String::from_utf8_lossy(&out).replace("\r\n", " ");
    match executed {
        Executed::Done { wrote: true } => format!("{reply}(wrote)"),
        Executed::Done { wrote: false } => reply.trim_end().to_string(),
        Executed::Missing(Missing::Lost) => "lost".to_string(),
        Executed::Missing(Missing::Fetch(ids)) => {
            assert!(out.is_empty(), "{command} answered although something is missing");
            let show = |id: &VariableId| format!("{}/{}", String::from_utf8_lossy(&id.key), String::from_utf8_lossy(&id.name));
            format!("fetch {}", ids.iter().map(show).collect::<Vec<_>>().join(" "))
        }
    }
}

/// Runs a script of `command → reply` lines on one session.
#[track_caller]
fn check_on(session: &mut Session, script: &str) {
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (command, expected) = line.split_once(" → ").unwrap_or_else(|| panic!("{line}"));
        assert_eq!(run_at(session, command, NOW), expected, "{command}");
    }
}

#[track_caller]
fn check(script: &str) {
    check_on(&mut Session::new(Version(0)), script);
}

/// Two keys whose values are elsewhere: `h` with fields a, b (3 bytes each) and `s` (5 bytes).
fn remote(content: impl Fn(u64) -> Content) -> Session {
    let mut session = Session::new(Version(0));
    for command in ["HSET h a xxx b yyy", "SET s hello EX 100", "SET here 1"] {
        run_at(&mut session, command, NOW);
    }
    let mut moved = Session::new(Version(9));
    for key in session.keys() {
        let mut key = key.clone();
        if key.name != "here" {
            let ids: Vec<Bytes> = key.variables().map(|(n, _)| n.clone()).collect();
            for name in ids {
                let variable = key.fields.get_mut(&name).unwrap();
                let Content::Here(value) = &variable.content else { panic!() };
                variable.content = content(value.len() as u64);
            }
        }
        moved.adopt(key);
    }
    moved
}

fn elsewhere(size: u64) -> Content {
    let handover = HandoverId { origin: Incarnation(Epoch(1)), serial: 1 };
    Content::Elsewhere(Box::new(Remote { handover, size, digest: Digest::of(b""), class: Class::Deferred }))
}

#[test]
fn writes_are_told_from_reads() {
    check(
        "GET a → $-1
        SET a 1 → +OK (wrote)
        SET a 2 NX → $-1
        SET b 2 XX → $-1
        SETNX a 1 → :0
        EXPIRE a 10 → :1 (wrote)
        EXPIRE a 10 NX → :0
        PERSIST a → :1 (wrote)
        PERSIST a → :0
        HSET a f v → -WRONGTYPE Operation against a key holding the wrong kind of value
        INCRBY a 5 → :6 (wrote)
        HSET h f v g w → :2 (wrote)
        HSETNX h f x → :0
        HDEL h x → :0
        HDEL h f g → :2 (wrote)
        EXISTS h a → :1
        DEL a x → :1 (wrote)
        DEL a → :0",
    );
}

#[test]
fn what_needs_no_value_fetches_nothing() {
    check_on(
        &mut remote(elsewhere),
        "EXISTS h s → :2
        TYPE h → +hash
        HLEN h → :2
        HKEYS h → *2 $1 a $1 b
        HEXISTS h a → :1
        HSTRLEN h a → :3
        STRLEN s → :5
        TTL s → :100
        EXPIRE s 50 → :1 (wrote)
        PERSIST h → :0
        GET here → $1 1
        HGET h zzz → $-1
        HSETNX h a 1 → :0
        SETNX s 1 → :0
        SET s 1 NX → $-1
        GET h → -WRONGTYPE Operation against a key holding the wrong kind of value
        HSET h a 1 → :0 (wrote)
        HGET h a → $1 1
        HDEL h b → :1 (wrote)
        HGETALL h → *2 $1 a $1 1
        SET s new KEEPTTL → +OK (wrote)
        GET s → $3 new
        TTL s → :50",
    );
    check_on(&mut remote(elsewhere), "DEL h s here → :3 (wrote)");
}

#[test]
fn what_needs_values_says_which_and_changes_nothing() {
    let before = remote(elsewhere);
    for (command, expected) in [
        ("GET s", "fetch s/value"),
        ("APPEND s x", "fetch s/value"),
        ("INCR s", "fetch s/value"),
        ("SET s 1 GET", "fetch s/value"),
        ("SET s 1 GET NX", "fetch s/value"),
        ("GETSET s 1", "fetch s/value"),
        ("GETDEL s", "fetch s/value"),
        ("GETEX s EX 5", "fetch s/value"),
        ("MGET here s h s", "fetch s/value"),
        ("HGET h b", "fetch h/b"),
        ("HMGET h b x b a", "fetch h/a h/b"),
        ("HGETALL h", "fetch h/a h/b"),
        ("HVALS h", "fetch h/a h/b"),
        ("HINCRBY h a 1", "fetch h/a"),
    ] {
        let mut session = before.clone();
        assert_eq!(run_at(&mut session, command, NOW), expected, "{command}");
        assert!(session == before, "{command} changed the session");
    }
}

#[test]
fn what_is_lost_is_said_and_an_overwrite_cures_it() {
    check_on(
        &mut remote(|_| Content::Lost),
        "GET s → lost
        STRLEN s → lost
        HMGET h a x → lost
        HSTRLEN h a → lost
        HGETALL h → lost
        EXISTS s h → :2
        HSET h a 1 → :0 (wrote)
        HGET h a → $1 1
        HSTRLEN h a → :1
        HGETALL h → lost
        SET s x → +OK (wrote)
        GET s → $1 x",
    );
}

#[test]
fn an_expired_key_needs_nothing_and_is_gone() {
    let mut session = remote(elsewhere);
    let later = NOW + 100_001;
    for (command, expected) in [
        ("GET s", "$-1"),
        ("STRLEN s", ":0"),
        ("EXISTS s", ":0"),
        ("TTL s", ":-2"),
        // The expired key is cleared away, which is a change although the reply says nothing was there.
        ("APPEND s x", ":1 (wrote)"),
        ("TTL s", ":-1"),
        ("DEL s", ":1 (wrote)"),
        ("DEL s", ":0"),
    ] {
        assert_eq!(run_at(&mut session, command, later), expected, "{command}");
    }
    assert_eq!(session.missing_count(), 2);
}

#[test]
fn the_last_key_leaves_an_empty_session() {
    for end in ["DEL a", "GETDEL a", "EXPIRE a -1", "PEXPIREAT a 1", "SET a 1 PXAT 1", "GETEX a EXAT 1"] {
        let mut session = Session::new(Version(0));
        run_at(&mut session, "SET a 1", NOW);
        assert!(run_at(&mut session, end, NOW).ends_with("(wrote)"), "{end}");
        assert!(session.is_empty(), "{end}");
    }
}

#[test]
fn what_may_create_is_known() {
    for (command, expected) in [
        ("SET a 1", true),
        ("SET a 1 NX GET", true),
        ("SET a 1 XX", false),
        ("SETNX a 1", true),
        ("INCR a", true),
        ("HSET a b c", true),
        ("APPEND a x", true),
        ("GETEX a", false),
        ("EXPIRE a 1", false),
        ("HDEL a b", false),
        ("MGET a b", false),
    ] {
        assert_eq!(op(command).creates(), expected, "{command}");
    }
}

#[test]
fn absence_is_answered_as_redis_would() {
    for (command, expected) in [
        ("GET a", "$-1\r\n"),
        ("HGETALL a", "*0\r\n"),
        ("DEL a b", ":0\r\n"),
        ("TTL a", ":-2\r\n"),
        ("MGET a b", "*2\r\n$-1\r\n$-1\r\n"),
    ] {
        let mut out = BytesMut::new();
        absent_reply(&op(command), NOW, Protocol::Resp2, &mut out);
        assert_eq!(out, expected.as_bytes(), "{command}");
    }
}

#[test]
fn parts_of_a_command_keep_their_keys() {
    let whole = op("DEL a b c");
    let part = whole.part(&[2, 0]);
    assert_eq!(part.args().iter().map(|a| a.as_ref()).collect::<Vec<_>>(), [&b"DEL"[..], b"c", b"a"]);
    assert_eq!(part.targets().len(), 2);
    assert_eq!(part.targets()[0].key, "c");
}

#[test]
fn wrong_arguments_still_name_their_keys() {
    for (command, keys, error) in [
        ("GET", "", "ERR wrong number of arguments for 'get' command"),
        ("GET a b", "a", "ERR wrong number of arguments for 'get' command"),
        ("SET a 1 FOO", "a", "ERR syntax error"),
        ("hset a b", "a", "ERR wrong number of arguments for 'hset' command"),
        ("SET a 1 EX 0", "a", "ERR invalid expire time in 'set' command"),
    ] {
        let args = command.split(' ').map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
        let Parsed::Refused(refused) = parse(args) else { panic!("{command}") };
        assert_eq!(refused.error, error, "{command}");
        assert_eq!(refused.keys.concat(), keys.as_bytes(), "{command}");
    }
}

#[test]
fn debug_output_shows_nothing_private() {
    let shown = format!("{:?} {:?}", op("SET secret-key secret-value"), op("DEL secret-key").targets());
    assert!(!shown.contains("secret"), "{shown}");
    let parsed = format!(
        "{:?} {:?} {:?}",
        parse(vec!["AUTH".into(), "secret".into()]),
        parse(vec!["SADD".into(), "secret".into()]),
        parse(vec!["GET".into(), "secret".into(), "secret".into()])
    );
    assert!(!parsed.contains("secret"), "{parsed}");
}

/// A SET of a JSON string by a writer that has read `read`.
fn merging(read: &'static str, command: &str) -> Op {
    let mut op = op(command);
    op.targets_mut().iter_mut().for_each(|t| t.layout = Layout::Json);
    op.merge_on(Bytes::from_static(read.as_bytes()));
    op
}

fn run_op(session: &mut Session, op: &Op) -> Executed {
    execute(session, op, NOW, Protocol::Resp2, &mut BytesMut::new())
}

#[test]
fn two_writers_of_one_read_both_survive() {
    let mut session = Session::new(Version(0));
    run_op(&mut session, &merging("", r#"SET s {"cart":1,"user":1}"#));
    let read = r#"{"cart":1,"user":1}"#;
    for command in [r#"SET s {"cart":2,"user":1} EX 60"#, r#"SETEX s 60 {"cart":1,"user":1,"seen":3}"#] {
        assert_eq!(run_op(&mut session, &merging(read, command)), Executed::Done { wrote: true });
    }
    assert_eq!(run_at(&mut session, "GET s", NOW), r#"$30 {"cart":2,"user":1,"seen":3}"#.replace("30", "28"));
    assert_eq!(run_at(&mut session, "TTL s", NOW), ":60", "the expiry is the later writer's");
    run_op(&mut session, &merging(read, "SET s nothing"));
    assert_eq!(run_at(&mut session, "GET s", NOW), "$7 nothing", "what cannot be merged replaces all");
    run_at(&mut session, "DEL s", NOW);
    run_op(&mut session, &merging(read, r#"SET s {"cart":3}"#));
    assert_eq!(run_at(&mut session, "GET s", NOW), r#"$10 {"cart":3}"#, "nothing is there to merge with");
}

#[test]
fn only_whole_writes_are_merged() {
    let merges = |command: &str| merging("{}", command).merges_on().is_some();
    assert!(merges("SET s 1") && merges("SET s 1 XX EX 5") && merges("PSETEX s 5000 1"));
    assert!(!merges("SET s 1 NX") && !merges("APPEND s 1") && !merges("GETSET s 1") && !merges("HSET s f 1"));
    assert!(op("GET s").reads_string() && op("GETEX s EX 5").reads_string() && !op("GETDEL s").reads_string());
}

#[test]
fn a_merge_fetches_what_it_weighs_and_cures_what_is_lost() {
    let elsewhere = |_| {
        Content::Elsewhere(Box::new(Remote {
            handover: HandoverId { origin: Incarnation(Epoch(1)), serial: 1 },
            size: 5,
            digest: Digest::of(b"hello"),
            class: Class::Deferred,
        }))
    };
    let mut session = remote(elsewhere);
    assert!(matches!(run_op(&mut session, &merging("{}", "SET s {}")), Executed::Missing(Missing::Fetch(_))));
    let mut session = remote(|_| Content::Lost);
    assert_eq!(run_op(&mut session, &merging("{}", "SET s {}")), Executed::Done { wrote: true });
    assert_eq!(run_at(&mut session, "GET s", NOW), "$2 {}");
}

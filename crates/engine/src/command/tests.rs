//! Commands on sessions whose values are partly elsewhere, and what a differential test cannot see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::ids::{Digest, Epoch, HandoverId, Incarnation, Version};
use crate::session::{Class, Content, Kind, Remote, VariableId};

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
        if *key.name != *b"here" {
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

/// A key of each kind with members; what can be too long for a manifest is elsewhere.
fn remote_members() -> Session {
    let mut session = Session::new(Version(0));
    for command in ["SADD t a b", "ZADD z 1 a 2 b", "RPUSH l aa bb cc dd", "RPUSH one x", "SET s 10"] {
        run_at(&mut session, command, NOW);
    }
    let mut moved = Session::new(Version(9));
    for key in session.keys() {
        let mut key = key.clone();
        if matches!(key.kind, Kind::List | Kind::String) {
            key.fields.iter_mut().for_each(|(_, v)| v.content = elsewhere(2));
        }
        moved.adopt(key);
    }
    moved
}

#[test]
fn members_and_scores_are_always_here_and_elements_are_fetched_one_by_one() {
    check_on(
        &mut remote_members(),
        "SMEMBERS t → *2 $1 a $1 b
        SADD t c → :1 (wrote)
        ZSCORE z b → $1 2
        ZINCRBY z 1 a → $1 2 (wrote)
        LLEN l → :4
        TYPE l → +list
        LPUSH l 0 → :5 (wrote)
        LINDEX l 0 → $1 0
        LSET l 1 A → +OK (wrote)
        LRANGE l 0 1 → *2 $1 0 $1 A
        LTRIM l 0 2 → +OK (wrote)
        RPUSHX l z → :4 (wrote)
        RPOP l → $1 z (wrote)
        LPOP l 2 → *2 $1 0 $1 A (wrote)
        OBJECT REFCOUNT l → :1
        MSET s 1 new 2 → +OK (wrote)
        GET s → $1 1
        RENAMENX one l → :0
        DEL l one → :2 (wrote)",
    );
    let before = remote_members();
    for (command, places) in [
        ("LRANGE l 1 2", 2),
        ("LRANGE l 0 -1", 4),
        ("LINDEX l -1", 1),
        ("LPOP l", 1),
        ("RPOP l 3", 3),
        ("LREM l 0 aa", 4),
        ("LPOS l aa", 4),
        ("LINSERT l BEFORE aa x", 4),
        ("LMOVE l t LEFT LEFT", 1),
        ("RPOPLPUSH l one", 1),
        ("RENAME l n", 4),
        ("COPY l n", 4),
        ("RENAMENX one n", 1),
        ("GETRANGE s 0 1", 1),
        ("SETRANGE s 0 x", 1),
        ("SETBIT s 0 1", 1),
        ("BITCOUNT s", 1),
        ("INCRBYFLOAT s 1", 1),
    ] {
        let mut session = before.clone();
        let fetched = run_at(&mut session, command, NOW);
        assert_eq!(fetched.strip_prefix("fetch ").map(|ids| ids.split(' ').count()), Some(places), "{command}: {fetched}");
        assert!(session == before, "{command} changed the session");
    }
}

#[test]
fn a_value_never_grows_beyond_the_limit() {
    let mut session = Session::new(Version(0));
    run_at(&mut session, "SADD t member", NOW);
    for (command, allowed) in [
        ("SETRANGE a 19 x", true),
        ("SETRANGE b 20 x", false),
        ("APPEND a x", false),
        ("SETBIT a 159 1", true),
        ("SETBIT a 160 1", false),
        ("INCRBYFLOAT f 1e30", false),
        ("HINCRBYFLOAT h f 1e30", false),
        ("SRANDMEMBER t -9223372036854775807", false),
        ("SRANDMEMBER t 9223372036854775807", true),
    ] {
        let mut out = BytesMut::new();
        execute_within(Limits { value_bytes_max: 20, full: false }, &mut session, &op(command), NOW, Protocol::Resp2, &mut out);
        assert_eq!(out.first() != Some(&b'-'), allowed, "{command}: {out:?}");
    }
    assert!(session.key(b"b", NOW).is_none());
}

#[test]
fn a_long_value_is_not_shown_more_often_than_a_reply_has_room() {
    let mut session = Session::new(Version(0));
    let megabyte = Bytes::from(vec![b'x'; 1 << 20]);
    session.write_string(b"s", crate::session::Layout::Opaque, b"", megabyte.clone());
    session.write_field(b"h", b"f", megabyte, NOW);
    for (command, names) in [("MGET", " s"), ("HMGET h", " f")] {
        assert!(run_at(&mut session, &format!("{command}{}", names.repeat(65)), NOW).starts_with("*65"));
        let refused = run_at(&mut session, &format!("{command}{}", names.repeat(513)), NOW);
        assert_eq!(refused, "-ERR wayfarer: the reply would be longer than a value may be");
    }
}

#[test]
fn every_change_gives_the_session_a_new_version() {
    let mut session = Session::new(Version(0));
    run_at(&mut session, "HSET h a 1 b 2", NOW);
    for command in ["HDEL h a", "EXPIRE h 100", "PERSIST h", "RENAME h g", "DEL g"] {
        let before = session.last_version();
        assert!(run_at(&mut session, command, NOW).ends_with("(wrote)"), "{command}");
        assert!(session.last_version() > before, "{command}");
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
        ("ZADD a 1 b", true),
        ("ZADD a XX 1 b", false),
        ("ZINCRBY a 1 b", true),
        ("LPUSH a b", true),
        ("LPUSHX a b", false),
        ("SADD a b", true),
        ("MSET a 1", true),
        ("SPOP a", false),
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
    let part = op("MSET a 1 b 2 c 3").part(&[2, 0]);
    assert_eq!(part.args().iter().map(|a| a.as_ref()).collect::<Vec<_>>(), [&b"MSET"[..], b"c", b"3", b"a", b"1"]);
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
        parse(vec!["GEOADD".into(), "secret".into()]),
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
    assert_eq!(op("SETEX s 5 new").replaces_string(), Some(&Bytes::from_static(b"new")));
    assert!(["EXPIRE s 5", "PTTL s", "EXISTS s", "TOUCH s", "STRLEN s", "TYPE s"].iter().all(|text| op(text).leaves_values()));
    assert!(!["GET s", "SET s 1", "APPEND s 1", "DEL s", "MGET s", "RENAME s t"].iter().any(|text| op(text).leaves_values()));
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

#[test]
fn a_long_list_comes_and_goes_in_one_command_each() {
    const ELEMENTS: usize = 100_000;
    let mut session = Session::default();
    let elements: Vec<String> = (0..ELEMENTS).map(|n| n.to_string()).collect();
    for (push, pop) in [("LPUSH", "LPOP"), ("LPUSH", "RPOP"), ("RPUSH", "LPOP")] {
        assert_eq!(run_at(&mut session, &format!("{push} l {}", elements.join(" ")), NOW), format!(":{ELEMENTS} (wrote)"));
        let popped = run_at(&mut session, &format!("{pop} l {ELEMENTS}"), NOW);
        let values: Vec<&str> = popped.split(' ').skip(2).step_by(2).take(ELEMENTS).collect();
        let first_in_first_out = push[..1] != pop[..1];
        assert!(if first_in_first_out { values.iter().eq(elements.iter()) } else { values.iter().eq(elements.iter().rev()) });
        assert!(session.is_empty());
    }
}

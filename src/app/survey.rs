//! Answers questions about the keys of all sessions: here, and from the other members through the control channel.
//!
//! It never changes a session but to end it when the operator's settings allow FLUSHDB. The state face asks
//! ([`crate::state_face::Survey`]); [`super::traffic`] brings the questions of other members.
//!
//! A question crosses as an operation on no session named [`NAME`]; a member of an older version answers with an error, and so
//! does the whole question then: a part of the keys is never shown as all of them.
//!
//! | cursor of SCAN | |
//! |---|---|
//! | upper bits | the member that goes on, in order of incarnation |
//! | lower 10 bits | the part of its sessions, by their hash |
//!
//! With sessions at rest the upstream shows what it has, and the members what it lacks.
//! A key that is there from the start of a scan to its end, on the same member, is shown; one that moves meanwhile may be shown
//! twice or not at all. Bounds: [`KEYS_MAX`], the patience of the control channel.

use crate::operations::Operations;
use crate::state_face::{Sessions, Survey};
use bytes::{Bytes, BytesMut};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use wayfarer_engine::command::compound::database_of;
use wayfarer_engine::command::glob;
use wayfarer_engine::command::{Op, Parsed, parse};
use wayfarer_engine::ids::{Epoch, Incarnation, SessionId};
use wayfarer_engine::session::Key;
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_engine::wire::resp::{Protocol, Reply, parse_integer};

/// The name of a question between members.
pub(super) const NAME: &[u8] = b"wayfarer:survey";
/// Keys that `KEYS` shows of one member.
const KEYS_MAX: usize = 100_000;
/// Parts of a scan of one member.
const PARTS: u64 = 1024;
/// A part of a scan has about so many sessions at least: each looks through the whole table.
const PART_MIN: usize = 1000;
const SILENT: &[u8] = b"-TRYAGAIN wayfarer: a member of the cluster does not answer\r\n";
const TOO_MANY: &[u8] = b"-ERR wayfarer: too many keys for KEYS; use SCAN\r\n";
const UPSTREAM: &[u8] = b"-TRYAGAIN wayfarer: the upstream does not answer, or has too many keys to count\r\n";
const UNFIT: &[u8] = b"-ERR wayfarer: the answers of the members do not fit together\r\n";

/// Its arguments between members. A scan's cursor is the part alone.
fn question(asked: &Survey) -> Op {
    let number = |n: u64| Bytes::from(n.to_string());
    let optional = |text: &Option<Bytes>| text.iter().cloned().collect::<Vec<_>>();
    let mut args = vec![Bytes::from_static(NAME)];
    match asked {
        Survey::Size { database } => args.extend([Bytes::from_static(b"size"), number(u64::from(*database))]),
        Survey::Keys { database, pattern } => {
            args.extend([Bytes::from_static(b"keys"), number(u64::from(*database)), pattern.clone()]);
        }
        Survey::Scan { database, cursor, count, pattern, kind } => {
            args.extend([Bytes::from_static(b"scan"), number(u64::from(*database)), number(*cursor), number(*count as u64)]);
            for of in [pattern, kind] {
                args.push(number(u64::from(of.is_some())));
                args.extend(optional(of));
            }
        }
        Survey::Flush { database } => {
            args.push(Bytes::from_static(b"flush"));
            args.extend(database.map(|database| number(u64::from(database))));
        }
    }
    Op::question(args)
}

/// The question of another member; `None`: this version does not know it.
pub(super) fn understand(arguments: &[Bytes]) -> Option<Survey> {
    let (kind, rest) = arguments.get(1..)?.split_first()?;
    let number = |at: usize| rest.get(at).and_then(|text| parse_integer(text)).and_then(|n| u64::try_from(n).ok());
    let database = || number(0).and_then(|n| u8::try_from(n).ok());
    match kind.as_ref() {
        b"size" => Some(Survey::Size { database: database()? }),
        b"keys" => Some(Survey::Keys { database: database()?, pattern: rest.get(1)?.clone() }),
        b"scan" => {
            let mut at = 3;
            let mut optional = || {
                let there = number(at)? == 1;
                at += if there { 2 } else { 1 };
                Some(if there { Some(rest.get(at - 1)?.clone()) } else { None })
            };
            let (pattern, kind) = (optional()?, optional()?);
            Some(Survey::Scan {
                database: database()?,
                cursor: number(1)?,
                count: usize::try_from(number(2)?).ok()?,
                pattern,
                kind,
            })
        }
        b"flush" => Some(Survey::Flush { database: database() }),
        _ => None,
    }
}

/// This member's own answer.
pub(super) async fn here(operations: Arc<Operations>, asked: Survey) -> Bytes {
    let mut out = BytesMut::new();
    let mut reply = Reply::new(&mut out, Protocol::Resp2);
    match asked {
        Survey::Size { database } => reply.count(names(&operations, |_| true, database, |_, _| true).len()),
        Survey::Keys { database, pattern } => {
            let keys = names(&operations, |_| true, database, |name, _| glob::matches(&pattern, name));
            if keys.len() > KEYS_MAX {
                return Bytes::from_static(TOO_MANY);
            }
            reply.array(keys.len());
            keys.iter().for_each(|key| reply.bulk(key));
        }
        Survey::Scan { database, cursor, count, pattern, kind } => {
            let sessions = operations.store().list(usize::MAX, |_, _| ()).len().max(1) as u64;
            let width = (count.max(PART_MIN) as u64).saturating_mul(PARTS).div_ceil(sessions).clamp(1, PARTS);
            let parts = cursor..cursor.saturating_add(width);
            let wanted = |name: &Bytes, key: &Key| {
                pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, name))
                    && kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case(type_name(key).as_bytes()))
            };
            let keys = names(&operations, |id| parts.contains(&part(id)), database, wanted);
            reply.array(2);
            let next = if parts.end >= PARTS { 0 } else { parts.end };
            reply.bulk(next.to_string().as_bytes());
            reply.array(keys.len());
            keys.iter().for_each(|key| reply.bulk(key));
        }
        Survey::Flush { database } => return flush(operations, database).await,
    }
    out.freeze()
}

fn part(session: &SessionId) -> u64 {
    // The same for the same id as long as this process lives, which is all that a cursor needs.
    let mut hasher = DefaultHasher::new();
    session.0.hash(&mut hasher);
    hasher.finish() % PARTS
}

/// The type as `TYPE` names it.
fn type_name(key: &Key) -> String {
    match format!("{:?}", key.kind).to_ascii_lowercase().as_str() {
        "sortedset" => "zset".to_owned(),
        other => other.to_owned(),
    }
}

/// The names of keys of one database in their sessions here, but for those that the upstream shows.
fn names(
    operations: &Operations,
    session: impl Fn(&SessionId) -> bool,
    database: u8,
    wanted: impl Fn(&Bytes, &Key) -> bool,
) -> Vec<Bytes> {
    let now = crate::driver::clock::now().unix_ms;
    let of = operations.store().list(usize::MAX, |id, resident| {
        let keys = if session(id) { resident.session.keys() } else { &[] };
        let at_rest = |key: &Key| resident.rest.as_ref().is_some_and(|rest| rest.has(&key.name));
        let named = keys.iter().filter(|key| !key.is_expired(now) && !at_rest(key)).filter_map(|key| {
            let (of, name) = database_of(&key.name);
            (of == database && wanted(&name, key)).then_some(name)
        });
        named.collect::<Vec<_>>()
    });
    of.into_iter().flatten().collect()
}

/// Deletes the keys of a database, session by session, each as a client would.
async fn flush(operations: Arc<Operations>, database: Option<u8>) -> Bytes {
    let sessions = operations.store().list(usize::MAX, |id, resident| {
        let of = |key: &&Key| database.is_none_or(|database| database_of(&key.name).0 == database);
        let mut keys: Vec<_> = resident.session.keys().iter().filter(of).map(|key| (key.name.clone(), key.layout)).collect();
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        (id.clone(), keys)
    });
    for (session, keys) in sessions {
        // One operation a database: what another node is told of has one.
        for of_database in keys.chunk_by(|a, b| database_of(&a.0).0 == database_of(&b.0).0) {
            let names = of_database.iter().map(|(key, _)| database_of(key).1);
            let Parsed::Keyed(mut op) = parse([Bytes::from_static(b"DEL")].into_iter().chain(names).collect()) else { continue };
            for (target, (key, layout)) in op.targets_mut().iter_mut().zip(of_database) {
                (target.key, target.layout) = (key.clone(), *layout);
            }
            let reply = operations.clone().slow(session.clone(), op, Protocol::Resp2).await;
            if reply.first() == Some(&b'-') {
                return reply;
            }
        }
    }
    Bytes::from_static(b"+OK\r\n")
}

/// The answer of the whole cluster.
pub(super) async fn everywhere(operations: Arc<Operations>, asked: Survey, protocol: Protocol) -> Bytes {
    let me = operations.driver().me();
    let standing = operations.driver().standing();
    let mut members: Vec<Incarnation> = {
        let view = standing.borrow().view.clone();
        view.others(me).map(|member| member.incarnation).chain([me]).collect()
    };
    members.sort_unstable();
    if let Survey::Scan { .. } = asked {
        return scan(&operations, &members, asked).await;
    }
    if let (Survey::Flush { database }, Some(rest)) = (&asked, operations.at_rest()) {
        // What members own is ended twice: what one of them has checked out after it was asked was at rest until then.
        if let Err(line) = ask_all(&operations, &members, &asked).await {
            return line;
        }
        if !rest.flush(*database).await {
            return Bytes::from_static(UPSTREAM);
        }
    }
    let answers = match ask_all(&operations, &members, &asked).await {
        Ok(answers) => answers,
        Err(line) => return line,
    };
    let mut out = BytesMut::new();
    let mut reply = Reply::new(&mut out, protocol);
    match asked {
        Survey::Size { database } => {
            // What follows is the upstream's own count, guards included.
            let guards = match operations.at_rest() {
                None => Some(0),
                Some(rest) => rest.count_guards(database).await.and_then(|guards| i64::try_from(guards).ok()),
            };
            let Some(guards) = guards else { return Bytes::from_static(UPSTREAM) };
            let numbers =
                answers.iter().map(|answer| answer.strip_prefix(b":").and_then(|n| parse_integer(n.strip_suffix(b"\r\n")?)));
            let Some(sum) = numbers.sum::<Option<i64>>() else { return Bytes::from_static(UNFIT) };
            reply.integer(sum.saturating_sub(guards));
        }
        Survey::Keys { .. } => {
            let all: Option<Vec<Vec<&[u8]>>> = answers.iter().map(|answer| elements(answer, KEYS_MAX)).collect();
            let Some(all) = all else { return Bytes::from_static(UNFIT) };
            reply.array(all.iter().map(Vec::len).sum());
            all.iter().flatten().for_each(|key| reply.raw(key));
        }
        Survey::Flush { .. } | Survey::Scan { .. } => reply.simple("OK"),
    }
    out.freeze()
}

/// The answers of these members, one after the other; the first error ends it.
async fn ask_all(operations: &Arc<Operations>, members: &[Incarnation], asked: &Survey) -> Result<Vec<Bytes>, Bytes> {
    let mut answers = Vec::with_capacity(members.len());
    for member in members {
        let answer = ask(operations, *member, asked.clone()).await.ok_or(Bytes::from_static(SILENT))?;
        if answer.first() == Some(&b'-') {
            return Err(answer);
        }
        answers.push(answer);
    }
    Ok(answers)
}

async fn ask(operations: &Arc<Operations>, member: Incarnation, asked: Survey) -> Option<Bytes> {
    if member == operations.driver().me() {
        return Some(here(operations.clone(), asked).await);
    }
    operations.ask(member, &question(&asked)).await
}

/// One part of a scan, at the member that the cursor names or the next one that is there.
async fn scan(operations: &Arc<Operations>, members: &[Incarnation], asked: Survey) -> Bytes {
    let Survey::Scan { database, cursor, count, pattern, kind } = asked else { return Bytes::from_static(UNFIT) };
    let from = Incarnation(Epoch(cursor / PARTS));
    let mut later = members.iter().copied().filter(|member| *member >= from);
    let empty = Bytes::from_static(b"*2\r\n$1\r\n0\r\n*0\r\n");
    let Some(member) = later.next() else { return empty };
    let part = if member == from { cursor % PARTS } else { 0 };
    let Some(answer) = ask(operations, member, Survey::Scan { database, cursor: part, count, pattern, kind }).await else {
        return Bytes::from_static(SILENT);
    };
    let Some([next, keys]) = elements(&answer, usize::MAX).and_then(|both| <[&[u8]; 2]>::try_from(both).ok()) else {
        return answer;
    };
    let next = next.split(|b| *b == b'\n').nth(1).and_then(|line| parse_integer(line.strip_suffix(b"\r")?));
    let next = match (next.and_then(|next| u64::try_from(next).ok()), later.next()) {
        (None, _) => return Bytes::from_static(UNFIT),
        (Some(0), None) => 0,
        (Some(0), Some(after)) => after.0.0.saturating_mul(PARTS),
        (Some(part), _) => member.0.0.saturating_mul(PARTS).saturating_add(part),
    };
    let mut out = BytesMut::new();
    let mut reply = Reply::new(&mut out, Protocol::Resp2);
    reply.array(2);
    reply.bulk(next.to_string().as_bytes());
    reply.raw(keys);
    out.freeze()
}

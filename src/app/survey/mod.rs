//! Answers questions about the keys of all sessions: here, and from the other members through the control channel.
//!
//! It never changes a session but to end it when the operator's settings allow FLUSHDB. The state face asks
//! ([`crate::state_face::Survey`]); [`super::traffic`] brings the questions of other members.
//!
//! A question crosses as an operation on no session ([`words`]); a member of an older version answers with an error, and so
//! does the whole question then: a part of the keys is never shown as all of them. [`everywhere`] asks all members.
//!
//! | cursor of SCAN | |
//! |---|---|
//! | upper bits | the member that goes on, in order of incarnation |
//! | lower 10 bits | the part of its sessions, by their hash |
//!
//! With sessions at rest the upstream shows what it has, and the members what it lacks.
//! A key that is there from the start of a scan to its end, on the same member, is shown; one that moves meanwhile may be shown
//! twice or not at all. Bounds: [`KEYS_MAX`], the patience of the control channel.

mod everywhere;
mod words;

pub(super) use everywhere::everywhere;
pub(super) use words::{NAME, Question, understand};

use crate::operations::Operations;
use crate::state_face::{Sessions, Survey};
use bytes::{Bytes, BytesMut};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use wayfarer_engine::command::compound::database_of;
use wayfarer_engine::command::glob;
use wayfarer_engine::command::{Parsed, parse};
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::session::Key;
use wayfarer_engine::wire::resp::{Protocol, Reply};

/// Keys that `KEYS` shows of one member.
const KEYS_MAX: usize = 100_000;
/// Parts of a scan of one member.
const PARTS: u64 = 1024;
/// A part of a scan has about so many sessions at least: each looks through the whole table.
const PART_MIN: usize = 1000;
const STOPPING: &[u8] = b"-TRYAGAIN wayfarer: this node is stopping\r\n";
const TOO_MANY: &[u8] = b"-ERR wayfarer: too many keys for KEYS; use SCAN\r\n";

/// This member's own answer.
pub(super) async fn here(operations: Arc<Operations>, asked: Question) -> Bytes {
    let mut out = BytesMut::new();
    let mut reply = Reply::new(&mut out, Protocol::Resp2);
    let asked = match asked {
        Question::Survey(asked) => asked,
        Question::Moves => {
            let Ok(node) = operations.driver().status().await else { return Bytes::from_static(STOPPING) };
            reply.array(2);
            reply.integer(i64::try_from(node.handovers_over).unwrap_or(i64::MAX));
            reply.count(node.handovers_out);
            return out.freeze();
        }
    };
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
            let (of, name) = database_of(&key.name.to_bytes());
            (of == database && wanted(&name, key)).then_some(name)
        });
        named.collect::<Vec<_>>()
    });
    of.into_iter().flatten().collect()
}

/// Deletes the keys of a database, session by session, each as a client would.
async fn flush(operations: Arc<Operations>, database: Option<u8>) -> Bytes {
    let sessions = operations.store().list(usize::MAX, |id, resident| {
        let of = |key: &&Key| database.is_none_or(|database| database_of(&key.name.to_bytes()).0 == database);
        let mut keys: Vec<_> = resident.session.keys().iter().filter(of).map(|key| (key.name.to_bytes(), key.layout)).collect();
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

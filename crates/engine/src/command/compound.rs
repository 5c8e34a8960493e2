//! Operations that are made of several commands and run as one: transactions, scripts, and the stamps that `WATCH` compares.
//!
//! It never runs half: while a value is missing, nothing has changed. It knows no script language (a [`Script`] does). The state
//! face composes; an owner composes again what another node forwarded.
//!
//! | operation | arguments that cross between nodes | reply |
//! |---|---|---|
//! | transaction | [`TRANSACTION`], count of watched keys, (key, stamp)*, (count of arguments, arguments)* | array, or null if a stamp differs |
//! | stamps | [`STAMPS`], key* | array of stamps |
//! | in another database | [`DATABASE`], its number, the arguments | the command's |
//! | a write to be merged | [`MERGE`], the value that its writer had read, the arguments (perhaps with their database) | the command's |
//! | script | as the client sent them, with the text in place of its digest | the script's |
//! | a rename to another session | the command | the command's |
//!
//! A *stamp* stands for all that a key is: type, expiry, and the version and count of writes of each variable. Versions are never
//! reused, and both travel with a session, so a stamp can be compared wherever the session is. A key that is absent at both
//! times has not changed, whatever was there in between.
//!
//! Invariant: *an operation either runs whole on values that are here, or changes nothing*; so what may meet a missing value, or
//! the bound of a reply, runs on a copy.

use super::events::Events;
pub use super::scripts::{Calls, Script, ScriptCall, Stop, script_call, targets};
use super::{Executed, Limits, Op, Target, errors, execute, execute_noting, scripts, table};
use crate::ids::{Digest, SessionId};
use crate::session::{Key, Missing, Session};
use crate::wire::resp::{Protocol, Reply, parse_integer};
use bytes::{Bytes, BytesMut};
use std::collections::HashSet;
use std::sync::Arc;

/// The name of a transaction between nodes; a client that sends it sends an unknown command.
pub const TRANSACTION: &[u8] = b"wayfarer:transaction";
/// The name of a question for stamps between nodes.
pub const STAMPS: &[u8] = b"wayfarer:stamps";
/// Before a command of another database than 0: its number, then the command.
pub const DATABASE: &[u8] = b"wayfarer:database";
/// Before a write that is to be merged: the value that its writer had read, then the command.
pub const MERGE: &[u8] = b"wayfarer:merge";
/// The first bytes of the names of keys of other databases within a session; the number follows.
const OF_DATABASE: &[u8] = b"\0db";
/// Commands of one transaction.
pub const TRANSACTION_COMMANDS_MAX: usize = 65_536;
/// So many commands behind the one that misses something are asked what they miss.
const LOOK_AHEAD: usize = 64;
/// A transaction of no more commands has no bound for its reply but those of its commands.
const FEW: usize = 64;
/// Bytes of the reply of any other transaction, if it is not a single value that may be longer.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A stamp is the first bytes of a digest; a key that is not there has an empty one.
const STAMP_BYTES: usize = 16;

/// What an operation is, for whoever performs it somewhere else.
#[derive(Clone, Copy)]
pub enum Form<'a> {
    /// Its arguments are a command.
    Single,
    /// Several commands as one.
    Transaction {
        /// Keys with the stamps that they must still have.
        watched: &'a [(Target, Bytes)],
        /// The commands.
        ops: &'a [Op],
    },
    /// The stamps of its keys.
    Stamps,
}

/// What an operation consists of, if it is more than one command.
#[derive(Clone)]
pub(super) enum Body {
    Transaction {
        watched: Vec<(Target, Bytes)>,
        ops: Vec<Op>,
    },
    Stamps,
    Script(Arc<dyn Script>),
    /// One command, whose second key is of this session.
    Across(SessionId),
}

impl Op {
    /// Several operations on one session as one. `watched`: keys of the same session with the stamps that they must still have.
    pub fn transaction(ops: Vec<Op>, watched: Vec<(Target, Bytes)>) -> Op {
        let mut args = vec![Bytes::from_static(TRANSACTION), Bytes::from(watched.len().to_string())];
        args.extend(watched.iter().flat_map(|(target, stamp)| [target.key.clone(), stamp.clone()]));
        for op in &ops {
            let crossing = op.crossing();
            args.push(Bytes::from(crossing.len().to_string()));
            args.extend(crossing);
        }
        let row = match (ops.iter().any(Op::creates), ops.iter().any(Op::is_write)) {
            (true, _) => &table::CREATING,
            (false, true) => &table::WRITING,
            (false, false) => &table::READING,
        };
        let named = watched.iter().map(|(target, _)| target).chain(ops.iter().flat_map(|op| &op.targets));
        let mut known = HashSet::new();
        let targets = named.filter(|target| known.insert(&target.key)).cloned().collect();
        Op::compound(row, args, targets, Body::Transaction { watched, ops })
    }

    /// Asks for the stamps of keys of one session.
    pub fn stamps(targets: Vec<Target>) -> Op {
        let args = [Bytes::from_static(STAMPS)].into_iter().chain(targets.iter().map(|t| t.key.clone())).collect();
        Op::compound(&table::READING, args, targets, Body::Stamps)
    }

    /// A script on keys of one session. `args` is an `EVAL` with its text, for the node that owns the session.
    pub fn script(args: Vec<Bytes>, targets: Vec<Target>, script: Arc<dyn Script>) -> Op {
        Op::compound(&table::CREATING, args, targets, Body::Script(script))
    }

    /// A question to another node that concerns no session: its answer is that node's, not this crate's.
    pub fn question(args: Vec<Bytes>) -> Op {
        Op::compound(&table::READING, args, Vec::new(), Body::Stamps)
    }

    /// Its arguments as they cross to another node.
    pub fn crossing(&self) -> Vec<Bytes> {
        let database = self.targets.first().map_or(0, |target| database_of(&target.key).0);
        let composed = matches!(self.body.as_deref(), Some(Body::Transaction { .. } | Body::Stamps));
        let mut before = Vec::new();
        if let Some(read) = self.merges_on() {
            before.extend([Bytes::from_static(MERGE), read.clone()]);
        }
        if database != 0 && !composed {
            before.extend([Bytes::from_static(DATABASE), Bytes::from(database.to_string())]);
        }
        before.extend_from_slice(&self.args);
        before
    }

    /// Whether it is a script or contains one: what it will do is not known before.
    pub fn is_script(&self) -> bool {
        match self.body.as_deref() {
            Some(Body::Script(_)) => true,
            Some(Body::Transaction { ops, .. }) => ops.iter().any(Op::is_script),
            Some(Body::Stamps | Body::Across(_)) | None => false,
        }
    }

    /// The same rename, whose second key is of session `to`. It runs on no session alone: [`crate::node::rename`].
    pub fn across(self, to: SessionId) -> Op {
        Op { body: Some(Arc::new(Body::Across(to))), ..self }
    }

    /// The session of its second key, if that is another one than that of its first.
    pub fn goes_to(&self) -> Option<&SessionId> {
        match self.body.as_deref() {
            Some(Body::Across(to)) => Some(to),
            _ => None,
        }
    }

    /// What it is.
    pub fn form(&self) -> Form<'_> {
        match self.body.as_deref() {
            Some(Body::Transaction { watched, ops }) => Form::Transaction { watched, ops },
            Some(Body::Stamps) => Form::Stamps,
            Some(Body::Script(_) | Body::Across(_)) | None => Form::Single,
        }
    }

    /// The commands of a transaction; of any other operation, itself.
    pub fn commands(&self) -> &[Op] {
        match self.body.as_deref() {
            Some(Body::Transaction { ops, .. }) => ops,
            _ => std::slice::from_ref(self),
        }
    }
}

/// Understands one command of a database.
pub type Single<'a> = &'a dyn Fn(u8, Vec<Bytes>) -> Option<Op>;

/// Composes what another node forwarded. `single` understands one command, with its keys filled in; `None` from it, or
/// arguments that are none of ours, make `None`.
pub fn compose(mut arguments: Vec<Bytes>, single: Single<'_>) -> Option<Op> {
    match arguments.first()?.as_ref() {
        TRANSACTION => {
            let mut rest = arguments.into_iter().skip(1);
            let watched = count(&rest.next()?)?;
            let mut stamps = Vec::with_capacity(watched.min(64));
            for _ in 0..watched {
                stamps.push((target(rest.next()?, single)?, rest.next()?));
            }
            let mut ops = Vec::new();
            while let Some(len) = rest.next() {
                let args: Vec<Bytes> = rest.by_ref().take(count(&len)?).collect();
                if args.is_empty() || ops.len() >= TRANSACTION_COMMANDS_MAX {
                    return None;
                }
                ops.push(one(args, single)?);
            }
            Some(Op::transaction(ops, stamps))
        }
        STAMPS => arguments.into_iter().skip(1).map(|key| target(key, single)).collect::<Option<_>>().map(Op::stamps),
        MERGE => {
            let command = if arguments.len() > 2 { arguments.split_off(2) } else { return None };
            let mut op = one(command, single)?;
            op.merge_on(arguments.pop()?);
            Some(op)
        }
        _ => one(arguments, single),
    }
}

/// One command, perhaps with its database before it.
fn one(mut arguments: Vec<Bytes>, single: Single<'_>) -> Option<Op> {
    if arguments.first()?.as_ref() != DATABASE {
        return single(0, arguments);
    }
    let command = if arguments.len() > 2 { arguments.split_off(2) } else { return None };
    single(u8::try_from(count(arguments.get(1)?)?).ok()?, command)
}

/// The name within its session of a key of a database.
pub fn in_database(database: u8, key: &Bytes) -> Bytes {
    if database == 0 { key.clone() } else { [OF_DATABASE, &[database], key].concat().into() }
}

/// The database of a key by its name within its session, and its name there.
pub fn database_of(name: &Bytes) -> (u8, Bytes) {
    match name.strip_prefix(OF_DATABASE).and_then(<[u8]>::split_first) {
        Some((database, key)) => (*database, name.slice_ref(key)),
        None => (0, name.clone()),
    }
}

/// A key as `single` understands it.
fn target(key: Bytes, single: Single<'_>) -> Option<Target> {
    let (database, key) = database_of(&key);
    single(database, vec![Bytes::from_static(b"EXISTS"), key])?.targets.first().cloned()
}

fn count(text: &[u8]) -> Option<usize> {
    parse_integer(text).and_then(|n| usize::try_from(n).ok())
}

pub(super) fn run(
    session: &mut Session,
    op: &Op,
    body: &Body,
    at: (Limits, u64, Protocol),
    out: &mut BytesMut,
    events: &mut Events,
) -> Executed {
    match body {
        Body::Transaction { watched, ops } => transaction(session, watched, ops, at, out, events),
        Body::Stamps => {
            let mut reply = Reply::new(out, at.2);
            reply.array(op.targets.len());
            op.targets.iter().for_each(|target| reply.bulk(&stamp(session, target, at.1)));
            Executed::Done { wrote: false }
        }
        // Whoever has both sessions performs it. For one that has nothing under the first name it is like any other.
        Body::Across(_) => {
            let there = op.targets.first().is_some_and(|target| session.key(&target.key, at.1).is_some());
            Reply::new(out, at.2).error(if there { errors::SEVERAL_SESSIONS } else { errors::NO_SUCH_KEY });
            Executed::Done { wrote: false }
        }
        Body::Script(script) => scripts::run(session, op, script.as_ref(), at, out, events),
    }
}

fn transaction(
    session: &mut Session,
    watched: &[(Target, Bytes)],
    ops: &[Op],
    (limits, unix_ms, protocol): (Limits, u64, Protocol),
    out: &mut BytesMut,
    events: &mut Events,
) -> Executed {
    if watched.iter().any(|(target, seen)| stamp(session, target, unix_ms) != *seen) {
        Reply::new(out, protocol).null_array();
        return Executed::Done { wrote: false };
    }
    let (before, mark) = (out.len(), events.mark());
    let bound = if ops.len() > FEW { before.saturating_add(limits.value_bytes_max.max(REPLY_BYTES_MAX)) } else { usize::MAX };
    let mut copy = (session.missing_count() > 0 || ops.len() > FEW).then(|| session.clone());
    let on = copy.as_mut().unwrap_or(session);
    Reply::new(out, protocol).array(ops.len());
    let mut wrote = false;
    for (at, op) in ops.iter().enumerate() {
        match execute_noting(limits, on, op, unix_ms, protocol, (&mut *out).into(), events) {
            Executed::Done { wrote: changed } => wrote |= changed,
            Executed::Missing(missing) => {
                out.truncate(before);
                events.undo(mark);
                return Executed::Missing(with_later(missing, session, ops.get(at..).unwrap_or_default(), unix_ms));
            }
        }
        if out.len() > bound {
            out.truncate(before);
            events.undo(mark);
            Reply::new(out, protocol).error(errors::TRANSACTION_REPLY_TOO_LONG);
            return Executed::Done { wrote: false };
        }
    }
    if let Some(copy) = copy {
        *session = copy;
    }
    Executed::Done { wrote }
}

/// What is missing, and what the later operations would fetch as things are, so that one fetch serves all.
fn with_later(missing: Missing, session: &Session, later: &[Op], unix_ms: u64) -> Missing {
    let Missing::Fetch(mut variables) = missing else { return missing };
    for op in later.iter().take(LOOK_AHEAD) {
        let lacks = if op.is_script() { scripts::missing_of_keys(session, op) } else { execute::missing(session, op, unix_ms) };
        if let Some(Missing::Fetch(more)) = lacks {
            variables.extend(more);
        }
    }
    variables.sort_unstable();
    variables.dedup();
    Missing::Fetch(variables)
}

/// See the head of this file.
fn stamp(session: &Session, target: &Target, unix_ms: u64) -> Bytes {
    let Some(key) = session.key(&target.key, unix_ms) else { return Bytes::new() };
    let mut text = BytesMut::new();
    describe(key, &mut text);
    let digest = Digest::of(&text);
    Bytes::copy_from_slice(digest.0.get(..STAMP_BYTES).unwrap_or(&digest.0))
}

fn describe(key: &Key, text: &mut BytesMut) {
    text.extend_from_slice(format!("{:?} {:?}", key.kind, key.expires_at_ms).as_bytes());
    for (name, variable) in key.variables() {
        text.extend_from_slice(&(name.len() as u64).to_le_bytes());
        text.extend_from_slice(name);
        text.extend_from_slice(&variable.version.0.to_le_bytes());
        text.extend_from_slice(&variable.access.writes.to_le_bytes());
    }
}

#[cfg(test)]
#[path = "compound_tests.rs"]
mod tests;

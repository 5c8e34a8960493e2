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
//! | script | as the client sent them, with the text in place of its digest | the script's |
//!
//! A *stamp* stands for all that a key is: type, expiry, and the version and count of writes of each variable. Versions are never
//! reused, and both travel with a session, so a stamp can be compared wherever the session is. A key that is absent at both
//! times has not changed, whatever was there in between.
//!
//! Invariant: *an operation either runs whole on values that are here, or changes nothing*; so what may meet a missing value runs
//! on a copy.

use super::{Executed, Limits, Op, Parsed, Target, errors, execute_within, parse, table};
use crate::ids::Digest;
use crate::session::{Key, Layout, Missing, Session};
use crate::wire::resp::{Protocol, Reply, parse_integer};
use bytes::{Bytes, BytesMut};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The name of a transaction between nodes; a client that sends it sends an unknown command.
pub const TRANSACTION: &[u8] = b"wayfarer:transaction";
/// The name of a question for stamps between nodes.
pub const STAMPS: &[u8] = b"wayfarer:stamps";
/// Before a command of another database than 0: its number, then the command.
pub const DATABASE: &[u8] = b"wayfarer:database";
/// The first bytes of the names of keys of other databases within a session; the number follows.
const OF_DATABASE: &[u8] = b"\0db";
/// Commands of one transaction.
pub const TRANSACTION_COMMANDS_MAX: usize = 65_536;
/// So many commands behind the one that misses something are asked what they miss.
const LOOK_AHEAD: usize = 64;
const ARITY_IN_SCRIPT: &[u8] = b"ERR Wrong number of args calling Redis command from script";
/// A stamp is the first bytes of a digest; a key that is not there has an empty one.
const STAMP_BYTES: usize = 16;

/// A program that calls commands on one session.
pub trait Script: Send + Sync {
    /// Runs to its end and appends one reply. False: it was stopped, and nothing that it did counts; the reply says why.
    fn run(&self, calls: &mut Calls<'_>, protocol: Protocol, out: &mut BytesMut) -> bool;
}

/// What an operation consists of, if it is more than one command.
#[derive(Clone)]
pub(super) enum Body {
    Transaction { watched: Vec<(Target, Bytes)>, ops: Vec<Op> },
    Stamps,
    Script(Arc<dyn Script>),
}

/// Why a call of a script has no reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Values must be fetched: the script ends at once and runs again from its start.
    Missing,
}

/// The commands that a script may call: those on its own keys.
pub struct Calls<'a> {
    session: &'a mut Session,
    /// By the names that the script says, which are its client's, whatever the database.
    targets: HashMap<Bytes, &'a Target>,
    limits: Limits,
    unix_ms: u64,
    wrote: bool,
    missing: Option<Missing>,
}

impl Calls<'_> {
    /// Runs one command and appends its reply in RESP2 or RESP3.
    pub fn call(&mut self, args: Vec<Bytes>, protocol: Protocol, out: &mut BytesMut) -> Result<(), Stop> {
        let mut reply = Reply::new(out, protocol);
        let mut op = match parse(args) {
            Parsed::Keyed(op) => op,
            Parsed::Refused(refused) => {
                let arity = refused.error.starts_with(b"ERR wrong number of arguments");
                let error = if arity { Bytes::from_static(ARITY_IN_SCRIPT) } else { refused.error };
                reply.error(error);
                return Ok(());
            }
            Parsed::Connection(_) => {
                reply.error("ERR This Redis command is not allowed from script");
                return Ok(());
            }
            Parsed::Foreign(_) => {
                reply.error("ERR Unknown Redis command called from script");
                return Ok(());
            }
        };
        for target in op.targets_mut() {
            let Some(known) = self.targets.get(&target.key) else {
                reply.error("ERR wayfarer: a script on a session may only use the keys that it was given as KEYS");
                return Ok(());
            };
            *target = Target::clone(known);
        }
        match execute_within(self.limits, self.session, &op, self.unix_ms, protocol, out) {
            Executed::Done { wrote } => {
                self.wrote |= wrote;
                Ok(())
            }
            Executed::Missing(missing) => {
                self.missing = Some(missing);
                Err(Stop::Missing)
            }
        }
    }

    /// The time that the whole script sees, in ms since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.unix_ms
    }
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
        if database == 0 || composed {
            return self.args.clone();
        }
        let before = [Bytes::from_static(DATABASE), Bytes::from(database.to_string())];
        before.into_iter().chain(self.args.iter().cloned()).collect()
    }

    /// Whether it is a script or contains one: what it will do is not known before.
    pub fn is_script(&self) -> bool {
        match self.body.as_deref() {
            Some(Body::Script(_)) => true,
            Some(Body::Transaction { ops, .. }) => ops.iter().any(Op::is_script),
            Some(Body::Stamps) | None => false,
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
pub fn compose(arguments: Vec<Bytes>, single: Single<'_>) -> Option<Op> {
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

pub(super) fn run(session: &mut Session, op: &Op, body: &Body, at: (Limits, u64, Protocol), out: &mut BytesMut) -> Executed {
    match body {
        Body::Transaction { watched, ops } => transaction(session, watched, ops, at, out),
        Body::Stamps => {
            let mut reply = Reply::new(out, at.2);
            reply.array(op.targets.len());
            op.targets.iter().for_each(|target| reply.bulk(&stamp(session, target, at.1)));
            Executed::Done { wrote: false }
        }
        Body::Script(script) => run_script(session, op, script.as_ref(), at, out),
    }
}

fn transaction(
    session: &mut Session,
    watched: &[(Target, Bytes)],
    ops: &[Op],
    (limits, unix_ms, protocol): (Limits, u64, Protocol),
    out: &mut BytesMut,
) -> Executed {
    if watched.iter().any(|(target, seen)| stamp(session, target, unix_ms) != *seen) {
        Reply::new(out, protocol).null_array();
        return Executed::Done { wrote: false };
    }
    let before = out.len();
    let mut copy = (session.missing_count() > 0).then(|| session.clone());
    let on = copy.as_mut().unwrap_or(session);
    Reply::new(out, protocol).array(ops.len());
    let mut wrote = false;
    for (at, op) in ops.iter().enumerate() {
        match execute_within(limits, on, op, unix_ms, protocol, out) {
            Executed::Done { wrote: changed } => wrote |= changed,
            Executed::Missing(missing) => {
                out.truncate(before);
                return Executed::Missing(with_later(missing, session, ops.get(at..).unwrap_or_default(), unix_ms));
            }
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
        let mut discarded = BytesMut::new();
        let executed = execute_within(Limits::default(), &mut session.clone(), op, unix_ms, Protocol::Resp2, &mut discarded);
        if let Executed::Missing(Missing::Fetch(more)) = executed {
            variables.extend(more);
        }
    }
    variables.sort_unstable();
    variables.dedup();
    Missing::Fetch(variables)
}

fn run_script(
    session: &mut Session,
    op: &Op,
    script: &dyn Script,
    (limits, unix_ms, protocol): (Limits, u64, Protocol),
    out: &mut BytesMut,
) -> Executed {
    if let Some(missing) = missing_of_keys(session, op) {
        return Executed::Missing(missing);
    }
    let before = out.len();
    // A script that is stopped leaves nothing behind.
    let mut copy = session.clone();
    let targets = op.targets.iter().map(|target| (database_of(&target.key).1, target)).collect();
    let mut calls = Calls { session: &mut copy, targets, limits, unix_ms, wrote: false, missing: None };
    let counts = script.run(&mut calls, protocol, out);
    let Calls { wrote, missing, .. } = calls;
    if let Some(missing) = missing {
        out.truncate(before);
        return Executed::Missing(missing);
    }
    if counts && wrote {
        *session = copy;
    }
    Executed::Done { wrote: counts && wrote }
}

/// All that is elsewhere of the keys that a script was given: it is fetched at once, before the script begins. What is lost is
/// not asked for: the script may overwrite it.
fn missing_of_keys(session: &Session, op: &Op) -> Option<Missing> {
    let mut fetch = Vec::new();
    for target in &op.targets {
        if let Some(Missing::Fetch(variables)) = session.missing_of(&target.key, None) {
            fetch.extend(variables);
        }
    }
    if fetch.is_empty() { None } else { Some(Missing::Fetch(fetch)) }
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

/// What `EVAL` and `EVALSHA` are given, as they came.
#[derive(Debug, PartialEq, Eq)]
pub struct ScriptCall {
    /// The text or its digest.
    pub script: Bytes,
    /// Its keys.
    pub keys: Vec<Bytes>,
    /// Its other arguments.
    pub rest: Vec<Bytes>,
}

/// Takes the arguments of `EVAL`, `EVALSHA` and their read-only forms apart; the error is Redis's.
pub fn script_call(args: &[Bytes]) -> Result<ScriptCall, Bytes> {
    let [_, script, numkeys, rest @ ..] = args else {
        let name = args.first().map(|n| String::from_utf8_lossy(n).to_ascii_lowercase()).unwrap_or_default();
        return Err(errors::arity(&name));
    };
    let count = parse_integer(numkeys).ok_or(errors::NOT_AN_INTEGER)?;
    let Ok(count) = usize::try_from(count) else { return Err("ERR Number of keys can't be negative".into()) };
    let Some((keys, rest)) = rest.split_at_checked(count) else {
        return Err("ERR Number of keys can't be greater than number of args".into());
    };
    Ok(ScriptCall { script: script.clone(), keys: keys.to_vec(), rest: rest.to_vec() })
}

/// Keys that are not filled in yet.
pub fn targets(keys: &[Bytes]) -> Vec<Target> {
    keys.iter().map(|key| Target { key: key.clone(), layout: Layout::Opaque, label: Bytes::new() }).collect()
}

#[cfg(test)]
#[path = "compound_tests.rs"]
mod tests;

//! A script as an operation on one session: what it is given, the commands that it may call, and that it leaves all or nothing.
//!
//! It knows no script language (a [`Script`] does) and never waits: a script that meets a missing value ends and runs again. Called
//! by [`super::compound`].
//!
//! | called within a script | answered |
//! |---|---|
//! | a command of the table on the keys that it was given | as on the session |
//! | TIME | one time for the whole script |
//! | PING, ECHO | as in Redis |
//! | anything else | an error |
//!
//! Invariant: a script runs on a copy of its session, which counts only if it was not stopped.

use super::compound::database_of;
use super::connection::ConnectionCommand;
use super::events::Events;
use super::{Executed, Limits, Op, Parsed, Target, errors, execute_noting, parse};
use crate::session::{Layout, Missing, Session};
use crate::wire::resp::{Protocol, Reply, parse_integer};
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;

const ARITY_IN_SCRIPT: &[u8] = b"ERR Wrong number of args calling Redis command from script";

/// A program that calls commands on one session.
pub trait Script: Send + Sync {
    /// Runs to its end and appends one reply. False: it was stopped, and nothing that it did counts; the reply says why.
    fn run(&self, calls: &mut Calls<'_>, protocol: Protocol, out: &mut BytesMut) -> bool;
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
    events: &'a mut Events,
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
            Parsed::Connection(command) => {
                about_nothing(&command, &mut reply);
                return Ok(());
            }
            Parsed::Foreign(foreign) if foreign.name == Some("time") => {
                self.time(&foreign.args, &mut reply);
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
        match execute_noting(self.limits, self.session, &op, self.unix_ms, protocol, out.into(), self.events) {
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

    /// `TIME`: one time for the whole script.
    fn time(&self, args: &[Bytes], reply: &mut Reply<'_>) {
        if args.len() != 1 {
            return reply.error(ARITY_IN_SCRIPT);
        }
        reply.array(2);
        reply.bulk((self.unix_ms / 1000).to_string().as_bytes());
        reply.bulk((self.unix_ms % 1000 * 1000).to_string().as_bytes());
    }
}

/// `PING` and `ECHO` within a script; it has no other commands about a connection.
fn about_nothing(command: &ConnectionCommand, reply: &mut Reply<'_>) {
    match (command.name(), command.args()) {
        ("ping", [_]) => reply.simple("PONG"),
        ("ping" | "echo", [_, text]) => reply.bulk(text),
        ("ping", _) => reply.error(errors::arity("ping")),
        ("echo", _) => reply.error(ARITY_IN_SCRIPT),
        _ => reply.error("ERR This Redis command is not allowed from script"),
    }
}

pub(super) fn run(
    session: &mut Session,
    op: &Op,
    script: &dyn Script,
    (limits, unix_ms, protocol): (Limits, u64, Protocol),
    out: &mut BytesMut,
    events: &mut Events,
) -> Executed {
    if let Some(missing) = missing_of_keys(session, op) {
        return Executed::Missing(missing);
    }
    let (before, mark) = (out.len(), events.mark());
    // A script that is stopped leaves nothing behind.
    let mut copy = session.clone();
    let targets = op.targets.iter().map(|target| (database_of(&target.key).1, target)).collect();
    let mut calls = Calls { session: &mut copy, targets, limits, unix_ms, wrote: false, missing: None, events: &mut *events };
    let counts = script.run(&mut calls, protocol, out);
    let Calls { wrote, missing, .. } = calls;
    if let Some(missing) = missing {
        out.truncate(before);
        events.undo(mark);
        return Executed::Missing(missing);
    }
    if !counts {
        events.undo(mark);
    }
    if counts && wrote {
        *session = copy;
    }
    Executed::Done { wrote: counts && wrote }
}

/// All that is elsewhere of the keys that a script was given: it is fetched at once, before the script begins. What is lost is
/// not asked for: the script may overwrite it.
pub(super) fn missing_of_keys(session: &Session, op: &Op) -> Option<Missing> {
    let mut fetch = Vec::new();
    for target in &op.targets {
        if let Some(Missing::Fetch(variables)) = session.missing_of(&target.key, None) {
            fetch.extend(variables);
        }
    }
    if fetch.is_empty() { None } else { Some(Missing::Fetch(fetch)) }
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

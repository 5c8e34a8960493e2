//! Where a command of a client goes in a cluster.
//!
//! It never looks at a node or at the map: it says what the command is about. [`super::front`] asks it for every command.
//!
//! | command | goes |
//! |---|---|
//! | with keys | to the master of the first key's slot, which says CROSSSLOT if others have another |
//! | DEL, UNLINK, EXISTS, TOUCH, MGET, MSET with keys of several slots | in parts, as with several sessions; MSET is not one step then |
//! | about all keys (DBSIZE, KEYS, FLUSHALL …), scripts and functions by their text, CONFIG SET | to every master |
//! | SCAN | to one master after the other; the cursor has its number |
//! | about the cluster (CLUSTER, READONLY, ASKING) | nowhere: the answer of a server that is none |
//! | about one server alone (SHUTDOWN, REPLICAOF …) | nowhere: refused |
//! | of a name that Redis 7 does not know, or whose keys only Redis can tell | where `COMMAND GETKEYS` of a node says |
//! | any other | to the first master: publishers and subscribers meet there |
//!
//! Invariant: where the place of the first key is not certain, a node is asked.

use crate::replies::Whole;
use bytes::Bytes;
use wayfarer_engine::command::{Foreign, Op, Parsed, Refused};
use wayfarer_engine::wire::resp::parse_integer;

use super::slots::slot_of;

/// Answers that no node gives.
const NO_CLUSTER: &str = "ERR This instance has cluster support disabled";
const ONE_SERVER: &str = "ERR wayfarer: the upstream is a Redis Cluster: this command is about one of its servers, say it there";

/// See the head of this file.
pub(super) enum Route {
    /// To the master of this slot.
    Slot(u16),
    /// In parts by the slots of its keys.
    Parts(Op),
    /// To the first master.
    Any,
    /// To every master.
    Every(Whole),
    /// To the master that the cursor names.
    Scan,
    /// Nowhere: this error.
    Refused(&'static str),
    /// Nowhere: its arguments are wrong.
    Wrong(Bytes),
    /// A node is asked for its keys.
    AskKeys,
    /// MULTI and its like.
    Transaction,
    /// SUBSCRIBE and its like.
    Channels,
    /// About the connection itself.
    Connection,
}

/// Where the first key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum First {
    At(usize),
    None,
    Unknown,
}

impl Route {
    /// Of a command, whose arguments are given back.
    pub(super) fn of(command: Parsed) -> (Route, Vec<Bytes>) {
        match command {
            Parsed::Connection(command) => {
                let is_ours = matches!(command.name(), "auth" | "hello" | "select");
                (if is_ours { Route::Connection } else { Route::Any }, command.args().to_vec())
            }
            Parsed::Keyed(op) => {
                let mut slots = op.targets().iter().map(|target| slot_of(&target.key));
                let first = slots.next();
                let is_one = slots.all(|slot| Some(slot) == first);
                let args = op.args().to_vec();
                match first {
                    Some(slot) if is_one || op.join().is_none() => (Route::Slot(slot), args),
                    Some(_) => (Route::Parts(op), args),
                    None => (Route::Any, args),
                }
            }
            Parsed::Refused(Refused { args, keys, error }) => {
                let slot = keys.first().map(|key| slot_of(key));
                let is_one = keys.iter().all(|key| Some(slot_of(key)) == slot);
                // A node would say CROSSSLOT, where one server says what is wrong.
                let route = if is_one { slot.map_or(Route::Any, Route::Slot) } else { Route::Wrong(error) };
                (route, args)
            }
            Parsed::Foreign(foreign) => (of_foreign(&foreign), foreign.args),
        }
    }
}

fn of_foreign(command: &Foreign) -> Route {
    let args = &command.args;
    let sub = |name: &str| args.get(1).is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let key = |at: usize| args.get(at).map_or(Route::Any, |key| Route::Slot(slot_of(key)));
    let Some(name) = command.name else { return Route::AskKeys };
    match name {
        "multi" | "exec" | "discard" | "watch" | "unwatch" => Route::Transaction,
        "subscribe" | "psubscribe" | "ssubscribe" | "unsubscribe" | "punsubscribe" | "sunsubscribe" | "monitor" => {
            Route::Channels
        }
        "cluster" | "readonly" | "readwrite" | "asking" => Route::Refused(NO_CLUSTER),
        "shutdown" | "failover" | "replicaof" | "slaveof" | "module" | "swapdb" => Route::Refused(ONE_SERVER),
        "dbsize" => Route::Every(Whole::Sum),
        "keys" => Route::Every(Whole::Concat(None)),
        "flushall" | "flushdb" => Route::Every(Whole::Done),
        "randomkey" => Route::Every(Whole::First),
        "wait" => Route::Every(Whole::Least),
        "scan" => Route::Scan,
        "spublish" => key(1),
        "config" if !sub("get") && !sub("help") => Route::Every(Whole::Done),
        "script" if sub("flush") => Route::Every(Whole::Done),
        "script" if sub("load") => Route::Every(Whole::Last),
        "script" if sub("exists") => Route::Every(Whole::Least),
        "function" if ["load", "delete", "flush", "restore"].into_iter().any(sub) => Route::Every(Whole::Last),
        _ => match first_key(name, args) {
            First::At(at) => key(at),
            First::None if command.keys.is_empty() || is_moving(name) => Route::Any,
            First::None => command.keys.first().map_or(Route::Any, |key| Route::Slot(slot_of(key))),
            First::Unknown => Route::AskKeys,
        },
    }
}

/// Whether the table of commands does not say where its keys are.
fn is_moving(name: &str) -> bool {
    first_key(name, &[]) != First::None || counted(name).is_some() || matches!(name, "memory" | "debug" | "xread" | "xreadgroup")
}

/// The place of the number of keys, behind which they stand.
fn counted(name: &str) -> Option<usize> {
    match name {
        "eval" | "eval_ro" | "evalsha" | "evalsha_ro" | "fcall" | "fcall_ro" | "blmpop" | "bzmpop" => Some(2),
        "lmpop" | "zmpop" | "sintercard" | "zdiff" | "zinter" | "zintercard" | "zunion" => Some(1),
        _ => None,
    }
}

/// The first key of a command whose keys depend on its other arguments.
fn first_key(name: &str, args: &[Bytes]) -> First {
    if let Some(at) = counted(name) {
        let count = args.get(at).and_then(|count| parse_integer(count)).unwrap_or(0);
        return if count > 0 { First::At(at + 1) } else { First::None };
    }
    let is = |at: usize, word: &str| args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
    match name {
        "zdiffstore" | "zinterstore" | "zunionstore" | "georadius" | "georadiusbymember" | "sort" | "sort_ro" => First::At(1),
        "xgroup" | "xinfo" => First::At(2),
        "memory" if is(1, "usage") => First::At(2),
        "debug" if is(1, "object") => First::At(2),
        "xread" | "xreadgroup" => {
            let streams = args.iter().position(|arg| arg.eq_ignore_ascii_case(b"streams"));
            streams.map_or(First::None, |at| First::At(at + 1))
        }
        "migrate" => First::Unknown,
        _ => First::None,
    }
}

/// Whether a command may wait for what other clients do.
pub fn is_blocking(args: &[Bytes]) -> bool {
    const ALWAYS: [&str; 10] =
        ["blpop", "brpop", "blmove", "brpoplpush", "blmpop", "bzpopmin", "bzpopmax", "bzmpop", "wait", "waitaof"];
    let [name, rest @ ..] = args else { return false };
    let is = |word: &&str| name.eq_ignore_ascii_case(word.as_bytes());
    ALWAYS.iter().any(is)
        || (["xread", "xreadgroup"].iter().any(is) && rest.iter().any(|option| option.eq_ignore_ascii_case(b"block")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(command: &str, expected: &str) {
        let args: Vec<Bytes> = command.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let (route, given_back) = Route::of(wayfarer_engine::command::parse(args.clone()));
        assert_eq!(given_back, args);
        let said = match route {
            Route::Slot(slot) => {
                args.iter().skip(1).find(|arg| slot_of(arg) == slot).map_or("?".into(), |k| format!("key {k:?}"))
            }
            Route::Parts(_) => "parts".into(),
            Route::Any => "any".into(),
            Route::Every(whole) => format!("{whole:?}"),
            Route::Scan => "scan".into(),
            Route::Refused(_) => "refused".into(),
            Route::Wrong(_) => "wrong".into(),
            Route::AskKeys => "ask".into(),
            Route::Transaction => "transaction".into(),
            Route::Channels => "channels".into(),
            Route::Connection => "connection".into(),
        };
        assert_eq!(said.replace("b\"", "").replace('"', ""), expected, "{command}");
    }

    #[test]
    fn a_command_goes_where_its_first_key_is() {
        for (command, expected) in [
            ("GET a", "key a"),
            ("GET", "any"),
            ("SET a 1 NONSENSE", "key a"),
            ("RENAME a b", "key a"),
            ("DEL a b", "parts"),
            ("DEL {x}a {x}b", "key {x}a"),
            ("MSET a 1 b 2", "parts"),
            ("MSET a 1 b", "wrong"),
            ("MSETNX a 1 b 2", "key a"),
            ("BITOP AND d a b", "key d"),
            ("BLPOP a b 0", "key a"),
            ("PFMERGE a b", "key a"),
            ("EVAL s 2 a b c", "key a"),
            ("EVALSHA s 0 a", "any"),
            ("EVAL s", "any"),
            ("BLMPOP 0 1 a LEFT", "key a"),
            ("LMPOP 2 a b LEFT", "key a"),
            ("ZUNIONSTORE d 2 a b", "key d"),
            ("SORT a BY x", "key a"),
            ("XINFO STREAM a", "key a"),
            ("XREAD COUNT 1 STREAMS a 0", "key a"),
            ("XREAD COUNT 1", "any"),
            ("MEMORY USAGE a", "key a"),
            ("MEMORY DOCTOR", "any"),
            ("OBJECT ENCODING a", "key a"),
            ("MIGRATE h 1 a 0 1", "ask"),
            ("JSON.GET a", "ask"),
            ("PUBLISH c m", "any"),
            ("SPUBLISH c m", "key c"),
            ("TIME", "any"),
            ("PING", "any"),
            ("HELLO 3", "connection"),
            ("CONFIG GET x", "any"),
            ("CONFIG SET a b", "Done"),
            ("DBSIZE", "Sum"),
            ("SCRIPT EXISTS a", "Least"),
            ("SCRIPT LOAD a", "Last"),
            ("SCAN 0", "scan"),
            ("CLUSTER INFO", "refused"),
            ("WATCH a", "transaction"),
            ("SSUBSCRIBE a", "channels"),
        ] {
            check(command, expected);
        }
    }
}

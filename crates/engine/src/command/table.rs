//! The commands that are executed on sessions: one row each.
//!
//! It never executes. [`super::parse`] looks a name up; `COMMAND` lists the rows.
//!
//! Arity as Redis counts it: with the name; negative means at least. Invariant: sorted by name, so that a look-up halves.

use super::action::Action as A;
use super::action::{self, Action};
use bytes::Bytes;

/// Where the keys are among the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keys {
    /// The first argument.
    First,
    /// Every argument.
    All,
}

impl Keys {
    /// The keys of `args`, whose first is the name.
    pub fn of(self, args: &[Bytes]) -> &[Bytes] {
        let rest = args.get(1..).unwrap_or_default();
        match self {
            Keys::First => rest.get(..1).unwrap_or_default(),
            Keys::All => rest,
        }
    }
}

/// How the replies of the parts of a command on several sessions make one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Join {
    /// Integers are added.
    Sum,
    /// Elements stand in the order of the keys.
    Array,
}

/// One command.
#[derive(Debug)]
pub struct Row {
    /// Lower case.
    pub name: &'static str,
    /// See the head of this file.
    pub arity: i16,
    /// Where its keys are.
    pub keys: Keys,
    /// Whether it may change something.
    pub write: bool,
    /// Whether it may create a key, options permitting.
    pub may_create: bool,
    /// How it spreads over sessions.
    pub join: Option<Join>,
    pub(crate) build: fn(&[Bytes]) -> Result<Action, Bytes>,
}

impl Row {
    /// Whether a command of `count` arguments, the name included, fits.
    pub fn arity_fits(&self, count: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= wanted } else { count == wanted }
    }
}

type Build = fn(&[Bytes]) -> Result<Action, Bytes>;

const fn read(name: &'static str, arity: i16, build: Build) -> Row {
    Row { name, arity, keys: Keys::First, write: false, may_create: false, join: None, build }
}

const fn write(name: &'static str, arity: i16, build: Build) -> Row {
    Row { write: true, ..read(name, arity, build) }
}

const fn create(name: &'static str, arity: i16, build: Build) -> Row {
    Row { may_create: true, ..write(name, arity, build) }
}

const fn many(name: &'static str, is_write: bool, join: Join, build: Build) -> Row {
    Row { keys: Keys::All, write: is_write, join: Some(join), ..read(name, -2, build) }
}

/// All rows, by name.
pub static ROWS: [Row; 42] = [
    create("append", 3, |_| Ok(A::Append)),
    create("decr", 2, |_| Ok(A::IncrementBy(-1))),
    create("decrby", 3, action::decrby),
    many("del", true, Join::Sum, |_| Ok(A::Delete)),
    many("exists", false, Join::Sum, |_| Ok(A::Count)),
    write("expire", -3, |args| action::expire(args, action::SECONDS)),
    write("expireat", -3, |args| action::expire(args, action::SECONDS_AT)),
    read("expiretime", 2, |_| Ok(A::TimeToLive(action::SECONDS_AT))),
    read("get", 2, |_| Ok(A::Get)),
    write("getdel", 2, |_| Ok(A::GetDelete)),
    write("getex", -2, action::getex),
    create("getset", 3, |_| Ok(A::GetSet)),
    write("hdel", -3, |_| Ok(A::HashDelete)),
    read("hexists", 3, |_| Ok(A::HashExists)),
    read("hget", 3, |_| Ok(A::HashGet)),
    read("hgetall", 2, |_| Ok(A::HashGetAll)),
    create("hincrby", 4, action::hincrby),
    read("hkeys", 2, |_| Ok(A::HashNames)),
    read("hlen", 2, |_| Ok(A::HashLength)),
    read("hmget", -3, |_| Ok(A::HashGetMany)),
    create("hmset", -4, |args| action::hset(args, "hmset", true)),
    create("hset", -4, |args| action::hset(args, "hset", false)),
    create("hsetnx", 4, |_| Ok(A::HashSetIfNew)),
    read("hstrlen", 3, |_| Ok(A::HashValueLength)),
    read("hvals", 2, |_| Ok(A::HashValues)),
    create("incr", 2, |_| Ok(A::IncrementBy(1))),
    create("incrby", 3, action::incrby),
    many("mget", false, Join::Array, |_| Ok(A::GetMany)),
    write("persist", 2, |_| Ok(A::Persist)),
    write("pexpire", -3, |args| action::expire(args, action::MILLISECONDS)),
    write("pexpireat", -3, |args| action::expire(args, action::MILLISECONDS_AT)),
    read("pexpiretime", 2, |_| Ok(A::TimeToLive(action::MILLISECONDS_AT))),
    create("psetex", 4, |args| action::setex(args, "psetex", action::MILLISECONDS)),
    read("pttl", 2, |_| Ok(A::TimeToLive(action::MILLISECONDS))),
    create("set", -3, action::set),
    create("setex", 4, |args| action::setex(args, "setex", action::SECONDS)),
    create("setnx", 3, |_| Ok(A::SetIfNew)),
    read("strlen", 2, |_| Ok(A::Length)),
    many("touch", false, Join::Sum, |_| Ok(A::Count)),
    read("ttl", 2, |_| Ok(A::TimeToLive(action::SECONDS))),
    read("type", 2, |_| Ok(A::Type)),
    many("unlink", true, Join::Sum, |_| Ok(A::Delete)),
];

/// What an operation of several commands does in all. These rows are no commands: no name leads to them.
pub(super) static READING: Row = read("several", -1, |_| Ok(A::Count));
/// The same with a write among them.
pub(super) static WRITING: Row = write("several", -1, |_| Ok(A::Count));
/// The same with one that may create a key.
pub(super) static CREATING: Row = create("several", -1, |_| Ok(A::Count));

/// The row of a name in any case.
pub fn row(name: &[u8]) -> Option<&'static Row> {
    let mut lower = [0u8; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let lower: &[u8] = lower;
    ROWS.binary_search_by(|row| row.name.as_bytes().cmp(lower)).ok().and_then(|at| ROWS.get(at))
}

/// No name in the table is longer.
const NAME_BYTES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn the_rows_are_sorted_and_found() {
        assert!(ROWS.is_sorted_by(|a, b| a.name < b.name));
        for known in &ROWS {
            assert!(std::ptr::eq(row(known.name.to_uppercase().as_bytes()).unwrap(), known));
            assert!(known.name.len() <= NAME_BYTES_MAX);
            assert!(known.write || !known.may_create, "{}", known.name);
        }
        for unknown in ["", "ge", "gett", "a-name-that-is-longer-than-any", "\u{0}"] {
            assert!(row(unknown.as_bytes()).is_none());
        }
    }
}

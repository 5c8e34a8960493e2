//! The commands that are executed on sessions: one row each.
//!
//! It never executes. [`super::parse`] looks a name up; `COMMAND` lists the rows.
//!
//! Arity as Redis counts it: with the name; negative means at least. Invariant: sorted by name, so that a look-up halves within the rows of a letter.

use super::action::Action as A;
use super::action::{self, Action};
use super::lists::{self, ListAction};
use super::pieces::{self, PieceAction};
use super::ranges::{self, By};
use super::sets::{Combination, SetAction};
use super::sorted_sets::{self, SortedAction};
use super::{keyspace, sampling};
use crate::session::Kind;
use crate::session::lists::End;
use bytes::Bytes;

/// Where the keys are among the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keys {
    /// The first argument.
    First,
    /// The first and the second argument.
    FirstTwo,
    /// The second argument: the first is a subcommand.
    Second,
    /// Every argument.
    All,
    /// Every other argument, with a value behind each.
    Pairs,
}

impl Keys {
    /// The first place, the last (`None`: the end of the arguments) and the step.
    const fn span(self) -> (usize, Option<usize>, usize) {
        match self {
            Keys::First => (1, Some(1), 1),
            Keys::FirstTwo => (1, Some(2), 1),
            Keys::Second => (2, Some(2), 1),
            Keys::All => (1, None, 1),
            Keys::Pairs => (1, None, 2),
        }
    }

    /// The keys of `args`, whose first is the name.
    pub fn of(self, args: &[Bytes]) -> impl Iterator<Item = &Bytes> {
        let (first, last, step) = self.span();
        let end = last.map_or(args.len(), |last| args.len().min(last.saturating_add(1)));
        args.get(first..end).unwrap_or_default().iter().step_by(step)
    }

    /// The key at a place among the keys, with the arguments that belong to it alone.
    pub(super) fn with_its_own(self, args: &[Bytes], place: usize) -> &[Bytes] {
        let (first, _, step) = self.span();
        let from = first.saturating_add(place.saturating_mul(step));
        args.get(from..from.saturating_add(step).min(args.len())).unwrap_or_default()
    }

    /// First, last (negative: from the end) and step, as `COMMAND` gives them.
    pub(super) fn as_redis_lists_them(self) -> [i64; 3] {
        let (first, last, step) = self.span();
        let number = |place: usize| i64::try_from(place).unwrap_or(i64::MAX);
        [number(first), last.map_or(-1, number), number(step)]
    }
}

/// How the replies of the parts of a command on several sessions make one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Join {
    /// Integers are added.
    Sum,
    /// Elements stand in the order of the keys.
    Array,
    /// All are `OK`.
    Done,
}

/// One command.
#[derive(Debug)]
pub struct Row {
    /// Lower case.
    pub name: &'static str,
    /// The type of key that it is for; `None`: any.
    pub kind: Option<Kind>,
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
    pub(crate) build: Build,
}

impl Row {
    /// Whether a command of `count` arguments, the name included, fits.
    pub fn arity_fits(&self, count: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= wanted } else { count == wanted }
    }
}

type Build = fn(&[Bytes]) -> Result<Action, Bytes>;
type For = Option<Kind>;

const ANY: For = None;
const STRING: For = Some(Kind::String);
const HASH: For = Some(Kind::Hash);
const SET: For = Some(Kind::Set);
const ZSET: For = Some(Kind::SortedSet);
const LIST: For = Some(Kind::List);

const fn read(kind: For, name: &'static str, arity: i16, build: Build) -> Row {
    Row { name, kind, arity, keys: Keys::First, write: false, may_create: false, join: None, build }
}

const fn write(kind: For, name: &'static str, arity: i16, build: Build) -> Row {
    Row { write: true, ..read(kind, name, arity, build) }
}

const fn create(kind: For, name: &'static str, arity: i16, build: Build) -> Row {
    Row { may_create: true, ..write(kind, name, arity, build) }
}

/// With its keys at other places; they must be of one session.
const fn on(keys: Keys, row: Row) -> Row {
    Row { keys, ..row }
}

/// With keys that may be of several sessions.
const fn spread(keys: Keys, join: Join, row: Row) -> Row {
    Row { keys, join: Some(join), ..row }
}

fn push(end: End, if_exists: bool) -> Result<Action, Bytes> {
    Ok(A::OfList(ListAction::Push { end, if_exists }))
}

fn combine(combination: Combination) -> Result<Action, Bytes> {
    Ok(A::OfSet(SetAction::Combine(combination)))
}

fn scan(args: &[Bytes], kind: Kind) -> Result<Action, Bytes> {
    super::scan::check_cursor(args.get(2).map(|cursor| cursor.as_ref()).unwrap_or_default())?;
    Ok(A::Scan(kind))
}

/// All rows, by name.
pub static ROWS: [Row; 109] = [
    create(STRING, "append", 3, |_| Ok(A::Append)),
    read(STRING, "bitcount", -2, |_| Ok(A::Piece(PieceAction::BitCount))),
    on(Keys::FirstTwo, write(ANY, "copy", -3, keyspace::copy)),
    create(STRING, "decr", 2, |_| Ok(A::IncrementBy(-1))),
    create(STRING, "decrby", 3, action::decrby),
    spread(Keys::All, Join::Sum, write(ANY, "del", -2, |_| Ok(A::Delete))),
    spread(Keys::All, Join::Sum, read(ANY, "exists", -2, |_| Ok(A::Count))),
    write(ANY, "expire", -3, |args| action::expire(args, action::SECONDS)),
    write(ANY, "expireat", -3, |args| action::expire(args, action::SECONDS_AT)),
    read(ANY, "expiretime", 2, |_| Ok(A::TimeToLive(action::SECONDS_AT))),
    read(STRING, "get", 2, |_| Ok(A::Get)),
    read(STRING, "getbit", 3, pieces::get_bit),
    write(STRING, "getdel", 2, |_| Ok(A::GetDelete)),
    write(STRING, "getex", -2, action::getex),
    read(STRING, "getrange", 4, pieces::get_range),
    create(STRING, "getset", 3, |_| Ok(A::GetSet)),
    write(HASH, "hdel", -3, |_| Ok(A::HashDelete)),
    read(HASH, "hexists", 3, |_| Ok(A::HashExists)),
    read(HASH, "hget", 3, |_| Ok(A::HashGet)),
    read(HASH, "hgetall", 2, |_| Ok(A::HashGetAll)),
    create(HASH, "hincrby", 4, action::hincrby),
    create(HASH, "hincrbyfloat", 4, |_| Ok(A::HashIncrementByFloat)),
    read(HASH, "hkeys", 2, |_| Ok(A::HashNames)),
    read(HASH, "hlen", 2, |_| Ok(A::Size(Kind::Hash))),
    read(HASH, "hmget", -3, |_| Ok(A::HashGetMany)),
    create(HASH, "hmset", -4, |args| action::hset(args, "hmset", true)),
    read(HASH, "hrandfield", -2, sampling::fields),
    read(HASH, "hscan", -3, |args| scan(args, Kind::Hash)),
    create(HASH, "hset", -4, |args| action::hset(args, "hset", false)),
    create(HASH, "hsetnx", 4, |_| Ok(A::HashSetIfNew)),
    read(HASH, "hstrlen", 3, |_| Ok(A::HashValueLength)),
    read(HASH, "hvals", 2, |_| Ok(A::HashValues)),
    create(STRING, "incr", 2, |_| Ok(A::IncrementBy(1))),
    create(STRING, "incrby", 3, action::incrby),
    create(STRING, "incrbyfloat", 3, |_| Ok(A::Piece(PieceAction::IncrementByFloat))),
    read(LIST, "lindex", 3, |_| Ok(A::OfList(ListAction::Index))),
    write(LIST, "linsert", 5, lists::insert),
    read(LIST, "llen", 2, |_| Ok(A::Size(Kind::List))),
    on(Keys::FirstTwo, write(LIST, "lmove", 5, lists::lmove)),
    write(LIST, "lpop", -2, |args| lists::pop(args, "lpop", End::Left)),
    read(LIST, "lpos", -3, lists::position),
    create(LIST, "lpush", -3, |_| push(End::Left, false)),
    create(LIST, "lpushx", -3, |_| push(End::Left, true)),
    read(LIST, "lrange", 4, |args| lists::range(args, false)),
    write(LIST, "lrem", 4, lists::remove),
    write(LIST, "lset", 4, |_| Ok(A::OfList(ListAction::Set))),
    write(LIST, "ltrim", 4, |args| lists::range(args, true)),
    spread(Keys::All, Join::Array, read(STRING, "mget", -2, |_| Ok(A::GetMany))),
    spread(Keys::Pairs, Join::Done, create(STRING, "mset", -3, |args| pieces::set_many(args, "mset", false))),
    on(Keys::Pairs, create(STRING, "msetnx", -3, |args| pieces::set_many(args, "msetnx", true))),
    on(Keys::Second, read(ANY, "object", -2, keyspace::object)),
    write(ANY, "persist", 2, |_| Ok(A::Persist)),
    write(ANY, "pexpire", -3, |args| action::expire(args, action::MILLISECONDS)),
    write(ANY, "pexpireat", -3, |args| action::expire(args, action::MILLISECONDS_AT)),
    read(ANY, "pexpiretime", 2, |_| Ok(A::TimeToLive(action::MILLISECONDS_AT))),
    create(STRING, "psetex", 4, |args| action::setex(args, "psetex", action::MILLISECONDS)),
    read(ANY, "pttl", 2, |_| Ok(A::TimeToLive(action::MILLISECONDS))),
    on(Keys::FirstTwo, write(ANY, "rename", 3, |_| Ok(A::Rename { if_none: false }))),
    on(Keys::FirstTwo, write(ANY, "renamenx", 3, |_| Ok(A::Rename { if_none: true }))),
    write(LIST, "rpop", -2, |args| lists::pop(args, "rpop", End::Right)),
    on(Keys::FirstTwo, write(LIST, "rpoplpush", 3, |_| Ok(A::OfList(ListAction::Move { from: End::Right, to: End::Left })))),
    create(LIST, "rpush", -3, |_| push(End::Right, false)),
    create(LIST, "rpushx", -3, |_| push(End::Right, true)),
    create(SET, "sadd", -3, |_| Ok(A::OfSet(SetAction::Add))),
    read(SET, "scard", 2, |_| Ok(A::Size(Kind::Set))),
    on(Keys::All, read(SET, "sdiff", -2, |_| combine(Combination::Difference))),
    create(STRING, "set", -3, action::set),
    create(STRING, "setbit", 4, pieces::set_bit),
    create(STRING, "setex", 4, |args| action::setex(args, "setex", action::SECONDS)),
    create(STRING, "setnx", 3, |_| Ok(A::SetIfNew)),
    create(STRING, "setrange", 4, pieces::set_range),
    on(Keys::All, read(SET, "sinter", -2, |_| combine(Combination::Intersection))),
    read(SET, "sismember", 3, |_| Ok(A::OfSet(SetAction::IsMember))),
    read(SET, "smembers", 2, |_| Ok(A::OfSet(SetAction::Members))),
    read(SET, "smismember", -3, |_| Ok(A::OfSet(SetAction::AreMembers))),
    on(Keys::FirstTwo, write(SET, "smove", 4, |_| Ok(A::OfSet(SetAction::Move)))),
    write(SET, "spop", -2, sampling::pop),
    read(SET, "srandmember", -2, sampling::members),
    write(SET, "srem", -3, |_| Ok(A::OfSet(SetAction::Remove))),
    read(SET, "sscan", -3, |args| scan(args, Kind::Set)),
    read(STRING, "strlen", 2, |_| Ok(A::Length)),
    read(STRING, "substr", 4, pieces::get_range),
    on(Keys::All, read(SET, "sunion", -2, |_| combine(Combination::Union))),
    spread(Keys::All, Join::Sum, read(ANY, "touch", -2, |_| Ok(A::Count))),
    read(ANY, "ttl", 2, |_| Ok(A::TimeToLive(action::SECONDS))),
    read(ANY, "type", 2, |_| Ok(A::Type)),
    spread(Keys::All, Join::Sum, write(ANY, "unlink", -2, |_| Ok(A::Delete))),
    create(ZSET, "zadd", -4, sorted_sets::add),
    read(ZSET, "zcard", 2, |_| Ok(A::Size(Kind::SortedSet))),
    read(ZSET, "zcount", 4, |args| ranges::count(args, By::Score)),
    create(ZSET, "zincrby", 4, sorted_sets::increment),
    read(ZSET, "zlexcount", 4, |args| ranges::count(args, By::Member)),
    read(ZSET, "zmscore", -3, |_| Ok(A::OfSortedSet(SortedAction::Scores))),
    write(ZSET, "zpopmax", -2, |args| sorted_sets::pop(args, true)),
    write(ZSET, "zpopmin", -2, |args| sorted_sets::pop(args, false)),
    read(ZSET, "zrange", -4, |args| ranges::show(args, None, None)),
    read(ZSET, "zrangebylex", -4, |args| ranges::show(args, Some(By::Member), Some(false))),
    read(ZSET, "zrangebyscore", -4, |args| ranges::show(args, Some(By::Score), Some(false))),
    read(ZSET, "zrank", 3, |_| Ok(A::OfSortedSet(SortedAction::Rank { from_greatest: false }))),
    write(ZSET, "zrem", -3, |_| Ok(A::OfSortedSet(SortedAction::Remove))),
    write(ZSET, "zremrangebylex", 4, |args| ranges::remove(args, By::Member)),
    write(ZSET, "zremrangebyrank", 4, |args| ranges::remove(args, By::Rank)),
    write(ZSET, "zremrangebyscore", 4, |args| ranges::remove(args, By::Score)),
    read(ZSET, "zrevrange", -4, |args| ranges::show(args, Some(By::Rank), Some(true))),
    read(ZSET, "zrevrangebylex", -4, |args| ranges::show(args, Some(By::Member), Some(true))),
    read(ZSET, "zrevrangebyscore", -4, |args| ranges::show(args, Some(By::Score), Some(true))),
    read(ZSET, "zrevrank", 3, |_| Ok(A::OfSortedSet(SortedAction::Rank { from_greatest: true }))),
    read(ZSET, "zscan", -3, |args| scan(args, Kind::SortedSet)),
    read(ZSET, "zscore", 3, |_| Ok(A::OfSortedSet(SortedAction::Score))),
];

/// Where the rows of each letter begin, and behind the last letter their end.
static LETTERS: [u8; 27] = letters();

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses an index that does not exist")]
const fn letters() -> [u8; 27] {
    let mut ends = [0; 27];
    let mut at = 0;
    while at < ROWS.len() {
        let letter = (ROWS[at].name.as_bytes()[0] - b'a') as usize;
        at += 1;
        // The end of this letter is the start of all that follow, until one has rows of its own.
        let mut next = letter + 1;
        while next < ends.len() {
            ends[next] = at as u8;
            next += 1;
        }
    }
    ends
}

/// What an operation of several commands does in all. These rows are no commands: no name leads to them.
pub(super) static READING: Row = read(ANY, "several", -1, |_| Ok(A::Count));
/// The same with a write among them.
pub(super) static WRITING: Row = write(ANY, "several", -1, |_| Ok(A::Count));
/// The same with one that may create a key.
pub(super) static CREATING: Row = create(ANY, "several", -1, |_| Ok(A::Count));

/// The row of a name in any case.
pub fn row(name: &[u8]) -> Option<&'static Row> {
    let mut lower = [0u8; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let lower: &[u8] = lower;
    let letter = usize::from(lower.first()?.checked_sub(b'a')?);
    let (start, end) = (*LETTERS.get(letter)?, *LETTERS.get(letter + 1)?);
    let rows = ROWS.get(usize::from(start)..usize::from(end))?;
    rows.binary_search_by(|row| row.name.as_bytes().cmp(lower)).ok().and_then(|at| rows.get(at))
}

/// No name in the table is longer.
const NAME_BYTES_MAX: usize = 16;

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;

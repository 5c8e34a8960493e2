//! What a command of the table does, with its options validated.
//!
//! It never sees a session. [`super::table`] names the function that builds an action from the arguments. Values stay in the
//! arguments of the [`super::Op`], so that an action is small to copy.
//!
//! Invariant: what Redis refuses before it looks at the key is refused here; what it refuses after, in `execute`.

use super::errors;
use super::keyspace::Ask;
use super::lists::ListAction;
use super::pieces::PieceAction;
use super::sampling::Sample;
use super::sets::SetAction;
use super::sorted_sets::SortedAction;
use crate::session::Kind;
use crate::wire::resp::parse_integer;
use bytes::Bytes;

/// In what a time is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimeUnit {
    seconds: bool,
    /// Since 1970 instead of from now.
    absolute: bool,
}

pub(crate) const SECONDS: TimeUnit = TimeUnit { seconds: true, absolute: false };
pub(crate) const SECONDS_AT: TimeUnit = TimeUnit { seconds: true, absolute: true };
pub(crate) const MILLISECONDS: TimeUnit = TimeUnit { seconds: false, absolute: false };
pub(crate) const MILLISECONDS_AT: TimeUnit = TimeUnit { seconds: false, absolute: true };

impl TimeUnit {
    /// When it is in ms since 1970; `None` beyond 64 bits.
    pub(crate) fn at_ms(self, amount: i64, unix_ms: u64) -> Option<i64> {
        let amount_ms = if self.seconds { amount.checked_mul(1000)? } else { amount };
        if self.absolute { Some(amount_ms) } else { amount_ms.checked_add(i64::try_from(unix_ms).ok()?) }
    }

    /// How Redis shows the time `at_ms` to who asks for the time to live.
    pub(crate) fn show(self, at_ms: u64, unix_ms: u64) -> i64 {
        let ms = if self.absolute { at_ms } else { at_ms.saturating_sub(unix_ms) };
        let shown = if self.seconds { ms.saturating_add(500) / 1000 } else { ms };
        i64::try_from(shown).unwrap_or(i64::MAX)
    }
}

/// The expiry that an option gives: its amount is the argument at this place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Expiry {
    place: usize,
    unit: TimeUnit,
}

impl Expiry {
    /// When the key expires, in ms since 1970; `name` is for the error.
    pub(crate) fn resolve(self, args: &[Bytes], unix_ms: u64, name: &str) -> Result<u64, Bytes> {
        let amount = args.get(self.place).and_then(|text| parse_integer(text)).ok_or(errors::NOT_AN_INTEGER)?;
        let at_ms = Some(amount).filter(|a| *a > 0).and_then(|a| self.unit.at_ms(a, unix_ms));
        at_ms.and_then(|at| u64::try_from(at).ok()).ok_or_else(|| errors::expire_time(name))
    }
}

/// Under which condition `SET` sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SetIf {
    Always,
    New,
    Exists,
}

/// `SET` in all its forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Set {
    /// The place of the value.
    pub(crate) value: usize,
    pub(crate) expiry: Option<Expiry>,
    pub(crate) keep_ttl: bool,
    pub(crate) condition: SetIf,
    pub(crate) get: bool,
}

/// The conditions of `EXPIRE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ExpireIf {
    pub(crate) none: bool,
    pub(crate) some: bool,
    pub(crate) greater: bool,
    pub(crate) less: bool,
}

/// What to do; keys and values are in the arguments.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Action {
    Append,
    Copy {
        replace: bool,
    },
    /// `EXISTS`, `TOUCH`.
    Count,
    Delete,
    Expire {
        amount: i64,
        unit: TimeUnit,
        condition: ExpireIf,
    },
    Get,
    GetDelete,
    GetExpire {
        expiry: Option<Expiry>,
        persist: bool,
    },
    GetMany,
    GetSet,
    HashDelete,
    HashExists,
    HashGet,
    HashGetAll,
    HashGetMany,
    HashIncrementBy(i64),
    HashIncrementByFloat,
    HashNames,
    /// Pairs from the third argument on; `HMSET` answers `OK`.
    HashSet {
        answers_ok: bool,
    },
    HashSetIfNew,
    HashValueLength,
    HashValues,
    IncrementBy(i64),
    Length,
    Object(Ask),
    OfList(ListAction),
    OfSet(SetAction),
    OfSortedSet(SortedAction),
    Persist,
    Piece(PieceAction),
    Rename {
        if_none: bool,
    },
    Sample(Sample),
    Scan(Kind),
    Set(Set),
    SetIfNew,
    /// How many elements a key of this kind has.
    Size(Kind),
    TimeToLive(TimeUnit),
    Type,
}

impl Action {
    /// Whether its options let it create a key.
    pub(crate) fn creates(&self) -> bool {
        match self {
            Action::Set(set) => set.condition != SetIf::Exists,
            Action::OfList(ListAction::Push { if_exists, .. }) => !if_exists,
            Action::OfSortedSet(SortedAction::Add(add)) => add.creates(),
            _ => true,
        }
    }
}

/// The argument at `place`, which must be an integer.
pub(super) fn integer(args: &[Bytes], place: usize) -> Result<i64, Bytes> {
    args.get(place).and_then(|text| parse_integer(text)).ok_or_else(|| errors::NOT_AN_INTEGER.into())
}

pub(crate) fn incrby(args: &[Bytes]) -> Result<Action, Bytes> {
    integer(args, 2).map(Action::IncrementBy)
}

pub(crate) fn decrby(args: &[Bytes]) -> Result<Action, Bytes> {
    integer(args, 2)?.checked_neg().map(Action::IncrementBy).ok_or_else(|| errors::DECREMENT_OVERFLOW.into())
}

pub(crate) fn hincrby(args: &[Bytes]) -> Result<Action, Bytes> {
    integer(args, 3).map(Action::HashIncrementBy)
}

pub(crate) fn hset(args: &[Bytes], name: &str, answers_ok: bool) -> Result<Action, Bytes> {
    if args.len().is_multiple_of(2) { Ok(Action::HashSet { answers_ok }) } else { Err(errors::arity(name)) }
}

pub(crate) fn setex(args: &[Bytes], name: &str, unit: TimeUnit) -> Result<Action, Bytes> {
    let expiry = Expiry { place: 2, unit };
    expiry.resolve(args, 0, name)?;
    Ok(Action::Set(Set { value: 3, expiry: Some(expiry), keep_ttl: false, condition: SetIf::Always, get: false }))
}

/// `SET key value [NX|XX] [GET] [EX n|PX n|EXAT t|PXAT t|KEEPTTL]`, options in any order.
pub(crate) fn set(args: &[Bytes]) -> Result<Action, Bytes> {
    let mut set = Set { value: 2, expiry: None, keep_ttl: false, condition: SetIf::Always, get: false };
    let mut place = 3;
    while let Some(option) = args.get(place) {
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        if is("NX") && set.condition != SetIf::Exists {
            set.condition = SetIf::New;
        } else if is("XX") && set.condition != SetIf::New {
            set.condition = SetIf::Exists;
        } else if is("GET") {
            set.get = true;
        } else if is("KEEPTTL") && set.expiry.is_none() {
            set.keep_ttl = true;
        } else if !set.keep_ttl
            && let Some(expiry) = expiry_option(args, place, set.expiry)
        {
            set.expiry = Some(expiry);
            place += 1;
        } else {
            return Err(errors::SYNTAX.into());
        }
        place += 1;
    }
    if let Some(expiry) = set.expiry {
        expiry.resolve(args, 0, "set")?;
    }
    Ok(Action::Set(set))
}

/// `GETEX key [EX n|PX n|EXAT t|PXAT t|PERSIST]`; a wrong time is found only when the key exists, as in Redis.
pub(crate) fn getex(args: &[Bytes]) -> Result<Action, Bytes> {
    let (mut expiry, mut persist) = (None, false);
    let mut place = 2;
    while let Some(option) = args.get(place) {
        if option.eq_ignore_ascii_case(b"PERSIST") && expiry.is_none() {
            persist = true;
        } else if !persist && let Some(found) = expiry_option(args, place, expiry) {
            expiry = Some(found);
            place += 1;
        } else {
            return Err(errors::SYNTAX.into());
        }
        place += 1;
    }
    Ok(Action::GetExpire { expiry, persist })
}

/// The expiry option at `place` with the amount behind it. A second one must be of the same unit as the one `before`, and wins.
fn expiry_option(args: &[Bytes], place: usize, before: Option<Expiry>) -> Option<Expiry> {
    const UNITS: [(&str, TimeUnit); 4] = [("EX", SECONDS), ("PX", MILLISECONDS), ("EXAT", SECONDS_AT), ("PXAT", MILLISECONDS_AT)];
    let option = args.get(place)?;
    let unit = UNITS.iter().find(|(name, _)| option.eq_ignore_ascii_case(name.as_bytes()))?.1;
    let place = place.checked_add(1).filter(|amount| *amount < args.len())?;
    before.is_none_or(|before| before.unit == unit).then_some(Expiry { place, unit })
}

/// `EXPIRE key amount [NX|XX|GT|LT …]` and its three sisters.
pub(crate) fn expire(args: &[Bytes], unit: TimeUnit) -> Result<Action, Bytes> {
    let mut condition = ExpireIf::default();
    for option in args.get(3..).unwrap_or_default() {
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("NX") => condition.none = true,
            () if is("XX") => condition.some = true,
            () if is("GT") => condition.greater = true,
            () if is("LT") => condition.less = true,
            () => return Err(errors::unsupported_option(option)),
        }
    }
    if condition.none && (condition.some || condition.greater || condition.less) {
        return Err(errors::EXPIRE_NX.into());
    }
    if condition.greater && condition.less {
        return Err(errors::EXPIRE_GT_LT.into());
    }
    Ok(Action::Expire { amount: integer(args, 2)?, unit, condition })
}

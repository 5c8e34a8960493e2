//! `SPOP`, `SRANDMEMBER`, `HRANDFIELD`: some of a key's members by chance.
//!
//! It never asks the machine for chance: the draw follows from the time, the session's last version and how often the key was
//! asked before, so that the same history gives the same reply on every node and in the simulator. Called by `execute`.
//!
//! | count | members | reply |
//! |---|---|---|
//! | none | one | it, or null |
//! | n ≥ 0 | n different ones, or all | a list; of `SPOP` a set |
//! | −n | n, with repetitions | a list |
//!
//! Invariant: a reply with repetitions is no longer than a value may be.

use super::action::Action;
use super::errors;
use super::events::Classes;
use super::execute::Run;
use crate::session::{Content, Kind};
use crate::wire::resp::{Protocol, parse_integer};
use bytes::Bytes;

/// What is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sample {
    kind: Kind,
    count: Option<i64>,
    values: bool,
    removes: bool,
}

impl Sample {
    /// The kind of key whose values must be here.
    pub(super) fn needs_values_of(self) -> Option<Kind> {
        self.values.then_some(self.kind)
    }
}

/// A count that may be negative: without the one number that has no positive counterpart.
fn symmetric(text: &[u8]) -> Result<i64, Bytes> {
    match parse_integer(text) {
        None => Err(errors::NOT_AN_INTEGER.into()),
        Some(i64::MIN) => Err(errors::NOT_SYMMETRIC.into()),
        Some(count) => Ok(count),
    }
}

/// `SPOP key [count]`
pub(super) fn pop(args: &[Bytes]) -> Result<Action, Bytes> {
    let count = match args {
        [_, _] => None,
        [_, _, count] => Some(parse_integer(count).filter(|c| *c >= 0).ok_or(errors::NOT_POSITIVE)?),
        _ => return Err(errors::SYNTAX.into()),
    };
    Ok(Action::Sample(Sample { kind: Kind::Set, count, values: false, removes: true }))
}

/// `SRANDMEMBER key [count]`
pub(super) fn members(args: &[Bytes]) -> Result<Action, Bytes> {
    let count = match args {
        [_, _] => None,
        [_, _, count] => Some(symmetric(count)?),
        _ => return Err(errors::SYNTAX.into()),
    };
    Ok(Action::Sample(Sample { kind: Kind::Set, count, values: false, removes: false }))
}

/// `HRANDFIELD key [count [WITHVALUES]]`
pub(super) fn fields(args: &[Bytes]) -> Result<Action, Bytes> {
    let count = args.get(2).map(|count| symmetric(count)).transpose()?;
    let values = match args.get(3..).unwrap_or_default() {
        [] => false,
        [option] if option.eq_ignore_ascii_case(b"withvalues") => true,
        _ => return Err(errors::SYNTAX.into()),
    };
    if values && count.is_some_and(|c| c.unsigned_abs() > i64::MAX as u64 / 2) {
        return Err(errors::OUT_OF_RANGE.into());
    }
    Ok(Action::Sample(Sample { kind: Kind::Hash, count, values, removes: false }))
}

/// splitmix64
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % (n.max(1) as u64)).unwrap_or(0)
    }

    /// `count` different places below `n`, in any order; all of them in order if there are no more.
    fn some(&mut self, count: usize, n: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..n).collect();
        if count < n {
            for at in 0..count {
                places.swap(at, at + self.below(n - at));
            }
            places.truncate(count);
        }
        places
    }
}

impl Run<'_> {
    pub(super) fn sample(&mut self, sample: Sample) {
        let Some(exists) = self.of_kind(sample.kind) else { return };
        let asked = self.key().and_then(|k| k.variables().next()).map_or(0, |(_, v)| u64::from(v.access.reads));
        let mut draw = Draw(self.now ^ (self.session.last_version().0 << 24) ^ (asked << 48));
        if exists {
            self.session.count_reads(&self.target().key, self.now);
        }
        let size = self.key().map_or(0, |k| k.len());
        let Some(count) = sample.count else {
            let one = self.entry(draw.below(size), false).map(|(name, _)| name);
            if let Some(name) = one.as_ref().filter(|_| sample.removes) {
                self.wrote |= self.session.remove_field(&self.target().key, name, self.now);
                self.note_removal(Classes::SET, "spop", &self.target().key);
            }
            return self.reply.bulk_or_null(one);
        };
        let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        let places = if count >= 0 {
            draw.some(wanted, size)
        } else if size == 0 {
            Vec::new()
        } else if self.repeats_too_much(wanted) {
            return self.reply.error(errors::REPLY_TOO_LONG);
        } else {
            (0..wanted).map(|_| draw.below(size)).collect()
        };
        let found: Vec<_> = places.into_iter().filter_map(|at| self.entry(at, sample.values)).collect();
        if sample.removes {
            self.reply.set(found.len());
        } else if sample.values && self.reply.protocol() == Protocol::Resp2 {
            self.reply.array(found.len().saturating_mul(2));
        } else {
            self.reply.array(found.len());
        }
        for (name, value) in &found {
            if sample.values && self.reply.protocol() == Protocol::Resp3 {
                self.reply.array(2);
            }
            self.reply.bulk(name);
            if sample.values {
                self.reply.bulk(value);
            }
            if sample.removes {
                self.wrote |= self.session.remove_field(&self.target().key, name, self.now);
            }
        }
        if sample.removes && !found.is_empty() {
            self.note_removal(Classes::SET, "spop", &self.target().key);
        }
    }

    /// A member and, if asked for, its value.
    fn entry(&self, at: usize, with_value: bool) -> Option<(Bytes, Bytes)> {
        let (name, variable) = self.key()?.variables().nth(at)?;
        let value = match &variable.content {
            Content::Here(value) if with_value => value.clone(),
            _ => Bytes::new(),
        };
        Some((name.clone(), value))
    }

    /// Whether so many of the longest member would be longer than a value may be.
    fn repeats_too_much(&self, count: usize) -> bool {
        let longest = self.key().and_then(|k| k.variables().map(|(n, v)| n.len() as u64 + v.content.size_bytes()).max());
        let bytes = longest.unwrap_or(0).saturating_add(16).saturating_mul(count as u64);
        bytes > self.value_bytes_max() as u64
    }
}

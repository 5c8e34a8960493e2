//! Actions on sorted sets: a member names a variable whose value is its score.
//!
//! They never keep an order: what asks for one sorts ([`crate::session::Key`]), what does not costs no more than on a hash.
//! Ranges are in `ranges`. Called by `execute`.
//!
//! Invariant: a score is never NaN.

use super::action::Action;
use super::errors;
use super::events::Classes;
use super::execute::Run;
use super::numbers::parse_double;
use super::ranges::{Range, Span};
use crate::session::Kind;
use crate::wire::resp::{Protocol, parse_integer};
use bytes::Bytes;

/// What is done with a sorted set; members are in the arguments.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum SortedAction {
    Add(Add),
    CountWithin(Span),
    Pop { greatest: bool, count: Option<usize> },
    Range(Range),
    Rank { from_greatest: bool },
    Remove,
    RemoveWithin(Span),
    Score,
    Scores,
}

/// `ZADD` and `ZINCRBY`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Add {
    /// `NX`, `XX`, `GT`, `LT`
    only_new: bool,
    only_old: bool,
    only_greater: bool,
    only_less: bool,
    /// `CH`: what changed counts too.
    counts_changed: bool,
    increments: bool,
    /// The place of the first score.
    first: usize,
}

impl Add {
    /// Whether it may create a key.
    pub(super) fn creates(self) -> bool {
        !self.only_old
    }
}

/// `ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member [score member …]`
pub(super) fn add(args: &[Bytes]) -> Result<Action, Bytes> {
    let mut add = Add { first: 2, ..Add::default() };
    for option in args.get(2..).unwrap_or_default() {
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("NX") => add.only_new = true,
            () if is("XX") => add.only_old = true,
            () if is("GT") => add.only_greater = true,
            () if is("LT") => add.only_less = true,
            () if is("CH") => add.counts_changed = true,
            () if is("INCR") => add.increments = true,
            () => break,
        }
        add.first += 1;
    }
    let pairs = args.get(add.first..).unwrap_or_default();
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(errors::SYNTAX.into());
    }
    if add.only_new && add.only_old {
        return Err(errors::ADD_NX_XX.into());
    }
    if [add.only_new, add.only_greater, add.only_less].iter().filter(|set| **set).count() > 1 {
        return Err(errors::ADD_GT_LT_NX.into());
    }
    if add.increments && pairs.len() > 2 {
        return Err(errors::ADD_INCR.into());
    }
    if pairs.iter().step_by(2).any(|score| parse_double(score).is_none()) {
        return Err(errors::NOT_A_FLOAT.into());
    }
    Ok(Action::OfSortedSet(SortedAction::Add(add)))
}

/// `ZINCRBY key increment member`
pub(super) fn increment(args: &[Bytes]) -> Result<Action, Bytes> {
    if args.get(2).and_then(|score| parse_double(score)).is_none() {
        return Err(errors::NOT_A_FLOAT.into());
    }
    Ok(Action::OfSortedSet(SortedAction::Add(Add { increments: true, first: 2, ..Add::default() })))
}

/// `ZPOPMIN key [count]` and its sister.
pub(super) fn pop(args: &[Bytes], greatest: bool) -> Result<Action, Bytes> {
    let count = match args {
        [_, _] => None,
        [_, _, count] => Some(parse_integer(count).and_then(|count| usize::try_from(count).ok()).ok_or(errors::NOT_POSITIVE)?),
        _ => return Err(errors::SYNTAX.into()),
    };
    Ok(Action::OfSortedSet(SortedAction::Pop { greatest, count }))
}

impl Run<'_> {
    pub(super) fn of_sorted_set(&mut self, action: SortedAction) {
        if self.of_kind(Kind::SortedSet).is_none() {
            return;
        }
        match action {
            SortedAction::Add(add) => self.add_scored(add),
            SortedAction::CountWithin(span) => self.count_within(span),
            SortedAction::Pop { greatest, count } => self.pop_scored(greatest, count),
            SortedAction::Range(range) => self.range(range),
            SortedAction::Rank { from_greatest } => self.rank(from_greatest),
            SortedAction::Remove => {
                let members = self.op.args().get(2..).unwrap_or_default();
                let key = &self.target().key;
                let removed = members.iter().filter(|m| self.session.remove_field(key, m, self.now)).count();
                if removed > 0 {
                    self.wrote = true;
                    self.note_removal(Classes::SORTED_SET, "zrem", key);
                }
                self.reply.count(removed);
            }
            SortedAction::RemoveWithin(span) => self.remove_within(span),
            SortedAction::Score => self.reply_score(self.arg(2)),
            SortedAction::Scores => {
                let members = self.op.args().get(2..).unwrap_or_default();
                self.reply.array(members.len());
                members.iter().for_each(|member| self.reply_score(member));
            }
        }
    }

    fn reply_score(&mut self, member: &[u8]) {
        match self.key().and_then(|k| k.score(member)) {
            Some(score) => self.reply.double(score),
            None => self.reply.null(),
        }
    }

    fn rank(&mut self, from_greatest: bool) {
        let key = self.key();
        match key.and_then(|k| Some((k.rank(self.arg(2))?, k.len()))) {
            Some((rank, len)) if from_greatest => self.reply.count(len.saturating_sub(rank).saturating_sub(1)),
            Some((rank, _)) => self.reply.count(rank),
            None => self.reply.null(),
        }
    }

    fn add_scored(&mut self, add: Add) {
        let (mut added, mut changed, mut last) = (0, 0, None);
        let event = if add.increments { "zincr" } else { "zadd" };
        for pair in self.op.args().get(add.first..).unwrap_or_default().chunks_exact(2) {
            let [score, member] = pair else { continue };
            let Some(mut score) = parse_double(score) else { return self.reply.error(errors::NOT_A_FLOAT) };
            let before = self.key().and_then(|k| k.score(member));
            match before {
                Some(_) if add.only_new => continue,
                None if add.only_old => continue,
                Some(before) => {
                    score = if add.increments { before + score } else { score };
                    if score.is_nan() {
                        if added + changed > 0 {
                            self.note(Classes::SORTED_SET, event, &self.target().key);
                        }
                        return self.reply.error(errors::NAN_SCORE);
                    }
                    if (add.only_less && score >= before) || (add.only_greater && score <= before) {
                        continue;
                    }
                }
                None => {}
            }
            last = Some(score);
            if before != Some(score) {
                // A small sorted set of Redis keeps no negative zero.
                let value = Bytes::copy_from_slice(&(score + 0.0).to_be_bytes());
                let is_new = self.session.write_member(&self.target().key, Kind::SortedSet, member, &value, self.now);
                self.wrote = true;
                if is_new { added += 1 } else { changed += 1 }
            }
        }
        if added + changed > 0 {
            self.note(Classes::SORTED_SET, event, &self.target().key);
        }
        match (add.increments, last) {
            (true, Some(score)) => self.reply.double(score),
            (true, None) => self.reply.null(),
            (false, _) => self.reply.count(if add.counts_changed { added + changed } else { added }),
        }
    }

    fn pop_scored(&mut self, greatest: bool, count: Option<usize>) {
        let mut ranked = self.key().map(|k| k.ranked()).unwrap_or_default();
        if greatest {
            ranked.reverse();
        }
        ranked.truncate(count.unwrap_or(1));
        // Only RESP3 has pairs, and only where several could come.
        let pairs = self.reply.protocol() == Protocol::Resp3 && count.is_some();
        self.reply.array(if pairs { ranked.len() } else { ranked.len().saturating_mul(2) });
        let pops = !ranked.is_empty();
        for (score, member) in ranked {
            if pairs {
                self.reply.array(2);
            }
            self.reply.bulk(&member);
            self.reply.double(score);
            self.wrote |= self.session.remove_field(&self.target().key, &member, self.now);
        }
        if pops {
            self.note_removal(Classes::SORTED_SET, if greatest { "zpopmax" } else { "zpopmin" }, &self.target().key);
        }
    }
}

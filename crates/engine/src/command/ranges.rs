//! Ranges of sorted sets: by rank, by score, by member; shown, counted or removed.
//!
//! They never change a score. Bounds are read before the key is looked at, as Redis does. Called by `execute` through
//! `sorted_sets`.
//!
//! | range | bounds |
//! |---|---|
//! | rank | integers; negative ones count from the end |
//! | score | numbers; `(` excludes |
//! | member | `[a`, `(a`, `-`, `+`; meant for sets whose scores are all the same |
//!
//! Invariant: a range is a contiguous part of the order.

use super::action::{Action, integer};
use super::errors;
use super::events::Classes;
use super::execute::Run;
use super::numbers::parse_bound;
use super::sorted_sets::SortedAction;
use crate::wire::resp::Protocol;
use bytes::Bytes;
use std::cmp::Ordering;

/// A part of the order.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Span {
    Rank { first: i64, last: i64 },
    Score { least: Score, greatest: Score },
    Member { least: Member, greatest: Member },
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Score {
    value: f64,
    excluded: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Member {
    First,
    Last,
    /// The argument at this place behind its first byte.
    At {
        place: usize,
        excluded: bool,
    },
}

/// `ZRANGE` and its sisters.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Range {
    span: Span,
    reverse: bool,
    with_scores: bool,
    /// How many to skip, how many to show.
    limit: Option<(i64, i64)>,
}

/// What the bounds are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    Rank,
    Score,
    Member,
}

fn score(args: &[Bytes], place: usize) -> Result<Score, Bytes> {
    let text = args.get(place).map(|text| text.as_ref()).unwrap_or_default();
    let (excluded, number) = text.strip_prefix(b"(").map_or((false, text), |number| (true, number));
    parse_bound(number).map(|value| Score { value, excluded }).ok_or_else(|| errors::NOT_A_SCORE_RANGE.into())
}

fn member(args: &[Bytes], place: usize) -> Result<Member, Bytes> {
    match args.get(place).map(|text| text.as_ref()) {
        Some(b"-") => Ok(Member::First),
        Some(b"+") => Ok(Member::Last),
        Some([b'[', ..]) => Ok(Member::At { place, excluded: false }),
        Some([b'(', ..]) => Ok(Member::At { place, excluded: true }),
        _ => Err(errors::NOT_A_MEMBER_RANGE.into()),
    }
}

/// The span whose lower bound is at `least` and whose upper one is at `greatest`.
fn span(args: &[Bytes], by: By, least: usize, greatest: usize) -> Result<Span, Bytes> {
    Ok(match by {
        By::Rank => Span::Rank { first: integer(args, least)?, last: integer(args, greatest)? },
        By::Score => Span::Score { least: score(args, least)?, greatest: score(args, greatest)? },
        By::Member => Span::Member { least: member(args, least)?, greatest: member(args, greatest)? },
    })
}

/// `ZCOUNT`, `ZLEXCOUNT`.
pub(super) fn count(args: &[Bytes], by: By) -> Result<Action, Bytes> {
    Ok(Action::OfSortedSet(SortedAction::CountWithin(span(args, by, 2, 3)?)))
}

/// `ZREMRANGEBYRANK` and its sisters.
pub(super) fn remove(args: &[Bytes], by: By) -> Result<Action, Bytes> {
    Ok(Action::OfSortedSet(SortedAction::RemoveWithin(span(args, by, 2, 3)?)))
}

/// `ZRANGE key min max [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES]`, and the older commands, whose kind (`by`) and
/// direction (`reverse`) are in their names.
pub(super) fn show(args: &[Bytes], by: Option<By>, reverse: Option<bool>) -> Result<Action, Bytes> {
    let (mut chosen, mut backwards, mut with_scores, mut limit) = (by, reverse, false, None);
    let mut place = 4;
    while let Some(option) = args.get(place) {
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        if is("WITHSCORES") {
            with_scores = true;
        } else if is("LIMIT") && args.len() > place + 2 {
            limit = Some((integer(args, place + 1)?, integer(args, place + 2)?));
            place += 2;
        } else if is("REV") && reverse.is_none() && backwards.is_none() {
            backwards = Some(true);
        } else if is("BYLEX") && chosen.is_none() {
            chosen = Some(By::Member);
        } else if is("BYSCORE") && chosen.is_none() {
            chosen = Some(By::Score);
        } else {
            return Err(errors::SYNTAX.into());
        }
        place += 1;
    }
    let (by, reverse) = (chosen.unwrap_or(By::Rank), backwards.unwrap_or(false));
    // Redis takes a limit of −1 for none.
    if by == By::Rank && limit.is_some_and(|(_, count)| count != -1) {
        return Err(errors::LIMIT_BY_RANK.into());
    }
    if by == By::Member && with_scores {
        return Err(errors::SCORES_BY_LEX.into());
    }
    let (least, greatest) = if reverse && by != By::Rank { (3, 2) } else { (2, 3) };
    let span = span(args, by, least, greatest)?;
    Ok(Action::OfSortedSet(SortedAction::Range(Range { span, reverse, with_scores, limit })))
}

/// The places that `first` and `last` name among `len` elements: negative ones count from the end.
pub(super) fn places(first: i64, last: i64, len: usize) -> std::ops::Range<usize> {
    let from_end = |at: i64| if at < 0 { at.saturating_add(i64::try_from(len).unwrap_or(i64::MAX)) } else { at };
    let start = usize::try_from(from_end(first).max(0)).unwrap_or(usize::MAX);
    let end = usize::try_from(from_end(last).saturating_add(1).max(0)).unwrap_or(usize::MAX).min(len);
    if start < end { start..end } else { 0..0 }
}

type Ranked = (f64, Bytes);

impl Run<'_> {
    fn is_above(&self, bound: Member, member: &[u8]) -> bool {
        match bound {
            Member::First => true,
            Member::Last => false,
            Member::At { place, excluded } => {
                let bound = self.arg(place).get(1..).unwrap_or_default();
                if excluded { member > bound } else { member >= bound }
            }
        }
    }

    fn is_below(&self, bound: Member, member: &[u8]) -> bool {
        match bound {
            Member::First => false,
            Member::Last => true,
            Member::At { place, excluded } => {
                let bound = self.arg(place).get(1..).unwrap_or_default();
                if excluded { member < bound } else { member <= bound }
            }
        }
    }

    /// Whether the lower bound is above the upper one.
    fn is_reversed(&self, least: Member, greatest: Member) -> bool {
        let text = |bound: Member| match bound {
            Member::At { place, .. } => self.arg(place).get(1..).unwrap_or_default(),
            Member::First | Member::Last => &[],
        };
        match (least, greatest) {
            (Member::First, Member::First) | (Member::Last, Member::Last) => false,
            (Member::First, _) | (_, Member::Last) => false,
            (Member::Last, _) | (_, Member::First) => true,
            (Member::At { excluded: a, .. }, Member::At { excluded: b, .. }) => match text(least).cmp(text(greatest)) {
                Ordering::Greater => true,
                Ordering::Equal => a || b,
                Ordering::Less => false,
            },
        }
    }

    /// The places of a span of members. Where scores differ, Redis's answer depends on the direction; so does this.
    fn member_places(&self, ranked: &[Ranked], least: Member, greatest: Member, reverse: bool) -> std::ops::Range<usize> {
        let fits = |at: &Ranked| self.is_above(least, &at.1) && self.is_below(greatest, &at.1);
        let outside = ranked.last().is_none_or(|at| !self.is_above(least, &at.1))
            || ranked.first().is_none_or(|at| !self.is_below(greatest, &at.1));
        if outside || self.is_reversed(least, greatest) {
            return 0..0;
        }
        if reverse {
            let above = ranked.iter().rev().take_while(|at| !self.is_below(greatest, &at.1)).count();
            let end = ranked.len().saturating_sub(above);
            let rest = ranked.get(..end).unwrap_or_default();
            if !rest.last().is_some_and(fits) {
                return 0..0;
            }
            let start = end.saturating_sub(rest.iter().rev().take_while(|at| self.is_above(least, &at.1)).count());
            return start..end;
        }
        let start = ranked.iter().take_while(|at| !self.is_above(least, &at.1)).count();
        let rest = ranked.get(start..).unwrap_or_default();
        if !rest.first().is_some_and(fits) {
            return 0..0;
        }
        start..start.saturating_add(rest.iter().take_while(|at| self.is_below(greatest, &at.1)).count())
    }

    fn places_of(&self, ranked: &[Ranked], span: Span, reverse: bool) -> std::ops::Range<usize> {
        match span {
            Span::Rank { first, last } => {
                let places = places(first, last, ranked.len());
                let mirrored = |at: usize| ranked.len().saturating_sub(at);
                if reverse { mirrored(places.end)..mirrored(places.start) } else { places }
            }
            Span::Score { least, greatest } => {
                let below = |at: &Ranked| at.0 < least.value || (least.excluded && at.0 == least.value);
                let within = |at: &Ranked| at.0 < greatest.value || (!greatest.excluded && at.0 == greatest.value);
                let (start, end) = (ranked.partition_point(below), ranked.partition_point(within));
                start..end.max(start)
            }
            Span::Member { least, greatest } => self.member_places(ranked, least, greatest, reverse),
        }
    }

    fn ranked(&self) -> Vec<Ranked> {
        self.key().map(|k| k.ranked()).unwrap_or_default()
    }

    pub(super) fn count_within(&mut self, span: Span) {
        let ranked = self.ranked();
        let count = self.places_of(&ranked, span, false).len();
        self.reply.count(count);
    }

    pub(super) fn remove_within(&mut self, span: Span) {
        let ranked = self.ranked();
        let members = ranked.get(self.places_of(&ranked, span, false)).unwrap_or_default();
        for (_, member) in members {
            self.wrote |= self.session.remove_field(&self.target().key, member, self.now);
        }
        if !members.is_empty() {
            let event = match span {
                Span::Rank { .. } => "zremrangebyrank",
                Span::Score { .. } => "zremrangebyscore",
                Span::Member { .. } => "zremrangebylex",
            };
            self.note_removal(Classes::SORTED_SET, event, &self.target().key);
        }
        self.reply.count(members.len());
    }

    pub(super) fn range(&mut self, range: Range) {
        let ranked = self.ranked();
        let places = self.places_of(&ranked, range.span, range.reverse);
        let (skip, count) = range.limit.filter(|_| !matches!(range.span, Span::Rank { .. })).unwrap_or((0, -1));
        // A negative number to skip skips everything, a negative number to show shows everything, as in Redis.
        let (skip, count) = (usize::try_from(skip).unwrap_or(usize::MAX), usize::try_from(count).unwrap_or(usize::MAX));
        let chosen: Vec<&Ranked> = match (range.span, range.reverse) {
            // What is skipped is not compared, which shows where scores differ.
            (Span::Member { greatest, .. }, false) => {
                let rest = ranked.get(places.start..).filter(|_| !places.is_empty()).unwrap_or_default();
                rest.iter().skip(skip).take_while(|at| self.is_below(greatest, &at.1)).take(count).collect()
            }
            (Span::Member { least, .. }, true) => {
                let rest = ranked.get(..places.end).filter(|_| !places.is_empty()).unwrap_or_default();
                rest.iter().rev().skip(skip).take_while(|at| self.is_above(least, &at.1)).take(count).collect()
            }
            (_, false) => ranked.get(places).unwrap_or_default().iter().skip(skip).take(count).collect(),
            (_, true) => ranked.get(places).unwrap_or_default().iter().rev().skip(skip).take(count).collect(),
        };
        let pairs = range.with_scores && self.reply.protocol() == Protocol::Resp3;
        self.reply.array(if range.with_scores && !pairs { chosen.len().saturating_mul(2) } else { chosen.len() });
        for (score, member) in chosen {
            if pairs {
                self.reply.array(2);
            }
            self.reply.bulk(member);
            if range.with_scores {
                self.reply.double(*score);
            }
        }
        self.session.count_reads(&self.target().key, self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_both_ends() {
        assert_eq!(places(0, -1, 3), 0..3);
        assert_eq!(places(-2, -1, 3), 1..3);
        assert_eq!(places(-100, 0, 3), 0..1);
        assert_eq!(places(1, 100, 3), 1..3);
        assert_eq!(places(2, 1, 3), 0..0);
        assert_eq!(places(0, -1, 0), 0..0);
        assert_eq!(places(i64::MIN, i64::MAX, 3), 0..3);
    }
}

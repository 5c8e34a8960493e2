//! Actions on lists: an element is a variable.
//!
//! They never block: the blocking commands are not served on session keys. What is stored is copied. Called by `execute`.
//!
//! | action | needs |
//! |---|---|
//! | LPUSH, RPUSH, LPUSHX, RPUSHX, LSET, LTRIM, LLEN | nothing |
//! | LINDEX, LPOP, RPOP, LMOVE, RPOPLPUSH, LRANGE | the elements it shows |
//! | LREM, LINSERT, LPOS | all elements |
//!
//! Invariant: a list without elements does not exist.

use super::action::{Action, integer};
use super::events::Classes;
use super::execute::Run;
use super::ranges::places;
use super::strings::NOT_HERE;
use super::{Op, errors};
use crate::session::lists::End;
use crate::session::{Content, Key, Kind, Variable};
use crate::wire::resp::parse_integer;
use bytes::Bytes;

/// What is done with a list; its elements are in the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ListAction {
    Index,
    Insert { after: bool },
    Move { from: End, to: End },
    Pop { end: End, count: Option<usize> },
    Position(Position),
    Push { end: End, if_exists: bool },
    Range { first: i64, last: i64 },
    Remove { count: i64 },
    Set,
    Trim { first: i64, last: i64 },
}

/// The options of `LPOS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    rank: i64,
    count: Option<usize>,
    /// How many elements to compare; 0: all.
    compared_max: usize,
}

fn end(args: &[Bytes], place: usize) -> Result<End, Bytes> {
    match args.get(place) {
        Some(text) if text.eq_ignore_ascii_case(b"left") => Ok(End::Left),
        Some(text) if text.eq_ignore_ascii_case(b"right") => Ok(End::Right),
        _ => Err(errors::SYNTAX.into()),
    }
}

/// `LRANGE key first last`, `LTRIM key first last`
pub(super) fn range(args: &[Bytes], trims: bool) -> Result<Action, Bytes> {
    let (first, last) = (integer(args, 2)?, integer(args, 3)?);
    Ok(Action::OfList(if trims { ListAction::Trim { first, last } } else { ListAction::Range { first, last } }))
}

/// `LREM key count element`
pub(super) fn remove(args: &[Bytes]) -> Result<Action, Bytes> {
    Ok(Action::OfList(ListAction::Remove { count: integer(args, 2)? }))
}

/// `LINSERT key BEFORE|AFTER pivot element`
pub(super) fn insert(args: &[Bytes]) -> Result<Action, Bytes> {
    let after = match args.get(2) {
        Some(text) if text.eq_ignore_ascii_case(b"after") => true,
        Some(text) if text.eq_ignore_ascii_case(b"before") => false,
        _ => return Err(errors::SYNTAX.into()),
    };
    Ok(Action::OfList(ListAction::Insert { after }))
}

/// `LPOP key [count]`, `RPOP key [count]`
pub(super) fn pop(args: &[Bytes], name: &str, end: End) -> Result<Action, Bytes> {
    let count = match args {
        [_, _] => None,
        [_, _, count] => Some(parse_integer(count).and_then(|count| usize::try_from(count).ok()).ok_or(errors::NOT_POSITIVE)?),
        _ => return Err(errors::arity(name)),
    };
    Ok(Action::OfList(ListAction::Pop { end, count }))
}

/// `LMOVE from to LEFT|RIGHT LEFT|RIGHT`
pub(super) fn lmove(args: &[Bytes]) -> Result<Action, Bytes> {
    Ok(Action::OfList(ListAction::Move { from: end(args, 3)?, to: end(args, 4)? }))
}

/// `LPOS key element [RANK r] [COUNT n] [MAXLEN n]`
pub(super) fn position(args: &[Bytes]) -> Result<Action, Bytes> {
    let mut position = Position { rank: 1, count: None, compared_max: 0 };
    let positive = |text: &Bytes, error: &'static str| {
        parse_integer(text).and_then(|count| usize::try_from(count).ok()).ok_or(Bytes::from_static(error.as_bytes()))
    };
    let mut rest = args.get(3..).unwrap_or_default();
    while let [option, behind @ ..] = rest {
        rest = match behind {
            [rank, behind @ ..] if option.eq_ignore_ascii_case(b"rank") => {
                position.rank = match parse_integer(rank) {
                    None => return Err(errors::NOT_AN_INTEGER.into()),
                    Some(i64::MIN) => return Err(errors::NOT_SYMMETRIC.into()),
                    Some(0) => return Err(errors::RANK_ZERO.into()),
                    Some(rank) => rank,
                };
                behind
            }
            [count, behind @ ..] if option.eq_ignore_ascii_case(b"count") => {
                position.count = Some(positive(count, errors::COUNT_NEGATIVE)?);
                behind
            }
            [count, behind @ ..] if option.eq_ignore_ascii_case(b"maxlen") => {
                position.compared_max = positive(count, errors::MAXLEN_NEGATIVE)?;
                behind
            }
            _ => return Err(errors::SYNTAX.into()),
        };
    }
    Ok(Action::OfList(ListAction::Position(position)))
}

/// The place from the head that an index names, negative ones from the tail.
fn place(index: i64, len: usize) -> Option<usize> {
    let at = if index < 0 { index.checked_add(i64::try_from(len).ok()?)? } else { index };
    usize::try_from(at).ok().filter(|at| *at < len)
}

/// The elements whose values an action needs.
pub(super) fn needed(action: ListAction, op: &Op, key: &Key) -> std::ops::Range<usize> {
    let len = key.len();
    let at_end = |end: End, count: usize| match end {
        End::Left => 0..count.min(len),
        End::Right => len.saturating_sub(count)..len,
    };
    match action {
        ListAction::Push { .. } | ListAction::Set | ListAction::Trim { .. } => 0..0,
        ListAction::Insert { .. } | ListAction::Position(_) | ListAction::Remove { .. } => 0..len,
        ListAction::Move { from, .. } => at_end(from, 1),
        ListAction::Pop { end, count } => at_end(end, count.unwrap_or(1)),
        ListAction::Range { first, last } => places(first, last, len),
        ListAction::Index => {
            let at = parse_integer(op.arg(2)).and_then(|index| place(index, len));
            at.map_or(0..0, |at| at..at.saturating_add(1))
        }
    }
}

fn is(variable: &Variable, value: &[u8]) -> bool {
    matches!(&variable.content, Content::Here(here) if here.as_ref() == value)
}

fn push_event(end: End) -> &'static str {
    if matches!(end, End::Left) { "lpush" } else { "rpush" }
}

fn pop_event(end: End) -> &'static str {
    if matches!(end, End::Left) { "lpop" } else { "rpop" }
}

impl Run<'_> {
    pub(super) fn of_list(&mut self, action: ListAction) {
        let Some(exists) = self.of_kind(Kind::List) else { return };
        match action {
            ListAction::Index => self.list_index(exists),
            ListAction::Insert { after } => self.list_insert(after),
            ListAction::Move { from, to } => self.list_move(from, to),
            ListAction::Pop { end, count } => self.list_pop(end, count, exists),
            ListAction::Position(position) => self.list_position(position),
            ListAction::Push { end, if_exists } => self.list_push(end, exists || !if_exists),
            ListAction::Range { first, last } => {
                let places = places(first, last, self.elements());
                self.reply.array(places.len());
                places.for_each(|at| self.reply_element(at));
            }
            ListAction::Remove { count } => self.list_remove(count),
            ListAction::Set => self.list_set(exists),
            ListAction::Trim { first, last } => {
                let kept = places(first, last, self.elements());
                let removed = self.session.retain_elements(&self.target().key, self.now, |at, _| kept.contains(&at));
                self.wrote |= removed > 0;
                if exists {
                    self.note_removal(Classes::LIST, "ltrim", &self.target().key);
                }
                self.reply.simple("OK");
            }
        }
    }

    fn elements(&self) -> usize {
        self.key().map_or(0, |k| k.len())
    }

    fn reply_element(&mut self, at: usize) {
        match self.session.read_element(&self.target().key, at, self.now) {
            Some(value) => self.reply.bulk(&value),
            None => self.reply.error(NOT_HERE),
        }
    }

    fn list_index(&mut self, exists: bool) {
        if !exists {
            return self.reply.null();
        }
        let Some(index) = parse_integer(self.arg(2)) else { return self.reply.error(errors::NOT_AN_INTEGER) };
        match place(index, self.elements()) {
            Some(at) => self.reply_element(at),
            None => self.reply.null(),
        }
    }

    fn list_set(&mut self, exists: bool) {
        if !exists {
            return self.reply.error(errors::NO_SUCH_KEY);
        }
        let Some(index) = parse_integer(self.arg(2)) else { return self.reply.error(errors::NOT_AN_INTEGER) };
        let Some(at) = place(index, self.elements()) else { return self.reply.error(errors::INDEX_OUT_OF_RANGE) };
        let value = Bytes::copy_from_slice(self.arg(3));
        self.wrote |= self.session.write_element(&self.target().key, at, value, self.now);
        self.note(Classes::LIST, "lset", &self.target().key);
        self.reply.simple("OK");
    }

    fn list_push(&mut self, end: End, allowed: bool) {
        let mut length = self.elements();
        for element in self.op.args().get(2..).unwrap_or_default().iter().filter(|_| allowed) {
            length = self.session.push_element(&self.target().key, end, Bytes::copy_from_slice(element), self.now);
            self.wrote = true;
        }
        if allowed {
            self.note(Classes::LIST, push_event(end), &self.target().key);
        }
        self.reply.count(length);
    }

    fn list_pop(&mut self, end: End, count: Option<usize>, exists: bool) {
        let Some(count) = count else {
            let value = self.session.pop_element(&self.target().key, end, self.now);
            if value.is_some() {
                self.wrote = true;
                self.note_removal(Classes::LIST, pop_event(end), &self.target().key);
            }
            return self.reply.bulk_or_null(value);
        };
        if !exists {
            return self.reply.null_array();
        }
        let count = count.min(self.elements());
        self.reply.array(count);
        let (list, reply) = (self.target(), &mut self.reply);
        let popped = self.session.pop_elements(&list.key, end, count, self.now, |value| reply.bulk(value));
        (popped..count).for_each(|_| self.reply.error(NOT_HERE));
        if popped > 0 {
            self.wrote = true;
            self.note_removal(Classes::LIST, pop_event(end), &list.key);
        }
    }

    fn list_insert(&mut self, after: bool) {
        let (pivot, value) = (self.arg(3), self.arg(4));
        let Some(key) = self.key() else { return self.reply.integer(0) };
        let Some(at) = key.variables().position(|(_, v)| is(v, pivot)) else { return self.reply.integer(-1) };
        let (at, value) = (at.saturating_add(usize::from(after)), Bytes::copy_from_slice(value));
        let length = self.session.insert_element(&self.target().key, at, value, self.now);
        self.wrote = true;
        self.note(Classes::LIST, "linsert", &self.target().key);
        self.reply.count(length);
    }

    fn list_remove(&mut self, count: i64) {
        let value = self.arg(3);
        let most = usize::try_from(count.unsigned_abs()).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
        // From the tail: those that stand before the last `most` stay.
        let found = self.key().map_or(0, |k| k.variables().filter(|(_, v)| is(v, value)).count());
        let mut spared = if count < 0 { found.saturating_sub(most) } else { 0 };
        let mut left = most;
        let removed = self.session.retain_elements(&self.target().key, self.now, |_, variable| {
            if !is(variable, value) || left == 0 {
                return true;
            }
            if spared > 0 {
                spared -= 1;
                return true;
            }
            left -= 1;
            false
        });
        if removed > 0 {
            self.wrote = true;
            self.note_removal(Classes::LIST, "lrem", &self.target().key);
        }
        self.reply.count(removed);
    }

    fn list_position(&mut self, position: Position) {
        let (value, length) = (self.arg(2), self.elements());
        let compared = if position.compared_max == 0 { length } else { position.compared_max.min(length) };
        let skipped = usize::try_from(position.rank.unsigned_abs()).unwrap_or(usize::MAX).saturating_sub(1);
        let wanted = match position.count {
            None => 1,
            Some(0) => usize::MAX,
            Some(count) => count,
        };
        let matches = |at: &usize| self.key().and_then(|k| k.element(*at)).is_some_and(|v| is(v, value));
        let found: Vec<usize> = if position.rank < 0 {
            (length.saturating_sub(compared)..length).rev().filter(matches).skip(skipped).take(wanted).collect()
        } else {
            (0..compared).filter(matches).skip(skipped).take(wanted).collect()
        };
        match (position.count, found.first()) {
            (Some(_), _) => {
                self.reply.array(found.len());
                found.iter().for_each(|at| self.reply.count(*at));
            }
            (None, Some(at)) => self.reply.count(*at),
            (None, None) => self.reply.null(),
        }
    }

    fn list_move(&mut self, from: End, to: End) {
        let (source, target) = (&self.target().key, &self.second_target().key);
        if self.session.key(source, self.now).is_none() {
            return self.reply.null();
        }
        if self.session.key(target, self.now).is_some_and(|k| k.kind != Kind::List) {
            return self.reply.error(errors::WRONG_TYPE);
        }
        self.wrote = true;
        if source == target && self.elements() == 1 {
            // Taking its only element away would end the list, and its expiry with it.
            self.note(Classes::LIST, push_event(to), target);
            self.note(Classes::LIST, pop_event(from), source);
            return self.reply_element(0);
        }
        let Some(value) = self.session.pop_element(source, from, self.now) else { return self.reply.error(NOT_HERE) };
        self.reply.bulk(&value);
        self.session.push_element(target, to, value, self.now);
        self.note(Classes::LIST, push_event(to), target);
        self.note_removal(Classes::LIST, pop_event(from), source);
    }
}

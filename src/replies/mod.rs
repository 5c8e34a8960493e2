//! The replies of one client, in the order of its commands, and the parts of those that are joined from several.
//!
//! It never sends: the state face, and the front of a cluster ([`crate::upstream`]), take what is ready from `out`. A reply that is
//! due waits in a slot until those before it are there.
//!
//! | join | parts | whole |
//! |---|---|---|
//! | sum | integers | their sum |
//! | array | arrays | the elements at the places of their keys |
//! | concat | arrays | all elements, in order |
//! | last | any | the last part |
//! | first | any | the first that is no null |
//! | least | integers, or arrays of them | the least at each place |
//! | any | one of them an error | that error |
//!
//! The reply of a command that wants none (`CLIENT REPLY`) is dropped when it is there, wherever it came from.
//! Invariant: `out` holds whole replies only, each behind all earlier ones.

use bytes::{Bytes, BytesMut};
use std::collections::{HashSet, VecDeque};
use wayfarer_engine::command::table::Join;
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_engine::wire::resp::{Protocol, Reply, parse_integer};

/// A reply that is due, or one part of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Unit {
    command: u64,
    part: usize,
}

impl Unit {
    /// Of what no client waits for.
    pub(crate) const NOBODYS: Unit = Unit { command: u64::MAX, part: usize::MAX };
}

/// How the parts of one reply become it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whole {
    Sum,
    Array,
    /// Arrays, one behind the other: each name once, and none that begins with this.
    Concat(Option<&'static [u8]>),
    Last,
    First,
    Least,
    Done,
}

impl From<Join> for Whole {
    fn from(join: Join) -> Whole {
        match join {
            Join::Sum => Whole::Sum,
            Join::Array => Whole::Array,
            Join::Done => Whole::Done,
        }
    }
}

/// One part: the places of its keys among those of the command, and its reply.
struct Part {
    places: Vec<usize>,
    reply: Option<Bytes>,
}

enum Slot {
    Ready(Bytes),
    Due,
    Parts { join: Whole, parts: Vec<Part>, due: usize },
}

struct Place {
    slot: Slot,
    /// Its reply is dropped when it has come.
    silent: bool,
}

/// Where replies go when it is their turn.
pub(crate) trait Out: Default {
    /// Appends whole replies.
    fn push(&mut self, replies: Bytes);
    /// Where small replies are written.
    fn tail(&mut self) -> &mut BytesMut;
    /// Bytes that were not taken.
    fn bytes(&self) -> usize;
}

impl Out for BytesMut {
    fn push(&mut self, replies: Bytes) {
        self.extend_from_slice(&replies);
    }

    fn tail(&mut self) -> &mut BytesMut {
        self
    }

    fn bytes(&self) -> usize {
        self.len()
    }
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Replies<O> {
    /// What can be sent.
    pub(crate) out: O,
    slots: VecDeque<Place>,
    /// The command that is being begun gets no reply.
    silent: bool,
    /// The number of the command in the first slot.
    first: u64,
    /// Bytes of replies that wait in slots.
    waiting_bytes: usize,
}

/// What cannot happen between parts that all speak RESP; an error is better than a wrong sum.
const UNFIT: &[u8] = b"-ERR wayfarer: the parts of the reply do not fit together\r\n";

impl<O: Out> Replies<O> {
    /// Whether the commands that are begun from now on get no reply (`CLIENT REPLY`).
    pub(crate) fn hush(&mut self, silent: bool) {
        self.silent = silent;
    }

    /// This reply is not dropped: whoever brings it has left out what the client does not want to hear.
    pub(crate) fn speak(&mut self, unit: Unit) {
        self.place(unit).into_iter().for_each(|place| place.silent = false);
    }

    /// Where the next reply can be written at once, if none is due before it and it is wanted.
    pub(crate) fn direct(&mut self) -> Option<&mut O> {
        if self.slots.is_empty() && !self.silent { Some(&mut self.out) } else { None }
    }

    /// Adds the whole reply of the next command.
    pub(crate) fn push(&mut self, reply: Bytes) {
        let silent = self.silent;
        match self.direct() {
            Some(out) => out.push(reply),
            None if silent => {}
            None => {
                self.waiting_bytes = self.waiting_bytes.saturating_add(reply.len());
                self.slots.push_back(Place { slot: Slot::Ready(reply), silent: false });
            }
        }
    }

    /// Writes the reply of the next command.
    pub(crate) fn write(&mut self, protocol: Protocol, write: impl FnOnce(&mut Reply<'_>)) {
        match self.direct() {
            Some(out) => write(&mut Reply::new(out.tail(), protocol)),
            None => {
                let mut out = BytesMut::new();
                write(&mut Reply::new(&mut out, protocol));
                self.push(out.freeze());
            }
        }
    }

    /// The reply of the next command will come.
    pub(crate) fn due(&mut self) -> Unit {
        self.slots.push_back(Place { slot: Slot::Due, silent: self.silent });
        Unit { command: self.last(), part: 0 }
    }

    /// The reply of the next command will come in these parts; says their units in the same order.
    pub(crate) fn due_parts(&mut self, join: impl Into<Whole>, places: Vec<Vec<usize>>) -> Vec<Unit> {
        let due = places.len();
        let parts: Vec<Part> = places.into_iter().map(|places| Part { places, reply: None }).collect();
        self.slots.push_back(Place { slot: Slot::Parts { join: join.into(), parts, due }, silent: self.silent });
        let command = self.last();
        (0..due).map(|part| Unit { command, part }).collect()
    }

    fn last(&self) -> u64 {
        let slots = u64::try_from(self.slots.len()).unwrap_or(u64::MAX);
        self.first.saturating_add(slots).saturating_sub(1)
    }

    /// A reply that was due, or a part of it. A second one for the same unit is not counted.
    pub(crate) fn fill(&mut self, unit: Unit, reply: Bytes) {
        let Some(place) = self.place(unit) else { return };
        let whole = match &mut place.slot {
            Slot::Ready(_) => return,
            Slot::Due => reply,
            Slot::Parts { join, parts, due } => {
                let Some(part) = parts.get_mut(unit.part).filter(|p| p.reply.is_none()) else { return };
                part.reply = Some(reply);
                *due -= 1;
                if *due > 0 {
                    return;
                }
                joined(*join, parts)
            }
        };
        let whole = if place.silent { Bytes::new() } else { whole };
        let added = whole.len();
        place.slot = Slot::Ready(whole);
        self.waiting_bytes = self.waiting_bytes.saturating_add(added);
        self.advance();
    }

    fn place(&mut self, unit: Unit) -> Option<&mut Place> {
        let at = unit.command.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.slots.get_mut(at))
    }

    fn advance(&mut self) {
        while let Some(Place { slot: Slot::Ready(reply), .. }) = self.slots.front_mut() {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(reply.len());
            self.out.push(std::mem::take(reply));
            self.slots.pop_front();
            self.first = self.first.saturating_add(1);
        }
    }

    /// Commands whose replies have not reached `out`.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Bytes that the client has not taken.
    pub(crate) fn bytes(&self) -> usize {
        self.out.bytes().saturating_add(self.waiting_bytes)
    }
}

fn joined(join: Whole, parts: &[Part]) -> Bytes {
    let replies = || parts.iter().filter_map(|p| p.reply.as_ref());
    if let Some(error) = replies().find(|r| r.first() == Some(&b'-')) {
        return error.clone();
    }
    let whole = match join {
        Whole::Sum => sum(replies()),
        Whole::Array => array(parts),
        Whole::Concat(hidden) => concat(replies(), hidden),
        Whole::Last => replies().last().cloned(),
        Whole::First => replies().find(|reply| !is_null(reply)).or(replies().last()).cloned(),
        Whole::Least => least(replies()),
        Whole::Done => Some(Bytes::from_static(b"+OK\r\n")),
    };
    whole.unwrap_or(Bytes::from_static(UNFIT))
}

/// Whether an element of an array is a name that begins with `hidden`.
pub(crate) fn is_hidden(element: &[u8], hidden: Option<&[u8]>) -> bool {
    let name = element.iter().position(|byte| *byte == b'\n').and_then(|end| element.get(end + 1..));
    hidden.zip(name).is_some_and(|(hidden, name)| name.starts_with(hidden))
}

fn sum<'a>(replies: impl Iterator<Item = &'a Bytes>) -> Option<Bytes> {
    let mut sum = 0i64;
    for reply in replies {
        let number = parse_integer(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?)?;
        sum = sum.checked_add(number)?;
    }
    let mut out = BytesMut::new();
    Reply::new(&mut out, Protocol::Resp2).integer(sum);
    Some(out.freeze())
}

fn is_null(reply: &[u8]) -> bool {
    matches!(reply, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
}

fn least<'a>(replies: impl Iterator<Item = &'a Bytes>) -> Option<Bytes> {
    let integer = |reply: &[u8]| parse_integer(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?);
    let mut of_arrays = false;
    let mut numbers: Option<Vec<i64>> = None;
    for reply in replies {
        of_arrays = reply.first() == Some(&b'*');
        let these: Vec<i64> = if of_arrays {
            elements(reply, usize::MAX)?.into_iter().map(integer).collect::<Option<_>>()?
        } else {
            vec![integer(reply)?]
        };
        numbers = Some(match numbers {
            Some(least) if least.len() == these.len() => least.into_iter().zip(these).map(|(a, b)| a.min(b)).collect(),
            None => these,
            Some(_) => return None,
        });
    }
    let (numbers, mut out) = (numbers?, BytesMut::new());
    let mut reply = Reply::new(&mut out, Protocol::Resp2);
    if of_arrays {
        reply.array(numbers.len());
    }
    numbers.into_iter().for_each(|number| reply.integer(number));
    Some(out.freeze())
}

fn concat<'a>(replies: impl Iterator<Item = &'a Bytes>, hidden: Option<&[u8]>) -> Option<Bytes> {
    let mut all: Vec<&[u8]> = Vec::new();
    for reply in replies {
        all.extend(elements(reply, usize::MAX)?.into_iter().filter(|name| !is_hidden(name, hidden)));
    }
    // What was written since it moved may be shown by its owner and by the upstream.
    let mut shown = HashSet::with_capacity(all.len());
    all.retain(|name| shown.insert(*name));
    let mut out = BytesMut::new();
    let mut reply = Reply::new(&mut out, Protocol::Resp2);
    reply.array(all.len());
    all.iter().for_each(|element| reply.raw(element));
    Some(out.freeze())
}

fn array(parts: &[Part]) -> Option<Bytes> {
    let len = parts.iter().map(|p| p.places.len()).sum();
    let mut whole: Vec<&[u8]> = vec![&[]; len];
    for part in parts {
        let elements = elements(part.reply.as_ref()?, part.places.len())?;
        if elements.len() != part.places.len() {
            return None;
        }
        for (place, element) in part.places.iter().zip(elements) {
            *whole.get_mut(*place)? = element;
        }
    }
    let mut out = BytesMut::new();
    let mut reply = Reply::new(&mut out, Protocol::Resp2);
    reply.array(len);
    whole.iter().for_each(|element| reply.raw(element));
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn replies_keep_the_order_of_their_commands() {
        let mut replies = Replies::<BytesMut>::default();
        replies.push(bytes("+1\r\n"));
        let second = replies.due();
        replies.push(bytes("+3\r\n"));
        let fourth = replies.due();
        assert_eq!((replies.out.as_ref(), replies.slots(), replies.bytes()), (&b"+1\r\n"[..], 3, 8));
        replies.fill(fourth, bytes("+4\r\n"));
        assert_eq!(replies.out.as_ref(), b"+1\r\n");
        replies.fill(second, bytes("+2\r\n"));
        assert_eq!((replies.out.as_ref(), replies.slots()), (&b"+1\r\n+2\r\n+3\r\n+4\r\n"[..], 0));
        replies.fill(second, bytes("+again\r\n"));
        replies.push(bytes("+5\r\n"));
        assert_eq!((replies.out.as_ref(), replies.bytes()), (&b"+1\r\n+2\r\n+3\r\n+4\r\n+5\r\n"[..], 20));
    }

    #[track_caller]
    fn check_joined(join: impl Into<Whole>, parts: &[(&[usize], &str)], expected: &str) {
        let mut replies = Replies::<BytesMut>::default();
        let units = replies.due_parts(join, parts.iter().map(|(places, _)| places.to_vec()).collect());
        for (unit, (_, reply)) in units.iter().zip(parts).rev() {
            assert!(replies.out.is_empty());
            replies.fill(*unit, bytes(reply));
        }
        assert_eq!(replies.out.as_ref() as &[u8], expected.as_bytes());
    }

    #[test]
    fn parts_make_one_reply() {
        check_joined(Join::Sum, &[(&[0], ":1\r\n"), (&[1, 2], ":2\r\n")], ":3\r\n");
        check_joined(Join::Sum, &[(&[0], ":1\r\n"), (&[1], "-TRYAGAIN x\r\n")], "-TRYAGAIN x\r\n");
        check_joined(Join::Sum, &[(&[0], ":1\r\n"), (&[1], "+OK\r\n")], std::str::from_utf8(UNFIT).unwrap());
        check_joined(Whole::First, &[(&[0], "$-1\r\n"), (&[0], "$1\r\na\r\n"), (&[0], "$1\r\nb\r\n")], "$1\r\na\r\n");
        check_joined(Whole::First, &[(&[0], "$-1\r\n"), (&[0], "_\r\n")], "_\r\n");
        check_joined(Whole::Least, &[(&[0], ":3\r\n"), (&[0], ":2\r\n")], ":2\r\n");
        check_joined(Whole::Least, &[(&[0], "*2\r\n:1\r\n:0\r\n"), (&[0], "*2\r\n:1\r\n:1\r\n")], "*2\r\n:1\r\n:0\r\n");
        check_joined(
            Join::Array,
            &[(&[1], "*1\r\n$1\r\nb\r\n"), (&[0, 2], "*2\r\n$-1\r\n$1\r\nc\r\n")],
            "*3\r\n$-1\r\n$1\r\nb\r\n$1\r\nc\r\n",
        );
        check_joined(Join::Array, &[(&[0], "*0\r\n"), (&[1], "*1\r\n:1\r\n")], std::str::from_utf8(UNFIT).unwrap());
    }
}

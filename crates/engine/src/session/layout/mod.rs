//! Divides the value of a string key into pieces, one a top-level member, so that their concatenation is the value again.
//!
//! It never changes, decodes or orders a byte, and never fails: what is not certainly a container with distinct members is
//! `None`, and its key stays one variable. [`super::rewrite`] stores the pieces, [`merge`] weighs them, policies read their
//! [`plain_name`]s.
//!
//! | layout | text | pieces by name |
//! |---|---|---|
//! | `json` | `{"a":1, "b":2}` | `"a"`: `{"a":1` · `"b"`: `, "b":2` · TAIL: `}` |
//! | `msgpack` | `82 A1 61 01 A1 62 02` | HEAD: `82` · `A1 61`: `A1 61 01` · `A1 62`: `A1 62 02` |
//! | `msgpack` | an array of three, the second a map | HEAD: up to the map's first key · members · TAIL: the third |
//! | `php` | `a\|i:1;b\|i:2;` (text), `<1>ai:1;<1>bi:2;` (binary) | `a`: `a\|i:1;` · `b`: `b\|i:2;` · TAIL: nothing |
//! | `php` | `a:1:{s:1:"a";i:1;}`, also within `s:18:"…";` | HEAD: `a:1:{` · `s:1:"a";`: with its value · TAIL: `}` |
//!
//! The name of a member is its key as the format writes it (of the session handler's formats of PHP: the bare name), so that
//! distinct keys have distinct names and no member can have the name of a part of the skeleton.
//! Every splitter reads each byte at most a constant number of times, uses no recursion, and knows limits of depth and members.
//!
//! Invariant: the pieces in order are exactly the input, and their names are distinct (property tests and a fuzz target).

mod cursor;
mod json;
pub mod merge;
mod msgpack;
mod php;

use super::Layout;
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::HashSet;

/// A container with more members stays whole: versions by member would cost more than they save.
pub const MEMBERS_MAX: usize = 512;
/// Deeper nesting is not followed.
pub const DEPTH_MAX: usize = 128;
/// A member with a longer name is no variable of anybody: the value stays whole.
pub const NAME_BYTES_MAX: usize = 1024;

/// The name of what stands before the first member. No key of MessagePack (a byte that it never uses), JSON (a quote is first)
/// or a serialized array of PHP (a letter is first) has it.
pub const HEAD: Bytes = Bytes::from_static(b"\xC1");
/// The name of what stands behind the last member.
pub const TAIL: Bytes = Bytes::new();

/// One piece of a value: its name, and its bytes as a slice of the value.
pub type Piece = (Bytes, Bytes);

/// In which form a value was found to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// An object.
    Json,
    /// A map.
    Msgpack,
    /// An array of three whose second is a map, as tower-sessions writes it.
    MsgpackRecord,
    /// `serialize()` of an array.
    PhpArray,
    /// `serialize()` of a string that is `serialize()` of an array, as Laravel writes it.
    PhpWrapped,
    /// PHP's session handler `php`.
    PhpText,
    /// PHP's session handler `php_binary`.
    PhpBinary,
}

/// A divided value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split {
    /// What it is.
    pub form: Form,
    /// All pieces in order; their names are distinct.
    pub pieces: Vec<Piece>,
    /// Whether a member means the same beside other members: PHP's `R:n;` and `r:n;` count values across all of them.
    pub independent: bool,
}

/// Divides `text` as its layout says. `None`: it is one variable. The pieces share the memory of `text`.
pub fn split(layout: Layout, text: &Bytes) -> Option<Split> {
    match layout {
        Layout::Json => json::split(text),
        Layout::Msgpack => msgpack::split(text),
        Layout::Php => php::split(text),
        Layout::Hash | Layout::Key | Layout::Opaque => None,
    }
}

/// Whether a piece is a part of the skeleton, not a member.
pub fn is_skeleton(name: &[u8]) -> bool {
    name.is_empty() || name == HEAD.as_ref()
}

/// The name of a variable as policies write it: a field's or a key's as it is, a member's without quotes, lengths and types.
/// A part of the skeleton has none.
pub fn plain_name(layout: Layout, name: &[u8]) -> Cow<'_, [u8]> {
    match layout {
        Layout::Json => Cow::Borrowed(json::plain_name(name)),
        _ if layout.is_divided() && is_skeleton(name) => Cow::Borrowed(b""),
        Layout::Msgpack => msgpack::plain_name(name),
        Layout::Php => Cow::Borrowed(php::plain_name(name)),
        Layout::Hash | Layout::Key | Layout::Opaque => Cow::Borrowed(name),
    }
}

/// Collects pieces, and refuses what would make them ambiguous or too many.
struct Pieces<'a> {
    text: &'a Bytes,
    pieces: Vec<Piece>,
    names: HashSet<Bytes>,
    /// Where the next piece begins.
    start: usize,
}

impl<'a> Pieces<'a> {
    fn of(text: &'a Bytes) -> Pieces<'a> {
        Pieces { text, pieces: Vec::new(), names: HashSet::new(), start: 0 }
    }

    /// What stands before the first member ends at `end`.
    fn head(&mut self, end: usize) {
        let piece = (HEAD, self.slice(end));
        self.pieces.push(piece);
    }

    /// A member, with what stands before it, ends at `end`; its name is at `from..to`.
    fn member(&mut self, from: usize, to: usize, end: usize) -> Option<()> {
        let name = self.text.slice(from..to);
        let fits = self.names.len() < MEMBERS_MAX && name.len() <= NAME_BYTES_MAX && !is_skeleton(&name);
        if !fits || !self.names.insert(name.clone()) {
            return None;
        }
        let piece = (name, self.slice(end));
        self.pieces.push(piece);
        Some(())
    }

    /// The rest is the tail.
    fn tail(&mut self) {
        let rest = self.slice(self.text.len());
        self.pieces.push((TAIL, rest));
    }

    fn slice(&mut self, end: usize) -> Bytes {
        let slice = self.text.slice(self.start..end);
        self.start = end;
        slice
    }
}

#[cfg(test)]
mod tests;

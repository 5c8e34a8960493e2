//! MessagePack: the members of a map, or of the map that is the second of three in an array.
//!
//! It never decodes a value: of each it reads the first byte, which says how many bytes and how many values follow. Called by
//! [`super::split`].
//!
//! | first byte | bytes behind it | values behind them |
//! |---|---|---|
//! | `00–7F`, `E0–FF`, `C0`, `C2`, `C3` | 0 | 0 |
//! | `80–8F`, `DE`, `DF` map | 0, 2, 4 (count) | twice the count |
//! | `90–9F`, `DC`, `DD` array | 0, 2, 4 (count) | the count |
//! | `A0–BF`, `D9–DB`, `C4–C6` text, bytes | 0, 1, 2, 4 (length) + length | 0 |
//! | `C7–C9` extension | 1, 2, 4 (length) + 1 + length | 0 |
//! | `CA–D3` number, `D4–D8` extension | 4 8 1 2 4 8 1 2 4 8, 2 3 5 9 17 | 0 |
//!
//! Invariant: nesting costs no stack: what is counted is how many values are still due, and each takes at least a byte.

use super::cursor::Cursor;
use super::{Form, Pieces, Split};
use bytes::{BufMut, Bytes, BytesMut};
use std::borrow::Cow;

/// An array of three.
const RECORD: u8 = 0x93;

/// The pieces of a map with distinct keys.
pub(super) fn split(text: &Bytes) -> Option<Split> {
    let mut cursor = Cursor::of(text);
    let mut pieces = Pieces::of(text);
    let form = if cursor.peek()? == RECORD {
        cursor.next();
        value(&mut cursor)?;
        Form::MsgpackRecord
    } else {
        Form::Msgpack
    };
    let members = map_count(&mut cursor)?;
    pieces.head(cursor.at());
    for _ in 0..members {
        let from = cursor.at();
        value(&mut cursor)?;
        let to = cursor.at();
        value(&mut cursor)?;
        pieces.member(from, to, cursor.at())?;
    }
    if form == Form::MsgpackRecord {
        value(&mut cursor)?;
        pieces.tail();
    }
    cursor.is_at_end().then_some(Split { form, pieces: pieces.pieces, independent: true })
}

/// The content of a key that is text, bytes or a small number; any other as it is.
pub(super) fn plain_name(name: &[u8]) -> Cow<'_, [u8]> {
    let mut cursor = Cursor::of(name);
    let content = (|| match cursor.next()? {
        byte @ 0x00..=0x7F => Some(Cow::Owned(byte.to_string().into_bytes())),
        byte => text_length(byte, &mut cursor).and_then(|length| cursor.take(length)).map(Cow::Borrowed),
    })();
    content.unwrap_or(Cow::Borrowed(name))
}

/// The head with another count of members, in the shortest form; `None`: it is no head, or a map cannot have so many.
pub(super) fn head_with(head: &[u8], members: usize) -> Option<Bytes> {
    let mut cursor = Cursor::of(head);
    if cursor.peek()? == RECORD {
        cursor.next();
        value(&mut cursor)?;
    }
    let before = head.get(..cursor.at())?;
    let mut out = BytesMut::from(before);
    match u8::try_from(members) {
        Ok(few @ 0..=15) => out.put_u8(0x80 | few),
        _ => {
            out.put_u8(0xDE);
            out.put_u16(u16::try_from(members).ok()?);
        }
    }
    Some(out.freeze())
}

fn map_count(cursor: &mut Cursor<'_>) -> Option<u64> {
    match cursor.next()? {
        byte @ 0x80..=0x8F => Some(u64::from(byte & 0x0F)),
        0xDE => cursor.number(2),
        0xDF => cursor.number(4),
        _ => None,
    }
}

/// The length of text or bytes whose first byte has been read.
fn text_length(first: u8, cursor: &mut Cursor<'_>) -> Option<u64> {
    match first {
        0xA0..=0xBF => Some(u64::from(first & 0x1F)),
        0xC4 | 0xD9 => cursor.number(1),
        0xC5 | 0xDA => cursor.number(2),
        0xC6 | 0xDB => cursor.number(4),
        _ => None,
    }
}

/// Steps over one value with all that is in it.
fn value(cursor: &mut Cursor<'_>) -> Option<()> {
    let mut due: u64 = 1;
    while due > 0 {
        due -= 1;
        let first = cursor.next()?;
        let (values, bytes) = match first {
            0x00..=0x7F | 0xE0..=0xFF | 0xC0 | 0xC2 | 0xC3 => (0, 0),
            0x80..=0x8F => (2 * u64::from(first & 0x0F), 0),
            0x90..=0x9F => (u64::from(first & 0x0F), 0),
            0xA0..=0xBF | 0xC4..=0xC6 | 0xD9..=0xDB => (0, text_length(first, cursor)?),
            0xC7 => (0, cursor.number(1)? + 1),
            0xC8 => (0, cursor.number(2)? + 1),
            0xC9 => (0, cursor.number(4)? + 1),
            0xCC | 0xD0 => (0, 1),
            0xCD | 0xD1 | 0xD4 => (0, 2),
            0xD5 => (0, 3),
            0xCA | 0xCE | 0xD2 => (0, 4),
            0xD6 => (0, 5),
            0xCB | 0xCF | 0xD3 => (0, 8),
            0xD7 => (0, 9),
            0xD8 => (0, 17),
            0xDC => (cursor.number(2)?, 0),
            0xDD => (cursor.number(4)?, 0),
            0xDE => (2 * cursor.number(2)?, 0),
            0xDF => (2 * cursor.number(4)?, 0),
            0xC1 => return None,
        };
        cursor.take(bytes)?;
        due = due.checked_add(values)?;
    }
    Some(())
}

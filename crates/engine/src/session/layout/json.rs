//! JSON: an object's members, each with the punctuation before it; the tail is the closing brace.
//!
//! It never parses more than it needs: nesting is skipped by counting brackets outside strings. Numbers and words are not
//! checked: their bytes are kept whatever they are. Called by [`super::split`].
//!
//! Invariant: a `"` that ends a string is never taken for one within it, or members would be cut in the middle.

use super::cursor::Cursor;
use super::{DEPTH_MAX, Form, Pieces, Split};
use bytes::{BufMut, Bytes, BytesMut};

/// The pieces of an object with distinct members.
pub(super) fn split(text: &Bytes) -> Option<Split> {
    let mut cursor = Cursor::of(text);
    let mut pieces = Pieces::of(text);
    space(&mut cursor);
    cursor.expect(b'{')?;
    space(&mut cursor);
    if cursor.peek()? == b'}' {
        cursor.next();
    } else {
        loop {
            space(&mut cursor);
            let from = cursor.at();
            string(&mut cursor)?;
            let to = cursor.at();
            space(&mut cursor);
            cursor.expect(b':')?;
            space(&mut cursor);
            value(&mut cursor)?;
            pieces.member(from, to, cursor.at())?;
            space(&mut cursor);
            match cursor.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
    }
    space(&mut cursor);
    if !cursor.is_at_end() {
        return None;
    }
    pieces.tail();
    Some(Split { form: Form::Json, pieces: pieces.pieces, independent: true })
}

/// The name of a member without its quotes.
pub(super) fn plain_name(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"\"").and_then(|n| n.strip_suffix(b"\"")).unwrap_or(name)
}

/// A piece without the punctuation before its name.
pub(super) fn core(piece: &[u8]) -> &[u8] {
    let at = piece.iter().position(|byte| *byte == b'"').unwrap_or_default();
    piece.get(at..).unwrap_or_default()
}

/// An object of these pieces, whatever places they had before.
pub(super) fn join(members: &[&Bytes]) -> Bytes {
    let mut out = BytesMut::new();
    for (place, piece) in members.iter().enumerate() {
        out.put_u8(if place == 0 { b'{' } else { b',' });
        let core = core(piece);
        // A writer that sets a space behind its commas goes on to have it.
        let spaced = place > 0 && piece.starts_with(b", ");
        out.extend_from_slice(if spaced { b" " } else { b"" });
        out.extend_from_slice(core);
    }
    out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
    out.freeze()
}

fn space(cursor: &mut Cursor<'_>) {
    cursor.skip_until(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
}

fn string(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.expect(b'"')?;
    loop {
        cursor.skip_until(|byte| matches!(byte, b'"' | b'\\'));
        match cursor.next()? {
            b'"' => return Some(()),
            _ => cursor.next()?,
        };
    }
}

fn value(cursor: &mut Cursor<'_>) -> Option<()> {
    match cursor.peek()? {
        b'"' => string(cursor),
        b'{' | b'[' => nested(cursor),
        _ => {
            let from = cursor.at();
            cursor
                .skip_until(|byte| matches!(byte, b',' | b'}' | b']' | b'{' | b'[' | b'"' | b':' | b' ' | b'\t' | b'\n' | b'\r'));
            (cursor.at() > from).then_some(())
        }
    }
}

fn nested(cursor: &mut Cursor<'_>) -> Option<()> {
    let mut closing = Vec::new();
    loop {
        cursor.skip_until(|byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']'));
        match cursor.peek()? {
            b'"' => {
                string(cursor)?;
                continue;
            }
            b'{' => closing.push(b'}'),
            b'[' => closing.push(b']'),
            byte if closing.pop()? != byte => return None,
            _ => {}
        }
        cursor.next();
        if closing.is_empty() {
            return Some(());
        }
        if closing.len() > DEPTH_MAX {
            return None;
        }
    }
}

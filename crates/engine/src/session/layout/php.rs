//! PHP: the variables of a session as PHP's session handlers write it, and the entries of a serialized array.
//!
//! It never makes an object of what it reads, and reads of a value no more than where it ends. Called by [`super::split`].
//!
//! | form | grammar | who writes it |
//! |---|---|---|
//! | array | `a:N:{ (key value)×N }` | handler `php_serialize` |
//! | wrapped | `s:N:"` array `";` | Laravel |
//! | text | (name `\|` value)… | handler `php`, the default |
//! | binary | (length in one byte, name, value)… | handler `php_binary` |
//!
//! A value: `N;` · `b:…;` `i:…;` `d:…;` `r:…;` `R:…;` · `s:N:"…";` `E:N:"…";` · `a:N:{…}` `O:N:"…":N:{…}` · `C:N:"…":N:{…}`.
//! A key: `i:…;` or `s:N:"…";`. The older notations `S:` and `o:` are not followed: such a value is one variable.
//!
//! Invariant: only lengths say where text ends, never a quote, so no content can be taken for structure.

use super::cursor::Cursor;
use super::{DEPTH_MAX, Form, Pieces, Split};
use bytes::{Bytes, BytesMut};

/// In the handler `php_binary` a longer name cannot be written; the eighth bit says that there is no value.
const BINARY_NAME_BYTES_MAX: u8 = 127;

/// The pieces of a session in whichever of the forms it is; the stricter ones are tried first.
pub(super) fn split(text: &Bytes) -> Option<Split> {
    array(text).or_else(|| handler(text, Form::PhpText)).or_else(|| handler(text, Form::PhpBinary))
}

/// The content of a key of an array; the name that a handler wrote as it is.
pub(super) fn plain_name(name: &[u8]) -> &[u8] {
    let mut cursor = Cursor::of(name);
    match scalar_key(&mut cursor) {
        Some(content) if cursor.is_at_end() => content,
        _ => name,
    }
}

/// Head and tail around `members_bytes` bytes of `members` entries, by the form of `head`; `None`: it is no head.
pub(super) fn ends_with(form: Form, members: usize, members_bytes: usize) -> Option<(Bytes, Bytes)> {
    let open = format!("a:{members}:{{");
    match form {
        Form::PhpArray => Some((Bytes::from(open), Bytes::from_static(b"}"))),
        Form::PhpWrapped => {
            let length = open.len().checked_add(members_bytes)?.checked_add(1)?;
            let mut head = BytesMut::from(format!("s:{length}:\"").as_bytes());
            head.extend_from_slice(open.as_bytes());
            Some((head.freeze(), Bytes::from_static(b"}\";")))
        }
        _ => None,
    }
}

fn array(text: &Bytes) -> Option<Split> {
    let mut cursor = Cursor::of(text);
    let mut pieces = Pieces::of(text);
    let mut references = false;
    let mut inner_end = None;
    if cursor.peek()? == b's' {
        inner_end = Some(open_text(&mut cursor)?);
    }
    cursor.expect(b'a')?;
    cursor.expect(b':')?;
    let members = cursor.decimal(b':')?;
    cursor.expect(b'{')?;
    pieces.head(cursor.at());
    for _ in 0..members {
        let from = cursor.at();
        scalar_key(&mut cursor)?;
        let to = cursor.at();
        value(&mut cursor, &mut references)?;
        pieces.member(from, to, cursor.at())?;
    }
    cursor.expect(b'}')?;
    if let Some(inner_end) = inner_end {
        (cursor.at() == inner_end).then_some(())?;
        cursor.expect(b'"')?;
        cursor.expect(b';')?;
    }
    pieces.tail();
    let form = if inner_end.is_some() { Form::PhpWrapped } else { Form::PhpArray };
    cursor.is_at_end().then_some(Split { form, pieces: pieces.pieces, independent: !references })
}

/// A session of the handler `php` or `php_binary`.
fn handler(text: &Bytes, form: Form) -> Option<Split> {
    let mut cursor = Cursor::of(text);
    let mut pieces = Pieces::of(text);
    let mut references = false;
    // Without a member there is nothing to divide.
    cursor.peek()?;
    while !cursor.is_at_end() {
        let (from, to) = if form == Form::PhpBinary {
            let length = cursor.next().filter(|length| *length <= BINARY_NAME_BYTES_MAX)?;
            let from = cursor.at();
            cursor.take(u64::from(length))?;
            (from, cursor.at())
        } else {
            let from = cursor.at();
            cursor.skip_until(|byte| byte == b'|');
            let to = cursor.at();
            cursor.expect(b'|')?;
            (from, to)
        };
        value(&mut cursor, &mut references)?;
        pieces.member(from, to, cursor.at())?;
    }
    pieces.tail();
    Some(Split { form, pieces: pieces.pieces, independent: !references })
}

/// Steps over `s:N:"`; where the text of N bytes ends.
fn open_text(cursor: &mut Cursor<'_>) -> Option<usize> {
    cursor.expect(b's')?;
    cursor.expect(b':')?;
    let length = cursor.decimal(b':')?;
    cursor.expect(b'"')?;
    cursor.at().checked_add(usize::try_from(length).ok()?)
}

/// Steps over a key of an array; its content.
fn scalar_key<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    match cursor.peek()? {
        b'i' => {
            cursor.take(2).filter(|start| start.ends_with(b":"))?;
            let content = cursor.take_while(|byte| matches!(byte, b'0'..=b'9' | b'-'));
            cursor.expect(b';')?;
            Some(content)
        }
        b's' => {
            cursor.take(2).filter(|start| start.ends_with(b":"))?;
            let content = quoted(cursor)?;
            cursor.expect(b';')?;
            Some(content)
        }
        _ => None,
    }
}

/// Steps over `N:"…"`; what is between the quotes.
fn quoted<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let length = cursor.decimal(b':')?;
    cursor.expect(b'"')?;
    let content = cursor.take(length)?;
    cursor.expect(b'"')?;
    Some(content)
}

/// Steps over one value with all that is in it. `references` becomes true if one refers to another value.
fn value(cursor: &mut Cursor<'_>, references: &mut bool) -> Option<()> {
    // How many values are still due in each container that is open, the outermost first.
    let mut open: Vec<u64> = Vec::new();
    loop {
        match open.last_mut() {
            Some(0) => {
                cursor.expect(b'}')?;
                open.pop();
            }
            due => {
                if let Some(due) = due {
                    *due -= 1;
                }
                if let Some(values) = begin(cursor, references)? {
                    open.push(values);
                    if open.len() > DEPTH_MAX {
                        return None;
                    }
                }
            }
        }
        if open.is_empty() {
            return Some(());
        }
    }
}

/// Steps over a value, or over the opening of one that contains others: how many.
fn begin(cursor: &mut Cursor<'_>, references: &mut bool) -> Option<Option<u64>> {
    let kind = cursor.next()?;
    if kind == b'N' {
        cursor.expect(b';')?;
        return Some(None);
    }
    cursor.expect(b':')?;
    match kind {
        b'b' | b'i' | b'd' | b'r' | b'R' => {
            *references |= matches!(kind, b'r' | b'R');
            // Digits, signs, a point, an exponent, INF, NAN: nothing of it is structure.
            let from = cursor.at();
            cursor.skip_until(|byte| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'A'..=b'Z' | b'e'));
            (cursor.at() > from).then_some(())?;
            cursor.expect(b';')?;
            Some(None)
        }
        b's' | b'E' => {
            quoted(cursor)?;
            cursor.expect(b';')?;
            Some(None)
        }
        b'a' => entries(cursor),
        b'O' => {
            quoted(cursor)?;
            cursor.expect(b':')?;
            entries(cursor)
        }
        b'C' => {
            quoted(cursor)?;
            cursor.expect(b':')?;
            let length = cursor.decimal(b':')?;
            cursor.expect(b'{')?;
            // What a class writes by itself may refer to other values in ways that only it knows.
            *references = true;
            cursor.take(length)?;
            cursor.expect(b'}')?;
            Some(None)
        }
        _ => None,
    }
}

/// Steps over `N:{`; how many values follow: a key and a value for each of N.
fn entries(cursor: &mut Cursor<'_>) -> Option<Option<u64>> {
    let count = cursor.decimal(b':')?;
    cursor.expect(b'{')?;
    Some(Some(count.checked_mul(2)?))
}

//! Writes replies in RESP2 or RESP3.
//!
//! It never decides what to answer and never fails. [`crate::command`] calls it, and the state face for its own errors.
//!
//! | value | RESP2 | RESP3 |
//! |---|---|---|
//! | null | `$-1` | `_` |
//! | null array | `*-1` | `_` |
//! | map of n | `*2n` | `%n` |
//! | set, push of n | `*n` | `~n`, `>n` |
//! | double | bulk | `,` |
//! | boolean | `:0` `:1` | `#f` `#t` |
//! | verbatim text | bulk | `=` |
//!
//! Invariant: a line reply never contains an end of line, whatever text it was given.

use super::Protocol;
use bytes::{BufMut, Bytes, BytesMut};

/// A value of so many bytes is not copied into a reply whose receiver takes it apart.
pub const APART_BYTES_MIN: usize = 32 * 1024;

/// Where a reply goes.
pub struct Answer<'a> {
    /// What is written.
    pub bytes: &'a mut BytesMut,
    /// Large values that are not copied, each with its place in `bytes`, in order; `None`: all are copied.
    pub apart: Option<&'a mut Vec<(usize, Bytes)>>,
}

impl<'a> From<&'a mut BytesMut> for Answer<'a> {
    fn from(bytes: &'a mut BytesMut) -> Answer<'a> {
        Answer { bytes, apart: None }
    }
}

impl Answer<'_> {
    /// How much stands there, for [`Answer::back_to`].
    pub fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.apart.as_ref().map_or(0, |apart| apart.len()))
    }

    /// Takes back all that was written since.
    pub fn back_to(&mut self, (bytes, apart): (usize, usize)) {
        self.bytes.truncate(bytes);
        self.apart.iter_mut().for_each(|values| values.truncate(apart));
    }

    /// For a while.
    pub fn again(&mut self) -> Answer<'_> {
        Answer { bytes: self.bytes, apart: self.apart.as_deref_mut() }
    }
}

/// Appends replies to a buffer. An aggregate's elements are written after its head by the same caller.
pub struct Reply<'a> {
    out: &'a mut BytesMut,
    apart: Option<&'a mut Vec<(usize, Bytes)>>,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    /// A writer that appends to `out`.
    pub fn new(out: &'a mut BytesMut, protocol: Protocol) -> Reply<'a> {
        Reply { out, apart: None, protocol }
    }

    /// The same, to where large values may be kept apart.
    pub fn to(answer: Answer<'a>, protocol: Protocol) -> Reply<'a> {
        Reply { out: answer.bytes, apart: answer.apart, protocol }
    }

    fn head(&mut self, kind: u8, number: i64) {
        self.out.put_u8(kind);
        self.out.put_slice(itoa::Buffer::new().format(number).as_bytes());
        self.out.put_slice(b"\r\n");
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.put_u8(kind);
        let start = self.out.len();
        self.out.put_slice(text);
        if let Some(written) = self.out.get_mut(start..) {
            written.iter_mut().filter(|b| matches!(**b, b'\r' | b'\n')).for_each(|b| *b = b' ');
        }
        self.out.put_slice(b"\r\n");
    }

    /// `+text`
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// `-text`; the text begins with its code, as in `ERR syntax error`.
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        self.line(b'-', text.as_ref());
    }

    /// `:value`
    pub fn integer(&mut self, value: i64) {
        self.head(b':', value);
    }

    /// An integer from a count.
    pub fn count(&mut self, count: usize) {
        self.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A byte string.
    pub fn bulk(&mut self, value: &[u8]) {
        self.out.reserve(value.len().saturating_add(32));
        self.head(b'$', i64::try_from(value.len()).unwrap_or(i64::MAX));
        self.out.put_slice(value);
        self.out.put_slice(b"\r\n");
    }

    /// A byte string that can be shared: a large one is not copied, where it may be kept apart.
    pub fn shared(&mut self, value: &Bytes) {
        if self.apart.is_none() || value.len() < APART_BYTES_MIN {
            return self.bulk(value);
        }
        self.head(b'$', i64::try_from(value.len()).unwrap_or(i64::MAX));
        let place = self.out.len();
        self.apart.iter_mut().for_each(|apart| apart.push((place, value.clone())));
        self.out.put_slice(b"\r\n");
    }

    /// A byte string, or null.
    pub fn bulk_or_null(&mut self, value: Option<Bytes>) {
        match value {
            Some(value) => self.bulk(&value),
            None => self.null(),
        }
    }

    /// No value.
    pub fn null(&mut self) {
        self.out.put_slice(if self.protocol == Protocol::Resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// No list.
    pub fn null_array(&mut self) {
        self.out.put_slice(if self.protocol == Protocol::Resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    fn aggregate(&mut self, kind3: u8, len: usize, per_entry2: usize) {
        let (kind, len) = match self.protocol {
            Protocol::Resp3 => (kind3, len),
            Protocol::Resp2 => (b'*', len.saturating_mul(per_entry2)),
        };
        self.head(kind, i64::try_from(len).unwrap_or(i64::MAX));
    }

    /// The head of a list of `len` elements.
    pub fn array(&mut self, len: usize) {
        self.aggregate(b'*', len, 1);
    }

    /// The head of a map of `len` pairs.
    pub fn map(&mut self, len: usize) {
        self.aggregate(b'%', len, 2);
    }

    /// The head of a set of `len` elements.
    pub fn set(&mut self, len: usize) {
        self.aggregate(b'~', len, 1);
    }

    /// A floating-point number with the 17 digits that Redis 7.0 gives it.
    pub fn double(&mut self, value: f64) {
        let text = crate::command::format_double(value);
        match self.protocol {
            Protocol::Resp3 => self.line(b',', text.as_bytes()),
            Protocol::Resp2 => self.bulk(text.as_bytes()),
        }
    }

    /// The protocol that it writes.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Text for people, of a format of three letters such as `txt`.
    pub fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.head(b'=', i64::try_from(text.len().saturating_add(4)).unwrap_or(i64::MAX));
                self.out.put_slice(&format);
                self.out.put_u8(b':');
                self.out.put_slice(text);
                self.out.put_slice(b"\r\n");
            }
        }
    }

    /// Replies that were written elsewhere, byte for byte.
    pub fn raw(&mut self, replies: &[u8]) {
        self.out.put_slice(replies);
    }
}

/// An error reply on its own.
pub fn error_reply(text: impl AsRef<[u8]>) -> Bytes {
    let mut out = BytesMut::new();
    Reply::new(&mut out, Protocol::Resp2).error(text);
    out.freeze()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[track_caller]
    fn check(write: impl Fn(&mut Reply<'_>), resp2: &str, resp3: &str) {
        for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
            let mut out = BytesMut::new();
            write(&mut Reply::new(&mut out, protocol));
            assert_eq!(String::from_utf8(out.to_vec()).unwrap(), expected, "{protocol:?}");
        }
    }

    #[test]
    fn every_type_in_both_protocols() {
        check(|r| r.simple("OK"), "+OK\r\n", "+OK\r\n");
        check(|r| r.error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n");
        check(|r| r.integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n");
        check(|r| r.bulk(b"a\r\n"), "$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n");
        check(|r| r.null(), "$-1\r\n", "_\r\n");
        check(|r| r.null_array(), "*-1\r\n", "_\r\n");
        check(|r| r.array(3), "*3\r\n", "*3\r\n");
        check(|r| r.map(3), "*6\r\n", "%3\r\n");
        check(|r| r.set(3), "*3\r\n", "~3\r\n");
        check(|r| r.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n");
        check(|r| r.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
        check(|r| r.verbatim(*b"txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
    }
}

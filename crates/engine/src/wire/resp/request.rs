//! Cuts the arguments of commands out of a client's bytes, multibulk or inline, with Redis's own error texts.
//!
//! It never looks at what an argument means, and never searches the same bytes twice: where a half-received frame stands is kept
//! between calls. The state face calls it after each read; a fuzz target may call it with anything.
//!
//! ```text
//!  Start ──'*n'──► Bulk(n left) ──'$len'──► Payload(len) ──► … ──► arguments
//!    └──other──► inline: words up to the line's end ──────────────► arguments
//! ```
//! Invariant: a length is checked against its limit before a single byte is waited for, so that no announcement reserves memory.

use super::parse_integer;
use bytes::{Buf, Bytes, BytesMut};
use std::ops::Range;

/// A line (inline command, count or length) may be this long, as in Redis.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Before a client has said its password it may send this many arguments, as in Redis.
const STRANGER_ARGS_MAX: usize = 10;
/// Before a client has said its password an argument may have this many bytes, as in Redis.
const STRANGER_BULK_BYTES_MAX: usize = 16 * 1024;
/// Room for this many arguments is reserved at once; more grow as they arrive.
const ARGS_RESERVED: usize = 16;

/// What one command may have at most.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Arguments, the name included.
    pub args_max: usize,
    /// Bytes of one argument.
    pub bulk_bytes_max: usize,
    /// Bytes of the whole command with its framing.
    pub frame_bytes_max: usize,
}

impl Default for RequestLimits {
    fn default() -> RequestLimits {
        RequestLimits { args_max: 1024 * 1024, bulk_bytes_max: 512 * 1024 * 1024, frame_bytes_max: 1024 * 1024 * 1024 }
    }
}

/// The bytes are not RESP; the connection must be closed after saying so. The stream has no state worth keeping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// `*` without a count that is a number within the limits.
    MultibulkLength,
    /// `$` without a length that is a number within the limits.
    BulkLength,
    /// Something else where an argument should begin: this byte.
    ExpectedBulk(u8),
    /// An inline command of more than 64 KiB.
    TooBigInline,
    /// A count without an end of line.
    TooBigCount,
    /// A length without an end of line.
    TooBigLength,
    /// An inline command whose quotes do not match.
    UnbalancedQuotes,
    /// Too many arguments before the password.
    StrangerMultibulk,
    /// Too long an argument before the password.
    StrangerBulk,
}

impl std::fmt::Display for ProtocolError {
    // Redis's own words; clients and tests compare them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            ProtocolError::MultibulkLength => f.write_str("invalid multibulk length"),
            ProtocolError::BulkLength => f.write_str("invalid bulk length"),
            ProtocolError::ExpectedBulk(b'\r' | b'\n') => f.write_str("expected '$', got ' '"),
            ProtocolError::ExpectedBulk(got) if got.is_ascii() => write!(f, "expected '$', got '{}'", char::from(*got)),
            ProtocolError::ExpectedBulk(_) => f.write_str("expected '$', got '?'"),
            ProtocolError::TooBigInline => f.write_str("too big inline request"),
            ProtocolError::TooBigCount => f.write_str("too big mbulk count string"),
            ProtocolError::TooBigLength => f.write_str("too big bulk count string"),
            ProtocolError::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
            ProtocolError::StrangerMultibulk => f.write_str("unauthenticated multibulk length"),
            ProtocolError::StrangerBulk => f.write_str("unauthenticated bulk length"),
        }
    }
}

/// Where a half-received command stands. `at` counts from the start of the buffer.
#[derive(Debug, Default)]
struct Progress {
    at: usize,
    /// How far the current line has been searched for its end, from `at`.
    searched: usize,
    /// Arguments that are still to come; 0: the command has not begun.
    left: usize,
    /// The length of the argument that is being received.
    payload: Option<usize>,
    args: Vec<Range<usize>>,
}

/// Parses the commands of one connection, one after the other.
#[derive(Debug)]
pub struct RequestParser {
    limits: RequestLimits,
    stranger: bool,
    progress: Progress,
}

impl RequestParser {
    /// A parser at the start of a connection.
    pub fn new(limits: RequestLimits) -> RequestParser {
        RequestParser { limits, stranger: false, progress: Progress::default() }
    }

    /// Whether the client still owes its password: such a one gets Redis's small limits.
    pub fn set_stranger(&mut self, stranger: bool) {
        self.stranger = stranger;
    }

    /// The next whole command at the front of `buffer`, taken out of it; `None` if more bytes are needed. The arguments are
    /// slices of the received frame: what is stored must be copied. Never an empty list.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            if self.progress.left == 0 {
                match buffer.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        if !self.count(buffer)? {
                            return Ok(None);
                        }
                        if self.progress.left == 0 {
                            // An empty command: Redis skips it without a reply.
                            buffer.advance(self.progress.at.min(buffer.len()));
                            self.progress = Progress::default();
                            continue;
                        }
                    }
                    Some(_) => match self.inline(buffer)? {
                        Inline::Incomplete => return Ok(None),
                        Inline::Empty => continue,
                        Inline::Words(words) => return Ok(Some(words)),
                    },
                }
            }
            if !self.arguments(buffer)? {
                return Ok(None);
            }
            let mut places = std::mem::take(&mut self.progress).args;
            let frame = buffer.split_to(places.last().map_or(0, |last| last.end.saturating_add(2)).min(buffer.len())).freeze();
            let args = places.drain(..).filter_map(|at| frame.get(at.clone()).map(|_| frame.slice(at))).collect();
            if places.capacity() <= ARGS_RESERVED {
                // The next command has room for its own.
                self.progress.args = places;
            }
            return Ok(Some(args));
        }
    }

    /// Reads `*n`. False: more bytes are needed.
    fn count(&mut self, buffer: &[u8]) -> Result<bool, ProtocolError> {
        let Some(line) = self.line(buffer, ProtocolError::TooBigCount)? else { return Ok(false) };
        let count = parse_integer(buffer.get(line).unwrap_or_default()).ok_or(ProtocolError::MultibulkLength)?;
        let count = usize::try_from(count.max(0)).map_err(|_| ProtocolError::MultibulkLength)?;
        if count > self.limits.args_max {
            return Err(ProtocolError::MultibulkLength);
        }
        if self.stranger && count > STRANGER_ARGS_MAX {
            return Err(ProtocolError::StrangerMultibulk);
        }
        self.progress.left = count;
        self.progress.args.reserve_exact(count.min(ARGS_RESERVED));
        Ok(true)
    }

    /// Reads arguments as far as they are here. False: more bytes are needed.
    fn arguments(&mut self, buffer: &[u8]) -> Result<bool, ProtocolError> {
        while self.progress.left > 0 {
            let len = match self.progress.payload {
                Some(len) => len,
                None => {
                    match buffer.get(self.progress.at) {
                        None => return Ok(false),
                        Some(b'$') => {}
                        Some(other) => return Err(ProtocolError::ExpectedBulk(*other)),
                    }
                    let Some(line) = self.line(buffer, ProtocolError::TooBigLength)? else { return Ok(false) };
                    let len = self.bulk_len(buffer.get(line).unwrap_or_default())?;
                    self.progress.payload = Some(len);
                    len
                }
            };
            // Cannot overflow: `bulk_len` has checked this sum.
            let end = self.progress.at.saturating_add(len);
            if buffer.len() < end.saturating_add(2) {
                return Ok(false);
            }
            self.progress.args.push(self.progress.at..end);
            self.progress.at = end.saturating_add(2);
            self.progress.payload = None;
            self.progress.left -= 1;
        }
        Ok(true)
    }

    fn bulk_len(&self, text: &[u8]) -> Result<usize, ProtocolError> {
        let len = parse_integer(text).and_then(|len| usize::try_from(len).ok()).ok_or(ProtocolError::BulkLength)?;
        let frame = self.progress.at.checked_add(len).and_then(|end| end.checked_add(2)).ok_or(ProtocolError::BulkLength)?;
        if len > self.limits.bulk_bytes_max || frame > self.limits.frame_bytes_max {
            return Err(ProtocolError::BulkLength);
        }
        if self.stranger && len > STRANGER_BULK_BYTES_MAX {
            return Err(ProtocolError::StrangerBulk);
        }
        Ok(len)
    }

    /// The line at `at` without its type byte and its end, and `at` behind it; `None` if its end is not here.
    fn line(&mut self, buffer: &[u8], too_big: ProtocolError) -> Result<Option<Range<usize>>, ProtocolError> {
        let progress = &mut self.progress;
        let unseen = buffer.get(progress.at.saturating_add(progress.searched)..).unwrap_or_default();
        match unseen.iter().position(|b| *b == b'\r') {
            Some(found) => {
                let end = progress.at.saturating_add(progress.searched).saturating_add(found);
                if buffer.len() < end.saturating_add(2) {
                    progress.searched = progress.searched.saturating_add(found);
                    return Ok(None);
                }
                let line = progress.at.saturating_add(1)..end;
                if line.end.saturating_sub(progress.at) > LINE_BYTES_MAX {
                    return Err(too_big);
                }
                progress.at = end.saturating_add(2);
                progress.searched = 0;
                Ok(Some(line))
            }
            None => {
                progress.searched = progress.searched.saturating_add(unseen.len());
                if progress.searched > LINE_BYTES_MAX { Err(too_big) } else { Ok(None) }
            }
        }
    }

    fn inline(&mut self, buffer: &mut BytesMut) -> Result<Inline, ProtocolError> {
        let unseen = buffer.get(self.progress.searched..).unwrap_or_default();
        let Some(found) = unseen.iter().position(|b| *b == b'\n') else {
            self.progress.searched = buffer.len();
            return if buffer.len() > LINE_BYTES_MAX { Err(ProtocolError::TooBigInline) } else { Ok(Inline::Incomplete) };
        };
        let end = self.progress.searched.saturating_add(found);
        self.progress = Progress::default();
        if end > LINE_BYTES_MAX {
            return Err(ProtocolError::TooBigInline);
        }
        let line = buffer.split_to(end.saturating_add(1).min(buffer.len())).freeze();
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let words = words(line).ok_or(ProtocolError::UnbalancedQuotes)?;
        if words.len() > self.limits.args_max {
            return Err(ProtocolError::MultibulkLength);
        }
        Ok(if words.is_empty() { Inline::Empty } else { Inline::Words(words) })
    }
}

enum Inline {
    Incomplete,
    Empty,
    Words(Vec<Bytes>),
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// The words of an inline command, quoted as `redis-cli` does; `None` if the quotes do not match.
fn words(line: &[u8]) -> Option<Vec<Bytes>> {
    // Redis takes a zero byte for the end of the line.
    let line = line.split(|b| *b == 0).next().unwrap_or_default();
    let mut rest = line;
    let mut words = Vec::new();
    loop {
        let Some(start) = rest.iter().position(|b| !is_space(*b)) else { return Some(words) };
        let (word, after) = word(rest.get(start..)?)?;
        words.push(word);
        rest = after;
    }
}

/// One word at the front of `rest`, and what follows it.
fn word(mut rest: &[u8]) -> Option<(Bytes, &[u8])> {
    let mut word = Vec::new();
    loop {
        let Some((first, after)) = rest.split_first() else { return Some((word.into(), rest)) };
        match first {
            b'"' => {
                rest = double_quoted(after, &mut word)?;
                return closed(rest).then_some((word.into(), rest));
            }
            b'\'' => {
                rest = single_quoted(after, &mut word)?;
                return closed(rest).then_some((word.into(), rest));
            }
            b if is_space(*b) => return Some((word.into(), after)),
            b => word.push(*b),
        }
        rest = after;
    }
}

/// Whether a closing quote may stand before `rest`: only a space or the end may follow it.
fn closed(rest: &[u8]) -> bool {
    rest.first().is_none_or(|b| is_space(*b))
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
                word.push((digit(high)? << 4) | digit(low)?);
                after
            }
            [b'\\', escaped, after @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        }
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;

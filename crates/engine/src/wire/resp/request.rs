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

use super::inline::words;
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
    places: Vec<Range<usize>>,
}

/// Parses the commands of one connection, one after the other.
#[derive(Debug)]
pub struct RequestParser {
    limits: RequestLimits,
    stranger: bool,
    progress: Progress,
    /// Room for the arguments of the next command.
    spare: Vec<Bytes>,
}

impl RequestParser {
    /// A parser at the start of a connection.
    pub fn new(limits: RequestLimits) -> RequestParser {
        RequestParser { limits, stranger: false, progress: Progress::default(), spare: Vec::new() }
    }

    /// Whether the client still owes its password: such a one gets Redis's small limits.
    pub fn set_stranger(&mut self, stranger: bool) {
        self.stranger = stranger;
    }

    /// Takes the arguments of a command that is done, for the room that they have.
    pub fn give_back(&mut self, mut args: Vec<Bytes>) {
        args.clear();
        if args.capacity() <= ARGS_RESERVED {
            self.spare = args;
        }
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
            let mut places = std::mem::take(&mut self.progress).places;
            let mut frame =
                buffer.split_to(places.last().map_or(0, |last| last.end.saturating_add(2)).min(buffer.len())).freeze();
            let (mut args, last) = (std::mem::take(&mut self.spare), places.pop());
            args.reserve_exact(places.len().saturating_add(1));
            args.extend(places.drain(..).filter_map(|at| frame.get(at.clone()).map(|_| frame.slice(at))));
            // The last one keeps what the frame had of the buffer: one count less to go up and down.
            if let Some(at) = last.filter(|at| frame.get(at.clone()).is_some()) {
                frame.truncate(at.end);
                frame.advance(at.start);
                args.push(frame);
            }
            if places.capacity() <= ARGS_RESERVED {
                // The next command has room for its own.
                self.progress.places = places;
            }
            return Ok(Some(args));
        }
    }

    /// Reads `*n`. False: more bytes are needed.
    fn count(&mut self, buffer: &[u8]) -> Result<bool, ProtocolError> {
        let count = match self.short(buffer) {
            Some(count) => count,
            None => {
                let Some(line) = self.line(buffer, ProtocolError::TooBigCount)? else { return Ok(false) };
                parse_integer(buffer.get(line).unwrap_or_default()).ok_or(ProtocolError::MultibulkLength)?
            }
        };
        let count = usize::try_from(count.max(0)).map_err(|_| ProtocolError::MultibulkLength)?;
        if count > self.limits.args_max {
            return Err(ProtocolError::MultibulkLength);
        }
        if self.stranger && count > STRANGER_ARGS_MAX {
            return Err(ProtocolError::StrangerMultibulk);
        }
        self.progress.left = count;
        self.progress.places.reserve_exact(count.min(ARGS_RESERVED));
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
                    let len = match self.short(buffer) {
                        Some(len) => len,
                        None => {
                            let Some(line) = self.line(buffer, ProtocolError::TooBigLength)? else { return Ok(false) };
                            parse_integer(buffer.get(line).unwrap_or_default()).ok_or(ProtocolError::BulkLength)?
                        }
                    };
                    let len = self.bulk_len(len)?;
                    self.progress.payload = Some(len);
                    len
                }
            };
            // Cannot overflow: `bulk_len` has checked this sum.
            let end = self.progress.at.saturating_add(len);
            if buffer.len() < end.saturating_add(2) {
                return Ok(false);
            }
            self.progress.places.push(self.progress.at..end);
            self.progress.at = end.saturating_add(2);
            self.progress.payload = None;
            self.progress.left -= 1;
        }
        Ok(true)
    }

    fn bulk_len(&self, len: i64) -> Result<usize, ProtocolError> {
        let len = usize::try_from(len).map_err(|_| ProtocolError::BulkLength)?;
        let frame = self.progress.at.checked_add(len).and_then(|end| end.checked_add(2)).ok_or(ProtocolError::BulkLength)?;
        if len > self.limits.bulk_bytes_max || frame > self.limits.frame_bytes_max {
            return Err(ProtocolError::BulkLength);
        }
        if self.stranger && len > STRANGER_BULK_BYTES_MAX {
            return Err(ProtocolError::StrangerBulk);
        }
        Ok(len)
    }

    /// The number of a line of which nothing was searched and that is as short as nearly all are, and `at` behind it; `None`: any
    /// other.
    #[inline]
    fn short(&mut self, buffer: &[u8]) -> Option<i64> {
        let progress = &mut self.progress;
        if progress.searched > 0 {
            return None;
        }
        let digit = |byte: u8| byte.wrapping_sub(b'0');
        let (number, len) = match buffer.get(progress.at..)? {
            [_, a, b'\r', _, ..] if digit(*a) <= 9 => (i64::from(digit(*a)), 4),
            [_, a @ b'1'..=b'9', b, b'\r', _, ..] if digit(*b) <= 9 => (i64::from(digit(*a)) * 10 + i64::from(digit(*b)), 5),
            _ => return None,
        };
        progress.at = progress.at.saturating_add(len);
        Some(number)
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

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;

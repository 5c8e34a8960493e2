//! Finds where a reply of an upstream ends, without reading what it says.
//!
//! It never builds a value and needs no stack: a reply is complete when no element of any of its aggregates is missing, and one
//! number counts those. The relay of the state face calls it; a fuzz target may call it with anything.
//!
//! | at the head of | elements still to come |
//! |---|---|
//! | `+ - : _ # , (` (a line), `$ ! =` (a length) | −1 |
//! | `* ~ >` of n | −1 + n |
//! | `%` of n | −1 + 2n |
//! | a pipe sign (attribute) of n, which stands before a value | + 2n |
//!
//! Invariant: however a reply is cut into pieces, its end is found at the same place, and no byte is looked at twice.

use super::parse_integer;

/// A line of a reply (an error, a number) may be this long.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A complete reply at the front of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Its bytes.
    pub len: usize,
    /// Whether it is a push: it answers no request.
    pub push: bool,
}

/// The bytes are no reply, or one beyond the limits; the connection has no state worth keeping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// A byte that begins no type, or a length that is none.
    Malformed,
    /// More bytes or elements than the limits allow.
    TooLarge,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            FrameError::Malformed => "the reply is not RESP",
            FrameError::TooLarge => "the reply is larger than the limit",
        })
    }
}

impl std::error::Error for FrameError {}

/// Follows one reply through the pieces in which it arrives.
#[derive(Clone, Debug)]
pub struct FrameScanner {
    bytes_max: usize,
    elements_max: usize,
    at: usize,
    /// How far the line at `at` has been searched for its end.
    searched: usize,
    pending: usize,
    /// Whether the reply's own head has come; attributes stand before it.
    head: bool,
    push: bool,
}

impl FrameScanner {
    /// A scanner at the start of a reply of at most so many bytes and elements.
    pub fn new(bytes_max: usize, elements_max: usize) -> FrameScanner {
        FrameScanner { bytes_max, elements_max, at: 0, searched: 0, pending: 1, head: false, push: false }
    }

    /// Goes on with the same reply, of which `bytes` is all that has arrived. After a whole one the scanner is at the start
    /// again, for the bytes behind it.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
        let within = bytes.get(..self.bytes_max).unwrap_or(bytes);
        while self.pending > 0 {
            if !self.element(within)? {
                return if bytes.len() > self.bytes_max { Err(FrameError::TooLarge) } else { Ok(None) };
            }
            if self.pending > self.elements_max || self.at > self.bytes_max {
                return Err(FrameError::TooLarge);
            }
        }
        if self.at > bytes.len() {
            // The payload of the last string is still to come.
            return Ok(None);
        }
        let frame = Frame { len: self.at, push: self.push };
        *self = FrameScanner::new(self.bytes_max, self.elements_max);
        Ok(Some(frame))
    }

    /// Passes one head, and the payload of a string, which may still be to come. False: more bytes are needed.
    fn element(&mut self, bytes: &[u8]) -> Result<bool, FrameError> {
        let Some(kind) = bytes.get(self.at) else { return Ok(false) };
        if !b"+-:_#,($!=*~>%|".contains(kind) {
            return Err(FrameError::Malformed);
        }
        let from = self.at.saturating_add(self.searched);
        let Some(found) = bytes.get(from..).and_then(|unseen| unseen.iter().position(|b| *b == b'\n')) else {
            self.searched = bytes.len().saturating_sub(self.at);
            return if self.searched > LINE_BYTES_MAX { Err(FrameError::TooLarge) } else { Ok(false) };
        };
        let end = from.saturating_add(found);
        if end.saturating_sub(self.at) > LINE_BYTES_MAX {
            return Err(FrameError::TooLarge);
        }
        let line = bytes.get(self.at.saturating_add(1)..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").ok_or(FrameError::Malformed)?;
        if !self.head && self.pending == 1 && *kind != b'|' {
            // Within an attribute more than the reply itself is pending.
            self.head = true;
            self.push = *kind == b'>';
        }
        self.at = end.saturating_add(1);
        self.searched = 0;
        match kind {
            b'$' | b'!' | b'=' => {
                if let Some(len) = length(line)? {
                    self.at = self.at.checked_add(len).and_then(|at| at.checked_add(2)).ok_or(FrameError::TooLarge)?;
                }
                self.pending -= 1;
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let count = length(line)?.unwrap_or(0);
                let per_entry = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                let more = count.checked_mul(per_entry).ok_or(FrameError::TooLarge)?;
                let before = if *kind == b'|' { self.pending } else { self.pending - 1 };
                self.pending = before.checked_add(more).ok_or(FrameError::TooLarge)?;
            }
            _ => self.pending -= 1,
        }
        Ok(true)
    }
}

/// A length or a count; `None` for the null of RESP2.
fn length(line: &[u8]) -> Result<Option<usize>, FrameError> {
    match parse_integer(line) {
        Some(-1) => Ok(None),
        Some(number) => usize::try_from(number).map(Some).map_err(|_| FrameError::Malformed),
        None => Err(FrameError::Malformed),
    }
}

/// Where the reply at the front of `bytes` ends; `None` if it is not complete. For bytes that arrive in pieces use
/// [`FrameScanner`].
pub fn frame_len(bytes: &[u8], bytes_max: usize, elements_max: usize) -> Result<Option<Frame>, FrameError> {
    FrameScanner::new(bytes_max, elements_max).scan(bytes)
}

/// The elements of the array or push at the front of `reply`, each as its bytes; `None` if it is not a whole one of at most
/// `elements_max`.
pub fn elements(reply: &[u8], elements_max: usize) -> Option<Vec<&[u8]>> {
    let head_end = reply.iter().position(|b| *b == b'\n')?.checked_add(1)?;
    let count = match reply.get(..head_end)? {
        [b'*' | b'>', count @ .., b'\r', b'\n'] => usize::try_from(parse_integer(count)?).ok().filter(|n| *n <= elements_max)?,
        _ => return None,
    };
    let mut rest = reply.get(head_end..)?;
    let mut elements = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let frame = frame_len(rest, rest.len(), elements_max).ok()??;
        let (element, after) = rest.split_at_checked(frame.len)?;
        elements.push(element);
        rest = after;
    }
    rest.is_empty().then_some(elements)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const BYTES_MAX: usize = 1 << 20;

    #[track_caller]
    fn check(reply: &str, push: bool) {
        let expected = Ok(Some(Frame { len: reply.len(), push }));
        assert_eq!(frame_len(format!("{reply}+more\r\n").as_bytes(), BYTES_MAX, 1000), expected, "{reply:?} at once");
        let mut scanner = FrameScanner::new(BYTES_MAX, 1000);
        for end in 1..reply.len() {
            assert_eq!(scanner.scan(&reply.as_bytes()[..end]), Ok(None), "{reply:?} up to {end}");
        }
        assert_eq!(scanner.scan(reply.as_bytes()), expected, "{reply:?} byte by byte");
    }

    #[test]
    fn every_type_ends_where_it_ends() {
        for reply in [
            "+OK\r\n",
            "-ERR x\r\n",
            ":1\r\n",
            "$-1\r\n",
            "$0\r\n\r\n",
            "$4\r\n\r\n\r\n\r\n",
            "*-1\r\n",
            "*0\r\n",
            "_\r\n",
            "#t\r\n",
        ] {
            check(reply, false);
        }
        for reply in
            [",1.5\r\n", "(123\r\n", "!5\r\nERR x\r\n", "=5\r\ntxt:x\r\n", "~1\r\n:1\r\n", "%1\r\n+a\r\n*2\r\n:1\r\n*0\r\n"]
        {
            check(reply, false);
        }
        check("*2\r\n*1\r\n$1\r\na\r\n%1\r\n+a\r\n_\r\n", false);
        check(">2\r\n+message\r\n$1\r\na\r\n", true);
        check("*1\r\n>1\r\n+not a push at the top\r\n", false);
        check("|1\r\n+key\r\n+value\r\n>1\r\n+push\r\n", true);
        check("|1\r\n+key\r\n>1\r\n:1\r\n+value\r\n", false);
        check("|0\r\n>1\r\n+a\r\n", true);
        check("|1\r\n+k\r\n*1\r\n|1\r\n+k\r\n+v\r\n:1\r\n:2\r\n", false);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for bytes in ["x", "$x\r\n", "$-2\r\n", "*1\n", "*?\r\n", "$99999999999999999999\r\n"] {
            assert_eq!(frame_len(bytes.as_bytes(), BYTES_MAX, 1000), Err(FrameError::Malformed), "{bytes:?}");
        }
        for bytes in ["$9223372036854775807\r\n", "$2000000\r\n", "*1001\r\n", "%501\r\n", "*1000\r\n*1000\r\n"] {
            assert_eq!(frame_len(bytes.as_bytes(), BYTES_MAX, 1000), Err(FrameError::TooLarge), "{bytes:?}");
        }
        let endless = format!("+{}", "x".repeat(LINE_BYTES_MAX + 1));
        assert_eq!(frame_len(endless.as_bytes(), BYTES_MAX, 1000), Err(FrameError::TooLarge));
    }

    #[test]
    fn an_array_falls_into_its_elements() {
        assert_eq!(elements(b"*2\r\n$1\r\na\r\n_\r\n", 10), Some(vec![&b"$1\r\na\r\n"[..], b"_\r\n"]));
        assert_eq!(elements(b"*0\r\n", 10), Some(vec![]));
        for bad in [&b"*2\r\n:1\r\n"[..], b"*1\r\n:1\r\n:2\r\n", b":1\r\n", b"", b"*-1\r\n", b"*11\r\n"] {
            assert_eq!(elements(bad, 10), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same(
            input in prop::collection::vec(prop_oneof![5 => prop::sample::select(b"*$%|>+:_0123\r\n".to_vec()), 1 => any::<u8>()], 0..120),
            step in 1usize..9,
        ) {
            let whole = frame_len(&input, 100, 10);
            let mut scanner = FrameScanner::new(100, 10);
            let mut piecewise = Ok(None);
            for end in (0..input.len()).step_by(step).chain([input.len()]) {
                piecewise = scanner.scan(&input[..end]);
                if piecewise != Ok(None) {
                    break;
                }
            }
            prop_assert_eq!(piecewise, whole);
        }
    }
}

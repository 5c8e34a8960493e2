//! Where each request of an HTTP/1 connection begins and ends, seen in its bytes before anything else reads them.
//!
//! Pingora reads leniently, and mends some of what it reads before anybody can look at it; what two programs may read differently is how
//! requests are smuggled. So this reads first and strictly, and what it lets pass has one reading. It keeps no byte but the name of a
//! trailer, and changes none; it is pure. `incoming` calls it with what came.
//!
//! ```text
//! between ──asked for──► header ─┬─ no body ──────────────────────────────────► between
//!                                ├─ length ──► body ──────────────────────────► between
//!                                └─ chunked ─► size ◄─► data    0: trailers ──► between
//! a WebSocket: everything passes     header too long: thrown away to its end, then refused     a fault: refused, for good
//! ```
//!
//! | refused in chunks | because somebody |
//! |---|---|
//! | a size without digits, with sign, white space or more than [`SIZE_DIGITS_MAX`] digits | reads another size |
//! | a bare CR or LF, or another control character, in an extension | ends the line there |
//! | trailers that are no fields, are folded, or are named as what decides of framing and routing | takes them for those of the header |
//! | more than [`ASIDES_BYTES_MAX`] of extensions and trailers | has no other bound |
//!
//! Invariant: however the bytes are cut into pieces, the same of them pass and the same are refused.

use crate::head::{self, Fault, Length};

/// Digits of a chunk's size.
const SIZE_DIGITS_MAX: u8 = 15;
/// Bytes of extensions and trailers of one body.
const ASIDES_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a header that is too long which are thrown away so that its client can read why; then it is cut.
const THROWN_BYTES_MAX: usize = 1 << 20;
/// The longest name of a field that must not be a trailer.
const NAME_BYTES: usize = 17;
const BLANK_LINE: &[u8; 4] = b"\r\n\r\n";

/// See the head of this file.
pub(crate) struct Framing {
    stage: Stage,
    header_bytes_max: usize,
}

enum Stage {
    Between,
    /// The line that is not whole begins at `line`; up to `seen` there is nothing wrong in it.
    Header {
        line: usize,
        seen: usize,
    },
    TooLong {
        thrown: usize,
        matched: usize,
    },
    Body(u64),
    Chunks(Chunks),
    Open,
    Refused {
        fault: Fault,
        in_header: bool,
    },
}

/// A chunked body on its way.
struct Chunks {
    at: At,
    size: u64,
    digits: u8,
    /// Bytes of extensions and trailers so far.
    asides: usize,
    name: [u8; NAME_BYTES],
    name_len: usize,
}

/// What comes next in it.
#[derive(Clone, Copy)]
enum At {
    Size,
    Extension,
    SizeLf,
    Data(u64),
    DataCr,
    DataLf,
    /// A trailer, or the end.
    Line,
    Name,
    Value,
    ValueLf,
    LastLf,
}

impl Framing {
    /// At the beginning of a connection whose headers are not longer than this.
    pub(crate) fn new(header_bytes_max: usize) -> Framing {
        Framing { stage: Stage::Between, header_bytes_max }
    }

    /// The next request may begin. If the last one has not ended, who asks has lost its place.
    pub(crate) fn ask(&mut self) {
        match self.stage {
            Stage::Between => self.stage = Stage::Header { line: 0, seen: 0 },
            Stage::Body(_) | Stage::Chunks(_) => self.stage = refused(Fault::Malformed("a body that was not read"), true),
            Stage::Header { .. } | Stage::TooLong { .. } | Stage::Open | Stage::Refused { .. } => {}
        }
    }

    /// From now on everything passes.
    pub(crate) fn open(&mut self) {
        self.stage = Stage::Open;
    }

    /// Whether the next request has not been asked for.
    pub(crate) fn is_between(&self) -> bool {
        matches!(self.stage, Stage::Between)
    }

    /// Whether a header is waited for, or not whole.
    pub(crate) fn awaits_header(&self) -> bool {
        matches!(self.stage, Stage::Header { .. } | Stage::TooLong { .. })
    }

    /// Whether what comes is thrown away.
    pub(crate) fn throws_away(&self) -> bool {
        matches!(self.stage, Stage::TooLong { .. } | Stage::Refused { .. })
    }

    /// What was wrong, and whether in a header.
    pub(crate) fn fault(&self) -> Option<(Fault, bool)> {
        match self.stage {
            Stage::Refused { fault, in_header } => Some((fault, in_header)),
            _ => None,
        }
    }

    /// How many of `bytes`, which follow what has passed before, pass now. A header passes whole, so those that do not pass must be
    /// there again, with more behind them.
    pub(crate) fn passing(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0_usize;
        loop {
            let rest = bytes.get(passed..).unwrap_or_default();
            let (count, next) = match &mut self.stage {
                Stage::Between | Stage::Refused { .. } => return passed,
                Stage::Open => return bytes.len(),
                Stage::TooLong { thrown, matched } => {
                    *thrown = thrown.saturating_add(rest.len());
                    if !ends(rest, matched) && *thrown < THROWN_BYTES_MAX {
                        return passed;
                    }
                    (0, refused(Fault::TooLarge, true))
                }
                Stage::Header { line, seen } => match header_end(rest, line, seen) {
                    Err(fault) => (0, refused(fault, true)),
                    // What has come of it is thrown away by the caller, and looked at once more for its end.
                    Ok(None) if rest.len() > self.header_bytes_max => (0, Stage::TooLong { thrown: 0, matched: 0 }),
                    Ok(None) => return passed,
                    Ok(Some(end)) => match head::check(rest.get(..end).unwrap_or_default(), self.header_bytes_max) {
                        Err(fault) => (0, refused(fault, true)),
                        Ok(Length::Bytes(0)) => (end, Stage::Between),
                        Ok(Length::Bytes(length)) => (end, Stage::Body(length)),
                        Ok(Length::Chunked) => (end, Stage::Chunks(Chunks::new())),
                    },
                },
                Stage::Body(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
                    if *left > 0 {
                        return passed.saturating_add(count);
                    }
                    (count, Stage::Between)
                }
                Stage::Chunks(chunks) => match chunks.passing(rest) {
                    (count, Ok(false)) => return passed.saturating_add(count),
                    (count, Ok(true)) => (count, Stage::Between),
                    (count, Err(why)) => (count, refused(Fault::Malformed(why), false)),
                },
            };
            passed = passed.saturating_add(count);
            self.stage = next;
        }
    }
}

fn refused(fault: Fault, in_header: bool) -> Stage {
    Stage::Refused { fault, in_header }
}

/// The end of a header that begins with `bytes`. An error if what is there of it cannot become one: whoever sends that may never send a
/// blank line.
fn header_end(bytes: &[u8], line: &mut usize, seen: &mut usize) -> Result<Option<usize>, Fault> {
    const WRONG: Fault = Fault::Malformed("a control character, or a line end of one character");
    while let Some(length) = bytes.get(*seen..).and_then(|rest| rest.iter().position(|&byte| byte == b'\n')) {
        let end = seen.saturating_add(length).saturating_add(1);
        let whole = bytes.get(*line..end).unwrap_or_default();
        // One empty line may stand before a request.
        if whole == b"\r\n" && *line > 0 {
            return Ok(Some(end));
        }
        if !whole.ends_with(b"\r\n") {
            return Err(WRONG);
        }
        (*line, *seen) = (end, end);
    }
    let mut rest = bytes.get(*seen..).unwrap_or_default();
    // The line may go on with the LF that belongs to it.
    rest = rest.strip_suffix(b"\r").unwrap_or(rest);
    if rest.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
        return Err(WRONG);
    }
    *seen = seen.saturating_add(rest.len());
    Ok(None)
}

/// Whether a blank line ends in `bytes`; so many bytes of it had come before.
fn ends(bytes: &[u8], matched: &mut usize) -> bool {
    for &byte in bytes {
        *matched = match byte {
            _ if BLANK_LINE.get(*matched) == Some(&byte) => matched.saturating_add(1),
            b'\r' => 1,
            _ => 0,
        };
        if *matched == BLANK_LINE.len() {
            return true;
        }
    }
    false
}

impl Chunks {
    fn new() -> Chunks {
        Chunks { at: At::Size, size: 0, digits: 0, asides: 0, name: [0; NAME_BYTES], name_len: 0 }
    }

    /// How many of `bytes` are of the body, and whether they end it, or what is wrong with the one behind.
    fn passing(&mut self, bytes: &[u8]) -> (usize, Result<bool, &'static str>) {
        let mut passed = 0_usize;
        while let Some(&byte) = bytes.get(passed) {
            if let At::Data(left) = self.at {
                let there = u64::try_from(bytes.len().saturating_sub(passed)).unwrap_or(u64::MAX);
                let count = left.min(there);
                self.at = if count == left { At::DataCr } else { At::Data(left.saturating_sub(count)) };
                passed = passed.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
                continue;
            }
            match self.step(byte) {
                Ok(is_last) => {
                    passed = passed.saturating_add(1);
                    if is_last {
                        return (passed, Ok(true));
                    }
                }
                Err(why) => return (passed, Err(why)),
            }
        }
        (passed, Ok(false))
    }

    /// Takes one byte that is not of the data; true: it was the last one.
    fn step(&mut self, byte: u8) -> Result<bool, &'static str> {
        self.at = match (self.at, byte) {
            (At::Size, b'\r') if self.digits > 0 => At::SizeLf,
            (At::Size, b';') if self.digits > 0 => self.aside(At::Extension)?,
            (At::Size, _) => self.digit(byte)?,
            (At::Extension, b'\r') => At::SizeLf,
            (At::Extension, _) if is_text(byte) => self.aside(At::Extension)?,
            (At::SizeLf, b'\n') => {
                let size = std::mem::take(&mut self.size);
                self.digits = 0;
                if size == 0 { At::Line } else { At::Data(size) }
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size,
            (At::Line, b'\r') => At::LastLf,
            (At::Line, _) => {
                self.name_len = 0;
                self.named(byte)?
            }
            (At::Name, b':') => {
                self.name_fits()?;
                self.aside(At::Value)?
            }
            (At::Name, _) => self.named(byte)?,
            (At::Value, b'\r') => At::ValueLf,
            (At::Value, _) if is_text(byte) => self.aside(At::Value)?,
            (At::ValueLf, b'\n') => At::Line,
            (At::LastLf, b'\n') => return Ok(true),
            _ => return Err("a chunk"),
        };
        Ok(false)
    }

    fn aside(&mut self, next: At) -> Result<At, &'static str> {
        self.asides = self.asides.saturating_add(1);
        if self.asides > ASIDES_BYTES_MAX { Err("extensions and trailers that are too long") } else { Ok(next) }
    }

    fn digit(&mut self, byte: u8) -> Result<At, &'static str> {
        let digit = char::from(byte).to_digit(16).ok_or("the size of a chunk")?;
        self.digits = self.digits.saturating_add(1);
        if self.digits > SIZE_DIGITS_MAX {
            return Err("the size of a chunk");
        }
        self.size = self.size.saturating_mul(16).saturating_add(u64::from(digit));
        Ok(At::Size)
    }

    /// One more byte of a trailer's name.
    fn named(&mut self, byte: u8) -> Result<At, &'static str> {
        if !head::is_token(byte) {
            return Err("the name of a trailer");
        }
        if let Some(place) = self.name.get_mut(self.name_len) {
            *place = if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        }
        self.name_len = self.name_len.saturating_add(1);
        self.aside(At::Name)
    }

    fn name_fits(&self) -> Result<(), &'static str> {
        match self.name.get(..self.name_len) {
            Some(b"content-length" | b"transfer-encoding" | b"host") => Err("a trailer that belongs into the header"),
            _ => Ok(()),
        }
    }
}

fn is_text(byte: u8) -> bool {
    (byte >= b' ' || byte == b'\t') && byte != 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes of a connection whose requests are all asked for at once, when it comes in pieces of this many bytes, and what was
    /// wrong in the end.
    fn read(bytes: &[u8], piece: usize) -> (usize, Option<(Fault, bool)>) {
        let mut framing = Framing::new(1000);
        let (mut passed, mut there) = (0, 0);
        while there < bytes.len() {
            there = (there + piece).min(bytes.len());
            loop {
                if framing.is_between() {
                    framing.ask();
                }
                let count = framing.passing(bytes.get(passed..there).unwrap_or_default());
                passed += count;
                if framing.throws_away() && framing.fault().is_none() {
                    // As the caller does with what it has looked at.
                    return (passed, None);
                }
                if count == 0 {
                    break;
                }
            }
        }
        (passed, framing.fault())
    }

    fn check(bytes: &str, passing: usize, fault: Option<bool>) {
        for piece in [1, 2, 3, 5, 7, bytes.len()] {
            let (passed, found) = read(bytes.as_bytes(), piece);
            assert_eq!((passed, found.map(|found| found.1)), (passing, fault), "{bytes:?} in pieces of {piece}: {found:?}");
        }
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    const POST: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn requests_pass_one_behind_the_other() {
        for body in [
            "0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "0000A\r\n0\r\n\r\n\r\nabc\r\n1\r\nx\r\n00\r\n\r\n",
            "1;a=b;c=\"d e\"\r\nx\r\n0;e\r\n\r\n",
            "0\r\nX-Sum: 1\r\ny:\r\nZ: a\tb \r\n\r\n",
        ] {
            let all = format!("{GET}{POST}{body}POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n\r\n\r\n\r\n{GET}");
            check(&all, all.len(), None);
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_does_not_pass() {
        for (good, bad) in [
            ("", "\r\n0\r\n\r\n"),
            ("", ";\r\n\r\n"),
            ("", ";a\r\n0\r\n\r\n"),
            ("", " 0\r\n\r\n"),
            ("", "+0\r\n\r\n"),
            ("", "-1\r\nx"),
            ("0", "x1\r\n"),
            ("1", " \r\nx\r\n0\r\n\r\n"),
            ("1", "\t\r\nx"),
            ("1", " ;a\r\nx"),
            ("1", "\nx\r\n"),
            ("1\r", "x\r\n"),
            ("1;a", "\nx\r\n0\r\n\r\n"),
            ("1;a\r", "x\r\n0\r\n\r\n"),
            ("1;a", "\0\r\nx"),
            ("1;a", "\u{7f}\r\nx"),
            ("1\r\nx", "y\r\n0\r\n\r\n"),
            ("1\r\nx", "\n0\r\n\r\n"),
            ("1\r\nx\r", "0\r\n\r\n"),
            ("000000000000000", "0\r\n\r\n"),
            ("0\r\n", "\n"),
            ("0\r\n\r", "X"),
            ("0\r\nnocolon", "\r\n\r\n"),
            ("0\r\n", " X: y\r\n\r\n"),
            ("0\r\nX: a\r\n", "\tb\r\n\r\n"),
            ("0\r\nX", " : y\r\n\r\n"),
            ("0\r\nX: ", "\0\r\n\r\n"),
            ("0\r\nX: a", "\n\r\n"),
            ("0\r\n", ": a\r\n\r\n"),
            ("0\r\nContent-Length", ": 50\r\n\r\n"),
            ("0\r\nTransfer_Encoding", ": x\r\n\r\n"),
            ("0\r\nHOST", ": x\r\n\r\n"),
        ] {
            check(&format!("{GET}{POST}{good}{bad}{GET}"), GET.len() + POST.len() + good.len(), Some(false));
        }
    }

    #[test]
    fn what_a_body_says_beside_itself_is_bounded() {
        let body = |asides: usize| {
            format!("{POST}1;{}\r\nx\r\n0\r\na:{}\r\n\r\n", "e".repeat(asides / 2 - 1), "t".repeat(asides / 2 - 2))
        };
        let largest = body(ASIDES_BYTES_MAX);
        assert_eq!(read(largest.as_bytes(), 4096), (largest.len(), None));
        assert!(matches!(read(body(ASIDES_BYTES_MAX + 2).as_bytes(), 4096).1, Some((Fault::Malformed(_), false))));
    }

    #[test]
    fn a_header_passes_whole_or_not_at_all() {
        for bad in [
            "GET / a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /\u{1} HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\nHost: h\n\n",
            "GET / HTTP/1.1\r\nX: a\rb\r\nHost: h\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\n",
            "\u{16}\u{3}\u{1}\u{2}",
        ] {
            check(&format!("{GET}{bad}"), GET.len(), Some(true));
        }
        check("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", GET.len() + 2, None);
        check(&format!("{GET}GET / HTTP/1.1\r\nHost: h\r\n"), GET.len(), None);
        // Without being asked for nothing begins.
        let mut framing = Framing::new(1000);
        assert_eq!(framing.passing(GET.as_bytes()), 0);
        framing.ask();
        assert_eq!(framing.passing([GET, GET].concat().as_bytes()), GET.len());
        framing.open();
        assert_eq!(framing.passing(b"\0\n"), 2);
    }

    #[test]
    fn a_header_that_is_too_long_is_read_to_its_end() {
        let mut framing = Framing::new(100);
        framing.ask();
        assert_eq!(framing.passing(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(100)).as_bytes()), 0);
        assert!(framing.throws_away() && framing.fault().is_none());
        for more in ["xxx\r", "\n\r", "x\r\n"] {
            assert_eq!((framing.passing(more.as_bytes()), framing.fault()), (0, None), "{more:?}");
        }
        framing.passing(b"\r\nbody");
        assert_eq!(framing.fault(), Some((Fault::TooLarge, true)));
        let mut framing = Framing::new(100);
        framing.ask();
        let endless = vec![b'x'; THROWN_BYTES_MAX];
        framing.passing(&endless);
        framing.passing(&endless);
        assert_eq!(framing.fault(), Some((Fault::TooLarge, true)));
    }
}

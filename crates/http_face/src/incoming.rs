//! What has come from a client of HTTP/1 and may not be read yet: the next request, until it is asked for; a header, until it is whole.
//!
//! It decides nothing: `framing` says what passes. It never holds more than a header and one piece that was read. A client's stream asks it
//! before each read. Pingora sees no request whose header was refused, but one that stands for it ([`STAND_IN`]), so that refusals
//! are answered, counted and logged where all requests are.
//!
//! Invariant: what is read is, request by request, what came, and nothing of a request that was refused.

use crate::framing::Framing;
use crate::head::Fault;
use tokio::io::ReadBuf;

/// What is read instead of a header that was refused. The exchange refuses it, for it knows why; no instance ever sees it.
const STAND_IN: &[u8] = b"- / HTTP/1.1\r\nHost: -\r\nConnection: close\r\n\r\n";

/// See the head of this file.
pub(crate) struct Incoming {
    framing: Framing,
    held: Vec<u8>,
    /// Bytes of it that were read, and those that may be.
    given: usize,
    passed: usize,
    stands_in: bool,
}

impl Incoming {
    pub(crate) fn new(header_bytes_max: usize) -> Incoming {
        Incoming { framing: Framing::new(header_bytes_max), held: Vec::new(), given: 0, passed: 0, stands_in: false }
    }

    /// The next request may be read.
    pub(crate) fn ask(&mut self) {
        self.framing.ask();
        self.look();
    }

    /// Everything may be read: it is a WebSocket.
    pub(crate) fn open(&mut self) {
        self.framing.open();
        self.look();
    }

    /// Takes what has come, and says how much of its beginning may be read at once; the rest is held.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        if !self.held.is_empty() {
            self.held.extend_from_slice(bytes);
            self.look();
            return 0;
        }
        // Nearly always all of it is one request, or a piece of a body.
        let passed = self.framing.passing(bytes);
        self.held.extend_from_slice(bytes.get(passed..).unwrap_or_default());
        self.settle();
        passed
    }

    fn look(&mut self) {
        let count = self.framing.passing(self.held.get(self.passed..).unwrap_or_default());
        self.passed = self.passed.saturating_add(count);
        self.settle();
    }

    /// Throws away what nobody will read.
    fn settle(&mut self) {
        if self.framing.throws_away() {
            self.held.truncate(self.passed);
        }
        if matches!(self.framing.fault(), Some((_, true))) && !self.stands_in {
            self.held.extend_from_slice(STAND_IN);
            (self.passed, self.stands_in) = (self.held.len(), true);
        }
    }

    /// Moves what may be read, as far as there is room; whether there was something.
    pub(crate) fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let ready = self.held.get(self.given..self.passed).unwrap_or_default();
        let count = ready.len().min(buffer.remaining());
        buffer.put_slice(ready.get(..count).unwrap_or_default());
        self.given = self.given.saturating_add(count);
        if self.given == self.held.len() {
            // A connection that waits holds no memory.
            self.held = Vec::new();
            (self.given, self.passed) = (0, 0);
        } else if self.given == self.passed {
            self.held.drain(..self.given);
            (self.given, self.passed) = (0, 0);
        }
        count > 0
    }

    /// Whether the next request is there already, and nothing more is to be taken until it is asked for.
    pub(crate) fn must_wait(&self) -> bool {
        self.framing.is_between() && !self.held.is_empty()
    }

    /// Whether a part of a header is there.
    pub(crate) fn has_begun(&self) -> bool {
        self.framing.awaits_header() && (!self.held.is_empty() || self.framing.throws_away())
    }

    /// What was wrong with what came, and whether in a header.
    pub(crate) fn fault(&self) -> Option<(Fault, bool)> {
        self.framing.fault()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

    fn given(incoming: &mut Incoming) -> String {
        let mut text = String::new();
        loop {
            let mut bytes = [0; 10];
            let mut buffer = ReadBuf::new(&mut bytes);
            if !incoming.give(&mut buffer) {
                return text;
            }
            text.push_str(&String::from_utf8_lossy(buffer.filled()));
        }
    }

    #[test]
    fn a_request_is_given_when_it_is_asked_for_and_whole() {
        let mut incoming = Incoming::new(1000);
        incoming.ask();
        let two = format!("{GET}POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab");
        assert_eq!(incoming.take(two.as_bytes()), GET.len());
        assert_eq!((given(&mut incoming).as_str(), incoming.must_wait(), incoming.has_begun()), ("", true, false));
        incoming.ask();
        assert_eq!(given(&mut incoming), two.get(GET.len()..).unwrap_or_default());
        assert_eq!((incoming.take(b"cGE"), incoming.must_wait()), (1, true));
        incoming.ask();
        assert!(incoming.has_begun() && !incoming.must_wait());
        assert_eq!((incoming.take(&GET.as_bytes()[2..]), incoming.has_begun()), (0, false));
        assert_eq!(given(&mut incoming), GET);
        assert_eq!(incoming.held.capacity(), 0);
    }

    #[test]
    fn another_request_stands_for_one_that_is_refused() {
        let mut incoming = Incoming::new(1000);
        incoming.ask();
        assert_eq!(incoming.take(b"GET / a HTTP/1.1\r\nHost: h\r\n\r\nGET /smuggled HTTP/1.1\r\n"), 0);
        assert_eq!(given(&mut incoming).as_bytes(), STAND_IN);
        assert!(matches!(incoming.fault(), Some((Fault::Malformed(_), true))));
        assert_eq!((incoming.take(GET.as_bytes()), given(&mut incoming).as_str()), (0, ""));
        // A second one is not refused before it is asked for, so that the first one has its answer.
        let mut incoming = Incoming::new(1000);
        incoming.ask();
        assert_eq!(incoming.take(format!("{GET}\n").as_bytes()), GET.len());
        assert_eq!((incoming.fault(), incoming.must_wait()), (None, true));
        incoming.ask();
        assert_eq!(given(&mut incoming).as_bytes(), STAND_IN);
    }

    #[test]
    fn a_request_of_which_not_all_was_read_is_the_last_one() {
        let mut incoming = Incoming::new(1000);
        incoming.ask();
        incoming.take(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nGET /");
        incoming.ask();
        assert_eq!(given(&mut incoming).as_bytes(), STAND_IN);
    }
}

//! A place in bytes that come from outside: every step is checked against their end.
//!
//! It never indexes and never adds unchecked; `None` is "there is not so much". The splitters of this folder step with it.
//!
//! Invariant: `at` is never beyond the end.

/// See the head of this file.
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn of(text: &'a [u8]) -> Cursor<'a> {
        Cursor { text, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    pub(super) fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        let taken = self.text.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// The next `bytes` bytes as a big-endian number.
    pub(super) fn number(&mut self, bytes: u64) -> Option<u64> {
        let taken = self.take(bytes)?;
        Some(taken.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    /// Steps over all bytes up to the first of which `ends` is true.
    pub(super) fn skip_until(&mut self, ends: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
    }

    /// The bytes from here on of which `belongs` is true.
    pub(super) fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let from = self.at;
        self.skip_until(|byte| !belongs(byte));
        self.text.get(from..self.at).unwrap_or_default()
    }

    /// A number in decimal digits without sign or leading zeros, up to `end`, which is stepped over.
    pub(super) fn decimal(&mut self, end: u8) -> Option<u64> {
        let first = self.at;
        let mut number: u64 = 0;
        loop {
            match self.next()? {
                digit @ b'0'..=b'9' if first + 1 == self.at || number > 0 => {
                    number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
                }
                byte if byte == end && self.at > first + 1 => return Some(number),
                _ => return None,
            }
        }
    }
}

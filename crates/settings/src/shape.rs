//! What a session's id may look like: `uuid`, `hex:32`, `base64url:22`, `alnum:20-40`.
//!
//! It never allocates on a key and knows nothing of patterns. [`crate::pattern`] reads shapes and asks them on the hot path;
//! `overlap` asks for their bytes one by one; `wayfarer init` recognises ids of unknown keys with [`IdShape::of`].
//!
//! | written | bytes | how many |
//! |---|---|---|
//! | (nothing) | any | 1 or more |
//! | `uuid` | 8-4-4-4-12 hexadecimal digits, either case | 36 |
//! | `hex`, `digits`, `alnum` | `0-9a-fA-F`, `0-9`, `0-9a-zA-Z` | `:N` or `:N-M`; without: 1 or more |
//! | `base64url`, `base64` | alnum with `-_`, alnum with `+/=` | the same |
//!
//! Invariant: a shape never fits an empty text.

use crate::mistake::{Complaint, nearest, shown};

/// Longest part of a key that a shape may ask for, in bytes.
pub const SHAPE_BYTES_MAX: usize = 256;
/// The length of a UUID in its usual form.
const UUID_BYTES: usize = 36;
/// Where its hyphens stand.
const UUID_HYPHENS: [usize; 4] = [8, 13, 18, 23];
const WORDS: [&str; 6] = ["uuid", "hex", "base64url", "base64", "alnum", "digits"];

/// Which bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alphabet {
    /// All.
    Any,
    /// Hexadecimal digits and, at their places, hyphens.
    Uuid,
    /// Hexadecimal digits.
    Hex,
    /// Letters, digits, `-`, `_`.
    Base64Url,
    /// Letters, digits, `+`, `/`, `=`.
    Base64,
    /// ASCII letters and digits.
    Alnum,
    /// Decimal digits.
    Digits,
}

/// An alphabet and a length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdShape {
    alphabet: Alphabet,
    bytes_min: usize,
    /// `usize::MAX`: as many as there are.
    bytes_max: usize,
}

impl IdShape {
    /// Any text that is not empty.
    pub const ANY: IdShape = IdShape { alphabet: Alphabet::Any, bytes_min: 1, bytes_max: usize::MAX };

    /// Reads what stands behind `{session:`.
    pub(crate) fn parse(text: &str) -> Result<IdShape, Complaint> {
        let (word, length) = text.split_once(':').map_or((text, None), |(word, length)| (word, Some(length)));
        let alphabet = match word {
            "uuid" => Alphabet::Uuid,
            "hex" => Alphabet::Hex,
            "base64url" => Alphabet::Base64Url,
            "base64" => Alphabet::Base64,
            "alnum" => Alphabet::Alnum,
            "digits" => Alphabet::Digits,
            _ => {
                let near = nearest(word, WORDS).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
                let remedy = format!("{near}possible: {}", WORDS.join(", "));
                return Err(Complaint::new(format!("the shape {} is not known", shown(word)), remedy));
            }
        };
        let (bytes_min, bytes_max) = match (alphabet, length) {
            (Alphabet::Uuid, None) => (UUID_BYTES, UUID_BYTES),
            (Alphabet::Uuid, Some(_)) => {
                return Err(Complaint::new("a uuid has a length already", "write {session:uuid}"));
            }
            (_, None) => (1, usize::MAX),
            (_, Some(length)) => lengths(word, length)?,
        };
        Ok(IdShape { alphabet, bytes_min, bytes_max })
    }

    /// The shape of a sampled id, by its bytes and length: a UUID, or the smallest alphabet with exactly this length. `None`:
    /// it has bytes that no alphabet has, or is empty.
    pub fn of(id: &[u8]) -> Option<IdShape> {
        let bytes = id.len();
        if bytes == 0 {
            return None;
        }
        let uuid = IdShape { alphabet: Alphabet::Uuid, bytes_min: UUID_BYTES, bytes_max: UUID_BYTES };
        if uuid.fits(id) {
            return Some(uuid);
        }
        [Alphabet::Digits, Alphabet::Hex, Alphabet::Alnum, Alphabet::Base64Url, Alphabet::Base64]
            .into_iter()
            .map(|alphabet| IdShape { alphabet, bytes_min: bytes, bytes_max: bytes })
            .find(|shape| shape.fits(id))
    }

    /// The smallest shape with one length that fits all of these ids; `None`: there is none.
    pub fn of_all(ids: &[Vec<u8>]) -> Option<IdShape> {
        let bytes = ids.first()?.len();
        if bytes == 0 {
            return None;
        }
        let uuid = IdShape { alphabet: Alphabet::Uuid, bytes_min: UUID_BYTES, bytes_max: UUID_BYTES };
        let plain = [Alphabet::Hex, Alphabet::Alnum, Alphabet::Base64Url, Alphabet::Base64];
        [uuid]
            .into_iter()
            .chain(plain.map(|alphabet| IdShape { alphabet, bytes_min: bytes, bytes_max: bytes }))
            .find(|shape| ids.iter().all(|id| shape.fits(id)))
    }

    /// Which bytes it has.
    pub fn alphabet(self) -> Alphabet {
        self.alphabet
    }

    /// Least and greatest length, in bytes; `usize::MAX`: no bound.
    pub fn bytes(self) -> (usize, usize) {
        (self.bytes_min, self.bytes_max)
    }

    /// Its only length, if it has one.
    pub(crate) fn fixed_bytes(self) -> Option<usize> {
        (self.bytes_min == self.bytes_max).then_some(self.bytes_min)
    }

    /// Whether the byte `byte` may stand at `at`.
    pub(crate) fn takes(self, at: usize, byte: u8) -> bool {
        match self.alphabet {
            Alphabet::Any => true,
            Alphabet::Uuid if UUID_HYPHENS.contains(&at) => byte == b'-',
            Alphabet::Uuid | Alphabet::Hex => byte.is_ascii_hexdigit(),
            Alphabet::Base64Url => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
            Alphabet::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='),
            Alphabet::Alnum => byte.is_ascii_alphanumeric(),
            Alphabet::Digits => byte.is_ascii_digit(),
        }
    }

    /// Whether `part` has this shape.
    pub fn fits(self, part: &[u8]) -> bool {
        (self.bytes_min..=self.bytes_max).contains(&part.len())
            && (self.alphabet == Alphabet::Any || part.iter().enumerate().all(|(at, byte)| self.takes(at, *byte)))
    }

    /// Why `part` does not have this shape; `None`: it has.
    pub(crate) fn objection(self, part: &[u8]) -> Option<String> {
        if part.is_empty() {
            return Some("it is empty".to_owned());
        }
        if let Some(at) = part.iter().enumerate().position(|(at, byte)| !self.takes(at, *byte)) {
            return Some(format!("its byte {} is not one of {self}", at.saturating_add(1)));
        }
        (!self.fits(part)).then(|| format!("it has {} bytes, and {self} has {}", part.len(), self.lengths()))
    }

    /// How strictly it chooses: the number of bytes that it fixes.
    pub(crate) fn strictness(self) -> usize {
        match (self.alphabet, self.fixed_bytes()) {
            (Alphabet::Any, _) => 0,
            (_, None) => 1,
            (_, Some(bytes)) => bytes.saturating_add(1),
        }
    }

    fn lengths(self) -> String {
        match (self.bytes_min, self.bytes_max) {
            (min, usize::MAX) => format!("{min} or more"),
            (min, max) if min == max => min.to_string(),
            (min, max) => format!("{min} to {max}"),
        }
    }

    fn word(self) -> &'static str {
        match self.alphabet {
            Alphabet::Any => "any",
            Alphabet::Uuid => "uuid",
            Alphabet::Hex => "hex",
            Alphabet::Base64Url => "base64url",
            Alphabet::Base64 => "base64",
            Alphabet::Alnum => "alnum",
            Alphabet::Digits => "digits",
        }
    }
}

/// As it is written in a pattern, without the colon before it.
impl std::fmt::Display for IdShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())?;
        match (self.alphabet, self.bytes_min, self.bytes_max) {
            (Alphabet::Any | Alphabet::Uuid, ..) | (_, _, usize::MAX) => Ok(()),
            (_, min, max) if min == max => write!(f, ":{min}"),
            (_, min, max) => write!(f, ":{min}-{max}"),
        }
    }
}

/// `N` or `N-M`.
fn lengths(word: &str, text: &str) -> Result<(usize, usize), Complaint> {
    let remedy = format!("write {word}:N or {word}:N-M with numbers from 1 to {SHAPE_BYTES_MAX}, as in {word}:32");
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten().filter(|n| (1..=SHAPE_BYTES_MAX).contains(n))
    };
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    match (number(least), number(most)) {
        (Some(least), Some(most)) if least <= most => Ok((least, most)),
        (Some(_), Some(_)) => Err(Complaint::new(format!("{} begins above its end", shown(text)), remedy)),
        _ => Err(Complaint::new(format!("{} is not a length", shown(text)), remedy)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const UUID: &[u8] = b"747b91be-e285-419b-83b7-7e243f39b0f0";

    #[test]
    fn a_shape_fits_its_bytes_at_its_length() {
        let fits = |shape: &str, id: &str| IdShape::parse(shape).unwrap().fits(id.as_bytes());
        assert!(fits("uuid", "747B91be-e285-419b-83b7-7e243f39b0f0") && !fits("uuid", "747b91bee285-419b-83b7-7e243f39b0f0-"));
        assert!(fits("hex:4", "aF09") && !fits("hex:4", "aF0") && !fits("hex:4", "aF0g"));
        assert!(fits("hex:2-4", "ab") && fits("hex:2-4", "abcd") && !fits("hex:2-4", "abcde") && !fits("hex:2-4", "a"));
        assert!(fits("base64url:3", "-_z") && !fits("base64url:3", "+_z") && fits("base64:3", "+/="));
        assert!(fits("alnum", "zZ9") && !fits("alnum", "") && fits("digits", "0123456789") && !fits("digits", "a"));
        assert!(IdShape::ANY.fits(b"\xff") && !IdShape::ANY.fits(b""));
    }

    #[test]
    fn a_sample_gives_the_smallest_shape() {
        let of = |id: &[u8]| IdShape::of(id).map(|shape| shape.to_string());
        assert_eq!(of(UUID).as_deref(), Some("uuid"));
        assert_eq!(of(b"0123").as_deref(), Some("digits:4"));
        assert_eq!(of(b"01ab").as_deref(), Some("hex:4"));
        assert_eq!(of(b"01zz").as_deref(), Some("alnum:4"));
        assert_eq!(of(b"0-_z").as_deref(), Some("base64url:4"));
        assert_eq!((of(b"a b"), of(b"")), (None, None));
    }

    #[test]
    fn what_is_refused_says_why_and_what_is_written_is_read_back() {
        let why = |text: &str| {
            let complaint = IdShape::parse(text).unwrap_err();
            format!("{}; {}", complaint.message, complaint.remedy)
        };
        assert!(why("hexx").contains("did you mean `hex`?") && why("uuid:3").contains("length already"));
        for wrong in ["hex:", "hex:0", "hex:257", "hex:x", "hex:+3", "hex:4-", "hex:-4", "hex:1-2-3"] {
            assert!(why(wrong).contains("is not a length"), "{wrong}");
        }
        assert!(why("hex:9-3").contains("begins above its end"));
        for right in ["uuid", "hex:32", "hex:32-64", "base64url", "alnum:40", "digits:1-3", "base64:4"] {
            assert_eq!(IdShape::parse(right).unwrap().to_string(), right);
        }
    }
}

//! Values that say which write they came from and that can be checked byte for byte by whoever knows the session.
//!
//! A value is `name.sequence|` and then bytes drawn from (session, name, sequence), all 256 values of a byte included. The shop
//! builds values and answers their digests; the users compute the digest that they expect. Neither stores values.
//! Digest: over words of 8 bytes, `h = rotate((h ^ word) · odd, 29)`; each step is a bijection of `h` and of the word, so two
//! values that differ in one word never have the same digest, others with probability 2⁻⁶⁴. It is no cryptographic hash.
//! Invariant: `encode` is a function of its arguments.

use crate::random::Draws;

/// No header is longer: a name of 16 bytes, a point, 20 digits, a bar.
pub const HEADER_BYTES_MAX: usize = 40;
const BODY_BYTES_MIN: usize = 8;

/// The smallest value that write `sequence` of `name` can have, in bytes.
pub fn bytes_min(name: &str, sequence: u64) -> usize {
    header(name, sequence).len().saturating_add(BODY_BYTES_MIN)
}

/// The value of `bytes` bytes that write `sequence` of `name` stores in `session`.
pub fn encode(session: &str, name: &str, sequence: u64, bytes: usize) -> Vec<u8> {
    let head = header(name, sequence);
    let mut value = Vec::with_capacity(bytes.saturating_add(8));
    value.extend_from_slice(head.as_bytes());
    let mut draws = Draws::new(digest(session.as_bytes()), &[digest(name.as_bytes()), sequence]);
    while value.len() < bytes {
        value.extend_from_slice(&draws.next_u64().to_le_bytes());
    }
    value.truncate(bytes.max(head.len()));
    value
}

/// The sequence number that a value's header names, if it is a value of `name`.
pub fn sequence_of(name: &str, value: &[u8]) -> Option<u64> {
    let head = value.get(..value.len().min(HEADER_BYTES_MAX))?;
    let end = head.iter().position(|byte| *byte == b'|')?;
    let text = std::str::from_utf8(head.get(..end)?).ok()?;
    let (named, sequence) = text.rsplit_once('.')?;
    if named == name { sequence.parse().ok() } else { None }
}

/// A digest of all bytes and their number.
pub fn digest(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = bytes.len() as u64 ^ 0x243F_6A88_85A3_08D3;
    for word in words {
        hash = step(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0u8; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    hash = step(hash, u64::from_le_bytes(last));
    hash ^ (hash >> 32)
}

fn step(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

fn header(name: &str, sequence: u64) -> String {
    format!("{name}.{sequence}|")
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_write_and_has_its_size() {
        for bytes in [20, 33, 4096] {
            let value = encode("0123", "cart", 17, bytes);
            assert_eq!(value.len(), bytes);
            assert_eq!(sequence_of("cart", &value), Some(17));
            assert_eq!(sequence_of("user", &value), None);
        }
        assert_eq!(sequence_of("cart", b"cart.17"), None);
        assert_eq!(sequence_of("cart", b""), None);
        assert_eq!(sequence_of("cart", &[0xff; 100]), None);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_changes_the_digest() {
        let value = encode("0123", "cart", 17, 301);
        let right = digest(&value);
        for at in 0..value.len() {
            let mut other = value.clone();
            other[at] ^= 1;
            assert_ne!(digest(&other), right, "byte {at}");
            assert_ne!(digest(&value[..at]), right, "cut at {at}");
        }
    }

    #[test]
    fn values_of_other_sessions_names_and_writes_differ() {
        let right = encode("a", "cart", 1, 64);
        assert_ne!(encode("b", "cart", 1, 64), right);
        assert_ne!(encode("a", "user", 1, 64), right);
        assert_ne!(encode("a", "cart", 2, 64), right);
    }
}

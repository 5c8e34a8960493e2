//! The words of an inline command, quoted as `redis-cli` quotes them.
//!
//! It never looks for the end of a line and never counts: [`super::request`] has cut the line out, within its limits.
//!
//! Invariant: quotes that do not match give no words at all, as in Redis.

use bytes::Bytes;

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// The words of an inline command, quoted as `redis-cli` does; `None` if the quotes do not match.
pub(super) fn words(line: &[u8]) -> Option<Vec<Bytes>> {
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

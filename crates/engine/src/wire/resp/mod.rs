//! RESP2 and RESP3: requests to arguments, replies to bytes, and where a reply of an upstream ends.
//!
//! It never knows a command and never keeps more than it is handed: the bytes belong to the connection that calls it (the state
//! face, and the commands of [`crate::command`] for their replies).
//!
//! | file | from | to |
//! |---|---|---|
//! | [`request`] | bytes of a client, in pieces | the arguments of one command |
//! | `inline` | a line of a client | its words |
//! | [`reply`] | values | bytes of a reply |
//! | [`frame`] | bytes of an upstream, in pieces | where one reply ends |
//!
//! Invariant: any bytes in any pieces give the same result as the same bytes at once, and none of them panics.

pub mod frame;
mod inline;
pub mod reply;
pub mod request;

pub use frame::{Frame, FrameError, FrameScanner, elements, frame_len};
pub use reply::{Answer, Reply};
pub use request::{ProtocolError, RequestLimits, RequestParser};

/// The version of the protocol that a client has chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Protocol {
    /// What a connection speaks before `HELLO`.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// A decimal integer as Redis takes it: no sign but `-`, no leading zero, no space, within 64 bits.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [] | [b'0', _, ..] => return None,
        [b'0'] if negative => return None,
        _ => {}
    }
    digits.iter().try_fold(0i64, |value, digit| {
        let digit = i64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        let value = value.checked_mul(10)?;
        if negative { value.checked_sub(digit) } else { value.checked_add(digit) }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn integers_are_taken_as_redis_takes_them() {
        let good: [(&str, i64); 6] =
            [("0", 0), ("7", 7), ("-7", -7), ("10", 10), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)];
        for (text, value) in good {
            assert_eq!(parse_integer(text.as_bytes()), Some(value), "{text}");
        }
        for text in
            ["", "-", "+1", "01", "-0", "-01", " 1", "1 ", "1.0", "9223372036854775808", "-9223372036854775809", "x", "１"]
        {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text}");
        }
    }
}

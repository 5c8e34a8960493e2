//! The error texts of Redis 7, word for word: clients compare them.
//!
//! It never decides when one is due. Every text begins with its code.

use bytes::Bytes;

/// A command on a key of another type.
pub(crate) const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
/// An option that does not exist or does not go with another.
pub(crate) const SYNTAX: &str = "ERR syntax error";
/// An argument or a value that should be an integer.
pub(crate) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
/// A hash field that should be an integer.
pub(crate) const HASH_NOT_AN_INTEGER: &str = "ERR hash value is not an integer";
/// A counter would leave 64 bits.
pub(crate) const OVERFLOW: &str = "ERR increment or decrement would overflow";
/// `DECRBY` of the one number that has no positive counterpart.
pub(crate) const DECREMENT_OVERFLOW: &str = "ERR decrement would overflow";
/// A string would exceed [`super::STRING_BYTES_MAX`].
pub(crate) const STRING_TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
/// A value would exceed [`super::Limits::value_bytes_max`].
pub(crate) const VALUE_TOO_LONG: &str = "ERR string exceeds maximum allowed size ([state] value_bytes_max)";
/// `EXPIRE … NX` with another option.
pub(crate) const EXPIRE_NX: &str = "ERR NX and XX, GT or LT options at the same time are not compatible";
/// `EXPIRE … GT LT`.
pub(crate) const EXPIRE_GT_LT: &str = "ERR GT and LT options at the same time are not compatible";
/// A command before the password.
pub const NO_AUTH: &str = "NOAUTH Authentication required.";

/// `name` is lower case, with a subcommand as `config|get`.
pub fn arity(name: &str) -> Bytes {
    format!("ERR wrong number of arguments for '{name}' command").into()
}

/// An expiry that is none, for the command `name`.
pub(crate) fn expire_time(name: &str) -> Bytes {
    format!("ERR invalid expire time in '{name}' command").into()
}

/// An option of `EXPIRE` that does not exist.
pub(crate) fn unsupported_option(option: &[u8]) -> Bytes {
    concat(&[b"ERR Unsupported option ", option])
}

/// A command that is not known, with the beginning of its arguments as Redis shows them.
pub fn unknown_command(args: &[Bytes]) -> Bytes {
    const SHOWN_MAX: usize = 128;
    let cut = |text: &Bytes, max: usize| c_string(text).iter().copied().take(max).collect::<Vec<u8>>();
    let (name, rest) = args.split_first().map_or((Vec::new(), args), |(name, rest)| (cut(name, SHOWN_MAX), rest));
    let mut shown = Vec::new();
    for arg in rest {
        if shown.len() >= SHOWN_MAX {
            break;
        }
        let room = SHOWN_MAX.saturating_sub(shown.len());
        shown.push(b'\'');
        shown.extend(cut(arg, room));
        shown.extend_from_slice(b"' ");
    }
    concat(&[b"ERR unknown command '", &name, b"', with args beginning with: ", &shown])
}

/// A subcommand that is not known, of the command `name` in upper case.
pub fn unknown_subcommand(subcommand: &[u8], name: &str) -> Bytes {
    let shown: Vec<u8> = c_string(subcommand).iter().copied().take(128).collect();
    concat(&[b"ERR unknown subcommand '", &shown, b"'. Try ", name.as_bytes(), b" HELP."])
}

/// Redis formats arguments as C strings: a zero byte ends them.
fn c_string(text: &[u8]) -> &[u8] {
    text.split(|b| *b == 0).next().unwrap_or_default()
}

fn concat(parts: &[&[u8]]) -> Bytes {
    parts.concat().into()
}

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
/// An argument or a value that should be a number.
pub(crate) const NOT_A_FLOAT: &str = "ERR value is not a valid float";
/// A hash field that should be a number.
pub(crate) const HASH_NOT_A_FLOAT: &str = "ERR hash value is not a float";
/// An increment that is no number to add.
pub(crate) const INFINITE: &str = "ERR value is NaN or Infinity";
/// A sum that is no number.
pub(crate) const INFINITE_SUM: &str = "ERR increment would produce NaN or Infinity";
/// A score that is no number.
pub(crate) const NAN_SCORE: &str = "ERR resulting score is not a number (NaN)";
/// A count that must not be negative, or is no number at all.
pub(crate) const NOT_POSITIVE: &str = "ERR value is out of range, must be positive";
/// A count that is too large for what is to be done with it.
pub(crate) const OUT_OF_RANGE: &str = "ERR value is out of range";
/// A count that has no positive counterpart.
pub(crate) const NOT_SYMMETRIC: &str =
    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
/// An index that the list does not have.
pub(crate) const INDEX_OUT_OF_RANGE: &str = "ERR index out of range";
/// `SETRANGE` before the start.
pub(crate) const OFFSET_OUT_OF_RANGE: &str = "ERR offset is out of range";
/// A place of a bit that no string has.
pub(crate) const BIT_OFFSET: &str = "ERR bit offset is not an integer or out of range";
/// A bit that is neither 0 nor 1.
pub(crate) const NOT_A_BIT: &str = "ERR bit is not an integer or out of range";
/// A command that is one operation names keys of more than one session, or of a session and of none.
pub const SEVERAL_SESSIONS: &str = "ERR wayfarer: the keys of this command do not belong to one session";
/// Something is done to a key that must be there.
pub(crate) const NO_SUCH_KEY: &str = "ERR no such key";
/// `COPY` of a key to itself.
pub(crate) const SAME_OBJECT: &str = "ERR source and destination objects are the same";
/// `OBJECT FREQ` without an LFU policy.
pub(crate) const NO_FREQUENCY: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";
/// A cursor that is no number.
pub(crate) const INVALID_CURSOR: &str = "ERR invalid cursor";
/// Bounds of scores.
pub(crate) const NOT_A_SCORE_RANGE: &str = "ERR min or max is not a float";
/// Bounds of members.
pub(crate) const NOT_A_MEMBER_RANGE: &str = "ERR min or max not valid string range item";
/// `ZRANGE … LIMIT` by rank.
pub(crate) const LIMIT_BY_RANK: &str = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX";
/// `ZRANGE … BYLEX WITHSCORES`.
pub(crate) const SCORES_BY_LEX: &str = "ERR syntax error, WITHSCORES not supported in combination with BYLEX";
/// `ZADD NX XX`.
pub(crate) const ADD_NX_XX: &str = "ERR XX and NX options at the same time are not compatible";
/// `ZADD` with two of GT, LT and NX.
pub(crate) const ADD_GT_LT_NX: &str = "ERR GT, LT, and/or NX options at the same time are not compatible";
/// `ZADD INCR` of several.
pub(crate) const ADD_INCR: &str = "ERR INCR option supports a single increment-element pair";
/// `LPOS … RANK 0`.
pub(crate) const RANK_ZERO: &str = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list";
/// `LPOS … COUNT` below 0.
pub(crate) const COUNT_NEGATIVE: &str = "ERR COUNT can't be negative";
/// `LPOS … MAXLEN` below 0.
pub(crate) const MAXLEN_NEGATIVE: &str = "ERR MAXLEN can't be negative";
/// A reply that repeats elements would be longer than a value may be. Redis has no such limit.
pub(crate) const REPLY_TOO_LONG: &str = "ERR wayfarer: the reply would be longer than a value may be";
/// The replies of a transaction together exceed what one reply may have; nothing of it has happened.
pub(crate) const TRANSACTION_REPLY_TOO_LONG: &str =
    "ERR wayfarer: the replies of the transaction are too long together, and nothing of it was done";
/// `COPY … DB`. The keys of a session are copied within one database.
pub(crate) const OTHER_DATABASE: &str = "ERR wayfarer: a session's key is not copied to another database";
/// A counter would leave 64 bits.
pub(crate) const OVERFLOW: &str = "ERR increment or decrement would overflow";
/// `DECRBY` of the one number that has no positive counterpart.
pub(crate) const DECREMENT_OVERFLOW: &str = "ERR decrement would overflow";
/// A string would exceed [`super::STRING_BYTES_MAX`].
pub(crate) const STRING_TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
/// A value would exceed [`super::Limits::value_bytes_max`].
pub const VALUE_TOO_LONG: &str = "ERR string exceeds maximum allowed size ([state] value_bytes_max)";
/// What Redis says where its memory is full.
pub const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";
/// `EXPIRE … NX` with another option.
pub(crate) const EXPIRE_NX: &str = "ERR NX and XX, GT or LT options at the same time are not compatible";
/// `EXPIRE … GT LT`.
pub(crate) const EXPIRE_GT_LT: &str = "ERR GT and LT options at the same time are not compatible";
/// `DEBUG`, as Redis answers it by default.
pub(crate) const NO_DEBUG: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.";
/// `CONFIG REWRITE`: nothing that a client sets is kept.
pub(crate) const NO_CONFIG_FILE: &str = "ERR The server is running without a config file";
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

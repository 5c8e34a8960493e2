//! The answers of the upstream's scripts, read: `None` is an answer that no script of ours gives.
//!
//! It never asks and never decides. Called by [`super`] alone.
//!
//! Invariant: what is not exactly as the script says is no answer.

use bytes::Bytes;
use redis::Value;
use wayfarer_engine::command::Target;
use wayfarer_engine::rest::change::{Loaded, LoadedKey, Stored};
use wayfarer_engine::rest::content::KeyContent;

/// The answer about one key; `None`: it is none.
pub(super) fn read_stored(answer: Value) -> Option<Stored> {
    Some(match bytes(answer)?.as_ref() {
        b"written" => Stored::Written,
        b"over" => Stored::WrittenOver,
        b"foreign" => Stored::Foreign,
        b"vanished" => Stored::Vanished,
        b"refused" => Stored::Refused,
        _ => return None,
    })
}

/// The answer of `both.lua`; `None`: it is none.
pub(super) fn read_both(answer: Value) -> Option<[Stored; 2]> {
    let Value::Array(parts) = answer else { return None };
    let stored: Vec<Stored> = parts.into_iter().map(read_stored).collect::<Option<_>>()?;
    stored.try_into().ok()
}

/// The answer of `count.lua`, or to SCAN: where it goes on, and how many there were; `None`: it is none.
pub(super) fn read_count(answer: Value) -> Option<(Bytes, u64)> {
    let Value::Array(parts) = answer else { return None };
    let [cursor, count] = <[Value; 2]>::try_from(parts).ok()?;
    let count = match count {
        Value::Int(count) => u64::try_from(count).ok()?,
        Value::Array(names) => u64::try_from(names.len()).ok()?,
        _ => return None,
    };
    Some((bytes(cursor)?, count))
}

/// The answer of `load.lua`; `None`: it is none.
pub(super) fn read_loaded(answer: Value, target: Target) -> Option<Result<LoadedKey, Loaded>> {
    let Value::Array(parts) = answer else { return None };
    let mut parts = parts.into_iter();
    match bytes(parts.next()?)?.as_ref() {
        b"refused" => return Some(Err(Loaded::Refused)),
        b"unfit" => return Some(Err(Loaded::Unfit)),
        b"keys" => {}
        _ => return None,
    }
    let kind = bytes(parts.next()?)?;
    let expires_at_ms = std::str::from_utf8(&bytes(parts.next()?)?).ok()?.parse::<i64>().ok()?;
    let contents = parts.next()?;
    let content = match kind.as_ref() {
        b"none" => None,
        b"string" => Some(KeyContent::String(bytes(contents)?)),
        b"hash" => Some(KeyContent::Hash(pairs(contents)?)),
        b"set" => Some(KeyContent::Set(list(contents)?)),
        b"list" => Some(KeyContent::List(list(contents)?)),
        b"zset" => {
            let score = |text: &Bytes| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
            let members = pairs(contents)?.into_iter();
            let members = members.map(|(member, text)| Some((member, Bytes::copy_from_slice(&score(&text)?.to_be_bytes()))));
            Some(KeyContent::SortedSet(members.collect::<Option<_>>()?))
        }
        _ => return None,
    };
    Some(Ok(LoadedKey { target, content, expires_at_ms: u64::try_from(expires_at_ms).ok() }))
}

fn list(value: Value) -> Option<Vec<Bytes>> {
    let Value::Array(items) = value else { return None };
    items.into_iter().map(bytes).collect()
}

fn pairs(value: Value) -> Option<Vec<(Bytes, Bytes)>> {
    let mut items = list(value)?.into_iter();
    let mut pairs = Vec::with_capacity(items.len() / 2);
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        pairs.push((name, value));
    }
    Some(pairs)
}

fn bytes(value: Value) -> Option<Bytes> {
    if let Value::BulkString(bytes) = value { Some(bytes.into()) } else { None }
}

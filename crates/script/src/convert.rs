//! Replies of commands to Lua values, and what a script returns to a reply, by Redis's rules.
//!
//! | reply | Lua | back |
//! |---|---|---|
//! | integer | number | integer, cut off |
//! | bulk | string | bulk |
//! | null | false | null |
//! | status | table with `ok` | status |
//! | error | table with `err` | error |
//! | array | table | array, up to the first nil |
//! | – | true, nil | 1, null |
//!
//! Bounds: depth of what is returned.

use bytes::BytesMut;
use mlua::{Lua, Table, Value};
use wayfarer_engine::command::format_double;
use wayfarer_engine::wire::resp::{Reply, parse_integer};

/// Tables within tables, as in Redis's stack of a reply.
const DEPTH_MAX: usize = 128;

/// The value of the reply (RESP2) at the front of `bytes`, and what is behind it.
pub(super) fn to_lua<'a>(lua: &Lua, bytes: &'a [u8]) -> mlua::Result<(Value, &'a [u8])> {
    let unfit = || mlua::Error::runtime("the reply of a command is not RESP2");
    let at = bytes.iter().position(|b| *b == b'\n').ok_or_else(unfit)?;
    let (line, rest) = bytes.split_at_checked(at.saturating_add(1)).ok_or_else(unfit)?;
    let (kind, line) = line.strip_suffix(b"\r\n").and_then(<[u8]>::split_first).ok_or_else(unfit)?;
    let number = || parse_integer(line).ok_or_else(unfit);
    match kind {
        b'+' => Ok((single(lua, "ok", line)?, rest)),
        b'-' => Ok((single(lua, "err", line)?, rest)),
        #[allow(clippy::cast_precision_loss, reason = "a Lua number is a double, in Redis as well")]
        b':' => Ok((Value::Number(number()? as f64), rest)),
        b'$' => {
            let Ok(len) = usize::try_from(number()?) else { return Ok((Value::Boolean(false), rest)) };
            let (value, rest) = rest.split_at_checked(len).ok_or_else(unfit)?;
            Ok((Value::String(lua.create_string(value)?), rest.strip_prefix(b"\r\n").ok_or_else(unfit)?))
        }
        b'*' => {
            let Ok(len) = usize::try_from(number()?) else { return Ok((Value::Boolean(false), rest)) };
            let table = lua.create_table()?;
            let mut rest = rest;
            for at in 1..=len {
                let value;
                (value, rest) = to_lua(lua, rest)?;
                table.raw_set(at, value)?;
            }
            Ok((Value::Table(table), rest))
        }
        _ => Err(unfit()),
    }
}

/// A table with one field, as status and error replies are.
pub(super) fn single(lua: &Lua, name: &str, text: &[u8]) -> mlua::Result<Value> {
    let table = lua.create_table()?;
    table.raw_set(name, lua.create_string(text)?)?;
    Ok(Value::Table(table))
}

/// Writes what a script returned.
pub(super) fn to_reply(value: &Value, reply: &mut Reply<'_>, depth: usize) -> mlua::Result<()> {
    if depth > DEPTH_MAX {
        reply.error("ERR reached lua stack limit");
        return Ok(());
    }
    match value {
        Value::String(text) => reply.bulk(&text.as_bytes()),
        Value::Integer(number) => reply.integer(*number),
        #[allow(clippy::cast_possible_truncation, reason = "Redis cuts numbers off; a cast saturates")]
        Value::Number(number) => reply.integer(*number as i64),
        Value::Boolean(true) => reply.integer(1),
        Value::Table(table) => return table_to_reply(table, reply, depth),
        _ => reply.null(),
    }
    Ok(())
}

fn table_to_reply(table: &Table, reply: &mut Reply<'_>, depth: usize) -> mlua::Result<()> {
    if let Value::String(text) = table.raw_get::<Value>("err")? {
        let text = text.as_bytes();
        reply.error(text.strip_prefix(b"-").unwrap_or(&text));
        return Ok(());
    }
    if let Value::String(text) = table.raw_get::<Value>("ok")? {
        reply.simple(&String::from_utf8_lossy(&text.as_bytes()));
        return Ok(());
    }
    if let Value::Number(number) = table.raw_get::<Value>("double")? {
        reply.double(number);
        return Ok(());
    }
    let mut elements = Vec::new();
    loop {
        let value: Value = table.raw_get(elements.len().saturating_add(1))?;
        if value.is_nil() {
            break;
        }
        elements.push(value);
    }
    reply.array(elements.len());
    elements.iter().try_for_each(|element| to_reply(element, reply, depth.saturating_add(1)))
}

/// The arguments of `redis.call`: strings and numbers, these with 17 digits as in Redis 7.0.
pub(super) fn argument(value: &Value) -> Option<BytesMut> {
    match value {
        Value::String(text) => Some(BytesMut::from(&*text.as_bytes())),
        #[allow(clippy::cast_precision_loss, reason = "Lua 5.1 has doubles alone: it was one")]
        Value::Integer(number) => Some(BytesMut::from(format_double(*number as f64).as_bytes())),
        Value::Number(number) => Some(BytesMut::from(format_double(*number).as_bytes())),
        _ => None,
    }
}

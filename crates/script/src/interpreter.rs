//! One Lua: its libraries, its bounds, and one run of a script in it.
//!
//! It never lets a script keep anything from one run to the next: globals and libraries cannot be written. What could load code
//! of machines, reach files, or escape the clock (coroutines) is not there.
//!
//! | a run ends | reply | what it did |
//! |---|---|---|
//! | returned, or with an error of its own | that | counts, as in Redis |
//! | over its time or memory | an error that says so | is forgotten |
//! | at a value that must be fetched | none | is forgotten; it runs again |
//!
//! Invariant: a script that is to stop cannot catch that: `pcall` passes it on.

use super::{ScriptLimits, convert, sha1hex};
use bytes::{Bytes, BytesMut};
use mlua::{Function, HookTriggers, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};
use std::cell::{Cell, RefCell};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use wayfarer_engine::command::compound::Calls;
use wayfarer_engine::wire::resp::{Protocol, Reply};

/// After so many instructions the clock is looked at.
const HOOK_INSTRUCTIONS: u32 = 200;
/// Arguments of one `redis.call`.
const ARGUMENTS_MAX: usize = 8000;
/// An idle interpreter holds at most this part of the memory that a run may use.
const KEPT_OF_LIMIT: usize = 8;
const STOPPED: &str = "the script is stopped";
const TOO_LONG: &str = "ERR wayfarer: the script ran too long and was undone ([state] script_ms_max)";
const TOO_LARGE: &str = "ERR wayfarer: the script used too much memory and was undone ([state] script_memory_bytes_max)";

/// What every script finds. `stopped` and `shown` come from the outside.
const PRELUDE: &str = r#"
local stopped, shown, redis = ...
local raw_pcall, raw_error, raw_rawset = pcall, error, rawset
local guarded = setmetatable({}, { __mode = "k" })
local function passed(ok, first, ...)
  if stopped() then raw_error("the script is stopped", 0) end
  if ok then return ok, first, ... end
  return ok, shown(first), ...
end
local function read_only(of)
  local shield = setmetatable({}, { __index = of, __metatable = false, __newindex = function()
    raw_error("Attempt to modify a readonly table", 2)
  end })
  guarded[shield] = true
  return shield
end
local base = {
  pcall = function(f, ...) return passed(raw_pcall(f, ...)) end,
  xpcall = function(f, handler) return passed(xpcall(f, handler)) end,
  assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs, rawequal = rawequal, rawget = rawget,
  select = select, setmetatable = setmetatable, getmetatable = getmetatable, tonumber = tonumber, tostring = tostring,
  rawset = function(t, name, value)
    if t ~= nil and guarded[t] then raw_error("Attempt to modify a readonly table", 2) end
    return raw_rawset(t, name, value)
  end,
  type = type, unpack = unpack, _VERSION = _VERSION,
  string = read_only(string), table = read_only(table), math = read_only(math), redis = read_only(redis),
}
string.dump = nil
getmetatable("").__metatable = false
local globals = setmetatable({}, {
  __index = function(_, name)
    local value = base[name]
    if value == nil then raw_error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2) end
    return value
  end,
  __newindex = function() raw_error("Attempt to modify a readonly table", 2) end,
  __metatable = false,
})
guarded[globals] = true
base._G = globals
return base, globals
"#;

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Finished,
    Stopped,
}

/// A command within a script failed.
#[derive(Debug)]
struct Failed {
    text: Vec<u8>,
    line: Option<usize>,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

impl std::error::Error for Failed {}

pub(super) struct Interpreter {
    lua: Lua,
    redis: Table,
    base: Table,
    globals: Table,
    stopped: Arc<AtomicBool>,
    /// When the run must have ended.
    deadline: Arc<Mutex<Option<Instant>>>,
    limits: ScriptLimits,
}

impl Interpreter {
    pub(super) fn new(limits: ScriptLimits) -> Result<Interpreter, String> {
        Interpreter::build(limits).map_err(|error| format!("wayfarer: no interpreter for the script: {error}"))
    }

    fn build(limits: ScriptLimits) -> mlua::Result<Interpreter> {
        let lua = Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH, LuaOptions::default())?;
        let stopped = Arc::new(AtomicBool::new(false));
        let redis = library(&lua)?;
        let is_stopped = stopped.clone();
        let is_stopped = lua.create_function(move |_, ()| Ok(is_stopped.load(Ordering::Relaxed)))?;
        let shown = lua.create_function(|lua, error: Value| shown(lua, error))?;
        let prelude: Function = lua.load(PRELUDE).set_name("=prelude").into_function()?;
        let (base, globals): (Table, Table) = prelude.call((is_stopped, shown, redis.clone()))?;
        lua.set_memory_limit(limits.memory_bytes_max)?;
        let deadline = Arc::new(Mutex::new(None));
        let made = Interpreter { lua, redis, base, globals, stopped, deadline, limits };
        made.watch_the_clock()?;
        Ok(made)
    }

    fn watch_the_clock(&self) -> mlua::Result<()> {
        let (stopped, deadline) = (self.stopped.clone(), self.deadline.clone());
        self.lua.set_hook(HookTriggers::new().every_nth_instruction(HOOK_INSTRUCTIONS), move |_, _| {
            let deadline = *deadline.lock().unwrap_or_else(PoisonError::into_inner);
            if deadline.is_some_and(|deadline| now() >= deadline) {
                stopped.store(true, Ordering::Relaxed);
            }
            if stopped.load(Ordering::Relaxed) { Err(mlua::Error::runtime(STOPPED)) } else { Ok(VmState::Continue) }
        })
    }

    /// Forgets the last run. False: it holds so much even so that it is better dropped. Lua 5.1 does not collect when it meets its
    /// bound, so what a run leaves would be missing to the next.
    pub(super) fn clear(&self) -> bool {
        let forgotten = ["KEYS", "ARGV"].into_iter().all(|name| self.base.raw_set(name, Value::Nil).is_ok());
        let kept_max = self.limits.memory_bytes_max / KEPT_OF_LIMIT;
        if self.lua.used_memory() > kept_max && self.lua.gc_collect().is_err() {
            return false;
        }
        forgotten && self.lua.used_memory() <= kept_max
    }

    /// Bytes that it holds.
    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> usize {
        self.lua.used_memory()
    }

    /// Whether the text is Lua; else where and why not.
    pub(super) fn compile(&mut self, text: &[u8]) -> Result<(), String> {
        self.function(text).map(drop)
    }

    fn function(&self, text: &[u8]) -> Result<Function, String> {
        let chunk = self.lua.load(text).set_name("=user_script").set_mode(mlua::chunk::ChunkMode::Text);
        chunk.set_environment(self.globals.clone()).into_function().map_err(|error| match error {
            mlua::Error::SyntaxError { message, .. } => message,
            other => other.to_string(),
        })
    }

    /// Runs a script and appends its reply.
    pub(super) fn run(
        &mut self,
        text: &[u8],
        digest: &str,
        (keys, rest): (&[Bytes], &[Bytes]),
        calls: &mut Calls<'_>,
        protocol: Protocol,
        out: &mut BytesMut,
    ) -> End {
        let before = out.len();
        self.stopped.store(false, Ordering::Relaxed);
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = now().checked_add(self.limits.time_max);
        let function = match self.function(text) {
            Ok(function) => function,
            Err(error) => {
                Reply::new(out, protocol).error(format!("ERR Error compiling script (new function): {error}"));
                return End::Finished;
            }
        };
        let missing = Cell::new(false);
        let ended = self.call(&function, (keys, rest), calls, &missing).and_then(|value| {
            let mut reply = Reply::new(out, protocol);
            convert::to_reply(&value, &mut reply, 0)
        });
        let stopped = self.stopped.load(Ordering::Relaxed);
        match ended {
            Ok(()) if !stopped => End::Finished,
            _ if missing.get() => End::Stopped,
            _ if stopped => {
                out.truncate(before);
                Reply::new(out, protocol).error(TOO_LONG);
                End::Stopped
            }
            Ok(()) => End::Finished,
            Err(error) if is_memory(&error) => {
                out.truncate(before);
                Reply::new(out, protocol).error(TOO_LARGE);
                End::Stopped
            }
            Err(error) => {
                out.truncate(before);
                Reply::new(out, protocol).error(error_text(&error, digest));
                End::Finished
            }
        }
    }

    fn call(
        &self,
        function: &Function,
        (keys, rest): (&[Bytes], &[Bytes]),
        calls: &mut Calls<'_>,
        missing: &Cell<bool>,
    ) -> mlua::Result<Value> {
        let list = |values: &[Bytes]| -> mlua::Result<Table> {
            let strings = values.iter().map(|value| self.lua.create_string(value)).collect::<mlua::Result<Vec<_>>>()?;
            self.lua.create_sequence_from(strings)
        };
        self.base.raw_set("KEYS", list(keys)?)?;
        self.base.raw_set("ARGV", list(rest)?)?;
        let calls = RefCell::new(calls);
        let command = |lua: &Lua, args: MultiValue| -> mlua::Result<Value> {
            let mut calls = calls.try_borrow_mut().map_err(|_| mlua::Error::runtime("a command within a command"))?;
            let reply = one_command(&mut calls, &args);
            let Some(reply) = reply else {
                missing.set(true);
                self.stopped.store(true, Ordering::Relaxed);
                return Err(mlua::Error::runtime(STOPPED));
            };
            convert::to_lua(lua, &reply).map(|(value, _)| value)
        };
        self.lua.scope(|scope| {
            let call = scope.create_function(|lua, args: MultiValue| {
                let value = command(lua, args)?;
                match error_of(&value) {
                    None => Ok(value),
                    Some(text) => {
                        let line = lua.inspect_stack(1, |debug| debug.current_line()).flatten();
                        Err(mlua::Error::external(Failed { text, line }))
                    }
                }
            })?;
            self.redis.raw_set("call", call)?;
            self.redis.raw_set("pcall", scope.create_function(|lua, args: MultiValue| command(lua, args))?)?;
            function.call::<Value>(())
        })
    }
}

#[allow(clippy::disallowed_methods, reason = "a bound on the time that a script holds its session; no decision depends on it")]
fn now() -> Instant {
    Instant::now()
}

/// Runs one command; `None`: a value must be fetched first. What is no command has an error as its reply.
fn one_command(calls: &mut Calls<'_>, args: &MultiValue) -> Option<BytesMut> {
    let mut out = BytesMut::new();
    let arguments: Option<Vec<Bytes>> =
        args.iter().take(ARGUMENTS_MAX).map(|value| convert::argument(value).map(BytesMut::freeze)).collect();
    match arguments {
        Some(arguments) if arguments.is_empty() => {
            Reply::new(&mut out, Protocol::Resp2).error("ERR Please specify at least one argument for this redis lib call");
        }
        None => {
            Reply::new(&mut out, Protocol::Resp2).error("ERR Lua redis lib command arguments must be strings or integers");
        }
        Some(arguments) => calls.call(arguments, Protocol::Resp2, &mut out).ok()?,
    }
    Some(out)
}

/// The table `redis` without its calls.
fn library(lua: &Lua) -> mlua::Result<Table> {
    let redis = lua.create_table()?;
    redis.raw_set("sha1hex", lua.create_function(|_, text: mlua::LuaString| Ok(sha1hex(&text.as_bytes())))?)?;
    redis.raw_set(
        "status_reply",
        lua.create_function(|lua, text: mlua::LuaString| convert::single(lua, "ok", &text.as_bytes()))?,
    )?;
    redis.raw_set(
        "error_reply",
        lua.create_function(|lua, text: mlua::LuaString| {
            let text = text.as_bytes();
            let text = text.strip_prefix(b"-").unwrap_or(&text);
            // A code of one word stands first; without one it is ERR.
            let whole = if text.contains(&b' ') { text.to_vec() } else { [b"ERR ", text].concat() };
            convert::single(lua, "err", &whole)
        })?,
    )?;
    redis.raw_set("log", lua.create_function(|_, _: MultiValue| Ok(()))?)?;
    redis.raw_set("set_repl", lua.create_function(|_, _: MultiValue| Ok(()))?)?;
    redis.raw_set("replicate_commands", lua.create_function(|_, _: MultiValue| Ok(true))?)?;
    redis.raw_set(
        "setresp",
        lua.create_function(
            |_, version: i64| {
                if version == 2 { Ok(()) } else { Err(mlua::Error::runtime("RESP version must be 2.")) }
            },
        )?,
    )?;
    for (at, name) in ["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"].into_iter().enumerate() {
        redis.raw_set(name, at)?;
    }
    for (name, value) in [("REPL_NONE", 0), ("REPL_SLAVE", 1), ("REPL_REPLICA", 1), ("REPL_AOF", 2), ("REPL_ALL", 3)] {
        redis.raw_set(name, value)?;
    }
    Ok(redis)
}

/// The text of an error reply.
fn error_of(value: &Value) -> Option<Vec<u8>> {
    match value.as_table()?.raw_get::<Value>("err").ok()? {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        _ => None,
    }
}

/// What a script that catches an error sees: a table with `err` for a command, a text for anything else.
fn shown(lua: &Lua, error: Value) -> mlua::Result<Value> {
    let Value::Error(error) = error else { return Ok(error) };
    match failed(&error) {
        Some(failed) => convert::single(lua, "err", &failed.text),
        None => lua.create_string(error.to_string()).map(Value::String),
    }
}

fn failed(error: &mlua::Error) -> Option<&Failed> {
    match error {
        mlua::Error::CallbackError { cause, .. } => failed(cause),
        mlua::Error::ExternalError(external) => external.downcast_ref(),
        _ => None,
    }
}

fn is_memory(error: &mlua::Error) -> bool {
    match error {
        mlua::Error::MemoryError(_) => true,
        mlua::Error::CallbackError { cause, .. } => is_memory(cause),
        _ => false,
    }
}

/// The error reply of a script, as Redis 7 words it.
fn error_text(error: &mlua::Error, digest: &str) -> Vec<u8> {
    let (mut text, line) = match (failed(error), error) {
        (Some(failed), _) => (failed.text.clone(), failed.line.map(|line| line.to_string())),
        (None, mlua::Error::RuntimeError(text)) => {
            // The trace that the library adds is no part of Redis's text.
            let text = text.split("\nstack traceback:").next().unwrap_or_default();
            let line = text.strip_prefix("user_script:").and_then(|rest| rest.split(':').next());
            (format!("ERR {text}").into_bytes(), line.map(str::to_owned))
        }
        (None, other) => (format!("ERR {other}").into_bytes(), None),
    };
    let line = line.unwrap_or_else(|| "1".to_owned());
    text.extend_from_slice(format!(" script: {digest}, on @user_script:{line}.").as_bytes());
    text
}

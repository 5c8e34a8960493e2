//! Lua scripts on one session, as Redis runs them: `EVAL`, `EVALSHA`, `SCRIPT`.
//!
//! It never decides whose keys they are and never waits; a script sees the keys that it was given and nothing of the machine: no
//! files, no processes, no clock of its own. The state face makes operations of scripts; the store runs them as any other.
//!
//! | file | |
//! |---|---|
//! | `cache` | texts by their digests |
//! | `interpreter` | one Lua, its libraries and bounds |
//! | `convert` | replies to Lua values and back |
//!
//! Bounds: time and memory of a run (a single call of a library's function, such as a pattern that backtracks, is not cut), bytes
//! of the cache with all that a text costs beside itself, idle interpreters and what they hold.
//! Invariant: *a script runs whole or not at all*: one that meets a missing value or a bound leaves nothing behind.

mod cache;
mod convert;
mod interpreter;

use bytes::{Bytes, BytesMut};
use cache::Cache;
use interpreter::{End, Interpreter};
use sha1::{Digest, Sha1};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wayfarer_engine::command::compound::{Calls, Script, ScriptCall};
use wayfarer_engine::command::{Op, Target};
use wayfarer_engine::wire::resp::{Protocol, Reply};

/// Idle interpreters that are kept for the next scripts.
const IDLE_MAX: usize = 8;

/// Bounds of scripts.
#[derive(Clone, Copy, Debug)]
pub struct ScriptLimits {
    /// Time of one run. It holds its session, and those of its part of the table, as long.
    pub time_max: Duration,
    /// Memory of one interpreter, in bytes.
    pub memory_bytes_max: usize,
    /// Bytes of all texts that are remembered by their digests, with what each costs beside itself.
    pub cache_bytes_max: usize,
}

/// Remembers texts, and runs them.
pub struct Scripts {
    limits: ScriptLimits,
    cache: Mutex<Cache>,
    idle: Mutex<Vec<Interpreter>>,
}

impl std::fmt::Debug for Scripts {
    // A text may hold anything.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scripts({:?})", self.limits)
    }
}

/// The digest by which `EVALSHA` names a text: 40 hexadecimal digits in lower case.
pub fn sha1hex(text: &[u8]) -> String {
    Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Scripts {
    /// No text known yet.
    pub fn new(limits: ScriptLimits) -> Scripts {
        Scripts { limits, cache: Mutex::new(Cache::new(limits.cache_bytes_max)), idle: Mutex::new(Vec::new()) }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `SCRIPT LOAD`: the digest, or Redis's error if the text is no Lua.
    pub fn load(&self, text: &Bytes) -> Result<String, Bytes> {
        let mut interpreter = self.take().map_err(|error| Bytes::from(format!("ERR {error}")))?;
        let compiled = interpreter.compile(text);
        self.give_back(interpreter);
        compiled.map_err(|error| Bytes::from(format!("ERR Error compiling script (new function): {error}")))?;
        let digest = sha1hex(text);
        self.cache().insert(digest.clone(), text);
        Ok(digest)
    }

    /// Remembers a text that a client has sent whole, if it is Lua.
    pub fn remember(&self, text: &Bytes) -> String {
        let digest = sha1hex(text);
        let known = self.cache().find(&digest).is_some();
        if !known && let Ok(mut interpreter) = self.take() {
            let compiles = interpreter.compile(text).is_ok();
            self.give_back(interpreter);
            if compiles {
                self.cache().insert(digest.clone(), text);
            }
        }
        digest
    }

    /// The text of a digest, in any case.
    pub fn find(&self, digest: &[u8]) -> Option<Bytes> {
        self.cache().find(&String::from_utf8_lossy(digest).to_ascii_lowercase())
    }

    /// `SCRIPT FLUSH`.
    pub fn flush(&self) {
        self.cache().clear();
    }

    /// A script as an operation on keys of one session, `targets` filled in by the caller. `call` has the text. What it keeps is
    /// copied: the operation may wait, and must not hold the buffer in which it was received.
    pub fn operation(self: &Arc<Self>, call: ScriptCall, targets: Vec<Target>) -> Op {
        let owned = |slices: Vec<Bytes>| slices.iter().map(|slice| Bytes::copy_from_slice(slice)).collect::<Vec<_>>();
        let (keys, rest, digest) = (owned(call.keys), owned(call.rest), sha1hex(&call.script));
        let known = self.cache().find(&digest);
        let script = known.unwrap_or_else(|| Bytes::copy_from_slice(&call.script));
        let count = Bytes::from(keys.len().to_string());
        let head = [Bytes::from_static(b"EVAL"), script.clone(), count];
        let args = head.into_iter().chain(keys.iter().cloned()).chain(rest.iter().cloned()).collect();
        Op::script(args, targets, Arc::new(Program { scripts: self.clone(), text: script, digest, keys, rest }))
    }

    fn take(&self) -> Result<Interpreter, String> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| Interpreter::new(self.limits), Ok)
    }

    fn give_back(&self, interpreter: Interpreter) {
        if !interpreter.clear() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(interpreter);
        }
    }
}

/// One call of a script.
struct Program {
    scripts: Arc<Scripts>,
    text: Bytes,
    digest: String,
    keys: Vec<Bytes>,
    rest: Vec<Bytes>,
}

impl Script for Program {
    fn run(&self, calls: &mut Calls<'_>, protocol: Protocol, out: &mut BytesMut) -> bool {
        let mut interpreter = match self.scripts.take() {
            Ok(interpreter) => interpreter,
            Err(error) => {
                Reply::new(out, protocol).error(format!("ERR {error}"));
                return false;
            }
        };
        let end = interpreter.run(&self.text, &self.digest, (&self.keys, &self.rest), calls, protocol, out);
        // One that was stopped may hold anything: it is not used again.
        if end == End::Finished {
            self.scripts.give_back(interpreter);
        }
        end == End::Finished
    }
}

#[cfg(test)]
mod tests;

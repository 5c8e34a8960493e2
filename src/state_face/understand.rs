//! A command on a session with its keys filled in: for clients of this node, and for commands that other nodes forward.
//!
//! It never executes and never decides where a session is. The state face asks it for scripts, the control channel's side for
//! everything that comes from other nodes.
//!
//! Invariant: what is handed out concerns one session, a rename perhaps two, and every key of it is filled in.

use super::keys::SessionKeys;
use bytes::Bytes;
#[cfg(feature = "lua")]
use std::sync::Arc;
#[cfg(feature = "lua")]
use std::time::Duration;
use wayfarer_engine::command::compound::{ScriptCall, compose, script_call, targets};
use wayfarer_engine::command::{Op, Parsed, parse};
use wayfarer_engine::ids::SessionId;
use wayfarer_settings::State;

/// Bytes of the texts of scripts that are remembered by their digests.
#[cfg(feature = "lua")]
const SCRIPTS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Whose keys a script has.
#[cfg_attr(not(feature = "lua"), expect(dead_code, reason = "without Lua no script is one session's"))]
pub(super) enum Script {
    /// One session's.
    One(Bytes, Box<Op>),
    /// No session's.
    Nobody,
    /// Of several sessions, or of a session and the upstream.
    Several,
    /// Scripts are not built in.
    #[cfg(not(feature = "lua"))]
    Unknown,
}

/// See the head of this file.
pub struct Understanding {
    pub(super) keys: SessionKeys,
    /// Of all listeners.
    pub(super) every_key: SessionKeys,
    #[cfg(feature = "lua")]
    pub(super) scripts: Arc<wayfarer_script::Scripts>,
}

impl Understanding {
    /// As the settings say.
    pub fn new(state: &State) -> Understanding {
        #[cfg(feature = "lua")]
        let scripts = Arc::new(wayfarer_script::Scripts::new(wayfarer_script::ScriptLimits {
            time_max: Duration::from_millis(state.script_ms_max),
            memory_bytes_max: state.script_memory_bytes_max,
            cache_bytes_max: SCRIPTS_BYTES_MAX,
        }));
        Understanding {
            keys: SessionKeys::new(state),
            every_key: SessionKeys::of_all(state),
            #[cfg(feature = "lua")]
            scripts,
        }
    }

    /// What another node forwarded for `session`; `None`: by this node's settings it is no operation on that session.
    pub fn forwarded(&self, session: &[u8], arguments: Vec<Bytes>) -> Option<Op> {
        compose(arguments, &|database, args| {
            let (found, op) = self.single(database, args)?;
            (found == session).then_some(op)
        })
    }

    /// One command on one session, through whichever listener it came.
    fn single(&self, database: u8, args: Vec<Bytes>) -> Option<(Bytes, Op)> {
        if args.first().is_some_and(|name| name.eq_ignore_ascii_case(b"eval")) {
            return match self.script_with(&self.every_key, database, script_call(&args).ok()?) {
                Script::One(session, op) => Some((session, *op)),
                _ => None,
            };
        }
        let Parsed::Keyed(mut op) = parse(args) else { return None };
        if op.renames().is_some() {
            let (from, to) = self.every_key.fill_both(database, &mut op)?;
            let op = if from == to { op } else { op.across(SessionId(to)) };
            return Some((from, op));
        }
        let session = self.every_key.fill_all(database, &mut op)?;
        Some((session, op))
    }

    /// A script with its text, of a client.
    #[cfg(feature = "lua")]
    pub(super) fn script(&self, database: u8, call: ScriptCall) -> Script {
        self.script_with(&self.keys, database, call)
    }

    fn script_with(&self, keys: &SessionKeys, database: u8, call: ScriptCall) -> Script {
        let mut targets = targets(&call.keys);
        let sessions: Vec<Option<Bytes>> = targets.iter_mut().map(|target| keys.fill(database, target)).collect();
        let first = sessions.first().cloned().flatten();
        if sessions.iter().any(|session| *session != first) {
            return Script::Several;
        }
        let Some(session) = first else { return Script::Nobody };
        self.operation(session, call, targets)
    }

    #[cfg(feature = "lua")]
    fn operation(&self, session: Bytes, call: ScriptCall, targets: Vec<wayfarer_engine::command::Target>) -> Script {
        Script::One(session, Box::new(self.scripts.operation(call, targets)))
    }

    #[cfg(not(feature = "lua"))]
    fn operation(&self, _: Bytes, _: ScriptCall, _: Vec<wayfarer_engine::command::Target>) -> Script {
        Script::Unknown
    }
}

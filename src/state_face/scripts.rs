//! `EVAL`, `EVALSHA` and `SCRIPT` of one client.
//!
//! It never runs a script: one on a session's keys becomes an operation on that session, one on other keys goes upstream as it
//! is. Called by [`super::dispatch`].
//!
//! | script with keys | at this node |
//! |---|---|
//! | of one session | an operation; `EVALSHA` with a digest that this node does not remember: `NOSCRIPT`, as after a restart of Redis |
//! | of none, upstream | relayed; the text is remembered for sessions |
//! | of none, no upstream, no key at all | runs on nothing |
//! | of several | refused |

use super::Sessions;
use super::connection::Client;
use super::understand::Script;
use bytes::{Bytes, BytesMut};
use wayfarer_engine::command::compound::{ScriptCall, script_call};
use wayfarer_engine::command::{Foreign, Op, absent_reply, errors};
use wayfarer_engine::ids::SessionId;

const NO_SCRIPT: &str = "NOSCRIPT No matching script. Please use EVAL.";

impl<S: Sessions> Client<S> {
    /// Whether the command is one of these.
    pub(super) fn is_about_scripts(command: &Foreign) -> bool {
        matches!(command.name, Some("eval" | "evalsha" | "script"))
    }

    /// One of the three.
    pub(super) fn scripted(&mut self, command: &Foreign) {
        if command.name == Some("script") {
            return self.script(command);
        }
        let by_digest = command.name == Some("evalsha");
        let mut call = match script_call(&command.args) {
            Ok(call) => call,
            // A wrong call is the upstream's to judge, unless it might show it a session's key.
            Err(error) => {
                let database = self.database();
                let of_session = command.keys.iter().any(|key| self.face.understanding.keys.is_session(database, key));
                if of_session || !self.has_upstream() {
                    self.fail_queue();
                    return self.error(error);
                }
                return self.pass_on(command);
            }
        };
        let known = if by_digest { self.face.understanding.scripts.find(&call.script) } else { Some(call.script.clone()) };
        if !by_digest {
            self.face.understanding.scripts.remember(&call.script);
        }
        let digest = std::mem::replace(&mut call.script, known.clone().unwrap_or_default());
        let no_keys = call.keys.is_empty();
        let again = no_keys.then(|| ScriptCall { script: call.script.clone(), keys: Vec::new(), rest: call.rest.clone() });
        match self.face.understanding.script(self.database(), call) {
            Script::Several => {
                self.fail_queue();
                self.error(super::dispatch::SEVERAL_SESSIONS);
            }
            Script::Nobody if self.has_upstream() => self.pass_on(command),
            whose @ (Script::One(..) | Script::Nobody) if known.is_none() => {
                tracing::debug!(bytes = digest.len(), "a digest of a script is not known here");
                self.unknown(whose);
            }
            Script::One(session, op) => self.run_script(&session, *op),
            Script::Nobody => match again {
                Some(call) => self.run_on_nothing(call),
                None => {
                    self.fail_queue();
                    self.error(super::dispatch::NO_UPSTREAM);
                }
            },
        }
    }

    /// Within a transaction it is EXEC that says so, as in Redis: there is a reply for each command.
    fn unknown(&mut self, whose: Script) {
        if self.queue.is_none() {
            return self.error(NO_SCRIPT);
        }
        match whose {
            Script::One(session, _) => self.queue_failing(&session, Bytes::from_static(NO_SCRIPT.as_bytes())),
            _ => self.refuse(NO_SCRIPT),
        }
    }

    fn run_script(&mut self, session: &Bytes, mut op: Op) {
        op.detach();
        let session = SessionId::copy_of(session);
        if self.queue.is_some() { self.queue_op(session, op) } else { self.compound(session, op, None) }
    }

    fn run_on_nothing(&mut self, call: ScriptCall) {
        if self.queue.is_some() {
            self.fail_queue();
            return self.error("ERR wayfarer: a script without keys is not allowed inside a transaction");
        }
        let op = self.face.understanding.scripts.operation(call, Vec::new());
        let mut out = BytesMut::new();
        // Without keys there is nothing that a time could matter to.
        absent_reply(&op, 0, self.connection.protocol, &mut out);
        self.replies.push(out.freeze());
        self.turn_is_over = true;
    }

    fn pass_on(&mut self, command: &Foreign) {
        if self.queue.is_some() { self.queue_upstream(&command.args) } else { self.relay(&command.args) }
    }

    /// `SCRIPT LOAD|EXISTS|FLUSH`: here, and at the upstream as well.
    fn script(&mut self, command: &Foreign) {
        if self.queue.is_some() {
            self.fail_queue();
            return self.error("ERR wayfarer: this command is not allowed inside a transaction");
        }
        let [_, subcommand, rest @ ..] = command.args.as_slice() else { return self.error(errors::arity("script")) };
        let scripts = self.face.understanding.scripts.clone();
        match (subcommand.to_ascii_lowercase().as_slice(), rest) {
            (b"load", [text]) => match scripts.load(text) {
                Ok(_) if self.has_upstream() => self.relay(&command.args),
                Ok(digest) => self.replies.write(self.connection.protocol, |reply| reply.bulk(digest.as_bytes())),
                Err(error) => self.error(error),
            },
            (b"exists", [_, ..]) => {
                let known: Vec<bool> = rest.iter().map(|digest| scripts.find(digest).is_some()).collect();
                self.replies.write(self.connection.protocol, |reply| {
                    reply.array(known.len());
                    known.iter().for_each(|known| reply.integer(i64::from(*known)));
                });
            }
            (b"flush", _) => {
                scripts.flush();
                if self.has_upstream() {
                    return self.relay(&command.args);
                }
                self.replies.write(self.connection.protocol, |reply| reply.simple("OK"));
            }
            (sub @ (b"load" | b"exists"), _) => {
                self.error(errors::arity(&format!("script|{}", String::from_utf8_lossy(sub))));
            }
            _ if self.has_upstream() => self.relay(&command.args),
            _ => self.error(errors::unknown_subcommand(subcommand, "SCRIPT")),
        }
    }
}

//! What a client publishes, asks of channels and says of events: questions that all members answer, or the upstream.
//!
//! It never waits: a question is an operation in a lane of its own, and the upstream's answer is noted when it comes
//! ([`super::exec`]). Called by [`super::subscriptions`] and [`super::dispatch`].
//!
//! Invariant: one client's questions are asked one behind the other, so that what it publishes is heard in its order.

use super::Sessions;
use super::connection::Client;
use super::lanes::Waiting;
use super::transaction::Then;
use crate::bus::question;
use crate::replies::Unit;
use bytes::Bytes;
use wayfarer_engine::command::connection::ConnectionCommand;
use wayfarer_engine::command::events::Classes;
use wayfarer_engine::command::{Op, errors};
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::wire::resp::frame::elements;

/// The parameter that says which events are told.
pub(super) const EVENTS: &str = "notify-keyspace-events";
/// The lane of what a client publishes and asks: one at a time, in order. No session has this id.
const LANE: &[u8] = b"\0wayfarer:channels";

/// The value that a `CONFIG SET` gives to the events, if it does.
fn set_events(args: &[Bytes]) -> Option<&Bytes> {
    let [_, set, pairs @ ..] = args else { return None };
    let pair =
        pairs.chunks_exact(2).rev().find(|pair| pair.first().is_some_and(|name| name.eq_ignore_ascii_case(EVENTS.as_bytes())));
    pair.and_then(|pair| pair.get(1)).filter(|_| set.eq_ignore_ascii_case(b"set"))
}

/// The classes in a reply to `CONFIG GET notify-keyspace-events`.
fn shown_events(reply: &[u8]) -> Option<Classes> {
    // In RESP3 it is a map of one pair.
    let list = reply.strip_prefix(b"%1").map(|pair| [b"*2", pair].concat());
    let [_, value] = <[&[u8]; 2]>::try_from(elements(list.as_deref().unwrap_or(reply), 2)?).ok()?;
    let text = value.get(value.iter().position(|byte| *byte == b'\n')?.checked_add(1)?..)?;
    Classes::parse(text.strip_suffix(b"\r\n")?)
}

impl<S: Sessions> Client<S> {
    pub(super) fn sets_events(&self, args: &[Bytes]) -> bool {
        set_events(args).is_some() || (!self.has_upstream() && args.get(1).is_some_and(|sub| sub.eq_ignore_ascii_case(b"set")))
    }

    /// Whether the upstream is to say which events are told.
    pub(super) fn asks_for_events(&self, command: &ConnectionCommand) -> bool {
        let [_, _, parameter] = command.args() else { return false };
        command.name() == "config"
            && self.has_upstream()
            && self.connection.authenticated
            && parameter.eq_ignore_ascii_case(EVENTS.as_bytes())
    }

    /// Lets the upstream say it, and takes note.
    pub(super) fn ask_for_events(&mut self, args: &[Bytes]) {
        let unit = self.replies.due();
        self.changes.insert(unit, Then::LearnEvents(None));
        self.send(args, unit);
    }

    /// The upstream has said which events it tells, or has taken what it was told: the cluster tells the same.
    pub(super) fn learned(&mut self, set: Option<Classes>, reply: &[u8]) {
        let classes = if reply.first() == Some(&b'+') { set } else { shown_events(reply) };
        if let Some(classes) = classes {
            self.face.bus.set_classes(classes);
        }
    }

    pub(super) fn pubsub(&mut self, subcommand: &Bytes, rest: &[Bytes]) {
        let lower = subcommand.to_ascii_lowercase();
        let fits = match lower.as_slice() {
            b"channels" => rest.len() <= 1,
            b"numpat" => rest.is_empty(),
            b"numsub" => true,
            _ => return self.error(errors::unknown_subcommand(subcommand, "PUBSUB")),
        };
        if !fits && lower == b"channels" {
            let name = subcommand.as_ref();
            let text = [b"ERR unknown subcommand or wrong number of arguments for '", name, b"'. Try PUBSUB HELP."].concat();
            return self.error(text);
        }
        if !fits {
            return self.error(errors::arity(&format!("pubsub|{}", String::from_utf8_lossy(&lower))));
        }
        self.ask_cluster(question::question([Bytes::from(lower)].into_iter().chain(rest.iter().cloned())));
    }

    /// `CONFIG SET notify-keyspace-events classes`
    pub(super) fn config_set(&mut self, args: &[Bytes]) {
        let pairs = args.get(2..).unwrap_or_default();
        if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
            return self.error(errors::arity("config|set"));
        }
        let classes = set_events(args).map(|value| Classes::parse(value));
        if self.has_upstream() {
            let unit = self.replies.due();
            self.changes.insert(unit, Then::LearnEvents(classes.flatten()));
            return self.send(args, unit);
        }
        let other = pairs.iter().step_by(2).find(|name| !name.eq_ignore_ascii_case(EVENTS.as_bytes()));
        match (other, classes) {
            (Some(other), _) => {
                let text = [b"ERR Unknown option or number of arguments for CONFIG SET - '", other.as_ref(), b"'"].concat();
                self.error(text);
            }
            (None, Some(Some(classes))) => {
                let bits = Bytes::from(classes.bits().to_string());
                let unit = self.ask_cluster(question::question([Bytes::from_static(b"classes"), bits]));
                // What is asked next, asks of what is set now.
                self.barrier = Some(unit);
                self.changes.insert(unit, Then::LearnEvents(None));
            }
            (None, _) => self.error(
                "ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - Invalid event class character. Use 'Ag$lshzxeKEtmdn'.",
            ),
        }
    }

    /// Asks all members, behind what was asked before; the reply that is due.
    pub(super) fn ask_cluster(&mut self, mut op: Op) -> Unit {
        op.detach();
        let (unit, session) = (self.replies.due(), SessionId(Bytes::from_static(LANE)));
        let busy = self.lanes.is_busy(&session);
        self.begin(session, Waiting { unit, op, protocol: self.connection.protocol }, busy);
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_upstream_says_of_events_is_read_in_both_protocols() {
        for reply in
            ["*2\r\n$22\r\nnotify-keyspace-events\r\n$3\r\ngxE\r\n", "%1\r\n$22\r\nnotify-keyspace-events\r\n$3\r\ngxE\r\n"]
        {
            assert_eq!(shown_events(reply.as_bytes()), Classes::parse(b"gxE"));
        }
        assert_eq!(shown_events(b"*0\r\n"), None);
        assert_eq!(shown_events(b"-NOPERM x\r\n"), None);
    }
}

//! A connection that has subscribed or monitors: everything that comes from the upstream is the client's, until nothing is
//! subscribed any more.
//!
//! It never counts replies: one `SUBSCRIBE` has several. [`super::upstream`] shows it what comes, [`super::dispatch`] what the
//! client sends.
//!
//! ```text
//!           ┌──────────────── the token comes: something is subscribed ◄───────────────┐
//!  ──► Through ─ SUBSCRIBE, UNSUBSCRIBE … and behind it PING with a token ─────────► Asked ─ the token: nothing is ─► ended
//! ```
//! Replies come in the order of commands, so what the upstream says before it answers the token is all that there is to say of
//! the command before. Commands of the client wait meanwhile. After MONITOR only RESET ends it, as in Redis.
//! Invariant: a tunnel begins and ends where no reply is under way, so none is taken for a message.

use super::Sessions;
use super::connection::Client;
use super::sifting::Sifting;
use super::subscriptions::Channels;
use bytes::Bytes;
use wayfarer_engine::command::Parsed;
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_engine::wire::resp::{Protocol, parse_integer};

const NOT_IN_TUNNEL: &str = "ERR wayfarer: this connection is subscribed at the upstream; use another one for other commands";
/// What the upstream is asked to say behind all that it had to say.
const TOKEN: &str = "wayfarer:unsubscribed";

/// The upstream's side: what it has said of subscriptions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Tunnel {
    /// Channels and patterns that are subscribed.
    channels: i64,
    /// Channels of shards.
    shards: i64,
    /// Messages come without a subscription.
    monitors: bool,
    asked: bool,
}

/// What a frame in a tunnel is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// The client.
    Client,
    /// Nobody: the answer to the token.
    Answer {
        /// Nothing is subscribed.
        over: bool,
    },
}

impl Tunnel {
    /// The question behind a command that may change what is subscribed.
    pub(super) fn question() -> [Bytes; 2] {
        [Bytes::from_static(b"PING"), Bytes::from_static(TOKEN.as_bytes())]
    }

    /// Whether the answer is still to come.
    pub(super) fn is_asked(&self) -> bool {
        self.asked
    }

    /// A command goes through. True: the question must follow it.
    pub(super) fn sends(&mut self, args: &[Bytes]) -> bool {
        let is = |wanted: &[u8]| args.first().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
        self.monitors |= is(b"monitor");
        self.asked |= !self.monitors && !is(b"ping");
        self.asked
    }

    /// A frame has come.
    pub(super) fn hears(&mut self, frame: &[u8]) -> Heard {
        if self.asked && is_answer(frame) {
            self.asked = false;
            return Heard::Answer { over: self.is_over() };
        }
        match subscribed(frame) {
            Some((false, count)) => self.channels = count,
            Some((true, count)) => self.shards = count,
            None => {}
        }
        Heard::Client
    }

    fn is_over(&self) -> bool {
        self.channels == 0 && self.shards == 0 && !self.monitors
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// In RESP2 a connection that is still subscribed answers PING with an array.
fn is_answer(frame: &[u8]) -> bool {
    let token = bulk(TOKEN);
    frame == token.as_bytes() || frame.strip_prefix(b"*2\r\n$4\r\npong\r\n").is_some_and(|rest| rest == token.as_bytes())
}

/// The reply to a subscription or its end: whether it is about shards, and how many are left.
fn subscribed(frame: &[u8]) -> Option<(bool, i64)> {
    let [name, _, count] = <[&[u8]; 3]>::try_from(elements(frame, 3)?).ok()?;
    let name = name.strip_suffix(b"subscribe\r\n")?;
    let name = name.get(name.iter().position(|byte| *byte == b'\n')?.checked_add(1)?..)?;
    let of_shards = match name {
        b"" | b"p" | b"un" | b"pun" => false,
        b"s" | b"sun" => true,
        _ => return None,
    };
    Some((of_shards, parse_integer(count.strip_prefix(b":")?.strip_suffix(b"\r\n")?)?))
}

impl<S: Sessions> Client<S> {
    /// A command of a client in a tunnel. Given back while it is not known whether the tunnel has ended.
    pub(super) fn in_tunnel(&mut self, command: Parsed) -> Option<Parsed> {
        match command {
            Parsed::Connection(command) if matches!(command.name(), "quit" | "reset") => {
                // Redis forgets all subscriptions; the connection to it goes with them.
                self.tunnel = false;
                (self.channels, self.sifting) = (Channels::default(), Sifting::default());
                self.about_connection(&command);
            }
            command if self.link.as_ref().is_some_and(|link| link.is_asked()) => return Some(command),
            // What it is told of channels is no reply; and in RESP2 nothing but a few commands is allowed here.
            Parsed::Connection(command) if command.is_about_replies() && self.connection.protocol == Protocol::Resp3 => {
                self.about_connection(&command);
            }
            Parsed::Connection(command) if command.name() == "ping" && self.connection.answering.is_silent() => {}
            Parsed::Connection(command) if command.name() == "ping" => {
                self.link.iter_mut().for_each(|link| link.send_through(command.args()));
            }
            Parsed::Foreign(command) if self.must_be_told(&command) => return Some(Parsed::Foreign(command)),
            Parsed::Foreign(command)
                if !command.keys.iter().any(|key| self.face.understanding.keys.is_session(self.connection.db, key)) =>
            {
                self.link.iter_mut().for_each(|link| link.send_through(&command.args));
            }
            _ => self.error(NOT_IN_TUNNEL),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_ends_when_the_upstream_has_nothing_more_to_say() {
        let frame = |text: &str| text.replace('\n', "\r\n").into_bytes();
        let mut tunnel = Tunnel::default();
        let command = |name: &'static str| [Bytes::from_static(name.as_bytes())];
        let (subscribed, normal) = ("*2\n$4\npong\n$21\nwayfarer:unsubscribed\n", "$21\nwayfarer:unsubscribed\n");
        for (name, reply, answer, over) in [
            ("SUBSCRIBE", "*3\n$9\nsubscribe\n$1\na\n:1\n", subscribed, false),
            ("psubscribe", "*3\n$10\npsubscribe\n$1\n*\n:2\n", subscribed, false),
            ("ssubscribe", ">3\n$10\nssubscribe\n$1\ns\n:1\n", normal, false),
            ("punsubscribe", "*3\n$12\npunsubscribe\n$1\n*\n:1\n", subscribed, false),
            ("unsubscribe", "*3\n$11\nunsubscribe\n$1\na\n:0\n", subscribed, false),
            ("subscribe", "-ERR wrong\n", subscribed, false),
            ("sunsubscribe", ">3\n$12\nsunsubscribe\n$1\ns\n:0\n", normal, true),
        ] {
            assert!(tunnel.sends(&command(name)) && tunnel.is_asked(), "{name}");
            assert_eq!(tunnel.hears(&frame("*3\n$7\nmessage\n$1\na\n$12\n*3 subscribe\n")), Heard::Client);
            assert_eq!(tunnel.hears(&frame(reply)), Heard::Client, "{name}");
            assert_eq!(tunnel.hears(&frame(answer)), Heard::Answer { over }, "{name}");
            assert!(!tunnel.sends(&command("ping")));
            assert_eq!(tunnel.hears(&frame(answer)), Heard::Client, "not asked: the client's own");
        }
    }

    #[test]
    fn monitors_never_end() {
        let mut tunnel = Tunnel::default();
        assert!(!tunnel.sends(&[Bytes::from_static(b"MONITOR")]));
        assert!(!tunnel.sends(&[Bytes::from_static(b"UNSUBSCRIBE")]));
        assert_eq!(tunnel.hears(b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"), Heard::Client);
    }
}

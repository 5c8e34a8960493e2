//! A connection that is subscribed: how many subscriptions it has, and where its messages end.
//!
//! It never sends: whoever has such a connection shows it what goes there and what comes. The state face does for each client, and the
//! front of a cluster for itself.
//!
//! Replies come in the order of commands, so what the upstream says before it answers the token is all that there is to say of
//! the command before.
//! Invariant: subscriptions are counted as the upstream counts them.

use bytes::Bytes;
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_engine::wire::resp::parse_integer;

/// What the upstream is asked to say behind all that it had to say.
const TOKEN: &str = "wayfarer:unsubscribed";

/// The upstream's side: what it has said of subscriptions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tunnel {
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
pub enum Heard {
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
    pub fn question() -> [Bytes; 2] {
        [Bytes::from_static(b"PING"), Bytes::from_static(TOKEN.as_bytes())]
    }

    /// Whether the answer is still to come.
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// A command goes through. True: the question must follow it.
    pub fn sends(&mut self, args: &[Bytes]) -> bool {
        let is = |wanted: &[u8]| args.first().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
        self.monitors |= is(b"monitor");
        self.asked |= !self.monitors && !is(b"ping");
        self.asked
    }

    /// A frame has come.
    pub fn hears(&mut self, frame: &[u8]) -> Heard {
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

//! A front that is subscribed: one node tells what is published, and every master tells what happens to its own keys.
//!
//! It never counts replies: what comes from the one node is the caller's. [`super::front`] hands every command in from the first
//! SUBSCRIBE until nothing is subscribed any more.
//!
//! | name | subscribed at | passed on |
//! |---|---|---|
//! | a channel or pattern | the first master, where publishers are too; the cluster passes messages on to all nodes | all |
//! | one that may be about keys | every other master too | from there what is about keys, and nothing else |
//! | a channel of a shard | the node of its slot, which all that this front has subscribed to must share | all |
//!
//! MONITOR shows the first master alone. A master that cannot be reached is tried again every [`LOOK`]; one that is new is found by the
//! map, which is asked for as often while there are such names.
//! Bounds: whoever uses the front bounds its subscriptions.
//! Invariant: when a node that is subscribed is lost, the whole connection is: what it would have told is lost too.

use super::front::Front;
use super::slots::slot_of;
use crate::upstream::{Heard, Tunnel};
use bytes::Bytes;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;
use tokio::time::Sleep;
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_settings::HostPort;

/// Masters that are not subscribed are looked for so often.
const LOOK: Duration = Duration::from_secs(2);
/// What the names of channels about keys begin with.
const ABOUT_KEYS: [&[u8]; 2] = [b"__keyspace@", b"__keyevent@"];
const SHARDS: &str =
    "CROSSSLOT wayfarer: one connection's channels of shards must be of one node, and of no other subscription's";

/// See the head of this file.
pub(super) struct Listening {
    /// The node whose replies are the caller's.
    home: HostPort,
    tunnel: Tunnel,
    /// Commands that every master has to hear, in their order.
    about_keys: Vec<Vec<Bytes>>,
    /// Other masters that have heard so many of them.
    others: Vec<(HostPort, usize)>,
    look: Option<Pin<Box<Sleep>>>,
}

/// Whether a channel, or a pattern, may be one about keys.
fn is_about_keys(name: &[u8], pattern: bool) -> bool {
    let literal = match name.iter().position(|byte| pattern && b"*?[\\".contains(byte)) {
        Some(end) => name.get(..end).unwrap_or_default(),
        None => name,
    };
    ABOUT_KEYS.iter().any(|prefix| literal.starts_with(prefix) || (literal.len() < name.len() && prefix.starts_with(literal)))
}

/// Whether a message of another node than the first is passed on.
fn is_event(frame: &[u8]) -> bool {
    let Some(parts) = elements(frame, 4) else { return false };
    let text = |part: Option<&&[u8]>| -> Vec<u8> {
        let part = part.copied().unwrap_or_default();
        part.iter().position(|byte| *byte == b'\n').and_then(|at| part.get(at + 1..)).unwrap_or_default().to_vec()
    };
    let channel = match (text(parts.first()).as_slice(), parts.len()) {
        (b"message\r\n", 3) => text(parts.get(1)),
        (b"pmessage\r\n", 4) => text(parts.get(2)),
        _ => return false,
    };
    ABOUT_KEYS.iter().any(|prefix| channel.starts_with(prefix))
}

impl Front {
    /// SUBSCRIBE and its like, and every command while something is subscribed.
    pub(super) fn listen(&mut self, args: &[Bytes]) {
        let name = args.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
        let map = self.cluster.map();
        let of_shards = name == b"ssubscribe";
        let owner = |key: &Bytes| map.owner(slot_of(key)).cloned();
        let wanted = if of_shards { args.get(1).and_then(owner) } else { map.masters().first().cloned() };
        let Some(wanted) = wanted.or_else(|| map.masters().first().cloned()) else {
            self.renew();
            return self.replies.push(Bytes::from_static(super::front::NOT_SERVED));
        };
        let listening = self.listening.get_or_insert_with(|| Listening {
            home: wanted.clone(),
            tunnel: Tunnel::default(),
            about_keys: Vec::new(),
            others: Vec::new(),
            look: None,
        });
        if of_shards && listening.home != wanted {
            let mut out = bytes::BytesMut::new();
            wayfarer_engine::wire::resp::Reply::new(&mut out, Default::default()).error(SHARDS);
            return self.replies.push(out.freeze());
        }
        listening.tunnel.sends(args);
        let pattern = name.starts_with(b"p");
        let adds = matches!(name.as_slice(), b"subscribe" | b"psubscribe");
        let ends = matches!(name.as_slice(), b"unsubscribe" | b"punsubscribe");
        let names = args.get(1..).unwrap_or_default();
        if (adds && names.iter().any(|name| is_about_keys(name, pattern))) || (ends && !listening.about_keys.is_empty()) {
            // What is not about keys is not passed on from there, so the command can go as it is.
            listening.about_keys.push(args.to_vec());
        }
        let home = listening.home.clone();
        let node = self.node(&home);
        node.listens = true;
        node.say(args);
        self.tell_others();
    }

    /// Sends every other master what it has not heard.
    fn tell_others(&mut self) {
        let map = self.cluster.map();
        let Some(listening) = &mut self.listening else { return };
        if listening.about_keys.is_empty() {
            return;
        }
        listening.look.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK)));
        let mut to_say = Vec::new();
        for place in map.masters().iter().filter(|place| **place != listening.home) {
            if !listening.others.iter().any(|(other, _)| other == place) {
                listening.others.push((place.clone(), 0));
            }
        }
        for (place, heard) in &mut listening.others {
            to_say.push((place.clone(), listening.about_keys.get(*heard..).unwrap_or_default().to_vec()));
            *heard = listening.about_keys.len();
        }
        for (place, commands) in to_say {
            let node = self.node(&place);
            node.listens = true;
            commands.iter().for_each(|command| node.say(command));
        }
    }

    /// A frame that is no reply has come.
    pub(super) fn pushed(&mut self, from: &HostPort, frame: Bytes) {
        let Some(listening) = &mut self.listening else { return self.replies.push(frame) };
        if listening.home != *from {
            if is_event(&frame) {
                self.replies.push(frame);
            }
            return;
        }
        let over = matches!(listening.tunnel.hears(&frame), Heard::Answer { over: true });
        self.replies.push(frame);
        if over && let Some(listening) = self.listening.take() {
            self.nodes.retain(|node| !listening.others.iter().any(|(place, _)| node.place == *place));
            self.nodes.iter_mut().for_each(|node| node.listens = false);
        }
    }

    /// A node is gone. True: what it told cannot be had elsewhere.
    pub(super) fn lost_listener(&mut self, place: &HostPort, refused: bool) -> bool {
        let Some(listening) = &mut self.listening else { return false };
        let before = listening.others.len();
        listening.others.retain(|(other, _)| other != place);
        // One that was never reached has told nothing: it is tried again.
        listening.home == *place || (listening.others.len() < before && !refused)
    }

    /// Looks for masters that are not subscribed. True: something has happened.
    pub(super) fn poll_listening(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(listening) = &mut self.listening else { return false };
        if !listening.look.as_mut().is_some_and(|look| look.as_mut().poll(cx).is_ready()) {
            return false;
        }
        listening.look = None;
        self.renew_older(LOOK);
        self.tell_others();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_be_about_keys_are_known() {
        for (name, pattern, expected) in [
            ("__keyevent@0__:expired", false, true),
            ("news", false, false),
            ("*", true, true),
            ("*", false, false),
            ("__key*__:*", true, true),
            ("__keyspace@0__:a?", true, true),
            ("n*", true, false),
            ("__k", true, false),
            ("__k[ea]y*", true, true),
        ] {
            assert_eq!(is_about_keys(name.as_bytes(), pattern), expected, "{name}");
        }
    }

    #[test]
    fn other_nodes_tell_of_keys_alone() {
        let frame = |text: &str| text.replace('\n', "\r\n").into_bytes();
        assert!(is_event(&frame("*3\n$7\nmessage\n$22\n__keyevent@0__:expired\n$1\nk\n")));
        assert!(is_event(&frame(">4\n$8\npmessage\n$1\n*\n$16\n__keyspace@0__:k\n$3\nset\n")));
        assert!(!is_event(&frame("*4\n$8\npmessage\n$1\n*\n$4\nnews\n$3\nset\n")));
        assert!(!is_event(&frame("*3\n$9\nsubscribe\n$22\n__keyevent@0__:expired\n:1\n")));
        assert!(!is_event(b"+OK\r\n"));
    }
}

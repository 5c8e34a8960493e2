//! What members ask one another about channels: arguments of an operation that concerns no session, and the answers of one member.
//!
//! It never sends anything. The state face makes questions for the whole cluster, the composition root asks the members; a member
//! of an older version says that it does not know them, and that is all.
//!
//! | arguments behind [`NAME`] | answer of one member |
//! |---|---|
//! | `publish` channel message | how many got it |
//! | `channels`, perhaps a pattern | its channels |
//! | `numsub` channel* | a count for each |
//! | `patterns` | its patterns |
//! | `said` listens count by classes | OK |
//! | `classes` classes | – (asked of its own node alone) |
//!
//! Invariant: what another node sends is a question of this table, or it is refused.

use super::{Bus, Said};
use bytes::{Bytes, BytesMut};
use wayfarer_engine::command::Op;
use wayfarer_engine::command::events::Classes;
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::wire::resp::{Protocol, Reply};

/// The first argument of all of them; a client that sends it sends an unknown command.
pub const NAME: &[u8] = b"wayfarer:channels";

/// A question of these arguments.
pub fn question(arguments: impl IntoIterator<Item = Bytes>) -> Op {
    Op::question([Bytes::from_static(NAME)].into_iter().chain(arguments).collect())
}

/// The arguments behind [`NAME`]; `None`: it is another operation.
pub fn arguments(args: &[Bytes]) -> Option<&[Bytes]> {
    args.split_first().filter(|(name, _)| name.as_ref() == NAME).map(|(_, rest)| rest)
}

/// What a node says of itself, as a question.
pub fn said(said: Said) -> Op {
    let numbers = [u64::from(said.listens), said.stamp.0, said.stamp.1, u64::from(said.classes.bits())];
    question([Bytes::from_static(b"said")].into_iter().chain(numbers.map(|number| number.to_string().into())))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The classes in a question for them.
pub fn classes(text: &[u8]) -> Option<Classes> {
    number(text).and_then(|bits| u16::try_from(bits).ok()).map(Classes::from_bits)
}

impl Bus {
    /// Answers a question of another member, or of this one; `None`: it is none.
    pub fn asked(&self, from: Option<Incarnation>, arguments: &[Bytes]) -> Option<Bytes> {
        let (what, rest) = arguments.split_first()?;
        let mut out = BytesMut::new();
        let mut reply = Reply::new(&mut out, Protocol::Resp2);
        match (what.as_ref(), rest) {
            (b"publish", [channel, message]) => reply.count(self.publish(channel, message)),
            (b"channels", []) => list(&mut reply, &self.registry.channels(None)),
            (b"channels", [pattern]) => list(&mut reply, &self.registry.channels(Some(pattern))),
            (b"numsub", channels) => {
                reply.array(channels.len());
                channels.iter().for_each(|channel| reply.count(self.registry.count_of(channel)));
            }
            (b"patterns", []) => list(&mut reply, &self.registry.patterns()),
            (b"said", [listens, count, by, bits]) => {
                let said = Said { listens: number(listens)? != 0, stamp: (number(count)?, number(by)?), classes: classes(bits)? };
                self.heard(from?, said);
                reply.simple("OK");
            }
            _ => return None,
        }
        Some(out.freeze())
    }
}

fn list(reply: &mut Reply<'_>, names: &[Bytes]) {
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name));
}

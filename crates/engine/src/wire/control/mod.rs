//! The control channel: what nodes say to one another, and its bytes.
//!
//! It never performs I/O and never decides: the node's machine makes and reads [`Message`]s, the shell (`control` of package
//! `wayfarer`) moves frames. Core types here, wire types in [`codec`], the conversion between them in `convert`.
//!
//! | message | direction | lane | phase |
//! |---|---|---|---|
//! | `Hello` → `Welcome` or `Unwelcome` | first on each connection | its own | – |
//! | `Node(Stage, PreCopy)` | origin → target | bulk | eager |
//! | `Node(Propose, Accept, Reject, PreCopied, Committed, Promised, Abort)` | both ways | control | eager |
//! | `Node(Fetched)` | holder → owner | bulk | late |
//! | `Node(Fetch, Confirm)` | owner → holder | control | late |
//! | `Node(Arrival)`, operations, load, give, leaving | both ways | control | – |
//! | `Happened` | owner → members with subscribers | control | – |
//!
//! Order is kept within a lane only. *Eager* is what crosses before the session answers at its new place, *late* what follows.
//!
//! Invariant: *published variants never change*: `tests` has the bytes of each, new ones are appended; n and n−1 talk.

mod codec;
mod convert;

use crate::ids::{Incarnation, SessionId};
use crate::node::message::Message;
use crate::session::manifest::Batch;
use bytes::Bytes;
use std::fmt;

pub use codec::{FRAME_BYTES_CEILING, PREFIX_BYTES, WireError, decode, encode};

/// The oldest protocol that this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// The newest protocol that this build speaks.
pub const PROTOCOL_MAX: u16 = 1;

/// Two connections a pair of nodes and direction, so that what is large does not delay what is urgent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// Small messages.
    Control,
    /// Values: [`Message::PreCopy`], [`Message::Stage`], [`Message::Fetched`].
    Bulk,
}

/// Which part of a move a message belongs to, for the count of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Before the session answers at its new place, manifests included.
    Eager,
    /// After that.
    Late,
}

/// How a forwarded operation ended at the owner.
#[derive(Clone, PartialEq, Eq)]
pub enum Forwarded {
    /// The reply in RESP, for the client.
    Reply(Bytes),
    /// The receiver does not own the session: nothing was done.
    NotHere,
    /// An error line in RESP, for the client.
    Failed(Bytes),
}

/// See the head of this file. Its `Debug` shows the kind only: arguments and values are private.
#[derive(Clone, PartialEq, Eq)]
pub enum ControlMessage {
    /// First frame of a connection, from the node that dialled.
    Hello {
        /// The oldest protocol that the sender speaks.
        protocol_min: u16,
        /// The newest one.
        protocol_max: u16,
        /// The cluster that the sender belongs to.
        cluster: String,
        /// The sender's name.
        member: String,
        /// The sender's life.
        incarnation: Incarnation,
        /// Whom it wants to talk to: this life and no other at the same address.
        to: Incarnation,
        /// What the connection is for.
        lane: Lane,
        /// SHA-256 of what the sender takes for keys of sessions; `None` from a version that does not say it.
        keys: Option<[u8; 32]>,
    },
    /// The only answer that crosses a connection backwards: go on.
    Welcome {
        /// The protocol of the connection: the newest that both speak.
        protocol: u16,
    },
    /// Instead of `Welcome`; the connection is closed.
    Unwelcome {
        /// Why, for the log of the sender of `Hello`.
        reason: String,
    },
    /// Of a handover, a residual or an arrival.
    Node(Message),
    /// A client's command, forwarded to the owner of its session.
    Operation {
        /// Joins the reply; the sender chooses it.
        id: u64,
        /// Of which session.
        session: SessionId,
        /// The command and its arguments.
        arguments: Vec<Bytes>,
        /// Whether the client speaks RESP3.
        resp3: bool,
        /// Whether the session may be born at the receiver if there is none: the sender has just looked, and found that it
        /// should. Not when it goes by memory; then the answer is [`Forwarded::NotHere`].
        create: bool,
    },
    /// What became of an operation.
    OperationReply {
        /// That of the operation.
        id: u64,
        /// See [`Forwarded`].
        outcome: Forwarded,
    },
    /// How many sessions do you own?
    LoadAsk {
        /// Joins the answer.
        id: u64,
    },
    /// The answer to `LoadAsk`.
    Load {
        /// That of the question.
        id: u64,
        /// Sessions that the sender owns.
        sessions: u64,
    },
    /// Give sessions away.
    Give {
        /// Joins the answer.
        id: u64,
        /// To whom.
        to: Incarnation,
        /// How many.
        count: u64,
    },
    /// The answer to `Give`, when all of them have ended.
    Given {
        /// That of the question.
        id: u64,
        /// How many live there now.
        moved: u64,
        /// How many stayed.
        failed: u64,
    },
    /// Forward nothing to me any more: I have nothing.
    Leaving {
        /// Joins the answer.
        id: u64,
    },
    /// The answer to `Leaving`, behind everything that was forwarded before.
    LeavingHeard {
        /// That of the question.
        id: u64,
    },
    /// What happened to keys of sessions that the sender owns, in order. Only for those who have said that they want to know.
    Happened {
        /// See above.
        events: Vec<KeyEvent>,
    },
}

/// What happened to one key, for subscribers.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyEvent {
    /// Of which database.
    pub database: u8,
    /// The key as clients name it.
    pub key: Bytes,
    /// Redis's name of what happened.
    pub name: Bytes,
}

impl fmt::Debug for ControlMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(kind(self))
    }
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Forwarded::Reply(bytes) => write!(f, "Reply({} B)", bytes.len()),
            Forwarded::NotHere => f.write_str("NotHere"),
            Forwarded::Failed(bytes) => write!(f, "Failed({} B)", bytes.len()),
        }
    }
}

/// The name of a message, for metrics and logs.
pub fn kind(message: &ControlMessage) -> &'static str {
    match message {
        ControlMessage::Hello { .. } => "hello",
        ControlMessage::Welcome { .. } => "welcome",
        ControlMessage::Unwelcome { .. } => "unwelcome",
        ControlMessage::Node(message) => match message {
            Message::Propose { .. } => "propose",
            Message::Accept { .. } => "accept",
            Message::Reject { .. } => "reject",
            Message::PreCopy { .. } => "pre_copy",
            Message::PreCopied { .. } => "pre_copied",
            Message::Stage { .. } => "stage",
            Message::Committed { .. } => "committed",
            Message::Promised { .. } => "promised",
            Message::Abort { .. } => "abort",
            Message::Fetch { .. } => "fetch",
            Message::Fetched { .. } => "fetched",
            Message::Confirm { .. } => "confirm",
            Message::Arrival { .. } => "arrival",
        },
        ControlMessage::Operation { .. } => "operation",
        ControlMessage::OperationReply { .. } => "operation_reply",
        ControlMessage::LoadAsk { .. } => "load_ask",
        ControlMessage::Load { .. } => "load",
        ControlMessage::Give { .. } => "give",
        ControlMessage::Given { .. } => "given",
        ControlMessage::Leaving { .. } => "leaving",
        ControlMessage::LeavingHeard { .. } => "leaving_heard",
        ControlMessage::Happened { .. } => "happened",
    }
}

/// Which part of a move a message belongs to; `None`: to no move.
pub fn phase(message: &ControlMessage) -> Option<Phase> {
    let ControlMessage::Node(message) = message else { return None };
    match message {
        Message::Propose { .. }
        | Message::Accept { .. }
        | Message::Reject { .. }
        | Message::PreCopy { .. }
        | Message::PreCopied { .. }
        | Message::Stage { .. }
        | Message::Committed { .. }
        | Message::Promised { .. }
        | Message::Abort { .. } => Some(Phase::Eager),
        Message::Fetch { .. } | Message::Fetched { .. } | Message::Confirm { .. } => Some(Phase::Late),
        Message::Arrival { .. } => None,
    }
}

/// Bytes of what is variable in a message: values, arguments, names. For the log: nothing of them is shown.
pub fn value_bytes(message: &ControlMessage) -> usize {
    let of = |batch: &Batch| batch.0.iter().flat_map(|(_, values)| values).map(|(name, value)| name.len() + value.len()).sum();
    match message {
        ControlMessage::Node(Message::PreCopy { values, .. }) => of(values),
        ControlMessage::Node(Message::Stage { stage, .. }) => {
            let entries = stage.manifest.keys.iter().flat_map(|k| &k.entries);
            of(&stage.values) + entries.map(|e| e.name.len()).sum::<usize>()
        }
        ControlMessage::Node(Message::Fetched { values, .. }) => values.iter().flatten().map(Bytes::len).sum(),
        ControlMessage::Node(Message::Fetch { variables, .. }) => variables.iter().map(|v| v.key.len() + v.name.len()).sum(),
        ControlMessage::Node(Message::Accept { have, .. }) => have.iter().map(|(v, _)| v.key.len() + v.name.len()).sum(),
        ControlMessage::Operation { arguments, .. } => arguments.iter().map(Bytes::len).sum(),
        ControlMessage::OperationReply { outcome: Forwarded::Reply(bytes) | Forwarded::Failed(bytes), .. } => bytes.len(),
        ControlMessage::Happened { events } => events.iter().map(|event| event.key.len() + event.name.len()).sum(),
        _ => 0,
    }
}

/// On which connection a message crosses.
pub fn lane(message: &ControlMessage) -> Lane {
    match message {
        ControlMessage::Node(Message::PreCopy { .. } | Message::Stage { .. } | Message::Fetched { .. }) => Lane::Bulk,
        _ => Lane::Control,
    }
}

#[cfg(test)]
mod tests;

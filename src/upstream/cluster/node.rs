//! One connection of a front to one node: what was sent there, and what has come.
//!
//! It never decides where a command goes or what becomes of its reply. [`super::front`] drives it.
//!
//! ```text
//!  Connecting ─► Open ─► lost: what was not sent may go elsewhere, of the rest nobody knows whether it has run
//! ```
//! Bounds: the bytes of one reply; commands in flight are bounded by the front.
//! Invariant: a command is called unsent only if no byte of it was given to the connection.

use super::front::Whom;
use crate::replies::Unit;
use crate::upstream::{ELEMENTS_MAX, Wire};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use wayfarer_engine::command::encode_request;
use wayfarer_engine::wire::resp::FrameScanner;
use wayfarer_settings::HostPort;

/// Room for what is read at once.
const READ_BYTES: usize = 16 * 1024;
/// Longest reply, as long as a string of Redis and its framing; whoever uses the front has lower bounds.
const REPLY_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Where a command has to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// To the master of this slot.
    Slot(u16),
    /// To any master.
    Any,
    /// To this one.
    Place(HostPort),
}

/// A command under way.
pub(super) struct Sent {
    pub(super) args: Vec<Bytes>,
    pub(super) target: Target,
    pub(super) whom: Whom,
    /// Commands are sent again in this order.
    pub(super) order: u64,
    /// How often it was sent elsewhere, or again.
    pub(super) tries: u32,
    /// Bytes of the connection before it.
    from: u64,
}

impl Sent {
    pub(super) fn new(args: Vec<Bytes>, target: Target, whom: Whom, order: u64) -> Sent {
        Sent { args, target, whom, order, tries: 0, from: 0 }
    }

    /// The reply that is due, if a client waits for it.
    pub(super) fn unit(&self) -> Option<Unit> {
        match self.whom {
            Whom::Client(unit) | Whom::Exec(unit) | Whom::Scan(unit, _) | Whom::Keys(unit) => Some(unit),
            Whom::Queued(_, unit) => unit,
            Whom::Ours | Whom::Nobody => None,
        }
    }

    /// Whether it is one of those that are counted as under way.
    pub(super) fn is_counted(&self) -> bool {
        self.unit().is_some()
    }
}

/// What has happened.
pub(super) enum Heard {
    /// The reply to a command.
    Reply(Sent, Bytes),
    /// A push, or anything where replies are not counted.
    Push(Bytes),
    /// The connection is of no use any more.
    Lost {
        /// It was never one.
        refused: bool,
        /// These were not sent.
        unsent: Vec<Sent>,
        /// These were, perhaps.
        unknown: Vec<Sent>,
    },
}

enum Stage {
    Connecting(Pin<Box<dyn Future<Output = io::Result<Wire>> + Send + Sync>>),
    Open(Wire),
}

/// See the head of this file.
pub(super) struct Node {
    pub(super) place: HostPort,
    /// It is subscribed: replies are not counted.
    pub(super) listens: bool,
    stage: Stage,
    outgoing: BytesMut,
    /// Bytes that were to be sent, ever.
    queued: u64,
    /// Bytes that were given to the connection.
    written: u64,
    input: BytesMut,
    scanner: FrameScanner,
    expected: VecDeque<Sent>,
    /// Looks at it since it owed a reply and none came.
    looks: u8,
}

/// So many looks without a reply make a node silent.
const SILENT_LOOKS: u8 = 2;

impl Node {
    /// One that is being connected.
    pub(super) fn new(place: HostPort, connecting: impl Future<Output = io::Result<Wire>> + Send + Sync + 'static) -> Node {
        Node {
            place,
            listens: false,
            stage: Stage::Connecting(Box::pin(connecting)),
            outgoing: BytesMut::new(),
            queued: 0,
            written: 0,
            input: BytesMut::new(),
            scanner: FrameScanner::new(REPLY_BYTES_MAX, ELEMENTS_MAX),
            expected: VecDeque::new(),
            looks: 0,
        }
    }

    /// Looks at it.
    pub(super) fn tick(&mut self) {
        self.looks = if self.owes() { self.looks.saturating_add(1) } else { 0 };
    }

    /// Whether it owes a reply for too long.
    pub(super) fn is_silent(&self) -> bool {
        self.owes() && self.looks >= SILENT_LOOKS
    }

    /// Sends a command.
    pub(super) fn send(&mut self, mut sent: Sent) {
        sent.from = self.queued;
        self.say(&sent.args);
        self.expected.push_back(sent);
    }

    /// Sends a command to which no reply is counted.
    pub(super) fn say(&mut self, args: &[Bytes]) {
        let before = self.outgoing.len();
        encode_request(args, &mut self.outgoing);
        let added = self.outgoing.len().saturating_sub(before);
        self.queued = self.queued.saturating_add(u64::try_from(added).unwrap_or(u64::MAX));
    }

    /// Whether a reply is due.
    pub(super) fn owes(&self) -> bool {
        !self.expected.is_empty()
    }

    /// Whether something is still to be sent.
    pub(super) fn is_full(&self) -> bool {
        self.outgoing.len() > super::front::WAITING_BYTES_MAX
    }

    /// Gives the connection up.
    pub(super) fn lose(&mut self, refused: bool) -> Heard {
        let (mut unsent, mut unknown) = (Vec::new(), Vec::new());
        for sent in self.expected.drain(..) {
            if self.written <= sent.from { unsent.push(sent) } else { unknown.push(sent) }
        }
        Heard::Lost { refused, unsent, unknown }
    }

    /// Drives it until something happens.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        loop {
            let Node { stage, input, scanner, outgoing, .. } = self;
            let wire = match stage {
                Stage::Connecting(connecting) => match std::task::ready!(connecting.as_mut().poll(cx)) {
                    Ok(wire) => {
                        *stage = Stage::Open(wire);
                        continue;
                    }
                    Err(error) => {
                        tracing::debug!(kind = ?error.kind(), "a node of the cluster does not take a connection");
                        return Poll::Ready(self.lose(true));
                    }
                },
                Stage::Open(wire) => wire,
            };
            match scanner.scan(input) {
                Ok(Some(frame)) => {
                    let reply = input.split_to(frame.len.min(input.len())).freeze();
                    self.looks = 0;
                    if frame.push || self.listens {
                        return Poll::Ready(Heard::Push(reply));
                    }
                    let heard = self.expected.pop_front().map(|sent| Heard::Reply(sent, reply));
                    // A reply that nobody asked for: replies and questions do not fit any more.
                    return Poll::Ready(heard.unwrap_or_else(|| self.lose(false)));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a node of the cluster sent what cannot be relayed");
                    return Poll::Ready(self.lose(false));
                }
            }
            // Reading comes first: what is written to a connection that has ended would count as sent.
            input.reserve(READ_BYTES);
            match pin!(wire.read_buf(input)).poll(cx) {
                Poll::Ready(Ok(read)) if read > 0 => continue,
                Poll::Ready(_) => return Poll::Ready(self.lose(false)),
                Poll::Pending => {}
            }
            let before = outgoing.len();
            let wrote = if outgoing.is_empty() { Poll::Pending } else { pin!(wire.write_buf(outgoing)).poll(cx) };
            let flushed = Pin::new(&mut *wire).poll_flush(cx);
            let gone = before.saturating_sub(outgoing.len());
            self.written = self.written.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX));
            match (wrote, flushed) {
                (Poll::Ready(Err(_) | Ok(0)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(self.lose(false)),
                (Poll::Ready(Ok(_)), _) => {}
                (Poll::Pending, _) => return Poll::Pending,
            }
        }
    }
}

//! One client's own connection to the upstream: opened when first needed, in the database and protocol that the client has.
//!
//! It never looks into a reply and never sends a session's key (whoever calls [`Link::send`] has looked). [`super::connection`]
//! drives it and opens another after this one is down.
//!
//! ```text
//!  Connecting ─► Open ─► down: what was asked fails, the link is dropped
//! ```
//! Bounds: the bytes of one reply; commands in flight are bounded by the client's connection.
//! Invariant: replies come in the order of what was sent, each for the unit that it was sent for; pushes belong to none.

use crate::passage::Pass;
use crate::replies::Unit;
use crate::upstream::{Dialer, ELEMENTS_MAX, Heard, Tunnel, Wire, hello, select};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use wayfarer_engine::command::encode_request;
use wayfarer_engine::wire::resp::{FrameScanner, Protocol};
use wayfarer_settings::Upstream;

/// Room for what is read at once.
const READ_BYTES: usize = 16 * 1024;

/// For whom a reply of the upstream is.
enum Expected {
    Client {
        unit: Unit,
        /// It may come only when another client does something.
        blocks: bool,
        /// Held until the reply has come, if it is about a session.
        _pass: Option<Pass>,
    },
    /// For nobody; if it is an error, the link is not in the state that the client thinks.
    Ours,
}

/// What has happened.
pub(super) enum Event {
    /// A reply.
    Reply(Unit, Bytes),
    /// A push, or in a tunnel anything.
    Push(Bytes),
    /// Nothing is subscribed any more: from here on replies can be counted again.
    TunnelEnded,
    /// The link is of no use any more; these replies will not come.
    Down(Vec<Unit>),
}

enum Stage {
    Connecting(Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>),
    Open(Wire),
}

/// See the head of this file.
pub(super) struct Link {
    stage: Stage,
    outgoing: BytesMut,
    input: BytesMut,
    scanner: FrameScanner,
    reply_bytes_max: usize,
    expected: VecDeque<Expected>,
    /// After SUBSCRIBE and the like replies cannot be counted any more: all that comes is the client's.
    tunnel: Option<Tunnel>,
}

impl Link {
    /// A link that connects as soon as it is driven. Database 0 of a client is the database of the upstream's URL.
    pub(super) fn new(dialer: &Arc<Dialer>, protocol: Protocol, db: u8, reply_bytes_max: usize) -> Link {
        Link {
            stage: Stage::Connecting(Box::pin(dialer.dial(protocol, db))),
            outgoing: BytesMut::new(),
            input: BytesMut::new(),
            scanner: FrameScanner::new(reply_bytes_max, ELEMENTS_MAX),
            reply_bytes_max,
            expected: VecDeque::new(),
            tunnel: None,
        }
    }

    /// Sends a command whose reply is for `unit`; it `blocks` if it may wait for other clients.
    pub(super) fn send(&mut self, args: &[Bytes], unit: Unit, blocks: bool, pass: Option<Pass>) {
        encode_request(args, &mut self.outgoing);
        self.expected.push_back(Expected::Client { unit, blocks, _pass: pass });
    }

    /// Sends a command whose reply is for nobody.
    pub(super) fn send_quietly(&mut self, args: &[Bytes]) {
        encode_request(args, &mut self.outgoing);
        self.expected.push_back(Expected::Ours);
    }

    /// Sends a command in a tunnel, which it begins if there is none. The caller expects no reply.
    pub(super) fn send_through(&mut self, args: &[Bytes]) {
        encode_request(args, &mut self.outgoing);
        if self.tunnel.get_or_insert_default().sends(args) {
            encode_request(&Tunnel::question(), &mut self.outgoing);
        }
    }

    /// Follows the client into another database or protocol.
    pub(super) fn follow(&mut self, upstream: &Upstream, protocol: Option<Protocol>, db: Option<u8>) {
        let mut requests = Vec::new();
        requests.extend(protocol.map(hello));
        requests.extend(db.map(|db| select(upstream, db)));
        for request in requests {
            encode_request(&request, &mut self.outgoing);
            self.expected.push_back(Expected::Ours);
        }
    }

    /// Bytes that the upstream has not taken.
    pub(super) fn outgoing_bytes(&self) -> usize {
        self.outgoing.len()
    }

    /// Whether it is not known yet if the tunnel has ended.
    pub(super) fn is_asked(&self) -> bool {
        self.tunnel.is_some_and(|tunnel| tunnel.is_asked())
    }

    /// Whether a reply is due.
    pub(super) fn owes(&self) -> bool {
        !self.expected.is_empty() || self.is_asked()
    }

    /// Whether the next reply for the client may come only when another client does something.
    pub(super) fn blocks(&self) -> bool {
        let first = self.expected.iter().find(|expected| matches!(expected, Expected::Client { .. }));
        matches!(first, Some(Expected::Client { blocks: true, .. }))
    }

    /// Nobody waits for its replies any more: the caller drops it, which ends what blocks at the upstream.
    pub(super) fn give_up(&mut self) -> Event {
        self.down()
    }

    /// Drives it until something happens. May be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            let alive = match &mut self.stage {
                Stage::Connecting(connecting) => match connecting.await {
                    Ok(wire) => {
                        self.stage = Stage::Open(wire);
                        true
                    }
                    Err(error) => {
                        // The kind alone: a text may name the address, which is the operator's business, not the log's every second.
                        tracing::debug!(kind = ?error.kind(), "the upstream does not take a connection");
                        false
                    }
                },
                Stage::Open(wire) => match self.scanner.scan(&self.input) {
                    Ok(Some(frame)) => {
                        let reply = self.input.split_to(frame.len.min(self.input.len())).freeze();
                        match self.event(frame.push, reply) {
                            Some(event) => return event,
                            None => continue,
                        }
                    }
                    Ok(None) => {
                        self.input.reserve(READ_BYTES);
                        wire.exchange(&mut self.input, &mut self.outgoing).await
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the upstream sent what cannot be relayed");
                        false
                    }
                },
            };
            if !alive {
                return self.down();
            }
        }
    }

    fn event(&mut self, push: bool, reply: Bytes) -> Option<Event> {
        self.scanner = FrameScanner::new(self.reply_bytes_max, ELEMENTS_MAX);
        // What was sent before a tunnel began is answered first.
        if push || (self.expected.is_empty() && self.tunnel.is_some()) {
            return self.through(reply);
        }
        match self.expected.pop_front() {
            Some(Expected::Client { unit, .. }) => Some(Event::Reply(unit, reply)),
            Some(Expected::Ours) if reply.first() != Some(&b'-') => None,
            // An error of ours, or a reply that nobody asked for: replies and questions do not fit any more.
            Some(Expected::Ours) | None => Some(self.down()),
        }
    }

    fn through(&mut self, frame: Bytes) -> Option<Event> {
        match self.tunnel.as_mut().map_or(Heard::Client, |tunnel| tunnel.hears(&frame)) {
            Heard::Client => Some(Event::Push(frame)),
            Heard::Answer { over: false } => None,
            Heard::Answer { over: true } => {
                self.tunnel = None;
                Some(Event::TunnelEnded)
            }
        }
    }

    fn down(&mut self) -> Event {
        let unit = |expected| match expected {
            Expected::Client { unit, .. } => Some(unit),
            Expected::Ours => None,
        };
        Event::Down(self.expected.drain(..).filter_map(unit).collect())
    }
}

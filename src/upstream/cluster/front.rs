//! A connection to a whole cluster that looks like one to a single server: requests are written to it, replies are read from it.
//!
//! It never asks for the map itself ([`super::again`] does) and has no task: whoever reads or writes it drives it, from one task, as
//! all users of a [`crate::upstream::Wire`] do.
//!
//! ```text
//!  bytes ─► command ─► route ─┬─ one node ───────────────► reply ──┐
//!                             ├─ parts, every master ─► joined ────┼─► in the order of the commands ─► bytes
//!                             └─ answered here ────────────────────┘
//! ```
//! | command | order |
//! |---|---|
//! | with keys | behind those on the same slot; those of other nodes run meanwhile |
//! | without keys, about all keys, in parts, one that blocks, of a transaction's frame | alone: behind all earlier ones, and before all later ones |
//! | any, while one must be sent again | waits until that is done |
//!
//! The caller's AUTH is answered here: it is what the settings say, and so is what each node was told. A SELECT of another database than 0 is an error.
//! Longer than 400 lines because the whole way of a command is read together.
//! Bounds: [`UNDER_WAY_MAX`] commands, [`WAITING_BYTES_MAX`] of requests, of replies, and to one node.
//! Invariant: commands on one slot run in the order in which they were written, wherever the slot goes.

use super::Cluster;
use super::again::Again;
use super::listening::Listening;
use super::node::{Heard, Node, Sent, Target};
use super::route::{Route, is_blocking};
use super::slots::{Redirect, SlotMap, slot_of};
use super::transaction::Transaction;
use crate::replies::{Replies, Unit};
use crate::upstream::handshake::{handshake, hello};
use crate::upstream::{Dialer, REFUSED, perform};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_engine::wire::resp::{Protocol, RequestLimits, RequestParser};
use wayfarer_settings::HostPort;

/// Commands under way.
const UNDER_WAY_MAX: usize = 1024;
/// Bytes of requests that wait here, of replies that wait here, and of requests that one node has not taken.
pub(super) const WAITING_BYTES_MAX: usize = 1024 * 1024;

pub(super) const DOWN: &[u8] = b"-ERR wayfarer: the upstream Redis does not answer ([state] upstream)\r\n";
pub(super) const NOT_SERVED: &[u8] = b"-CLUSTERDOWN Hash slot not served\r\n";
const DATABASE: &[u8] = b"-ERR SELECT is not allowed in cluster mode\r\n";
pub(super) const OK: &[u8] = b"+OK\r\n";

/// For whom a reply of a node is.
pub(super) enum Whom {
    /// For the caller.
    Client(Unit),
    /// For the caller, with another cursor; of the master with this number.
    Scan(Unit, u64),
    /// It says which keys a command has, which then goes there.
    Keys(Unit),
    /// QUEUED, for the caller or for nobody; of the command at this place of the transaction.
    Queued(usize, Option<Unit>),
    /// What a transaction gave.
    Exec(Unit),
    /// For nobody; if it is an error, the node is not in the state that it is thought to be.
    Ours,
    /// For nobody, whatever it is.
    Nobody,
}

/// See the head of this file.
pub(in crate::upstream) struct Front {
    pub(super) dialer: Arc<Dialer>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) protocol: Protocol,
    parser: RequestParser,
    incoming: BytesMut,
    /// The next command, which has to wait.
    held: Option<(Route, Vec<Bytes>)>,
    pub(super) replies: Replies<BytesMut>,
    pub(super) nodes: Vec<Node>,
    /// Commands whose replies are due, parts counted one by one.
    pub(super) under_way: usize,
    /// What is under way must be alone.
    alone: bool,
    /// It may come only when another client does something.
    pub(super) blocks: bool,
    pub(super) again: Again,
    pub(super) transaction: Transaction,
    pub(super) listening: Option<Listening>,
    order: u64,
    /// The map by which all that is under way was sent: with a newer one a command could overtake those before it on its slot, which
    /// their former master sends elsewhere.
    map: Arc<SlotMap>,
    /// What a node knew of this connection is lost: only a new one is honest.
    pub(super) broken: bool,
}

impl Front {
    /// Nothing is connected yet.
    pub(super) fn new(dialer: Arc<Dialer>, cluster: Arc<Cluster>) -> Front {
        Front {
            dialer,
            cluster,
            protocol: Protocol::Resp2,
            parser: RequestParser::new(RequestLimits::default()),
            incoming: BytesMut::new(),
            held: None,
            replies: Replies::default(),
            nodes: Vec::new(),
            under_way: 0,
            alone: false,
            blocks: false,
            again: Again::default(),
            transaction: Transaction::default(),
            listening: None,
            order: 0,
            map: Arc::default(),
            broken: false,
        }
    }

    /// Does all that can be done at once.
    fn turn(&mut self, cx: &mut Context<'_>) {
        loop {
            let mut moved = self.begin_all();
            moved |= self.poll_nodes(cx);
            moved |= self.poll_again(cx);
            moved |= self.poll_listening(cx);
            if !moved || self.broken || self.replies.out.len() >= WAITING_BYTES_MAX {
                return;
            }
        }
    }

    fn may_begin(&self) -> bool {
        let waits = self.again.holds() || self.transaction.is_moving() || (self.alone && self.under_way > 0);
        let is_full =
            self.under_way >= UNDER_WAY_MAX || self.replies.bytes() >= WAITING_BYTES_MAX || self.nodes.iter().any(Node::is_full);
        !waits && !is_full
    }

    fn begin_all(&mut self) -> bool {
        let mut began = false;
        while !self.broken && self.may_begin() {
            let (route, args) = match self.held.take() {
                Some(held) => held,
                None => match self.parser.next(&mut self.incoming) {
                    Ok(Some(args)) => Route::of(wayfarer_engine::command::parse(args)),
                    Ok(None) => break,
                    Err(_) => {
                        self.broken = true;
                        break;
                    }
                },
            };
            let alone = self.is_alone(&route, &args);
            if alone && self.under_way > 0 {
                self.held = Some((route, args));
                break;
            }
            (began, self.alone, self.blocks) = (true, alone, is_blocking(&args));
            self.begin(route, args);
        }
        began
    }

    fn is_alone(&self, route: &Route, args: &[Bytes]) -> bool {
        match route {
            _ if self.listening.is_some() => false,
            Route::Slot(slot) => self.transaction.must_move_for(Some(*slot)) || is_blocking(args),
            Route::Any => self.transaction.must_move_for(None),
            _ => true,
        }
    }

    fn begin(&mut self, route: Route, args: Vec<Bytes>) {
        if self.listening.is_some() || matches!(route, Route::Channels) {
            return self.listen(&args);
        }
        if matches!(route, Route::Transaction) {
            return self.transactional(args);
        }
        if self.transaction.is_open() {
            return self.queue(&route, args);
        }
        match route {
            Route::Slot(slot) => self.ask(args, Target::Slot(slot)),
            Route::Any => self.ask(args, Target::Any),
            Route::Parts(op) => self.part(&op),
            Route::Every(whole) => self.every(&args, whole),
            Route::Scan => self.scan(args),
            Route::Refused(error) => self.replies.write(self.protocol, |reply| reply.error(error)),
            Route::Wrong(error) => self.replies.write(self.protocol, |reply| reply.error(error)),
            Route::AskKeys => {
                let unit = self.replies.due();
                let question = [Bytes::from_static(b"COMMAND"), Bytes::from_static(b"GETKEYS")].into_iter().chain(args).collect();
                self.send_new(question, Target::Any, Whom::Keys(unit));
            }
            Route::Connection => self.about_connection(&args),
            Route::Transaction | Route::Channels => {}
        }
    }

    /// AUTH, HELLO and SELECT of the caller.
    fn about_connection(&mut self, args: &[Bytes]) {
        let is = |name: &str| args.first().is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()));
        if is("select") && args.get(1).is_none_or(|database| database.as_ref() != b"0") {
            return self.replies.push(Bytes::from_static(DATABASE));
        }
        if is("hello") {
            self.protocol = if args.get(1).is_some_and(|v| v.as_ref() == b"3") { Protocol::Resp3 } else { Protocol::Resp2 };
            let order = self.next_order();
            for node in &mut self.nodes {
                node.send(Sent::new(hello(self.protocol), Target::Any, Whom::Ours, order));
            }
        }
        self.replies.push(Bytes::from_static(OK));
    }

    pub(super) fn ask(&mut self, args: Vec<Bytes>, target: Target) {
        let unit = self.replies.due();
        self.send_new(args, target, Whom::Client(unit));
    }

    pub(super) fn next_order(&mut self) -> u64 {
        self.order = self.order.saturating_add(1);
        self.order
    }

    /// Sends a command whose reply is due, for the first time.
    pub(super) fn send_new(&mut self, args: Vec<Bytes>, target: Target, whom: Whom) {
        if self.under_way == 0 {
            self.look_at_map();
        }
        let sent = Sent::new(args, target, whom, self.next_order());
        self.under_way += usize::from(sent.is_counted());
        self.send(sent, None);
    }

    /// Goes by the newest map from now on. Only while no node owes a reply to a command on a slot.
    pub(super) fn look_at_map(&mut self) {
        self.map = self.cluster.map();
    }

    /// Sends a command to the node that its target is, but for one that could not be reached.
    pub(super) fn send(&mut self, sent: Sent, failed: Option<&HostPort>) {
        let map = self.map.clone();
        let place = match &sent.target {
            Target::Slot(slot) => map.owner(*slot).cloned(),
            Target::Place(place) => Some(place.clone()),
            Target::Any => map.masters().iter().find(|place| Some(*place) != failed).cloned(),
        };
        match place {
            Some(place) if Some(&place) == failed => self.finish(&sent, Bytes::from_static(DOWN)),
            Some(place) => self.node(&place).send(sent),
            None => {
                self.renew();
                self.finish(&sent, Bytes::from_static(if failed.is_some() { DOWN } else { NOT_SERVED }));
            }
        }
    }

    /// The connection to a node, which may be a new one.
    pub(super) fn node(&mut self, place: &HostPort) -> &mut Node {
        let at = self.nodes.iter().position(|node| node.place == *place).unwrap_or(self.nodes.len());
        if at == self.nodes.len() {
            let (dialer, protocol, place) = (self.dialer.clone(), self.protocol, place.clone());
            let connecting = {
                let place = place.clone();
                async move {
                    let connecting = async {
                        let mut wire = dialer.to(&place).await?;
                        perform(&mut wire, &handshake(dialer.upstream(), protocol, 0), REFUSED).await?;
                        Ok(wire)
                    };
                    dialer.in_time(connecting).await
                }
            };
            self.nodes.push(Node::new(place, connecting));
        }
        #[allow(clippy::indexing_slicing, reason = "it was found there, or has been put there")]
        &mut self.nodes[at]
    }

    /// The reply to a command is there.
    pub(super) fn finish(&mut self, sent: &Sent, reply: Bytes) {
        self.under_way = self.under_way.saturating_sub(usize::from(sent.is_counted()));
        sent.unit().into_iter().for_each(|unit| self.replies.fill(unit, reply.clone()));
    }

    fn poll_nodes(&mut self, cx: &mut Context<'_>) -> bool {
        let (mut at, mut moved) = (0, false);
        while let Some(node) = self.nodes.get_mut(at) {
            if self.replies.out.len() >= WAITING_BYTES_MAX || self.broken {
                break;
            }
            let Poll::Ready(heard) = node.poll(cx) else {
                at += 1;
                continue;
            };
            moved = true;
            let place = node.place.clone();
            match heard {
                Heard::Reply(sent, reply) => self.heard(&place, sent, reply),
                Heard::Push(frame) => self.pushed(&place, frame),
                Heard::Lost { refused, unsent, unknown } => {
                    self.nodes.swap_remove(at);
                    self.lost(&place, refused, unsent, unknown);
                }
            }
        }
        moved
    }

    fn heard(&mut self, from: &HostPort, sent: Sent, reply: Bytes) {
        match &sent.whom {
            Whom::Nobody => return,
            Whom::Ours => {
                self.broken |= reply.first() == Some(&b'-');
                return;
            }
            Whom::Queued(..) | Whom::Exec(_) => return self.in_transaction(from, sent, reply),
            _ => {}
        }
        if let Some(redirect) = Redirect::read(&reply, from) {
            return self.redirected(sent, redirect, reply);
        }
        if reply.starts_with(b"-CLUSTERDOWN") {
            self.renew();
        }
        match &sent.whom {
            Whom::Scan(_, number) => {
                let number = *number;
                let reply = self.scanned(&reply, number);
                self.finish(&sent, reply);
            }
            Whom::Keys(unit) => {
                let unit = *unit;
                let key = elements(&reply, usize::MAX).and_then(|keys| content(keys.first()?));
                let args = sent.args.get(2..).unwrap_or_default().to_vec();
                self.under_way = self.under_way.saturating_sub(1);
                let target = key.map_or(Target::Any, |key| Target::Slot(slot_of(key)));
                self.send_new(args, target, Whom::Client(unit));
            }
            _ => self.finish(&sent, reply),
        }
    }
}

/// The bytes of a bulk string.
fn content(bulk: &[u8]) -> Option<&[u8]> {
    let from = bulk.iter().position(|b| *b == b'\n')?.checked_add(1)?;
    bulk.get(from..)?.strip_suffix(b"\r\n")
}

impl Drop for Front {
    fn drop(&mut self) {
        // Perhaps it was given up because a node hangs.
        if self.nodes.iter().any(Node::owes) {
            self.cluster.suspect();
        }
    }
}

impl AsyncRead for Front {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let front = self.get_mut();
        if front.replies.out.is_empty() && !front.broken {
            front.turn(cx);
        }
        let out = &mut front.replies.out;
        if !out.is_empty() {
            let len = out.len().min(into.remaining());
            into.put_slice(out.get(..len).unwrap_or_default());
            out.advance(len);
            return Poll::Ready(Ok(()));
        }
        if front.broken { Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())) } else { Poll::Pending }
    }
}

impl AsyncWrite for Front {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let front = self.get_mut();
        // A command that is not here as a whole must be let in, however long it is.
        let is_full = |front: &Front| front.incoming.len() >= WAITING_BYTES_MAX && (front.held.is_some() || !front.may_begin());
        if is_full(front) {
            front.turn(cx);
        }
        if front.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if is_full(front) {
            return Poll::Pending;
        }
        let len = bytes.len().min(WAITING_BYTES_MAX);
        front.incoming.extend_from_slice(bytes.get(..len).unwrap_or_default());
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let front = self.get_mut();
        if !front.broken {
            front.turn(cx);
        }
        Poll::Ready(if front.broken { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) })
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().broken = true;
        Poll::Ready(Ok(()))
    }
}

//! Where messages of other nodes and arrivals of requests go: to the driver, the operations, the rebalancer, the store.
//!
//! It decides nothing. What may take long runs in a bounded set of tasks, so that one slow operation holds up no other; when the
//! set is full, the connection that brings more is not read.

use crate::control::{Control, Inbound};
use crate::driver::{Post, clock};
use crate::operations::{Operations, Ran, UNANSWERED};
use crate::rebalance::Rebalancer;
use crate::state_face::Sessions as StateSessions;
use crate::store::{Call, Tried};
use bytes::{Bytes, BytesMut};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use wayfarer_engine::command::{self, Op, Parsed};
use wayfarer_engine::directory::View;
use wayfarer_engine::ids::{Incarnation, SessionId};
use wayfarer_engine::node::message::Message;
use wayfarer_engine::node::{Purpose, Verdict};
use wayfarer_engine::wire::control::{ControlMessage, Forwarded};
use wayfarer_engine::wire::resp::Protocol;
use wayfarer_settings::KeyMatcher;

/// Tasks for other nodes and for arrivals that may run at once.
const TASKS_MAX: usize = 4096;
/// Tasks that may wait for a place among them.
const QUEUE_MAX: usize = 1024;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs tasks of the traffic, a bounded number at once. Ends when nobody can send any more.
pub(super) async fn work(mut tasks: mpsc::Receiver<Task>) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            task = tasks.recv(), if running.len() < TASKS_MAX => match task {
                Some(task) => { running.spawn(task); }
                None => return,
            },
            Some(ended) = running.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a task for another node panicked");
            },
        }
    }
}

/// A queue for [`work`].
pub(super) fn queue() -> (mpsc::Sender<Task>, mpsc::Receiver<Task>) {
    mpsc::channel(QUEUE_MAX)
}

/// The driver's way to other nodes.
pub(super) struct Mail {
    pub(super) control: Arc<Control>,
    pub(super) lives: watch::Sender<Option<Incarnation>>,
}

impl Post for Mail {
    fn send(&self, to: Incarnation, message: Message) -> bool {
        self.control.send(to, ControlMessage::Node(message)).is_ok()
    }

    fn members(&self, view: &View) {
        self.control.members(view);
    }

    fn reborn(&self, me: Incarnation) {
        self.lives.send_replace(Some(me));
    }
}

/// See the head of this file.
pub(super) struct Traffic {
    pub(super) operations: Arc<Operations>,
    pub(super) rebalancer: Arc<Rebalancer>,
    pub(super) control: Arc<Control>,
    pub(super) keys: KeyMatcher,
    pub(super) tasks: mpsc::Sender<Task>,
}

impl Inbound for Traffic {
    async fn received(&self, from: Incarnation, message: ControlMessage) {
        match message {
            ControlMessage::Node(Message::Arrival { session }) => {
                if self.operations.store().arrived(&session.0, from, clock::now()) {
                    self.operations.driver().adopt(session, from);
                }
            }
            ControlMessage::Node(message) => {
                if self.operations.driver().heard(from, message).await.is_err() {
                    tracing::debug!("a message came while this node stops");
                }
            }
            ControlMessage::Operation { id, session, arguments, resp3, .. } => {
                self.operation(from, id, session, arguments, resp3).await;
            }
            ControlMessage::OperationReply { id, outcome } => self.operations.forwards().answered(from, id, outcome),
            message @ (ControlMessage::LoadAsk { .. } | ControlMessage::Give { .. }) => {
                let rebalancer = self.rebalancer.clone();
                self.start(Box::pin(async move { rebalancer.asked(from, message).await })).await;
            }
            message @ (ControlMessage::Load { .. } | ControlMessage::Given { .. }) => self.rebalancer.answered(from, message),
            ControlMessage::Hello { .. } | ControlMessage::Welcome { .. } | ControlMessage::Unwelcome { .. } => {
                tracing::warn!("a node said hello in the middle of a conversation");
            }
        }
    }

    fn unreachable(&self, peer: Incarnation) {
        self.operations.forwards().unreachable(peer);
        self.operations.driver().unreachable(peer);
    }
}

impl Traffic {
    async fn start(&self, task: Task) {
        if self.tasks.send(task).await.is_err() {
            tracing::debug!("a task was left out: this node stops");
        }
    }

    /// An operation of another node's client. What is open here is answered at once, in order.
    async fn operation(&self, from: Incarnation, id: u64, session: SessionId, arguments: Vec<Bytes>, resp3: bool) {
        let protocol = if resp3 { Protocol::Resp3 } else { Protocol::Resp2 };
        let Some(op) = self.understand(&session, arguments) else {
            let line = Bytes::from_static(
                b"-ERR wayfarer: the owner of this session does not know this key: do all nodes have the same [state] keys?\r\n",
            );
            return reply(&self.control, from, id, Forwarded::Failed(line));
        };
        let mut out = BytesMut::new();
        let store = self.operations.store();
        let call = Call { session: &session.0, op: &op, protocol, from: Some(from), may_end: false };
        match store.execute(call, clock::now, &mut out) {
            Tried::Done(adopt) => {
                reply(&self.control, from, id, Forwarded::Reply(out.freeze()));
                if let Some(to) = adopt {
                    self.operations.driver().adopt(session, to);
                }
            }
            Tried::Unanswered => reply(&self.control, from, id, Forwarded::Failed(Bytes::from_static(UNANSWERED))),
            _ => {
                let (operations, control) = (self.operations.clone(), self.control.clone());
                self.start(Box::pin(async move {
                    let ran = operations.run(&session, &op, protocol, Some(from)).await;
                    reply(&control, from, id, ran.into());
                }))
                .await;
            }
        }
    }

    /// The command again, with this node's own idea of its keys; `None` if they are not all of this session.
    fn understand(&self, session: &SessionId, arguments: Vec<Bytes>) -> Option<Op> {
        let Parsed::Keyed(mut op) = command::parse(arguments) else { return None };
        for target in op.targets_mut() {
            let found = self.keys.classify(&target.key).filter(|m| m.session == session.0.as_ref())?;
            target.layout = found.layout;
            target.label = Bytes::copy_from_slice(found.variable.unwrap_or_default());
        }
        Some(op)
    }
}

fn reply(control: &Control, to: Incarnation, id: u64, outcome: Forwarded) {
    if let Err(error) = control.send(to, ControlMessage::OperationReply { id, outcome }) {
        tracing::debug!(%error, "a reply to a forwarded operation could not be sent; its node will find out");
    }
}

impl StateSessions for Operations {
    fn execute(&self, session: &[u8], op: &Op, protocol: Protocol, out: &mut BytesMut) -> bool {
        let call = Call { session, op, protocol, from: None, may_end: false };
        match self.store().execute(call, clock::now, out) {
            Tried::Done(_) => true,
            // It has run, so the slow path must not run it again.
            Tried::Unanswered => {
                out.extend_from_slice(UNANSWERED);
                true
            }
            _ => false,
        }
    }

    async fn slow(self: Arc<Self>, session: SessionId, op: Op, protocol: Protocol) -> Bytes {
        match self.run(&session, &op, protocol, None).await {
            Ran::Reply(bytes) | Ran::Failed(bytes) => bytes,
            // Only forwarded operations end so.
            Ran::NotHere => Bytes::from_static(b"-TRYAGAIN wayfarer: the session moved\r\n"),
        }
    }
}

/// Requests that arrive at the HTTP face.
pub(super) struct Arrivals {
    pub(super) operations: Arc<Operations>,
    pub(super) control: Arc<Control>,
    pub(super) tasks: mpsc::Sender<Task>,
}

impl wayfarer_http_face::Sessions for Arrivals {
    fn arriving(&self, session: &[u8]) {
        let store = self.operations.store();
        if let Some(streamed) = store.streamed_missing(session) {
            if !streamed.is_empty() {
                let (operations, id) = (self.operations.clone(), SessionId::copy_of(session));
                self.start(Box::pin(async move {
                    // Nobody waits for this fetch: the instance will, when it asks.
                    let _ = operations.driver().need(id, streamed).await;
                }));
            }
            return;
        }
        let id = SessionId::copy_of(session);
        if let Some(owner) = self.operations.forwards().last_owner(session) {
            return announce(&self.control, owner, id);
        }
        let (operations, control) = (self.operations.clone(), self.control.clone());
        self.start(Box::pin(async move {
            if let Ok(Verdict::At(owner)) = operations.driver().locate(id.clone(), Purpose::Read).await {
                operations.forwards().remember(&id, owner);
                announce(&control, owner, id);
            }
        }));
    }
}

impl Arrivals {
    /// Work ahead is left out when there is too much of it: the operations themselves will do it.
    fn start(&self, task: Task) {
        if self.tasks.try_send(task).is_err() {
            metrics::counter!(crate::telemetry::names::ARRIVALS_SKIPPED).increment(1);
        }
    }
}

/// Tells the owner of a session that it is about to be used here.
fn announce(control: &Control, owner: Incarnation, session: SessionId) {
    if let Err(error) = control.send(owner, ControlMessage::Node(Message::Arrival { session })) {
        tracing::debug!(%error, "an arrival could not be announced");
    }
}

//! Where messages of other nodes go: to the driver, the operations, the rebalancer, the store, and requests of clients (`arrivals`).
//!
//! It decides nothing. What may take long runs in a bounded set of tasks, so that one slow operation holds up no other. When the
//! set is full, an operation is answered so at once: to wait for a place would hold up the messages behind it, and one of those
//! may be the very commit that the operations in the set wait for. Gifts have places of their own.

use super::{arrivals, channels, survey};
use crate::bus::question;
use crate::control::{Control, Inbound, NotSent};
use crate::driver::{Post, clock};
use crate::operations::seen;
use crate::operations::{COME, Operations, Origin, REPLY_TOO_LONG, Ran, TOO_MANY_WAIT, UNANSWERED};
use crate::questions::Unsent;
use crate::rebalance::Rebalancer;
use crate::routing::Neighbours;
use crate::state_face::{Sessions as StateSessions, Survey, Understanding};
use crate::store::{Call, Tried};
use bytes::{Bytes, BytesMut};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use wayfarer_engine::command::Op;
use wayfarer_engine::directory::View;
use wayfarer_engine::ids::{Incarnation, SessionId};
use wayfarer_engine::node::message::Message;
use wayfarer_engine::wire::control::{ControlMessage, Forwarded};
use wayfarer_engine::wire::resp::{Answer, Protocol};

/// Tasks for other nodes and for arrivals that may run at once.
const TASKS_MAX: usize = 4096;
/// Tasks that may wait for a place among them.
const QUEUE_MAX: usize = 1024;
/// Gifts that members may ask for at once: each rebalancing asks for at most one from a node to another.
const GIFTS_MAX: usize = 256;
const UNKNOWN_QUESTION: &[u8] = b"-ERR wayfarer: this member does not know the question\r\n";

/// What may take long.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs tasks of the traffic, `at_once` at once. Ends when nobody can send any more.
async fn work(mut tasks: mpsc::Receiver<Task>, at_once: usize) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            task = tasks.recv(), if running.len() < at_once => match task {
                Some(task) => { running.spawn(task); }
                None => return,
            },
            Some(ended) = running.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a task for another node panicked");
            },
        }
    }
}

/// Where tasks are queued, in places for operations and others for gifts.
#[derive(Clone)]
pub(super) struct Tasks {
    pub(super) operations: mpsc::Sender<Task>,
    gifts: mpsc::Sender<Task>,
}

impl Tasks {
    /// The queues, and what empties them.
    pub(super) fn new() -> (Tasks, impl Future<Output = ()>) {
        Tasks::with(QUEUE_MAX, TASKS_MAX)
    }

    fn with(queue_max: usize, at_once: usize) -> (Tasks, impl Future<Output = ()>) {
        let (operations, of_operations) = mpsc::channel(queue_max);
        let (gifts, of_gifts) = mpsc::channel(GIFTS_MAX);
        let both = async move {
            tokio::join!(work(of_operations, at_once), work(of_gifts, GIFTS_MAX));
        };
        (Tasks { operations, gifts }, both)
    }
}

/// Queues a message at the control channel.
pub(super) fn send(control: &Control, to: Incarnation, message: ControlMessage) -> Result<(), Unsent> {
    control.send(to, message).map_err(|not_sent| match not_sent {
        NotSent::TooLong(_) => Unsent::TooLong,
        NotSent::Full => Unsent::Full,
        NotSent::NotRunning | NotSent::Unknown | NotSent::Unreachable => Unsent::Unreachable,
    })
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
    pub(super) keys: Understanding,
    pub(super) tasks: Tasks,
    pub(super) neighbours: Arc<Neighbours>,
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
            ControlMessage::Operation { id, session, arguments, resp3, create } => {
                let protocol = if resp3 { Protocol::Resp3 } else { Protocol::Resp2 };
                if let Some(outcome) = self.operation(Origin::Node { from, create }, id, session, arguments, protocol) {
                    reply(&self.control, from, id, outcome);
                }
            }
            ControlMessage::OperationReply { id, outcome } => self.operations.forwards().answered(from, id, outcome),
            ControlMessage::LoadAsk { id } => self.rebalancer.load(from, id),
            ControlMessage::Give { id, to, count } => {
                let rebalancer = self.rebalancer.clone();
                let give = Box::pin(async move { rebalancer.give(from, id, to, count).await });
                if self.tasks.gifts.try_send(give).is_err() {
                    self.rebalancer.refuse(from, id, count);
                }
            }
            ControlMessage::Happened { events } => self.operations.bus().tell(&events),
            ControlMessage::Leaving { id } => self.operations.forwards().farewell_of(from, id),
            ControlMessage::LeavingHeard { id } => self.operations.forwards().farewell_heard(from, id),
            message @ (ControlMessage::Load { .. } | ControlMessage::Given { .. }) => self.rebalancer.answered(from, message),
            ControlMessage::Hello { .. } | ControlMessage::Welcome { .. } | ControlMessage::Unwelcome { .. } => {
                tracing::warn!("a node said hello in the middle of a conversation");
            }
        }
    }

    fn unreachable(&self, peer: Incarnation) {
        self.operations.forwards().unreachable(peer);
        self.rebalancer.unreachable(peer);
        self.operations.driver().unreachable(peer);
    }
}

impl Traffic {
    /// An operation of another node's client. What is open here is answered at once, in order; `None`: a task will answer.
    fn operation(
        &self,
        origin: Origin,
        id: u64,
        session: SessionId,
        arguments: Vec<Bytes>,
        protocol: Protocol,
    ) -> Option<Forwarded> {
        let Origin::Node { from, .. } = origin else { return None };
        if arguments.first().is_some_and(|name| name.as_ref() == survey::NAME) {
            return self.surveyed(from, id, &arguments);
        }
        if let Some(asked) = question::arguments(&arguments) {
            // At once, so that what one member publishes is heard in order.
            let answer = self.operations.bus().asked(Some(from), asked);
            return Some(answer.map_or(Forwarded::Failed(Bytes::from_static(UNKNOWN_QUESTION)), Forwarded::Reply));
        }
        if arguments.first().is_some_and(|name| name.as_ref() == arrivals::NO_MORE) {
            self.neighbours.closes(from);
            return Some(Forwarded::Reply(Bytes::from_static(b"+OK\r\n")));
        }
        if arguments.first().is_some_and(|name| name.as_ref() == seen::NAME) {
            return Some(Forwarded::Reply(seen::here(&self.operations)));
        }
        if arguments.first().is_some_and(|name| name.as_ref() == COME) {
            self.operations.driver().join(session, from);
            return Some(Forwarded::Reply(Bytes::from_static(b"+OK\r\n")));
        }
        let Some(op) = self.understand(&session, arguments) else {
            let line = Bytes::from_static(
                b"-ERR wayfarer: the owner of this session does not know this key: do all nodes have the same [state] keys?\r\n",
            );
            return Some(Forwarded::Failed(line));
        };
        let mut out = BytesMut::new();
        let call = Call { session: &session.0, op: &op, protocol, from: Some(from), may_end: false };
        let tried = match op.goes_to() {
            None => self.operations.store().execute(call, &clock::System, &mut out),
            Some(_) => Tried::NotOpen,
        };
        match tried {
            Tried::Done(adopt) => {
                if let Some(to) = adopt {
                    self.operations.driver().adopt(session, to);
                }
                return Some(Forwarded::Reply(out.freeze()));
            }
            Tried::Unanswered => return Some(Forwarded::Failed(Bytes::from_static(UNANSWERED))),
            Tried::Ended | Tried::Critical(_) | Tried::Missing(_) | Tried::NoLease | Tried::NotOpen => {}
            Tried::Unknown | Tried::Full => {}
        }
        let (operations, control) = (self.operations.clone(), self.control.clone());
        let begun = operations.begin_foreign();
        let task = Box::pin(async move {
            let ran = operations.run(&session, &op, protocol, origin).await;
            reply(&control, from, id, ran.into());
            drop(begun);
        });
        let no_place = self.tasks.operations.try_send(task).is_err();
        no_place.then(|| Forwarded::Failed(Bytes::from_static(TOO_MANY_WAIT)))
    }

    /// A question about the keys of all sessions of this node.
    fn surveyed(&self, from: Incarnation, id: u64, arguments: &[Bytes]) -> Option<Forwarded> {
        let Some(asked) = survey::understand(arguments) else {
            return Some(Forwarded::Failed(Bytes::from_static(UNKNOWN_QUESTION)));
        };
        let (operations, control) = (self.operations.clone(), self.control.clone());
        let task = Box::pin(async move { reply(&control, from, id, Forwarded::Reply(survey::here(operations, asked).await)) });
        let no_place = self.tasks.operations.try_send(task).is_err();
        no_place.then(|| Forwarded::Failed(Bytes::from_static(TOO_MANY_WAIT)))
    }

    /// The command again, with this node's own idea of its keys; `None` if they are not all of this session.
    fn understand(&self, session: &SessionId, arguments: Vec<Bytes>) -> Option<Op> {
        self.keys.forwarded(&session.0, arguments)
    }
}

/// Sends a reply. One that no frame holds becomes an error: whoever asked must not wait for what never comes.
fn reply(control: &Control, to: Incarnation, id: u64, outcome: Forwarded) {
    let sent = match send(control, to, ControlMessage::OperationReply { id, outcome }) {
        Err(Unsent::TooLong) => {
            let outcome = Forwarded::Failed(Bytes::from_static(REPLY_TOO_LONG));
            send(control, to, ControlMessage::OperationReply { id, outcome })
        }
        sent => sent,
    };
    if let Err(unsent) = sent {
        tracing::debug!(?unsent, "a reply to a forwarded operation could not be sent; its node will find out");
    }
}

impl StateSessions for Operations {
    fn execute(&self, session: &[u8], op: &Op, protocol: Protocol, mut out: Answer<'_>) -> bool {
        let call = Call { session, op, protocol, from: None, may_end: false };
        match self.store().execute(call, &clock::System, out.again()) {
            Tried::Done(_) => true,
            // It has run, so the slow path must not run it again.
            Tried::Unanswered => {
                out.bytes.extend_from_slice(UNANSWERED);
                true
            }
            _ => false,
        }
    }

    async fn slow(self: Arc<Self>, session: SessionId, op: Op, protocol: Protocol) -> Bytes {
        if question::arguments(op.args()).is_some() {
            return channels::everywhere(self, op, protocol).await;
        }
        match self.run(&session, &op, protocol, Origin::Client).await {
            Ran::Reply(bytes) | Ran::Failed(bytes) => bytes,
            // Only forwarded operations end so.
            Ran::NotHere => Bytes::from_static(b"-TRYAGAIN wayfarer: the session moved\r\n"),
        }
    }

    async fn survey(self: Arc<Self>, asked: Survey, protocol: Protocol) -> Bytes {
        survey::everywhere(self, asked, protocol).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    /// Operations that never end fill their places; gifts still run, and one operation more is refused at once.
    #[tokio::test]
    async fn a_full_set_refuses_at_once_and_leaves_gifts_their_places() {
        let (tasks, working) = Tasks::with(2, 3);
        let mut working = std::pin::pin!(working);
        let mut work_on = || {
            let mut context = Context::from_waker(Waker::noop());
            assert_eq!(working.as_mut().poll(&mut context), Poll::Pending);
        };
        let mut taken = 0;
        for _ in 0..10 {
            taken += usize::from(tasks.operations.try_send(Box::pin(std::future::pending())).is_ok());
            work_on();
        }
        assert_eq!(taken, 5, "three run and two wait");
        let (sender, mut receiver) = tokio::sync::oneshot::channel();
        let gift = Box::pin(async move {
            // The test waits for it below.
            let _ = sender.send(());
        });
        assert!(tasks.gifts.try_send(gift).is_ok());
        work_on();
        let given = async {
            while receiver.try_recv().is_err() {
                work_on();
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(std::time::Duration::from_secs(20), given).await.is_ok());
    }
}

//! How the rest of the sidecar talks to the driver: questions of operations, wishes of operators.
//!
//! It never decides. Its queue is bounded: whoever asks waits for a place, and an operation has a deadline for its whole way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot, watch};
use wayfarer_engine::command::Target;
use wayfarer_engine::directory::View;
use wayfarer_engine::ids::{Incarnation, SessionId, Ticket};
use wayfarer_engine::node::message::{Message, Proposer};
use wayfarer_engine::node::rename::Rename;
use wayfarer_engine::node::{Input, NodeStatus, Purpose, Verdict};
use wayfarer_engine::session::VariableId;

/// What the driver is told.
pub(super) enum Told {
    /// An input without an answer.
    Input(Input),
    /// An input whose ticket is answered here.
    Ask(Ticket, Input, oneshot::Sender<Verdict>),
    /// A gift; answered with moved and failed.
    Give(Input, u64, oneshot::Sender<(u64, u64)>),
    /// A batch of check-ins; answered with done and failed.
    CheckIn(Input, u64, oneshot::Sender<(u64, u64)>),
    /// Numbers, please.
    Status(oneshot::Sender<NodeStatus>),
}

/// The driver has stopped: the process is ending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stopped;

/// See the head of this file.
#[derive(Clone)]
pub struct Handle {
    pub(super) told: mpsc::Sender<Told>,
    pub(super) tickets: Arc<AtomicU64>,
    pub(super) standing: watch::Receiver<Standing>,
}

/// What changes seldom and many look at.
#[derive(Clone, Debug)]
pub struct Standing {
    /// This life of the node.
    pub me: Incarnation,
    /// Members and groups, as last seen.
    pub view: Arc<View>,
    /// Whether the node has a lease and has had one since it registered.
    pub ready: bool,
    /// Whether everything has left this life. A life that began because the former one was fenced has little to give, so a drain
    /// has lost nothing only if `lives_lost` did not grow meanwhile.
    pub drained: bool,
    /// How many lives of this node were fenced by the others before everything had left them: what such a life owned or kept for
    /// others is lost, or waits where this node does not know of. A life that had left the directory, or had drained, is not
    /// counted, nor one whose sessions were all at rest as they were here. Grows only.
    pub lives_lost: u64,
}

impl Handle {
    fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// The node's standing now, and its changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// This life of the node.
    pub fn me(&self) -> Incarnation {
        self.standing.borrow().me
    }

    /// Resolves when the driver has ended: of itself it does so only with the process.
    pub async fn gone(&self) {
        self.told.closed().await;
    }

    /// Where an operation on a session that is not open here should run.
    pub async fn locate(&self, session: SessionId, purpose: Purpose) -> Result<Verdict, Stopped> {
        self.ask(|ticket| Input::Locate { session, purpose, ticket }).await
    }

    /// The session's gate is `Ending`: resolves when its end is in the directory.
    pub async fn ended(&self, session: SessionId) -> Result<Verdict, Stopped> {
        self.ask(|ticket| Input::Ended { session, ticket: Some(ticket) }).await
    }

    /// Fetches variables that are elsewhere.
    pub async fn need(&self, session: SessionId, variables: Vec<VariableId>) -> Result<Verdict, Stopped> {
        self.ask(|ticket| Input::Need { session, variables, ticket }).await
    }

    /// An operation of impact `critical` has run: resolves when the upstream has it, or does not answer.
    pub async fn flush(&self, session: SessionId) -> Result<Verdict, Stopped> {
        self.ask(|ticket| Input::Flush { session, ticket }).await
    }

    /// Looks whether keys of an open session are at rest.
    pub async fn reach(&self, session: SessionId, keys: Vec<Target>) -> Result<Verdict, Stopped> {
        self.ask(|ticket| Input::Reach { session, keys, ticket }).await
    }

    /// Gives a key of a session that is open here to another one that is: resolves when that is done, at rest too.
    pub async fn rename(&self, rename: Rename) -> Result<Verdict, Stopped> {
        let rename = Box::new(rename);
        self.ask(|ticket| Input::Rename { rename, ticket }).await
    }

    /// Sends sessions to rest; how many went, and how many did not.
    pub async fn check_in(&self, sessions: Vec<SessionId>) -> Result<(u64, u64), Stopped> {
        let batch = self.ticket();
        let (sender, receiver) = oneshot::channel();
        let input = Input::CheckIn { sessions, batch: Some(batch) };
        self.told.send(Told::CheckIn(input, batch, sender)).await.map_err(|_| Stopped)?;
        receiver.await.map_err(|_| Stopped)
    }

    async fn ask(&self, input: impl FnOnce(Ticket) -> Input) -> Result<Verdict, Stopped> {
        let ticket = Ticket(self.ticket());
        let (sender, receiver) = oneshot::channel();
        self.told.send(Told::Ask(ticket, input(ticket), sender)).await.map_err(|_| Stopped)?;
        receiver.await.map_err(|_| Stopped)
    }

    /// Another node has said something about sessions.
    pub async fn heard(&self, from: Incarnation, message: Message) -> Result<(), Stopped> {
        self.tell(Input::Message { from, message }).await
    }

    /// Any input that needs no answer.
    pub async fn tell(&self, input: Input) -> Result<(), Stopped> {
        self.told.send(Told::Input(input)).await.map_err(|_| Stopped)
    }

    /// A session should follow its clients to where they arrive. Left out when the driver is busy: the next arrival says it again.
    pub fn adopt(&self, session: SessionId, to: Incarnation) {
        let wish = Input::Follow { session, to };
        if self.told.try_send(Told::Input(wish)).is_err() {
            metrics::counter!(crate::telemetry::names::ADOPTIONS_SKIPPED).increment(1);
        }
    }

    /// A session should move now, to be beside another one. Left out when the driver is busy: whoever needs it asks again.
    pub fn join(&self, session: SessionId, to: Incarnation) {
        let wish = Input::Move { session, to, proposer: Proposer::Origin };
        if self.told.try_send(Told::Input(wish)).is_err() {
            metrics::counter!(crate::telemetry::names::ADOPTIONS_SKIPPED).increment(1);
        }
    }

    /// The connection to a member broke. Left out when the driver is busy: its lease tells too.
    pub fn unreachable(&self, peer: Incarnation) {
        if self.told.try_send(Told::Input(Input::Unreachable(peer))).is_err() {
            tracing::debug!("the driver is busy: the lease of a member that cannot be reached will tell");
        }
    }

    /// Moves `count` sessions to another member; how many moved, and how many did not.
    pub async fn give(&self, to: Incarnation, count: u64) -> Result<(u64, u64), Stopped> {
        let batch = self.ticket();
        let (sender, receiver) = oneshot::channel();
        self.told.send(Told::Give(Input::Give { to, count, batch }, batch, sender)).await.map_err(|_| Stopped)?;
        receiver.await.map_err(|_| Stopped)
    }

    /// Numbers of the node.
    pub async fn status(&self) -> Result<NodeStatus, Stopped> {
        let (sender, receiver) = oneshot::channel();
        self.told.send(Told::Status(sender)).await.map_err(|_| Stopped)?;
        receiver.await.map_err(|_| Stopped)
    }
}

//! The way of an operation that the hot path could not answer: birth, miss, fetch, forward, wait.
//!
//! It decides nothing about ownership: it asks the driver, does what the verdict says, and tries again. Each operation has one
//! deadline for its whole way, and always ends with a reply. Called by the state face for its clients, and by the control
//! channel for operations that other nodes forward.
//!
//! A hint leads to the owner of a session that exists. A birth is never left to one: whoever was the owner once is not for that
//! reason the one who bears it, so an operation that goes by a hint is not one to create at its receiver.
//!
//! | the store says | the driver is asked | then |
//! |---|---|---|
//! | done | | the reply |
//! | ended | to remove the record | the reply |
//! | missing values | to fetch them | again |
//! | not open | where the session is | again · absent · forward · wait for a wake-up, then again |
//! | no lease | | try again, later |
//!
//! While the mode of the cluster changes, operations wait before all this; in `observe` they go to the upstream instead.
//!
//! An operation that changes state is sent to another node at most once for which it is unknown whether it ran there.
//!
//! Longer than 400 lines because one operation's whole way is read together.

mod counted;
mod forward;
mod lost;
mod rename;
mod replies;
pub mod seen;
mod turns;

pub use counted::Foreign;
pub use forward::Forwards;
pub use rename::COME;
pub use replies::{REPLY_TOO_LONG, TOO_MANY_WAIT, UNANSWERED};

use crate::bus::Bus;
use crate::driver::{Handle, Parked, clock};
use crate::passage::Passage;
use crate::passage::direct::Direct;
use crate::rest::AtRest;
use crate::store::{Call, Clock, Store, Tried};
use crate::telemetry::names;
use bytes::{Bytes, BytesMut};
use counted::Waiting;
use forward::Away;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use turns::Turns;
use wayfarer_engine::command::events::Classes;
use wayfarer_engine::command::{self, Op};
use wayfarer_engine::ids::{Incarnation, SessionId};
use wayfarer_engine::node::{Purpose, Reason, Verdict};
use wayfarer_engine::plan::Policy;
use wayfarer_engine::session::Missing;
use wayfarer_engine::wire::resp::Protocol;
use wayfarer_settings::Numbering;

/// Bounds of the slow path.
#[derive(Clone, Debug)]
pub struct OperationLimits {
    /// Operations that may wait at once.
    pub parked_max: usize,
    /// How long one may wait for a gate to open.
    pub park: Duration,
    /// How long the whole way may take.
    pub whole: Duration,
}

/// How an operation ended at this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ran {
    /// With this reply.
    Reply(Bytes),
    /// With this error line; whether it changed something may be unknown.
    Failed(Bytes),
    /// Not at all: the session is elsewhere. Only for operations that were forwarded to here.
    NotHere,
}

/// See the head of this file.
pub struct Operations {
    store: Arc<Store>,
    driver: Handle,
    parked: Arc<Parked>,
    forwards: Arc<Forwards>,
    policy: Arc<Policy>,
    rest: Option<Arc<AtRest>>,
    passage: Arc<Passage>,
    /// For operations on sessions that have no owner while the mode is not `own`.
    direct: Option<Direct>,
    limits: OperationLimits,
    waiting: AtomicUsize,
    /// Operations of other nodes that are on the slow way here.
    foreign: watch::Sender<usize>,
    leaving: AtomicBool,
    bus: Arc<Bus>,
    turns: Turns,
}

/// Where an operation comes from, and what it may do here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A client of this node: it is forwarded if its session is elsewhere.
    Client,
    /// Another node: it is not forwarded again.
    Node {
        /// Which.
        from: Incarnation,
        /// Whether its session may be born here.
        create: bool,
    },
}

impl Origin {
    fn node(self) -> Option<Incarnation> {
        match self {
            Origin::Client => None,
            Origin::Node { from, .. } => Some(from),
        }
    }
}

/// What to do after one attempt.
enum Next {
    End(Ran),
    Again,
    /// Again, after a pause that grows: the cluster is changing under our feet.
    Later,
    /// At the upstream: nobody owns the session, and nobody may.
    Upstream,
}

impl Operations {
    /// The slow path of one node.
    pub fn new(
        store: Arc<Store>,
        driver: Handle,
        parked: Arc<Parked>,
        forwards: Arc<Forwards>,
        policy: Arc<Policy>,
        rest: Option<Arc<AtRest>>,
        limits: OperationLimits,
    ) -> Operations {
        let (waiting, foreign, leaving) = (AtomicUsize::new(0), watch::Sender::new(0), AtomicBool::new(false));
        let bus = Arc::new(Bus::new(Classes::NONE, Numbering::default()));
        let (passage, direct) = (Arc::default(), None);
        let turns = Turns::of_this_runtime();
        Operations {
            store,
            driver,
            parked,
            forwards,
            policy,
            rest,
            passage,
            direct,
            limits,
            waiting,
            foreign,
            leaving,
            bus,
            turns,
        }
    }

    /// Operations go the way that this says, and those on sessions without an owner through `direct`.
    pub fn with_passage(self, passage: Arc<Passage>, direct: Option<Direct>) -> Operations {
        Operations { passage, direct, ..self }
    }

    /// The classes of variables.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The way of operations.
    pub fn passage(&self) -> &Arc<Passage> {
        &self.passage
    }

    /// The store behind it.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The driver behind it.
    pub fn driver(&self) -> &Handle {
        &self.driver
    }

    /// Where sessions are at rest, if anywhere.
    pub fn at_rest(&self) -> Option<&Arc<AtRest>> {
        self.rest.as_ref()
    }

    /// The same, whose clients' channels are those of this bus. Without it nobody listens.
    pub fn with_bus(self, bus: Arc<Bus>) -> Operations {
        Operations { bus, ..self }
    }

    /// Who listens to what.
    pub fn bus(&self) -> &Arc<Bus> {
        &self.bus
    }

    /// Where forwarded operations wait for their answers.
    pub fn forwards(&self) -> &Arc<Forwards> {
        &self.forwards
    }

    /// From now on no session is born here, and other nodes are told that what is not here is elsewhere.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// An operation of another node begins; it is counted until the result is dropped.
    pub fn begin_foreign(self: &Arc<Self>) -> Foreign {
        self.foreign.send_modify(|n| *n += 1);
        Foreign(self.clone())
    }

    /// Waits until no operation of another node is under way here.
    pub async fn foreign_ended(&self) {
        // The sender lives as long as `self`.
        drop(self.foreign.subscribe().wait_for(|n| *n == 0).await);
    }

    /// Asks another node a question that concerns no session; `None`: it does not answer.
    pub async fn ask(&self, member: Incarnation, question: &Op) -> Option<Bytes> {
        let nobodys = SessionId(Bytes::new());
        match self.forwards.forward(member, &nobodys, question, Protocol::Resp2, false).await {
            Away::Ran(Ran::Reply(reply)) => Some(reply),
            _ => None,
        }
    }

    /// Runs an operation to its end.
    pub async fn run(&self, session: &SessionId, op: &Op, protocol: Protocol, origin: Origin) -> Ran {
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= self.limits.parked_max {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return failed(replies::TOO_MANY_WAIT);
        }
        let _waiting = Waiting(&self.waiting);
        let deadline = deadline(self.limits.whole);
        // Held to the end: until then the mode is not confirmed. What other nodes sent has a pass there.
        let _pass = match origin {
            Origin::Node { .. } => None,
            Origin::Client => match tokio::time::timeout_at(deadline, self.passage.wait_enter()).await {
                Ok(pass) => Some(pass),
                Err(_) => return failed(replies::MODE_CHANGES),
            },
        };
        if let Some(rest) = &self.rest {
            match tokio::time::timeout_at(deadline, rest.admit(op)).await {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return failed(replies::NO_SUCH_DATABASE),
                Ok(None) => return failed(self.refusal(Reason::Upstream)),
                Err(_) => return failed(replies::TOOK_TOO_LONG),
            }
        }
        let mut pause = Duration::from_millis(1);
        loop {
            if origin == Origin::Client && self.passage.is_upstream() {
                return self.at_upstream(op, protocol).await;
            }
            let attempt = async {
                match op.goes_to() {
                    None => self.attempt(session, op, protocol, origin).await,
                    Some(to) => self.rename(session, to, op, protocol, origin).await,
                }
            };
            match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Next::End(ran)) => return ran,
                Ok(Next::Again) => {}
                Ok(Next::Upstream) => return self.at_upstream(op, protocol).await,
                Ok(Next::Later) => {
                    if tokio::time::timeout_at(deadline, tokio::time::sleep(pause)).await.is_err() {
                        return failed(replies::TOOK_TOO_LONG);
                    }
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                Err(_) => return failed(replies::TOOK_TOO_LONG),
            }
        }
    }

    /// An operation on a session that nobody owns, while nobody may claim it. It has a deadline of its own: what has been sent is
    /// waited for.
    async fn at_upstream(&self, op: &Op, protocol: Protocol) -> Ran {
        let Some(direct) = &self.direct else { return failed(replies::NO_UPSTREAM) };
        if !self.passage.may_pass(clock::now().boot_us) {
            return failed(replies::NO_LEASE);
        }
        match direct.run(op, protocol).await {
            Some(reply) => Ran::Reply(reply),
            None => failed(replies::of(Reason::Upstream)),
        }
    }

    /// The line for a reason of the engine; of the upstream it says what that answered.
    fn refusal(&self, reason: Reason) -> &'static [u8] {
        match (reason, &self.rest) {
            (Reason::Upstream, Some(rest)) => replies::of_upstream(rest.trouble()),
            _ => replies::of(reason),
        }
    }

    async fn attempt(&self, session: &SessionId, op: &Op, protocol: Protocol, origin: Origin) -> Next {
        let from = origin.node();
        if from.is_some() && self.is_leaving() && !self.store.has(&session.0) {
            return Next::End(Ran::NotHere);
        }
        // Registered before the look at the gate, so that no wake-up is missed.
        let mut woken = Box::pin(self.parked.wait(session));
        if let Some(woken) = woken.as_mut().as_pin_mut() {
            woken.enable();
        }
        let mut out = BytesMut::new();
        let life = self.store.life();
        let call = Call { session: &session.0, op, protocol, from, may_end: true };
        let tried = {
            let _turn = self.turns.take(op).await;
            self.store.execute(call, &clock::System, &mut out)
        };
        match tried {
            Tried::Done(adopt) => {
                if let Some(to) = adopt {
                    self.driver.adopt(session.clone(), to);
                }
                Next::End(Ran::Reply(out.freeze()))
            }
            Tried::Ended => match self.driver.ended(session.clone()).await {
                Ok(Verdict::Ended) if !self.store.may_answer(life, clock::System.boot_us()) => {
                    Next::End(failed(replies::UNANSWERED))
                }
                Ok(Verdict::Ended) if !out.is_empty() => Next::End(Ran::Reply(out.freeze())),
                _ => Next::End(failed(replies::TAKEN)),
            },
            Tried::Critical(adopt) => {
                if let Some(to) = adopt {
                    self.driver.adopt(session.clone(), to);
                }
                match self.driver.flush(session.clone()).await {
                    Ok(Verdict::Written) if self.store.may_answer(life, clock::System.boot_us()) => {
                        Next::End(Ran::Reply(out.freeze()))
                    }
                    Ok(Verdict::Written) => Next::End(failed(replies::UNANSWERED)),
                    Ok(Verdict::TryAgain(Reason::Refused)) => Next::End(failed(replies::of(Reason::Refused))),
                    _ => Next::End(failed(replies::NOT_CONFIRMED)),
                }
            }
            Tried::Unknown => match self.driver.reach(session.clone(), op.targets().to_vec()).await {
                Ok(Verdict::Fetched | Verdict::Here) => Next::Again,
                Ok(Verdict::TryAgain(reason)) => Next::End(failed(self.refusal(reason))),
                Ok(_) => Next::Later,
                Err(_) => Next::End(failed(replies::STOPPING)),
            },
            Tried::Full => Next::End(failed(replies::TOO_MUCH_UNWRITTEN)),
            Tried::Missing(Missing::Fetch(variables)) => self.after_asking(self.driver.need(session.clone(), variables).await),
            Tried::Missing(Missing::Lost) => self.lost(session, op).await,
            Tried::NoLease => Next::End(failed(replies::NO_LEASE)),
            Tried::Unanswered => Next::End(failed(replies::UNANSWERED)),
            Tried::NotOpen => {
                let woken = async {
                    match woken.as_mut().as_pin_mut() {
                        Some(woken) => woken.await,
                        None => std::future::pending().await,
                    }
                };
                self.elsewhere(session, op, protocol, origin, life, woken).await
            }
        }
    }

    async fn elsewhere(
        &self,
        session: &SessionId,
        op: &Op,
        protocol: Protocol,
        origin: Origin,
        life: u64,
        woken: impl Future<Output = ()>,
    ) -> Next {
        // One that is here, frozen or ending, is asked for here: a hint of former days would lead in a circle.
        if origin == Origin::Client
            && let Some(owner) = self.forwards.hint(session)
            && owner != self.driver.me()
            && !self.store.has(&session.0)
        {
            return self.forward(owner, session, op, protocol, false).await;
        }
        let may_create = !self.is_leaving() && matches!(origin, Origin::Client | Origin::Node { create: true, .. });
        let full = op.creates() && self.store.is_full();
        let purpose = if op.creates() && may_create && !full { Purpose::Create } else { Purpose::Read };
        match self.driver.locate(session.clone(), purpose).await {
            Err(_) => Next::End(failed(replies::STOPPING)),
            Ok(Verdict::Here | Verdict::Fetched | Verdict::Ended | Verdict::Written) => Next::Again,
            Ok(Verdict::Renamed | Verdict::NoKey | Verdict::NameTaken) => Next::Again,
            Ok(Verdict::Absent) if full && may_create => {
                metrics::counter!(names::MEMORY_REFUSED).increment(1);
                Next::End(failed(replies::OUT_OF_MEMORY))
            }
            Ok(Verdict::Absent) if op.creates() && origin == Origin::Client => Next::End(failed(replies::STOPPING)),
            Ok(Verdict::Absent) if op.creates() => Next::End(Ran::NotHere),
            Ok(Verdict::Absent) => Next::End(self.absent(op, protocol, life).await),
            Ok(Verdict::TryAgain(reason)) => Next::End(failed(self.refusal(reason))),
            Ok(Verdict::At(_) | Verdict::Upstream) if origin != Origin::Client => Next::End(Ran::NotHere),
            Ok(Verdict::Upstream) => Next::Upstream,
            Ok(Verdict::At(owner)) => self.forward(owner, session, op, protocol, op.creates()).await,
            Ok(Verdict::Parked) => {
                metrics::counter!(names::OPERATIONS_PARKED).increment(1);
                match tokio::time::timeout(self.limits.park, woken).await {
                    Ok(()) => Next::Again,
                    Err(_) => Next::End(failed(replies::PARKED_TOO_LONG)),
                }
            }
        }
    }

    async fn forward(&self, owner: Incarnation, session: &SessionId, op: &Op, protocol: Protocol, create: bool) -> Next {
        metrics::counter!(names::OPERATIONS_FORWARDED).increment(1);
        match self.forwards.forward(owner, session, op, protocol, create).await {
            Away::Ran(Ran::NotHere) | Away::Elsewhere => {
                self.forwards.forget(session);
                Next::Later
            }
            Away::Ran(ran) => {
                self.forwards.remember(session, owner);
                Next::End(ran)
            }
            Away::NotSent => {
                self.forwards.forget(session);
                self.driver.unreachable(owner);
                Next::Later
            }
            Away::TooLong => Next::End(failed(replies::OPERATION_TOO_LONG)),
            Away::Silent => Next::End(failed(replies::SILENT)),
            // A read that is lost on the way may be asked again; a write may have happened.
            Away::Unknown if !op.is_write() => {
                self.forwards.forget(session);
                Next::Later
            }
            Away::Unknown => Next::End(failed(replies::UNKNOWN)),
        }
    }

    /// The session does not exist: answer as Redis does for a key that does not. The lease is checked as for any answer.
    async fn absent(&self, op: &Op, protocol: Protocol, life: u64) -> Ran {
        let _turn = self.turns.take(op).await;
        let mut out = BytesMut::new();
        let now = clock::now();
        command::absent_reply(op, now.unix_ms, protocol, &mut out);
        if self.store.may_answer(life, now.boot_us) { Ran::Reply(out.freeze()) } else { failed(replies::NO_LEASE) }
    }
}

fn failed(line: &'static [u8]) -> Ran {
    metrics::counter!(names::OPERATIONS_FAILED).increment(1);
    if let Some(bound) = replies::bound(line) {
        metrics::counter!(names::BOUNDS_HIT, "bound" => bound).increment(1);
    }
    Ran::Failed(Bytes::from_static(line))
}

#[allow(clippy::disallowed_methods, reason = "a deadline of tokio's own timer needs tokio's own clock")]
fn deadline(after: Duration) -> Instant {
    Instant::now() + after
}

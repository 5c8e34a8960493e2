//! Operations on their way to another node and back, and the memory of who owned a session last.
//!
//! It never retries: whether an operation may be sent again is for its caller to say. A hint may be wrong; the node that it
//! names checks for itself.
//!
//! A node that lets an operation wait in vain is left alone but for one trial now and then, so that a paused owner costs one
//! operation its patience, and not all of them.
//!
//! Bounds: as many operations as may wait at all; [`HINTS_MAX`] hints.

use super::Ran;
use crate::driver::clock;
use bytes::Bytes;
use dashmap::DashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use wayfarer_engine::command::Op;
use wayfarer_engine::ids::{Incarnation, SessionId};
use wayfarer_engine::wire::control::{ControlMessage, Forwarded};
use wayfarer_engine::wire::resp::Protocol;

/// How often a node that has not answered is tried again; the others are told at once.
const TRIAL_US: u64 = 250_000;
/// Owners that are remembered; when there are more, all are forgotten and asked for again.
const HINTS_MAX: usize = 200_000;

/// How a forwarded operation ended, as seen from here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Away {
    /// The other node says.
    Ran(Ran),
    /// It was never sent.
    NotSent,
    /// It was sent, and nothing came back.
    Unknown,
    /// It was not sent, because that node has not answered for a while.
    Silent,
}

/// Sends one message to another node; false if it certainly will not arrive.
pub type SendTo = Box<dyn Fn(Incarnation, ControlMessage) -> bool + Send + Sync>;

/// See the head of this file.
pub struct Forwards {
    send: SendTo,
    patience: Duration,
    last: AtomicU64,
    waiting: DashMap<u64, (Incarnation, oneshot::Sender<Ran>)>,
    /// Nodes that let an operation wait in vain, and when one was last tried: microseconds of CLOCK_BOOTTIME.
    silent: DashMap<Incarnation, u64>,
    hints: DashMap<SessionId, Incarnation>,
}

impl Forwards {
    /// None under way. An answer is waited for at most `patience`.
    pub fn new(send: SendTo, patience: Duration) -> Forwards {
        Forwards {
            send,
            patience,
            last: AtomicU64::new(0),
            waiting: DashMap::new(),
            silent: DashMap::new(),
            hints: DashMap::new(),
        }
    }

    pub(super) fn hint(&self, session: &SessionId) -> Option<Incarnation> {
        self.hints.get(session).map(|owner| *owner)
    }

    /// Remembers who owned a session when it was asked for last.
    pub fn remember(&self, session: &SessionId, owner: Incarnation) {
        if self.hint(session) == Some(owner) {
            return;
        }
        if self.hints.len() >= HINTS_MAX {
            self.hints.clear();
        }
        self.hints.insert(session.clone(), owner);
    }

    pub(super) fn forget(&self, session: &SessionId) {
        self.hints.remove(session);
    }

    /// The last known owner of a session, if it is remembered: for a request that is about to use it.
    pub fn last_owner(&self, session: &[u8]) -> Option<Incarnation> {
        self.hints.get(session).map(|owner| *owner)
    }

    /// Whether to leave a node alone: it has not answered, and somebody tries it already.
    fn is_silent(&self, owner: Incarnation) -> bool {
        let now_us = clock::now().boot_us;
        let Some(mut tried_us) = self.silent.get_mut(&owner) else { return false };
        if now_us.saturating_sub(*tried_us) < TRIAL_US {
            return true;
        }
        *tried_us = now_us;
        false
    }

    pub(super) async fn forward(&self, owner: Incarnation, session: &SessionId, op: &Op, protocol: Protocol) -> Away {
        if self.is_silent(owner) {
            return Away::Silent;
        }
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(id, (owner, sender));
        // Whatever happens to this future, nothing stays in the map.
        let _registered = Registered { forwards: self, id };
        let message = ControlMessage::Operation {
            id,
            session: session.clone(),
            arguments: op.args().to_vec(),
            resp3: protocol == Protocol::Resp3,
            create: op.creates(),
        };
        if !(self.send)(owner, message) {
            return Away::NotSent;
        }
        match tokio::time::timeout(self.patience, receiver).await {
            Ok(Ok(ran)) => Away::Ran(ran),
            Ok(Err(_)) => Away::Unknown,
            Err(_) => {
                self.silent.insert(owner, clock::now().boot_us);
                Away::Unknown
            }
        }
    }

    /// An answer has come.
    pub fn answered(&self, from: Incarnation, id: u64, outcome: Forwarded) {
        self.silent.remove(&from);
        let Some((_, (_, sender))) = self.waiting.remove_if(&id, |_, (owner, _)| *owner == from) else { return };
        let ran = match outcome {
            Forwarded::Reply(reply) => Ran::Reply(reply),
            Forwarded::NotHere => Ran::NotHere,
            Forwarded::Failed(line) => Ran::Failed(line),
        };
        // Whoever waited may have given up; then the answer is of no use.
        drop(sender.send(ran));
    }

    /// The connection to a node broke: what was sent to it will not be answered.
    pub fn unreachable(&self, peer: Incarnation) {
        self.silent.remove(&peer);
        self.waiting.retain(|_, (owner, _)| *owner != peer);
    }
}

struct Registered<'a> {
    forwards: &'a Forwards,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.forwards.waiting.remove(&self.id);
    }
}

impl From<Ran> for Forwarded {
    fn from(ran: Ran) -> Forwarded {
        match ran {
            Ran::Reply(reply) => Forwarded::Reply(reply),
            Ran::Failed(line) => Forwarded::Failed(Bytes::copy_from_slice(&line)),
            Ran::NotHere => Forwarded::NotHere,
        }
    }
}

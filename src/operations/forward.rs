//! Operations on their way to another node and back, and the memory of who owned a session last.
//!
//! It never retries: whether an operation may be sent again is for its caller to say. A hint may be wrong; the node that it
//! names checks for itself.
//!
//! A node that lets an operation wait in vain is left alone but for one trial now and then, so that a paused owner costs one
//! operation its patience, and not all of them. A node that has said farewell gets nothing any more:
//!
//! | the node that leaves | the others |
//! |---|---|
//! | has given everything away; says `Leaving` to all | forward nothing to it from now on; `LeavingHeard`, behind all that they had sent |
//! | has all answers to its farewell: nothing more comes; answers what it still has | |
//! | says it once more: when that is answered, its own answers have arrived | |
//! | asks to be removed from the directory | |
//!
//! A farewell holds for good: nobody comes back in the same life, and connections fall one after the other while it goes.
//!
//! Bounds: as many operations as may wait at all; [`HINTS_MAX`] hints; [`FAREWELLS_MAX`] farewells, the oldest lives are forgotten.

use super::Ran;
use crate::driver::clock;
use crate::questions::{NoAnswer, Questions, SendTo, Unsent};
use bytes::Bytes;
use dashmap::DashMap;
use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;
use tokio::task::JoinSet;
use wayfarer_engine::command::Op;
use wayfarer_engine::ids::{Incarnation, SessionId};
use wayfarer_engine::wire::control::{ControlMessage, Forwarded};
use wayfarer_engine::wire::resp::Protocol;

/// How often a node that has not answered is tried again; the others are told at once.
const TRIAL_US: u64 = 250_000;
/// Owners that are remembered; when there are more, all are forgotten and asked for again.
const HINTS_MAX: usize = 200_000;
/// Farewells that are remembered: more than members that a directory has.
const FAREWELLS_MAX: usize = 4096;
/// How long a node may take to hear a farewell.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(1);

/// How a forwarded operation ended, as seen from here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Away {
    /// The other node says.
    Ran(Ran),
    /// It was never sent, because there is no connection.
    NotSent,
    /// It was never sent, because that node leaves, or because much waits for it already: ask again where the session is.
    Elsewhere,
    /// It was never sent and never will be: no frame holds it.
    TooLong,
    /// It was sent, and nothing came back.
    Unknown,
    /// It was not sent, because that node has not answered for a while.
    Silent,
}

/// See the head of this file.
pub struct Forwards {
    questions: Questions<Ran>,
    farewells: Questions<()>,
    patience: Duration,
    /// Those that have said farewell. Held while something is queued, so that nothing is queued behind the answer to it.
    leaving: RwLock<BTreeSet<Incarnation>>,
    /// Nodes that let an operation wait in vain, and when one was last tried: microseconds of CLOCK_BOOTTIME.
    silent: DashMap<Incarnation, u64>,
    hints: DashMap<SessionId, Incarnation>,
}

impl Forwards {
    /// None under way. An answer is waited for at most `patience`.
    pub fn new(send: impl Fn() -> SendTo, patience: Duration) -> Forwards {
        Forwards {
            questions: Questions::new(send()),
            farewells: Questions::new(send()),
            patience,
            leaving: RwLock::default(),
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

    /// A session is not at this node: it is asked for again.
    pub fn misplaced(&self, session: &[u8], owner: Incarnation) {
        self.hints.remove_if(session, |_, remembered| *remembered == owner);
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

    /// Sends an operation. `create`: the session may be born there if there is none.
    pub(super) async fn forward(
        &self,
        owner: Incarnation,
        session: &SessionId,
        op: &Op,
        protocol: Protocol,
        create: bool,
    ) -> Away {
        if self.is_silent(owner) {
            return Away::Silent;
        }
        let message = |id| ControlMessage::Operation {
            id,
            session: session.clone(),
            arguments: op.crossing(),
            resp3: protocol == Protocol::Resp3,
            create,
        };
        let sent = {
            let leaving = self.leaving.read().unwrap_or_else(PoisonError::into_inner);
            if leaving.contains(&owner) {
                return Away::Elsewhere;
            }
            self.questions.ask(owner, message)
        };
        let pending = match sent {
            Ok(pending) => pending,
            Err(Unsent::TooLong) => return Away::TooLong,
            Err(Unsent::Full) => return Away::Elsewhere,
            Err(Unsent::Unreachable) => return Away::NotSent,
        };
        match pending.answer(self.patience).await {
            Ok(ran) => Away::Ran(ran),
            Err(NoAnswer::Broken) => Away::Unknown,
            Err(NoAnswer::Overdue) => {
                self.silent.insert(owner, clock::now().boot_us);
                Away::Unknown
            }
        }
    }

    /// An answer has come.
    pub fn answered(&self, from: Incarnation, id: u64, outcome: Forwarded) {
        self.silent.remove(&from);
        let ran = match outcome {
            Forwarded::Reply(reply) => Ran::Reply(reply),
            Forwarded::NotHere => Ran::NotHere,
            Forwarded::Failed(line) => Ran::Failed(line),
        };
        self.questions.answered(from, id, ran);
    }

    /// The connection to a node broke: what was sent to it will not be answered.
    pub fn unreachable(&self, peer: Incarnation) {
        self.silent.remove(&peer);
        self.questions.unreachable(peer);
        self.farewells.unreachable(peer);
    }

    /// Another node says farewell: it gets nothing any more, and hears so.
    pub fn farewell_of(&self, peer: Incarnation, id: u64) {
        {
            let mut leaving = self.leaving.write().unwrap_or_else(PoisonError::into_inner);
            leaving.insert(peer);
            if leaving.len() > FAREWELLS_MAX {
                leaving.pop_first();
            }
        }
        if let Err(unsent) = self.farewells.tell(peer, ControlMessage::LeavingHeard { id }) {
            tracing::debug!(?unsent, "a node that leaves could not be told that its farewell was heard");
        }
    }

    /// Another node has heard this one's farewell.
    pub fn farewell_heard(&self, from: Incarnation, id: u64) {
        self.farewells.answered(from, id, ());
    }

    /// Says farewell to these nodes; how many of them have not heard it in time.
    pub async fn say_farewell(self: &std::sync::Arc<Self>, peers: &[Incarnation]) -> usize {
        let mut saying = JoinSet::new();
        for peer in peers.iter().copied() {
            let this = self.clone();
            saying.spawn(async move {
                match this.farewells.ask(peer, |id| ControlMessage::Leaving { id }) {
                    Ok(pending) => pending.answer(FAREWELL_PATIENCE).await.is_ok(),
                    Err(_) => false,
                }
            });
        }
        saying.join_all().await.into_iter().filter(|heard| !heard).count()
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

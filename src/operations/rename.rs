//! The way of a RENAME from one session to another: to where the first session is, then the second one is brought there or born,
//! then the driver does it.
//!
//! It decides nothing about ownership: it asks the driver and other members, and looks again. Each try is one step of this table; the
//! caller repeats it within the one deadline of the operation.
//!
//! | the first session, its key | the second session | step |
//! |---|---|---|
//! | not open here | | as for any operation on it: forward, wait, or `no such key` |
//! | nobody's, in another mode | nobody's either | at the upstream |
//! | key not known, or partly elsewhere | | look for it, fetch it |
//! | there | nobody's | born here (or at another member that takes sessions: then the first moves there) |
//! | there | elsewhere | one of the two moves to where the other is |
//! | there | open here | the driver renames |
//!
//! A session is asked to come by a question to its owner ([`COME`]), which an older member refuses; the operation then runs out of
//! time and says so.
//! Invariant: nothing has changed before the driver says so; what it does is one step.

use super::{Next, Operations, Origin, Ran, failed, replies};
use crate::driver::{Stopped, clock};
use crate::store::Clock;
use bytes::{Bytes, BytesMut};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::futures::Notified;
use wayfarer_engine::command::{self, Op, Target};
use wayfarer_engine::ids::{Incarnation, SessionId};
use wayfarer_engine::node::rename::{Look, Rename, look_at_source, look_at_target, meeting_place};
use wayfarer_engine::node::{Purpose, Reason, Verdict};
use wayfarer_engine::residence::Table;
use wayfarer_engine::session::Missing;
use wayfarer_engine::wire::resp::Protocol;

/// The name of the question to a session's owner, whether it would move the session to whoever asks.
pub const COME: &[u8] = b"wayfarer:come";
/// As a node of a cluster says it.
const CROSS_SLOT: &[u8] = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n";
/// A move that was asked for may have been declined: so often it is looked whether to ask again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// A wake-up of either session, registered before anything is looked at.
struct Woken<'a>(Vec<Pin<Box<Notified<'a>>>>);

impl Woken<'_> {
    /// Ends with the first.
    async fn wait(&mut self) {
        std::future::poll_fn(|context| {
            let woken = self.0.iter_mut().any(|woken| woken.as_mut().poll(context).is_ready());
            if woken { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

impl Operations {
    /// One try.
    pub(super) async fn rename(&self, from: &SessionId, to: &SessionId, op: &Op, protocol: Protocol, origin: Origin) -> Next {
        let ([source, target], Some(if_none)) = (op.targets(), op.renames()) else {
            return Next::End(failed(replies::TAKEN));
        };
        if origin.node().is_some() && self.is_leaving() && !self.store.has(&from.0) {
            return Next::End(Ran::NotHere);
        }
        // What is at rest goes over in one step, which a cluster has for one slot alone.
        if self.rest.as_ref().is_some_and(|rest| !rest.joins(&source.key, &target.key)) {
            return Next::End(Ran::Reply(Bytes::from_static(CROSS_SLOT)));
        }
        let life = self.store.life();
        if self.store.lease_until_us() == 0 {
            return Next::End(failed(replies::NO_LEASE));
        }
        let mut woken = self.watch([from, to]);
        let unix_ms = clock::System.unix_ms();
        match self.store.with(from, |slot| look_at_source(slot.as_ref(), &source.key, unix_ms)) {
            Look::Ready => {}
            Look::Closed => {
                return match self.elsewhere(from, op, protocol, origin, life, woken.wait()).await {
                    Next::Upstream => self.at_rest_too(to).await,
                    next => next,
                };
            }
            Look::Unknown => return self.look_for(from, source).await,
            Look::Absent => return self.renamed(if_none, None, protocol, life),
            Look::Missing(Missing::Lost) => return self.lost(from, op).await,
            Look::Missing(Missing::Fetch(variables)) => {
                return self.after_asking(self.driver.need(from.clone(), variables).await);
            }
        }
        match self.store.with(to, |slot| look_at_target(slot.as_ref(), &target.key)) {
            Look::Closed => return self.bring(from, to, &mut woken).await,
            Look::Unknown => return self.look_for(to, target).await,
            Look::Ready | Look::Absent | Look::Missing(_) => {}
        }
        let (source, target) = (source.clone(), target.clone());
        let rename = Rename { from: from.clone(), source, to: to.clone(), target, if_none };
        match self.driver.rename(rename).await {
            Ok(Verdict::Renamed | Verdict::Ended) => self.renamed(if_none, Some(true), protocol, life),
            Ok(Verdict::NameTaken) => self.renamed(if_none, Some(false), protocol, life),
            Ok(Verdict::NoKey) => self.renamed(if_none, None, protocol, life),
            Ok(Verdict::Parked) => self.parked(&mut woken).await,
            Ok(Verdict::TryAgain(Reason::Refused)) => Next::End(failed(replies::NOT_RENAMED)),
            Ok(Verdict::TryAgain(reason)) => Next::End(failed(self.refusal(reason))),
            Ok(_) => Next::Later,
            Err(Stopped) => Next::End(failed(replies::STOPPING)),
        }
    }

    fn watch(&self, sessions: [&SessionId; 2]) -> Woken<'_> {
        let waits = sessions.into_iter().filter_map(|session| self.parked.wait(session));
        let mut waits: Vec<_> = waits.map(Box::pin).collect();
        waits.iter_mut().for_each(|wait| {
            wait.as_mut().enable();
        });
        Woken(waits)
    }

    fn renamed(&self, if_none: bool, renamed: Option<bool>, protocol: Protocol, life: u64) -> Next {
        if !self.store.may_answer(life, clock::System.boot_us()) {
            return Next::End(failed(replies::UNANSWERED));
        }
        let mut out = BytesMut::new();
        command::rename_reply(if_none, renamed, protocol, &mut out);
        Next::End(Ran::Reply(out.freeze()))
    }

    async fn look_for(&self, session: &SessionId, key: &Target) -> Next {
        self.after_asking(self.driver.reach(session.clone(), vec![key.clone()]).await)
    }

    async fn parked(&self, woken: &mut Woken<'_>) -> Next {
        match tokio::time::timeout(self.limits.park, woken.wait()).await {
            Ok(()) => Next::Again,
            Err(_) => Next::End(failed(replies::PARKED_TOO_LONG)),
        }
    }

    /// Nobody owns the first session, and nobody may. What the second one's owner has must be at rest too before both keys are
    /// changed there; with the pass that this operation holds neither gets an owner meanwhile.
    async fn at_rest_too(&self, to: &SessionId) -> Next {
        match self.driver.locate(to.clone(), Purpose::Read).await {
            Ok(Verdict::Upstream) => Next::Upstream,
            Ok(Verdict::TryAgain(reason)) => Next::End(failed(self.refusal(reason))),
            Ok(_) => Next::Later,
            Err(Stopped) => Next::End(failed(replies::STOPPING)),
        }
    }

    /// The first session is here and the second is not.
    async fn bring(&self, from: &SessionId, to: &SessionId, woken: &mut Woken<'_>) -> Next {
        let purpose = if self.is_leaving() { Purpose::Read } else { Purpose::Create };
        match self.driver.locate(to.clone(), purpose).await {
            Ok(Verdict::Here) => Next::Again,
            Ok(Verdict::At(owner)) => self.meet(from, to, owner, woken).await,
            Ok(Verdict::Parked) => self.parked(woken).await,
            Ok(Verdict::TryAgain(reason)) => Next::End(failed(self.refusal(reason))),
            Ok(_) => Next::Later,
            Err(Stopped) => Next::End(failed(replies::STOPPING)),
        }
    }

    async fn meet(&self, from: &SessionId, to: &SessionId, owner: Incarnation, woken: &mut Woken<'_>) -> Next {
        let me = self.driver.me();
        let view = self.driver.standing().borrow().view.clone();
        let Some(place) = meeting_place(&view, me, owner) else {
            return Next::End(failed(replies::of(Reason::NoOwner)));
        };
        if place == me {
            let question = Op::question(vec![Bytes::from_static(COME)]);
            // Whatever it answers: it is looked whether the session has come.
            let _ = self.forwards.forward(owner, to, &question, Protocol::Resp2, false).await;
        } else {
            self.driver.join(from.clone(), place);
        }
        // Either has come or gone, or it is time to ask again.
        let _ = tokio::time::timeout(ASK_AGAIN, woken.wait()).await;
        Next::Again
    }

    /// What follows when the node was asked for what an operation needs.
    pub(super) fn after_asking(&self, verdict: Result<Verdict, Stopped>) -> Next {
        match verdict {
            Ok(Verdict::Fetched | Verdict::Here) => Next::Again,
            Ok(Verdict::TryAgain(reason)) => Next::End(failed(self.refusal(reason))),
            Ok(_) => Next::Later,
            Err(Stopped) => Next::End(failed(replies::STOPPING)),
        }
    }
}

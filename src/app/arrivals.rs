//! Requests at the HTTP face: where each runs, what is done ahead of it, what its answer says of its session's place.
//!
//! It moves no session: it announces arrivals to owners, who decide. Called by the HTTP faces, on the tasks of connections, so nothing here
//! waits; what must be waited for is a task of the traffic's, or a future that the face waits for within its bound.
//!
//! | a request of a session | runs | counts as an arrival |
//! |---|---|---|
//! | that is here, or nowhere | here | here |
//! | of another member, to which requests are not forwarded | here, its operations forwarded | at the owner: from here, so the session may follow |
//! | of another member, to which they are (`routing`) | there | there, so the session stays |
//! | that a member has forwarded here, because it was here | here | here, if it still is; else not at all: the client has not come here |
//!
//! Invariant: what was forwarded once is not forwarded again, for the face that members come to never asks for a place.

use super::Running;
use super::reading::Reading;
use super::traffic::{Task, Tasks};
use crate::control::Control;
use crate::driver::clock;
use crate::operations::Operations;
use crate::routing::{Found, Neighbours};
use crate::state_face::Flights;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use wayfarer_engine::command::Op;
use wayfarer_engine::directory::MemberState;
use wayfarer_engine::ids::{Epoch, Incarnation, SessionId};
use wayfarer_engine::node::message::Message;
use wayfarer_engine::node::{Purpose, Verdict};
use wayfarer_engine::wire::control::ControlMessage;
use wayfarer_http_face::{Came, Ended, Member, Place, Run};

/// The name of the question between members by which one says that it takes no more requests. A member of an older version, which forwards
/// none, answers with an error.
pub(super) const NO_MORE: &[u8] = b"wayfarer:no-more-requests";
/// How long a member may take to hear it.
const NO_MORE_PATIENCE: Duration = Duration::from_secs(1);
/// Requests that were on their way to a connection when their member heard it have arrived by then.
const ON_THEIR_WAY: Duration = Duration::from_millis(50);

/// See the head of this file.
#[derive(Clone)]
pub(super) struct Arrivals {
    pub(super) operations: Arc<Operations>,
    pub(super) control: Arc<Control>,
    pub(super) tasks: Tasks,
    /// Requests whose writes are merged, if any are.
    pub(super) flights: Option<Arc<Flights>>,
    pub(super) neighbours: Arc<Neighbours>,
    pub(super) reading: Reading,
}

impl wayfarer_http_face::Sessions for Arrivals {
    fn arriving(&self, session: &[u8], run: Run<'_>) -> Option<Ended> {
        self.flights.iter().for_each(|flights| flights.begins(session, clock::now().boot_us));
        // Where nobody owns a session there is nobody to ask.
        if !self.operations.passage().is_owners() {
            return None;
        }
        let store = self.operations.store();
        if let Some(wanted) = store.wanted_early(session, self.reading.needs(run)) {
            if !wanted.is_empty() {
                let (operations, id) = (self.operations.clone(), SessionId::copy_of(session));
                self.start(Box::pin(async move {
                    // Nobody waits for this fetch: the instance will, when it asks.
                    let _ = operations.driver().need(id, wanted).await;
                }));
            }
            return self.reading.begins(session, run);
        }
        // The one who sent it is told that the session has left, and sends the next one where it is.
        if run.came == Came::Forwarded {
            return None;
        }
        let id = SessionId::copy_of(session);
        if let Some(owner) = self.operations.forwards().last_owner(session) {
            announce(&self.control, owner, id);
            return None;
        }
        if run.came == Came::LookedUp {
            return None;
        }
        let (operations, control) = (self.operations.clone(), self.control.clone());
        self.start(Box::pin(async move {
            if let Some(owner) = look(&operations, &id).await {
                announce(&control, owner, id);
            }
        }));
        None
    }

    fn place(&self, session: &[u8]) -> Place {
        if !self.operations.passage().is_owners() || self.operations.store().has(session) {
            return Place::Here;
        }
        if let Some(owner) = self.operations.forwards().last_owner(session) {
            match self.find(owner) {
                Found::Takes(address) => return Place::At(member(owner, address)),
                Found::TakesNone => return Place::Here,
                Found::Leaves => {}
            }
        }
        let (arrivals, id) = (self.clone(), SessionId::copy_of(session));
        Place::Unknown(Box::pin(async move {
            let owner = look(&arrivals.operations, &id).await?;
            match arrivals.find(owner) {
                Found::Takes(address) => Some(member(owner, address)),
                Found::TakesNone | Found::Leaves => None,
            }
        }))
    }

    fn is_here(&self, session: &[u8]) -> bool {
        self.operations.store().has(session)
    }

    fn misplaced(&self, session: &[u8], at: Member) {
        self.operations.forwards().misplaced(session, Incarnation(Epoch(at.life)));
    }

    fn unreachable(&self, member: Member) {
        self.neighbours.refused(Incarnation(Epoch(member.life)), clock::now().boot_us);
    }

    fn is_silent(&self, member: Member) -> bool {
        let standing = self.operations.driver().standing();
        let view = standing.borrow().view.clone();
        self.neighbours.is_silent(&view, Incarnation(Epoch(member.life)), clock::now().boot_us)
    }

    /// The client's next request will name this session. Most are born here, by the instance that has just answered; where
    /// another node has it (its operations are forwarded there), that is looked up now and not when the request has come.
    fn learned(&self, _before: Option<&[u8]>, now: &[u8]) {
        if self.operations.store().has(now) || self.operations.forwards().last_owner(now).is_some() {
            return;
        }
        let (operations, id) = (self.operations.clone(), SessionId::copy_of(now));
        self.start(Box::pin(async move {
            look(&operations, &id).await;
        }));
    }

    fn owner(&self, session: &[u8], is_new: bool) -> Option<String> {
        let standing = self.operations.driver().standing();
        let standing = standing.borrow();
        let owner = match self.operations.forwards().last_owner(session) {
            _ if self.operations.store().has(session) => standing.me,
            Some(owner) => owner,
            None if is_new => standing.me,
            None => return None,
        };
        let member = standing.view.members.get(&owner).filter(|member| member.state == MemberState::Accepting)?;
        Some(member.draft.hint.clone()).filter(|hint| !hint.is_empty())
    }

    fn left(&self, session: &[u8], answered: bool) {
        self.flights.iter().for_each(|flights| flights.ends(session, answered, clock::now().boot_us));
    }
}

impl Arrivals {
    /// Work ahead is left out when there is too much of it: the operations themselves will do it.
    fn start(&self, task: Task) {
        if self.tasks.operations.try_send(task).is_err() {
            metrics::counter!(crate::telemetry::names::ARRIVALS_SKIPPED).increment(1);
        }
    }

    fn find(&self, owner: Incarnation) -> Found {
        let standing = self.operations.driver().standing();
        let view = standing.borrow().view.clone();
        self.neighbours.find(&view, owner, clock::now().boot_us)
    }
}

fn member(owner: Incarnation, address: std::net::SocketAddr) -> Member {
    Member { address, life: owner.0.0 }
}

/// Asks which other member has a session, and remembers it.
async fn look(operations: &Operations, id: &SessionId) -> Option<Incarnation> {
    let Ok(Verdict::At(owner)) = operations.driver().locate(id.clone(), Purpose::Read).await else { return None };
    operations.forwards().remember(id, owner);
    Some(owner)
}

/// Tells the owner of a session that it is about to be used here.
fn announce(control: &Control, owner: Incarnation, session: SessionId) {
    if let Err(error) = control.send(owner, ControlMessage::Node(Message::Arrival { session })) {
        tracing::debug!(%error, "an arrival could not be announced");
    }
}

/// Tells all other members that this one takes no more requests, and gives those that are on their way the time to arrive: a connection
/// that is kept for the next request must not close just as that comes.
pub(super) async fn no_more_requests(running: &Running) {
    if !running.settings.http.forwards() {
        return;
    }
    let operations = &running.operations;
    let standing = operations.driver().standing().borrow().clone();
    let mut asking = JoinSet::new();
    for member in standing.view.others(standing.me).map(|member| member.incarnation) {
        let operations = operations.clone();
        asking.spawn(async move {
            let question = Op::question(vec![Bytes::from_static(NO_MORE)]);
            tokio::time::timeout(NO_MORE_PATIENCE, operations.ask(member, &question)).await.ok().flatten().is_some()
        });
    }
    if asking.is_empty() {
        return;
    }
    let unheard = asking.join_all().await.into_iter().filter(|heard| !heard).count();
    if unheard > 0 {
        tracing::info!(members = unheard, "some members have not heard that this one takes no more requests");
    }
    tokio::time::sleep(ON_THEIR_WAY).await;
}

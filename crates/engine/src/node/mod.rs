//! A node: everything that it decides, in one pure machine over its table of sessions.
//!
//! It never does I/O, never waits, and reads no clock: `handle(now, input, table, effects)`. One caller (the driver, or the
//! simulator) feeds it one input at a time; the hot path goes past it, straight to the table.
//!
//! | file | decides |
//! |---|---|
//! | `locate` | where an operation runs: birth, miss, forward; the end of a session |
//! | `moves` | which sessions leave: gifts and the drain |
//! | `outgoing` | handovers that this node gives |
//! | `payload` | what crosses in them |
//! | `incoming` | handovers that it takes |
//! | `late` | fetches and streams |
//! | `settling` | when a handover is over |
//! | `keeping` | the residuals of what it gave |
//! | `check_out` | sessions that are loaded from the upstream |
//! | `write_behind` | what goes to the upstream, and when |
//! | `check_in` | sessions that go to rest |
//! | `recover` | what only a dead node had, looked for at rest |
//! | `rename` | keys that become another session's |
//! | `standing` | its lease, the view, the death of others |
//! | `modes` | what it does about the cluster's mode |
//!
//! Longer than 400 lines because every input and every outcome is told to its file here.
//! Invariants: *one owner*, *planned moves lose nothing*, *never wrong data*; *everything is bounded* by [`NodeSettings`].

mod check_in;
mod check_out;
mod followers;
mod incoming;
mod keeping;
mod late;
mod locate;
pub mod message;
mod modes;
mod moves;
mod outgoing;
mod payload;
mod port;
mod recover;
pub mod rename;
mod settling;
mod standing;
mod write_behind;

pub use port::{Effect, Input, NodeSettings, Note, Purpose, Reason, Verdict};

use crate::directory::{Location, MemberRecord, MemberState, Role, Transaction, View, Write};
use crate::ids::{Epoch, GroupId, HandoverId, Incarnation, Now, RequestId, SessionId, Ticket};
use crate::lease::{Lease, Watchdog};
use crate::mode::Mode;
use crate::residence::Table;
use crate::session::VariableId;
use std::collections::{BTreeMap, HashMap};

/// Who a node is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// This life.
    pub incarnation: Incarnation,
    /// Its groups with the epochs of its ownership; a new session goes to one of them.
    pub groups: Vec<(GroupId, Epoch)>,
    /// Whether it may own sessions.
    pub role: Role,
}

/// What a request to the directory was for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Pending {
    Renew { sent_us: u64 },
    Fence(Incarnation),
    State,
    Leave,
    Locate(SessionId),
    Birth { session: SessionId, group: GroupId },
    End(SessionId),
    OriginFence(HandoverId),
    Commit(HandoverId),
    Settle { session: SessionId, epoch: Epoch, needed: Vec<HandoverId> },
    Sweep(HandoverId),
    Look(SessionId, Mode),
    Load { session: SessionId, location: Location },
    Reach { session: SessionId, epoch: Epoch, ticket: Ticket },
    Recover { session: SessionId, epoch: Epoch, variables: Vec<VariableId> },
    Store(SessionId),
    CheckIn(SessionId),
    Rename(SessionId),
    Mode,
    Release(SessionId),
}

/// See the head of this file.
pub struct Node {
    me: Identity,
    settings: NodeSettings,
    state: MemberState,
    /// It has asked to be removed: no more renewals, and that others find it gone is no surprise.
    left: bool,
    lease: Lease,
    watchdog: Watchdog,
    view: View,
    /// The newest life in any view so far.
    newest: Incarnation,
    /// Since when it drains and knows of no other member. A view comes a little late, so this alone does not say that there is none.
    alone_since_us: Option<u64>,
    /// When this node last looked at the leases of others.
    watched_us: u64,
    /// Probes under way, and since when.
    probing: BTreeMap<Incarnation, u64>,
    pending: HashMap<RequestId, Pending>,
    last_request: u64,
    locate: locate::Locations,
    outgoing: outgoing::Outgoing,
    followers: followers::Followers,
    incoming: incoming::Incoming,
    late: late::Late,
    behind: write_behind::Behind,
    check_ins: check_in::CheckIns,
    renames: rename::Renames,
    modes: modes::Modes,
}

/// One turn: what every part of the node needs to act.
struct Turn<'a, T: Table> {
    now: Now,
    table: &'a T,
    effects: &'a mut Vec<Effect>,
}

impl<T: Table> Turn<'_, T> {
    fn send(&mut self, to: Incarnation, message: message::Message) {
        self.effects.push(Effect::Send { to, message });
    }

    fn note(&mut self, note: Note) {
        self.effects.push(Effect::Note(note));
    }

    fn expired(&mut self, gone: Vec<bytes::Bytes>) {
        if !gone.is_empty() {
            self.effects.push(Effect::Expired(gone));
        }
    }

    fn wake(&mut self, session: &SessionId) {
        self.effects.push(Effect::Wake(session.clone()));
    }
}

impl Node {
    /// A node that has just registered. It may not answer before its first renewal.
    pub fn new(me: Identity, settings: NodeSettings, view: View, now: Now) -> Node {
        let mut watchdog = Watchdog::new(settings.lease);
        watchdog.observe(&view, me.incarnation, now.boot_us);
        Node {
            lease: Lease::new(settings.lease),
            watchdog,
            state: MemberState::Accepting,
            left: false,
            newest: view.members.keys().next_back().copied().unwrap_or(me.incarnation),
            alone_since_us: None,
            watched_us: now.boot_us,
            modes: modes::Modes::new(view.mode, now.boot_us),
            view,
            probing: BTreeMap::new(),
            pending: HashMap::new(),
            last_request: first_request(me.incarnation),
            locate: locate::Locations::default(),
            outgoing: outgoing::Outgoing::new(me.incarnation, &settings.policy),
            followers: followers::Followers::default(),
            incoming: incoming::Incoming::default(),
            late: late::Late::new(now.boot_us),
            behind: write_behind::Behind::default(),
            check_ins: check_in::CheckIns::default(),
            renames: rename::Renames::default(),
            me,
            settings,
        }
    }

    /// Takes one input and adds what has to be done to `effects`.
    pub fn handle<T: Table>(&mut self, now: Now, input: Input, table: &T, effects: &mut Vec<Effect>) {
        let mut turn = Turn { now, table, effects };
        if self.state == MemberState::Fenced {
            return Node::answer_fenced(input, &mut turn);
        }
        match input {
            Input::Tick => self.tick(&mut turn),
            Input::View(view) => self.viewed(view, &mut turn),
            Input::Message { from, message } => self.heard(from, message, &mut turn),
            Input::NotSent { handover, stage } => self.not_sent(handover, stage, &mut turn),
            Input::Outcome { request, outcome } => self.outcome(request, outcome, &mut turn),
            Input::Placement { request, placement } => match self.pending.remove(&request) {
                Some(Pending::Locate(session)) => self.located(session, placement, &mut turn),
                Some(Pending::Sweep(handover)) => self.swept(handover, placement, &mut turn),
                _ => {}
            },
            Input::Probed { incarnation, dead } => self.probed(incarnation, dead, &mut turn),
            Input::Unreachable(peer) => self.suspect(peer, &mut turn),
            Input::Locate { session, purpose, ticket } => self.locate(session, purpose, ticket, &mut turn),
            Input::Ended { session, ticket } => self.end(session, ticket, &mut turn),
            Input::Need { session, variables, ticket } => self.need(session, variables, ticket, &mut turn),
            Input::Move { session, to, proposer } => self.order(session, to, proposer, &mut turn),
            Input::Follow { session, to } => self.follow_clients(session, to, &mut turn),
            Input::Reach { session, keys, ticket } => self.reach(session, keys, ticket, &mut turn),
            Input::Flush { session, ticket } => self.flush_for(session, ticket, &mut turn),
            Input::Looked { request, found } => {
                if let Some(Pending::Look(session, mode)) = self.pending.remove(&request) {
                    self.looked(session, mode, found, &mut turn);
                }
            }
            Input::Loaded { request, loaded } => match self.pending.remove(&request) {
                Some(Pending::Load { session, location }) => self.loaded(session, location, loaded, &mut turn),
                Some(Pending::Reach { session, epoch, ticket }) => self.reached(&session, epoch, ticket, loaded, &mut turn),
                Some(Pending::Recover { session, epoch, variables }) => {
                    self.recovered(&session, epoch, &variables, loaded, &mut turn);
                }
                _ => {}
            },
            Input::Stored { request, stored } => {
                if let Some(Pending::Store(session)) = self.pending.remove(&request) {
                    self.stored(session, request, stored, &mut turn);
                }
            }
            Input::Rename { rename, ticket } => self.rename(rename, ticket, &mut turn),
            Input::StoredBoth { request, stored } => {
                if let Some(Pending::Rename(source)) = self.pending.remove(&request) {
                    self.rename_stored(&source, request, stored, &mut turn);
                }
            }
            Input::CheckIn { sessions, batch } => self.check_in(sessions, batch, &mut turn),
            Input::Give { to, count, batch } => self.give(to, count, batch, &mut turn),
            Input::Cordon(on) => self.cordon(on, &mut turn),
            Input::Drain => self.drain(&mut turn),
            Input::DrainOver => self.close_moves(&mut turn),
            Input::Held { generation } => self.held(generation, &mut turn),
            Input::Leave => {
                self.left = true;
                let write = vec![Write::Leave { incarnation: self.me.incarnation }];
                self.transact(Pending::Leave, Transaction { compare: Vec::new(), write }, &mut turn);
            }
        }
    }

    /// A fenced node has nothing and decides nothing; whoever still asks it is told so.
    fn answer_fenced<T: Table>(input: Input, turn: &mut Turn<'_, T>) {
        let ticket = match input {
            Input::Locate { ticket, .. }
            | Input::Need { ticket, .. }
            | Input::Reach { ticket, .. }
            | Input::Rename { ticket, .. }
            | Input::Flush { ticket, .. } => Some(ticket),
            Input::Ended { ticket, .. } => ticket,
            _ => None,
        };
        turn.effects.extend(ticket.map(|ticket| Effect::Answer { ticket, verdict: Verdict::TryAgain(Reason::Taken) }));
    }

    fn tick<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let alone = self.state == MemberState::Draining && self.is_without_heirs();
        self.alone_since_us = alone.then(|| self.alone_since_us.unwrap_or(turn.now.boot_us));
        self.tick_standing(turn);
        self.tick_locate(turn);
        self.tick_followers(turn);
        self.tick_outgoing(turn);
        self.tick_incoming(turn);
        self.tick_late(turn);
        self.tick_behind(turn);
        self.tick_check_ins(turn);
        self.tick_renames(turn);
        self.tick_modes(turn);
    }

    fn heard<T: Table>(&mut self, from: Incarnation, message: message::Message, turn: &mut Turn<'_, T>) {
        use message::Message as M;
        self.late.heard(from, turn.now.boot_us);
        match message {
            M::Propose { handover, session, summary, .. } => self.proposed(from, handover, session, summary, turn),
            M::Accept { handover, group, have } => self.accepted(from, handover, group, have, turn),
            M::Reject { handover, .. } => self.rejected(from, handover, turn),
            M::PreCopy { handover, values } => self.pre_copy(from, handover, values, turn),
            M::PreCopied { handover } => self.pre_copied(from, handover, turn),
            M::Stage { handover, stage } => self.staged(from, handover, *stage, turn),
            M::Committed { handover } => self.committed(from, handover, turn),
            M::Promised { handover } => self.promised(from, handover, turn),
            M::Abort { handover } => self.aborted(from, handover, turn),
            M::Fetch { request, handover, variables } => self.asked(from, request, handover, variables, turn),
            M::Fetched { request, values } => self.fetched(from, request, values, turn),
            M::Confirm { handover } => self.confirmed(handover, turn),
            // Arrivals are counted on the resident by the shell, as operations are: nothing to decide here.
            M::Arrival { .. } => {}
        }
    }

    fn outcome<T: Table>(&mut self, request: RequestId, outcome: Option<crate::directory::Outcome>, turn: &mut Turn<'_, T>) {
        match self.pending.remove(&request) {
            Some(Pending::Renew { sent_us }) => self.renewed(sent_us, outcome, turn),
            Some(Pending::Fence(who)) => self.fenced(who, outcome, turn),
            Some(Pending::Birth { session, group }) => self.birth_ended(session, group, outcome, turn),
            Some(Pending::End(session)) => self.end_ended(session, outcome, turn),
            Some(Pending::OriginFence(handover)) => self.origin_fence_ended(handover, outcome, turn),
            Some(Pending::Commit(handover)) => self.commit_ended(handover, outcome, turn),
            Some(Pending::Settle { session, epoch, needed }) => self.settled(session, epoch, needed, outcome, turn),
            Some(Pending::CheckIn(session)) => self.check_in_ended(session, outcome, turn),
            Some(Pending::Release(session)) => self.released(session, outcome, turn),
            // The view tells what became of a change of state or mode; a leave is the last thing that a node does.
            Some(Pending::State | Pending::Mode | Pending::Leave | Pending::Locate(_) | Pending::Sweep(_)) | None => {}
            // These are answered by the upstream.
            Some(Pending::Look(..) | Pending::Load { .. } | Pending::Reach { .. } | Pending::Recover { .. }) => {}
            Some(Pending::Store(_) | Pending::Rename(_)) => {}
        }
    }

    fn next_request(&mut self) -> RequestId {
        self.last_request = self.last_request.wrapping_add(1);
        RequestId(self.last_request)
    }

    fn request(&mut self, what: Pending) -> RequestId {
        let request = self.next_request();
        self.pending.insert(request, what);
        request
    }

    fn transact<T: Table>(&mut self, what: Pending, transaction: Transaction, turn: &mut Turn<'_, T>) {
        let request = self.request(what);
        turn.effects.push(Effect::Transact { request, transaction });
    }

    /// The group of this node in which a session lives, by its id: any fixed choice will do, this one spreads.
    fn group_for(&self, session: &SessionId) -> Option<(GroupId, Epoch)> {
        self.me.groups.get(spread(session).checked_rem(self.me.groups.len())?).copied()
    }

    fn accepts(&self) -> bool {
        self.state == MemberState::Accepting && self.me.role == Role::Owner
    }

    /// The other members that take sessions.
    fn others(&self) -> Vec<Incarnation> {
        self.view.accepting().map(|m| m.incarnation).filter(|who| *who != self.me.incarnation).collect()
    }

    /// Whether what this node gives away goes to rest, or to nobody: no other member lives. Where sessions are at rest it is enough
    /// that no other member takes them: one that drains would else take back for ever what it has put to rest.
    fn is_without_heirs(&self) -> bool {
        if self.settings.rest.is_some() {
            self.others().is_empty()
        } else {
            self.view.others(self.me.incarnation).next().is_none()
        }
    }

    /// Another member that owns sessions and stays, though it takes no more of them.
    fn cordoned(&self) -> Option<Incarnation> {
        let stays = |m: &&MemberRecord| m.state == MemberState::Cordoned && m.draft.role == Role::Owner;
        let mut others = self.view.members.values().filter(stays).map(|m| m.incarnation);
        others.find(|who| *who != self.me.incarnation)
    }

    /// Numbers for the status page.
    pub fn status(&self) -> NodeStatus {
        NodeStatus {
            incarnation: self.me.incarnation,
            state: self.state,
            lease_valid_until_us: self.lease.valid_until_us(),
            handovers_out: self.outgoing.count(),
            handovers_queued: self.outgoing.moves.queued(),
            handovers_in: self.incoming.count(),
            handovers_over: self.outgoing.over() + self.incoming.opened(),
            residuals: self.late.residuals.count(),
            residual_bytes: self.late.residuals.bytes(),
            dependents: self.late.dependent_count(),
            unwritten: self.behind.count(),
            upstream_fails: self.behind.fails(),
            checking_in: self.check_ins.count(),
            members: self.view.members.values().map(|m| (m.incarnation, (m.draft.name.clone(), m.state))).collect(),
        }
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.me
    }

    /// The members and groups, as it last saw them.
    pub fn view(&self) -> &View {
        &self.view
    }
}

/// Where a life begins to count its requests, so that an answer meant for a former life of the node matches nothing in this one:
/// by the golden ratio, lives whose epochs are less than 2³⁰ apart begin more than 2³² requests apart.
fn first_request(me: Incarnation) -> u64 {
    me.0.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A number by a session's id, for choices that only have to be spread.
fn spread(session: &SessionId) -> usize {
    session.0.iter().fold(0, |h: usize, b| h.wrapping_mul(31).wrapping_add(usize::from(*b)))
}

/// See [`Node::status`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStatus {
    /// This life.
    pub incarnation: Incarnation,
    /// Whether it takes sessions.
    pub state: MemberState,
    /// Until when it may answer.
    pub lease_valid_until_us: u64,
    /// Handovers that it is giving.
    pub handovers_out: usize,
    /// Sessions that wait for a place among them.
    pub handovers_queued: usize,
    /// Handovers that it is taking.
    pub handovers_in: usize,
    /// How often sessions have come or left, or could not leave.
    pub handovers_over: u64,
    /// Handovers whose values it still keeps.
    pub residuals: usize,
    /// Bytes of those.
    pub residual_bytes: u64,
    /// Sessions here whose records depend on handovers.
    pub dependents: usize,
    /// Sessions here of which something is due or under way to the upstream.
    pub unwritten: usize,
    /// Whether the upstream did not answer when it was asked last.
    pub upstream_fails: bool,
    /// Sessions that go to rest, or wait for that.
    pub checking_in: usize,
    /// Names and states by incarnation.
    pub members: BTreeMap<Incarnation, (String, MemberState)>,
}

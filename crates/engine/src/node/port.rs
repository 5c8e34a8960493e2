//! What goes into a node and what comes out of it: inputs, effects, verdicts, notes, settings.
//!
//! Plain data. The shell turns the world into [`Input`]s, performs [`Effect`]s and decides nothing.
//! Longer than 400 lines because what goes in and what comes out of one machine is read together.

use super::message::Message;
use crate::command::Target;
use crate::directory::{Outcome, Placement, Transaction, View};
use crate::ids::{Epoch, HandoverId, Incarnation, RequestId, SessionId, Ticket};
use crate::lease::LeaseTimes;
use crate::mode::Route;
use crate::node::message::Proposer;
use crate::node::rename::Rename;
use crate::plan::Policy;
use crate::rest::RestSettings;
use crate::rest::change::{Batch, Loaded, Stored, Swap};
use crate::session::VariableId;
use bytes::Bytes;
use std::sync::Arc;

/// The bounds and times of a node. Times in microseconds.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Leases, its own and those of others.
    pub lease: LeaseTimes,
    /// The classes of variables.
    pub policy: Arc<Policy>,
    /// Bytes of carried values a session; more is demoted.
    pub carried_bytes_max: u64,
    /// Bytes that may be sent while a session is frozen; more is demoted.
    pub pause_bytes_max: u64,
    /// Handovers that this node gives at once.
    pub at_once_max: usize,
    /// How long an answer to a proposal or a pre-copy is waited for.
    pub propose_us_max: u64,
    /// How long a frozen session waits for its outcome before the origin fences.
    pub stage_us_max: u64,
    /// Between tries of a transaction whose outcome is unknown.
    pub retry_us: u64,
    /// How long a reader waits for a fetch.
    pub fetch_us_max: u64,
    /// Bytes of background fetches under way.
    pub stream_bytes_max: u64,
    /// Rate at which deferred variables follow without being asked for; 0: never.
    pub trickle_bytes_per_s: u64,
    /// Whether what a draining member holds is fetched before it leaves.
    pub drain_residuals: bool,
    /// Bytes of residuals that this node keeps; above it, moves carry everything.
    pub residual_bytes_max: u64,
    /// How often a residual asks the directory whether it is still needed.
    pub sweep_us: u64,
    /// Operations that may wait for verdicts.
    pub waiting_max: usize,
    /// Bytes of a message to another node. What a pre-copy, a stage or an answer to a fetch has more of is split or demoted.
    pub frame_bytes_max: u64,
    /// How long the members have to confirm that operations of their clients wait, before a change of the mode is taken back.
    pub mode_us_max: u64,
    /// Sessions at rest; `None`: there is no upstream for them.
    pub rest: Option<RestSettings>,
}

/// What an operation on a session that is not here wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To read, or to change what must exist already.
    Read,
    /// To create the session if there is none.
    Create,
}

/// What happens to a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Time has passed; a few milliseconds at most between two of them.
    Tick,
    /// Members or groups have changed.
    View(View),
    /// Another node says something.
    Message {
        /// Who.
        from: Incarnation,
        /// What.
        message: Message,
    },
    /// A message of a handover that this node gives was not sent, and certainly does not arrive.
    NotSent {
        /// Which handover.
        handover: HandoverId,
        /// Whether it was the stage; else the proposal or a pre-copy.
        stage: bool,
    },
    /// A transaction has ended; `None`: nobody knows how.
    Outcome {
        /// Which.
        request: RequestId,
        /// How.
        outcome: Option<Outcome>,
    },
    /// A read has ended; `None`: without an answer.
    Placement {
        /// Which.
        request: RequestId,
        /// With what.
        placement: Option<Placement>,
    },
    /// A probe has ended.
    Probed {
        /// Whom it was about.
        incarnation: Incarnation,
        /// Whether it is proven to be dead.
        dead: bool,
    },
    /// The connection to a member broke: worth a probe at once.
    Unreachable(Incarnation),
    /// An operation found no resident, or a closed gate.
    Locate {
        /// Of this session.
        session: SessionId,
        /// What it wants.
        purpose: Purpose,
        /// Joins the verdict.
        ticket: Ticket,
    },
    /// An operation (or expiry) removed the last key and closed the gate to `Ending`.
    Ended {
        /// Of this session.
        session: SessionId,
        /// Who waits for the end, if anybody.
        ticket: Option<Ticket>,
    },
    /// An operation needs values that are elsewhere.
    Need {
        /// Of this session.
        session: SessionId,
        /// Which.
        variables: Vec<VariableId>,
        /// Joins the verdict.
        ticket: Ticket,
    },
    /// An operation needs to know whether keys are at rest.
    Reach {
        /// Of this session.
        session: SessionId,
        /// Which.
        keys: Vec<Target>,
        /// Joins the verdict.
        ticket: Ticket,
    },
    /// An operation changed something of impact `critical`: it must be in the upstream before it is acknowledged.
    Flush {
        /// Of this session.
        session: SessionId,
        /// Joins the verdict.
        ticket: Ticket,
    },
    /// Whether something of a session is at rest; `None`: the upstream did not answer.
    Looked {
        /// Which request.
        request: RequestId,
        /// The answer.
        found: Option<bool>,
    },
    /// A load has ended.
    Loaded {
        /// Which request.
        request: RequestId,
        /// How.
        loaded: Loaded,
    },
    /// A store has ended, key by key; `None`: nobody knows how.
    Stored {
        /// Which request.
        request: RequestId,
        /// How.
        stored: Option<Vec<Stored>>,
    },
    /// A key should become another session's. Both sessions were open here a moment ago, and the value was.
    Rename {
        /// Which.
        rename: Box<Rename>,
        /// Joins the verdict.
        ticket: Ticket,
    },
    /// A store of two sessions in one step has ended, the key that goes first; `None`: nobody knows how.
    StoredBoth {
        /// Which request.
        request: RequestId,
        /// How.
        stored: Option<[Stored; 2]>,
    },
    /// These sessions should go to rest.
    CheckIn {
        /// Which.
        sessions: Vec<SessionId>,
        /// Joins the effect `CheckedIn`, if anybody waits for it.
        batch: Option<u64>,
    },
    /// A session should follow its clients, in the next gap between their requests.
    Follow {
        /// Which.
        session: SessionId,
        /// Where they arrive.
        to: Incarnation,
    },
    /// A session should move now.
    Move {
        /// Which.
        session: SessionId,
        /// Where to.
        to: Incarnation,
        /// Who wants it.
        proposer: Proposer,
    },
    /// So many sessions should move to one member.
    Give {
        /// Where to.
        to: Incarnation,
        /// How many.
        count: u64,
        /// Joins the effect `Gave`.
        batch: u64,
    },
    /// This node takes no more sessions, or takes them again.
    Cordon(bool),
    /// Everything leaves.
    Drain,
    /// The time of the drain is over: no session is offered to anybody any more; handovers under way go on to their end.
    DrainOver,
    /// Operations of this node's clients wait, as [`Route::Wait`] said, and none is under way to the upstream.
    Held {
        /// The generation that was to be confirmed.
        generation: u64,
    },
    /// The node is empty (or gives up) and goes.
    Leave,
}

impl Input {
    /// What to tell the node when this message of its cannot be sent; `None`: its deadline for an answer tells as well.
    pub fn not_sent(message: &Message) -> Option<Input> {
        match message {
            Message::Propose { handover, .. } | Message::PreCopy { handover, .. } => {
                Some(Input::NotSent { handover: *handover, stage: false })
            }
            Message::Stage { handover, .. } => Some(Input::NotSent { handover: *handover, stage: true }),
            _ => None,
        }
    }
}

/// The answer to a waiting operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The session is here: try again.
    Here,
    /// There is no such session: answer so.
    Absent,
    /// Its owner is another member: forward the operation. For a creation: let that member create it.
    At(Incarnation),
    /// Nobody's, and nobody may claim it in this mode: perform the operation at the upstream.
    Upstream,
    /// Something is under way: wait for `Wake`, then try again.
    Parked,
    /// What was needed is here, or lost: try again.
    Fetched,
    /// The end is in the directory: answer.
    Ended,
    /// The write is in the upstream: answer.
    Written,
    /// The key has become the other session's: answer.
    Renamed,
    /// There is no such key: answer so.
    NoKey,
    /// The other session has a key of the name already, and it was to be left alone: answer so.
    NameTaken,
    /// Nobody can answer now.
    TryAgain(Reason),
}

/// Why nobody can answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The directory does not answer.
    Directory,
    /// The holder of a variable does not answer.
    Holder,
    /// The upstream does not answer; what was written may or may not be there.
    Upstream,
    /// The upstream has answered with an error to what was written of this session.
    Refused,
    /// What is at rest cannot be served.
    Unfit,
    /// It names more keys that do not exist than are remembered of a session.
    Keys,
    /// Too many operations wait already.
    Full,
    /// This node may not own sessions and nobody else takes them.
    NoOwner,
    /// The session was taken from this node while the operation ran; whether it counted is unknown.
    Taken,
}

/// What the shell has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Send it; it may be lost.
    Send {
        /// To whom.
        to: Incarnation,
        /// What.
        message: Message,
    },
    /// Perform it and report `Outcome`.
    Transact {
        /// Joins the outcome.
        request: RequestId,
        /// What.
        transaction: Transaction,
    },
    /// Read it and report `Placement`.
    Read {
        /// Joins the placement.
        request: RequestId,
        /// Of which session.
        session: SessionId,
    },
    /// Look whether anything of a session is at rest and report `Looked`.
    Look {
        /// Joins the answer.
        request: RequestId,
        /// Of which session.
        session: SessionId,
    },
    /// Load keys of a session, guard them for its epoch, and report `Loaded`.
    Load {
        /// Joins the answer.
        request: RequestId,
        /// Of which session.
        session: SessionId,
        /// The owner's epoch.
        epoch: Epoch,
        /// Which keys; `None`: all whose names follow from the session's id.
        keys: Option<Vec<Target>>,
        /// Whether what is found becomes what the owner has. Else single values of it are looked for, and what others have written to
        /// the key meanwhile is still foreign.
        becomes_ours: bool,
    },
    /// Perform it key by key and report `Stored`.
    Store {
        /// Joins the answer.
        request: RequestId,
        /// Of which session.
        session: SessionId,
        /// What.
        batch: Batch,
    },
    /// Perform both as one step that the upstream cannot split, or neither, and report `StoredBoth`.
    StoreBoth {
        /// Joins the answer.
        request: RequestId,
        /// What.
        swap: Box<Swap>,
    },
    /// A batch of check-ins is complete.
    CheckedIn {
        /// Which.
        batch: u64,
        /// Sessions that are at rest now.
        done: u64,
        /// Sessions that are not.
        failed: u64,
    },
    /// Look for proof of death and report `Probed`.
    Probe(Incarnation),
    /// Answer a waiting operation.
    Answer {
        /// Which.
        ticket: Ticket,
        /// With what.
        verdict: Verdict,
    },
    /// Parked operations of this session may try again.
    Wake(SessionId),
    /// The node may answer until then (microseconds of its clock).
    LeaseUntil(u64),
    /// Operations of clients go there from now on.
    Route(Route),
    /// This incarnation is over: register again, own nothing.
    Fenced,
    /// Everything has left.
    Drained,
    /// A gift is complete.
    Gave {
        /// Which.
        batch: u64,
        /// Sessions that moved.
        moved: u64,
        /// Sessions that did not.
        failed: u64,
    },
    /// Keys whose time has come were removed, by their names within their session: subscribers are told.
    Expired(Vec<Bytes>),
    /// For metrics and logs.
    Note(Note),
}

/// Something worth counting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// A session was born here.
    Born,
    /// A session ended here.
    Ended,
    /// The origin froze a session.
    Froze(HandoverId, SessionId),
    /// The origin gave a session away.
    Left(HandoverId, SessionId),
    /// The origin did not give the session away: it keeps it, or has lost it to somebody else.
    Aborted(HandoverId, SessionId),
    /// The target opened a session.
    Opened(HandoverId, SessionId),
    /// The target's commit was refused, or it gave up.
    Declined(HandoverId),
    /// Variables that were demoted for a budget.
    Demoted(usize),
    /// A variable came late, with its bytes; whether a reader had asked for it.
    Fetched {
        /// Bytes of its value.
        bytes: u64,
        /// A reader waits, or did.
        on_access: bool,
    },
    /// A value did not match its manifest.
    Mismatch,
    /// A variable was declared lost.
    Lost,
    /// A member was declared dead.
    Fenced(Incarnation),
    /// A residual ended.
    ResidualEnded,
    /// A session was not proposed to the member where its clients arrive: as many leave already as may.
    AdoptionSkipped,
    /// A session's group was declared lost with its owner: nobody has it. Once a session, for as long as this node remembers it.
    SessionLost(SessionId),
    /// A handover was cancelled, or not begun, because a message of it could not be sent.
    Unsendable(SessionId),
    /// A session was at rest and is owned here.
    CheckedOut,
    /// A session was owned here and is at rest.
    CheckedIn,
    /// A session could not go to rest, and stays.
    CheckInFailed(SessionId),
    /// A batch is in the upstream, with its bytes of commands, about.
    Flushed {
        /// See above.
        bytes: u64,
    },
    /// A key of the first session has become the second's.
    Renamed(SessionId, SessionId),
    /// The upstream did not answer a load, a look or a store.
    UpstreamFailed,
    /// Somebody else had written so many keys of a session at rest while it was owned here.
    Foreign(SessionId, usize),
    /// The upstream has a newer owner of a session than this node: what came from here was refused.
    Stale(SessionId),
}

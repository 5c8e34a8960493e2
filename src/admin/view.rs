//! What the admin interface says, as JSON; the command line reads the same types.
//!
//! Fields are only added. No field holds an id or a value of a client.

use crate::driver::{Move, MoveOutcome, Side};
use serde::{Deserialize, Serialize};
use wayfarer_engine::residence::{Gate, Resident};

/// `GET /api/v1/status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// This life of it.
    pub incarnation: u64,
    /// accepting, cordoned, draining or fenced.
    pub state: String,
    /// What `/readyz` says.
    pub ready: bool,
    /// The instance: unwatched, starting, accepting or silent.
    #[serde(default)]
    pub instance: String,
    /// For how long it may answer without another renewal.
    pub lease_ms_left: u64,
    /// Sessions that it owns.
    pub sessions: u64,
    /// Bytes of names and values here.
    pub value_bytes: u64,
    /// Variables of its sessions that are elsewhere or lost.
    pub missing_variables: u64,
    /// Sessions born here since the start of the process.
    pub born: u64,
    /// Sessions ended here.
    pub ended: u64,
    /// Handovers.
    pub handovers: Handovers,
    /// Bytes sent over the control channel.
    pub bytes: Bytes,
    /// Variables that came after their session.
    pub variables_fetched_late: u64,
    /// Those that a reader had asked for.
    pub variables_fetched_on_access: u64,
    /// Variables declared lost.
    pub variables_lost: u64,
    /// Handovers whose values this node still keeps for others.
    pub residuals: u64,
    /// Bytes of those.
    pub residual_bytes: u64,
    /// The cluster's mode.
    #[serde(default)]
    pub mode: Option<ModeStatus>,
    /// In observe: what own would do.
    #[serde(default)]
    pub outlook: Option<Outlook>,
    /// Sessions at rest; nothing where there is no upstream for them.
    #[serde(default)]
    pub rest: Option<Rest>,
    /// All members.
    pub members: Vec<MemberStatus>,
}

/// What the mode `own` would do, about, by what was seen in the last five to ten minutes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outlook {
    /// How long was looked, at most the last ten minutes. Figures a minute from few seconds say little.
    #[serde(default)]
    pub measured_s: u64,
    /// Operations on sessions a minute, all members together.
    pub operations_per_minute: u64,
    /// Those of them that would be answered beside the instance, where the session would be.
    pub local_per_minute: u64,
    /// Their share.
    pub local_percent: u64,
    /// Sessions that would be in memory, all members together.
    pub sessions: u64,
    /// Sessions from which this follows.
    pub sampled_sessions: u64,
    /// Bytes of their names and values.
    pub bytes: u64,
    /// What would move when one more member joins.
    pub join: WouldMove,
    /// What would move when one member drains.
    pub drain: WouldMove,
}

/// What a scale event would move.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WouldMove {
    /// Sessions.
    pub sessions: u64,
    /// Bytes with the handover, by the policy (`carried`).
    pub now_bytes: u64,
    /// Bytes behind it: streamed, or on first access.
    pub late_bytes: u64,
}

/// The cluster's mode: `GET /api/v1/mode`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ModeStatus {
    /// own, settling (on the way to observe), observe, parking (on the way to own).
    pub mode: String,
    /// What the cluster is or becomes: own or observe.
    pub goal: String,
    /// Grows with each change.
    pub generation: u64,
    /// Sessions that have owners, as far as members have said.
    pub owned_sessions: u64,
    /// While the mode changes: the members that have not confirmed it.
    pub unconfirmed: Vec<String>,
    /// Why the last change was taken back, if it was.
    pub note: String,
}

/// What the upstream has, and lacks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rest {
    /// Whether the upstream answered when it was asked last.
    pub upstream_answers: bool,
    /// Milliseconds by which it is behind, by impact; 0: it has everything.
    pub staleness_ms: std::collections::BTreeMap<String, u64>,
    /// Sessions of which something is due or under way to it.
    pub unwritten_sessions: u64,
    /// Bytes of commands whose effect it lacks, about.
    pub unwritten_bytes: u64,
    /// Sessions that go to rest now, or wait for that.
    pub checking_in: u64,
    /// Sessions that were at rest and became owned here, since the start of the process.
    pub checked_out: u64,
    /// Sessions that went to rest.
    pub checked_in: u64,
    /// Batches that it has taken.
    pub flushes: u64,
    /// Keys that somebody else had written while their session was owned here.
    pub foreign_writes: u64,
}

/// Handovers since the start of the process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Handovers {
    /// Given and committed.
    pub given: u64,
    /// Taken.
    pub taken: u64,
    /// Committed by this node, which is the target's part: the same as taken.
    pub committed: u64,
    /// Given and not committed.
    pub aborted: u64,
    /// Offered and not taken.
    pub refused: u64,
    /// Under way.
    pub in_progress: u64,
    /// Waiting to be given.
    pub queued: u64,
}

/// Bytes of frames sent to other nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bytes {
    /// Handovers up to the moment when the session answers again, manifests included.
    pub eager: u64,
    /// What is fetched after it.
    pub late: u64,
    /// Forwarded operations and everything else.
    pub other: u64,
}

/// One member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Its life.
    pub incarnation: u64,
    /// accepting, cordoned, draining or fenced.
    pub state: String,
    /// Its sessions, if it said so.
    pub sessions: Option<u64>,
    /// Whether it takes other keys for those of sessions than this node (`[state] keys`), as far as it has said.
    #[serde(default)]
    pub other_keys: bool,
}

/// `GET /api/v1/sessions`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sessions {
    /// How many there are.
    pub total: u64,
    /// Some of them.
    pub sessions: Vec<SessionStatus>,
}

/// One session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its keyed hash.
    pub session: String,
    /// open, frozen, ending or resting.
    pub gate: String,
    /// The epoch of its ownership.
    pub epoch: u64,
    /// Redis keys.
    pub keys: u64,
    /// Variables.
    pub variables: u64,
    /// Those that are not here.
    pub missing: u64,
    /// Bytes of names and values here.
    pub bytes: u64,
    /// Handovers that its record depends on.
    pub depends: u64,
}

impl SessionStatus {
    /// Of one resident.
    pub fn of(shown: String, resident: &Resident) -> SessionStatus {
        let gate = match resident.gate {
            Gate::Open => "open",
            Gate::Frozen(_) => "frozen",
            Gate::Ending => "ending",
            Gate::Resting => "resting",
            Gate::Renaming => "renaming",
        };
        let keys = resident.session.keys();
        SessionStatus {
            session: shown,
            gate: gate.to_owned(),
            epoch: resident.location.epoch.0,
            keys: keys.len() as u64,
            variables: keys.iter().map(|k| k.len() as u64).sum(),
            missing: resident.session.missing_count() as u64,
            bytes: resident.session.size_bytes(),
            depends: resident.location.depends.len() as u64,
        }
    }
}

/// `GET /api/v1/moves`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Moves {
    /// Oldest first.
    pub moves: Vec<MoveStatus>,
    /// The number of the latest, for the next `after`.
    pub last: u64,
}

/// The end of a drain: `POST /drain?wait=true`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Drained {
    /// Whether every session has left, and nobody needs anything of here any more.
    pub all_left: bool,
    /// Sessions that are still here.
    pub left_behind: u64,
}

/// What a sidecar prints on its standard output when it ends, behind the word `final`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Final {
    /// The last status.
    #[serde(flatten)]
    pub status: Status,
    /// All moves that it remembers.
    pub moves: Vec<MoveStatus>,
}

/// One side of one move.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MoveStatus {
    /// Its number at this node.
    pub seq: u64,
    /// The handover: joins both sides.
    pub handover: String,
    /// The session's keyed hash.
    pub session: String,
    /// origin or target.
    pub side: String,
    /// When the origin froze it, or the target opened it.
    pub at_unix_us: u64,
    /// committed or aborted.
    pub outcome: String,
}

impl From<Move> for MoveStatus {
    fn from(m: Move) -> MoveStatus {
        let side = match m.side {
            Side::Origin => "origin",
            Side::Target => "target",
        };
        let outcome = match m.outcome {
            MoveOutcome::Committed => "committed",
            MoveOutcome::Aborted => "aborted",
        };
        MoveStatus {
            seq: m.seq,
            handover: m.handover,
            session: m.session,
            side: side.to_owned(),
            at_unix_us: m.at_unix_us,
            outcome: outcome.to_owned(),
        }
    }
}

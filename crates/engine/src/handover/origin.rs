//! The origin of a handover: proposes, pre-copies, freezes, and learns the outcome.
//!
//! ```text
//!  Proposed ──accepted──► PreCopying ──pre-copied──► Preparing ──prepared──► Frozen ──committed──► Gone
//!     │  └──accepted, nothing to copy──────────────────►│                    │  │                  ▲
//!     │ rejected, cancelled, late │ cancelled, late      │ cancelled, late    │  └─late─► Fencing ──┤ found committed
//!     │ not sent                  │ not sent             │                    │promised    │       │
//!     ▼                           ▼                      ▼                    │not sent    │       │
//!  Aborted ◄──────────────────────────────────────────────────────────────────┴────────────┘       │
//!                                                             fence won     Forgotten ◄── found another
//! ```
//! `Preparing` is where *prepared(H)* goes to the in-sync replicas of the origin's group; a group without replicas passes it at
//! once.
//!
//! Invariant: *one owner*: from `Preparing` on nobody answers until the outcome is certain. A read that still shows the old epoch
//! proves nothing, because the commit may be on its way; so an origin in doubt writes a new epoch itself. If that wins, the
//! commit can never succeed; if it is refused, the record says who has the session.

use crate::bugs::{self, Bug};

/// Where the origin is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Proposed; the target has not answered. The session answers here.
    Proposed,
    /// Carried values are on their way. The session answers here.
    PreCopying,
    /// Nobody answers; the group's replicas are told. The stage is not sent yet.
    Preparing,
    /// Nobody answers; the stage is sent.
    Frozen,
    /// Nobody answers; in doubt, a transaction of ours is to decide.
    Fencing,
    /// The target has the session. Ended.
    Gone,
    /// The session stayed. Ended.
    Aborted,
    /// Somebody else has the session, or it is over. Ended.
    Forgotten,
}

/// What happens to the origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The target accepts and lacks carried values.
    Accepted,
    /// The target accepts and has all that is carried.
    AcceptedAll,
    /// The target rejects.
    Rejected,
    /// The target has staged the pre-copy.
    PreCopied,
    /// Every in-sync replica of the group has *prepared(H)*; with none, at once.
    Prepared,
    /// The session cannot leave now (it ends, it is frozen, it is gone).
    Cancelled,
    /// What was to be sent last was not sent and does not arrive. In `Frozen` that is the stage: the target cannot commit.
    NotSent,
    /// The step took longer than it may.
    Late,
    /// The target says that it has committed.
    Committed,
    /// The target has never sent the commit and promises that it never will.
    Promised,
    /// Our fence is in the directory.
    FenceWon,
    /// Our fence was refused: the record carries this handover.
    FoundCommitted,
    /// Our fence was refused: somebody else has the session, or nobody.
    FoundAnother,
    /// The outcome of our fence is unknown.
    FenceUnknown,
}

/// What the origin does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing.
    None,
    /// Send the carried values that the target lacks.
    PreCopy,
    /// Close the gate, make the manifest, tell the replicas.
    Freeze,
    /// Send what changed and the manifest.
    Stage,
    /// Tell the target that nothing comes.
    Abort,
    /// Write a new epoch under the old owner.
    Fence,
    /// The same again, after a pause.
    FenceAgain,
    /// Open the gate under the epoch that it was frozen with.
    Unfreeze,
    /// The same, and tell the target that nothing comes.
    UnfreezeUnsent,
    /// Open the gate under the epoch of the fence, and tell the target.
    UnfreezeFenced,
    /// Turn the session into a residual; parked operations go to the target.
    Leave,
    /// Drop the session: it is not ours.
    Forget,
}

/// The table.
pub fn step(state: State, event: Event) -> (State, Action) {
    use Action as A;
    use Event as E;
    use State as S;
    match (state, event) {
        (S::Proposed, E::Accepted) => (S::PreCopying, A::PreCopy),
        (S::Proposed, E::AcceptedAll) | (S::PreCopying, E::PreCopied) => (S::Preparing, A::Freeze),
        (S::Preparing, E::Prepared) => (S::Frozen, A::Stage),
        (S::Proposed, E::Rejected | E::Promised) | (S::PreCopying, E::Promised) => (S::Aborted, A::None),
        (S::Proposed | S::PreCopying, E::Cancelled | E::NotSent | E::Late) => (S::Aborted, A::Abort),
        // The freeze itself may find that the session cannot leave. The stage was never sent, so the target cannot commit.
        (S::Preparing, E::Cancelled | E::Late) | (S::Frozen, E::NotSent) => (S::Aborted, A::UnfreezeUnsent),
        (S::Preparing, E::Promised) => (S::Aborted, A::Unfreeze),
        (S::Frozen | S::Fencing, E::Committed) | (S::Fencing, E::FoundCommitted) => (S::Gone, A::Leave),
        (S::Frozen, E::Promised) => (S::Aborted, A::Unfreeze),
        (S::Frozen, E::Late) if bugs::on(Bug::AskInsteadOfFence) => (S::Aborted, A::Unfreeze),
        (S::Frozen, E::Late) => (S::Fencing, A::Fence),
        (S::Fencing, E::FenceWon) => (S::Aborted, A::UnfreezeFenced),
        (S::Fencing, E::FoundAnother) => (S::Forgotten, A::Forget),
        (S::Fencing, E::FenceUnknown) => (S::Fencing, A::FenceAgain),
        // A promise during our fence changes nothing: only the fence's outcome tells under which epoch to answer.
        (state, _) => (state, A::None),
    }
}

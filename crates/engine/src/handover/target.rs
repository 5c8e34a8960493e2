//! The target of a handover: accepts, stages, commits, opens.
//!
//! ```text
//!  Accepted ──staged──► Replicating ──replicated──► Committing ──applied, found ours──► Open
//!    │  │                  │                          │  ▲ └unknown┐
//!    │  │ pre-copy         │ aborted, late            │  └─────────┘ (the same transaction again)
//!    │  └─(stays)          ▼                          └──refused──► Refused
//!    └──unfit, aborted, late──► Promised
//! ```
//! `Replicating` is where the stage goes to the in-sync replicas of the target's group; a group without replicas passes it at
//! once.
//!
//! Invariant: *one owner*: it promises never to commit only before it has ever sent the transaction, and it opens only on an
//! outcome that is certain. Sending the transaction twice is harmless: it compares an epoch that is never used again, and a
//! refusal shows by the handover in the record whether the first one happened.

/// Where the target is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Accepted; pre-copy and stage are awaited.
    Accepted,
    /// The stage is complete; the group's replicas get it. The transaction has not been sent.
    Replicating,
    /// The transaction has been sent at least once.
    Committing,
    /// The session is here. Ended.
    Open,
    /// The transaction was refused for good. Ended.
    Refused,
    /// Never committed, and never will. Ended.
    Promised,
}

/// What happens to the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Carried values came ahead.
    PreCopy,
    /// The stage is complete and fits its manifest.
    Staged,
    /// Every in-sync replica of the group holds the stage; with none, at once.
    Replicated,
    /// The stage does not fit its manifest.
    Unfit,
    /// The origin says that nothing comes.
    Aborted,
    /// The stage did not come in time.
    Late,
    /// The commit is in the directory.
    Applied,
    /// The commit was refused, and the record carries this handover: an earlier try of ours had won.
    FoundOurs,
    /// The commit was refused, and can never succeed.
    Refused,
    /// The outcome is unknown.
    Unknown,
}

/// What the target does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing.
    None,
    /// Keep the values and say so.
    Stage,
    /// Give the stage to the group's replicas.
    Replicate,
    /// Send the transaction.
    Commit,
    /// Send it again, after a pause.
    CommitAgain,
    /// Put the session into the table and tell the origin.
    Open,
    /// Drop the stage and promise the origin never to commit.
    Promise,
}

/// The table.
pub fn step(state: State, event: Event) -> (State, Action) {
    use Action as A;
    use Event as E;
    use State as S;
    match (state, event) {
        (S::Accepted, E::PreCopy) => (S::Accepted, A::Stage),
        (S::Accepted, E::Staged) => (S::Replicating, A::Replicate),
        (S::Replicating, E::Replicated) => (S::Committing, A::Commit),
        (S::Accepted | S::Replicating, E::Unfit | E::Aborted | E::Late) => (S::Promised, A::Promise),
        (S::Committing, E::Applied | E::FoundOurs) => (S::Open, A::Open),
        (S::Committing, E::Unknown) => (S::Committing, A::CommitAgain),
        // A refusal is final: the epoch that it compares with is never used again. So the promise can be given.
        (S::Committing, E::Refused) => (S::Refused, A::Promise),
        // Once the transaction is out, neither an abort nor the time changes anything: only the directory knows.
        (state, _) => (state, A::None),
    }
}

//! What nodes say to one another about sessions. Core types; the codec converts them at the edge.
//!
//! No message asks for an answer that must come: each may be lost, late or out of order, and every wait has an end.

use crate::directory::Location;
use crate::ids::{Digest, Epoch, GroupId, HandoverId, RequestId, SessionId};
use crate::rest::debts::Debts;
use crate::session::VariableId;
use crate::session::manifest::{Batch, Manifest};
use bytes::Bytes;

/// Who wants a handover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proposer {
    /// A router or an operator (rebalance).
    Router,
    /// The owner: it drains, or arrivals told it to.
    Origin,
    /// The target.
    Target,
}

/// The profile and the plan in numbers, for the target to accept or reject.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Variables of the session.
    pub variables: u32,
    /// Bytes of their values at the origin.
    pub bytes: u64,
    /// Bytes that the plan carries.
    pub carried_bytes: u64,
    /// Reads and writes so far.
    pub accesses: u32,
}

/// The freeze's message: all that the target needs to commit and open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stage {
    /// The session's record at the origin; the commit compares with its group and epoch.
    pub location: Location,
    /// Since when the origin owns that group.
    pub origin_group_epoch: Epoch,
    /// What the session is.
    pub manifest: Manifest,
    /// Carried values that changed since the pre-copy, or were not in it.
    pub values: Batch,
    /// What the upstream lacks; `None`: sessions are never at rest at the origin.
    pub debts: Option<Debts>,
    /// How often it has followed its clients in vain: see [`crate::residence::arrivals`].
    pub restlessness: u8,
}

/// See the head of this file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Step 1, origin → target.
    Propose {
        /// The handover.
        handover: HandoverId,
        /// Of which session.
        session: SessionId,
        /// Who wanted it.
        proposer: Proposer,
        /// In numbers.
        summary: Summary,
    },
    /// Step 2, target → origin.
    Accept {
        /// The handover.
        handover: HandoverId,
        /// Where the session will live, and since when the target owns that group.
        group: (GroupId, Epoch),
        /// What the target holds of it already.
        have: Vec<(VariableId, Digest)>,
    },
    /// Step 2, target → origin: no, and why.
    Reject {
        /// The handover.
        handover: HandoverId,
        /// The reason.
        reason: Rejection,
    },
    /// Step 3, origin → target.
    PreCopy {
        /// The handover.
        handover: HandoverId,
        /// Carried values.
        values: Batch,
    },
    /// Step 3, target → origin: staged.
    PreCopied {
        /// The handover.
        handover: HandoverId,
    },
    /// Step 5, origin → target.
    Stage {
        /// The handover.
        handover: HandoverId,
        /// Everything for the commit.
        stage: Box<Stage>,
    },
    /// Step 6, target → origin: the commit is in the directory.
    Committed {
        /// The handover.
        handover: HandoverId,
    },
    /// Target → origin: the commit was never sent and never will be, or was refused for good.
    Promised {
        /// The handover.
        handover: HandoverId,
    },
    /// Origin → target: nothing comes.
    Abort {
        /// The handover.
        handover: HandoverId,
    },
    /// Step 7, owner → holder: values of a residual.
    Fetch {
        /// Joins the answer.
        request: RequestId,
        /// Whose residual.
        handover: HandoverId,
        /// Which variables.
        variables: Vec<VariableId>,
    },
    /// Step 7, holder → owner. As many as were asked for, in that order; `None`: the holder has no such value.
    Fetched {
        /// Joins the question.
        request: RequestId,
        /// The values.
        values: Vec<Option<Bytes>>,
    },
    /// Step 8, owner → holder: no location record depends on the handover any more.
    Confirm {
        /// The handover.
        handover: HandoverId,
    },
    /// A client's request of this session has arrived at the sender and is about to run there.
    Arrival {
        /// Which session.
        session: SessionId,
    },
}

/// Why a target says no.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// It does not take sessions (cordoned, draining, a client, no lease).
    NotAccepting,
    /// Another handover of this session is at its commit there.
    Busy,
}

//! What the directory holds and how it is asked: records, transactions, and the trait that every backend implements.
//!
//! It never talks to anything: backends live in `wayfarer-directory`. The machines emit [`Transaction`]s and read
//! [`Placement`]s; they are built so that an outcome that arrives late, twice or never does no harm:
//! every comparison of a location names an epoch, and epochs are never reused.
//!
//! | record | key | changes |
//! |---|---|---|
//! | [`MemberRecord`] | incarnation | register, renew, state, fence, leave |
//! | [`GroupRecord`] | group | register; lost when its owner is fenced or leaves |
//! | [`Location`] | session | birth, handover, fence, settle, end |
//! | [`Mode`] | one of the cluster | [`crate::mode`] |

use crate::ids::{Epoch, GroupId, HandoverId, Incarnation, SessionId};
use crate::mode::{Mode, Phase};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// Whether a member may be given sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberState {
    /// Serves and takes sessions.
    Accepting,
    /// Serves what it has, takes no more (an operator's wish).
    Cordoned,
    /// Leaves: gives everything away.
    Draining,
    /// Declared dead: owns nothing, and its renewals fail for ever.
    Fenced,
}

/// What a member does in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Owns sessions.
    #[default]
    Owner,
    /// Forwards only (a worker, a cron job); never owns.
    Client,
}

/// What a member says of itself when it registers. By default an owner that says nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemberDraft {
    /// The node's name: unique among the living.
    pub name: String,
    /// Where its control channel listens, `host:port`.
    pub control: String,
    /// Failure zone; empty if unknown.
    pub zone: String,
    /// The name of the service.
    pub app_name: String,
    /// The version of the service.
    pub app_version: String,
    /// What it does.
    pub role: Role,
    /// The name that balancers know it by; empty if they are told nothing.
    pub hint: String,
    /// Where it takes requests that other members forward, `host:port`; empty: it takes none.
    pub requests: String,
}

/// A member as the directory has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberRecord {
    /// This life of it.
    pub incarnation: Incarnation,
    /// What it said of itself.
    pub draft: MemberDraft,
    /// Whether it takes sessions.
    pub state: MemberState,
    /// Counts its renewals: a claimant watches it stand still on a clock of its own.
    pub renewals: u64,
    /// The generation of the mode that it has confirmed last; 0: none.
    pub confirmed: u64,
}

/// A group as the directory has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupRecord {
    /// Which one.
    pub group: GroupId,
    /// Its owner; `None`: declared lost with what was in it.
    pub owner: Option<Incarnation>,
    /// When that owner got it.
    pub epoch: Epoch,
}

/// Where a session is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Location {
    /// The group that it lives in.
    pub group: GroupId,
    /// Since which change of ownership.
    pub epoch: Epoch,
    /// The handover that brought it there: each side of a handover learns its outcome from this.
    pub last: Option<HandoverId>,
    /// The handovers whose residuals still hold some of its variables.
    pub depends: Vec<HandoverId>,
}

/// The answer of one linearizable read of a session's location.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Placement {
    /// The record, if there is one.
    pub location: Option<Location>,
    /// The group of that location, from the same snapshot; `None` if the group is unknown.
    pub group: Option<GroupRecord>,
    /// The cluster's mode, from the same snapshot.
    pub mode: Mode,
}

impl Placement {
    /// The incarnation that answers for the session; `None`: nobody, the session does not exist (or no more).
    pub fn owner(&self) -> Option<Incarnation> {
        self.location.as_ref()?;
        self.group?.owner
    }

    /// What a transaction must compare with to replace this placement.
    pub fn key(&self) -> Option<(GroupId, Epoch)> {
        self.location.as_ref().map(|l| (l.group, l.epoch))
    }
}

/// One condition of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compare {
    /// The session's location has this group and epoch; `None`: there is no record.
    Location {
        /// Whose location.
        session: SessionId,
        /// What it must be.
        is: Option<(GroupId, Epoch)>,
    },
    /// The group belongs to this owner since this epoch.
    Group {
        /// Which group.
        group: GroupId,
        /// Its owner must be this one.
        owner: Incarnation,
        /// And since then.
        epoch: Epoch,
    },
    /// The incarnation is registered and not fenced.
    Alive {
        /// Which one.
        incarnation: Incarnation,
    },
    /// The same, and it has not renewed since a claimant saw this count: a fence without proof must not hit a member that was
    /// only late.
    StandsStill {
        /// Which one.
        incarnation: Incarnation,
        /// Its renewals as the claimant saw them.
        renewals: u64,
    },
    /// The mode has this generation: a claim must not succeed after the mode in which it was made has ended.
    Mode {
        /// Which.
        generation: u64,
    },
    /// Every member that is not fenced has confirmed this generation.
    Confirmed {
        /// Which.
        generation: u64,
    },
}

/// The epoch that a write puts into a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextEpoch {
    /// The next one of the counter, taken in the same transaction (one for all writes of it).
    Fresh,
    /// This one (a change that is no change of ownership).
    Keep(Epoch),
}

/// One change of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// Puts a location.
    Place {
        /// Whose location.
        session: SessionId,
        /// Its new group.
        group: GroupId,
        /// Its new epoch.
        epoch: NextEpoch,
        /// The handover that does it.
        last: Option<HandoverId>,
        /// What it depends on from now on.
        depends: Vec<HandoverId>,
    },
    /// Removes a location.
    Forget {
        /// Whose location.
        session: SessionId,
    },
    /// Renews the lease of a member: its `renewals` grow by one.
    Renew {
        /// Which one.
        incarnation: Incarnation,
    },
    /// Changes whether a member takes sessions.
    State {
        /// Which one.
        incarnation: Incarnation,
        /// To what.
        state: MemberState,
    },
    /// Declares a member dead: its state is `Fenced`, and all its groups have no owner any more.
    Fence {
        /// Which one.
        incarnation: Incarnation,
    },
    /// Removes a member that has given everything away; its groups have no owner any more.
    Leave {
        /// Which one.
        incarnation: Incarnation,
    },
    /// A member confirms a generation of the mode; 0 takes its last confirmation back.
    Confirm {
        /// Which one.
        incarnation: Incarnation,
        /// What.
        generation: u64,
    },
    /// Removes the locations in the groups of a member that has no session: what is left of claims that came to nothing.
    Disown {
        /// Which one.
        incarnation: Incarnation,
    },
    /// Changes the mode: the generation grows by one.
    Mode {
        /// To what.
        phase: Phase,
        /// Why, for operators; at most [`crate::mode::NOTE_BYTES_MAX`] bytes.
        note: String,
    },
}

/// All comparisons hold, then all writes happen at once; else nothing does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transaction {
    /// The conditions.
    pub compare: Vec<Compare>,
    /// The changes.
    pub write: Vec<Write>,
}

/// How a transaction ended, when that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It happened. The epoch is the fresh one, or the counter's present value if it asked for none.
    Applied {
        /// See above.
        epoch: Epoch,
    },
    /// A comparison failed and nothing changed. The placement is that of the first session that it compares or places,
    /// from the same snapshot.
    Refused {
        /// See above.
        found: Placement,
    },
}

/// A registration that succeeded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The new life.
    pub incarnation: Incarnation,
    /// Its groups, each with the epoch of its ownership.
    pub groups: Vec<(GroupId, Epoch)>,
}

/// Members, groups and the mode, as a watcher sees them: true a moment ago.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// By incarnation; the fenced ones too, for as long as the directory keeps them.
    pub members: BTreeMap<Incarnation, MemberRecord>,
    /// By group.
    pub groups: BTreeMap<GroupId, GroupRecord>,
    /// The cluster's mode.
    pub mode: Mode,
    /// Why it changed last, for operators.
    pub mode_note: String,
}

impl View {
    /// The members that take sessions, in order of incarnation.
    pub fn accepting(&self) -> impl Iterator<Item = &MemberRecord> {
        self.members.values().filter(|m| m.state == MemberState::Accepting && m.draft.role == Role::Owner)
    }

    /// The members that live, but for this one, in order of incarnation.
    pub fn others(&self, me: Incarnation) -> impl Iterator<Item = &MemberRecord> {
        self.members.values().filter(move |m| m.incarnation != me && m.state != MemberState::Fenced)
    }

    /// Whether this incarnation is gone for good: fenced, or no longer (or not yet) in the directory.
    pub fn is_dead(&self, incarnation: Incarnation) -> bool {
        self.members.get(&incarnation).is_none_or(|m| m.state == MemberState::Fenced)
    }
}

/// Why the directory gave no outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DirectoryError {
    /// It was not asked: nothing has changed and nothing will.
    NotAsked(String),
    /// It may or may not have happened, or may yet happen.
    Unknown(String),
    /// The name is in use by a process that is alive.
    NameTaken(String),
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryError::NotAsked(why) => write!(f, "the directory could not be asked: {why}"),
            DirectoryError::Unknown(why) => write!(f, "the directory did not answer: {why}"),
            DirectoryError::NameTaken(name) => {
                write!(f, "a node named {name:?} is alive in this cluster; give this one another [cluster] node")
            }
        }
    }
}

impl std::error::Error for DirectoryError {}

/// A future of the directory.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, DirectoryError>> + Send + 'a>>;

/// Tells of each new [`View`]. Called from a thread of the backend; must not block.
pub type Watcher = Box<dyn Fn(View) + Send + Sync>;

/// A linearizable store of members, groups and locations.
pub trait Directory: Send + Sync {
    /// Registers a new incarnation with `groups` groups of its own. An earlier incarnation of the same name is fenced in the
    /// same transaction if it is proven dead; if it is not, the answer is [`DirectoryError::NameTaken`].
    fn register(&self, draft: MemberDraft, groups: usize) -> Answer<'_, Registration>;

    /// Performs one transaction.
    fn transact(&self, transaction: Transaction) -> Answer<'_, Outcome>;

    /// One linearizable read.
    fn read(&self, session: SessionId) -> Answer<'_, Placement>;

    /// The present view, linearizable.
    fn view(&self) -> Answer<'_, View>;

    /// Calls `watcher` with the present view, and again after each change of members or groups. One watcher an instance.
    fn watch(&self, watcher: Watcher);

    /// Whether the process behind an incarnation is proven to be gone. `false`: it lives, or nothing is known.
    fn is_proven_dead(&self, incarnation: Incarnation) -> Answer<'_, bool>;
}

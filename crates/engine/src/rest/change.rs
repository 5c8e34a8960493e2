//! What is asked of the upstream and what it answers: loads, and stores of the changes of one session.
//!
//! Plain data. The shell performs each change of a key as one step that the upstream cannot split: it looks at the key's guard
//! (directory, epoch, sequence), compares the key with what was left there last, writes, and notes guard and fingerprint.
//!
//! | answer to a store | the upstream has | then |
//! |---|---|---|
//! | `Written` | the change | |
//! | `WrittenOver` | the change; somebody else's write is gone | counted and named |
//! | `Foreign` | what somebody else wrote; nothing was changed | counted and named, then the whole key is written |
//! | `Vanished` | nothing: the key had expired or was evicted; nothing was changed | the whole key is written |
//! | `Refused` | a newer owner's, or a newer change of this one | nothing: this node is no more the owner |
//! | `Failed` | perhaps some of it: the upstream has answered with an error that concerns this key | the whole key is written, after a pause of its session |
//! | none | nobody knows | the whole key is written, under the next sequence |
//!
//! Invariant: *one owner*: a store that arrives late is refused, whoever sent it: (epoch, sequence) only grows.

use super::content::KeyContent;
use crate::command::Target;
use crate::ids::{Epoch, SessionId};
use bytes::Bytes;

/// One key of a load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadedKey {
    /// Its full name, layout and label.
    pub target: Target,
    /// What is there; `None`: nothing.
    pub content: Option<KeyContent>,
    /// Milliseconds since 1970, or never.
    pub expires_at_ms: Option<u64>,
}

/// How a load ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Loaded {
    /// These keys were looked for, and are guarded for this owner from now on.
    Keys(Vec<LoadedKey>),
    /// A newer owner has a guard there.
    Refused,
    /// Something is there that cannot be served: another type, or beyond the limits.
    Unfit,
    /// The upstream did not answer.
    Unknown,
}

/// What to do with one key.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// Replace it.
    Whole(KeyContent),
    /// Replace a hash, but for fields that are lost here: what the upstream has of those is the best there is.
    Merge {
        /// All that are here.
        set: Vec<(Bytes, Bytes)>,
        /// To leave as they are.
        keep: Vec<Bytes>,
    },
    /// Set some of its parts, remove others.
    Fields {
        /// New or changed.
        set: Vec<(Bytes, Bytes)>,
        /// To remove.
        gone: Vec<Bytes>,
    },
    /// Only its expiry.
    Expiry,
    /// Remove it.
    Gone,
}

impl std::fmt::Debug for KeyChange {
    // Names of fields and values stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeyChange::Whole(content) => write!(f, "Whole({content:?})"),
            KeyChange::Merge { set, keep } => write!(f, "Merge({} set, {} kept)", set.len(), keep.len()),
            KeyChange::Fields { set, gone } => write!(f, "Fields({} set, {} gone)", set.len(), gone.len()),
            KeyChange::Expiry => f.write_str("Expiry"),
            KeyChange::Gone => f.write_str("Gone"),
        }
    }
}

/// One key of a store.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyStore {
    /// Its full name.
    pub key: Bytes,
    /// What to do.
    pub change: KeyChange,
    /// Its expiry after that: milliseconds since 1970, or never.
    pub expires_at_ms: Option<u64>,
}

impl std::fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyStore({} B, {:?})", self.key.len(), self.change)
    }
}

/// The changes of one session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The owner's epoch.
    pub epoch: Epoch,
    /// Counts the batches under that epoch.
    pub sequence: u64,
    /// By key; those that write stand before those that remove.
    pub keys: Vec<KeyStore>,
}

/// A key that goes from one session to another: both changes, or neither. It is refused as a whole if either guard is of a later
/// owner or batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swap {
    /// The session that it leaves.
    pub from: SessionId,
    /// Its batch: of one key, which is removed.
    pub removal: Batch,
    /// The session that gets it.
    pub to: SessionId,
    /// Its batch: of one key, which is written whole.
    pub arrival: Batch,
}

/// How the store of one key ended; see the table above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the table at the head of this file says what each means")]
pub enum Stored {
    Written,
    WrittenOver,
    Foreign,
    Vanished,
    Refused,
    Failed,
}

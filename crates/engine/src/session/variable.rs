//! The vocabulary of variables: layouts, classes, kinds, and where a value is.
//!
//! Plain values without behaviour. [`super::Session`] makes and changes them; plans and manifests speak of them.

use crate::ids::{Digest, HandoverId, Version};
use bytes::Bytes;

/// How the value of a key is divided into variables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Layout {
    /// A Redis hash; a field is a variable.
    Hash,
    /// A Redis string; the key is the variable.
    Key,
    /// A Redis string with a JSON object; a top-level member is a variable.
    Json,
    /// A Redis string with a MessagePack map; a top-level member is a variable.
    Msgpack,
    /// A Redis string with a session of PHP, or a serialized array; a top-level entry is a variable.
    Php,
    /// A Redis string that nothing is known about; one variable.
    Opaque,
}

impl Layout {
    /// Whether the value of a string is divided into members where it can be.
    pub fn is_divided(self) -> bool {
        matches!(self, Layout::Json | Layout::Msgpack | Layout::Php)
    }
}

/// What happens to a variable in a move (design: *class*).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Class {
    /// Crosses with the handover, before the session answers at its new place.
    Carried,
    /// Follows at once, behind the handover.
    Streamed,
    /// Crosses on first access (or at low rate, if policy lets it trickle).
    Deferred,
    /// Does not cross; gone after the move, because policy says so.
    Dropped,
}

/// The Redis type of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// A byte string.
    String,
    /// A hash.
    Hash,
    /// A set: each member names a variable without a value.
    Set,
    /// A sorted set: each member names a variable whose value is its score, the 64 bits of a float, big end first.
    SortedSet,
    /// A list: each element is a variable named by its place among the others, [`super::lists::PLACE_BYTES`] with the big end
    /// first.
    List,
}

impl Kind {
    /// As `TYPE` says it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Hash => "hash",
            Kind::Set => "set",
            Kind::SortedSet => "zset",
            Kind::List => "list",
        }
    }
}

/// A variable whose value is with another node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remote {
    /// The residual that holds it.
    pub handover: HandoverId,
    /// Its size in bytes.
    pub size: u64,
    /// What its value must hash to.
    pub digest: Digest,
    /// Whether it streams or waits for its first access.
    pub class: Class,
}

/// Where the value of a variable is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// Here.
    Here(Bytes),
    /// In the residual of a handover.
    Elsewhere(Box<Remote>),
    /// Its holder is gone for good: reads follow `on_lost`, an overwrite cures it.
    Lost,
}

impl Content {
    /// The size of the value in bytes, wherever it is; 0 if it is lost.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Content::Here(value) => value.len() as u64,
            Content::Elsewhere(remote) => remote.size,
            Content::Lost => 0,
        }
    }
}

/// How often a variable was used, for the profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// Reads of its value, saturating.
    pub reads: u16,
    /// Writes of its value, saturating.
    pub writes: u16,
}

/// One variable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Variable {
    /// Its value or where that is.
    pub content: Content,
    /// Changes with each write of another value.
    pub version: Version,
    /// Its use.
    pub access: Access,
}

/// Names a variable within its session.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariableId {
    /// The Redis key.
    pub key: Bytes,
    /// The name within the key; see the table above.
    pub name: Bytes,
}

impl std::fmt::Debug for VariableId {
    // A key contains the session id, and a field may be anything: neither belongs into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VariableId({} B, {} B)", self.key.len(), self.name.len())
    }
}

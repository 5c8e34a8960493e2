//! A key's value as the upstream has it: by Redis type, whole or as a difference. One arm a kind, in both directions.
//!
//! It never looks at an expiry and never at what is elsewhere: whoever asks has looked. Used by [`super::copy`] for stores and by
//! the check-out for loads.
//!
//! Invariant: *any byte string is a value*: what is loaded is byte for byte what was stored.

use super::change::KeyChange;
use crate::session::lists::End;
use crate::session::{Content, Key, Kind, Layout, Session};
use bytes::{Bytes, BytesMut};

/// The whole value of a key.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyContent {
    /// A string.
    String(Bytes),
    /// A hash: fields with their values, none twice.
    Hash(Vec<(Bytes, Bytes)>),
    /// A set: members, none twice.
    Set(Vec<Bytes>),
    /// A sorted set: members with their scores, the 64 bits of a float, big end first.
    SortedSet(Vec<(Bytes, Bytes)>),
    /// A list, from its head.
    List(Vec<Bytes>),
}

impl std::fmt::Debug for KeyContent {
    // Values stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeyContent::String(value) => write!(f, "String({} B)", value.len()),
            KeyContent::Hash(parts) | KeyContent::SortedSet(parts) => write!(f, "{:?}({} parts)", self.kind(), parts.len()),
            KeyContent::Set(parts) | KeyContent::List(parts) => write!(f, "{:?}({} parts)", self.kind(), parts.len()),
        }
    }
}

impl KeyContent {
    /// The value of a key, with the parts that are here. A string with a part that is lost has none; a list has its other elements,
    /// for what was added to it since must arrive.
    pub(crate) fn of(key: &Key) -> Option<KeyContent> {
        let here = key.variables().filter_map(|(name, v)| match &v.content {
            Content::Here(value) => Some((name, value)),
            Content::Elsewhere(_) | Content::Lost => None,
        });
        match key.kind {
            Kind::String => {
                let mut joined = BytesMut::new();
                let mut parts = 0;
                for (_, value) in here {
                    joined.extend_from_slice(value);
                    parts += 1;
                }
                (parts == key.len()).then(|| KeyContent::String(joined.freeze()))
            }
            Kind::Hash => Some(KeyContent::Hash(here.map(|(name, value)| (name.clone(), value.clone())).collect())),
            Kind::Set => Some(KeyContent::Set(here.map(|(name, _)| name.clone()).collect())),
            Kind::SortedSet => Some(KeyContent::SortedSet(here.map(|(name, value)| (name.clone(), value.clone())).collect())),
            Kind::List => {
                let elements: Vec<Bytes> = here.map(|(_, value)| value.clone()).collect();
                let is_elsewhere = key.variables().any(|(_, v)| matches!(v.content, Content::Elsewhere(_)));
                (!is_elsewhere && !elements.is_empty()).then_some(KeyContent::List(elements))
            }
        }
    }

    /// Puts it into a session that has no key of this name. `layout` and `label` are those of the key's pattern.
    pub fn load(self, session: &mut Session, name: &Bytes, layout: Layout, label: &[u8], expires_at_ms: Option<u64>) {
        match self {
            KeyContent::String(value) => {
                session.write_string(name, layout, label, value);
            }
            KeyContent::Hash(fields) => {
                for (field, value) in fields {
                    session.write_field(name, &field, value, 0);
                }
            }
            KeyContent::Set(members) => {
                for member in members {
                    session.write_member(name, Kind::Set, &member, b"", 0);
                }
            }
            KeyContent::SortedSet(members) => {
                for (member, score) in members {
                    session.write_member(name, Kind::SortedSet, &member, &score, 0);
                }
            }
            KeyContent::List(elements) => {
                for element in elements {
                    session.push_element(name, End::Right, element, 0);
                }
            }
        }
        if let Some(key) = session.key_mut(name, 0) {
            key.expires_at_ms = expires_at_ms;
        }
    }

    /// Its Redis type.
    pub fn kind(&self) -> Kind {
        match self {
            KeyContent::String(_) => Kind::String,
            KeyContent::Hash(_) => Kind::Hash,
            KeyContent::Set(_) => Kind::Set,
            KeyContent::SortedSet(_) => Kind::SortedSet,
            KeyContent::List(_) => Kind::List,
        }
    }
}

/// Whether a key of this kind can be written by its changed variables alone; else it is written whole.
pub(super) fn has_parts(kind: Kind) -> bool {
    match kind {
        Kind::Hash => true,
        Kind::String | Kind::Set | Kind::SortedSet | Kind::List => false,
    }
}

/// The difference between a key and what the upstream has: variables that are newer, names that are gone.
pub(super) fn difference(key: &Key, is_newer: impl Fn(&Bytes) -> bool, gone: Vec<Bytes>) -> KeyChange {
    let mut set = Vec::new();
    for (name, variable) in key.variables().filter(|(name, _)| is_newer(name)) {
        if let Content::Here(value) = &variable.content {
            set.push((name.clone(), value.clone()));
        }
    }
    KeyChange::Fields { set, gone }
}

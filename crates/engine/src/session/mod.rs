//! A session: the keys and variables of one client, with versions, expiry and what is still elsewhere.
//!
//! It never decides who owns it, never reads a clock and never talks RESP: [`crate::command`] executes commands on it, the
//! handover machines take [`manifest::Manifest`]s of it. All changes of variables pass through [`Session`], so that versions
//! grow and the count of missing variables is right.
//!
//! A key holds an ordered list of named variables ([`fields::Fields`]), whatever its Redis type:
//!
//! | layout | Redis type | variables | value of the key |
//! |---|---|---|---|
//! | `hash` | hash | one a field, named by the field | the fields |
//! | `key`, `opaque` | string | one, named by the pattern | that variable |
//! | any | set, sorted set | one a member, named by it; its value is empty or the score | the members |
//! | any | list | one an element, named by its place | the elements, in order |
//! | `json`, `msgpack`, `php` | string | one a top-level member, and the skeleton around them ([`layout`]) | the concatenation |
//! | – where it cannot be divided | string | one, named by the pattern | that variable |
//!
//! Invariant: *any byte string is a value*: a key reads back as the bytes that were written, and never with a part missing
//! (a part that is elsewhere makes the read answer [`Missing`] instead).

mod absent;
pub mod fields;
mod keys;
pub mod layout;
pub mod lists;
pub mod manifest;
mod members;
mod name;
mod packed;
pub mod residual;
mod rewrite;
mod variable;

pub use name::Name;
pub use packed::{BYTES_MAX as PACKED_BYTES_MAX, ENTRIES_MAX as PACKED_ENTRIES_MAX};
pub use variable::{Access, Class, Content, Kind, Layout, Remote, Variable, VariableId};

use crate::ids::Version;
pub use absent::Absent;
use bytes::{Bytes, BytesMut};
use fields::Fields;
pub use fields::Shown;
use keys::Keys;

/// What a session takes beside its keys, about.
const SESSION_BYTES: u64 = 400;
/// What a key takes beside its name and variables, about.
const KEY_BYTES: u64 = 160;

/// What a read needs and the session does not have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missing {
    /// These variables must be fetched first.
    Fetch(Vec<VariableId>),
    /// At least one of them is lost for good.
    Lost,
}

/// One Redis key of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// The full name, as the client says it.
    pub name: Name,
    /// How it is divided.
    pub layout: Layout,
    /// Its Redis type.
    pub kind: Kind,
    /// The last millisecond since 1970 in which it exists, as in Redis; `None`: for ever.
    pub expires_at_ms: Option<u64>,
    /// Its variables. Never empty: a hash without fields does not exist, nor does a set or a list without elements.
    pub(crate) fields: Fields,
}

impl Key {
    /// Its variables in order.
    pub fn variables(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Variable)> {
        self.fields.iter()
    }

    /// One of them by its name.
    pub fn variable(&self, name: &[u8]) -> Option<&Variable> {
        self.fields.get(name)
    }

    /// Whether it has this variable, wherever its value is.
    pub fn has(&self, name: &[u8]) -> bool {
        self.fields.contains(name)
    }

    /// The size of the value of a variable, wherever it is.
    pub fn size_of(&self, name: &[u8]) -> Option<u64> {
        self.fields.size_of(name)
    }

    /// The sizes of all values together, wherever they are.
    pub fn sizes(&self) -> u64 {
        self.fields.sizes()
    }

    /// How many variables it has; for all but a string that is the number of its elements.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Never true for a key within a session.
    pub fn is_empty(&self) -> bool {
        self.fields.len() == 0
    }

    /// Whether the key has expired at `unix_ms`.
    pub fn is_expired(&self, unix_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at < unix_ms)
    }

    /// What of it is not here. `None`: everything is.
    fn missing(&self, only: Option<&[u8]>) -> Option<Missing> {
        if self.fields.is_packed() {
            return None;
        }
        let mut fetch = Vec::new();
        for (name, variable) in self.fields.iter().filter(|(n, _)| only.is_none_or(|o| o == n.as_ref())) {
            match variable.content {
                Content::Here(_) => {}
                Content::Elsewhere(_) => fetch.push(VariableId { key: self.name.to_bytes(), name: name.clone() }),
                Content::Lost => return Some(Missing::Lost),
            }
        }
        if fetch.is_empty() { None } else { Some(Missing::Fetch(fetch)) }
    }
}

/// All variables of one client's session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Session {
    keys: Keys,
    last_version: Version,
    missing: usize,
}

impl Session {
    /// A session without keys, whose first change gets a version above `after`.
    pub fn new(after: Version) -> Session {
        Session { keys: Keys::default(), last_version: after, missing: 0 }
    }

    /// Whether no key is left: such a session ends.
    pub fn is_empty(&self) -> bool {
        self.keys.list().is_empty()
    }

    /// Its keys; a few are in order of creation.
    pub fn keys(&self) -> &[Key] {
        self.keys.list()
    }

    /// The version that was given last.
    pub fn last_version(&self) -> Version {
        self.last_version
    }

    /// How many variables are not here (elsewhere or lost). 0 on the hot path.
    pub fn missing_count(&self) -> usize {
        self.missing
    }

    /// Bytes of names and values that are here.
    pub fn size_bytes(&self) -> u64 {
        self.keys().iter().map(|k| k.name.len() as u64 + k.fields.bytes_here()).sum()
    }

    /// What it takes of memory, about, with its place in a table.
    pub fn memory_bytes(&self) -> u64 {
        let of_key = |key: &Key| KEY_BYTES + key.name.len() as u64 + key.fields.memory_bytes();
        SESSION_BYTES + self.keys().iter().map(of_key).sum::<u64>()
    }

    /// The key of this name; one that has expired by `unix_ms` does not exist.
    pub fn key(&self, name: &[u8], unix_ms: u64) -> Option<&Key> {
        self.held(name).filter(|k| !k.is_expired(unix_ms))
    }

    /// The key of this name, even if its time has come.
    pub fn held(&self, name: &[u8]) -> Option<&Key> {
        self.keys.get(name)
    }

    /// The same, for a change of its expiry; variables are changed through the session only.
    pub fn key_mut(&mut self, name: &[u8], unix_ms: u64) -> Option<&mut Key> {
        let at = self.living(name, unix_ms)?;
        self.keys.show(at)
    }

    /// The same, for a change of its variables alone.
    fn content_mut(&mut self, name: &[u8], unix_ms: u64) -> Option<&mut Key> {
        let at = self.living(name, unix_ms)?;
        self.keys.at_mut(at)
    }

    /// Where the key of this name is, if its time has not come.
    fn living(&self, name: &[u8], unix_ms: u64) -> Option<usize> {
        let at = self.keys.position(name)?;
        self.keys().get(at).filter(|key| !key.is_expired(unix_ms)).map(|_| at)
    }

    /// Removes what has expired; the names of the keys that went.
    pub fn expire(&mut self, unix_ms: u64) -> Vec<Bytes> {
        let (missing, mut gone) = (&mut self.missing, Vec::new());
        self.keys.retain(|k| {
            let keep = !k.is_expired(unix_ms);
            if !keep {
                *missing -= count_missing(k);
                gone.push(k.name.to_bytes());
            }
            keep
        });
        gone
    }

    /// When the next key expires, in ms since 1970.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.keys.next_expiry_ms()
    }

    /// Removes a key; true if it existed. Needs nothing that is elsewhere.
    pub fn remove(&mut self, name: &[u8], unix_ms: u64) -> bool {
        let Some(key) = self.keys.position(name).and_then(|at| self.keys.take(at)) else { return false };
        self.missing -= count_missing(&key);
        !key.is_expired(unix_ms)
    }

    /// What is missing of the whole value of a key, or of one variable of it.
    pub fn missing_of(&self, key: &[u8], variable: Option<&[u8]>) -> Option<Missing> {
        if self.missing == 0 {
            return None;
        }
        self.held(key)?.missing(variable)
    }

    /// The whole value of a string key. The caller has looked for what is missing, and for the kind; what is not a string or
    /// not here reads as `None`.
    pub fn read_string(&mut self, name: &[u8], unix_ms: u64) -> Option<Bytes> {
        let key = self.content_mut(name, unix_ms).filter(|k| k.kind == Kind::String)?;
        if !key.fields.is_packed()
            && key.fields.len() == 1
            && let Some(variable) = key.fields.at_mut(0)
        {
            // A large value is shared, not copied.
            variable.access.reads = variable.access.reads.saturating_add(1);
            return if let Content::Here(value) = &variable.content { Some(value.clone()) } else { None };
        }
        let (mut joined, mut whole) = (BytesMut::new(), true);
        key.fields.read_each(|_, value| match value {
            Some(value) => joined.extend_from_slice(value.bytes()),
            None => whole = false,
        });
        whole.then(|| joined.freeze())
    }

    /// Shows the whole value of a string key under the same conditions; counts the read.
    pub fn show_string<R>(&mut self, name: &[u8], unix_ms: u64, show: impl FnOnce(Shown<'_>) -> R) -> Option<R> {
        let key = self.content_mut(name, unix_ms).filter(|k| k.kind == Kind::String)?;
        if key.fields.len() != 1 {
            return self.read_string(name, unix_ms).map(|value| show(Shown::Whole(&value)));
        }
        let (mut show, mut shown) = (Some(show), None);
        key.fields.read_each(|_, value| shown = value.and_then(|value| show.take().map(|show| show(value))));
        shown
    }

    /// The value of a hash field, under the same conditions; counts the read.
    pub fn read_field(&mut self, name: &[u8], field: &[u8], unix_ms: u64) -> Option<Bytes> {
        self.show_field(name, field, unix_ms, |value| value.map(|value| Bytes::copy_from_slice(value.bytes()))).flatten()
    }

    /// Shows the value of a hash field if it is here, and counts the read; `None`: there is no such field.
    pub fn show_field<R>(
        &mut self,
        name: &[u8],
        field: &[u8],
        unix_ms: u64,
        show: impl FnOnce(Option<Shown<'_>>) -> R,
    ) -> Option<R> {
        self.content_mut(name, unix_ms).filter(|k| k.kind == Kind::Hash)?.fields.read(field, show)
    }

    /// Shows every field of a hash in order, with its value if that is here; counts the reads.
    pub fn read_hash(&mut self, name: &[u8], unix_ms: u64, each: impl FnMut(&[u8], Option<Shown<'_>>)) {
        if let Some(key) = self.content_mut(name, unix_ms).filter(|k| k.kind == Kind::Hash) {
            key.fields.read_each(each);
        }
    }

    /// Writes a field of a hash, making the hash if there is none. True if the field is new. The caller has looked that no
    /// living key of another type has the name.
    pub fn write_field(&mut self, name: &[u8], field: &[u8], value: impl AsRef<[u8]>, unix_ms: u64) -> bool {
        self.write_member(name, Kind::Hash, field, value.as_ref(), unix_ms)
    }

    /// Removes a field or a member; true if it existed. The key goes with its last one. A string has none.
    pub fn remove_field(&mut self, name: &[u8], field: &[u8], unix_ms: u64) -> bool {
        let Some(key) = self.content_mut(name, unix_ms).filter(|k| k.kind != Kind::String) else { return false };
        let Some(variable) = key.fields.remove(field) else { return false };
        let emptied = key.is_empty();
        if !matches!(variable.content, Content::Here(_)) {
            self.missing -= 1;
        }
        if emptied {
            self.remove(name, unix_ms);
        }
        true
    }

    /// The variable of this name, wherever its value is.
    pub fn variable(&self, id: &VariableId) -> Option<&Variable> {
        self.held(&id.key)?.fields.get(&id.name)
    }

    /// Changes where a missing variable is: a fetched value, or `Lost`. Does nothing to one that is here. The version stays:
    /// it is the same value.
    pub(crate) fn resolve(&mut self, id: &VariableId, content: Content) -> bool {
        let found = self.keys.position(&id.key).and_then(|at| self.keys.at_mut(at));
        let Some(key) = found.filter(|k| !k.fields.is_packed()) else { return false };
        let Some(variable) = key.fields.get_mut(&id.name) else { return false };
        if matches!(variable.content, Content::Here(_)) {
            return false;
        }
        let arrived = matches!(content, Content::Here(_));
        variable.content = content;
        if arrived {
            self.missing -= 1;
            if matches!(key.kind, Kind::Hash | Kind::String) {
                key.fields.tighten();
            }
        }
        true
    }

    /// Adds a key as a manifest describes it.
    pub(crate) fn adopt(&mut self, key: Key) {
        self.missing += count_missing(&key);
        self.keys.push(key);
    }

    /// Makes sure that the version given last is above `before`: so a change that gave none, such as a removal or another
    /// expiry, is told from no change.
    pub(crate) fn advance_beyond(&mut self, before: Version) {
        if self.last_version == before {
            self.next_version();
        }
    }

    fn next_version(&mut self) -> Version {
        self.last_version = Version(self.last_version.0 + 1);
        self.last_version
    }
}

fn count_missing(key: &Key) -> usize {
    if key.fields.is_packed() { 0 } else { key.variables().filter(|(_, v)| !matches!(v.content, Content::Here(_))).count() }
}

#[cfg(test)]
mod tests;

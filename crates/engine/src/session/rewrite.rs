//! The writing of a whole string: what of it is new, and what stays as it was.
//!
//! It never reads a value that is elsewhere and never asks for one: a digest tells whether it is the same. Commands call it.
//!
//! | a piece of the new value | its variable |
//! |---|---|
//! | has the bytes that the variable of its name has here, or that its digest describes elsewhere | keeps its version: a touch |
//! | anything else | a new version |
//! | part of the skeleton, when members came, went or changed places | a new version: they are its content too |
//!
//! Invariant: all that is stored is of the new value. Nothing keeps the old one in memory, and nothing is elsewhere afterwards.

use super::{Content, Fields, Key, Kind, Layout, Name, Session, Variable, count_missing, layout};
use crate::ids::{Digest, Version};
use bytes::Bytes;

impl Session {
    /// Writes a whole string. What was under the name, of whatever type, is replaced; the expiry is set by the caller through
    /// [`Session::key_mut`] and starts as `None`. `label` names the variable of a value that is not divided. Returns whether any
    /// variable has a new version.
    pub fn write_string(&mut self, name: &[u8], layout: Layout, label: &[u8], value: Bytes) -> bool {
        if let Some(changed) = self.rewrite_whole(name, layout, label, &value) {
            return changed;
        }
        let pieces = match layout::split(layout, &value) {
            Some(split) => split.pieces,
            None => vec![(Bytes::copy_from_slice(label), value)],
        };
        let mut old = match self.keys.position(name).and_then(|at| self.keys.take(at)) {
            Some(key) => {
                self.missing -= count_missing(&key);
                if key.kind == Kind::String { key.fields } else { Fields::default() }
            }
            None => Fields::default(),
        };
        let mut reshaped = !old.iter().map(|(name, _)| name).eq(pieces.iter().map(|(name, _)| name));
        let mut changed = reshaped;
        let mut fields = Fields::default();
        for (name, bytes) in pieces {
            let before = old.remove(&name);
            let same = before.as_ref().is_some_and(|v| is_same(&v.content, &bytes));
            let keeps = same && !(reshaped && layout::is_skeleton(&name));
            let (version, mut access) = match before {
                Some(variable) if keeps => (variable.version, variable.access),
                other => (self.next_version(), other.map(|v| v.access).unwrap_or_default()),
            };
            if layout::is_skeleton(&name) {
                // One part of the skeleton is enough to show that the members are others.
                reshaped = false;
            }
            if !keeps {
                changed = true;
                access.writes = access.writes.saturating_add(1);
            }
            fields.insert(name, Variable { content: Content::Here(bytes), version, access });
        }
        if let (false, Some(first)) = (changed, fields.at_mut(0)) {
            // A touch counts as one write of the value: whoever watches the key sees it, as in Redis.
            first.access.writes = first.access.writes.saturating_add(1);
        }
        self.keys.push(Key { name: Name::copy_of(name), layout, kind: Kind::String, expires_at_ms: None, fields });
        changed
    }
}

impl Session {
    /// The same where one value that is not divided replaces another: in its place. `None`: another case.
    fn rewrite_whole(&mut self, name: &[u8], layout: Layout, label: &[u8], value: &[u8]) -> Option<bool> {
        let version = Version(self.last_version.0 + 1);
        let at = self.keys.position(name)?;
        let key = self.keys().get(at).filter(|k| k.kind == Kind::String)?;
        if layout.is_divided() || key.layout.is_divided() || !key.fields.is_packed() {
            return None;
        }
        let (same, before) = key.fields.same(label, value)?;
        let key = self.keys.show(at)?;
        (key.layout, key.expires_at_ms) = (layout, None);
        // A touch counts as a write too: whoever watches the key sees it, as in Redis.
        key.fields.put(label, value, if same { before } else { version });
        if !same {
            self.last_version = version;
        }
        Some(!same)
    }
}

/// Whether a variable has these bytes, wherever they are.
fn is_same(content: &Content, bytes: &Bytes) -> bool {
    match content {
        Content::Here(here) => here == bytes,
        Content::Elsewhere(remote) => u64::try_from(bytes.len()) == Ok(remote.size) && remote.digest == Digest::of(bytes),
        Content::Lost => false,
    }
}

//! The manifest of a handover: name, type, expiry, version, size, digest and holder of every variable of a session.
//!
//! It never leaves a variable out (but those that policy drops) and never decides a class: the plan does. Made by the origin at
//! the freeze, opened by the target at the commit.
//!
//! | held | when | what crosses in the manifest |
//! |---|---|---|
//! | `Inline` | the value is no longer than what would describe it | the value |
//! | `Staged` | carried | digest and size; the value is in the stage |
//! | `At` | streamed, deferred, or held by an earlier handover | digest, size, class and handover |
//! | `Lost` | its holder is gone for good | nothing |
//!
//! Invariant: *never wrong data*: a session opens only if each staged value has the digest that the manifest says.

use super::{Access, Class, Content, Key, Kind, Layout, Remote, Session, Variable, VariableId, fields::Fields};
use crate::ids::{Digest, HandoverId, Version};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// A value up to this long travels in the manifest: a digest, a size and a handover would be no shorter.
pub const INLINE_BYTES_MAX: usize = 48;

/// Who has the value of a variable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Held {
    /// The manifest itself.
    Inline(Bytes),
    /// The stage of this handover.
    Staged {
        /// Size in bytes.
        size: u64,
        /// What it must hash to.
        digest: Digest,
    },
    /// A residual: of this handover or of an earlier one.
    At(Remote),
    /// Nobody.
    Lost,
}

/// One variable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name within the key.
    pub name: Bytes,
    /// Its version.
    pub version: Version,
    /// Its use so far.
    pub access: Access,
    /// Who has it.
    pub held: Held,
}

/// One Redis key with all its variables; their number is the number of entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestKey {
    /// The full name.
    pub name: Bytes,
    /// How it is divided.
    pub layout: Layout,
    /// Its Redis type.
    pub kind: Kind,
    /// Milliseconds since 1970, or never.
    pub expires_at_ms: Option<u64>,
    /// Its variables in order.
    pub entries: Vec<Entry>,
}

/// See the head of this file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Manifest {
    /// The session's last version: the target goes on above it.
    pub last_version: Version,
    /// All keys.
    pub keys: Vec<ManifestKey>,
}

/// Why a manifest and a stage do not make a session. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// A carried value did not arrive.
    Absent,
    /// A carried value is not the one that the manifest describes.
    Differs,
    /// The manifest has a key without variables, or two of one name.
    Malformed,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unfit::Absent => "a carried value did not arrive",
            Unfit::Differs => "a carried value does not match its digest",
            Unfit::Malformed => "the manifest is malformed",
        })
    }
}

impl Manifest {
    /// Describes `session` for `handover`. `class` gives the class of a variable whose value is here; `digest` gives the
    /// digest of a value, so that the caller can reuse what it has computed before the freeze.
    pub fn of(
        session: &Session,
        handover: HandoverId,
        class: impl Fn(&Key, &Bytes) -> Class,
        mut digest: impl FnMut(&VariableId, Version, &Bytes) -> Digest,
    ) -> Manifest {
        let mut keys = Vec::with_capacity(session.keys().len());
        for key in session.keys() {
            let mut entries = Vec::with_capacity(key.len());
            for (name, variable) in key.variables() {
                let held = match &variable.content {
                    Content::Elsewhere(remote) => Held::At((**remote).clone()),
                    Content::Lost => Held::Lost,
                    Content::Here(value) => {
                        let class = class(key, name);
                        if class == Class::Dropped {
                            continue;
                        }
                        if value.len() <= INLINE_BYTES_MAX {
                            Held::Inline(value.clone())
                        } else {
                            let id = VariableId { key: key.name.clone(), name: name.clone() };
                            let digest = digest(&id, variable.version, value);
                            let size = value.len() as u64;
                            match class {
                                Class::Carried => Held::Staged { size, digest },
                                class => Held::At(Remote { handover, size, digest, class }),
                            }
                        }
                    }
                };
                entries.push(Entry { name: name.clone(), version: variable.version, access: variable.access, held });
            }
            if !entries.is_empty() {
                let (name, expires_at_ms) = (key.name.clone(), key.expires_at_ms);
                keys.push(ManifestKey { name, layout: key.layout, kind: key.kind, expires_at_ms, entries });
            }
        }
        Manifest { last_version: session.last_version(), keys }
    }

    /// The handovers whose residuals still hold something of it.
    pub fn depends(&self) -> Vec<HandoverId> {
        let mut found = BTreeSet::new();
        for entry in self.keys.iter().flat_map(|k| &k.entries) {
            if let Held::At(remote) = &entry.held {
                found.insert(remote.handover);
            }
        }
        found.into_iter().collect()
    }

    /// Makes the session that it describes. `staged` has the carried values.
    pub fn open(&self, staged: &HashMap<VariableId, Bytes>) -> Result<Session, Unfit> {
        let mut session = Session::new(self.last_version);
        for key in &self.keys {
            if key.entries.is_empty() || session.keys().iter().any(|k| k.name == key.name) {
                return Err(Unfit::Malformed);
            }
            let mut fields = Fields::default();
            for entry in &key.entries {
                let content = match &entry.held {
                    Held::Inline(value) => Content::Here(value.clone()),
                    Held::At(remote) => Content::Elsewhere(Box::new(remote.clone())),
                    Held::Lost => Content::Lost,
                    Held::Staged { size, digest } => {
                        let id = VariableId { key: key.name.clone(), name: entry.name.clone() };
                        let value = staged.get(&id).ok_or(Unfit::Absent)?;
                        if value.len() as u64 != *size || Digest::of(value) != *digest {
                            return Err(Unfit::Differs);
                        }
                        Content::Here(value.clone())
                    }
                };
                fields.insert(entry.name.clone(), Variable { content, version: entry.version, access: entry.access });
            }
            if fields.len() != key.entries.len() {
                return Err(Unfit::Malformed);
            }
            let (name, expires_at_ms) = (key.name.clone(), key.expires_at_ms);
            session.adopt(Key { name, layout: key.layout, kind: key.kind, expires_at_ms, fields });
        }
        Ok(session)
    }
}

/// Values of variables, by key so that its name crosses once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch(pub Vec<(Bytes, Vec<(Bytes, Bytes)>)>);

impl Batch {
    /// Adds one value.
    pub fn push(&mut self, id: VariableId, value: Bytes) {
        match self.0.last_mut() {
            Some((key, values)) if *key == id.key => values.push((id.name, value)),
            _ => self.0.push((id.key, vec![(id.name, value)])),
        }
    }

    /// Whether it has no value.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts all values into a map.
    pub fn unpack_into(self, map: &mut HashMap<VariableId, Bytes>) {
        for (key, values) in self.0 {
            map.extend(values.into_iter().map(|(name, value)| (VariableId { key: key.clone(), name }, value)));
        }
    }
}

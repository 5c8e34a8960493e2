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

use super::members::score;
use super::{Access, Class, Content, Key, Kind, Layout, Name, Remote, Session, Variable, VariableId, fields::Fields, lists};
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
    /// The manifest has a key without variables, two of one name, a list without order, or a member without a score.
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
            // A string is read whole, so it is dropped whole: what an earlier policy left elsewhere must not stay behind alone.
            let dropped =
                |(name, v): (&Bytes, &Variable)| matches!(v.content, Content::Here(_)) && class(key, name) == Class::Dropped;
            if key.kind == Kind::String && key.variables().any(dropped) {
                continue;
            }
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
                            let id = VariableId { key: key.name.to_bytes(), name: name.clone() };
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
                let (name, expires_at_ms) = (key.name.to_bytes(), key.expires_at_ms);
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
            if key.entries.is_empty() || session.held(&key.name).is_some() {
                return Err(Unfit::Malformed);
            }
            let packs = matches!(key.kind, Kind::Hash | Kind::String);
            let mut fields = if packs { Fields::default() } else { Fields::loose() };
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
                let variable = Variable { content, version: entry.version, access: entry.access };
                match key.kind {
                    Kind::List => fields.insert_at(usize::MAX, entry.name.clone(), variable),
                    Kind::SortedSet if score(&variable).is_none() => return Err(Unfit::Malformed),
                    _ => fields.insert(entry.name.clone(), variable),
                }
            }
            if key.kind == Kind::List && !lists::are_places(fields.iter().map(|(name, _)| name)) {
                return Err(Unfit::Malformed);
            }
            if fields.len() != key.entries.len() {
                return Err(Unfit::Malformed);
            }
            let (name, expires_at_ms) = (Name::copy_of(&key.name), key.expires_at_ms);
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Incarnation};

    const H: HandoverId = HandoverId { origin: Incarnation(Epoch(7)), serial: 1 };

    fn manifest(session: &Session, class: impl Fn(&[u8]) -> Class) -> Manifest {
        Manifest::of(session, H, |_, name| class(name), |_, _, value| Digest::of(value))
    }

    fn long(c: u8) -> Bytes {
        Bytes::from(vec![c; INLINE_BYTES_MAX + 1])
    }

    fn id(key: &'static [u8], name: &'static [u8]) -> VariableId {
        VariableId { key: Bytes::from_static(key), name: Bytes::from_static(name) }
    }

    fn hash() -> Session {
        let mut session = Session::new(Version(5));
        session.write_field(b"h", b"long", long(b'l'), 0);
        session.write_field(b"h", b"short", Bytes::from(vec![b's'; INLINE_BYTES_MAX]), 0);
        session.key_mut(b"h", 0).unwrap().expires_at_ms = Some(99);
        session
    }

    fn staged(value: Bytes) -> HashMap<VariableId, Bytes> {
        HashMap::from([(id(b"h", b"long"), value)])
    }

    #[test]
    fn a_session_opens_as_it_was_if_every_carried_value_is_the_one_described() {
        let session = hash();
        let manifest = manifest(&session, |_| Class::Carried);
        assert_eq!(manifest.open(&staged(long(b'l'))).unwrap(), session, "values, order, versions, use, expiry");
        assert!(manifest.depends().is_empty());
        assert_eq!(manifest.open(&HashMap::new()), Err(Unfit::Absent));
        assert_eq!(manifest.open(&staged(long(b'x'))), Err(Unfit::Differs), "another value of the same size");
        assert_eq!(manifest.open(&staged(Bytes::new())), Err(Unfit::Differs));
    }

    #[test]
    fn a_manifest_with_a_name_twice_or_a_key_without_variables_opens_nothing() {
        let good = manifest(&hash(), |_| Class::Carried);
        let staged = staged(long(b'l'));
        let changed = |change: fn(&mut Manifest)| {
            let mut manifest = good.clone();
            change(&mut manifest);
            manifest.open(&staged)
        };
        assert_eq!(changed(|m| m.keys.extend_from_within(..)), Err(Unfit::Malformed), "a key twice");
        assert_eq!(changed(|m| m.keys[0].entries.extend_from_within(1..)), Err(Unfit::Malformed), "a variable twice");
        assert_eq!(changed(|m| m.keys[0].entries.clear()), Err(Unfit::Malformed), "a key without variables");
        assert!(changed(|m| m.keys.clear()).unwrap().is_empty(), "policy may have dropped everything");
    }

    #[test]
    fn what_is_not_carried_is_held_by_the_handover_and_counted_as_missing() {
        for class in [Class::Streamed, Class::Deferred] {
            let manifest = manifest(&hash(), |_| class);
            let Held::At(remote) = &manifest.keys[0].entries[0].held else { unreachable!("it is too long for the manifest") };
            let size = INLINE_BYTES_MAX as u64 + 1;
            assert_eq!(*remote, Remote { handover: H, size, digest: Digest::of(&long(b'l')), class });
            assert!(matches!(manifest.keys[0].entries[1].held, Held::Inline(_)), "no longer than its description");
            assert_eq!(manifest.depends(), [H]);
            let mut opened = manifest.open(&HashMap::new()).unwrap();
            assert_eq!((opened.missing_count(), opened.last_version()), (1, Version(7)));
            opened.write_field(b"h", b"long", long(b'n'), 0);
            assert_eq!(opened.variable(&id(b"h", b"long")).unwrap().version, Version(8), "above all that were given before");
        }
    }

    #[test]
    fn what_an_earlier_handover_holds_or_nobody_is_passed_on_as_it_is() {
        let mut session = manifest(&hash(), |_| Class::Deferred).open(&HashMap::new()).unwrap();
        let later = HandoverId { origin: Incarnation(Epoch(8)), serial: 1 };
        let passed_on = |s: &Session| Manifest::of(s, later, |_, _| Class::Carried, |_, _, value| Digest::of(value));
        assert_eq!(passed_on(&session).depends(), [H]);
        assert!(session.resolve(&id(b"h", b"long"), Content::Lost));
        let manifest = passed_on(&session);
        assert_eq!((manifest.depends(), &manifest.keys[0].entries[0].held), (vec![], &Held::Lost));
        assert_eq!(manifest.open(&HashMap::new()).unwrap(), session);
    }

    #[test]
    fn dropped_variables_and_keys_left_without_any_are_not_described() {
        let session = hash();
        let some = manifest(&session, |name| if name == b"short" { Class::Dropped } else { Class::Carried });
        assert_eq!(some.keys[0].entries.iter().map(|e| e.name.as_ref()).collect::<Vec<_>>(), [b"long"]);
        assert!(manifest(&session, |_| Class::Dropped).keys.is_empty());
    }

    #[test]
    fn a_string_is_dropped_whole_or_not_at_all() {
        let mut session = Session::default();
        let text = format!(r#"{{"long":"{}","short":1}}"#, "x".repeat(INLINE_BYTES_MAX));
        session.write_string(b"j", Layout::Json, b"", Bytes::from(text));
        // The policy of the first move defers it, that of the second drops it: some of its parts are elsewhere by then.
        let moved = manifest(&session, |_| Class::Deferred).open(&HashMap::new()).unwrap();
        assert_eq!(moved.missing_count(), 1);
        assert!(manifest(&moved, |_| Class::Dropped).keys.is_empty(), "never with members missing");
    }
}

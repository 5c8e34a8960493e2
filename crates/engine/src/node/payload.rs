//! What crosses in a handover: the summary, the pre-copy, the manifest and the stage of one session.
//!
//! It changes no session and decides no step: functions of a resident, a policy and what the target is known to have. Called by
//! `outgoing`, before the freeze and at it.
//!
//! Budgets: carried values beyond `carried_bytes_max` are demoted by the plan; at the freeze, what has not been sent and exceeds
//! the pause, or the one message in which the stage crosses, is demoted too, the largest first, a string as a whole. The pre-copy
//! crosses in as many messages as it takes. A session of which no message holds the manifest, or one of the values, does not cross:
//! where it is, it can be read. A demoted variable is fetched on first access: later, never
//! lost.

use crate::directory::Location;
use crate::ids::{Digest, HandoverId, Version};
use crate::node::message::Summary;
use crate::plan::{Plan, Policy};
use crate::residence::Resident;
use crate::session::manifest::{Batch, Held, INLINE_BYTES_MAX, Manifest};
use crate::session::{Class, Content, Kind, VariableId};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};

/// Bytes that may be carried, and that may be sent during the freeze.
#[derive(Clone, Copy)]
pub(super) struct Budget {
    pub(super) carried_max: u64,
    pub(super) pause_max: u64,
    /// Bytes of one message.
    pub(super) frame_max: u64,
}

/// More than what a message says beside variables and the handovers of a record.
const FRAME_SPARE_BYTES: u64 = 1024;
/// More than what it says of a key or a variable beside names and value: version, use, expiry, digest, size, holder, lengths.
const ENTRY_BYTES: u64 = 128;

/// Bytes of a message of at most `frame_bytes_max` that are left for keys and variables.
pub(super) fn frame_room(frame_bytes_max: u64) -> u64 {
    frame_bytes_max.saturating_sub(FRAME_SPARE_BYTES)
}

/// What a variable takes of a message, with a value of this size; never less than it is.
pub(super) fn framed(id: &VariableId, size: u64) -> u64 {
    (id.key.len() as u64).saturating_add(id.name.len() as u64).saturating_add(size).saturating_add(ENTRY_BYTES)
}

/// What the manifest takes at most; `None`: this session cannot cross, for it or one of the values is longer than a message.
fn manifest_bytes(resident: &Resident, frame_max: u64) -> Option<u64> {
    let room = frame_room(frame_max);
    let mut bytes = ENTRY_BYTES.saturating_mul(resident.location.depends.len() as u64);
    for key in resident.session.keys() {
        bytes = bytes.saturating_add(ENTRY_BYTES + key.name.len() as u64);
        for (name, variable) in key.variables() {
            let size = if let Content::Here(value) = &variable.content { value.len() } else { 0 };
            let id_bytes = name.len() as u64 + ENTRY_BYTES;
            if (size as u64).saturating_add(id_bytes).saturating_add(key.name.len() as u64) > room {
                return None;
            }
            bytes = bytes.saturating_add(id_bytes + size.min(INLINE_BYTES_MAX) as u64);
        }
    }
    (bytes <= room).then_some(bytes)
}

/// Whether manifest and values can cross, one message each if need be.
pub(super) fn can_cross(resident: &Resident, budget: Budget) -> bool {
    manifest_bytes(resident, budget.frame_max).is_some()
}

/// What is known of one session's values while it is handed over.
#[derive(Default)]
pub(super) struct Known {
    /// Digests that were computed while the session still answered, by version.
    digests: HashMap<VariableId, (Version, Digest)>,
    /// What the target holds of earlier times.
    have: HashMap<VariableId, Digest>,
    /// What the pre-copy carried.
    sent: HashMap<VariableId, Version>,
}

/// All that the freeze makes.
pub(super) struct Frozen {
    pub(super) location: Location,
    pub(super) manifest: Manifest,
    pub(super) values: Batch,
    pub(super) demoted: usize,
}

/// The profile and the plan in numbers.
pub(super) fn summarize(resident: &Resident, policy: &Policy, budget: Budget) -> Summary {
    let plan = Plan::of(&resident.session, policy, budget.carried_max);
    let mut summary = Summary { bytes: resident.session.size_bytes(), carried_bytes: plan.carried_bytes, ..Summary::default() };
    for (_, variable) in resident.session.keys().iter().flat_map(|k| k.variables()) {
        summary.variables = summary.variables.saturating_add(1);
        summary.accesses = summary.accesses.saturating_add(u32::from(variable.access.reads) + u32::from(variable.access.writes));
    }
    summary
}

impl Known {
    /// The values that are here, do not fit into a manifest entry, and have no digest of their version yet. Cheap: the bytes are
    /// shared. Their digests are computed by [`Known::learn`], when the table is not held any more.
    pub(super) fn unhashed(&self, resident: &Resident) -> Vec<(VariableId, Version, Bytes)> {
        let mut unhashed = Vec::new();
        for key in resident.session.keys() {
            for (name, variable) in key.variables() {
                if let Content::Here(value) = &variable.content
                    && value.len() > INLINE_BYTES_MAX
                {
                    let id = VariableId { key: key.name.to_bytes(), name: name.clone() };
                    if self.digests.get(&id).is_none_or(|(version, _)| *version != variable.version) {
                        unhashed.push((id, variable.version, value.clone()));
                    }
                }
            }
        }
        unhashed
    }

    /// Computes digests. What is written after this is hashed when it is needed.
    pub(super) fn learn(&mut self, unhashed: Vec<(VariableId, Version, Bytes)>) {
        self.digests.extend(unhashed.into_iter().map(|(id, version, value)| (id, (version, Digest::of(&value)))));
    }

    /// The target has said what it holds.
    pub(super) fn target_has(&mut self, have: Vec<(VariableId, Digest)>) {
        self.have = have.into_iter().collect();
    }

    fn digest(&self, id: &VariableId, version: Version, value: &Bytes) -> Digest {
        self.digests.get(id).filter(|(v, _)| *v == version).map_or_else(|| Digest::of(value), |(_, d)| *d)
    }

    /// The carried values that the target lacks, by message; takes note that they are sent.
    pub(super) fn pre_copy(&mut self, resident: &Resident, policy: &Policy, budget: Budget) -> Vec<Batch> {
        let plan = Plan::of(&resident.session, policy, budget.carried_max);
        let (mut batches, mut room) = (Vec::<Batch>::new(), 0);
        for key in resident.session.keys() {
            for (name, variable) in key.variables() {
                let Content::Here(value) = &variable.content else { continue };
                if value.len() <= INLINE_BYTES_MAX || plan.class(key, name) != Class::Carried {
                    continue;
                }
                let id = VariableId { key: key.name.to_bytes(), name: name.clone() };
                if self.have.get(&id) != Some(&self.digest(&id, variable.version, value)) {
                    self.sent.insert(id.clone(), variable.version);
                    let bytes = framed(&id, value.len() as u64);
                    match batches.last_mut().filter(|_| bytes <= room) {
                        Some(batch) => batch.push(id, value.clone()),
                        None => {
                            room = frame_room(budget.frame_max);
                            let mut batch = Batch::default();
                            batch.push(id, value.clone());
                            batches.push(batch);
                        }
                    }
                    room = room.saturating_sub(bytes);
                }
            }
        }
        batches
    }

    /// The manifest of a frozen session and the values that go with it, which one message holds. The caller has looked whether
    /// it can cross.
    pub(super) fn freeze(&self, resident: &Resident, handover: HandoverId, policy: &Policy, budget: Budget) -> Frozen {
        let room = frame_room(budget.frame_max).saturating_sub(manifest_bytes(resident, budget.frame_max).unwrap_or(u64::MAX));
        let plan = Plan::of(&resident.session, policy, budget.carried_max);
        let manifest_without = |demoted: &HashSet<VariableId>| {
            Manifest::of(
                &resident.session,
                handover,
                |key, name| {
                    let id = VariableId { key: key.name.to_bytes(), name: name.clone() };
                    if demoted.contains(&id) { Class::Deferred } else { plan.class(key, name) }
                },
                |id, version, value| self.digest(id, version, value),
            )
        };
        let mut demoted = HashSet::new();
        let mut manifest = manifest_without(&demoted);
        let mut unsent = self.unsent(&manifest);
        let mut total: u64 = unsent.iter().map(|(size, _)| size).sum();
        let mut total_framed: u64 = unsent.iter().map(|(size, id)| framed(id, *size)).sum();
        while total > budget.pause_max || total_framed > room {
            let Some((size, id)) = unsent.pop() else { break };
            total -= size;
            total_framed -= framed(&id, size);
            if resident.session.held(&id.key).is_some_and(|k| k.kind == Kind::String) {
                // It is read whole: its other parts would lengthen the pause for nothing.
                let parts = unsent.extract_if(.., |(_, other)| other.key == id.key);
                demoted.extend(parts.map(|(size, part)| {
                    total -= size;
                    total_framed -= framed(&part, size);
                    part
                }));
            }
            demoted.insert(id);
        }
        if !demoted.is_empty() {
            manifest = manifest_without(&demoted);
        }
        let mut values = Batch::default();
        for (_, id) in unsent {
            if let Some(Content::Here(value)) = resident.session.variable(&id).map(|v| &v.content) {
                values.push(id, value.clone());
            }
        }
        Frozen { location: resident.location.clone(), manifest, values, demoted: plan.demoted + demoted.len() }
    }

    /// The staged variables of a manifest that the target does not have yet, by size.
    fn unsent(&self, manifest: &Manifest) -> Vec<(u64, VariableId)> {
        let mut unsent = Vec::new();
        for key in &manifest.keys {
            for entry in &key.entries {
                let Held::Staged { size, digest } = &entry.held else { continue };
                let id = VariableId { key: key.name.clone(), name: entry.name.clone() };
                if self.sent.get(&id) != Some(&entry.version) && self.have.get(&id) != Some(digest) {
                    unsent.push((*size, id));
                }
            }
        }
        unsent.sort();
        unsent
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, GroupId, Incarnation};
    use crate::plan::Treatment;
    use crate::session::{Layout, Session};

    const H: HandoverId = HandoverId { origin: Incarnation(Epoch(7)), serial: 1 };
    const ALL: Budget = Budget { carried_max: u64::MAX, pause_max: u64::MAX, frame_max: 1 << 20 };

    fn carry() -> Policy {
        let default = Treatment { class: Class::Carried, ..Policy::default().default };
        Policy { rules: Vec::new(), default }
    }

    /// A JSON string with members of about 100 and 200 bytes, and a hash with fields of 60 and 150.
    fn resident() -> Resident {
        let mut session = Session::default();
        let text = format!(r#"{{"a":"{}","b":"{}","c":1}}"#, "a".repeat(100), "b".repeat(200));
        session.write_string(b"j", Layout::Json, b"", Bytes::from(text));
        session.write_field(b"h", b"small", Bytes::from(vec![1; 60]), 0);
        session.write_field(b"h", b"large", Bytes::from(vec![2; 150]), 0);
        let location = Location { group: GroupId(1), epoch: Epoch(1), last: None, depends: Vec::new() };
        Resident::new(session, location, 0)
    }

    fn known_of(resident: &Resident) -> Known {
        let mut known = Known::default();
        known.learn(known.unhashed(resident));
        assert!(known.unhashed(resident).is_empty());
        known
    }

    fn names(batches: &[Batch]) -> Vec<&[u8]> {
        batches.iter().flat_map(|b| &b.0).flat_map(|(_, values)| values).map(|(name, _)| name.as_ref()).collect()
    }

    /// The names of the variables of a key that are staged.
    fn staged<'a>(frozen: &'a Frozen, key: &[u8]) -> Vec<&'a [u8]> {
        let key = frozen.manifest.keys.iter().find(|k| k.name.as_ref() == key).unwrap();
        key.entries.iter().filter(|e| matches!(e.held, Held::Staged { .. })).map(|e| e.name.as_ref()).collect()
    }

    #[test]
    fn what_was_copied_ahead_is_sent_again_only_if_it_has_changed() {
        let mut resident = resident();
        let mut known = known_of(&resident);
        assert_eq!(names(&known.pre_copy(&resident, &carry(), ALL)).len(), 4, "what is short travels in the manifest");
        resident.session.write_field(b"h", b"small", Bytes::from(vec![3; 60]), 0);
        let frozen = known.freeze(&resident, H, &carry(), ALL);
        assert_eq!(names(std::slice::from_ref(&frozen.values)), [b"small"]);
        assert_eq!((staged(&frozen, b"h").len(), staged(&frozen, b"j").len(), frozen.demoted), (2, 2, 0));
    }

    #[test]
    fn what_the_target_holds_is_not_sent() {
        let resident = resident();
        let mut known = known_of(&resident);
        let id = |name: &'static [u8]| VariableId { key: Bytes::from_static(b"h"), name: Bytes::from_static(name) };
        known.target_has(vec![(id(b"small"), Digest::of(&[1; 60])), (id(b"large"), Digest::of(b"another"))]);
        let sent = known.pre_copy(&resident, &carry(), ALL);
        assert!(!names(&sent).contains(&&b"small"[..]) && names(&sent).contains(&&b"large"[..]));
        assert!(known.freeze(&resident, H, &carry(), ALL).values.is_empty());
    }

    #[test]
    fn in_the_pause_the_largest_is_demoted_first_and_a_string_as_a_whole() {
        let resident = resident();
        let frozen = known_of(&resident).freeze(&resident, H, &carry(), Budget { pause_max: 400, ..ALL });
        assert_eq!(staged(&frozen, b"j"), [] as [&[u8]; 0], "its other parts would cross for nothing");
        assert_eq!((names(std::slice::from_ref(&frozen.values)), frozen.demoted), (vec![&b"small"[..], &b"large"[..]], 2));

        let frozen = known_of(&resident).freeze(&resident, H, &carry(), Budget { pause_max: 100, ..ALL });
        assert_eq!((names(std::slice::from_ref(&frozen.values)), frozen.demoted), (vec![&b"small"[..]], 3));
        let frozen = known_of(&resident).freeze(&resident, H, &carry(), Budget { pause_max: 0, ..ALL });
        assert_eq!(
            (names(std::slice::from_ref(&frozen.values)).len(), frozen.demoted, frozen.manifest.depends()),
            (0, 4, vec![H])
        );
    }

    #[test]
    fn what_was_copied_ahead_does_not_count_in_the_pause() {
        let resident = resident();
        let mut known = known_of(&resident);
        known.pre_copy(&resident, &carry(), ALL);
        let frozen = known.freeze(&resident, H, &carry(), Budget { pause_max: 0, ..ALL });
        assert_eq!((frozen.demoted, frozen.manifest.depends()), (0, vec![]));
    }

    #[test]
    fn what_one_message_does_not_hold_is_split_before_the_freeze_and_demoted_at_it() {
        let resident = resident();
        let sizes = |frame_max: u64| {
            let budget = Budget { frame_max: FRAME_SPARE_BYTES + frame_max, ..ALL };
            let batches = known_of(&resident).pre_copy(&resident, &carry(), budget);
            let all = names(&batches).len();
            let frozen = known_of(&resident).freeze(&resident, H, &carry(), budget);
            (can_cross(&resident, budget), batches.len(), all, names(std::slice::from_ref(&frozen.values)).len(), frozen.demoted)
        };
        let manifest = manifest_bytes(&resident, 1 << 20).unwrap();
        assert_eq!(sizes(10_000), (true, 1, 4, 4, 0));
        assert_eq!(sizes(manifest), (true, 1, 4, 0, 4), "the manifest fills the message");
        assert_eq!(sizes(600), (false, 2, 4, 0, 4), "two members, two fields");
        assert_eq!(sizes(manifest + 193), (true, 1, 4, 0, 4), "the smallest value is one byte too long");
        assert_eq!(sizes(manifest + 194), (true, 1, 4, 1, 3));
        assert!(!sizes(manifest - 1).0);
    }

    #[test]
    fn the_carried_budget_is_kept_and_its_demotions_are_counted() {
        let resident = resident();
        let summary = summarize(&resident, &carry(), Budget { carried_max: 250, ..ALL });
        assert_eq!((summary.variables, summary.carried_bytes), (6, 210), "the string has more than both fields");
        let frozen = known_of(&resident).freeze(&resident, H, &carry(), Budget { carried_max: 250, ..ALL });
        assert_eq!((staged(&frozen, b"j").len(), staged(&frozen, b"h").len(), frozen.demoted), (0, 2, 4));
    }
}

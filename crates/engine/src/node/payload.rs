//! What crosses in a handover: the summary, the pre-copy, the manifest and the stage of one session.
//!
//! It changes no session and decides no step: functions of a resident, a policy and what the target is known to have. Called by
//! `outgoing`, before the freeze and at it.
//!
//! Budgets: carried values beyond `carried_bytes_max` are demoted by the plan; at the freeze, what has not been sent and exceeds
//! the pause is demoted too, the largest first. A demoted variable is fetched on first access: later, never lost.

use crate::directory::Location;
use crate::ids::{Digest, HandoverId, Version};
use crate::node::message::Summary;
use crate::plan::{Plan, Policy};
use crate::residence::Resident;
use crate::session::manifest::{Batch, Held, INLINE_BYTES_MAX, Manifest};
use crate::session::{Class, Content, VariableId};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};

/// Bytes that may be carried, and that may be sent during the freeze.
#[derive(Clone, Copy)]
pub(super) struct Budget {
    pub(super) carried_max: u64,
    pub(super) pause_max: u64,
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
    /// The digests of what is here and does not fit into a manifest entry.
    pub(super) fn of(resident: &Resident) -> Known {
        let mut known = Known::default();
        for key in resident.session.keys() {
            for (name, variable) in key.variables() {
                if let Content::Here(value) = &variable.content
                    && value.len() > INLINE_BYTES_MAX
                {
                    let id = VariableId { key: key.name.clone(), name: name.clone() };
                    known.digests.insert(id, (variable.version, Digest::of(value)));
                }
            }
        }
        known
    }

    /// The target has said what it holds.
    pub(super) fn target_has(&mut self, have: Vec<(VariableId, Digest)>) {
        self.have = have.into_iter().collect();
    }

    fn digest(&self, id: &VariableId, version: Version, value: &Bytes) -> Digest {
        self.digests.get(id).filter(|(v, _)| *v == version).map_or_else(|| Digest::of(value), |(_, d)| *d)
    }

    /// The carried values that the target lacks; takes note that they are sent.
    pub(super) fn pre_copy(&mut self, resident: &Resident, policy: &Policy, budget: Budget) -> Batch {
        let plan = Plan::of(&resident.session, policy, budget.carried_max);
        let mut values = Batch::default();
        for key in resident.session.keys() {
            for (name, variable) in key.variables() {
                let Content::Here(value) = &variable.content else { continue };
                if value.len() <= INLINE_BYTES_MAX || plan.class(key, name) != Class::Carried {
                    continue;
                }
                let id = VariableId { key: key.name.clone(), name: name.clone() };
                if self.have.get(&id) != Some(&self.digest(&id, variable.version, value)) {
                    self.sent.insert(id.clone(), variable.version);
                    values.push(id, value.clone());
                }
            }
        }
        values
    }

    /// The manifest of a frozen session and the values that go with it.
    pub(super) fn freeze(&self, resident: &Resident, handover: HandoverId, policy: &Policy, budget: Budget) -> Frozen {
        let plan = Plan::of(&resident.session, policy, budget.carried_max);
        let manifest_without = |demoted: &HashSet<VariableId>| {
            Manifest::of(
                &resident.session,
                handover,
                |key, name| {
                    let id = VariableId { key: key.name.clone(), name: name.clone() };
                    if demoted.contains(&id) { Class::Deferred } else { plan.class(key, name) }
                },
                |id, version, value| self.digest(id, version, value),
            )
        };
        let mut demoted = HashSet::new();
        let mut manifest = manifest_without(&demoted);
        let mut unsent = self.unsent(&manifest);
        let mut total: u64 = unsent.iter().map(|(size, _)| size).sum();
        while total > budget.pause_max {
            let Some((size, id)) = unsent.pop() else { break };
            total -= size;
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

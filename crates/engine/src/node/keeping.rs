//! The residuals that this node keeps: what it holds for handovers that it gave, until nobody depends on them.
//!
//! It never frees one but by the owner's confirmation, or because the record, read now and then, does not depend on it any more.
//! Values in it are those of their manifests, for ever, so whoever is a member may ask for them.
//!
//! Invariant: *planned moves lose nothing*.

use super::{Effect, Node, Note, Pending, Turn};
use crate::directory::Placement;
use crate::ids::{Digest, HandoverId, Incarnation, RequestId, SessionId};
use crate::node::message::Message;
use crate::residence::Table;
use crate::session::VariableId;
use crate::session::residual::Residual;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Residuals that one tick asks the directory about.
const SWEPT_MAX: usize = 64;

struct Kept {
    residual: Residual,
    sweep_at_us: u64,
}

/// All residuals of this node.
#[derive(Default)]
pub(super) struct Residuals {
    kept: BTreeMap<HandoverId, Kept>,
    by_session: BTreeMap<SessionId, BTreeSet<HandoverId>>,
    by_sweep: BTreeSet<(u64, HandoverId)>,
    bytes: u64,
}

impl Residuals {
    pub(super) fn count(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn contains_key(&self, handover: &HandoverId) -> bool {
        self.kept.contains_key(handover)
    }

    fn insert(&mut self, handover: HandoverId, residual: Residual, sweep_at_us: u64) {
        self.bytes += residual.bytes();
        self.by_session.entry(residual.session.clone()).or_default().insert(handover);
        self.by_sweep.insert((sweep_at_us, handover));
        self.kept.insert(handover, Kept { residual, sweep_at_us });
    }

    fn remove(&mut self, handover: HandoverId) -> bool {
        let Some(kept) = self.kept.remove(&handover) else { return false };
        self.bytes = self.bytes.saturating_sub(kept.residual.bytes());
        self.by_sweep.remove(&(kept.sweep_at_us, handover));
        if let Some(handovers) = self.by_session.get_mut(&kept.residual.session) {
            handovers.remove(&handover);
            if handovers.is_empty() {
                self.by_session.remove(&kept.residual.session);
            }
        }
        true
    }

    /// Those of one session, oldest first.
    fn of(&self, session: &SessionId) -> impl DoubleEndedIterator<Item = &Residual> {
        let handovers = self.by_session.get(session).into_iter().flatten();
        handovers.filter_map(|h| self.kept.get(h)).map(|k| &k.residual)
    }

    /// What the latest residual holds of a session that comes back.
    pub(super) fn held_of(&self, session: &SessionId) -> Vec<(VariableId, Digest)> {
        let latest = self.of(session).next_back();
        latest.map(|r| r.digests().map(|(id, digest)| (id.clone(), digest)).collect()).unwrap_or_default()
    }

    /// A value that a residual holds of a session, if it is the one with this digest.
    pub(super) fn held_value(&self, session: &SessionId, id: &VariableId, digest: &Digest) -> Option<Bytes> {
        self.of(session).filter_map(|r| r.get(id)).find(|value| Digest::of(value) == *digest).cloned()
    }

    /// Those whose time to be swept has come; each gets another time.
    fn due(&mut self, now_us: u64, next_us: u64) -> Vec<(HandoverId, SessionId)> {
        let due: Vec<_> = self.by_sweep.range(..(now_us + 1, HandoverId::LEAST)).take(SWEPT_MAX).copied().collect();
        let mut found = Vec::new();
        for (at, handover) in due {
            self.by_sweep.remove(&(at, handover));
            if let Some(kept) = self.kept.get_mut(&handover) {
                kept.sweep_at_us = next_us;
                self.by_sweep.insert((next_us, handover));
                found.push((handover, kept.residual.session.clone()));
            }
        }
        found
    }
}

impl Node {
    pub(super) fn keep<T: Table>(&mut self, handover: HandoverId, residual: Residual, turn: &mut Turn<'_, T>) {
        self.late.residuals.insert(handover, residual, turn.now.boot_us + self.settings.sweep_us);
    }

    /// A holder is asked. Whoever is a member may ask: the values are those of the manifest, for ever.
    pub(super) fn asked<T: Table>(
        &mut self,
        from: Incarnation,
        request: RequestId,
        handover: HandoverId,
        variables: Vec<VariableId>,
        turn: &mut Turn<'_, T>,
    ) {
        // Only a session that has opened under this handover has anything to fetch from it, so this tells of its commit too.
        self.commit_is_known(handover, turn);
        let kept = self.late.residuals.kept.get(&handover);
        let values = variables.iter().map(|id| kept.and_then(|k| k.residual.get(id)).cloned()).collect();
        let message = Message::Fetched { request, values };
        if from == self.me.incarnation { self.heard(from, message, turn) } else { turn.send(from, message) }
    }

    pub(super) fn confirmed<T: Table>(&mut self, handover: HandoverId, turn: &mut Turn<'_, T>) {
        if self.late.residuals.remove(handover) {
            turn.note(Note::ResidualEnded);
        }
    }

    /// The record as it is now: does it still depend on this residual?
    pub(super) fn swept<T: Table>(&mut self, handover: HandoverId, placement: Option<Placement>, turn: &mut Turn<'_, T>) {
        let Some(placement) = placement else { return };
        let needed = placement.owner().is_some() && placement.location.is_some_and(|l| l.depends.contains(&handover));
        if !needed {
            self.confirmed(handover, turn);
        }
    }

    pub(super) fn sweep<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let now_us = turn.now.boot_us;
        for (handover, session) in self.late.residuals.due(now_us, now_us + self.settings.sweep_us) {
            let request = self.request(Pending::Sweep(handover));
            turn.effects.push(Effect::Read { request, session });
        }
    }
}

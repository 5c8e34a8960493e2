//! The end of a handover: the record of a session drops it, and its holder frees what it kept.
//!
//! It frees nothing itself: `keeping` does, when it is told. `late` asks it for each session whose record depends on handovers.
//!
//! | step 8 | who |
//! |---|---|
//! | no variable of a session is with H any more → the record drops H (compare-and-set, same epoch) | owner |
//! | `Confirm(H)` | owner → holder |
//! | free the residual of H; also when the record, read now and then, does not depend on H | holder |
//!
//! The write of step 8 keeps the epoch, so one of an unknown outcome that is applied after a later one puts back handovers that
//! are freed already. Nothing is lost by it, for the owner goes by its own list; but a residual whose confirmation was lost too
//! would be kept. So the owner writes the record once more a while after an unknown outcome. (A new epoch would prevent it, but an
//! outcome that is not known would then leave an open session under an epoch that its owner does not know.)
//!
//! Invariant: *planned moves lose nothing*: a residual is freed only when no record depends on it.

use super::message::Message;
use super::{Node, Pending, Turn};
use crate::directory::{Compare, NextEpoch, Outcome, Transaction, Write};
use crate::ids::{Epoch, HandoverId, SessionId};
use crate::residence::{Gate, Table};
use crate::session::Content;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A settlement of unknown outcome may be applied so much later; then the record is written once more.
const DOUBT_US: u64 = 1_000_000;

/// Settlements of one node.
#[derive(Default)]
pub(super) struct Settlements {
    /// Sessions whose record is being written.
    under_way: HashSet<SessionId>,
    /// Sessions with a settlement whose outcome is unknown, and when to settle them once more.
    doubtful: BTreeMap<SessionId, u64>,
}

impl Node {
    /// Drops from the record the handovers that nothing depends on any more.
    pub(super) fn settle<T: Table>(&mut self, session: &SessionId, turn: &mut Turn<'_, T>) -> bool {
        let found = turn.table.with(session, |slot| {
            let resident = slot.as_ref()?;
            let mut needed = BTreeSet::new();
            for (_, variable) in resident.session.keys().iter().flat_map(|k| k.variables()) {
                if let Content::Elsewhere(remote) = &variable.content {
                    needed.insert(remote.handover);
                }
            }
            Some((resident.gate, resident.location.clone(), needed.into_iter().collect::<Vec<_>>()))
        });
        let Some((gate, location, needed)) = found else {
            self.late.settlements.doubtful.remove(session);
            return false;
        };
        let doubt_until_us = self.late.settlements.doubtful.get(session).copied();
        if location.depends.is_empty() && doubt_until_us.is_none() {
            return false;
        }
        let complete = location.depends.iter().any(|h| !needed.contains(h));
        let doubtful = doubt_until_us.is_some_and(|until| until <= turn.now.boot_us);
        if gate == Gate::Open && (complete || doubtful) && self.late.settlements.under_way.insert(session.clone()) {
            if doubtful {
                self.late.settlements.doubtful.remove(session);
            }
            let (group, epoch) = (location.group, location.epoch);
            let compare = vec![Compare::Location { session: session.clone(), is: Some((group, epoch)) }];
            let place = Write::Place {
                session: session.clone(),
                group,
                epoch: NextEpoch::Keep(epoch),
                last: location.last,
                depends: needed.clone(),
            };
            let pending = Pending::Settle { session: session.clone(), epoch, needed };
            self.transact(pending, Transaction { compare, write: vec![place] }, turn);
        }
        true
    }

    pub(super) fn settled<T: Table>(
        &mut self,
        session: SessionId,
        epoch: Epoch,
        needed: Vec<HandoverId>,
        outcome: Option<Outcome>,
        turn: &mut Turn<'_, T>,
    ) {
        self.late.settlements.under_way.remove(&session);
        // Refused: the session has another epoch by now, so another owner or another try settles it. Unknown: tried again.
        if outcome.is_none() {
            self.late.settlements.doubtful.insert(session.clone(), turn.now.boot_us + DOUBT_US);
        }
        let Some(Outcome::Applied { .. }) = outcome else { return };
        let before = turn.table.with(&session, |slot| {
            // Of a frozen one a fence may be on its way that writes the old list again; if it stays, it is settled once more.
            let resident = slot.as_mut().filter(|r| r.location.epoch == epoch && r.gate == Gate::Open)?;
            Some(std::mem::replace(&mut resident.location.depends, needed.clone()))
        });
        for handover in before.unwrap_or_default().into_iter().filter(|h| !needed.contains(h)) {
            self.confirm(handover, turn, Message::Confirm { handover });
        }
    }

    /// Tells a holder that its residual is over.
    pub(super) fn confirm<T: Table>(&mut self, handover: HandoverId, turn: &mut Turn<'_, T>, message: Message) {
        if handover.origin == self.me.incarnation {
            self.confirmed(handover, turn);
        } else {
            turn.send(handover.origin, message);
        }
    }
}

//! What only a dead node had, looked for where sessions are at rest.
//!
//! A variable of a session that has moved may still be at its former node when that dies. If the upstream has exactly the value that
//! the manifest describes, nothing is lost. It never takes anything else from there: an older value of one variable beside newer ones
//! of others is nobody's session.
//!
//! ```text
//!  elsewhere, and its holder is gone ─► load its key ─┬─ size and digest agree ─► here
//!                                                     ├─ another value, or none ─► lost
//!                                                     └─ no answer ─► elsewhere: asked again
//! ```
//! `late` asks, for readers, streams and write-behind alike. Bound: [`RECOVERIES_MAX`] loads at once.
//! Invariants: *never wrong data*; *a crash loses at most what policy allows*.

use super::{Effect, Node, Note, Pending, Turn};
use crate::command::Target;
use crate::ids::{Digest, Epoch, SessionId};
use crate::residence::{Gate, Table};
use crate::rest::change::Loaded;
use crate::session::{Content, Kind, Remote, Session, VariableId};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};

/// Loads under way for this, at most: a node that dies may have held something of thousands of sessions.
const RECOVERIES_MAX: usize = 64;

impl Node {
    /// Looks at rest for variables whose holder is gone. While the upstream is not asked nothing happens: they are elsewhere still,
    /// and asked for again.
    pub(super) fn recover<T: Table>(&mut self, session: &SessionId, variables: Vec<VariableId>, turn: &mut Turn<'_, T>) {
        if variables.is_empty() || self.behind.is_paused(turn.now.boot_us) {
            return;
        }
        let under_way = self.pending.values().filter(|pending| matches!(pending, Pending::Recover { .. })).count();
        if under_way >= RECOVERIES_MAX {
            return;
        }
        let names: BTreeSet<_> = variables.iter().map(|id| id.key.clone()).collect();
        let found = turn.table.with(session, |slot| {
            let resident = slot.as_ref()?;
            let held = names.iter().filter_map(|name| resident.session.held(name));
            // A value that is not divided is one variable, named by its pattern.
            let target = held.map(|key| {
                let label = key.variables().next().map(|(name, _)| name.clone()).unwrap_or_default();
                Target { key: key.name.to_bytes(), layout: key.layout, label }
            });
            Some((resident.location.epoch, target.collect::<Vec<Target>>()))
        });
        let Some((epoch, keys)) = found else { return };
        let request = self.request(Pending::Recover { session: session.clone(), epoch, variables });
        turn.effects.push(Effect::Load { request, session: session.clone(), epoch, keys: Some(keys), becomes_ours: false });
    }

    /// What was found there.
    pub(super) fn recovered<T: Table>(
        &mut self,
        session: &SessionId,
        epoch: Epoch,
        variables: &[VariableId],
        loaded: Loaded,
        turn: &mut Turn<'_, T>,
    ) {
        self.pause_after(loaded == Loaded::Unknown, turn);
        let keys = match loaded {
            Loaded::Keys(keys) => keys,
            Loaded::Unfit => Vec::new(),
            // The session has moved on: its owner looks. Or nobody answers.
            Loaded::Refused | Loaded::Unknown => return,
        };
        let mut there = AtRest::default();
        for key in keys {
            if let Some(content) = key.content {
                content.load(&mut there.session, &key.target.key, key.target.layout, &key.target.label, None);
            }
        }
        let notes = turn.table.with(session, |slot| {
            // Of a frozen session the manifest is on its way.
            let frozen = |gate| matches!(gate, Gate::Frozen(_));
            let Some(resident) = slot.as_mut().filter(|r| r.location.epoch == epoch && !frozen(r.gate)) else {
                return Vec::new();
            };
            let mut notes = Vec::new();
            for id in variables {
                let Some(Content::Elsewhere(remote)) = resident.session.variable(id).map(|v| &v.content) else { continue };
                if !self.is_gone(remote.handover.origin) {
                    continue;
                }
                let value = there.value(id, remote);
                notes.push(match &value {
                    Some(value) => Note::Fetched { bytes: value.len() as u64, on_access: self.is_read(session, id) },
                    None => Note::Lost,
                });
                resident.session.resolve(id, value.map_or(Content::Lost, Content::Here));
            }
            notes
        });
        turn.effects.extend(notes.into_iter().map(Effect::Note));
        for id in variables {
            self.has_come(session, id, turn);
        }
        self.follow(session, turn);
    }
}

/// What was found there, as a session that nobody has.
#[derive(Default)]
struct AtRest {
    session: Session,
    /// The elements of each list that was asked for.
    elements: HashMap<Bytes, HashMap<Digest, Bytes>>,
}

impl AtRest {
    /// The value of a variable, if it is the one that a manifest describes. Elements of a list are found by their values alone, for
    /// their names are places among those that the list had when it was made, and a list that is loaded has just been made.
    fn value(&mut self, id: &VariableId, remote: &Remote) -> Option<Bytes> {
        let key = self.session.held(&id.key)?;
        let here = |content: &Content| if let Content::Here(value) = content { Some(value.clone()) } else { None };
        let found = if key.kind == Kind::List {
            let digests = || key.variables().filter_map(|(_, v)| here(&v.content)).map(|value| (Digest::of(&value), value));
            self.elements.entry(id.key.clone()).or_insert_with(|| digests().collect()).get(&remote.digest).cloned()
        } else {
            key.variable(&id.name).and_then(|v| here(&v.content)).filter(|value| Digest::of(value) == remote.digest)
        };
        found.filter(|value| value.len() as u64 == remote.size)
    }
}

//! What clients can see: calls and answers alone, judged without knowing how the cluster works inside.
//!
//! It never looks at a node or at the directory. A variable is a register whose writes are unique, so a read is wrong if another
//! change was called after the one it saw had been acknowledged, and was itself acknowledged before the read was called.
//! What a rename brings under the new name may be any value: `truth` knows which it must be.
//! An unacknowledged change may take effect at any time, so it accuses nobody. `truth` judges the same answers from within.

use crate::operation::{FIELDS, Kind, WriteId, fields_of};
use std::collections::BTreeMap;

/// One change of one variable.
#[derive(Clone, Copy, Debug)]
struct Change {
    operation: u64,
    /// The write; `None`: the variable is gone.
    id: Option<WriteId>,
    /// It may have any value, or none: what a rename has brought.
    any: bool,
    called_us: u64,
    acknowledged_us: Option<u64>,
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct History {
    changes: BTreeMap<(usize, usize), Vec<Change>>,
}

impl History {
    fn add(&mut self, place: (usize, usize), change: Change) {
        let beginning = Change { operation: 0, id: None, any: false, called_us: 0, acknowledged_us: Some(0) };
        self.changes.entry(place).or_insert_with(|| vec![beginning]).push(change);
    }

    /// A client calls an operation.
    pub fn called(&mut self, operation: u64, session: usize, kind: Kind, now_us: u64) {
        let change = |id| Change { operation, id, any: false, called_us: now_us, acknowledged_us: None };
        match kind {
            Kind::Read(_) => {}
            Kind::Write(field, id) | Kind::Update(field, id) => self.add((session, field), change(Some(id))),
            Kind::Delete => (0..FIELDS.len()).for_each(|field| self.add((session, field), change(None))),
            Kind::Drop(place, keys) => fields_of(place, keys).for_each(|field| self.add((session, field), change(None))),
            Kind::Rename { place, keys, to } => {
                for field in fields_of(place, keys) {
                    self.add((session, field), change(None));
                    self.add((to, field), Change { any: true, ..change(None) });
                }
            }
        }
    }

    /// A session is lost with its owner: what policy allows a crash to take.
    pub fn lost(&mut self, session: usize, now_us: u64) {
        for field in 0..FIELDS.len() {
            let change = Change { operation: 0, id: None, any: false, called_us: now_us, acknowledged_us: Some(now_us) };
            self.add((session, field), change);
        }
    }

    /// A session fell back to what is at rest: what policy allows a crash to take.
    pub fn replaced(&mut self, session: usize, there: &BTreeMap<usize, WriteId>, now_us: u64) {
        for field in 0..FIELDS.len() {
            let id = there.get(&field).copied();
            let change = Change { operation: 0, id, any: false, called_us: now_us, acknowledged_us: Some(now_us) };
            self.add((session, field), change);
        }
    }

    /// An operation is acknowledged; `saw` is what it read. What is wrong with that, if anything.
    pub fn answered(
        &mut self,
        operation: u64,
        session: usize,
        kind: Kind,
        saw: Option<WriteId>,
        called_us: u64,
        now_us: u64,
    ) -> Option<String> {
        let other = if let Kind::Rename { to, .. } = kind { Some(to) } else { None };
        if other.is_some() && saw.is_none() {
            // There was no such key: nothing has changed.
            self.changes.values_mut().for_each(|changes| changes.retain(|change| change.operation != operation));
            return None;
        }
        for (session, field) in std::iter::once(session).chain(other).flat_map(|s| (0..FIELDS.len()).map(move |f| (s, f))) {
            for change in self.changes.get_mut(&(session, field)).into_iter().flatten().rev() {
                if change.operation == operation {
                    change.acknowledged_us = Some(now_us);
                }
            }
        }
        let (Kind::Read(field) | Kind::Update(field, _)) = kind else { return None };
        let changes = self.changes.get(&(session, field)).map(Vec::as_slice).unwrap_or_default();
        let overwritten = |seen: &Change| {
            let Some(acknowledged_us) = seen.acknowledged_us else { return false };
            let newer = |c: &Change| c.called_us > acknowledged_us && c.acknowledged_us.is_some_and(|at| at < called_us);
            changes.iter().any(|c| (c.id, c.any) != (seen.id, seen.any) && newer(c))
        };
        let mut seen = changes.iter().rev().filter(|c| (c.any || c.id == saw) && c.operation != operation).peekable();
        if seen.peek().is_none() {
            return (saw.is_some() || !changes.is_empty()).then(|| format!("read {saw:?}, which nobody wrote"));
        }
        (!seen.any(|c| !overwritten(c)))
            .then(|| format!("read {saw:?} of {} although a later change was acknowledged", FIELDS[field].0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_read_is_seen_and_a_concurrent_one_is_not() {
        let mut history = History::default();
        for (id, at) in [(1, 10), (2, 30)] {
            history.called(id, 0, Kind::Write(0, id), at);
            assert_eq!(history.answered(id, 0, Kind::Write(0, id), None, at, at + 10), None);
        }
        assert_eq!(history.answered(3, 0, Kind::Read(0), Some(2), 50, 60), None);
        assert_eq!(
            history.answered(4, 0, Kind::Read(0), Some(1), 35, 60),
            None,
            "called before the second write was acknowledged"
        );
        assert!(history.answered(5, 0, Kind::Read(0), Some(1), 50, 60).is_some());
        assert!(history.answered(6, 0, Kind::Read(0), None, 50, 60).is_some());
        history.lost(0, 70);
        assert_eq!(history.answered(7, 0, Kind::Read(0), None, 75, 80), None);
        assert!(history.answered(8, 0, Kind::Read(0), Some(2), 75, 80).is_some(), "nothing lost comes back");
        assert!(history.answered(9, 0, Kind::Read(0), Some(99), 75, 80).is_some());
    }
}

//! Judges whether a history of one location is linearizable.
//!
//! It never runs anything. Because each successful compare-and-set takes a fresh epoch, the values of the location form one
//! chain, and the check is exact without a search:
//!
//! - Each success goes from one value to the next, and no value has two successors: the chain.
//! - An operation that found the k-th value of the chain (0: none) has rank 2k + 1, the success that made it 2k.
//! - An order that explains the history exists if and only if no operation ended before another of lower rank began:
//!   then sorting by rank, and by time within a rank, is one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use wayfarer_engine::ids::Epoch;

/// What an operation learned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answered {
    /// A read found this.
    Read(Option<Epoch>),
    /// A compare-and-set succeeded.
    Set {
        /// What it compared with.
        from: Option<Epoch>,
        /// The fresh epoch that it put.
        to: Epoch,
    },
    /// A compare-and-set was refused.
    NotSet {
        /// What it compared with.
        from: Option<Epoch>,
        /// What it found.
        found: Option<Epoch>,
    },
}

impl Answered {
    /// The value that stood there when the operation was over.
    pub fn left(self) -> Option<Epoch> {
        match self {
            Answered::Read(found) | Answered::NotSet { found, .. } => found,
            Answered::Set { to, .. } => Some(to),
        }
    }
}

/// One operation, from before it was asked until after it was answered, in ticks of a [`Recorder`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Before it was asked.
    pub started: u64,
    /// After it was answered.
    pub ended: u64,
    /// What was answered.
    pub answered: Answered,
}

/// A clock that all tasks of a history share: no two ticks are alike, and their order is the order of events.
#[derive(Default)]
pub struct Recorder(AtomicU64);

impl Recorder {
    /// The next tick.
    pub fn tick(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// How many compare-and-sets succeeded in a history that is linearizable, or why it is not.
pub fn check(history: &[Operation]) -> Result<usize, String> {
    let mut next = BTreeMap::new();
    for operation in history {
        if let Answered::Set { from, to } = operation.answered
            && let Some(other) = next.insert(from, to)
        {
            return Err(format!("{other:?} and {to:?} were both set in place of {from:?}"));
        }
        if let Answered::NotSet { from, found } = operation.answered
            && from == found
        {
            return Err(format!("refused, though it found {found:?} as it compared"));
        }
    }
    let mut places = BTreeMap::from([(None, 0u64)]);
    let mut at = None;
    while let Some(to) = next.get(&at) {
        let place = places.len() as u64;
        if places.insert(Some(*to), place).is_some() {
            return Err(format!("{to:?} was set twice"));
        }
        at = Some(*to);
    }
    if places.len() != next.len() + 1 {
        return Err("an epoch was replaced that nobody had set".to_owned());
    }
    let mut ranked = Vec::with_capacity(history.len());
    for operation in history {
        let left = operation.answered.left();
        let place = places.get(&left).ok_or_else(|| format!("{left:?} was found, but nobody set it"))?;
        let is_found = !matches!(operation.answered, Answered::Set { .. });
        ranked.push((2 * place + u64::from(is_found), operation));
    }
    // Highest rank first: whatever comes later in this order must not have begun after the earliest end so far.
    ranked.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    let mut earliest: Option<&Operation> = None;
    for same_rank in ranked.chunk_by(|(a, _), (b, _)| a == b) {
        for (_, operation) in same_rank {
            if let Some(above) = earliest.filter(|above| above.ended < operation.started) {
                return Err(format!("{operation:?} began after {above:?} had ended, and must come before it"));
            }
        }
        let ended = same_rank.iter().map(|(_, operation)| *operation).chain(earliest).min_by_key(|operation| operation.ended);
        earliest = ended;
    }
    Ok(next.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(started: u64, ended: u64, answered: Answered) -> Operation {
        Operation { started, ended, answered }
    }

    fn set(from: u64, to: u64) -> Answered {
        Answered::Set { from: some(from), to: Epoch(to) }
    }

    fn read(found: u64) -> Answered {
        Answered::Read(some(found))
    }

    fn some(epoch: u64) -> Option<Epoch> {
        (epoch > 0).then_some(Epoch(epoch))
    }

    #[test]
    fn right_histories_pass() {
        assert_eq!(check(&[]), Ok(0));
        assert_eq!(check(&[op(0, 1, read(0)), op(2, 3, set(0, 5)), op(4, 5, read(5)), op(6, 7, set(5, 9))]), Ok(2));
        // Overlapping: the read may see either value.
        for found in [0, 5] {
            assert_eq!(check(&[op(0, 3, set(0, 5)), op(1, 2, read(found)), op(4, 5, read(5))]), Ok(1));
        }
        let refused = Answered::NotSet { from: None, found: some(5) };
        assert_eq!(check(&[op(0, 3, set(0, 5)), op(1, 2, refused)]), Ok(1));
    }

    #[test]
    fn wrong_histories_are_found() {
        let wrong: [&[Operation]; 8] = [
            // A read that comes after a set and does not see it.
            &[op(0, 1, set(0, 5)), op(2, 3, read(0))],
            // Two reads, the later of which sees the older value.
            &[op(0, 9, set(0, 5)), op(1, 2, read(5)), op(3, 4, read(0))],
            // A value before it was set.
            &[op(0, 1, read(5)), op(2, 3, set(0, 5))],
            // Two successes on one value: a lost update.
            &[op(0, 9, set(0, 5)), op(1, 8, set(0, 6))],
            // A value out of nowhere, found and replaced.
            &[op(0, 1, read(7))],
            &[op(0, 1, set(7, 8))],
            // An epoch that is used again.
            &[op(0, 1, set(0, 5)), op(2, 3, set(5, 6)), op(4, 5, set(6, 5))],
            // Refused with what it compared.
            &[op(0, 1, Answered::NotSet { from: None, found: None })],
        ];
        for history in wrong {
            assert!(check(history).is_err(), "{history:?}");
        }
    }
}

//! The databases in which the service has keys of sessions: 0, those that patterns name, and those that operations came from.
//!
//! It never forgets one. Only grows: an operation is noted before its session is looked for, so whoever asks for a key of a
//! database finds what is at rest there. What is at rest in a database that nobody has asked for since this process began is loaded
//! when it is first named ([`wayfarer_engine::node::Input::Reach`]).

use std::sync::atomic::{AtomicU64, Ordering};

/// See the head of this file: one bit a database.
pub(super) struct Databases([AtomicU64; 4]);

impl Default for Databases {
    fn default() -> Databases {
        Databases([AtomicU64::new(1), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)])
    }
}

impl Databases {
    /// From now on it is one of them.
    pub(super) fn note(&self, database: u8) {
        if let Some(word) = self.0.get(usize::from(database / 64)) {
            word.fetch_or(1 << (database % 64), Ordering::AcqRel);
        }
    }

    /// Whether it is one of them.
    pub(super) fn has(&self, database: u8) -> bool {
        self.0.get(usize::from(database / 64)).is_some_and(|word| word.load(Ordering::Acquire) >> (database % 64) & 1 == 1)
    }

    /// In ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u8> {
        let words: Vec<u64> = self.0.iter().map(|word| word.load(Ordering::Acquire)).collect();
        (0..=u8::MAX).filter(move |n| words.get(usize::from(n / 64)).is_some_and(|word| word >> (n % 64) & 1 == 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_known_once_it_was_noted() {
        let databases = Databases::default();
        assert_eq!(databases.iter().collect::<Vec<_>>(), [0]);
        for n in [255, 3, 64, 3] {
            databases.note(n);
        }
        assert_eq!(databases.iter().collect::<Vec<_>>(), [0, 3, 64, 255]);
    }
}

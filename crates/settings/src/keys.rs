//! Which keys belong to sessions: several [`KeyPattern`]s, and the one of them that a key belongs to.
//!
//! It never allocates or fails on a key, and knows no regular expressions. The state face asks it for every key of every
//! command; `wayfarer check --key` and `wayfarer init` ask it too.
//!
//! | pattern | takes | session | variable |
//! |---|---|---|---|
//! | `sess:{session}` | `sess:42` | `42` | by the layout, or the fixed name |
//! | `{session:uuid}` | a bare UUID | all of it | the same |
//! | `{session}:lock` | `42:lock` | `42` | the same |
//! | `u:{session}:v:{variable}` | `u:42:v:cart` | `42` (up to the first `:v:`) | `cart` |
//! | `t:{any}:{session}` | `t:eu:42` | `42` | the same |
//!
//! Where several patterns take a key, the more specific one wins: more text at the ends, then more text in between, then the
//! stricter shapes, then a database; and of two that are alike in all that, the first in the configuration.
//! Invariant: the answer depends on the patterns and their order alone.

pub use crate::pattern::{KeyPattern, OPAQUE_VARIABLE, PATTERN_BYTES_MAX, VARIABLE_BYTES_MAX};

use crate::mistake::Complaint;
use wayfarer_engine::session::Layout;

/// What a key was taken for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Match<'a> {
    /// The session's id: private, never to be shown.
    pub session: &'a [u8],
    /// Index of the pattern in [`KeyMatcher::patterns`].
    pub pattern: usize,
    /// How the value is divided into variables.
    pub layout: Layout,
    /// The variable that the key is, for the layouts `key` and `opaque`; for `json`, `msgpack` and `php` the name of a value
    /// that cannot be divided; `None`: the fields of a hash have their own names.
    pub variable: Option<&'a [u8]>,
}

/// Finds the session of a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyMatcher {
    patterns: Vec<KeyPattern>,
    /// Indices of `patterns`, the most specific first.
    order: Vec<usize>,
}

impl KeyMatcher {
    /// A matcher of these patterns.
    pub fn new(patterns: Vec<KeyPattern>) -> KeyMatcher {
        let mut ranked: Vec<_> = patterns.iter().map(KeyPattern::specificity).enumerate().collect();
        ranked.sort_by_key(|(index, rank)| (std::cmp::Reverse(*rank), *index));
        let order = ranked.into_iter().map(|(index, _)| index).collect();
        KeyMatcher { patterns, order }
    }

    /// The same, and every other key but the empty one is a session by itself: the whole key is its id. For a listener that serves
    /// nothing but sessions. The error: `layout` is `key`, which needs a name.
    pub fn and_everything(&self, layout: Layout) -> Result<KeyMatcher, Complaint> {
        let rest = KeyPattern::parse("{session}", layout, None)?;
        Ok(KeyMatcher::new(self.patterns.iter().cloned().chain([rest]).collect()))
    }

    /// The patterns, in the order of the configuration.
    pub fn patterns(&self) -> &[KeyPattern] {
        &self.patterns
    }

    /// The keys of a session in a database whose names follow from its id, with their layouts and the names of their variables.
    pub fn keys_of(&self, database: u32, session: &[u8]) -> Vec<(Vec<u8>, Layout, Vec<u8>)> {
        let listed = self.patterns.iter().filter(|pattern| !pattern.has_captured());
        let keys = listed.filter_map(|pattern| pattern.key_of(session).ok());
        let found = keys.filter_map(|key| {
            // What a more specific pattern takes for another session's is another session's.
            let found = self.classify(database, &key).filter(|found| found.session == session)?;
            let (layout, label) = (found.layout, found.variable.unwrap_or_default().to_vec());
            Some((key, layout, label))
        });
        let mut found: Vec<_> = found.collect();
        // Two patterns may name one key.
        found.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        found.dedup_by(|(a, ..), (b, ..)| a == b);
        found
    }

    /// Whether some pattern has more than the session's id in its keys, so that not all keys of a session can be listed.
    pub fn has_captured(&self) -> bool {
        self.patterns.iter().any(KeyPattern::has_captured)
    }

    /// The session and variable that `key` of `database` (as the client counts them) belongs to; `None`: it is no session's.
    pub fn classify<'a>(&'a self, database: u32, key: &'a [u8]) -> Option<Match<'a>> {
        self.order.iter().find_map(|index| {
            let pattern = self.patterns.get(*index)?;
            let (session, variable) = pattern.take(database, key)?;
            Some(Match { session, pattern: *index, layout: pattern.layout(), variable })
        })
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;

//! Which session and variable a key is, for the operations of clients and for those that other nodes forward.
//!
//! It never sees a value. It wraps the [`KeyMatcher`] of the settings, and fills the targets of an operation in without copying
//! what it can share.
//!
//! Invariant: an operation is only handed on with every target filled in.

use bytes::Bytes;
use wayfarer_engine::command::{Op, Target};
use wayfarer_settings::KeyMatcher;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct SessionKeys {
    matcher: KeyMatcher,
    /// The fixed name of the variable, for each pattern that has one.
    labels: Vec<Bytes>,
}

impl SessionKeys {
    /// Keys as the settings describe them.
    pub fn new(matcher: KeyMatcher) -> SessionKeys {
        let label = |name: Option<&str>| Bytes::copy_from_slice(name.unwrap_or_default().as_bytes());
        let labels = matcher.patterns().iter().map(|p| label(p.variable())).collect();
        SessionKeys { matcher, labels }
    }

    /// Whether `key` belongs to a session.
    pub fn is_session(&self, key: &[u8]) -> bool {
        self.matcher.classify(key).is_some()
    }

    /// Fills a target in and says its session, as a slice of the key; `None`: the key is no session's.
    pub fn fill(&self, target: &mut Target) -> Option<Bytes> {
        let key = &target.key;
        let found = self.matcher.classify(key)?;
        let session = key.slice_ref(found.session);
        let fixed = self.labels.get(found.pattern).filter(|label| !label.is_empty());
        let label = match (fixed, found.variable) {
            (Some(fixed), _) => fixed.clone(),
            (None, Some(captured)) => key.slice_ref(captured),
            (None, None) => Bytes::new(),
        };
        (target.layout, target.label) = (found.layout, label);
        Some(session)
    }

    /// Fills in all targets of an operation that concerns one session, and says which; `None`: it concerns none, or several.
    pub fn fill_all(&self, op: &mut Op) -> Option<Bytes> {
        let mut session: Option<Bytes> = None;
        for target in op.targets_mut() {
            let found = self.fill(target)?;
            if session.as_ref().is_some_and(|s| *s != found) {
                return None;
            }
            session = Some(found);
        }
        session
    }
}

//! Which session and variable a key is, for the operations of clients and for those that other nodes forward.
//!
//! It never sees a value. It wraps the [`KeyMatcher`] of the settings, and fills the targets of an operation in without copying
//! what it can share.
//!
//! A key of another database than 0 has the number of that database before its name within its session
//! ([`wayfarer_engine::command::compound::in_database`]): one client has one session, whatever databases its service uses.
//! Database 0 is the one that the upstream's URL names, so a client that selects that one by its number is in 0 too.
//! Invariant: an operation is only handed on with every target filled in.

use bytes::Bytes;
use wayfarer_engine::command::compound::{database_of, in_database};
use wayfarer_engine::command::{Op, Target};
use wayfarer_settings::keys::OPAQUE_VARIABLE;
use wayfarer_settings::{KeyMatcher, KeyPattern, Match, Numbering, State, Upstream};

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct SessionKeys {
    matcher: KeyMatcher,
    /// The fixed name of the variable, for each pattern that has one.
    labels: Vec<Bytes>,
    numbering: Numbering,
    merges: bool,
}

impl SessionKeys {
    /// The keys of a listener's clients, as the settings describe them.
    pub fn new(state: &State) -> SessionKeys {
        SessionKeys::by(state.keys.clone(), state)
    }

    /// The keys of all listeners' clients.
    pub fn of_all(state: &State) -> SessionKeys {
        SessionKeys::by(state.every_key().clone(), state)
    }

    fn by(matcher: KeyMatcher, state: &State) -> SessionKeys {
        let numbering = state.upstream.as_ref().map(Upstream::numbering).unwrap_or_default();
        // The usual name costs no count of who has it.
        let label = |name: Option<&str>| match name {
            Some(OPAQUE_VARIABLE) => Bytes::from_static(OPAQUE_VARIABLE.as_bytes()),
            name => Bytes::copy_from_slice(name.unwrap_or_default().as_bytes()),
        };
        let labels = matcher.patterns().iter().map(|p| label(p.variable())).collect();
        let merges = matcher.patterns().iter().any(KeyPattern::merges);
        SessionKeys { matcher, labels, numbering, merges }
    }

    /// Whether there are keys whose values are merged.
    pub fn any_merges(&self) -> bool {
        self.merges
    }

    /// Whether writes to a key are merged, by its name within its session.
    pub fn merges(&self, name: &Bytes) -> bool {
        let (database, key) = database_of(name);
        let found = self.classify(database, &key);
        found.and_then(|found| self.matcher.patterns().get(found.pattern)).is_some_and(KeyPattern::merges)
    }

    /// The number of the pattern that takes a key, by its name within its session.
    pub fn pattern_of(&self, name: &Bytes) -> Option<usize> {
        let (database, key) = database_of(name);
        self.classify(database, &key).map(|found| found.pattern)
    }

    /// The number that stands for a database: two numbers may name the same one.
    pub fn canonical(&self, database: u8) -> u8 {
        self.numbering.canonical(database)
    }

    fn classify<'a>(&'a self, database: u8, key: &'a [u8]) -> Option<Match<'a>> {
        let named = |database: u32| self.matcher.classify(database, key);
        // A pattern may name the first one by either number, and another node is told 0.
        if self.canonical(database) == 0 { named(0).or_else(|| named(self.numbering.first)) } else { named(u32::from(database)) }
    }

    /// Whether `key` of a database belongs to a session.
    pub fn is_session(&self, database: u8, key: &[u8]) -> bool {
        self.classify(database, key).is_some()
    }

    /// The session of a key of a database, if it is one's.
    pub fn session_of<'a>(&'a self, database: u8, key: &'a [u8]) -> Option<&'a [u8]> {
        self.classify(database, key).map(|found| found.session)
    }

    /// Fills a target in and says its session, as a slice of the key; `None`: the key is no session's.
    pub fn fill(&self, database: u8, target: &mut Target) -> Option<Bytes> {
        let key = &target.key;
        let found = self.classify(database, key)?;
        let session = key.slice_ref(found.session);
        let fixed = self.labels.get(found.pattern).filter(|label| !label.is_empty());
        let label = match (fixed, found.variable) {
            (Some(fixed), _) => fixed.clone(),
            (None, Some(captured)) => key.slice_ref(captured),
            (None, None) => Bytes::new(),
        };
        (target.layout, target.label) = (found.layout, label);
        match self.canonical(database) {
            0 => {}
            other => target.key = in_database(other, &target.key),
        }
        Some(session)
    }

    /// Fills in the two targets of an operation, and says their sessions; `None`: one of them is no session's.
    pub fn fill_both(&self, database: u8, op: &mut Op) -> Option<(Bytes, Bytes)> {
        let [first, second] = op.targets_mut() else { return None };
        Some((self.fill(database, first)?, self.fill(database, second)?))
    }

    /// Fills in all targets of an operation that concerns one session, and says which; `None`: it concerns none, or several.
    pub fn fill_all(&self, database: u8, op: &mut Op) -> Option<Bytes> {
        let mut session: Option<Bytes> = None;
        for target in op.targets_mut() {
            let found = self.fill(database, target)?;
            if session.as_ref().is_some_and(|s| *s != found) {
                return None;
            }
            session = Some(found);
        }
        session
    }
}

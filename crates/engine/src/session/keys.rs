//! The keys of a session: found by their names, and by when the next of them expires.
//!
//! It never looks into a key's variables, and never decides that a key has expired: [`super::Session`] asks and changes.
//!
//! Most sessions have a few keys: these are searched in line, stand in the order of their creation and cost nothing beside
//! themselves. From [`INDEXED_FROM`] on an index finds names and expiries, so that what a client does with one of many keys costs
//! the same as with one of few; the place of a removed key is then taken by the last.
//!
//! A caller who is shown a key to change may give it another expiry. Until the next one is shown, the index leaves this one's
//! expiry out and looks at the key itself.
//! Invariant: the index, where there is one, knows each name's place, and each expiry but that of the key shown last.

use super::{Key, Name};
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap};

/// From so many keys on they are indexed: below it a linear search is faster and costs no memory.
const INDEXED_FROM: usize = 48;
/// Up to so many keys no room for more is kept ahead.
const EXACT_UP_TO: usize = 8;

#[derive(Clone, Default)]
struct Index {
    places: HashMap<Name, usize>,
    /// How many keys expire in each millisecond.
    expiries: BTreeMap<u64, usize>,
    /// The place of the key that was shown last to be changed.
    shown: Option<usize>,
}

/// See the head of this file.
#[derive(Clone, Default)]
pub(super) struct Keys {
    /// The first one in place: most sessions have no other.
    list: SmallVec<[Key; 1]>,
    #[allow(clippy::box_collection, reason = "few sessions have an index: the others pay for a pointer")]
    index: Option<Box<Index>>,
}

impl PartialEq for Keys {
    fn eq(&self, other: &Keys) -> bool {
        self.list == other.list
    }
}

impl Eq for Keys {}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.list.fmt(f)
    }
}

impl Index {
    fn of(list: &[Key]) -> Index {
        let mut index = Index::default();
        for (at, key) in list.iter().enumerate() {
            index.places.insert(key.name.clone(), at);
            index.count(key.expires_at_ms);
        }
        index
    }

    fn count(&mut self, expires_at_ms: Option<u64>) {
        if let Some(at_ms) = expires_at_ms {
            *self.expiries.entry(at_ms).or_default() += 1;
        }
    }

    fn discount(&mut self, expires_at_ms: Option<u64>) {
        if let Some(at_ms) = expires_at_ms
            && let Some(count) = self.expiries.get_mut(&at_ms)
        {
            *count -= 1;
            if *count == 0 {
                self.expiries.remove(&at_ms);
            }
        }
    }

    /// Counts the expiry that the key shown last has by now.
    fn settle(&mut self, list: &[Key]) {
        if let Some(key) = self.shown.take().and_then(|at| list.get(at)) {
            self.count(key.expires_at_ms);
        }
    }
}

impl Keys {
    pub(super) fn list(&self) -> &[Key] {
        &self.list
    }

    /// Where the key of this name is, expired or not.
    pub(super) fn position(&self, name: &[u8]) -> Option<usize> {
        if let Some(index) = &self.index {
            return index.places.get(name).copied();
        }
        steps::add(self.list.len());
        self.list.iter().position(|key| key.name.as_ref() == name)
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Key> {
        self.list.get(self.position(name)?)
    }

    /// A key at its place, for a change of its variables; its expiry stays.
    pub(super) fn at_mut(&mut self, at: usize) -> Option<&mut Key> {
        self.list.get_mut(at)
    }

    /// The key at a place, for any change but that of its name.
    pub(super) fn show(&mut self, at: usize) -> Option<&mut Key> {
        if let Some(index) = &mut self.index {
            index.settle(&self.list);
            index.discount(self.list.get(at)?.expires_at_ms);
            index.shown = Some(at);
        }
        self.list.get_mut(at)
    }

    /// Adds a key of a name that is not there, as the last.
    pub(super) fn push(&mut self, key: Key) {
        if let Some(index) = &mut self.index {
            index.places.insert(key.name.clone(), self.list.len());
            index.count(key.expires_at_ms);
        }
        if self.list.len() < EXACT_UP_TO {
            self.list.reserve_exact(1);
        }
        self.list.push(key);
        if self.index.is_none() && self.list.len() >= INDEXED_FROM {
            self.index = Some(Box::new(Index::of(&self.list)));
        }
    }

    /// Takes the key at a place out.
    pub(super) fn take(&mut self, at: usize) -> Option<Key> {
        let name = &self.list.get(at)?.name;
        let Some(index) = &mut self.index else {
            steps::add(self.list.len() - at);
            return Some(self.list.remove(at));
        };
        index.settle(&self.list);
        index.places.remove(&**name);
        let key = self.list.swap_remove(at);
        index.discount(key.expires_at_ms);
        if let Some(moved) = self.list.get(at) {
            index.places.insert(moved.name.clone(), at);
        }
        Some(key)
    }

    /// Keeps only the keys that `keep` names. True: some went.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Key) -> bool) -> bool {
        let before = self.list.len();
        self.list.retain(|key| keep(key));
        let some_went = self.list.len() != before;
        if some_went {
            self.index = (self.list.len() >= INDEXED_FROM).then(|| Box::new(Index::of(&self.list)));
        }
        some_went
    }

    /// When the next key expires, in ms since 1970.
    pub(super) fn next_expiry_ms(&self) -> Option<u64> {
        let Some(index) = &self.index else { return self.list.iter().filter_map(|key| key.expires_at_ms).min() };
        let shown = index.shown.and_then(|at| self.list.get(at)?.expires_at_ms);
        let counted = index.expiries.first_key_value().map(|(at_ms, _)| *at_ms);
        shown.into_iter().chain(counted).min()
    }
}

/// Counts the keys that a test's searches and removals have touched.
mod steps {
    #[cfg(test)]
    thread_local!(static TAKEN: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

    #[cfg(test)]
    pub(super) fn add(keys: usize) {
        TAKEN.set(TAKEN.get() + keys);
    }

    #[cfg(not(test))]
    pub(super) fn add(_: usize) {}

    #[cfg(test)]
    pub(super) fn take() -> usize {
        TAKEN.take()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::command::compound::{TRANSACTION_COMMANDS_MAX, in_database};
    use crate::command::{Executed, Op, Parsed, execute, parse};
    use crate::ids::Version;
    use crate::session::{Layout, Session};
    use crate::wire::resp::Protocol;
    use bytes::{Bytes, BytesMut};

    fn op(words: &[&str]) -> Op {
        match parse(words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()) {
            Parsed::Keyed(op) => op,
            other => panic!("{other:?}"),
        }
    }

    fn run(session: &mut Session, op: &Op, now: u64) -> Bytes {
        let mut out = BytesMut::new();
        assert!(matches!(execute(session, op, now, Protocol::Resp2, &mut out), Executed::Done { .. }));
        out.freeze()
    }

    /// Whether names and expiries are found as a search in line finds them.
    fn assert_found(session: &Session) {
        let keys = session.keys();
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(session.keys.position(&key.name), Some(at));
        }
        assert_eq!(session.next_expiry_ms(), keys.iter().filter_map(|k| k.expires_at_ms).min());
        if let Some(index) = &session.keys.index {
            assert_eq!(index.places.len(), keys.len());
            let shown = usize::from(index.shown.is_some_and(|at| keys.get(at).is_some_and(|k| k.expires_at_ms.is_some())));
            assert_eq!(index.expiries.values().sum::<usize>() + shown, keys.iter().filter(|k| k.expires_at_ms.is_some()).count());
        }
    }

    #[test]
    fn names_and_expiries_are_found_while_keys_come_change_and_go() {
        let (mut session, mut seed) = (Session::new(Version(0)), 7u64);
        let mut draw = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for round in 0..3_000u64 {
            // The number of keys wanders over the threshold, in both directions.
            let (key, other, ms) = (format!("k{}", draw(100)), format!("k{}", draw(100)), 1_000 + draw(50));
            let command: Vec<String> = match draw(if round / 500 % 2 == 0 { 7 } else { 10 }) {
                0..=2 => vec!["SET".into(), key, "v".into()],
                3 => vec!["SET".into(), key, "v".into(), "PXAT".into(), ms.to_string()],
                4 => vec!["PEXPIREAT".into(), key, ms.to_string()],
                5 => vec!["PERSIST".into(), key],
                6 => vec!["RENAME".into(), key, other],
                7 => vec!["HSET".into(), key, "f".into(), "v".into()],
                _ => vec!["DEL".into(), key, other],
            };
            run(&mut session, &op(&command.iter().map(String::as_str).collect::<Vec<_>>()), 500);
            if round % 700 == 699 {
                session.expire(1_020);
            }
            assert_found(&session);
        }
        session.expire(u64::MAX);
        assert_found(&session);
    }

    #[test]
    fn a_transaction_with_as_many_keys_as_it_may_have_takes_a_few_steps_for_each() {
        let mut session = Session::new(Version(0));
        let names: Vec<String> = (0..TRANSACTION_COMMANDS_MAX).map(|n| format!("c:s:{n}")).collect();
        let all = |command: &dyn Fn(&str) -> Op| Op::transaction(names.iter().map(|name| command(name)).collect(), Vec::new());
        for (command, reply) in [
            (all(&|name| op(&["SET", name, "v", "PXAT", "9000"])), "+OK\r\n"),
            (all(&|name| op(&["SET", name, "w"])), "+OK\r\n"),
            (all(&|name| op(&["EXPIRE", name, "1"])), ":1\r\n"),
            (all(&|name| op(&["GET", name])), "$1\r\nw\r\n"),
            (all(&|name| op(&["DEL", name])), ":1\r\n"),
        ] {
            steps::take();
            assert_eq!(command.targets().len(), names.len());
            let replies = run(&mut session, &command, 500);
            assert!(replies.ends_with(reply.as_bytes()) && replies.len() > names.len() * reply.len());
            let taken = steps::take();
            assert!(taken <= 10 * INDEXED_FROM * INDEXED_FROM, "{taken} keys looked at or moved");
        }
        assert!(session.is_empty());
    }

    #[test]
    fn one_command_with_many_keys_takes_a_few_steps_for_each() {
        let mut session = Session::new(Version(0));
        let names: Vec<String> = (0..30_000).map(|n| format!("c:s:{n}")).collect();
        let mut write: Vec<&str> = vec!["MSET"];
        names.iter().for_each(|name| write.extend([name.as_str(), "v"]));
        let mut write = op(&write);
        for target in write.targets_mut() {
            (target.layout, target.key) = (Layout::Opaque, in_database(3, &target.key));
        }
        steps::take();
        assert_eq!(run(&mut session, &write, 500), "+OK\r\n");
        assert_eq!(run(&mut session, &write, 500), "+OK\r\n");
        assert_eq!(session.keys().len(), names.len());
        assert!(steps::take() <= INDEXED_FROM * 10 * INDEXED_FROM);
    }
}

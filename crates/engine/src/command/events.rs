//! What happens to keys, as Redis tells it to subscribers: the events of an execution, and which of them are wanted.
//!
//! It never sends anything. [`super::execute_noting`] notes events while it runs; the store hands them on, in the order in which
//! they happened.
//!
//! | letter | class | events |
//! |---|---|---|
//! | `g` | generic | del, expire, persist, rename_from, rename_to, copy_to |
//! | `$` | strings | set, append, incrby, incrbyfloat, setrange, setbit |
//! | `l` `s` `h` `z` | lists, sets, hashes, sorted sets | lpush, sadd, hset, zadd … |
//! | `x` | expired | expired |
//! | `e` `t` `d` `n` `m` | eviction, streams, modules, new keys, misses | none: nothing of the kind happens here, or it is not told |
//! | `K` `E` | where they are told: by key, by event | |
//! | `A` | all classes but `n` and `m` | |
//!
//! Invariant: an execution that changes nothing (a value is missing, a script is undone) leaves no event behind.

use bytes::Bytes;

/// Classes of events, and where they are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Classes(u16);

/// Letter and bit, in the order in which Redis shows them.
const LETTERS: [(char, Classes); 12] = [
    ('g', Classes::GENERIC),
    ('$', Classes::STRING),
    ('l', Classes::LIST),
    ('s', Classes::SET),
    ('h', Classes::HASH),
    ('z', Classes::SORTED_SET),
    ('x', Classes::EXPIRED),
    ('e', Classes(1 << 7)),
    ('t', Classes(1 << 8)),
    ('d', Classes(1 << 9)),
    ('n', Classes(1 << 10)),
    ('m', Classes(1 << 11)),
];

impl Classes {
    /// None.
    pub const NONE: Classes = Classes(0);
    /// Of keys of any type.
    pub const GENERIC: Classes = Classes(1);
    /// Of strings.
    pub const STRING: Classes = Classes(1 << 1);
    /// Of lists.
    pub const LIST: Classes = Classes(1 << 2);
    /// Of sets.
    pub const SET: Classes = Classes(1 << 3);
    /// Of hashes.
    pub const HASH: Classes = Classes(1 << 4);
    /// Of sorted sets.
    pub const SORTED_SET: Classes = Classes(1 << 5);
    /// A key's time has come.
    pub const EXPIRED: Classes = Classes(1 << 6);
    /// Told by the name of the key.
    pub const BY_KEY: Classes = Classes(1 << 12);
    /// Told by the name of the event.
    pub const BY_EVENT: Classes = Classes(1 << 13);
    /// `A`
    const ALL: Classes = Classes((1 << 10) - 1);

    /// Reads the value of `notify-keyspace-events`; `None`: there is another letter in it.
    pub fn parse(text: &[u8]) -> Option<Classes> {
        let letter = |letter: &u8| match letter {
            b'A' => Some(Classes::ALL),
            b'K' => Some(Classes::BY_KEY),
            b'E' => Some(Classes::BY_EVENT),
            other => LETTERS.iter().find(|(known, _)| *known == char::from(*other)).map(|(_, class)| *class),
        };
        text.iter().map(letter).try_fold(Classes::NONE, |sum, class| Some(sum.with(class?)))
    }

    /// As `CONFIG GET` shows it.
    pub fn text(self) -> String {
        let mut text = String::new();
        let is_all = self.has(Classes::ALL);
        let shown = LETTERS.iter().filter(|(letter, class)| *letter != 'm' && self.has(*class));
        // Redis shows new keys only beside single classes.
        if is_all {
            text.push('A')
        } else {
            text.extend(shown.map(|(letter, _)| *letter))
        }
        for (letter, class) in [('K', Classes::BY_KEY), ('E', Classes::BY_EVENT), ('m', Classes(1 << 11))] {
            if self.has(class) {
                text.push(letter);
            }
        }
        text
    }

    /// Both together.
    pub const fn with(self, more: Classes) -> Classes {
        Classes(self.0 | more.0)
    }

    /// Whether all of `class` are among them.
    pub const fn has(self, class: Classes) -> bool {
        self.0 & class.0 == class.0
    }

    /// Whether events of any class are told anywhere.
    pub fn tells_something(self) -> bool {
        (self.has(Classes::BY_KEY) || self.has(Classes::BY_EVENT)) && self.0 & (Classes::ALL.0) != 0
    }

    /// As a number, for an atomic or for another node.
    pub fn bits(self) -> u16 {
        self.0
    }

    /// Back from the number; unknown bits are left out.
    pub fn from_bits(bits: u16) -> Classes {
        Classes(bits & ((1 << 14) - 1))
    }
}

/// What happened to one key.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// Redis's name of it.
    pub name: &'static str,
    /// The key by its name within its session.
    pub key: Bytes,
}

impl std::fmt::Debug for Event {
    // Keys stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Event({}, {} B)", self.name, self.key.len())
    }
}

/// The events of one execution.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Events {
    wanted: Classes,
    noted: Vec<Event>,
}

impl Events {
    /// Notes those of these classes. Without any it costs nothing.
    pub fn of(wanted: Classes) -> Events {
        Events { wanted, noted: Vec::new() }
    }

    /// Notes one, if its class is wanted.
    pub fn note(&mut self, class: Classes, name: &'static str, key: &[u8]) {
        if self.wanted.has(class) {
            self.noted.push(Event { name, key: Bytes::copy_from_slice(key) });
        }
    }

    /// What was noted, in order.
    pub fn into_noted(self) -> Vec<Event> {
        self.noted
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// How many there are: for [`Events::undo`].
    pub(super) fn mark(&self) -> usize {
        self.noted.len()
    }

    /// Forgets what was noted since the mark.
    pub(super) fn undo(&mut self, mark: usize) {
        self.noted.truncate(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_read_as_redis_shows_them() {
        for (text, shown) in [
            ("", Some("")),
            ("Egx", Some("gxE")),
            ("KEA", Some("AKE")),
            ("g$lshzxetdK", Some("AK")),
            ("Am", Some("Am")),
            ("KElm", Some("lKEm")),
            ("nE", Some("nE")),
            ("Ex?", None),
        ] {
            assert_eq!(Classes::parse(text.as_bytes()).map(Classes::text).as_deref(), shown, "{text}");
        }
        assert!(Classes::parse(b"Ex").is_some_and(Classes::tells_something));
        assert!(!Classes::parse(b"gx").is_some_and(Classes::tells_something));
        assert!(!Classes::parse(b"KE").is_some_and(Classes::tells_something));
    }
}

//! The name of the guard of a key: of the same hash slot, so that one script may touch both.
//!
//! It never looks at a session. A key with a hash tag shares it; any other key is the tag of its guard. A key that has a closing
//! brace and no hash tag cannot be one: its guard has an empty tag, and so a slot of its own; in a Redis Cluster its tag is a number
//! with the key's slot.
//!
//! Invariant: different keys have different guards, and no guard has the name of a library's key.

use crate::upstream::{hash_tag, slot_of, tag_of_slot};
use bytes::Bytes;

/// The names of all guards begin with this.
pub const PREFIX: &[u8] = b"wf:{";

/// The name of the guard of `key`, where slots matter or not.
pub(super) fn guard_of(key: &[u8], has_slots: bool) -> Bytes {
    match hash_tag(key) {
        None if has_slots && key.contains(&b'}') => {
            [PREFIX, tag_of_slot(slot_of(key)).to_string().as_bytes(), b"}", key].concat()
        }
        Some(tag) => [PREFIX, tag, b"}:", key].concat(),
        // An empty tag is none for Redis.
        None if key.contains(&b'}') => [PREFIX, b"}", key].concat(),
        None => [PREFIX, key, b"}"].concat(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_hashes_as_its_key_does() {
        for key in [&b"sess:1"[..], b"{sess}:1", b"a{b}c{d}", b"{", b"x{}", b"{}{a}", b"}", b"a}b"] {
            if !key.contains(&b'}') || hash_tag(key).is_some() {
                assert_eq!(guard_of(key, true), guard_of(key, false));
                let hashed = |key: &[u8]| hash_tag(key).map_or_else(|| key.to_vec(), <[u8]>::to_vec);
                assert_eq!(hashed(&guard_of(key, false)), hashed(key), "{key:?}");
            }
            assert_eq!(slot_of(&guard_of(key, true)), slot_of(key), "{key:?}");
            assert!(guard_of(key, true).starts_with(PREFIX) && guard_of(key, false).starts_with(PREFIX));
        }
    }

    #[test]
    fn different_keys_have_different_guards() {
        let keys =
            [&b"a"[..], b"{a}", b"x{a}", b"{a}:{a}", b"a}:{a}", b"{a}:a", b"sess:{sess:1}", b"sess:1}:sess:{sess:1", b"}a"];
        for has_slots in [false, true] {
            let guards: std::collections::HashSet<_> = keys.iter().map(|key| guard_of(key, has_slots)).collect();
            assert_eq!(guards.len(), keys.len());
        }
    }
}

//! The name of the guard of a key: of the same hash slot, so that one script may touch both.
//!
//! It never looks at a session. A key with a hash tag shares it; any other key is the tag of its guard. A key that has a closing
//! brace and no hash tag has no such name: its guard has a slot of its own, which only a Redis Cluster would mind.
//!
//! Invariant: different keys have different guards, and no guard has the name of a library's key.

use bytes::Bytes;

/// The names of all guards begin with this.
pub const PREFIX: &[u8] = b"wf:{";

/// The name of the guard of `key`.
pub(super) fn guard_of(key: &[u8]) -> Bytes {
    match hash_tag(key) {
        Some(tag) => [PREFIX, tag, b"}:", key].concat(),
        // An empty tag is none for Redis.
        None if key.contains(&b'}') => [PREFIX, b"}", key].concat(),
        None => [PREFIX, key, b"}"].concat(),
    }
    .into()
}

/// What Redis hashes of a key with a tag: what stands between the first `{` and the next `}`, if that is not empty.
fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|b| *b == b'{')?;
    let rest = key.get(open + 1..)?;
    let close = rest.iter().position(|b| *b == b'}')?;
    rest.get(..close).filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_hashes_as_its_key_does() {
        let hashed = |key: &[u8]| hash_tag(key).map_or_else(|| key.to_vec(), <[u8]>::to_vec);
        for key in [&b"sess:1"[..], b"{sess}:1", b"a{b}c{d}", b"{", b"x{}", b"{}{a}"] {
            if !key.contains(&b'}') || hash_tag(key).is_some() {
                assert_eq!(hashed(&guard_of(key)), hashed(key), "{key:?}");
            }
            assert!(guard_of(key).starts_with(PREFIX));
        }
    }

    #[test]
    fn different_keys_have_different_guards() {
        let keys =
            [&b"a"[..], b"{a}", b"x{a}", b"{a}:{a}", b"a}:{a}", b"{a}:a", b"sess:{sess:1}", b"sess:1}:sess:{sess:1", b"}a"];
        let guards: std::collections::HashSet<_> = keys.iter().map(|key| guard_of(key)).collect();
        assert_eq!(guards.len(), keys.len());
    }
}

//! Sessions: versions, members, expiry, and the count of what is missing.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn an_unchanged_member_keeps_its_version() {
    let mut s = Session::new(Version(7));
    s.write_string(b"k", Layout::Json, b"", Bytes::from_static(br#"{"a":1,"b":2}"#));
    let before: Vec<Version> = s.key(b"k", 0).unwrap().variables().map(|(_, v)| v.version).collect();
    assert_eq!(before, [Version(8), Version(9), Version(10)]);
    assert!(s.write_string(b"k", Layout::Json, b"", Bytes::from_static(br#"{"a":1,"b":3}"#)));
    let after: Vec<Version> = s.key(b"k", 0).unwrap().variables().map(|(_, v)| v.version).collect();
    assert_eq!(after, [Version(8), Version(11), Version(10)]);
    assert!(!s.write_string(b"k", Layout::Json, b"", Bytes::from_static(br#"{"a":1,"b":3}"#)));
    assert_eq!(s.read_string(b"k", 0).unwrap(), &br#"{"a":1,"b":3}"#[..]);
}

#[test]
fn a_hash_goes_with_its_last_field_and_with_its_time() {
    let mut s = Session::default();
    assert!(s.write_field(b"h", b"f", Bytes::from_static(b"1"), 0));
    assert!(!s.write_field(b"h", b"f", Bytes::from_static(b"2"), 0));
    assert!(s.remove_field(b"h", b"f", 0));
    assert!(s.is_empty());
    s.write_field(b"h", b"f", Bytes::from_static(b"1"), 0);
    s.key_mut(b"h", 0).unwrap().expires_at_ms = Some(10);
    assert!(s.key(b"h", 9).is_some());
    assert!(s.key(b"h", 10).is_some(), "its last millisecond, as in Redis");
    assert!(s.key(b"h", 11).is_none());
    assert!(s.write_field(b"h", b"g", Bytes::from_static(b"1"), 11), "the expired hash is not written into");
    assert_eq!(s.key(b"h", 11).unwrap().len(), 1);
    assert!(s.expire(1_000).is_empty());
}

#[test]
fn many_fields_keep_their_names_through_removals() {
    let mut s = Session::default();
    for n in 0..200u32 {
        s.write_field(b"h", &n.to_be_bytes(), Bytes::copy_from_slice(&n.to_le_bytes()), 0);
    }
    for n in (0..200u32).step_by(3) {
        assert!(s.remove_field(b"h", &n.to_be_bytes(), 0));
    }
    for n in 0..200u32 {
        let read = s.read_field(b"h", &n.to_be_bytes(), 0);
        assert_eq!(read.as_deref(), (n % 3 != 0).then_some(&n.to_le_bytes()[..]));
    }
}

/// The versions of the variables of key `k` in order, each with its name.
fn versions(s: &Session) -> Vec<(String, u64)> {
    let name = |n: &Bytes| String::from_utf8_lossy(n).into_owned();
    s.key(b"k", 0).unwrap().variables().map(|(n, v)| (name(n), v.version.0)).collect()
}

fn php(s: &mut Session, text: &'static str) -> bool {
    let changed = s.write_string(b"k", Layout::Php, b"", Bytes::from_static(text.as_bytes()));
    assert_eq!(s.read_string(b"k", 0).unwrap(), text.as_bytes(), "it reads back as it was written");
    changed
}

fn named(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect()
}

#[test]
fn members_that_come_go_or_change_places_are_the_skeletons_new_version() {
    let mut s = Session::default();
    assert!(php(&mut s, "a|i:1;b|i:2;"));
    assert_eq!(versions(&s), named(&[("a", 1), ("b", 2), ("", 3)]));
    assert!(php(&mut s, "b|i:2;a|i:1;"), "another order is another value");
    assert_eq!(versions(&s), named(&[("b", 2), ("a", 1), ("", 4)]));
    assert!(php(&mut s, "b|i:2;a|i:1;c|i:3;"));
    assert_eq!(versions(&s), named(&[("b", 2), ("a", 1), ("c", 5), ("", 6)]));
    assert!(php(&mut s, "a|i:1;c|i:3;"));
    assert_eq!(versions(&s), named(&[("a", 1), ("c", 5), ("", 7)]));
    assert!(php(&mut s, "no session"), "what cannot be divided is one variable");
    assert_eq!(versions(&s), named(&[("", 8)]));
    assert!(!php(&mut s, "no session"));
}

#[test]
fn an_unchanged_value_is_a_touch() {
    let mut s = Session::default();
    php(&mut s, "a|i:1;b|i:2;");
    assert!(!php(&mut s, "a|i:1;b|i:2;"));
    assert!(php(&mut s, "a|i:1;b|i:3;"));
    let writes = |name: &'static [u8]| {
        let id = VariableId { key: Bytes::from_static(b"k"), name: Bytes::from_static(name) };
        s.variable(&id).unwrap().access.writes
    };
    assert_eq!(
        (writes(b"a"), writes(b"b"), writes(b"")),
        (2, 2, 1),
        "what changes is written; a touch is one write, of the first"
    );
}

#[test]
fn only_the_count_of_a_maps_members_makes_its_head_new() {
    let mut s = Session::default();
    let mut write = |bytes: &'static [u8]| {
        let changed = s.write_string(b"k", Layout::Msgpack, b"", Bytes::from_static(bytes));
        assert_eq!(s.read_string(b"k", 0).unwrap(), bytes);
        (changed, s.key(b"k", 0).unwrap().variables().map(|(_, v)| v.version.0).collect::<Vec<_>>())
    };
    assert_eq!(write(b"\x82\xA1a\x01\xA1b\x02"), (true, vec![1, 2, 3]));
    assert_eq!(write(b"\x82\xA1a\x01\xA1b\x05"), (true, vec![1, 2, 4]));
    assert_eq!(write(b"\x83\xA1a\x01\xA1b\x05\xA1c\x01"), (true, vec![5, 2, 4, 6]));
    assert_eq!(write(b"\x83\xA1a\x01\xA1b\x05\xA1c\x01"), (false, vec![5, 2, 4, 6]));
}

#[test]
fn a_member_that_is_elsewhere_keeps_its_version_if_its_digest_is_that_of_what_is_written() {
    use crate::ids::{Digest, HandoverId};
    use crate::session::manifest::Manifest;
    let text = |a: u8, b: u8| {
        Bytes::from(format!(
            "a|s:60:\"{}\";b|s:60:\"{}\";",
            char::from(a).to_string().repeat(60),
            char::from(b).to_string().repeat(60)
        ))
    };
    let mut origin = Session::default();
    origin.write_string(b"k", Layout::Php, b"", text(b'x', b'y'));
    let manifest = Manifest::of(&origin, HandoverId::LEAST, |_, _| Class::Deferred, |_, _, value| Digest::of(value));
    let mut s = manifest.open(&std::collections::HashMap::new()).unwrap();
    assert_eq!(s.missing_count(), 2);
    assert!(!s.clone().write_string(b"k", Layout::Php, b"", text(b'x', b'y')), "the same value");
    assert!(s.write_string(b"k", Layout::Php, b"", text(b'x', b'z')));
    assert_eq!((versions(&s), s.missing_count()), (named(&[("a", 1), ("b", 4), ("", 3)]), 0));
    assert_eq!(s.read_string(b"k", 0).unwrap(), text(b'x', b'z'), "nothing of it is elsewhere");
}

proptest::proptest! {
    /// Whatever was there, and wherever: what is written is what is read, and the count of what is missing is right.
    #[test]
    fn any_sequence_of_values_reads_back(values in proptest::collection::vec("([a-c]\\|i:[0-3];){0,4}[x}]?", 1..12), layout in proptest::sample::select(vec![Layout::Json, Layout::Msgpack, Layout::Php])) {
        let mut s = Session::default();
        let mut before: Option<Bytes> = None;
        for value in values {
            let value = Bytes::from(value);
            let changed = s.write_string(b"k", layout, b"", value.clone());
            assert_eq!(changed, before.as_ref() != Some(&value));
            assert_eq!(s.read_string(b"k", 0).as_ref(), Some(&value));
            before = Some(value);
        }
    }
}

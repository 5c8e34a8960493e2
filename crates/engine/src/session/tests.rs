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
    assert!(!s.expire(1_000));
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

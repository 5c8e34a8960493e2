//! Variables that are lost and, by policy, read as if they had never been written.
//!
//! It never decides which ones they are, and never touches another variable: a value that is divided is put together anew without
//! them, as its format wants it.
//!
//! | what is lost | what goes |
//! |---|---|
//! | a field, a member, an element | it |
//! | a member of a divided string | it; the others must be here, for lengths and counts are in the skeleton |
//! | a string that is one variable, or the skeleton of one; one that cannot be read without it | the key |
//!
//! Invariant: *never wrong data*: what stays is, byte for byte, what it was.

use super::{Content, Key, Kind, Session, VariableId, layout};
use bytes::Bytes;

/// What became of the lost variables of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Absent {
    /// None of them may go.
    Stays,
    /// They are gone.
    Gone,
    /// They can go when these are here.
    Needs(Vec<VariableId>),
}

impl Session {
    /// Removes the variables of a key that are lost and that `may_go` names.
    pub fn remove_lost(&mut self, name: &[u8], may_go: impl Fn(&Key, &[u8]) -> bool, unix_ms: u64) -> Absent {
        let Some(key) = self.key(name, unix_ms) else { return Absent::Stays };
        let lost = key.variables().filter(|(_, v)| v.content == Content::Lost).map(|(name, _)| name.clone());
        let (goes, stays): (Vec<Bytes>, Vec<Bytes>) = lost.partition(|name| may_go(key, name));
        if goes.is_empty() || (key.kind == Kind::String && !stays.is_empty()) {
            return Absent::Stays;
        }
        if key.kind != Kind::String {
            goes.iter().for_each(|variable| {
                self.remove_field(name, variable, unix_ms);
            });
            return Absent::Gone;
        }
        if goes.iter().any(|part| !key.layout.is_divided() || layout::is_skeleton(part)) {
            self.remove(name, unix_ms);
            return Absent::Gone;
        }
        let mut pieces = Vec::new();
        let mut needs = Vec::new();
        for (part, variable) in key.variables() {
            match &variable.content {
                Content::Here(value) => pieces.push((part.clone(), value.clone())),
                Content::Elsewhere(_) => needs.push(VariableId { key: key.name.to_bytes(), name: part.clone() }),
                Content::Lost => {}
            }
        }
        if !needs.is_empty() {
            return Absent::Needs(needs);
        }
        let (divided, expires_at_ms) = (key.layout, key.expires_at_ms);
        match layout::merge::joined(divided, &pieces) {
            Some(value) => {
                // A value without members is not divided; it has the name that a policy gave the first of those that were.
                self.write_string(name, divided, goes.first().map_or(b"", |part| part), value);
                if let Some(key) = self.key_mut(name, unix_ms) {
                    key.expires_at_ms = expires_at_ms;
                }
            }
            None => {
                self.remove(name, unix_ms);
            }
        }
        Absent::Gone
    }
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::*;

    const NAME: &[u8] = b"sess:1";

    /// A session of one string, of which these variables are lost.
    fn with_lost(layout: Layout, text: &[u8], lost: &[&[u8]]) -> Session {
        let mut session = Session::default();
        session.write_string(NAME, layout, b"", Bytes::copy_from_slice(text));
        session.key_mut(NAME, 0).unwrap().expires_at_ms = Some(9_000);
        lose(&mut session, lost);
        session
    }

    fn lose(session: &mut Session, lost: &[&[u8]]) {
        for name in lost {
            let variable = session.keys.at_mut(0).unwrap().fields.get_mut(name).unwrap();
            variable.content = Content::Lost;
            session.missing += 1;
        }
    }

    fn removed(session: &mut Session) -> Absent {
        session.remove_lost(NAME, |_, _| true, 0)
    }

    #[test]
    fn the_others_of_a_divided_value_stay_as_they_are() {
        let php = b"a|s:1:\"x\";b|i:2;c|N;";
        let array = b"a:2:{s:1:\"a\";i:1;s:1:\"b\";i:2;}";
        for (layout, text, lost, left) in [
            (
                Layout::Json,
                b"{\"a\":1, \"b\":{\"x\":2},\"c\":3}".as_slice(),
                b"\"b\"".as_slice(),
                b"{\"a\":1,\"c\":3}".as_slice(),
            ),
            (Layout::Json, b"{\"a\":1,\"b\":2}", b"\"a\"", b"{\"b\":2}"),
            (Layout::Json, b"{\"a\":1}", b"\"a\"", b"{}"),
            (Layout::Msgpack, &[0x82, 0xA1, 0x61, 0x01, 0xA1, 0x62, 0x02], &[0xA1, 0x62], &[0x81, 0xA1, 0x61, 0x01]),
            (Layout::Php, php, b"b", b"a|s:1:\"x\";c|N;"),
            (Layout::Php, array, b"s:1:\"a\";", b"a:1:{s:1:\"b\";i:2;}"),
        ] {
            let mut session = with_lost(layout, text, &[lost]);
            assert_eq!(removed(&mut session), Absent::Gone);
            let key = session.key(NAME, 0).expect("the key stays");
            assert_eq!((key.expires_at_ms, session.missing_count()), (Some(9_000), 0));
            assert_eq!(session.read_string(NAME, 0).as_deref(), Some(left), "{layout:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_without_it_goes_whole() {
        // The second value is a reference to the first one by its number.
        for (layout, text, lost) in [
            (Layout::Php, b"a|i:1;b|i:2;c|R:2;".as_slice(), b"a".as_slice()),
            (Layout::Json, b"{\"a\":1}", b""),
            (Layout::Opaque, b"anything", b""),
        ] {
            let mut session = with_lost(layout, text, &[]);
            if layout == Layout::Opaque {
                // One small value is packed; a lost one never is.
                session = Session::default();
                session.write_string(NAME, layout, b"", Bytes::from(vec![b'x'; 100_000]));
            }
            lose(&mut session, &[lost]);
            assert_eq!(removed(&mut session), Absent::Gone);
            assert!(session.key(NAME, 0).is_none(), "{layout:?}");
            assert_eq!(session.missing_count(), 0);
        }
    }

    #[test]
    fn one_that_may_not_go_keeps_a_string_but_not_its_neighbours_in_other_kinds() {
        let mut session = with_lost(Layout::Json, b"{\"a\":1,\"b\":2}", &[b"\"a\"", b"\"b\""]);
        let only_a = |_: &Key, name: &[u8]| name == b"\"a\"" || name == b"a";
        assert_eq!(session.remove_lost(NAME, only_a, 0), Absent::Stays);
        let mut session = Session::default();
        for (field, bytes) in [("a", 5_000), ("b", 5_000), ("c", 5_000)] {
            session.write_field(NAME, field.as_bytes(), vec![b'v'; bytes], 0);
        }
        lose(&mut session, &[b"a", b"b"]);
        assert_eq!(session.remove_lost(NAME, only_a, 0), Absent::Gone);
        let key = session.key(NAME, 0).unwrap();
        assert_eq!((key.has(b"a"), key.has(b"b"), key.has(b"c")), (false, true, true));
    }

    #[test]
    fn an_element_of_a_list_goes_alone() {
        let mut session = Session::default();
        for element in [b"1".as_slice(), b"2", b"3"] {
            session.push_element(NAME, super::super::lists::End::Right, Bytes::copy_from_slice(element), 0);
        }
        let second = session.key(NAME, 0).unwrap().variables().nth(1).unwrap().0.clone();
        lose(&mut session, &[&second]);
        assert_eq!(removed(&mut session), Absent::Gone);
        let left: Vec<_> = (0..2).filter_map(|at| session.read_element(NAME, at, 0)).collect();
        assert_eq!(left, ["1", "3"]);
    }
}

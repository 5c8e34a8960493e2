//! Lists: elements are variables named by ascending places.
//!
//! It never checks a type: [`crate::command`] has. An element keeps its name while others come and go at both ends, so that one
//! that is still elsewhere is found there. Removals leave gaps, which mean nothing. Only an insertion between two elements may
//! have to name the others anew; it happens where the values have been compared, so all of them are here.
//!
//! Invariant: the names of a list's elements are [`PLACE_BYTES`] long and ascend.

use super::{Access, Content, Key, Kind, Session, Variable};
use bytes::Bytes;

/// Length of an element's name.
pub const PLACE_BYTES: usize = 8;
/// The first element stands in the middle, so that there is room at both ends.
const MIDDLE: u64 = 1 << 63;

fn place(name: &[u8]) -> Option<u64> {
    name.try_into().ok().map(u64::from_be_bytes)
}

fn name(place: u64) -> Bytes {
    Bytes::copy_from_slice(&place.to_be_bytes())
}

/// Whether these can be the names of a list's elements, in this order.
pub(super) fn are_places<'a>(mut names: impl Iterator<Item = &'a Bytes>) -> bool {
    let mut last = None;
    names.all(|name| {
        let ascends = place(name).is_some_and(|place| last.is_none_or(|last| last < place));
        last = place(name);
        ascends
    })
}

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// `LEFT`, the head.
    Left,
    /// `RIGHT`, the tail.
    Right,
}

impl Key {
    /// The element at a place from the head.
    pub(crate) fn element(&self, at: usize) -> Option<&Variable> {
        self.fields.at(at).map(|(_, variable)| variable)
    }

    /// The name for a new element before the one at `at`; `None`: there is no room between its neighbours.
    fn new_place(&self, at: usize) -> Option<u64> {
        let of = |at: usize| self.fields.at(at).and_then(|(name, _)| place(name));
        let before = at.checked_sub(1).and_then(of);
        match (before, of(at)) {
            (None, None) => Some(MIDDLE),
            (None, Some(after)) => after.checked_sub(1),
            (Some(before), None) => before.checked_add(1),
            (Some(before), Some(after)) => before.checked_add(1).filter(|place| *place < after),
        }
    }
}

impl Session {
    /// Puts an element before the one at `at`, counted from the head; beyond the tail it becomes the last. Makes the list if
    /// there is none. The value must own its bytes. Returns the length.
    pub(crate) fn insert_element(&mut self, list: &[u8], at: usize, value: Bytes, unix_ms: u64) -> usize {
        let version = self.next_version();
        let position = self.position_or_new(list, Kind::List, unix_ms);
        let Some(key) = self.keys.at_mut(position) else { return 0 };
        let at = at.min(key.len());
        let place = key.new_place(at).unwrap_or_else(|| {
            // The new element's number stays free. The others' values are the same, so their versions stay.
            let start = MIDDLE.saturating_sub(at as u64);
            key.fields.rename(|old| name(start.saturating_add(old as u64).saturating_add(u64::from(old >= at))));
            start.saturating_add(at as u64)
        });
        let access = Access { reads: 0, writes: 1 };
        key.fields.insert_at(at, name(place), Variable { content: Content::Here(value), version, access });
        key.len()
    }

    /// Adds an element at one end, making the list if there is none. The value must own its bytes. Returns the length. Costs the
    /// same whatever the length.
    pub(crate) fn push_element(&mut self, list: &[u8], end: End, value: Bytes, unix_ms: u64) -> usize {
        self.insert_element(list, if end == End::Left { 0 } else { usize::MAX }, value, unix_ms)
    }

    /// Takes up to `count` elements at an end away and shows their values, as far as they are here. The list goes with its last
    /// element. Costs the same for each whatever the length.
    pub(crate) fn pop_elements(
        &mut self,
        list: &[u8],
        end: End,
        count: usize,
        unix_ms: u64,
        mut show: impl FnMut(&[u8]),
    ) -> usize {
        let Some(key) = self.content_mut(list, unix_ms).filter(|k| k.kind == Kind::List) else { return 0 };
        let mut popped = 0;
        while popped < count {
            let at = if end == End::Left { 0 } else { key.len().saturating_sub(1) };
            let Some(Content::Here(value)) = key.element(at).map(|variable| &variable.content) else { break };
            show(value);
            key.fields.remove_at(at);
            popped += 1;
        }
        if key.is_empty() {
            self.remove(list, unix_ms);
        }
        popped
    }

    /// The same with one element.
    pub(crate) fn pop_element(&mut self, list: &[u8], end: End, unix_ms: u64) -> Option<Bytes> {
        let mut popped = None;
        self.pop_elements(list, end, 1, unix_ms, |value| popped = Some(Bytes::copy_from_slice(value)));
        popped
    }

    /// Counts a read of the element at `at` and returns its value if it is here.
    pub(crate) fn read_element(&mut self, list: &[u8], at: usize, unix_ms: u64) -> Option<Bytes> {
        let variable = self.content_mut(list, unix_ms).filter(|k| k.kind == Kind::List)?.fields.at_mut(at)?;
        variable.access.reads = variable.access.reads.saturating_add(1);
        match &variable.content {
            Content::Here(value) => Some(value.clone()),
            Content::Elsewhere(_) | Content::Lost => None,
        }
    }

    /// Replaces the value of the element at `at`, wherever the old one is. False: there is none.
    pub(crate) fn write_element(&mut self, list: &[u8], at: usize, value: Bytes, unix_ms: u64) -> bool {
        let version = self.next_version();
        let Some(key) = self.content_mut(list, unix_ms).filter(|k| k.kind == Kind::List) else { return false };
        let Some(variable) = key.fields.at_mut(at) else { return false };
        let was_here = matches!(variable.content, Content::Here(_));
        variable.content = Content::Here(value);
        variable.version = version;
        variable.access.writes = variable.access.writes.saturating_add(1);
        if !was_here {
            self.missing -= 1;
        }
        true
    }

    /// Keeps the elements that `keep` names, which is shown each with its place from the head. Returns how many went; the list
    /// goes with its last element.
    pub(crate) fn retain_elements(&mut self, list: &[u8], unix_ms: u64, mut keep: impl FnMut(usize, &Variable) -> bool) -> usize {
        let Some(key) = self.content_mut(list, unix_ms).filter(|k| k.kind == Kind::List) else { return 0 };
        let (before, mut missing) = (key.len(), 0);
        key.fields.retain(|at, variable| {
            let kept = keep(at, variable);
            missing += usize::from(!kept && !matches!(variable.content, Content::Here(_)));
            kept
        });
        let left = key.len();
        self.missing -= missing;
        if left == 0 {
            self.remove(list, unix_ms);
        }
        before - left
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shown(s: &Session) -> String {
        let value = |v: &Variable| match &v.content {
            Content::Here(b) => String::from_utf8_lossy(b).into_owned(),
            _ => "?".into(),
        };
        s.key(b"l", 0).map(|k| k.variables().map(|(_, v)| value(v)).collect::<Vec<_>>().join("")).unwrap_or_default()
    }

    fn ascends(s: &Session) -> bool {
        s.key(b"l", 0).is_none_or(|k| are_places(k.variables().map(|(name, _)| name)))
    }

    #[test]
    fn elements_stand_where_they_were_put() {
        let mut s = Session::default();
        for c in b'a'..=b'e' {
            s.push_element(b"l", End::Right, Bytes::from(vec![c]), 0);
        }
        s.push_element(b"l", End::Left, Bytes::from_static(b"0"), 0);
        assert_eq!(shown(&s), "0abcde");
        for c in b'1'..=b'3' {
            assert!(s.insert_element(b"l", 1, Bytes::from(vec![c]), 0) > 6);
            assert!(ascends(&s));
        }
        assert_eq!(shown(&s), "0321abcde");
        assert_eq!(s.retain_elements(b"l", 0, |at, _| at % 2 == 0), 4);
        assert_eq!(shown(&s), "02ace");
        s.insert_element(b"l", 2, Bytes::from_static(b"x"), 0);
        assert_eq!((shown(&s).as_str(), ascends(&s)), ("02xace", true));
        assert_eq!(s.pop_element(b"l", End::Right, 0).unwrap(), "e");
        assert_eq!(s.pop_element(b"l", End::Left, 0).unwrap(), "0");
        assert!(s.write_element(b"l", 0, Bytes::from_static(b"y"), 0) && !s.write_element(b"l", 9, Bytes::new(), 0));
        assert_eq!(shown(&s), "yxac");
        assert_eq!(s.retain_elements(b"l", 0, |_, _| false), 4);
        assert!(s.is_empty());
    }

    /// How many elements are in another place of the memory than `before`, which then has the places of now.
    fn moved(s: &Session, before: &mut std::collections::HashMap<Bytes, *const Variable>) -> usize {
        let places = |k: &Key| k.variables().map(|(name, v)| (name.clone(), std::ptr::from_ref(v))).collect();
        let now: std::collections::HashMap<Bytes, *const Variable> = s.key(b"l", 0).map(places).unwrap_or_default();
        let moved = now.iter().filter(|(name, place)| before.get(*name).is_some_and(|old| old != *place)).count();
        *before = now;
        moved
    }

    #[test]
    fn an_element_at_either_end_moves_no_others() {
        const ELEMENTS: usize = 500;
        for end in [End::Left, End::Right] {
            let (mut s, mut places, mut pushing, mut popping) = (Session::default(), Default::default(), 0, 0);
            for _ in 0..ELEMENTS {
                s.push_element(b"l", end, Bytes::from_static(b"v"), 0);
                pushing += moved(&s, &mut places);
            }
            for _ in 0..ELEMENTS {
                assert!(s.pop_element(b"l", end, 0).is_some());
                popping += moved(&s, &mut places);
            }
            // More room is made for all of them now and then, which is twice as much each time.
            assert!(pushing <= 2 * ELEMENTS && popping == 0, "{pushing} {popping}");
        }
    }

    #[test]
    fn many_elements_are_found_by_their_names() {
        let mut s = Session::default();
        for n in 0..200u32 {
            let end = if n % 2 == 0 { End::Left } else { End::Right };
            s.push_element(b"l", end, Bytes::copy_from_slice(&n.to_be_bytes()), 0);
        }
        let key = s.key(b"l", 0).unwrap();
        for (at, (name, variable)) in key.variables().enumerate() {
            assert!(std::ptr::eq(key.variable(name).unwrap(), variable), "{at}");
        }
        assert!(key.variable(b"nowhere").is_none());
    }

    #[test]
    fn names_that_do_not_ascend_are_no_list() {
        let names = |places: &[u64]| places.iter().map(|p| name(*p)).collect::<Vec<_>>();
        assert!(are_places(names(&[1, 2, 9]).iter()));
        assert!(!are_places(names(&[1, 1]).iter()));
        assert!(!are_places(names(&[2, 1]).iter()));
        assert!(!are_places([Bytes::from_static(b"short")].iter()));
    }
}

//! The variables of a small hash or string in one allocation: names, values, versions and use behind each other.
//!
//! It never holds a value that is elsewhere, and never grows beyond [`BYTES_MAX`] or [`ENTRIES_MAX`]: then it refuses, and
//! [`super::fields`] takes its other form. Nobody else uses it.
//!
//! ```text
//! entry = name length · value length · version (each 7 bits a byte, lowest first, the top bit: more follow)
//!         reads · writes (16 bits each, lowest byte first) · name · value
//! ```
//! Invariant: the allocation has exactly the length of its entries.

use super::{Access, Content, Variable};
use crate::ids::Version;
use bytes::Bytes;

/// Above so many bytes a change of one value would move too much of the others.
pub const BYTES_MAX: usize = 4096;
/// Above so many entries a search in line takes too long.
pub const ENTRIES_MAX: usize = 32;
/// Bytes of reads and writes.
const ACCESS_BYTES: usize = 4;
/// Most bytes of the three numbers before them.
const NUMBERS_BYTES_MAX: usize = 30;

/// See the head of this file.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Packed(Box<[u8]>);

/// One entry.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) version: Version,
    pub(super) access: Access,
    place: Place,
}

/// Where an entry is.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    access: usize,
    value: usize,
    end: usize,
}

impl Entry<'_> {
    /// A copy of its variable.
    pub(super) fn variable(&self) -> Variable {
        Variable { content: Content::Here(Bytes::copy_from_slice(self.value)), version: self.version, access: self.access }
    }
}

/// A number and where it ends.
fn number(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let (mut value, mut shift) = (0u64, 0u32);
    loop {
        let byte = *bytes.get(at)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        at += 1;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
        shift += 7;
    }
}

/// The numbers of an entry, and how many bytes they take.
fn numbers(name: usize, value: usize, version: Version) -> ([u8; NUMBERS_BYTES_MAX], usize) {
    let (mut bytes, mut used) = ([0; NUMBERS_BYTES_MAX], 0);
    for mut number in [name as u64, value as u64, version.0] {
        loop {
            let more = number > 0x7f;
            if let Some(byte) = bytes.get_mut(used) {
                *byte = (number & 0x7f) as u8 | if more { 0x80 } else { 0 };
            }
            used += 1;
            number >>= 7;
            if !more {
                break;
            }
        }
    }
    (bytes, used)
}

fn entry(bytes: &[u8], start: usize) -> Option<Entry<'_>> {
    let (name_len, at) = number(bytes, start)?;
    let (value_len, at) = number(bytes, at)?;
    let (version, access) = number(bytes, at)?;
    let [reads_low, reads_high, writes_low, writes_high] = *bytes.get(access..)?.first_chunk()?;
    let name_at = access + ACCESS_BYTES;
    let value_at = name_at.checked_add(usize::try_from(name_len).ok()?)?;
    let end = value_at.checked_add(usize::try_from(value_len).ok()?)?;
    Some(Entry {
        name: bytes.get(name_at..value_at)?,
        value: bytes.get(value_at..end)?,
        version: Version(version),
        access: Access {
            reads: u16::from_le_bytes([reads_low, reads_high]),
            writes: u16::from_le_bytes([writes_low, writes_high]),
        },
        place: Place { start, access, value: value_at, end },
    })
}

fn append(bytes: &mut Vec<u8>, name: &[u8], value: &[u8], version: Version, access: Access) {
    let (numbers, used) = numbers(name.len(), value.len(), version);
    bytes.extend_from_slice(numbers.get(..used).unwrap_or_default());
    bytes.extend_from_slice(&access.reads.to_le_bytes());
    bytes.extend_from_slice(&access.writes.to_le_bytes());
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(value);
}

fn length(name: &[u8], value: &[u8], version: Version) -> usize {
    numbers(name.len(), value.len(), version).1 + ACCESS_BYTES + name.len() + value.len()
}

impl Packed {
    /// What it takes.
    pub(super) fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let entry = entry(&self.0, at)?;
            at = entry.place.end;
            Some(entry)
        })
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<Entry<'_>> {
        self.iter().find(|entry| entry.name == name)
    }

    /// Adds an entry of a name that is not there. False: there is no room, and nothing has changed.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8], version: Version, access: Access) -> bool {
        let length = length(name, value, version);
        if self.0.len().saturating_add(length) > BYTES_MAX || self.len() >= ENTRIES_MAX {
            return false;
        }
        let mut bytes = std::mem::take(&mut self.0).into_vec();
        bytes.reserve_exact(length);
        append(&mut bytes, name, value, version, access);
        self.0 = bytes.into_boxed_slice();
        true
    }

    /// Writes the value of an entry that is there and counts the write. `None`: there is none; false: there is no room, and
    /// nothing has changed.
    pub(super) fn replace(&mut self, name: &[u8], value: &[u8], version: Version) -> Option<bool> {
        let old = self.find(name)?;
        let (place, mut access) = (old.place, old.access);
        access.writes = access.writes.saturating_add(1);
        let (numbers, used) = numbers(name.len(), value.len(), version);
        if old.value.len() == value.len() && place.access - place.start == used {
            let numbers = numbers.get(..used).unwrap_or_default();
            self.write(place.start, numbers);
            self.write(place.access, &access.reads.to_le_bytes());
            self.write(place.access + 2, &access.writes.to_le_bytes());
            self.write(place.value, value);
            return Some(true);
        }
        let length = length(name, value, version);
        let (before, after) = (self.0.get(..place.start).unwrap_or_default(), self.0.get(place.end..).unwrap_or_default());
        let whole = before.len() + length + after.len();
        if whole > BYTES_MAX {
            return Some(false);
        }
        let mut bytes = Vec::with_capacity(whole);
        bytes.extend_from_slice(before);
        append(&mut bytes, name, value, version, access);
        bytes.extend_from_slice(after);
        self.0 = bytes.into_boxed_slice();
        Some(true)
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Variable> {
        let old = self.find(name)?;
        let (place, variable) = (old.place, old.variable());
        let mut bytes = std::mem::take(&mut self.0).into_vec();
        bytes.drain(place.start..place.end);
        self.0 = bytes.into_boxed_slice();
        Some(variable)
    }

    /// Counts a read of an entry and shows its value.
    pub(super) fn read<R>(&mut self, name: &[u8], show: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let entry = self.find(name)?;
        let (at, reads) = (entry.place.access, entry.access.reads.saturating_add(1));
        let shown = show(entry.value);
        self.write(at, &reads.to_le_bytes());
        Some(shown)
    }

    /// The same for all of them in order.
    pub(super) fn read_each(&mut self, mut show: impl FnMut(&[u8], &[u8])) {
        let mut at = 0;
        while let Some(entry) = entry(&self.0, at) {
            show(entry.name, entry.value);
            at = entry.place.end;
            let (access, reads) = (entry.place.access, entry.access.reads.saturating_add(1));
            self.write(access, &reads.to_le_bytes());
        }
    }

    fn write(&mut self, at: usize, new: &[u8]) {
        if let Some(old) = at.checked_add(new.len()).and_then(|end| self.0.get_mut(at..end)) {
            old.copy_from_slice(new);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shown(packed: &Packed) -> Vec<(Vec<u8>, usize, u64, u16, u16)> {
        packed.iter().map(|e| (e.name.to_vec(), e.value.len(), e.version.0, e.access.reads, e.access.writes)).collect()
    }

    #[test]
    fn entries_are_added_replaced_read_and_removed_in_their_order() {
        let mut packed = Packed::default();
        for (n, name) in [&b""[..], b"b", b"c"].into_iter().enumerate() {
            assert!(packed.push(name, &vec![b'v'; n * 130], Version(1 << (n * 20)), Access { reads: 0, writes: 1 }));
        }
        assert_eq!(packed.replace(b"b", &[b'w'; 130], Version((1 << 20) + 1)), Some(true), "in its place");
        assert_eq!(packed.replace(b"c", b"", Version(u64::MAX)), Some(true), "of another length");
        assert_eq!(packed.replace(b"d", b"", Version(1)), None);
        assert_eq!(packed.read(b"b", |value| value == [b'w'; 130]), Some(true));
        packed.read_each(|_, _| {});
        let all = [(vec![], 0, 1, 1, 1), (b"b".to_vec(), 130, (1 << 20) + 1, 2, 2), (b"c".to_vec(), 0, u64::MAX, 1, 2)];
        assert_eq!(shown(&packed), all);
        assert_eq!(packed.remove(b"b").unwrap().version, Version((1 << 20) + 1));
        assert!(packed.remove(b"b").is_none());
        assert_eq!(shown(&packed), [all[0].clone(), all[2].clone()]);
        assert_eq!(packed.0.len(), packed.iter().last().unwrap().place.end, "exactly");
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut packed = Packed::default();
        assert!(!packed.push(b"large", &[0; BYTES_MAX], Version(1), Access::default()));
        for n in 0..ENTRIES_MAX {
            assert!(packed.push(&n.to_le_bytes(), b"", Version(1), Access::default()));
        }
        assert!(!packed.push(b"one more", b"", Version(1), Access::default()));
        let before = packed.clone();
        assert_eq!(packed.replace(&0usize.to_le_bytes(), &[0; BYTES_MAX], Version(2)), Some(false));
        assert!(packed == before && packed.len() == ENTRIES_MAX);
    }

    #[test]
    fn counts_saturate() {
        let mut packed = Packed::default();
        packed.push(b"n", b"v", Version(1), Access { reads: u16::MAX, writes: u16::MAX });
        packed.read_each(|_, _| {});
        packed.replace(b"n", b"w", Version(1));
        assert_eq!(shown(&packed), [(b"n".to_vec(), 1, 1, u16::MAX, u16::MAX)]);
    }
}

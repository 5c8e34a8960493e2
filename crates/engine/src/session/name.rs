//! The name of a key, or an id, as it is kept for as long as a session lives: in place while it is short.
//!
//! It never shares what it was made of, so no receive buffer stays because of it. [`super::Key`] has one, and whoever keeps a
//! table of sessions may have their ids as such: a search then compares bytes that it has at hand, and no name is an allocation
//! of its own.
//!
//! Invariant: equality, order and hash are those of the bytes, so tables of names can be searched by bytes.

use bytes::Bytes;
use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Names of up to so many bytes need no allocation: it holds the ids and keys that session libraries make by themselves.
const SHORT_BYTES_MAX: usize = 38;

/// See the head of this file.
#[derive(Clone)]
pub struct Name(Kept);

#[derive(Clone)]
enum Kept {
    Short(u8, [u8; SHORT_BYTES_MAX]),
    Long(Box<[u8]>),
}

impl Name {
    /// A copy of `bytes` as a name.
    pub fn copy_of(bytes: &[u8]) -> Name {
        let mut short = [0; SHORT_BYTES_MAX];
        match (short.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(bytes);
                Name(Kept::Short(len, short))
            }
            _ => Name(Kept::Long(bytes.into())),
        }
    }

    /// A copy that can be handed on.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl Deref for Name {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Kept::Long(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Name {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl AsRef<[u8]> for Name {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Name {
    #[inline]
    fn eq(&self, other: &Name) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl PartialEq<Bytes> for Name {
    fn eq(&self, other: &Bytes) -> bool {
        **self == **other
    }
}

impl PartialEq<Name> for Bytes {
    fn eq(&self, other: &Name) -> bool {
        other == self
    }
}

impl Hash for Name {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl std::fmt::Debug for Name {
    // A name contains a session's id: it does not belong into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Name({} B)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn names_of_every_length_are_found_by_their_bytes() {
        let names = || (0..=SHORT_BYTES_MAX + 2).map(|len| vec![b'n'; len]);
        let table: HashMap<Name, usize> = names().map(|bytes| (Name::copy_of(&bytes), bytes.len())).collect();
        for bytes in names() {
            assert_eq!(table.get(&bytes[..]), Some(&bytes.len()));
            let name = Name::copy_of(&bytes);
            assert_eq!((&*name, name.to_bytes().as_ref(), name.clone() == name), (&bytes[..], &bytes[..], true));
            assert_eq!(format!("{name:?}"), format!("Name({} B)", bytes.len()));
        }
        assert_eq!(size_of::<Name>(), SHORT_BYTES_MAX + 2, "no byte of it is wasted");
    }
}

//! An ordered map from names to variables: the order of insertion is kept, as Redis keeps it for small hashes.
//!
//! It never interprets a name. Only [`super::Session`] changes one. It has one of two forms:
//!
//! | form | for | costs of memory |
//! |---|---|---|
//! | [`Packed`] | small hashes and strings all of whose values are here | names and values in one allocation, about 8 bytes each |
//! | [`Loose`] | everything else: large maps, values that are elsewhere, members and elements | a name, a value and a variable each |
//!
//! Small maps are searched in line; from [`INDEXED_FROM`] entries on an index makes look-ups flat. A list's entries are added by
//! place ([`Fields::insert_at`]) in ascending order of their names and have no index: a large map without one is searched by
//! halves.
//!
//! The operations of the hot path ([`Fields::read`], [`Fields::read_each`], [`Fields::put`]) work on the packed bytes. Whoever
//! wants references to variables gets those of a loose copy, which lives until the next of these operations.
//! Invariant: while there are packed bytes they alone say what the map holds.

use super::packed::Packed;
use super::{Access, Content, Variable};
use crate::ids::Version;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::OnceLock;

/// From this many entries on look-ups go through an index: below it a linear search is faster and costs no memory.
const INDEXED_FROM: usize = 48;
/// What a variable of its own takes beside its name and value, about.
const ENTRY_BYTES: u64 = 112;

/// The form with an entry for each variable.
#[derive(Clone, Default)]
struct Loose {
    /// Both ends can be added to and taken from at the same cost, as lists are.
    entries: VecDeque<(Bytes, Variable)>,
    #[allow(clippy::box_collection, reason = "few maps have an index: the others pay for a pointer, not for a map")]
    index: Option<Box<HashMap<Bytes, usize>>>,
}

/// A value that is here, as a reader sees it.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// Among others.
    Part(&'a [u8]),
    /// By itself: it can be shared without being copied.
    Whole(&'a Bytes),
}

impl<'a> Shown<'a> {
    fn of(variable: &'a Variable) -> Option<Shown<'a>> {
        if let Content::Here(value) = &variable.content { Some(Shown::Whole(value)) } else { None }
    }

    /// Its bytes.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Shown::Part(bytes) => bytes,
            Shown::Whole(bytes) => bytes,
        }
    }
}

/// What [`Fields::put`] has replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Put {
    /// Nothing: the variable is new.
    New,
    /// A value, and whether it was here.
    Replaced { was_here: bool },
}

/// See the head of this file.
pub(crate) struct Fields {
    packed: Option<Packed>,
    loose: OnceLock<Box<Loose>>,
}

impl Default for Fields {
    fn default() -> Fields {
        Fields { packed: Some(Packed::default()), loose: OnceLock::new() }
    }
}

impl Clone for Fields {
    fn clone(&self) -> Fields {
        match &self.packed {
            Some(packed) => Fields { packed: Some(packed.clone()), loose: OnceLock::new() },
            None => Fields { packed: None, loose: self.loose.clone() },
        }
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Fields) -> bool {
        match (&self.packed, &other.packed) {
            (Some(one), Some(two)) => one == two,
            _ => self.shown().entries == other.shown().entries,
        }
    }
}

impl Eq for Fields {}

impl fmt::Debug for Fields {
    // Names and values are a client's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fields({})", self.len())
    }
}

impl Fields {
    /// An empty map that is never packed: for members and elements, which are looked at by reference.
    pub(crate) fn loose() -> Fields {
        Fields { packed: None, loose: OnceLock::from(Box::default()) }
    }

    pub(crate) fn len(&self) -> usize {
        self.packed.as_ref().map_or_else(|| self.shown().entries.len(), Packed::len)
    }

    /// Whether every value is sure to be here, without a look at each.
    pub(crate) fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// The loose form, or a copy in it.
    fn shown(&self) -> &Loose {
        self.loose.get_or_init(|| {
            let mut loose = Loose::default();
            if let Some(packed) = &self.packed {
                loose.entries.reserve_exact(packed.len());
                packed.iter().for_each(|entry| loose.push(Bytes::copy_from_slice(entry.name), entry.variable()));
            }
            Box::new(loose)
        })
    }

    /// Turns it into the loose form, to change that.
    fn loosened(&mut self) -> &mut Loose {
        if self.packed.is_some() {
            self.shown();
            self.packed = None;
        }
        if self.loose.get().is_none() {
            self.loose = OnceLock::from(Box::default());
        }
        #[allow(clippy::expect_used, reason = "set in the line before")]
        self.loose.get_mut().expect("the loose form")
    }

    /// The packed bytes, to change them: then the copy is old.
    fn packed_mut(&mut self) -> Option<&mut Packed> {
        if self.packed.is_some() {
            self.loose.take();
        }
        self.packed.as_mut()
    }

    /// Packs it again if that is possible.
    pub(crate) fn tighten(&mut self) {
        if self.packed.is_none() {
            let mut packed = Packed::default();
            let fits = self.shown().entries.iter().all(|(name, variable)| match &variable.content {
                Content::Here(value) => packed.push(name, value, variable.version, variable.access),
                Content::Elsewhere(_) | Content::Lost => false,
            });
            if fits {
                *self = Fields { packed: Some(packed), loose: OnceLock::new() };
            }
        }
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Variable)> {
        self.shown().entries.iter().map(|(name, variable)| (name, variable))
    }

    pub(crate) fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&Bytes, &mut Variable)> {
        self.loosened().entries.iter_mut().map(|(name, variable)| (&*name, variable))
    }

    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        match &self.packed {
            Some(packed) => packed.find(name).is_some(),
            None => self.shown().position(name).is_some(),
        }
    }

    /// Whether the packed value of this name is `value`, and its version; `None`: it is not packed, or there is none.
    pub(crate) fn same(&self, name: &[u8], value: &[u8]) -> Option<(bool, Version)> {
        self.packed.as_ref()?.find(name).map(|entry| (entry.value == value, entry.version))
    }

    /// The size of a value, wherever it is.
    pub(crate) fn size_of(&self, name: &[u8]) -> Option<u64> {
        match &self.packed {
            Some(packed) => packed.find(name).map(|entry| entry.value.len() as u64),
            None => self.get(name).map(|variable| variable.content.size_bytes()),
        }
    }

    /// The sizes of all values together, wherever they are.
    pub(crate) fn sizes(&self) -> u64 {
        match &self.packed {
            Some(packed) => packed.iter().map(|entry| entry.value.len() as u64).sum(),
            None => self.iter().map(|(_, variable)| variable.content.size_bytes()).fold(0, u64::saturating_add),
        }
    }

    /// Bytes of names, and of the values that are here.
    pub(crate) fn bytes_here(&self) -> u64 {
        match &self.packed {
            Some(packed) => packed.iter().map(|entry| (entry.name.len() + entry.value.len()) as u64).sum(),
            None => {
                let here = |v: &Variable| if let Content::Here(value) = &v.content { value.len() } else { 0 };
                self.iter().map(|(name, variable)| (name.len() + here(variable)) as u64).sum()
            }
        }
    }

    /// What it takes of memory, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        match &self.packed {
            Some(packed) => packed.size_bytes(),
            None => self.bytes_here() + ENTRY_BYTES * self.len() as u64,
        }
    }

    /// Counts a read of one variable and shows its value if it is here; `None`: there is no such variable.
    pub(crate) fn read<R>(&mut self, name: &[u8], show: impl FnOnce(Option<Shown<'_>>) -> R) -> Option<R> {
        match self.packed_mut() {
            Some(packed) => packed.read(name, |value| show(Some(Shown::Part(value)))),
            None => {
                let variable = self.get_mut(name)?;
                variable.access.reads = variable.access.reads.saturating_add(1);
                Some(show(Shown::of(variable)))
            }
        }
    }

    /// The same for all of them in order.
    pub(crate) fn read_each(&mut self, mut show: impl FnMut(&[u8], Option<Shown<'_>>)) {
        match self.packed_mut() {
            Some(packed) => packed.read_each(|name, value| show(name, Some(Shown::Part(value)))),
            None => {
                for (name, variable) in self.iter_mut() {
                    variable.access.reads = variable.access.reads.saturating_add(1);
                    show(name, Shown::of(variable));
                }
            }
        }
    }

    /// Writes a value, which gets this version, and counts the write.
    pub(crate) fn put(&mut self, name: &[u8], value: &[u8], version: Version) -> Put {
        if let Some(packed) = self.packed_mut() {
            if let Some(replaced) = packed.replace(name, value, version) {
                if replaced {
                    return Put::Replaced { was_here: true };
                }
            } else if packed.push(name, value, version, Access { reads: 0, writes: 1 }) {
                return Put::New;
            }
        }
        let loose = self.loosened();
        let content = Content::Here(Bytes::copy_from_slice(value));
        match loose.position(name).and_then(|at| loose.entries.get_mut(at)) {
            Some((_, variable)) => {
                let was_here = matches!(variable.content, Content::Here(_));
                (variable.content, variable.version) = (content, version);
                variable.access.writes = variable.access.writes.saturating_add(1);
                Put::Replaced { was_here }
            }
            None => {
                let access = Access { reads: 0, writes: 1 };
                loose.push(Bytes::copy_from_slice(name), Variable { content, version, access });
                Put::New
            }
        }
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&Variable> {
        let loose = self.shown();
        loose.entries.get(loose.position(name)?).map(|(_, v)| v)
    }

    pub(crate) fn get_mut(&mut self, name: &[u8]) -> Option<&mut Variable> {
        let loose = self.loosened();
        let at = loose.position(name)?;
        loose.entries.get_mut(at).map(|(_, v)| v)
    }

    /// Adds or replaces; a replaced one keeps its place.
    pub(crate) fn insert(&mut self, name: Bytes, variable: Variable) {
        if let Some(packed) = self.packed_mut()
            && let Content::Here(value) = &variable.content
            && packed.find(&name).is_none()
            && packed.push(&name, value, variable.version, variable.access)
        {
            return;
        }
        match self.get_mut(&name) {
            Some(old) => *old = variable,
            None => self.loosened().push(name, variable),
        }
    }

    /// Removes one; the others keep their order while the map is small. In an indexed map the last takes its place, so that
    /// a removal stays flat.
    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<Variable> {
        if let Some(packed) = self.packed_mut() {
            return packed.remove(name);
        }
        let loose = self.loosened();
        let at = loose.position(name)?;
        let Some(index) = &mut loose.index else { return loose.entries.remove(at).map(|(_, v)| v) };
        index.remove(name);
        let (_, variable) = loose.entries.swap_remove_back(at)?;
        if let Some((moved, _)) = loose.entries.get(at) {
            index.insert(moved.clone(), at);
        }
        Some(variable)
    }

    /// The entry at a place.
    pub(crate) fn at(&self, at: usize) -> Option<(&Bytes, &Variable)> {
        self.shown().entries.get(at).map(|(name, variable)| (name, variable))
    }

    /// The same, to change the variable.
    pub(crate) fn at_mut(&mut self, at: usize) -> Option<&mut Variable> {
        self.loosened().entries.get_mut(at).map(|(_, variable)| variable)
    }

    /// Adds an entry of a list before the one at `at`, or at the end. The caller keeps the names ascending.
    pub(crate) fn insert_at(&mut self, at: usize, name: Bytes, variable: Variable) {
        let entries = &mut self.loosened().entries;
        entries.insert(at.min(entries.len()), (name, variable));
    }

    /// Removes the entry of a list at a place.
    pub(crate) fn remove_at(&mut self, at: usize) -> Option<Variable> {
        self.loosened().entries.remove(at).map(|(_, variable)| variable)
    }

    /// Keeps only the entries of a list that `keep` names, which is shown each with its place.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(usize, &Variable) -> bool) {
        let mut at = 0;
        self.loosened().entries.retain(|(_, variable)| {
            at += 1;
            keep(at - 1, variable)
        });
    }

    /// Gives every entry of a list a new name; `name` is shown its place and keeps them ascending.
    pub(crate) fn rename(&mut self, name: impl Fn(usize) -> Bytes) {
        self.loosened().entries.iter_mut().enumerate().for_each(|(at, entry)| entry.0 = name(at));
    }
}

impl Loose {
    fn position(&self, name: &[u8]) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(name).copied(),
            // Only a list has so many without an index, and its names ascend.
            None if self.entries.len() >= INDEXED_FROM => self.entries.binary_search_by(|(n, _)| n.as_ref().cmp(name)).ok(),
            None => self.entries.iter().position(|(n, _)| n.as_ref() == name),
        }
    }

    /// Adds an entry of a name that is not there.
    fn push(&mut self, name: Bytes, variable: Variable) {
        if let Some(index) = &mut self.index {
            index.insert(name.clone(), self.entries.len());
        }
        self.entries.push_back((name, variable));
        if self.index.is_none() && self.entries.len() >= INDEXED_FROM {
            let places = self.entries.iter().enumerate().map(|(at, (name, _))| (name.clone(), at));
            self.index = Some(Box::new(places.collect()));
        }
    }
}

//! An ordered map from names to variables: the order of insertion is kept, as Redis keeps it for small hashes.
//!
//! It never interprets a name. Small maps are searched in line; from [`INDEXED_FROM`] entries on an index makes look-ups flat.
//! Only [`super::Session`] changes one. A list's entries are added by place ([`Fields::insert_at`]) in ascending order of their
//! names and have no index: a large map without one is searched by halves.

use super::Variable;
use bytes::Bytes;
use std::collections::HashMap;

/// From this many entries on look-ups go through an index: below it a linear search is faster and costs no memory.
const INDEXED_FROM: usize = 48;

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    entries: Vec<(Bytes, Variable)>,
    #[allow(clippy::box_collection, reason = "few maps have an index: the others pay for a pointer, not for a map")]
    index: Option<Box<HashMap<Bytes, usize>>>,
}

impl PartialEq for Fields {
    fn eq(&self, other: &Fields) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Fields {}

impl Fields {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Variable)> {
        self.entries.iter().map(|(name, variable)| (name, variable))
    }

    pub(crate) fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&Bytes, &mut Variable)> {
        self.entries.iter_mut().map(|(name, variable)| (&*name, variable))
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(name).copied(),
            // Only a list has so many without an index, and its names ascend.
            None if self.entries.len() >= INDEXED_FROM => self.entries.binary_search_by(|(n, _)| n.as_ref().cmp(name)).ok(),
            None => self.entries.iter().position(|(n, _)| n.as_ref() == name),
        }
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&Variable> {
        self.entries.get(self.position(name)?).map(|(_, v)| v)
    }

    pub(crate) fn get_mut(&mut self, name: &[u8]) -> Option<&mut Variable> {
        let at = self.position(name)?;
        self.entries.get_mut(at).map(|(_, v)| v)
    }

    /// Adds or replaces; a replaced one keeps its place.
    pub(crate) fn insert(&mut self, name: Bytes, variable: Variable) {
        if let Some(old) = self.get_mut(&name) {
            *old = variable;
            return;
        }
        if let Some(index) = &mut self.index {
            index.insert(name.clone(), self.entries.len());
        }
        self.entries.push((name, variable));
        if self.index.is_none() && self.entries.len() >= INDEXED_FROM {
            self.reindex();
        }
    }

    /// Removes one; the others keep their order while the map is small. In an indexed map the last takes its place, so that
    /// a removal stays flat.
    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<Variable> {
        let at = self.position(name)?;
        let Some(index) = &mut self.index else { return Some(self.entries.remove(at).1) };
        index.remove(name);
        let (_, variable) = self.entries.swap_remove(at);
        if let Some((moved, _)) = self.entries.get(at) {
            index.insert(moved.clone(), at);
        }
        Some(variable)
    }

    /// The entry at a place.
    pub(crate) fn at(&self, at: usize) -> Option<(&Bytes, &Variable)> {
        self.entries.get(at).map(|(name, variable)| (name, variable))
    }

    /// The same, to change the variable.
    pub(crate) fn at_mut(&mut self, at: usize) -> Option<&mut Variable> {
        self.entries.get_mut(at).map(|(_, variable)| variable)
    }

    /// Adds an entry of a list before the one at `at`, or at the end. The caller keeps the names ascending.
    pub(crate) fn insert_at(&mut self, at: usize, name: Bytes, variable: Variable) {
        self.entries.insert(at.min(self.entries.len()), (name, variable));
    }

    /// Removes the entry of a list at a place.
    pub(crate) fn remove_at(&mut self, at: usize) -> Option<Variable> {
        (at < self.entries.len()).then(|| self.entries.remove(at).1)
    }

    /// Keeps only the entries of a list that `keep` names, which is shown each with its place.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(usize, &Variable) -> bool) {
        let mut at = 0;
        self.entries.retain(|(_, variable)| {
            at += 1;
            keep(at - 1, variable)
        });
    }

    /// Gives every entry of a list a new name; `name` is shown its place and keeps them ascending.
    pub(crate) fn rename(&mut self, name: impl Fn(usize) -> Bytes) {
        self.entries.iter_mut().enumerate().for_each(|(at, entry)| entry.0 = name(at));
    }

    fn reindex(&mut self) {
        self.index = Some(Box::new(self.entries.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect()));
    }
}

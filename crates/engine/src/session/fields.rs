//! An ordered map from names to variables: the order of insertion is kept, as Redis keeps it for small hashes.
//!
//! It never interprets a name. Small maps are searched in line; from [`INDEXED_FROM`] entries on an index makes look-ups flat.
//! Only [`super::Session`] changes one.

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

    fn reindex(&mut self) {
        self.index = Some(Box::new(self.entries.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect()));
    }
}

//! A key that two patterns both take, for the warning that the order in the configuration decides about it.
//!
//! Never on the hot path: called by `assemble` once for each pair of patterns.
//!
//! A pattern is a row of *cells*, each one byte of a text, or one byte of a shape that must, may, or may often stand there. Two
//! rows are walked together, breadth first; where both end at once, the bytes chosen on the way are a shortest common key.
//! At most (cells of one + 1) × (cells of the other + 1) places are looked at.
//! Invariant: a key that is named is taken by both patterns ([`KeyPattern::take`] has the last word).

use crate::pattern::{Hole, KeyPattern};
use crate::shape::IdShape;
use std::collections::VecDeque;

/// How often a cell's byte may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    One,
    AtMostOne,
    Any,
}

#[derive(Clone, Copy)]
enum Cell {
    Text(u8),
    /// The shape, and the place within it.
    Shape(IdShape, usize, Times),
}

impl Cell {
    fn takes(self, byte: u8) -> bool {
        match self {
            Cell::Text(text) => text == byte,
            Cell::Shape(shape, at, _) => shape.takes(at, byte),
        }
    }

    fn may_be_skipped(self) -> bool {
        matches!(self, Cell::Shape(_, _, Times::AtMostOne | Times::Any))
    }

    fn repeats(self) -> bool {
        matches!(self, Cell::Shape(_, _, Times::Any))
    }
}

fn cells(pattern: &KeyPattern) -> Vec<Cell> {
    let mut cells: Vec<Cell> = pattern.prefix.bytes().map(Cell::Text).collect();
    for Hole { shape, after, .. } in &pattern.holes {
        let (least, most) = shape.bytes();
        cells.extend((0..least).map(|at| Cell::Shape(*shape, at, Times::One)));
        if most == usize::MAX {
            cells.push(Cell::Shape(*shape, least, Times::Any));
        } else {
            cells.extend((least..most).map(|at| Cell::Shape(*shape, at, Times::AtMostOne)));
        }
        cells.extend(after.bytes().map(Cell::Text));
    }
    cells
}

/// The bytes in the order in which an example is pleasant to read.
fn bytes_by_looks() -> impl Iterator<Item = u8> {
    let looks = |byte: &u8| (!byte.is_ascii_lowercase(), !byte.is_ascii_digit(), !byte.is_ascii_graphic());
    let mut bytes: Vec<u8> = (0..=u8::MAX).collect();
    bytes.sort_by_key(looks);
    bytes.into_iter()
}

/// A place in each row, the place before it, and the byte that led here.
struct Step {
    places: (usize, usize),
    from: Option<usize>,
    byte: Option<u8>,
}

/// A key that both take; `None`: there is none.
pub(crate) fn common_key(a: &KeyPattern, b: &KeyPattern) -> Option<Vec<u8>> {
    let database = match (a.database(), b.database()) {
        (Some(one), Some(other)) if one != other => return None,
        (one, other) => one.or(other).unwrap_or(0),
    };
    let (rows_a, rows_b) = (cells(a), cells(b));
    let looks: Vec<u8> = bytes_by_looks().collect();
    let width = rows_b.len().saturating_add(1);
    let mut seen = vec![false; width.saturating_mul(rows_a.len().saturating_add(1))];
    let mut steps = vec![Step { places: (0, 0), from: None, byte: None }];
    let mut queue: VecDeque<usize> = [0].into();
    while let Some(at) = queue.pop_front() {
        let (i, j) = steps.get(at)?.places;
        let (cell_a, cell_b) = (rows_a.get(i).copied(), rows_b.get(j).copied());
        if cell_a.is_none() && cell_b.is_none() {
            let key = spelt(&steps, at);
            // The first place of a text ends a placeholder, which the walk does not know of.
            if a.take(database, &key).is_some() && b.take(database, &key).is_some() {
                return Some(key);
            }
            continue;
        }
        let mut next = Vec::new();
        next.extend(cell_a.filter(|cell| cell.may_be_skipped()).map(|_| ((i + 1, j), None)));
        next.extend(cell_b.filter(|cell| cell.may_be_skipped()).map(|_| ((i, j + 1), None)));
        if let (Some(one), Some(other)) = (cell_a, cell_b)
            && let Some(byte) = looks.iter().copied().find(|byte| one.takes(*byte) && other.takes(*byte))
        {
            let step = |cell: Cell, at: usize| if cell.repeats() { at } else { at + 1 };
            next.push(((step(one, i), step(other, j)), Some(byte)));
        }
        for (places, byte) in next {
            let index = places.0.saturating_mul(width).saturating_add(places.1);
            if let Some(known) = seen.get_mut(index).filter(|known| !**known) {
                *known = true;
                steps.push(Step { places, from: Some(at), byte });
                queue.push_back(steps.len() - 1);
            }
        }
    }
    None
}

fn spelt(steps: &[Step], mut at: usize) -> Vec<u8> {
    let mut key = Vec::new();
    while let Some(step) = steps.get(at) {
        key.extend(step.byte);
        let Some(from) = step.from else { break };
        at = from;
    }
    key.reverse();
    key
}

impl KeyPattern {
    /// Whether every key of `self` is one of `other`, or nearly so: the text of `self` extends that of `other`.
    fn refines(&self, other: &KeyPattern) -> bool {
        let written = |pattern: &KeyPattern| (pattern.prefix.len() + pattern.suffix().len(), pattern.holes.len());
        self.prefix.starts_with(&other.prefix)
            && self.suffix().ends_with(other.suffix())
            && self.holes.len() >= other.holes.len()
            && written(self) != written(other)
    }

    /// Whether both take the same keys, so that one of them is never used.
    pub fn is_the_same_as(&self, other: &KeyPattern) -> bool {
        let written = |pattern: &KeyPattern| (pattern.prefix.clone(), pattern.database(), pattern.holes.len());
        let alike = |(a, b): (&Hole, &Hole)| (a.shape, &a.after) == (b.shape, &b.after);
        written(self) == written(other) && self.holes.iter().zip(&other.holes).all(alike)
    }

    /// A key that both take although neither is written as a special case of the other; `None`: there is none.
    pub fn collides_with(&self, other: &KeyPattern) -> Option<String> {
        if self.refines(other) || other.refines(self) {
            return None;
        }
        common_key(self, other).map(|key| String::from_utf8_lossy(&key).into_owned())
    }
}

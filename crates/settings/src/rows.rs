//! Short words for the rows of the table of settings.
//!
//! Nothing here reads a configuration, and nobody but [`crate::table`] uses it. Invariant: what a row says is a constant.

use crate::kind::{Kind, Setting, Shape, Unit};
use crate::words::Word;

/// Parts of the table as one. `N` is their length together.
#[allow(clippy::indexing_slicing, reason = "a place that is not there ends the compilation")]
pub(crate) const fn joined<const N: usize>(first: &[Setting], second: &[Setting]) -> [Setting; N] {
    let mut all = [first[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < first.len() { first[at] } else { second[at - first.len()] };
        at += 1;
    }
    all
}

pub(crate) const fn row(key: &'static str, kind: Kind, default: Option<&'static str>, meaning: &'static str) -> Setting {
    Setting { key, kind, default, meaning }
}

pub(crate) const fn count(min: u64, max: u64) -> Kind {
    Kind::Number { unit: Unit::Count, min, max }
}

pub(crate) const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Number { unit: Unit::Bytes, min, max }
}

pub(crate) const fn ms(min: u64, max: u64) -> Kind {
    Kind::Number { unit: Unit::Milliseconds, min, max }
}

pub(crate) const fn text(shape: Shape, bytes_max: usize) -> Kind {
    Kind::Text { shape, bytes_max }
}

pub(crate) const fn words<T: Word>() -> Kind {
    Kind::Choice { words: T::names, later: &[] }
}

pub(crate) const MIB: u64 = 1024 * 1024;
pub(crate) const GIB: u64 = 1024 * MIB;
pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const LISTEN: Kind = Kind::Listen { beyond_loopback: true };
pub(crate) const LISTEN_LOOPBACK: Kind = Kind::Listen { beyond_loopback: false };

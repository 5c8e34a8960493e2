//! The shop's pages and variables: what a session of a web shop holds, how large it is, which page touches what.
//!
//! It knows nothing of sockets or of time. Called by the schedule (what a page touches), the shop (names), the nodes' policy
//! (classes) and the check (sizes). Sizes are log-uniform between two bounds; a variable that grows has the size
//! `base · (1 + writes/4)` up to its bound. Identity is small and on every page; recommendations are large and per category;
//! the history grows with every item; address, payment and quote belong to a rare checkout.
//! Invariant: a size is a function of (session seed, variable, sequence) alone, so that a reader can compute any value.

use crate::random::Draws;
use crate::value;

/// Categories of the shop; `recs_{n}` and `filters_{n}` exist once for each.
pub const BUCKETS: u8 = 12;
/// No value of this shop is larger, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The field that counts the pages of a session, by `HINCRBY`.
pub const COUNTER: &str = "hits";

/// A page or an action of the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Creates the session with its first variables.
    Login,
    /// The start page.
    Home,
    /// An item that this client sees for the first time.
    Item,
    /// An item seen before.
    ItemAgain,
    /// Puts something into the cart.
    CartAdd,
    /// Buys.
    Checkout,
    /// A fragment of a page that only reads; without names it reads the whole session.
    Read,
    /// Deletes the session.
    Logout,
}

impl Route {
    /// The path under which the shop serves it.
    pub fn path(self) -> &'static str {
        match self {
            Self::Login => "/login",
            Self::Home => "/home",
            Self::Item => "/item",
            Self::ItemAgain => "/item_again",
            Self::CartAdd => "/cart_add",
            Self::Checkout => "/checkout",
            Self::Read => "/read",
            Self::Logout => "/logout",
        }
    }
}

/// What policy makes of a variable when its session moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// In the handover.
    Carried,
    /// At once, behind the handover.
    Streamed,
    /// On first access.
    Deferred,
}

/// One row of the model. Probabilities are given for home, item, item again, checkout, in this order.
#[derive(Debug)]
pub struct Row {
    /// Name, or prefix of the name when there is one per category.
    pub name: &'static str,
    /// One per category, with `_{bucket}` behind the name.
    pub per_bucket: bool,
    /// Smallest and largest size in bytes.
    pub bytes: (u32, u32),
    /// Every write makes it a quarter of its first size larger.
    pub grows: bool,
    /// Its class in the demo's policy.
    pub class: Class,
    /// How often a page reads it.
    pub read: [f64; 4],
    /// How often a page writes it.
    pub write: [f64; 4],
}

const fn row(name: &'static str, bytes: (u32, u32), class: Class, read: [f64; 4], write: [f64; 4]) -> Row {
    Row { name, per_bucket: false, bytes, grows: false, class, read, write }
}

const fn growing(row: Row) -> Row {
    Row { grows: true, ..row }
}

const fn per_bucket(row: Row) -> Row {
    Row { per_bucket: true, ..row }
}

/// The model. Plain rows first: slots are numbered in this order.
#[rustfmt::skip]
pub const ROWS: [Row; 13] = [
    row("user", (180, 420), Class::Carried, [1.0, 1.0, 1.0, 1.0], [0.3, 0.0, 0.0, 0.0]),
    row("csrf", (32, 64), Class::Carried, [0.15, 0.15, 0.15, 1.0], [1.0, 0.0, 0.0, 0.0]),
    row("locale", (24, 40), Class::Carried, [1.0, 1.0, 1.0, 1.0], [0.05, 0.0, 0.0, 0.0]),
    row("flags", (300, 900), Class::Streamed, [1.0, 0.35, 0.35, 0.35], [0.0; 4]),
    growing(row("cart", (200, 9_000), Class::Carried, [0.3, 0.3, 0.8, 1.0], [0.0, 0.06, 0.35, 0.9])),
    growing(row("history", (500, 60_000), Class::Deferred, [0.25, 0.0, 0.0, 0.0], [0.0, 0.9, 0.9, 0.0])),
    row("address", (150, 600), Class::Deferred, [0.0, 0.0, 0.0, 0.95], [0.0, 0.0, 0.0, 0.4]),
    row("payment", (200, 900), Class::Deferred, [0.0, 0.0, 0.0, 0.9], [0.0, 0.0, 0.0, 0.6]),
    growing(row("wishlist", (100, 12_000), Class::Deferred, [0.0, 0.0, 0.2, 0.0], [0.0, 0.0, 0.1, 0.0])),
    row("quote", (2_000, 20_000), Class::Deferred, [0.0, 0.0, 0.0, 0.7], [0.0, 0.0, 0.08, 0.5]),
    growing(row("chat", (500, 30_000), Class::Deferred, [0.01; 4], [0.01; 4])),
    per_bucket(row("recs", (4_000, 40_000), Class::Deferred, [0.2, 0.7, 0.5, 0.0], [0.0, 0.15, 0.0, 0.0])),
    per_bucket(row("filters", (60, 400), Class::Deferred, [0.0, 0.25, 0.0, 0.0], [0.0, 0.1, 0.0, 0.0])),
];

/// One variable of a session: a row of the model and, where there is one per category, the category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Variable {
    row: u8,
    bucket: u8,
}

impl Variable {
    /// The variable of this name; nothing for a name that the shop does not know.
    pub fn parse(name: &str) -> Option<Self> {
        all().find(|variable| variable.name() == name)
    }

    /// The variable of this plain row, or of this row in `bucket`.
    pub fn named(row_name: &str, bucket: u8) -> Option<Self> {
        let at = ROWS.iter().position(|row| row.name == row_name)?;
        let bucket = if ROWS.get(at)?.per_bucket { bucket % BUCKETS } else { 0 };
        Some(Self { row: u8::try_from(at).ok()?, bucket })
    }

    /// Its row.
    pub fn row(self) -> Option<&'static Row> {
        ROWS.get(usize::from(self.row))
    }

    /// Its name: the field of the session's hash.
    pub fn name(self) -> String {
        match self.row() {
            Some(row) if row.per_bucket => format!("{}_{}", row.name, self.bucket),
            Some(row) => row.name.to_owned(),
            None => String::new(),
        }
    }

    /// A number that stands for this variable in draws.
    pub fn label(self) -> u64 {
        u64::from(self.row) * 256 + u64::from(self.bucket)
    }
}

/// Every variable that a session of this shop can have.
pub fn all() -> impl Iterator<Item = Variable> {
    ROWS.iter().zip(0u8..).flat_map(|(row, at)| {
        let buckets = if row.per_bucket { BUCKETS } else { 1 };
        (0..buckets).map(move |bucket| Variable { row: at, bucket })
    })
}

/// The sizes of one session's variables.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    session_seed: u64,
    bytes_max: u32,
}

impl Sizes {
    /// Sizes drawn from `session_seed`, none above `bytes_max`.
    pub fn new(session_seed: u64, bytes_max: u32) -> Self {
        Self { session_seed, bytes_max }
    }

    /// Bytes of the value that write number `sequence` (from 1) of `variable` stores, its header included.
    pub fn bytes(&self, variable: Variable, sequence: u64) -> usize {
        let Some(row) = variable.row() else { return value::HEADER_BYTES_MAX };
        let (low, high) = (f64::from(row.bytes.0), f64::from(row.bytes.1));
        let base = low * (high / low).powf(Draws::new(self.session_seed, &[variable.label()]).unit());
        let grown = if row.grows { base * (1.0 + sequence.saturating_sub(1) as f64 / 4.0) } else { base };
        let bytes = grown.min(high).min(f64::from(self.bytes_max)) as usize;
        // A header must fit, else a value could not say which write it came from.
        bytes.clamp(value::bytes_min(&variable.name(), sequence), VALUE_BYTES_MAX)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_come_back() {
        let names: std::collections::BTreeSet<String> = all().map(Variable::name).collect();
        assert_eq!(names.len(), 11 + 2 * usize::from(BUCKETS));
        for variable in all() {
            assert_eq!(Variable::parse(&variable.name()), Some(variable));
        }
        assert_eq!(Variable::parse("recs_12"), None);
        assert_eq!(Variable::parse("hits"), None);
    }

    #[test]
    fn sizes_stay_within_their_bounds_and_grow() {
        for seed in 0..200 {
            let sizes = Sizes::new(seed, u32::MAX);
            for variable in all() {
                let row = variable.row().unwrap();
                for sequence in [1, 2, 50] {
                    let bytes = sizes.bytes(variable, sequence) as u32;
                    assert!(bytes >= row.bytes.0 && bytes <= row.bytes.1, "{} has {bytes} bytes", variable.name());
                }
                assert_eq!(sizes.bytes(variable, 1), Sizes::new(seed, u32::MAX).bytes(variable, 1));
                assert!(row.grows || sizes.bytes(variable, 1) == sizes.bytes(variable, 9));
            }
            let history = Variable::named("history", 0).unwrap();
            assert!(sizes.bytes(history, 9) > sizes.bytes(history, 1) || sizes.bytes(history, 1) > 59_000);
        }
    }

    #[test]
    fn a_limit_on_the_size_holds_for_every_variable() {
        let sizes = Sizes::new(3, 1024);
        assert!(all().all(|variable| sizes.bytes(variable, 40) <= 1024));
    }
}

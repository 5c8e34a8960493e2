//! What a handover owes the upstream: the new owner takes over the duty to write it, with the time that has passed already.
//!
//! It never holds values: they are in the manifest, or fetched. Made by the origin at the freeze, opened by the target.
//! A key that is written needs no word: the target's books say that it is there as the manifest describes it.
//!
//! Invariant: *planned moves lose nothing*: what the origin had not confirmed by the upstream, the target writes whole.

use super::copy::{KeyCopy, RestCopy};
use super::{ByImpact, IMPACTS, Since};
use crate::session::Session;
use crate::session::manifest::Manifest;
use bytes::Bytes;

/// See the head of this file.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Debts {
    /// Keys that are not, or not certainly, in the upstream as the manifest describes them.
    pub unwritten: Vec<Bytes>,
    /// Keys that may be in the upstream and do not exist any more.
    pub gone: Vec<Bytes>,
    /// For how long something of each impact has been unwritten, in microseconds.
    pub age_us: [Option<u64>; 4],
}

impl std::fmt::Debug for Debts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Debts({} unwritten, {} gone, {:?})", self.unwritten.len(), self.gone.len(), self.age_us)
    }
}

impl Debts {
    /// Of a frozen session that leaves as `manifest` says.
    pub fn of(rest: &RestCopy, session: &Session, manifest: &Manifest, now_us: u64) -> Debts {
        let mut debts = Debts::default();
        for key in session.keys() {
            match manifest.keys.iter().find(|k| k.name == key.name) {
                // Policy drops it, or some of it: it must not come back from the upstream.
                None => debts.gone.push(key.name.to_bytes()),
                Some(described) if described.entries.len() != key.len() || !rest.is_written(key) => {
                    debts.unwritten.push(key.name.to_bytes());
                }
                Some(_) => {}
            }
        }
        debts.gone.extend(rest.gone(session).cloned());
        debts.gone.sort_unstable();
        debts.gone.dedup();
        let since = rest.since();
        for ((_, at), age) in since.iter().zip(&mut debts.age_us) {
            *age = at.map(|at| now_us.saturating_sub(at));
        }
        debts
    }

    /// The books of the session that the target opens. Without debts nobody kept books: everything is written whole.
    pub fn open(debts: Option<&Debts>, session: &Session, now_us: u64) -> RestCopy {
        let mut keys = Vec::new();
        for key in session.keys() {
            let known = debts.is_some_and(|d| !d.unwritten.iter().any(|name| *name == key.name));
            keys.push(KeyCopy { whole: !known, ..KeyCopy::of(key, session.last_version()) });
        }
        let gone = debts.map(|d| d.gone.as_slice()).unwrap_or_default();
        keys.extend(gone.iter().map(|name| KeyCopy { whole: true, ..KeyCopy::absent(name.clone()) }));
        let owes = keys.iter().any(|k| k.whole);
        let mut rest = RestCopy::new(keys);
        let mut since: Since = ByImpact::default();
        for (impact, age) in IMPACTS.into_iter().zip(debts.map(|d| d.age_us).unwrap_or_default()) {
            if let Some(age) = age {
                since.note(impact, now_us.saturating_sub(age));
            }
        }
        if owes && since.is_clean() {
            since.note(crate::plan::Impact::High, now_us);
        }
        rest.owe(since);
        rest
    }
}

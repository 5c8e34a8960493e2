//! Who uses which sessions while nobody owns them: a sample from which it follows what owners would save.
//!
//! It never sees a value and keeps a bounded number of sessions. Each member keeps one; [`outlook`] puts those of all together.
//!
//! A sample holds the sessions with the [`SAMPLE_MAX`] smallest hashes. Every member samples by the same hash, so a session that is
//! in one sample is in those of all members that see it, and what members did to it can be added up. From the largest hash in a
//! full sample follows how many sessions there are (k minimum values: `(k − 1) / h`, where `h` is that hash as a part of all).
//!
//! | figure | from |
//! |---|---|
//! | operations that would become local | of each sampled session those of the member that has most of them: its owner, by adoption |
//! | sessions | the sample's density |
//! | a second | operations counted one by one, over the window |
//!
//! A window is one to two times [`WINDOW_US`] long: what was before is forgotten.

use crate::ids::{Digest, SessionId};
use std::collections::BTreeMap;

/// Sessions in a sample.
pub const SAMPLE_MAX: usize = 1024;
/// Half of the longest window.
pub const WINDOW_US: u64 = 300_000_000;

/// One window of one member.
#[derive(Clone, Debug, Default)]
struct Window {
    since_us: u64,
    operations: u64,
    /// By hash: the session, and the operations on it.
    sessions: BTreeMap<u64, (SessionId, u64)>,
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    now: Window,
    before: Option<Window>,
}

/// What a member tells the others: no id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// How long it has looked, in microseconds.
    pub window_us: u64,
    /// All operations on sessions in this time.
    pub operations: u64,
    /// Those on each session of its sample, by hash.
    pub sessions: BTreeMap<u64, u64>,
}

/// What owners would do, about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outlook {
    /// How long the member that has looked longest has looked, in microseconds.
    pub window_us: u64,
    /// Sessions that were used in the window.
    pub sessions: u64,
    /// Sessions in the samples.
    pub sampled: u64,
    /// Operations on sessions a minute, all members together.
    pub operations_per_minute: u64,
    /// Those of them that would be answered beside the instance, a minute.
    pub local_per_minute: u64,
}

fn hash_of(session: &[u8]) -> u64 {
    Digest::of(session).0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

impl Profile {
    /// An operation on a session.
    pub fn note(&mut self, session: &[u8], now_us: u64) {
        self.turn(now_us);
        self.now.operations = self.now.operations.saturating_add(1);
        let hash = hash_of(session);
        let sessions = &mut self.now.sessions;
        if let Some((_, operations)) = sessions.get_mut(&hash) {
            *operations = operations.saturating_add(1);
            return;
        }
        let is_full = sessions.len() >= SAMPLE_MAX;
        if is_full && sessions.last_key_value().is_some_and(|(largest, _)| *largest < hash) {
            return;
        }
        sessions.insert(hash, (SessionId::copy_of(session), 1));
        if is_full {
            sessions.pop_last();
        }
    }

    fn turn(&mut self, now_us: u64) {
        if self.now.since_us == 0 {
            self.now.since_us = now_us;
        }
        if now_us.saturating_sub(self.now.since_us) >= WINDOW_US {
            let next = Window { since_us: now_us, ..Window::default() };
            self.before = Some(std::mem::replace(&mut self.now, next));
        }
    }

    /// What it tells the others.
    pub fn seen(&mut self, now_us: u64) -> Seen {
        self.turn(now_us);
        let since_us = self.before.as_ref().map_or(self.now.since_us, |before| before.since_us);
        let mut seen = Seen { window_us: now_us.saturating_sub(since_us).max(1), ..Seen::default() };
        for window in self.before.iter().chain([&self.now]) {
            seen.operations = seen.operations.saturating_add(window.operations);
            for (hash, (_, operations)) in &window.sessions {
                let sum = seen.sessions.entry(*hash).or_default();
                *sum = sum.saturating_add(*operations);
            }
        }
        while seen.sessions.len() > SAMPLE_MAX {
            seen.sessions.pop_last();
        }
        seen
    }

    /// Some of the sessions in its sample, at most so many: any choice by hash is as good as another.
    pub fn some(&self, count: usize) -> Vec<SessionId> {
        let windows = self.before.iter().chain([&self.now]);
        let sessions: BTreeMap<u64, &SessionId> =
            windows.flat_map(|window| window.sessions.iter().map(|(hash, (session, _))| (*hash, session))).collect();
        sessions.into_values().take(count).cloned().collect()
    }
}

/// Puts together what all members have seen.
pub fn outlook(members: &[Seen]) -> Outlook {
    // Above this hash a full sample knows nothing.
    let full = members.iter().filter(|seen| seen.sessions.len() >= SAMPLE_MAX);
    let limit = full.filter_map(|seen| seen.sessions.last_key_value()).map(|(largest, _)| *largest).min();
    let mut of: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for (hash, operations) in members.iter().flat_map(|seen| &seen.sessions) {
        if limit.is_none_or(|limit| *hash <= limit) {
            let (sum, most) = of.entry(*hash).or_default();
            (*sum, *most) = (sum.saturating_add(*operations), (*most).max(*operations));
        }
    }
    let sampled = of.len() as u64;
    let sessions = match limit {
        None => u128::from(sampled),
        Some(limit) => u128::from(sampled.saturating_sub(1)).saturating_mul(1 << 64) / u128::from(limit.max(1)),
    };
    let (sum, most) = of.values().fold((0u128, 0u128), |(sum, most), one| (sum + u128::from(one.0), most + u128::from(one.1)));
    let per_minute = |seen: &Seen| u128::from(seen.operations).saturating_mul(60_000_000) / u128::from(seen.window_us.max(1));
    let operations: u128 = members.iter().map(per_minute).sum();
    let whole = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
    Outlook {
        window_us: members.iter().map(|seen| seen.window_us).max().unwrap_or(0),
        sessions: whole(sessions),
        sampled,
        operations_per_minute: whole(operations),
        local_per_minute: whole(operations.saturating_mul(most) / sum.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_several_members_tell_how_many_sessions_there_are_and_who_would_have_them() {
        for count in [10u64, 1_000, 30_000] {
            let (mut a, mut b) = (Profile::default(), Profile::default());
            for n in 0..count {
                let id = format!("session {n}");
                // Three of four operations on each come to the same member, and those of a quarter of the sessions to one alone.
                let (most, least) = if n % 2 == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
                (0..3).for_each(|_| most.note(id.as_bytes(), 1_000_000));
                let other = if n % 4 == 0 { most } else { least };
                other.note(id.as_bytes(), 1_000_000);
            }
            let seen = [a.seen(61_000_000), b.seen(61_000_000)];
            let found = outlook(&seen);
            assert_eq!(found.operations_per_minute, 4 * count);
            let near = |found: u64, wanted: u64| found.abs_diff(wanted) * 10 <= wanted;
            assert!(near(found.sessions, count), "{count}: {found:?}");
            assert!(near(found.local_per_minute, count * 13 / 4), "{count}: {found:?}");
            assert!(found.sampled <= SAMPLE_MAX as u64 && a.some(5).len() == 5);
        }
        assert_eq!(outlook(&[]), Outlook::default());
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut profile = Profile::default();
        profile.note(b"old", 1);
        profile.note(b"new", 1 + WINDOW_US);
        assert_eq!(profile.seen(2 + WINDOW_US).sessions.len(), 2);
        assert_eq!(profile.seen(2 + 2 * WINDOW_US).sessions.len(), 1);
        assert_eq!(profile.seen(3 + 4 * WINDOW_US).operations, 0);
    }
}

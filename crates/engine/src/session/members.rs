//! Keys with members: sets and sorted sets, and what every kind of key shares: a write of one variable, rename and copy.
//!
//! It never checks a type and never talks RESP: [`crate::command`] has looked that the key is of the kind that it names.
//!
//! A member's score is the value of its variable, so profile, plan, manifest and fetch treat it as any short value: it always
//! crosses within the manifest. The order of a sorted set is computed when it is asked for ([`Key::ranked`]): by score, then by
//! the bytes of the member.
//!
//! Invariant: a member of a sorted set always has a score (a manifest with another one does not open).

use super::fields::{Fields, Put};
use super::{Content, Key, Kind, Layout, Name, Session, Variable};
use crate::ids::Version;
use bytes::Bytes;
use std::cmp::Ordering;

/// The score in the variable of a sorted set's member.
pub(crate) fn score(variable: &Variable) -> Option<f64> {
    match &variable.content {
        Content::Here(value) => value.as_ref().try_into().ok().map(f64::from_be_bytes),
        Content::Elsewhere(_) | Content::Lost => None,
    }
}

/// By score, then by member. Scores are never NaN.
fn order(a: &(f64, Bytes), b: &(f64, Bytes)) -> Ordering {
    a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then_with(|| a.1.cmp(&b.1))
}

impl Key {
    /// The score of a member.
    pub(crate) fn score(&self, member: &[u8]) -> Option<f64> {
        self.fields.get(member).and_then(score)
    }

    /// The members of a sorted set with their scores, in order. Costs a sort.
    pub(crate) fn ranked(&self) -> Vec<(f64, Bytes)> {
        let mut ranked: Vec<_> = self.fields.iter().filter_map(|(name, v)| Some((score(v)?, name.clone()))).collect();
        ranked.sort_unstable_by(order);
        ranked
    }

    /// The place of a member in order. Costs a look at every member.
    pub(crate) fn rank(&self, member: &Bytes) -> Option<usize> {
        let own = (self.score(member)?, member.clone());
        let before = |(name, v): &(&Bytes, &Variable)| {
            score(v).is_some_and(|s| s < own.0 || (s == own.0 && name.as_ref() < own.1.as_ref()))
        };
        Some(self.fields.iter().filter(before).count())
    }
}

impl Session {
    /// Writes one variable of a key, making a key of this kind if there is none. True if the variable is new. The caller has
    /// looked that no living key of another kind has the name. Not for lists and strings.
    pub(crate) fn write_member(&mut self, name: &[u8], kind: Kind, member: &[u8], value: &[u8], unix_ms: u64) -> bool {
        let version = self.next_version();
        let at = self.position_or_new(name, kind, unix_ms);
        let Some(key) = self.keys.at_mut(at) else { return false };
        match key.fields.put(member, value, version) {
            Put::New => true,
            Put::Replaced { was_here } => {
                self.missing -= usize::from(!was_here);
                false
            }
        }
    }

    /// Where the living key of this name is; a new one without variables takes the place of none or of an expired one. The
    /// caller adds a variable at once.
    pub(super) fn position_or_new(&mut self, name: &[u8], kind: Kind, unix_ms: u64) -> usize {
        if let Some(at) = self.living(name, unix_ms) {
            return at;
        }
        self.remove(name, unix_ms);
        let name = Name::copy_of(name);
        let fields = if kind == Kind::Hash { Fields::default() } else { Fields::loose() };
        self.keys.push(Key { name, layout: Layout::Hash, kind, expires_at_ms: None, fields });
        self.keys().len() - 1
    }

    /// Counts one read of every variable of a key.
    pub(crate) fn count_reads(&mut self, name: &[u8], unix_ms: u64) {
        let Some(key) = self.content_mut(name, unix_ms) else { return };
        key.fields.read_each(|_, _| {});
    }

    /// The key `from` as another session is to have it: alone in a session whose versions are above `after`. `to` as for
    /// [`Session::transfer`]. `None`: there is no such key, or not all of it is here.
    pub(crate) fn extract(&self, from: &[u8], to: (&[u8], Layout, &[u8]), after: Version, unix_ms: u64) -> Option<Session> {
        let key = self.key(from, unix_ms).filter(|key| key.missing(None).is_none())?;
        let mut alone = Session::new(after);
        alone.adopt(key.clone());
        // In databases of their own two sessions might use one name: then the key stays, with new versions.
        let same = from == to.0;
        alone.transfer(from, to, same, unix_ms).then_some(alone)
    }

    /// Takes over the one key of `alone`, in the place of what has its name here.
    pub(crate) fn take_over(&mut self, alone: Session, unix_ms: u64) {
        let version = alone.last_version.max(self.last_version);
        for key in alone.keys() {
            self.remove(&key.name, unix_ms);
            self.adopt(key.clone());
        }
        self.last_version = version;
    }

    /// Gives what is under `from` to `to`, or a copy of it, with its expiry; what was under `to` is gone. `label` and `layout`
    /// are those of `to`. Every value is here and the names differ, the caller has looked; false if there is no key `from`.
    pub(crate) fn transfer(&mut self, from: &[u8], to: (&[u8], Layout, &[u8]), keep: bool, unix_ms: u64) -> bool {
        let (to, layout, label) = to;
        let Some(source) = self.key(from, unix_ms) else { return false };
        let (kind, expires_at_ms) = (source.kind, source.expires_at_ms);
        if kind == Kind::String {
            let Some(value) = self.read_string(from, unix_ms) else { return false };
            self.remove(to, unix_ms);
            // A value of one piece may be shared with the old key, which is fine: both own it.
            self.write_string(to, layout, label, value);
        } else {
            let mut fields = source.fields.clone();
            let layout = source.layout;
            for (_, variable) in fields.iter_mut() {
                variable.version = self.next_version();
            }
            self.remove(to, unix_ms);
            if kind == Kind::Hash {
                fields.tighten();
            }
            self.keys.push(Key { name: Name::copy_of(to), layout, kind, expires_at_ms: None, fields });
        }
        if let Some(key) = self.key_mut(to, unix_ms) {
            key.expires_at_ms = expires_at_ms;
        }
        if !keep {
            self.remove(from, unix_ms);
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn members_are_ranked_by_score_then_by_bytes() {
        let mut s = Session::default();
        for (member, score) in [("b", 1.0f64), ("a", 1.0), ("z", -0.5), ("i", f64::INFINITY), ("n", f64::NEG_INFINITY)] {
            s.write_member(b"z", Kind::SortedSet, member.as_bytes(), &score.to_be_bytes(), 0);
        }
        let key = s.key(b"z", 0).unwrap();
        let names: Vec<_> = key.ranked().into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["n", "z", "a", "b", "i"]);
        for (at, name) in names.iter().enumerate() {
            assert_eq!(key.rank(name), Some(at));
        }
        assert_eq!((key.rank(&Bytes::from_static(b"x")), key.score(b"z")), (None, Some(-0.5)));
    }

    #[test]
    fn a_renamed_key_keeps_values_and_time_and_gets_new_versions() {
        let mut s = Session::default();
        s.write_field(b"h", b"f", Bytes::from_static(b"1"), 0);
        s.key_mut(b"h", 0).unwrap().expires_at_ms = Some(10);
        let before = s.key(b"h", 0).unwrap().variable(b"f").unwrap().version;
        s.write_string(b"to", Layout::Opaque, b"", Bytes::from_static(b"old"));
        assert!(s.transfer(b"h", (b"to", Layout::Hash, b""), false, 0));
        assert!(s.key(b"h", 0).is_none());
        let key = s.key(b"to", 0).unwrap();
        assert_eq!((key.kind, key.expires_at_ms, key.len()), (Kind::Hash, Some(10), 1));
        assert!(key.variable(b"f").unwrap().version > before);
        assert!(!s.transfer(b"h", (b"to", Layout::Hash, b""), false, 0));
    }
}

//! What the upstream has of one session, and since when it lacks something: the books of write-behind.
//!
//! It never talks to anybody and never removes anything from the session. It compares states, not commands: whatever changed the
//! session, the difference to what the upstream was left with is what goes there, so new commands need nothing here.
//! [`crate::residence::Resident`] holds one; the store tells it of changes, [`crate::node`] takes batches from it.
//!
//! ```text
//!  noted (impact, instant) ─► take: batch ─► in flight ─► Written: the books say so
//!            ▲                                  │
//!            └──── unknown, foreign, vanished: the whole key is written next ◄──┘
//! ```
//! Bounds: [`KNOWN_ABSENT_MAX`] keys that are known not to exist.
//! Longer than 400 lines because books, batches and their landing are one account.
//! Invariant: a key that the books say is written, and whose versions, names and expiry agree with them, is in the upstream.

use super::change::{Batch, KeyChange, KeyStore, Stored};
use super::content::{self, KeyContent};
use super::{ByImpact, RestSettings, Since};
use crate::bugs::{self, Bug};
use crate::ids::{Epoch, RequestId, Version};
use crate::plan::{Impact, Policy};
use crate::session::layout::plain_name;
use crate::session::{Content, Key, Kind, Layout, Session, VariableId};
use bytes::Bytes;

/// Keys without a value that are remembered, so that they need not be looked for again. No operation may name more of them: it
/// would look for some of them over and over.
pub const KNOWN_ABSENT_MAX: usize = 1024;

/// What the upstream has of one key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyCopy {
    /// The full name.
    pub name: Bytes,
    /// Its type; `None`: there is no such key.
    pub kind: Option<Kind>,
    /// How it is divided, which says what its names are.
    pub layout: Layout,
    /// Its expiry there.
    pub expires_at_ms: Option<u64>,
    /// The names of its variables there.
    pub names: Vec<Bytes>,
    /// All versions up to this are there.
    pub written: Version,
    /// What is there is not known for certain: it is replaced.
    pub whole: bool,
}

impl std::fmt::Debug for KeyCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let KeyCopy { name, kind, names, written, whole, .. } = self;
        write!(f, "KeyCopy({} B, {kind:?}, {} names, {written:?}, whole {whole})", name.len(), names.len())
    }
}

impl KeyCopy {
    /// The upstream has the key exactly as the session has it.
    pub fn of(key: &Key, written: Version) -> KeyCopy {
        KeyCopy {
            name: key.name.to_bytes(),
            kind: Some(key.kind),
            layout: key.layout,
            expires_at_ms: key.expires_at_ms,
            names: key.variables().map(|(name, _)| name.clone()).collect(),
            written,
            whole: false,
        }
    }

    /// The upstream has no such key.
    pub fn absent(name: Bytes) -> KeyCopy {
        KeyCopy {
            name,
            kind: None,
            layout: Layout::Opaque,
            expires_at_ms: None,
            names: Vec::new(),
            written: Version(0),
            whole: false,
        }
    }

    /// The impact of a variable of this name there. As in a session, the members of a set or a list follow the default.
    fn impact(&self, name: &Bytes, policy: &Policy) -> Impact {
        match self.kind {
            Some(Kind::Set | Kind::SortedSet | Kind::List) => policy.default.impact,
            Some(Kind::String) => policy.of(&plain_name(self.layout, name)).impact,
            Some(Kind::Hash) | None => policy.of(name).impact,
        }
    }

    fn has_lost_names(&self, key: &Key) -> bool {
        self.names.iter().any(|name| key.variable(name).is_none())
    }

    /// What brings the upstream from this copy to `key`; `None`: they agree.
    fn change_to(&self, key: &Key) -> Option<Difference> {
        let newer = key.variables().any(|(_, v)| v.version > self.written);
        let gone = self.has_lost_names(key);
        if self.whole || self.kind != Some(key.kind) || ((newer || gone) && !content::has_parts(key.kind)) {
            return Some(Difference::Whole);
        }
        if newer || gone {
            return Some(Difference::Parts);
        }
        (self.expires_at_ms != key.expires_at_ms).then_some(Difference::Expiry)
    }
}

enum Difference {
    Whole,
    Parts,
    Expiry,
}

/// A batch under way, and what the books will say when it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Flight {
    request: RequestId,
    since: Since,
    bytes: u64,
    /// By key of the batch, in its order.
    after: Vec<KeyCopy>,
}

/// What a batch can be made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// Nothing: the upstream has everything.
    Clean,
    /// One is under way already.
    InFlight,
    /// These values are needed first.
    Fetch(Vec<VariableId>),
    /// Send it.
    Batch(Batch),
    /// Send it; what else differs needs values that are not here, and goes with a later one.
    Part(Batch),
}

/// What came of a batch, all keys together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Landed {
    /// Everything of the batch is in the upstream.
    pub written: bool,
    /// Keys that somebody else had written.
    pub foreign: usize,
    /// A newer owner has been there.
    pub refused: bool,
    /// The upstream has answered with an error to a key.
    pub failed: bool,
    /// Nobody knows: the upstream did not answer.
    pub unknown: bool,
}

/// See the head of this file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RestCopy {
    keys: Vec<KeyCopy>,
    since: Since,
    /// The most urgent impact that the engine has been told of since the last batch.
    told: Option<Impact>,
    unwritten_bytes: u64,
    sequence: u64,
    flight: Option<Box<Flight>>,
    /// How often in a row the upstream has answered with an error, and when the next batch may go.
    failures: u32,
    retry_at_us: u64,
}

/// What the keys of an operation were like before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Before {
    version: Version,
    /// Variables and type of its one key. `None`: of several keys, or several commands, where one may leave what another takes, so
    /// that only names tell what is gone.
    one: Option<(usize, Option<Kind>)>,
}

impl Before {
    /// Of the keys that an operation names. `compound`: it is more than one command.
    pub fn of<'a>(session: &Session, keys: impl Iterator<Item = &'a Bytes>, compound: bool) -> Before {
        let mut keys = keys;
        let one = keys.next().filter(|_| !compound && keys.next().is_none());
        Before { version: session.last_version(), one: one.map(|name| Before::shape(session, name)) }
    }

    fn shape(session: &Session, name: &Bytes) -> (usize, Option<Kind>) {
        let key = session.held(name);
        (key.map_or(0, Key::len), key.map(|k| k.kind))
    }

    /// Whether variables of the operation's keys may be gone after it.
    fn may_have_lost<'a>(&self, session: &Session, mut keys: impl Iterator<Item = &'a Bytes>) -> bool {
        let now = keys.next().map(|name| Before::shape(session, name));
        !self.one.zip(now).is_some_and(|(before, now)| now.0 >= before.0 && now.1 == before.1)
    }
}

impl RestCopy {
    /// The books of a session that has just been loaded, or taken over.
    pub fn new(keys: Vec<KeyCopy>) -> RestCopy {
        RestCopy { keys, ..RestCopy::default() }
    }

    /// Takes note of keys that were loaded.
    pub fn add(&mut self, copy: KeyCopy) {
        self.put(copy);
    }

    /// The books, by key.
    pub fn keys(&self) -> &[KeyCopy] {
        &self.keys
    }

    /// Whether it is known what the upstream has under this name.
    pub fn knows(&self, name: &[u8]) -> bool {
        self.keys.iter().any(|k| k.name.as_ref() == name)
    }

    /// Whether the upstream certainly has a key of this name, whatever its value.
    pub fn has(&self, name: &[u8]) -> bool {
        self.keys.iter().any(|k| k.name.as_ref() == name && k.kind.is_some() && !k.whole)
    }

    fn put(&mut self, copy: KeyCopy) {
        let absent = |k: &KeyCopy| k.kind.is_none() && !k.whole;
        match self.keys.iter_mut().find(|k| k.name == copy.name) {
            Some(before) => *before = copy,
            None => self.keys.push(copy),
        }
        if self.keys.iter().filter(|k| absent(k)).count() > KNOWN_ABSENT_MAX
            && let Some(at) = self.keys.iter().position(absent)
        {
            self.keys.remove(at);
        }
    }

    /// An operation on these keys has changed something. The most urgent impact of what it changed, if the upstream lacks it now.
    pub fn changed<'a>(
        &mut self,
        session: &Session,
        before: Before,
        keys: impl Iterator<Item = &'a Bytes> + Clone,
        policy: &Policy,
        now_us: u64,
    ) -> Option<Impact> {
        let lost = before.may_have_lost(session, keys.clone());
        let mut most: Option<Impact> = None;
        for name in keys {
            let key = session.held(name);
            // What is in flight is as good as there.
            let flying = self.flight.iter().flat_map(|f| &f.after);
            let copies: Vec<&KeyCopy> = self.keys.iter().chain(flying).filter(|k| k.name == *name).collect();
            for impact in impacts(key, &copies, before, lost, policy) {
                self.since.note(impact, now_us);
                most = Some(most.map_or(impact, |m| m.min(impact)));
            }
        }
        most
    }

    /// Something is unwritten since an instant that somebody else knows: taken over in a handover.
    pub fn owe(&mut self, since: Since) {
        self.since.merge(since);
    }

    /// Bytes of commands whose effect is unwritten, about.
    pub fn unwritten_bytes(&self) -> u64 {
        self.unwritten_bytes + self.flight.as_ref().map_or(0, |f| f.bytes)
    }

    /// Counts the bytes of a command whose effect is unwritten.
    pub fn weigh(&mut self, bytes: u64) {
        self.unwritten_bytes = self.unwritten_bytes.saturating_add(bytes);
    }

    /// Whether the engine must be told of a change of this impact: it was told of nothing as urgent.
    pub fn tell(&mut self, impact: Impact) -> bool {
        let tell = self.told.is_none_or(|told| impact < told);
        if tell {
            self.told = Some(impact);
        }
        tell
    }

    /// Since when something is unwritten, by impact; what is in flight is not written yet.
    pub fn since(&self) -> Since {
        let mut since = self.since;
        since.merge(self.flight.as_ref().map(|f| f.since).unwrap_or_default());
        since
    }

    /// Whether a batch is under way.
    pub fn is_in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// When the next batch is due; `None`: nothing is unwritten but what is in flight.
    pub fn due_us(&self, settings: &RestSettings) -> Option<u64> {
        self.since.due_us(settings)
    }

    /// Whether this key of a session is in the upstream as it is here.
    pub fn is_written(&self, key: &Key) -> bool {
        let flying = self.flight.iter().flat_map(|f| &f.after).any(|k| k.name == key.name);
        !flying && self.keys.iter().find(|k| k.name == key.name).is_some_and(|copy| copy.change_to(key).is_none())
    }

    /// The names of keys that the upstream has, or may have, and the session has no more.
    pub fn gone<'a>(&'a self, session: &'a Session) -> impl Iterator<Item = &'a Bytes> {
        let is_here = |name: &Bytes| session.held(name).is_some();
        let flying = self.flight.iter().flat_map(|f| &f.after);
        let known = self.keys.iter().filter(|k| k.kind.is_some() || k.whole).chain(flying).map(|k| &k.name);
        known.filter(move |name| !is_here(name))
    }

    /// Makes the next batch of all that differs. With `all` every key that may be there is removed: the session ends.
    pub fn take(&mut self, session: &Session, epoch: Epoch, request: RequestId, unix_ms: u64, all: bool) -> Taken {
        if self.flight.is_some() {
            return Taken::InFlight;
        }
        // Each store stands beside what the books will say of its key: an answer must never be booked to another one.
        let (mut stores, mut removals, mut fetch) = (Vec::new(), Vec::new(), Vec::new());
        let version = session.last_version();
        let absent: Vec<KeyCopy> =
            session.keys().iter().filter(|k| !self.knows(&k.name)).map(|k| unknown(&k.name.to_bytes())).collect();
        for copy in self.keys.iter().chain(&absent) {
            let key = session.key(&copy.name, unix_ms).filter(|_| !all);
            let Some(key) = key else {
                // What has expired there by itself needs no removal.
                let there = copy.whole || (copy.kind.is_some() && copy.expires_at_ms.is_none_or(|at| at > unix_ms));
                if there {
                    let store = KeyStore { key: copy.name.clone(), change: KeyChange::Gone, expires_at_ms: None };
                    removals.push((store, KeyCopy::absent(copy.name.clone())));
                }
                continue;
            };
            let Some(difference) = copy.change_to(key) else { continue };
            let change = match difference {
                Difference::Expiry => KeyChange::Expiry,
                Difference::Parts => {
                    let gone = copy.names.iter().filter(|n| key.variable(n).is_none()).cloned().collect();
                    content::difference(key, |name| key.variable(name).is_some_and(|v| v.version > copy.written), gone)
                }
                Difference::Whole => {
                    let missing = elsewhere(key);
                    if !missing.is_empty() {
                        fetch.extend(missing);
                        continue;
                    }
                    let Some(content) = KeyContent::of(key) else { continue };
                    let keep: Vec<Bytes> =
                        key.variables().filter(|(_, v)| v.content == Content::Lost).map(|(name, _)| name.clone()).collect();
                    match content {
                        KeyContent::Hash(set) if !keep.is_empty() => KeyChange::Merge { set, keep },
                        content => KeyChange::Whole(content),
                    }
                }
            };
            let store = KeyStore { key: copy.name.clone(), change, expires_at_ms: key.expires_at_ms };
            stores.push((store, KeyCopy::of(key, version)));
        }
        if stores.is_empty() && removals.is_empty() {
            if !fetch.is_empty() {
                return Taken::Fetch(fetch);
            }
            (self.since, self.told, self.unwritten_bytes) = (ByImpact::default(), None, 0);
            return Taken::Clean;
        }
        let (keys, mut after): (Vec<KeyStore>, Vec<KeyCopy>) = stores.into_iter().chain(removals).unzip();
        if bugs::on(Bug::OutcomesOfOtherKeys) {
            after.sort_by_key(|copy| self.keys.iter().position(|k| k.name == copy.name));
        }
        self.sequence += 1;
        let since = if fetch.is_empty() { std::mem::take(&mut self.since) } else { self.since };
        let bytes = std::mem::take(&mut self.unwritten_bytes);
        self.told = None;
        self.flight = Some(Box::new(Flight { request, since, bytes, after }));
        let batch = Batch { epoch, sequence: self.sequence, keys };
        if fetch.is_empty() { Taken::Batch(batch) } else { Taken::Part(batch) }
    }

    /// Makes a batch of one change, which brings a key to what `after` says. Nothing may be in flight.
    pub fn take_one(&mut self, store: KeyStore, after: KeyCopy, epoch: Epoch, request: RequestId, now_us: u64) -> Batch {
        self.sequence += 1;
        let mut since = Since::default();
        // What comes to nothing is due again as any change is.
        since.note(Impact::High, now_us);
        self.flight = Some(Box::new(Flight { request, since, bytes: 0, after: vec![after] }));
        Batch { epoch, sequence: self.sequence, keys: vec![store] }
    }

    /// A batch has ended; `None`: nobody knows how. Answers of another one change nothing.
    pub fn landed(&mut self, request: RequestId, outcome: Option<&[Stored]>) -> Option<Landed> {
        let flight = self.flight.take_if(|f| f.request == request)?;
        let mut landed = Landed { written: true, ..Landed::default() };
        let Flight { since, bytes, after, .. } = *flight;
        for (at, copy) in after.into_iter().enumerate() {
            let stored = outcome.and_then(|all| all.get(at)).copied();
            landed.foreign += usize::from(matches!(stored, Some(Stored::WrittenOver | Stored::Foreign)));
            landed.refused |= stored == Some(Stored::Refused);
            landed.failed |= stored == Some(Stored::Failed);
            landed.unknown |= stored.is_none();
            if matches!(stored, Some(Stored::Written | Stored::WrittenOver)) {
                self.put(copy);
                continue;
            }
            landed.written = false;
            match self.keys.iter_mut().find(|k| k.name == copy.name) {
                Some(before) => before.whole = true,
                None => self.put(KeyCopy { whole: true, ..KeyCopy::absent(copy.name) }),
            }
        }
        if landed.written {
            self.failures = 0;
        } else {
            self.since.merge(since);
            self.unwritten_bytes = self.unwritten_bytes.saturating_add(bytes);
        }
        Some(landed)
    }

    /// The upstream has answered with an error to a key of this session: until when nothing of it is sent. The pauses double, and
    /// those of other sessions are not touched.
    pub fn put_off(&mut self, settings: &RestSettings, now_us: u64) {
        self.retry_at_us = now_us.saturating_add(settings.pause_after_us(self.failures));
        self.failures = self.failures.saturating_add(1);
    }

    /// When the next batch may go.
    pub fn retry_at_us(&self) -> u64 {
        self.retry_at_us
    }
}

/// A key that was never looked for there. It is written whole, whatever is there.
fn unknown(name: &Bytes) -> KeyCopy {
    KeyCopy { whole: true, ..KeyCopy::absent(name.clone()) }
}

fn elsewhere(key: &Key) -> Vec<VariableId> {
    let missing = key.variables().filter(|(_, v)| matches!(v.content, Content::Elsewhere(_)));
    missing.map(|(name, _)| VariableId { key: key.name.to_bytes(), name: name.clone() }).collect()
}

/// The impacts of what an operation changed in one key; `lost`: names may be gone. An expiry alone is `low`: the upstream has the
/// older, which is near.
fn impacts(key: Option<&Key>, copies: &[&KeyCopy], before: Before, lost: bool, policy: &Policy) -> Vec<Impact> {
    let names = || copies.iter().flat_map(|c| c.names.iter().map(move |name| (*c, name)));
    let impact = |(copy, name): (&KeyCopy, &Bytes)| copy.impact(name, policy);
    let mut found = Vec::new();
    let Some(key) = key else {
        found.extend(names().map(impact));
        if found.is_empty() && copies.iter().any(|c| c.whole) {
            found.push(policy.default.impact);
        }
        return found;
    };
    let newer = key.variables().filter(|(_, v)| v.version > before.version);
    found.extend(newer.map(|(name, _)| policy.of_variable(key, name).impact));
    if lost || key.kind == Kind::String {
        // A name of a key of another type is another variable.
        let gone = |copy: &KeyCopy, name: &Bytes| copy.kind != Some(key.kind) || key.variable(name).is_none();
        found.extend(names().filter(|(copy, name)| gone(copy, name)).map(impact));
    }
    if copies.last().is_none_or(|c| c.expires_at_ms != key.expires_at_ms) {
        found.push(Impact::Low);
    }
    found
}

#[cfg(test)]
mod tests;

//! The upstream in memory, and what must be there: the guarded store of sessions at rest, exactly as `wayfarer_engine::rest`
//! documents it.
//!
//! It never answers for a node. Requests have fates as those to the directory have: lost, late, unanswered. While a session is
//! nobody's, what is here *is* the session: the account of the truth follows it.
//!
//! Longer than 400 lines because what is at rest and what must be there are judged together.
//!
//! | invariant | here |
//! |---|---|
//! | one owner | a store under an older epoch, or an older sequence, is refused |
//! | planned moves lose nothing | what the books of the owner say is written is here; a record goes only when the upstream has exactly the truth; an end leaves nothing |
//! | a crash loses at most what policy allows | no acknowledged write of impact `critical` goes; nothing acknowledged as deleted comes back |

use crate::host::{Process, Stimulus};
use crate::network::fate;
use crate::operation::{FIELDS, KEYS, Kind, WriteId, fields_of, id_of, key_of, value_of};
use crate::profile::DIRECTORY_PATIENCE_US;
use crate::world::{Event, World};
use bytes::Bytes;
use std::collections::BTreeMap;
use wayfarer_engine::bugs::{self, Bug};
use wayfarer_engine::command::Target;
use wayfarer_engine::ids::{Epoch, Incarnation, RequestId, SessionId};
use wayfarer_engine::node::Input;
use wayfarer_engine::residence::{Gate, Resident, Table};
use wayfarer_engine::rest::change::{Batch, KeyChange, KeyStore, Loaded, LoadedKey, Stored, Swap};
use wayfarer_engine::rest::content::KeyContent;
use wayfarer_engine::session::{Content, Layout, Variable};

/// The field whose impact is `critical` where sessions are at rest.
pub const CRITICAL: usize = 3;

const LOSE_NOTHING: &str = "planned moves lose nothing";
const CRASH: &str = "a crash loses at most what policy allows";

type Fields = BTreeMap<Bytes, Bytes>;

/// One key, and its guard.
#[derive(Clone, Debug, Default)]
pub struct Key {
    fields: Fields,
    guard: (Epoch, u64),
    /// What was left there last by whoever has the guard.
    left: Option<Fields>,
}

/// One change that its owner has executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Executed {
    /// Of a field.
    Write(WriteId),
    /// Of everything.
    Delete,
    /// Of a key; whether the critical field was in it.
    Drop(bool),
}

/// What happened to one session, as far as it must outlive a crash.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    /// All writes and deletions in the order of execution.
    executed: Vec<Executed>,
    /// How many of them were executed when the last deletion ran whose end was acknowledged.
    dead: usize,
    /// How many had been executed when each deletion of a session or a key ran, by the number of its operation.
    deletions: BTreeMap<u64, usize>,
    /// Where the last acknowledged critical write or removal stands.
    critical: Option<usize>,
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    keys: BTreeMap<(SessionId, Bytes), Key>,
    promises: BTreeMap<usize, Promises>,
    /// Sessions that are at rest, or not loaded yet by who has claimed them: what is here is what they are.
    awake: BTreeMap<usize, Epoch>,
    /// Fields that processes which have ended had declared lost, of sessions that they were sending to rest: the last word of such a
    /// process may still be on its way to the directory.
    lost_by_dead: BTreeMap<(usize, Epoch), Vec<usize>>,
}

/// What a node asks.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Whether anything is there.
    Look,
    /// Keys, or all of the session, guarded for this epoch.
    Load(Epoch, Option<Vec<Target>>, bool),
    /// A batch.
    Store(Batch),
    /// Two batches of one key each, of two sessions, or neither.
    StoreBoth(Box<Swap>),
}

impl Promises {
    fn position(&self, id: WriteId) -> Option<usize> {
        self.executed.iter().rposition(|e| *e == Executed::Write(id))
    }

    /// Whether the critical field was removed then or later.
    fn deleted_after(&self, at: usize) -> bool {
        self.executed.iter().skip(at).any(|e| matches!(e, Executed::Delete | Executed::Drop(true)))
    }
}

impl Upstream {
    /// The fields of all keys of a session: no two keys have one of the same name.
    fn fields(&self, id: &SessionId) -> Fields {
        let of = |key: &&'static [u8]| self.keys.get(&(id.clone(), Bytes::from_static(key)));
        KEYS.iter().filter_map(of).flat_map(|key| key.fields.clone()).collect()
    }

    /// What a client's operation does there, and the write whose value it sees.
    pub(crate) fn direct(&mut self, id: &SessionId, kind: Kind, keys: usize) -> Option<WriteId> {
        let place = |field| (id.clone(), Bytes::from_static(key_of(field, keys)));
        let name = |field: usize| Bytes::from_static(FIELDS[field].0.as_bytes());
        if let Kind::Rename { .. } = kind {
            // The rest of it is `direct_rename`.
            let there = self.keys.get(&(id.clone(), kind.keys(keys)[0].clone())).is_some_and(|key| !key.fields.is_empty());
            return there.then_some(1);
        }
        let mut saw = None;
        if let Kind::Read(field) | Kind::Update(field, _) = kind {
            let value = self.keys.get(&place(field)).and_then(|key| key.fields.get(&name(field)));
            saw = value.map(|value| id_of(value, field).unwrap_or(WriteId::MAX));
        }
        match kind {
            Kind::Read(_) | Kind::Rename { .. } => {}
            Kind::Write(field, write) | Kind::Update(field, write) => {
                self.keys.entry(place(field)).or_default().fields.insert(name(field), value_of(write, field));
            }
            Kind::Delete | Kind::Drop(..) => kind.keys(keys).into_iter().for_each(|key| {
                self.keys.entry((id.clone(), key)).or_default().fields.clear();
            }),
        }
        saw
    }

    fn load(&mut self, id: &SessionId, epoch: Epoch, targets: Vec<Target>, becomes_ours: bool) -> Loaded {
        let mut all = Vec::new();
        for target in targets {
            let key = self.keys.entry((id.clone(), target.key.clone())).or_default();
            if key.guard.0 > epoch {
                return Loaded::Refused;
            }
            if key.guard.0 < epoch {
                key.guard = (epoch, 0);
            }
            key.left = key.left.take().filter(|_| !becomes_ours).or_else(|| Some(key.fields.clone()));
            let pairs: Vec<(Bytes, Bytes)> = key.fields.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            let content = (!pairs.is_empty()).then_some(KeyContent::Hash(pairs));
            all.push(LoadedKey { target, content, expires_at_ms: None });
        }
        Loaded::Keys(all)
    }

    fn store(&mut self, id: &SessionId, batch: &Batch) -> Vec<Stored> {
        let mark = (batch.epoch, batch.sequence);
        batch.keys.iter().map(|store| self.keys.entry((id.clone(), store.key.clone())).or_default().store(mark, store)).collect()
    }
}

impl Key {
    fn store(&mut self, mark: (Epoch, u64), store: &KeyStore) -> Stored {
        if mark <= self.guard && !bugs::on(Bug::GuardIgnored) {
            return Stored::Refused;
        }
        let foreign = self.left.as_ref().is_some_and(|left| *left != self.fields);
        let stored = if foreign { Stored::WrittenOver } else { Stored::Written };
        match &store.change {
            KeyChange::Fields { .. } | KeyChange::Expiry if foreign => {
                self.left = Some(self.fields.clone());
                return Stored::Foreign;
            }
            KeyChange::Fields { .. } | KeyChange::Expiry if self.fields.is_empty() => return Stored::Vanished,
            KeyChange::Fields { set, gone } => {
                self.fields.extend(set.iter().cloned());
                gone.iter().for_each(|name| {
                    self.fields.remove(name);
                });
            }
            KeyChange::Expiry => {}
            KeyChange::Merge { set, keep } => {
                self.fields.retain(|name, _| keep.contains(name));
                self.fields.extend(set.iter().cloned());
            }
            KeyChange::Whole(KeyContent::Hash(pairs)) => self.fields = pairs.iter().cloned().collect(),
            KeyChange::Whole(_) | KeyChange::Gone => self.fields.clear(),
        }
        self.guard = mark;
        self.left = Some(self.fields.clone());
        stored
    }
}

/// A key of a session, as its owner names it.
pub fn target(key: Bytes) -> Target {
    Target { key, layout: Layout::Hash, label: Bytes::new() }
}

impl World {
    /// A node asks the upstream.
    pub(crate) fn ask_upstream(&mut self, me: Incarnation, request: RequestId, session: SessionId, ask: Ask) {
        let fate = fate(&self.profile, &mut self.random);
        if fate.answered_us.is_none() {
            let unknown = match &ask {
                Ask::Look => Input::Looked { request, found: None },
                Ask::Load(..) => Input::Loaded { request, loaded: Loaded::Unknown },
                Ask::Store(_) => Input::Stored { request, stored: None },
                Ask::StoreBoth(_) => Input::StoredBoth { request, stored: None },
            };
            self.after(DIRECTORY_PATIENCE_US, Event::Reach(me, Stimulus::Input(unknown)));
        }
        if let Some(at) = fate.applied_us {
            let answer_us = fate.answered_us.map(|answered| answered - at);
            self.after(at, Event::Upstream { from: me, request, session, ask, answer_us });
        }
    }

    /// What a node asked reaches the upstream.
    pub(crate) fn upstream(
        &mut self,
        from: Incarnation,
        request: RequestId,
        session: &SessionId,
        ask: &Ask,
        answer_us: Option<u64>,
    ) {
        let Some(at) = self.sessions.iter().position(|id| id == session) else { return };
        if matches!(ask, Ask::Store(_) | Ask::StoreBoth(_)) && self.is_cut_off(from) {
            return;
        }
        let before = self.upstream.fields(session);
        let answer = match ask {
            Ask::Look => Input::Looked { request, found: Some(!before.is_empty()) },
            Ask::Load(epoch, targets, becomes_ours) => {
                let all = || KEYS[..self.profile.keys].iter().map(|key| target(Bytes::from_static(key))).collect();
                let loaded = self.upstream.load(session, *epoch, targets.clone().unwrap_or_else(all), *becomes_ours);
                let current = self.directory.read(session).location.is_some_and(|l| l.epoch == *epoch);
                match (&loaded, targets) {
                    (Loaded::Refused, _) => self.coverage.stale_stores += 1,
                    (_, Some(_)) => self.coverage.reaches += 1,
                    (_, None) => {
                        self.coverage.loads += 1;
                        if current {
                            self.upstream.awake.insert(at, *epoch);
                        }
                    }
                }
                Input::Loaded { request, loaded }
            }
            Ask::Store(batch) => {
                self.let_keys_vanish(at, batch);
                let stored = self.upstream.store(session, batch);
                self.coverage.stores += 1;
                self.coverage.stale_stores += stored.iter().filter(|s| **s == Stored::Refused).count() as u64;
                Input::Stored { request, stored: Some(stored) }
            }
            Ask::StoreBoth(swap) => Input::StoredBoth { request, stored: Some(self.store_both(swap)) },
        };
        let (who, how) = (from.0.0, if answer_us.is_none() { ", unanswered" } else { "" });
        self.trace.line(self.now_us, format_args!("upstream: {ask:?} of {who}, request {}{how}", request.0));
        let follows = !matches!(ask, Ask::StoreBoth(_));
        if follows && self.upstream.fields(session) != before && self.is_resting(at) {
            self.follow_upstream(at);
        }
        if let Some(answer_us) = answer_us {
            self.after(answer_us, Event::Reach(from, Stimulus::Input(answer)));
        }
    }

    /// A key goes from one session to another, whole or not at all.
    fn store_both(&mut self, swap: &Swap) -> [Stored; 2] {
        let (Some(from), Some(to)) = (self.place_of(&swap.from), self.place_of(&swap.to)) else { return [Stored::Failed; 2] };
        let ([removal], [arrival]) = (swap.removal.keys.as_slice(), swap.arrival.keys.as_slice()) else {
            return [Stored::Failed; 2];
        };
        let halves = [(&swap.from, &swap.removal, removal), (&swap.to, &swap.arrival, arrival)];
        let mut place = |(session, batch, store): (&SessionId, &Batch, &KeyStore)| {
            let key = self.upstream.keys.entry((session.clone(), store.key.clone())).or_default();
            ((batch.epoch, batch.sequence) <= key.guard, key.clone())
        };
        if halves.map(&mut place).iter().any(|(late, _)| *late) && !bugs::on(Bug::GuardIgnored) {
            self.coverage.stale_stores += 1;
            return [Stored::Refused; 2];
        }
        let stored = halves.map(|(session, batch, store)| {
            let key = self.upstream.keys.entry((session.clone(), store.key.clone())).or_default();
            key.store((batch.epoch, batch.sequence), store)
        });
        let written = match &arrival.change {
            KeyChange::Whole(KeyContent::Hash(pairs)) => World::ids_of(pairs),
            _ => BTreeMap::new(),
        };
        self.promise_renamed(from, to, &arrival.key, &written);
        if self.is_resting(from) || self.is_resting(to) {
            // Whoever sent it owns neither any more, and nobody has loaded them since.
            for session in [from, to] {
                if self.is_resting(session) {
                    self.follow_upstream(session);
                }
            }
        } else {
            self.rename_truth(from, to, &arrival.key, Some(&written));
        }
        stored
    }

    /// A client's rename reaches the upstream while nobody owns its sessions.
    pub(crate) fn direct_rename(&mut self, from: usize, to: usize, place: usize, there: bool) {
        if !there {
            return;
        }
        let name = Bytes::from_static(KEYS[place]);
        let place_of = |session: usize| (self.sessions[session].clone(), name.clone());
        let (source, target) = (place_of(from), place_of(to));
        let fields = std::mem::take(&mut self.upstream.keys.entry(source).or_default().fields);
        let pairs: Vec<(Bytes, Bytes)> = fields.clone().into_iter().collect();
        self.upstream.keys.entry(target).or_default().fields = fields;
        self.promise_renamed(from, to, &name, &World::ids_of(&pairs));
        self.rename_truth(from, to, &name, None);
    }

    /// The upstream has a rename: that lasts, whatever its client is told.
    fn promise_renamed(&mut self, from: usize, to: usize, name: &Bytes, ids: &BTreeMap<usize, WriteId>) {
        let critical = name.as_ref() == key_of(CRITICAL, self.profile.keys);
        for (session, ids) in [(from, None), (to, Some(ids))] {
            let promises = self.upstream.promises.entry(session).or_default();
            promises.executed.push(Executed::Drop(critical));
            let mut last = promises.executed.len() - 1;
            for (field, id) in ids.into_iter().flatten() {
                promises.executed.push(Executed::Write(*id));
                if *field == CRITICAL {
                    last = promises.executed.len() - 1;
                }
            }
            if critical {
                promises.critical = promises.critical.max(Some(last));
            }
        }
    }

    /// Keys whose later expiry has not arrived may be gone when a difference to them does: what they held comes with the next
    /// batch, or never, if its owner is gone by then.
    fn let_keys_vanish(&mut self, session: usize, batch: &Batch) {
        let id = self.sessions[session].clone();
        for store in &batch.keys {
            let Some(key) = self.upstream.keys.get_mut(&(id.clone(), store.key.clone())) else { continue };
            let current = (batch.epoch, batch.sequence) > key.guard && key.left.as_ref() == Some(&key.fields);
            let difference = matches!(store.change, KeyChange::Fields { .. } | KeyChange::Expiry);
            if !current || !difference || key.fields.is_empty() || !self.random.chance(self.profile.vanishing) {
                continue;
            }
            key.fields.clear();
            key.left = Some(Fields::default());
            self.coverage.vanished += 1;
            if store.key == key_of(CRITICAL, self.profile.keys) {
                self.upstream.promises.entry(session).or_default().critical = None;
            }
        }
    }

    /// Whether nobody has loaded the session under its present record.
    fn is_resting(&self, session: usize) -> bool {
        self.directory.read(&self.sessions[session]).owner().is_none() || !self.upstream.awake.contains_key(&session)
    }

    /// The session is nobody's: what is at rest is what it is. What may not be lost is looked for.
    pub(crate) fn follow_upstream(&mut self, session: usize) {
        self.upstream.awake.remove(&session);
        let there = self.at_rest(session);
        let Some(promises) = self.upstream.promises.get(&session).cloned() else { return };
        for (field, id) in &there {
            if promises.position(*id).is_none_or(|at| at < promises.dead) {
                self.violate(CRASH, format!("w{id} of session {session} is at rest, which was deleted or never written"));
            }
            if *field == CRITICAL && promises.critical.is_some_and(|least| promises.position(*id).is_none_or(|at| at < least)) {
                self.violate(CRASH, format!("w{id} is at rest in session {session}, and a later critical write is lost"));
            }
        }
        let lost = promises.critical.filter(|at| !promises.deleted_after(*at));
        if let Some(at) = lost.filter(|_| there.iter().all(|(field, _)| *field != CRITICAL)) {
            self.violate(CRASH, format!("the critical write {at} of session {session} is lost"));
        }
        self.coverage.rolled_back += u64::from(self.truth[session].replace(&there, self.now_us));
        self.history.replaced(session, &there, self.now_us);
    }

    /// The writes whose values are at rest.
    fn at_rest(&self, session: usize) -> BTreeMap<usize, WriteId> {
        let fields = self.upstream.fields(&self.sessions[session]);
        let found = FIELDS
            .iter()
            .enumerate()
            .filter_map(|(field, (name, _))| Some((field, id_of(fields.get(name.as_bytes())?, field).unwrap_or(WriteId::MAX))));
        found.collect()
    }

    /// A record goes: all of the session is at rest then, or it has ended.
    pub(crate) fn judge_forget(&mut self, session: usize, epoch: Option<Epoch>) {
        let there = self.at_rest(session);
        let truth: BTreeMap<usize, WriteId> = self.truth[session].values.iter().map(|(field, (id, _))| (*field, *id)).collect();
        // What a crash had taken before is lost for good now; what the upstream still had of it comes back.
        let lost = self.lost_fields(session, epoch);
        let same = (0..FIELDS.len()).filter(|field| !lost.contains(field)).all(|field| there.get(&field) == truth.get(&field));
        if same && !lost.is_empty() {
            self.truth[session].replace(&there, self.now_us);
            self.history.replaced(session, &there, self.now_us);
        }
        if !same {
            let what = format!("the record of session {session} goes, which is {truth:?}, and {there:?} is at rest");
            self.violate(LOSE_NOTHING, what);
        }
        self.coverage.check_ins += u64::from(!truth.is_empty());
        self.upstream.awake.remove(&session);
    }

    /// The fields that whoever sends the session to rest has declared lost; `epoch`: of the record that goes.
    fn lost_fields(&self, session: usize, epoch: Option<Epoch>) -> Vec<usize> {
        let processes = self.hosts.iter().filter_map(|host| host.process.as_ref());
        let living = processes.filter_map(|process| self.lost_in(process, session)).next();
        let by_dead = || self.upstream.lost_by_dead.get(&(session, epoch?)).cloned();
        living.map(|(_, fields)| fields).or_else(by_dead).unwrap_or_default()
    }

    /// What a process that sends a session to rest has declared lost of it.
    fn lost_in(&self, process: &Process, session: usize) -> Option<(Epoch, Vec<usize>)> {
        let resident = process.table.with(&self.sessions[session], |slot| slot.clone().filter(|r| r.gate == Gate::Resting))?;
        let is_lost = |name: &str| {
            let mut keys = resident.session.keys().iter();
            let variable = keys.find_map(|k| k.variable(name.as_bytes()));
            variable.is_some_and(|v| v.content == Content::Lost)
        };
        Some((resident.location.epoch, (0..FIELDS.len()).filter(|field| is_lost(FIELDS[*field].0)).collect()))
    }

    /// A process has ended: what it knew of losses is kept, for what it had sent may still arrive.
    pub(crate) fn remember_lost(&mut self, process: &Process) {
        for session in 0..self.sessions.len() {
            if let Some((epoch, fields)) = self.lost_in(process, session) {
                self.upstream.lost_by_dead.insert((session, epoch), fields);
            }
        }
    }

    /// What the owner's books say of keys that are written is so: else a check-in would leave them behind.
    pub(crate) fn check_books(&mut self, session: usize, owner: Incarnation, resident: &Resident) {
        let Some(rest) = &resident.rest else { return };
        for key in resident.session.keys().iter().filter(|key| rest.is_written(key)) {
            let there = self.upstream.keys.get(&(self.sessions[session].clone(), key.name.to_bytes()));
            let there = there.map(|k| k.fields.clone()).unwrap_or_default();
            let agrees = |(name, variable): (&Bytes, &Variable)| match &variable.content {
                Content::Here(value) => there.get(name) == Some(value),
                Content::Elsewhere(_) => there.contains_key(name),
                Content::Lost => true,
            };
            if !key.variables().all(agrees) {
                let name = String::from_utf8_lossy(&key.name).into_owned();
                return self.violate(
                    LOSE_NOTHING,
                    format!("{} takes key {name} of session {session} for written, and it is not", owner.0.0),
                );
            }
        }
    }

    /// An operation ran at the owner.
    pub(crate) fn promise_run(&mut self, session: usize, kind: Kind, number: u64) {
        let promises = self.upstream.promises.entry(session).or_default();
        match kind {
            Kind::Read(_) | Kind::Rename { .. } => {}
            Kind::Write(_, id) | Kind::Update(_, id) => promises.executed.push(Executed::Write(id)),
            Kind::Delete => {
                promises.deletions.insert(number, promises.executed.len());
                promises.executed.push(Executed::Delete);
            }
            Kind::Drop(place, keys) => {
                promises.deletions.insert(number, promises.executed.len());
                promises.executed.push(Executed::Drop(fields_of(place, keys).any(|field| field == CRITICAL)));
            }
        }
    }

    /// A client was told that its operation is done.
    pub(crate) fn promise_acknowledged(&mut self, session: usize, kind: Kind, number: u64) {
        let promises = self.upstream.promises.entry(session).or_default();
        match kind {
            Kind::Write(CRITICAL, id) | Kind::Update(CRITICAL, id) => {
                promises.critical = promises.critical.max(promises.position(id));
            }
            Kind::Drop(place, keys) if fields_of(place, keys).any(|field| field == CRITICAL) => {
                promises.critical = promises.critical.max(promises.deletions.get(&number).copied());
            }
            Kind::Delete => promises.dead = promises.dead.max(promises.deletions.get(&number).copied().unwrap_or(0)),
            _ => {}
        }
    }
}

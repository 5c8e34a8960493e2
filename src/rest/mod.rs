//! Sessions at rest, performed: looks, loads and stores in the upstream, by Lua scripts.
//!
//! It decides nothing: [`wayfarer_engine::node`] says what to load and to store and under which epoch; the driver runs this for it
//! and reports what came. It never retries a store: whether one that brought no answer has happened, nobody knows.
//!
//! | what | how |
//! |---|---|
//! | look | one `EXISTS` a database, of all keys that follow from the session's id |
//! | peek | `peek.lua`, once a key: its contents, for estimates; nothing is guarded |
//! | load | `load.lua`, once a key: guards it for the epoch, gives its contents |
//! | store | `store.lua`, once a key: refused if the guard is of a later owner or batch; else compared, written, noted |
//! | store both | `both.lua`: a key of one session goes and one of another comes, or neither |
//!
//! Scripts on different keys go out together and share a connection. The guard of a key (`guard`) is a hash: directory `d`, epoch
//! `e`, sequence `s`, fingerprint `f` and expiry `x` of the key as it was left. It stays [`GUARD_KEPT_MS`] longer than its key.
//!
//! A key of another database than 0 has that number before its name within its session; here the two are parted: key and guard are
//! in that database of the upstream. Which databases the service uses is known by its operations ([`databases`]).
//!
//! Bounds: [`CONNECTIONS`] connections; the engine bounds batches under way; [`PARTS_MAX`] and `value_bytes_max` what is loaded.
//! Longer than 400 lines because all that the upstream is asked stands together.
//! Invariant: *one owner*: nothing is written without its guard in the same step.

mod answers;
mod connection;
mod databases;
mod guard;
mod trouble;

use crate::upstream::{Dialer, slot_of};
use answers::{read_both, read_count, read_loaded, read_stored};
use bytes::Bytes;
use connection::{Connections, Script};
use databases::Databases;
use guard::guard_of;
use redis::{ErrorKind, RedisError, Value};
use std::sync::Arc;
use std::time::Duration;
use trouble::Troubles;
use wayfarer_engine::command::compound::{database_of, in_database};
use wayfarer_engine::command::{Op, Target};
use wayfarer_engine::ids::{Epoch, SessionId};
use wayfarer_engine::rest::change::{Batch, KeyChange, KeyStore, Loaded, LoadedKey, Stored, Swap};
use wayfarer_engine::rest::content::KeyContent;
use wayfarer_engine::session::Session;
use wayfarer_settings::{KeyMatcher, Numbering};

pub use connection::FINGERPRINT;
pub use guard::PREFIX;
pub use trouble::Trouble;

/// Connections to the upstream, all sessions together: one carries many batches at once.
const CONNECTIONS: usize = 2;
/// How long a guard outlives its key. Whoever was stopped for longer than that has no connection any more.
const GUARD_KEPT_MS: u64 = 3_600_000;
/// Keys of the upstream that are counted for a DBSIZE.
const COUNTED_MAX: usize = 2_000_000;
/// So many at once.
const COUNTED_AT_ONCE: usize = 1000;
/// A hash with more fields is not loaded.
const PARTS_MAX: usize = 1_000_000;

/// See the head of this file.
pub struct AtRest {
    connections: Connections,
    troubles: Troubles,
    keys: KeyMatcher,
    databases: Databases,
    numbering: Numbering,
    /// It is a Redis Cluster: what concerns many keys goes there as commands, for a script has the keys of one slot.
    is_cluster: bool,
    /// When the directory was made: epochs of different directories cannot be compared, but the later directory is right.
    directory_made_ms: u64,
    value_bytes_max: usize,
}

impl AtRest {
    /// Not connected yet. An answer of the upstream is waited for at most `patience`.
    pub fn new(
        dialer: Arc<Dialer>,
        keys: KeyMatcher,
        directory_made_ms: u64,
        value_bytes_max: usize,
        patience: Duration,
    ) -> AtRest {
        let (numbering, is_cluster) = (dialer.upstream().numbering(), dialer.upstream().is_cluster());
        let troubles = Troubles::new(dialer.upstream().tls.is_none());
        let connections = Connections::new(dialer, CONNECTIONS, patience);
        let databases = Databases::default();
        for database in keys.patterns().iter().filter_map(|pattern| u8::try_from(pattern.database()?).ok()) {
            databases.note(database);
        }
        AtRest { connections, troubles, keys, databases, numbering, is_cluster, directory_made_ms, value_bytes_max }
    }

    /// The keys of a session in a database whose names follow from its id.
    fn keys_in(&self, database: u8, session: &SessionId) -> Vec<Target> {
        let keys = self.keys.keys_of(u32::from(database), &session.0).into_iter();
        let named = self.numbering.canonical(database);
        keys.map(|(key, layout, label)| Target { key: in_database(named, &key.into()), layout, label: label.into() }).collect()
    }

    /// The keys of a session whose names follow from its id, in all databases that are known.
    fn targets(&self, session: &SessionId) -> Vec<Target> {
        let mut targets: Vec<Target> = self.databases.iter().flat_map(|database| self.keys_in(database, session)).collect();
        targets.sort_by(|a, b| a.key.cmp(&b.key));
        targets.dedup_by(|a, b| a.key == b.key);
        targets
    }

    /// What is wrong with the upstream, as far as the last questions told; `None`: nothing.
    pub fn trouble(&self) -> Option<Trouble> {
        self.troubles.now()
    }

    /// Whether one step there may concern both of these keys.
    pub fn joins(&self, one: &[u8], other: &[u8]) -> bool {
        !self.is_cluster || slot_of(one) == slot_of(other)
    }

    /// Whether it lets this node do what sessions need, asked once at the start. What is wrong is said in the log: without an answer
    /// nobody knows, and an upstream that is mended is used without a restart.
    pub async fn try_out(&self) {
        let nobodys = Bytes::copy_from_slice(PREFIX);
        if let Err(error) = self.connections.run(0, 0, Script::Look, &[nobodys], &[]).await {
            self.troubles.report(Script::Look, &error);
            if matches!(Trouble::of(&error), Trouble::Forbidden | Trouble::NoScripts) {
                tracing::error!("no session can be used until [state] upstream allows EVAL and EVALSHA");
            }
        }
    }

    /// Whether something of a session is at rest; `None`: no answer. With patterns whose keys cannot be listed: perhaps, so yes.
    pub async fn look(&self, session: SessionId) -> Option<bool> {
        if self.keys.has_captured() {
            return Some(true);
        }
        let place = place_of(&session);
        let looks = self.databases.iter().map(|database| self.look_in(place, database, &session));
        let mut found = false;
        for looked in join_all(looks).await {
            match looked {
                Ok(here) => found |= here,
                Err(error) => {
                    self.troubles.report(Script::Look, &error);
                    return None;
                }
            }
        }
        self.troubles.is_answered(Script::Look);
        Some(found)
    }

    async fn look_in(&self, place: usize, database: u8, session: &SessionId) -> Result<bool, RedisError> {
        let keys: Vec<Bytes> = self.keys_in(database, session).iter().map(|target| database_of(&target.key).1).collect();
        if keys.is_empty() {
            return Ok(false);
        }
        Ok(self.count_of(place, self.numbering.canonical(database), &keys).await? > 0)
    }

    /// How many of these keys there are.
    async fn count_of(&self, place: usize, database: u8, keys: &[Bytes]) -> Result<i64, RedisError> {
        let answer = if self.is_cluster {
            let exists = [Bytes::from_static(b"EXISTS")].into_iter().chain(keys.iter().cloned()).collect::<Vec<_>>();
            self.connections.plain(place, &exists).await?
        } else {
            self.connections.run(place, database, Script::Look, keys, &[]).await?
        };
        if let Value::Int(count) = answer { Ok(count) } else { Err(not_understood()) }
    }

    /// A command without keys, in a database.
    async fn command(&self, database: u8, command: &'static str) -> Result<Value, RedisError> {
        let command = [Bytes::from_static(command.as_bytes())];
        if self.is_cluster {
            return self.connections.plain(0, &command).await;
        }
        self.connections.run(0, database, Script::Plain, &[], &command).await
    }

    /// Empties a database of the upstream, or all; false: it did not answer.
    pub async fn flush(&self, database: Option<u8>) -> bool {
        let command = if database.is_some() { "FLUSHDB" } else { "FLUSHALL" };
        let flushed = self.command(database.unwrap_or(0), command).await;
        flushed.map_err(|error| self.troubles.report(Script::Plain, &error)).is_ok()
    }

    /// How many keys a database of the upstream has, guards included; `None`: it did not answer.
    pub async fn size(&self, database: u8) -> Option<i64> {
        match self.command(database, "DBSIZE").await {
            Ok(Value::Int(size)) => Some(size),
            other => {
                other.err().iter().for_each(|error| self.troubles.report(Script::Plain, error));
                None
            }
        }
    }

    /// How many guards a database of the upstream has: it goes through all of its keys, a part at a time. `None`: it did not answer,
    /// or has more than [`COUNTED_MAX`] keys.
    pub async fn count_guards(&self, database: u8) -> Option<u64> {
        let (mut cursor, mut count) = (Bytes::from_static(b"0"), 0u64);
        for _ in 0..COUNTED_MAX / COUNTED_AT_ONCE {
            let pattern: Bytes = [PREFIX, b"*"].concat().into();
            let at_once = number(COUNTED_AT_ONCE as u64);
            let answer = if self.is_cluster {
                let word = |word: &'static str| Bytes::from_static(word.as_bytes());
                self.connections.plain(0, &[word("SCAN"), cursor, word("MATCH"), pattern, word("COUNT"), at_once]).await
            } else {
                self.connections.run(0, database, Script::Count, &[], &[cursor, pattern, at_once]).await
            };
            let part = answer.and_then(|answer| read_count(answer).ok_or_else(not_understood));
            match part {
                Ok((next, of_part)) => (cursor, count) = (next, count.saturating_add(of_part)),
                Err(error) => {
                    self.troubles.report(Script::Count, &error);
                    return None;
                }
            }
            if cursor.as_ref() == b"0" {
                return Some(count);
            }
        }
        None
    }

    /// How many of these keys a database of the upstream has; `None`: it did not answer.
    pub async fn count_there(&self, database: u8, keys: &[Bytes]) -> Option<i64> {
        let mut count = 0i64;
        for some in keys.chunks(COUNTED_AT_ONCE) {
            match self.count_of(0, database, some).await {
                Ok(there) => count = count.saturating_add(there),
                Err(error) => {
                    self.troubles.report(Script::Look, &error);
                    return None;
                }
            }
        }
        Some(count)
    }

    /// Whether an operation may go on: sessions can only rest in databases that the upstream has. To be called before anybody looks
    /// for its session. `Some(false)`: it has not that one; `None`: it did not answer.
    pub async fn admit(&self, op: &Op) -> Option<bool> {
        for target in op.targets() {
            let database = database_of(&target.key).0;
            if self.databases.has(database) {
                continue;
            }
            // EXISTS of a key that nobody has: what is asked is whether there is such a database.
            let nobodys = Bytes::copy_from_slice(PREFIX);
            match self.connections.run(0, database, Script::Look, &[nobodys], &[]).await {
                Ok(_) => self.databases.note(database),
                Err(error)
                    if matches!(Trouble::of(&error), Trouble::Forbidden | Trouble::Closed | Trouble::Other)
                        && matches!(error.code(), Some("ERR" | "NOPERM")) =>
                {
                    return Some(false);
                }
                Err(error) => {
                    self.troubles.report(Script::Look, &error);
                    return None;
                }
            }
        }
        Some(true)
    }

    /// Guards keys for an epoch and loads them.
    pub async fn load(&self, session: SessionId, epoch: Epoch, keys: Option<Vec<Target>>, becomes_ours: bool) -> Loaded {
        let place = place_of(&session);
        let targets = keys.unwrap_or_else(|| self.targets(&session));
        let loads = targets.into_iter().map(|target| self.load_key(place, epoch, target, becomes_ours));
        let mut found = Vec::new();
        for loaded in join_all(loads).await {
            match loaded {
                Ok(Ok(key)) => found.push(key),
                Ok(Err(unfit)) => return unfit,
                Err(error) => {
                    self.troubles.report(Script::Load, &error);
                    return Loaded::Unknown;
                }
            }
        }
        self.troubles.is_answered(Script::Load);
        Loaded::Keys(found)
    }

    async fn load_key(
        &self,
        place: usize,
        epoch: Epoch,
        target: Target,
        becomes_ours: bool,
    ) -> Result<Result<LoadedKey, Loaded>, RedisError> {
        let (database, key) = database_of(&target.key);
        let guard = guard_of(&key, self.is_cluster);
        let arguments = vec![
            number(self.directory_made_ms),
            number(epoch.0),
            number(GUARD_KEPT_MS),
            number(self.value_bytes_max as u64),
            number(PARTS_MAX as u64),
            number(u64::from(becomes_ours)),
        ];
        let answer = self.connections.run(place, database, Script::Load, &[key, guard], &arguments).await?;
        read_loaded(answer, target).ok_or_else(not_understood)
    }

    /// Whether a key, by its name within its session, is in the upstream as it was left there by its last owner; `None`: it did not
    /// answer.
    pub async fn is_as_left(&self, key: &Bytes) -> Option<bool> {
        let (database, key) = database_of(key);
        let guard = guard_of(&key, self.is_cluster);
        match self.connections.run(0, database, Script::Left, &[key, guard], &[]).await {
            Ok(Value::Int(as_left)) => Some(as_left == 1),
            Ok(_) => None,
            Err(error) => {
                self.troubles.report(Script::Left, &error);
                None
            }
        }
    }

    /// What a session is at rest, as far as its keys follow from its id, without guarding anything; `None`: no answer.
    pub async fn peek(&self, session: &SessionId) -> Option<Session> {
        let place = place_of(session);
        let peeks = self.targets(session).into_iter().map(|target| self.peek_key(place, target));
        let mut found = Session::default();
        for peeked in join_all(peeks).await {
            match peeked {
                Ok(Ok(LoadedKey { target, content: Some(content), .. })) => {
                    content.load(&mut found, &target.key, target.layout, &target.label, None);
                }
                Ok(_) => {}
                Err(error) => {
                    self.troubles.report(Script::Peek, &error);
                    return None;
                }
            }
        }
        self.troubles.is_answered(Script::Peek);
        Some(found)
    }

    async fn peek_key(&self, place: usize, target: Target) -> Result<Result<LoadedKey, Loaded>, RedisError> {
        let (database, key) = database_of(&target.key);
        let arguments = [number(self.value_bytes_max as u64), number(PARTS_MAX as u64)];
        let answer = self.connections.run(place, database, Script::Peek, &[key], &arguments).await?;
        read_loaded(answer, target).ok_or_else(not_understood)
    }

    /// Performs a batch, key by key; `None`: nobody knows how it ended.
    pub async fn store(&self, session: SessionId, batch: Batch) -> Option<Vec<Stored>> {
        let place = place_of(&session);
        let Batch { epoch, sequence, keys } = batch;
        let stores = keys.into_iter().map(|store| self.store_key(place, epoch, sequence, store));
        let mut all = Vec::new();
        for stored in join_all(stores).await {
            match stored {
                Ok(stored) => {
                    self.troubles.is_answered(Script::Store);
                    all.push(stored);
                }
                Err(error) => {
                    self.troubles.report(Script::Store, &error);
                    if !concerns_its_key(&error, self.is_cluster) {
                        return None;
                    }
                    all.push(Stored::Failed);
                }
            }
        }
        Some(all)
    }

    /// Stores a key that goes from one session to another: both halves or neither. `None`: nobody knows how it ended.
    pub async fn store_both(&self, swap: Swap) -> Option<[Stored; 2]> {
        let place = place_of(&swap.from);
        let (mut database, mut keys, mut arguments) = (0, Vec::new(), Vec::new());
        for Batch { epoch, sequence, keys: stores } in [swap.removal, swap.arrival] {
            let store = stores.into_iter().next()?;
            let (of, key) = database_of(&store.key);
            database = of;
            keys.extend([key.clone(), guard_of(&key, self.is_cluster)]);
            let of_key = self.arguments(epoch, sequence, store);
            if arguments.is_empty() {
                arguments.push(number(of_key.len() as u64));
            }
            arguments.extend(of_key);
        }
        let answer = self.connections.run(place, database, Script::Both, &keys, &arguments).await;
        match answer.and_then(|answer| read_both(answer).ok_or_else(not_understood)) {
            Ok(stored) => {
                self.troubles.is_answered(Script::Both);
                Some(stored)
            }
            Err(error) => {
                self.troubles.report(Script::Both, &error);
                concerns_its_key(&error, self.is_cluster).then_some([Stored::Failed; 2])
            }
        }
    }

    async fn store_key(&self, place: usize, epoch: Epoch, sequence: u64, store: KeyStore) -> Result<Stored, RedisError> {
        let (database, key) = database_of(&store.key);
        let guard = guard_of(&key, self.is_cluster);
        let arguments = self.arguments(epoch, sequence, store);
        let answer = self.connections.run(place, database, Script::Store, &[key, guard], &arguments).await?;
        read_stored(answer).ok_or_else(not_understood)
    }

    /// As `guarded.lua` wants them.
    fn arguments(&self, epoch: Epoch, sequence: u64, store: KeyStore) -> Vec<Bytes> {
        let expiry = store.expires_at_ms.map_or_else(|| Bytes::from_static(b"-1"), number);
        let mut arguments =
            vec![number(self.directory_made_ms), number(epoch.0), number(sequence), number(GUARD_KEPT_MS), expiry];
        push_change(&mut arguments, store.change);
        arguments
    }
}

/// What, type, count of parts to set, they, parts that are gone: as `guarded.lua` wants them.
fn push_change(arguments: &mut Vec<Bytes>, change: KeyChange) {
    let word = |word: &'static str| Bytes::from_static(word.as_bytes());
    let (what, kind, set, gone) = match change {
        KeyChange::Whole(KeyContent::String(value)) => ("whole", "string", vec![value], Vec::new()),
        KeyChange::Whole(KeyContent::Hash(fields)) => ("whole", "hash", flat(fields), Vec::new()),
        KeyChange::Whole(KeyContent::Set(members)) => ("whole", "set", members, Vec::new()),
        KeyChange::Whole(KeyContent::SortedSet(members)) => ("whole", "zset", scored(members), Vec::new()),
        KeyChange::Whole(KeyContent::List(elements)) => ("whole", "list", elements, Vec::new()),
        KeyChange::Merge { set, keep } => ("merge", "hash", flat(set), keep),
        KeyChange::Fields { set, gone } => ("fields", "hash", flat(set), gone),
        KeyChange::Expiry => ("expiry", "", Vec::new(), Vec::new()),
        KeyChange::Gone => ("gone", "", Vec::new(), Vec::new()),
    };
    arguments.extend([word(what), word(kind), number(set.len() as u64)]);
    arguments.extend(set);
    arguments.extend(gone);
}

/// Scores before members, as `ZADD` wants them; the shortest text that reads back as the same float.
fn scored(members: Vec<(Bytes, Bytes)>) -> Vec<Bytes> {
    let text = |score: &Bytes| score.first_chunk::<8>().map_or(0.0, |bits| f64::from_be_bytes(*bits)).to_string();
    members.into_iter().flat_map(|(member, score)| [Bytes::from(text(&score)), member]).collect()
}

fn flat(pairs: Vec<(Bytes, Bytes)>) -> Vec<Bytes> {
    pairs.into_iter().flat_map(|(name, value)| [name, value]).collect()
}

fn number(number: u64) -> Bytes {
    Bytes::from(number.to_string())
}

fn not_understood() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "the upstream's answer to a script is not understood").into()
}

/// Which connection a session uses: always the same one, so that its batches stay in order.
fn place_of(session: &SessionId) -> usize {
    session.0.iter().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)))
}

/// Runs all to their ends, started in this order.
async fn join_all<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut waits = false;
        for (future, done) in &mut running {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *done = Some(value),
                    std::task::Poll::Pending => waits = true,
                }
            }
        }
        if waits { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}

/// Errors of a server that serves nobody, or not this node, for a while: as good as no answer.
const SERVES_NOBODY: [&str; 7] = ["LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "READONLY", "MISCONF", "NOAUTH"];

/// Whether the upstream has answered, and refuses this key alone: what other keys need may go on.
fn concerns_its_key(error: &RedisError, is_cluster: bool) -> bool {
    // In a cluster one node has answered, or none for one slot: the others may be well.
    let nobody = |code: &str| if is_cluster { code == "NOAUTH" } else { SERVES_NOBODY.contains(&code) };
    error.code().is_some_and(|code| !nobody(code))
}

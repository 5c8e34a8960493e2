//! The guarded store itself, before a real Redis: who is refused, what is foreign, what has vanished, what each type becomes.
//!
//! One row a sentence of `rest/change.rs`, in two databases: no node takes part, so each answer is that of the scripts.

use crate::harness::resp::{Client, Reply};
use crate::redis::Redis;
use crate::until;
use bytes::Bytes;
use std::time::Duration;
use wayfarer::rest::AtRest;
use wayfarer::upstream::Dialer;
use wayfarer_engine::command::Target;
use wayfarer_engine::command::compound::in_database;
use wayfarer_engine::ids::{Epoch, SessionId};
use wayfarer_engine::rest::change::{Batch, KeyChange, KeyStore, Loaded, LoadedKey, Stored};
use wayfarer_engine::rest::content::KeyContent;
use wayfarer_engine::session::Layout;
use wayfarer_settings::{KeyMatcher, Upstream};

const MADE_MS: u64 = 1_700_000_000_000;
const KEY: &str = "s:1";

/// One owner's view of the upstream, in one database.
struct Owner {
    rest: AtRest,
    database: u8,
    runtime: tokio::runtime::Runtime,
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn hash(fields: &[(&str, &str)]) -> KeyContent {
    KeyContent::Hash(fields.iter().map(|(name, value)| (text(name), text(value))).collect())
}

fn fields(set: &[(&str, &str)], gone: &[&str]) -> KeyChange {
    let set = set.iter().map(|(name, value)| (text(name), text(value))).collect();
    KeyChange::Fields { set, gone: gone.iter().map(|name| text(name)).collect() }
}

impl Owner {
    /// Of a directory made at this time.
    fn of(redis: &Redis, database: u8, made_ms: u64) -> Owner {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let upstream = Upstream::parse(&format!("redis://127.0.0.1:{}", redis.port())).unwrap();
        let keys = KeyMatcher::new(Vec::new());
        let rest = AtRest::new(Dialer::new(&upstream).unwrap(), keys, made_ms, 1 << 20, Duration::from_secs(20));
        Owner { rest, database, runtime }
    }

    fn name(&self, key: &str) -> Bytes {
        in_database(self.database, &text(key))
    }

    fn load(&self, epoch: u64) -> Loaded {
        let target = Target { key: self.name(KEY), layout: Layout::Hash, label: Bytes::new() };
        self.runtime.block_on(self.rest.load(SessionId::copy_of(b"1"), Epoch(epoch), Some(vec![target]), true))
    }

    fn store_to(&self, key: &str, (epoch, sequence): (u64, u64), change: KeyChange, expires_at_ms: Option<u64>) -> Stored {
        let keys = vec![KeyStore { key: self.name(key), change, expires_at_ms }];
        let batch = Batch { epoch: Epoch(epoch), sequence, keys };
        let stored = self.runtime.block_on(self.rest.store(SessionId::copy_of(b"1"), batch));
        stored.expect("an answer")[0]
    }

    fn store(&self, mark: (u64, u64), change: KeyChange) -> Stored {
        self.store_to(KEY, mark, change, None)
    }

    /// A client that looks at the same database.
    fn client(&self, redis: &Redis) -> Client {
        let mut client = redis.client();
        assert_eq!(client.say(&format!("SELECT {}", self.database)), Reply::ok());
        client
    }
}

/// Each with a Redis of its own and its two databases, an owner and a client.
fn in_both(test: impl Fn(&Redis, &Owner, &mut Client)) {
    let Some(redis) = Redis::start() else { return };
    for database in [0, 1] {
        let owner = Owner::of(&redis, database, MADE_MS);
        test(&redis, &owner, &mut owner.client(&redis));
    }
}

#[test]
fn only_the_newest_owners_next_batch_is_taken() {
    in_both(|redis, owner, client| {
        let whole = |value: &str| KeyChange::Whole(hash(&[("a", value)]));
        let empty =
            |loaded: Loaded| matches!(&loaded, Loaded::Keys(keys) if matches!(keys[..], [LoadedKey { content: None, .. }]));
        assert!(empty(owner.load(5)));
        assert_eq!(owner.store((5, 1), whole("1")), Stored::Written);
        for (late, why) in [((5, 1), "an equal sequence"), ((5, 0), "an older one"), ((4, 9), "an older epoch")] {
            for change in [whole("late"), fields(&[("a", "late")], &[]), KeyChange::Expiry, KeyChange::Gone] {
                assert_eq!(owner.store(late, change), Stored::Refused, "{why}");
            }
        }
        assert_eq!(owner.store((5, 2), whole("2")), Stored::Written);
        assert!(matches!(owner.load(5), Loaded::Keys(_)), "a second load of the same owner");
        assert_eq!(owner.store((5, 2), whole("late")), Stored::Refused, "does not let an older batch of it through");
        assert!(matches!(owner.load(7), Loaded::Keys(_)));
        assert_eq!(owner.store((5, 3), whole("late")), Stored::Refused, "guarded by the load of the next owner");
        assert!(matches!(owner.load(6), Loaded::Refused));
        assert_eq!(client.say("HGETALL s:1"), Reply::Array(vec![Reply::text("a"), Reply::text("2")]));
        // What has been removed is guarded too.
        assert_eq!(owner.store((7, 1), KeyChange::Gone), Stored::Written);
        assert_eq!(owner.store((5, 3), whole("late")), Stored::Refused);
        assert_eq!(client.say("EXISTS s:1"), Reply::Int(0));
        // Epochs of different directories cannot be compared: the later directory is right.
        let (earlier, later) = (Owner::of(redis, owner.database, MADE_MS - 1), Owner::of(redis, owner.database, MADE_MS + 1));
        assert_eq!(earlier.store((100, 100), whole("late")), Stored::Refused);
        assert!(matches!(earlier.load(100), Loaded::Refused));
        assert!(matches!(later.load(1), Loaded::Keys(_)));
        assert_eq!(owner.store((9, 9), whole("late")), Stored::Refused);
        assert_eq!(later.store((1, 1), whole("new")), Stored::Written);
        assert_eq!(client.say("HGET s:1 a"), Reply::text("new"));
    });
}

#[test]
fn what_somebody_else_wrote_is_told_from_what_was_left_there() {
    in_both(|_, owner, client| {
        assert!(matches!(owner.load(5), Loaded::Keys(_)));
        assert_eq!(owner.store((5, 1), KeyChange::Whole(hash(&[("a", "1"), ("b", "1")]))), Stored::Written);
        assert_eq!(owner.store((5, 2), fields(&[("a", "2")], &["b"])), Stored::Written, "what it left itself");
        assert_eq!(client.say("HSET s:1 a foreign"), Reply::Int(0));
        assert_eq!(owner.store((5, 3), fields(&[("c", "3")], &[])), Stored::Foreign);
        assert_eq!(client.say("HGETALL s:1"), Reply::Array(vec![Reply::text("a"), Reply::text("foreign")]), "not changed");
        assert_eq!(owner.store((5, 4), KeyChange::Whole(hash(&[("a", "4")]))), Stored::Written, "counted once");
        for (at, change) in [(5, KeyChange::Whole(hash(&[("a", "5")]))), (7, KeyChange::Gone)] {
            assert_eq!(client.say("HSET s:1 a foreign"), Reply::Int(0));
            assert_eq!(owner.store((5, at), change), Stored::WrittenOver);
            assert_eq!(owner.store((5, at + 1), KeyChange::Whole(hash(&[("a", "6")]))), Stored::Written);
        }
        assert_eq!(client.say("DEL s:1"), Reply::Int(1));
        assert_eq!(owner.store((5, 10), KeyChange::Expiry), Stored::Foreign, "what goes before its time was removed by somebody");
    });
}

#[test]
fn what_has_expired_by_itself_has_vanished_and_is_nobodys_write() {
    in_both(|_, owner, client| {
        for (at, change) in [(1, fields(&[("a", "2")], &[])), (11, KeyChange::Expiry)] {
            let Reply::Array(time) = client.say("TIME") else { panic!() };
            let Reply::Bulk(seconds) = &time[0] else { panic!() };
            let soon_ms = (std::str::from_utf8(seconds).unwrap().parse::<u64>().unwrap() + 2) * 1000;
            let whole = KeyChange::Whole(hash(&[("a", "1")]));
            assert_eq!(owner.store_to(KEY, (5, at), whole, Some(soon_ms)), Stored::Written);
            until("its expiry", || (client.say("EXISTS s:1") == Reply::Int(0)).then_some(()));
            assert_eq!(owner.store((5, at + 1), change), Stored::Vanished);
            assert_eq!(client.say("EXISTS s:1"), Reply::Int(0), "nothing was written");
            assert_eq!(owner.store((5, at + 2), KeyChange::Whole(hash(&[("a", "1")]))), Stored::Written);
            assert_eq!(client.say("PTTL s:1"), Reply::Int(-1));
        }
    });
}

#[test]
fn lost_fields_keep_what_is_there_and_all_else_is_replaced() {
    in_both(|_, owner, client| {
        assert_eq!(owner.store((5, 1), KeyChange::Whole(hash(&[("a", "1"), ("lost", "1"), ("old", "1")]))), Stored::Written);
        let merge = || KeyChange::Merge { set: vec![(text("a"), text("2")), (text("new"), text("2"))], keep: vec![text("lost")] };
        assert_eq!(owner.store((5, 2), merge()), Stored::Written);
        let there = crate::pairs(client.say("HGETALL s:1"));
        let expected = [("a", "2"), ("lost", "1"), ("new", "2")].map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()));
        assert_eq!(there, expected.into());
        assert_eq!(client.say("SET s:1 foreign"), Reply::ok());
        assert_eq!(owner.store((5, 3), merge()), Stored::WrittenOver, "a key of another type has none of them");
        assert_eq!(client.say("HLEN s:1"), Reply::Int(2));
    });
}

#[test]
fn each_type_is_there_as_it_is_here_and_comes_back_so() {
    in_both(|_, owner, client| {
        let score = |score: f64| Bytes::copy_from_slice(&score.to_be_bytes());
        let members = vec![(text("m"), score(1.5)), (text("n"), score(-2.0))];
        let all = [
            (KeyContent::String(text("bytes\0\r\n")), "STRLEN s:1", 8),
            (hash(&[("f", "1"), ("g", "2")]), "HLEN s:1", 2),
            (KeyContent::Set(vec![text("m"), text("n")]), "SCARD s:1", 2),
            (KeyContent::List(vec![text("x"), text("x"), text("y")]), "LLEN s:1", 3),
            (KeyContent::SortedSet(members), "ZCARD s:1", 2),
        ];
        for (at, (content, ask, size)) in all.into_iter().enumerate() {
            let expires_at_ms = 4_000_000_000_000 + at as u64;
            assert!(matches!(owner.load(5), Loaded::Keys(_)));
            let stored = owner.store_to(KEY, (5, at as u64 + 1), KeyChange::Whole(content.clone()), Some(expires_at_ms));
            assert_eq!((stored, client.say(ask)), (Stored::Written, Reply::Int(size)));
            let Loaded::Keys(mut keys) = owner.load(5) else { panic!() };
            let LoadedKey { content: there, expires_at_ms: then, .. } = keys.remove(0);
            let sorted = |content: Option<KeyContent>| match content {
                Some(KeyContent::Hash(mut all)) => (all.sort(), Some(KeyContent::Hash(all))).1,
                Some(KeyContent::Set(mut all)) => (all.sort(), Some(KeyContent::Set(all))).1,
                Some(KeyContent::SortedSet(mut all)) => (all.sort(), Some(KeyContent::SortedSet(all))).1,
                other => other,
            };
            assert_eq!((sorted(there), then), (sorted(Some(content)), Some(expires_at_ms)));
        }
    });
}

#[test]
fn a_key_that_is_refused_alone_fails_alone() {
    in_both(|_, owner, client| {
        assert_eq!(client.say("ACL SETUSER default resetkeys ~s:* ~wf:*"), Reply::ok());
        let store =
            |key: &str| KeyStore { key: owner.name(key), change: KeyChange::Whole(hash(&[("a", "1")])), expires_at_ms: None };
        let batch = Batch { epoch: Epoch(5), sequence: 1, keys: vec![store("s:1"), store("other:1"), store("s:2")] };
        let stored = owner.runtime.block_on(owner.rest.store(SessionId::copy_of(b"1"), batch));
        assert_eq!(stored, Some(vec![Stored::Written, Stored::Failed, Stored::Written]));
        assert_eq!(client.say("ACL SETUSER default allkeys"), Reply::ok());
    });
}

//! The store with clocks that a test sets: leases, lives, bounds of values, and what is looked at for expiry.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use bytes::BytesMut;
use std::cell::{Cell, RefCell};
use wayfarer_engine::command::Parsed;
use wayfarer_engine::directory::Location;
use wayfarer_engine::ids::{Epoch, GroupId, HandoverId, Version};
use wayfarer_engine::session::Session;

const RULE: AdoptionRule = AdoptionRule { arrivals: 3, gap_us: 20_000, residence_us_min: 0 };

/// Clocks that stand still, and what happens just before the second look: the access is over then.
#[derive(Default)]
struct Still<'a> {
    unix_ms: Cell<u64>,
    boot_us: Cell<u64>,
    looks: Cell<usize>,
    after_access: RefCell<Option<Box<dyn FnOnce() + 'a>>>,
}

impl Clock for Still<'_> {
    fn unix_ms(&self) -> u64 {
        self.looks.set(self.looks.get() + 1);
        self.unix_ms.get()
    }

    fn boot_us(&self) -> u64 {
        self.looks.set(self.looks.get() + 1);
        if let Some(then) = self.after_access.borrow_mut().take() {
            then();
        }
        self.boot_us.get()
    }
}

fn op(command: &str) -> Op {
    let args = command.split(' ').map(|w| bytes::Bytes::copy_from_slice(w.as_bytes())).collect();
    match command::parse(args) {
        Parsed::Keyed(op) => op,
        other => panic!("{command}: {other:?}"),
    }
}

fn store() -> Store {
    let store = Store::new(RULE).with_value_bytes_max(10);
    store.set_lease_until_us(1000);
    store
}

fn open(store: &Store, id: &str) -> SessionId {
    let id = SessionId::copy_of(id.as_bytes());
    let location = Location { group: GroupId(1), epoch: Epoch(1), last: None, depends: Vec::new() };
    store.with(&id, |slot| *slot = Some(Resident::new(Session::new(Version(0)), location, 0)));
    id
}

fn run(store: &Store, clock: &Still<'_>, id: &SessionId, command: &str) -> (Tried, String) {
    let mut out = BytesMut::new();
    let op = op(command);
    let call = Call { session: &id.0, op: &op, protocol: Protocol::Resp2, from: None, may_end: true };
    let tried = store.execute(call, clock, &mut out);
    (tried, String::from_utf8_lossy(&out).into_owned())
}

fn say(store: &Store, clock: &Still<'_>, id: &SessionId, command: &str) -> String {
    let (tried, reply) = run(store, clock, id, command);
    assert!(matches!(tried, Tried::Done(None)), "{command}: {tried:?}");
    reply
}

fn at(unix_ms: u64) -> Now {
    Now { boot_us: 0, unix_ms }
}

#[test]
fn an_operation_looks_at_two_clocks() {
    let (store, clock) = (store(), Still::default());
    let id = open(&store, "one");
    say(&store, &clock, &id, "SET k v");
    assert_eq!(clock.looks.get(), 2);
}

#[test]
fn without_a_lease_nothing_is_answered_and_after_the_first_nothing_runs() {
    let (store, clock) = (store(), Still::default());
    let id = open(&store, "one");
    say(&store, &clock, &id, "SET k 1");
    clock.boot_us.set(1000);
    let (tried, reply) = run(&store, &clock, &id, "INCR k");
    assert!(matches!(tried, Tried::Unanswered) && reply.is_empty(), "{tried:?} {reply}");
    for _ in 0..3 {
        assert!(matches!(run(&store, &clock, &id, "INCR k").0, Tried::NoLease));
    }
    store.set_lease_until_us(2000);
    assert_eq!(say(&store, &clock, &id, "GET k"), "$1\r\n2\r\n");
}

#[test]
fn the_lease_of_the_next_life_does_not_cover_what_was_read_in_this_one() {
    let (store, clock) = (store(), Still::default());
    let id = open(&store, "one");
    say(&store, &clock, &id, "SET k old");
    let life = store.life();
    // Between the access and the look at the lease the node is declared dead and lives again. In another thread's place: the
    // shard is locked now, so another session's operation would be held up here as this one would.
    let fenced = || {
        store.life.fetch_add(1, Ordering::AcqRel);
        store.set_lease_until_us(9000);
    };
    clock.after_access.replace(Some(Box::new(fenced)));
    let (tried, reply) = run(&store, &clock, &id, "GET k");
    assert!(matches!(tried, Tried::Unanswered) && reply.is_empty(), "{tried:?} {reply}");
    assert!(!store.may_answer(life, 0) && store.may_answer(store.life(), 0));
}

#[test]
fn a_life_that_ends_takes_its_sessions_along_and_counts_them() {
    let store = store();
    open(&store, "one");
    open(&store, "two");
    let life = store.life();
    store.clear();
    assert_eq!((store.count(), store.lost_with_lives(), store.schedule.len()), (0, 2, 0));
    assert!(store.life() > life);
}

#[test]
fn a_value_does_not_grow_beyond_its_bound() {
    let (store, clock) = (store(), Still::default());
    let id = open(&store, "one");
    say(&store, &clock, &id, "SET k 12345678");
    assert_eq!(say(&store, &clock, &id, "APPEND k 90"), ":10\r\n");
    let too_long = "-ERR string exceeds maximum allowed size ([state] value_bytes_max)\r\n";
    for command in ["APPEND k 1", "SET k 12345678901", "HSET h f 12345678901"] {
        assert_eq!(say(&store, &clock, &id, command), too_long, "{command}");
    }
    assert_eq!(say(&store, &clock, &id, "INCRBY n 9999999999"), ":9999999999\r\n");
    assert_eq!(say(&store, &clock, &id, "INCRBY n 1"), too_long);
    say(&store, &clock, &id, "HSET h f 9999999999");
    assert_eq!(say(&store, &clock, &id, "HINCRBY h f 1"), too_long);
    assert_eq!(say(&store, &clock, &id, "GET n"), "$10\r\n9999999999\r\n");
    assert_eq!(say(&store, &clock, &id, "GET k"), "$10\r\n1234567890\r\n");
    assert_eq!(say(&store, &clock, &id, "HGET h f"), "$10\r\n9999999999\r\n");
}

#[test]
fn only_what_is_due_is_looked_at() {
    let (store, clock) = (store(), Still::default());
    let ids: Vec<SessionId> = (0..1000).map(|n| open(&store, &format!("s{n}"))).collect();
    assert_eq!(store.schedule.len(), 0, "one without a key is the engine's to end");
    for (n, id) in (0u64..).zip(&ids) {
        say(&store, &clock, id, "SET k v");
        say(&store, &clock, id, &format!("PEXPIRE k {}", 1000 + n));
    }
    assert_eq!(store.schedule.len(), 1000);
    assert!(store.expire(at(999)).is_empty());
    assert_eq!(store.schedule.take_due(999, usize::MAX), []);
    assert_eq!(store.expire(at(1002)), [ids[0].clone(), ids[1].clone()]);
    assert!(matches!(run(&store, &clock, &ids[0], "GET k").0, Tried::NotOpen), "its end is on its way");

    // Put off a thousand times, drawn nearer, and made to stay: never more than one entry.
    for n in 0..1000 {
        say(&store, &clock, &ids[5], &format!("PEXPIRE k {}", 5000 + n));
        say(&store, &clock, &ids[6], &format!("PEXPIRE k {}", 900 - n % 400));
    }
    say(&store, &clock, &ids[7], "PERSIST k");
    assert_eq!(store.schedule.len(), 1000);
    let ended = store.expire(at(1500));
    assert!(ended.contains(&ids[6]) && !ended.contains(&ids[5]) && !ended.contains(&ids[7]));
    assert!(store.expire(at(5999)).iter().all(|id| *id != ids[5]));
    assert!(store.expire(at(6000)).contains(&ids[5]));
    store.expire(at(u64::MAX - 1000));
    assert_eq!(say(&store, &clock, &ids[7], "GET k"), "$1\r\nv\r\n");
}

#[test]
fn one_that_is_frozen_when_it_is_due_ends_when_it_opens_again() {
    let (store, clock) = (store(), Still::default());
    let id = open(&store, "one");
    say(&store, &clock, &id, "SET k v PX 100");
    let gate = |gate| store.with(&id, |slot| slot.as_mut().unwrap().gate = gate);
    gate(Gate::Frozen(HandoverId { origin: Incarnation(Epoch(1)), serial: 1 }));
    assert!(store.expire(at(150)).is_empty());
    gate(Gate::Open);
    assert_eq!(store.expire(at(150 + LOOK_AGAIN_MS)), std::slice::from_ref(&id));
    // Until the engine has removed it, it is told again: whoever closed the gate may have given up.
    assert_eq!(store.expire(at(150 + 2 * LOOK_AGAIN_MS)), std::slice::from_ref(&id));
    store.with(&id, |slot| *slot = None);
    assert_eq!((store.schedule.len(), store.count()), (0, 0));
}

#[test]
fn one_that_loses_its_last_key_unasked_is_due_at_once() {
    let (store, clock) = (store(), Still::default());
    let id = open(&store, "one");
    say(&store, &clock, &id, "SET k v");
    let expire = op("PEXPIRE k -1");
    let call = Call { session: &id.0, op: &expire, protocol: Protocol::Resp2, from: None, may_end: false };
    assert!(matches!(store.execute(call, &clock, &mut BytesMut::new()), Tried::Done(None)));
    assert_eq!(store.expire(at(0)), [id]);
}

/// `critical*` is critical, all else high.
fn policy() -> Arc<Policy> {
    use wayfarer_engine::plan::{Impact, Rule, Treatment};
    let default = Policy::default().default;
    let critical = Treatment { impact: Impact::Critical, ..default };
    Arc::new(Policy { rules: vec![Rule { pattern: "critical*".into(), treatment: critical }], default })
}

/// Opens a session whose books know everything that it has; what follows is a change.
fn open_written(store: &Store, clock: &Still<'_>, id: &str, commands: &[&str]) -> SessionId {
    use wayfarer_engine::rest::copy::{KeyCopy, RestCopy};
    let id = open(store, id);
    for command in commands {
        run(store, clock, &id, command);
    }
    store.with(&id, |slot| {
        let resident = slot.as_mut().unwrap();
        let copies = resident.session.keys().iter().map(|key| KeyCopy::of(key, resident.session.last_version()));
        *resident = resident.clone().with_rest(Some(RestCopy::new(copies.collect())));
    });
    id
}

fn try_all(store: &Store, clock: &Still<'_>, id: &SessionId, may_end: bool, commands: &[&str]) -> Tried {
    let mut ops: Vec<Op> = commands.iter().map(|command| op(command)).collect();
    let op = if ops.len() > 1 { Op::transaction(ops, Vec::new()) } else { ops.remove(0) };
    let call = Call { session: &id.0, op: &op, protocol: Protocol::Resp2, from: None, may_end };
    store.execute(call, clock, &mut BytesMut::new())
}

#[test]
fn what_removes_a_critical_variable_is_not_acknowledged_before_it_is_written() {
    let (store, clock) = (store().with_rest(policy(), u64::MAX), Still::default());
    let start = ["HSET s critical 1 b 2", "HSET c x 1 y 2"];
    let removing: [&[&str]; 6] = [
        &["HDEL s critical"],
        &["SET s v"],
        &["HDEL s critical", "HSET s x 1"],
        &["DEL s", "HSET s x 1 y 1"],
        &["DEL s", "SADD s critical b"],
        &["COPY c s REPLACE"],
    ];
    for (n, commands) in removing.into_iter().enumerate() {
        let id = open_written(&store, &clock, &n.to_string(), &start);
        assert!(matches!(try_all(&store, &clock, &id, false, commands), Tried::NotOpen), "left to who can wait: {commands:?}");
        assert!(matches!(try_all(&store, &clock, &id, true, commands), Tried::Critical(_)), "{commands:?}");
        assert_eq!(store.take_unwritten(), [id]);
    }
    let id = open_written(&store, &clock, "other", &start);
    for commands in [&["HSET s b 3"] as &[&str], &["HDEL s b", "HSET s d 1"]] {
        assert!(matches!(try_all(&store, &clock, &id, true, commands), Tried::Done(_)), "{commands:?}");
    }
    assert!(store.unwritten_bytes() > 0 && store.unwritten_since().0[1].is_some());
}

#[test]
fn memory_is_counted_as_sessions_come_grow_shrink_and_go() {
    let (store, clock) = (store().with_value_bytes_max(1 << 20).with_memory_max(1 << 20), Still::default());
    let used = || store.memory().unwrap().0;
    let sum = || store.list(usize::MAX, |_, resident| resident.session.memory_bytes()).into_iter().sum::<u64>();
    let ids: Vec<SessionId> = (0..50).map(|n| open(&store, &format!("s{n}"))).collect();
    for (n, id) in ids.iter().enumerate() {
        for field in 0..n {
            say(&store, &clock, id, &format!("HSET h f{field} {}", "v".repeat(field)));
        }
        say(&store, &clock, id, "SET k v PX 100");
        say(&store, &clock, id, "HDEL h f1");
        assert_eq!(used(), sum());
    }
    store.expire(at(1_000));
    assert_eq!(used(), sum());
    // A large one is counted anew now and then, and by its commands in between.
    for n in 0..2_000 {
        say(&store, &clock, &ids[1], &format!("RPUSH l v{}", "v".repeat(n % 50)));
    }
    let (about, exact) = (used(), sum());
    assert!(about.abs_diff(exact) < exact / 4, "{about} instead of {exact}");
    for id in &ids {
        store.with(id, |slot| *slot = None);
    }
    assert_eq!(used(), 0);
}

#[test]
fn a_full_store_refuses_what_grows_and_nothing_else() {
    let (store, clock) = (store().with_value_bytes_max(1 << 20).with_memory_max(4096), Still::default());
    let id = open(&store, "one");
    say(&store, &clock, &id, "HSET h f v");
    say(&store, &clock, &id, &format!("SET k {}", "v".repeat(4000)));
    assert!(store.is_full());
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    for command in ["SET k v", "HSET h g v", "INCR n", "APPEND k v", "RPUSH l v", "LSET l 0 v", "COPY k k2", "SADD s a"] {
        assert_eq!(say(&store, &clock, &id, command), oom, "{command}");
    }
    for (command, reply) in
        [("HGET h f", "$1\r\nv\r\n"), ("EXPIRE h 100", ":1\r\n"), ("HDEL h g", ":0\r\n"), ("STRLEN k", ":4000\r\n")]
    {
        assert_eq!(say(&store, &clock, &id, command), reply, "{command}");
    }
    let both = [op("GET h"), op("SET k2 v")];
    let transaction = Op::transaction(both.to_vec(), Vec::new());
    let mut out = BytesMut::new();
    let call = Call { session: &id.0, op: &transaction, protocol: Protocol::Resp2, from: None, may_end: true };
    store.execute(call, &clock, &mut out);
    assert!(out.ends_with(oom.as_bytes()), "{out:?}");
    assert_eq!(say(&store, &clock, &id, "DEL k"), ":1\r\n");
    assert_eq!(say(&store, &clock, &id, "SET k v"), "+OK\r\n");
}

#[test]
fn what_happens_is_told_only_while_this_node_may_answer() {
    use std::sync::atomic::AtomicUsize;
    use wayfarer_engine::command::events::Classes;
    let woken = Arc::new(AtomicUsize::new(0));
    let counts = woken.clone();
    let happened = Arc::new(Happened::new(Box::new(move || {
        counts.fetch_add(1, Ordering::SeqCst);
    })));
    let (store, clock) = (store().with_happened(happened.clone()), Still::default());
    let id = open(&store, "one");
    say(&store, &clock, &id, "SET k v");
    assert!(happened.take().is_empty(), "nobody wants it");
    happened.set_wanted(Classes::parse(b"KA").unwrap());
    say(&store, &clock, &id, "SET k v PX 100");
    say(&store, &clock, &id, "GET k");
    let names = || happened.take().into_iter().map(|event| event.name).collect::<Vec<_>>();
    assert_eq!((names(), woken.load(Ordering::SeqCst)), (vec!["set", "expire"], 1));
    store.expire(at(1_000));
    assert_eq!(names(), ["expired"]);
    store.set_lease_until_us(0);
    store.tell_expired(vec!["k".into()], store.life(), 0);
    assert!(names().is_empty(), "without a lease others may have it");
}

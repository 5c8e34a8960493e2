//! Random commands on a session and on a real `redis-server`, compared reply by reply in RESP2 and RESP3.
//!
//! They wander between two databases, whose keys are all of the one session. The seed is printed; `WAYFARER_SEED=n` replays a run. Without `redis-server` in the path the test says so and is skipped.
//!
//! | replies of | are compared |
//! |---|---|
//! | TTL and its sisters | within a tolerance, because the two clocks are read at different moments |
//! | SMEMBERS, SINTER, SUNION, SDIFF, SSCAN | as sets: Redis orders them by chance |
//! | SPOP, SRANDMEMBER, HRANDFIELD | by their shape; what came is looked up, what was popped is removed here too |
//! | OBJECT | by their shape: an encoding depends on a key's past |
//! | everything else | byte by byte |
//!
//! What Redis tells of its keys (`notify-keyspace-events`) is compared too, event by event, but for `expired`: it comes when Redis finds
//! the time to look.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)]

#[path = "differential/server.rs"]
mod server;
#[path = "differential/words.rs"]
mod words;

use bytes::{Bytes, BytesMut};
use server::Redis;
use std::collections::HashSet;
use wayfarer_engine::command::compound::{database_of, in_database};
use wayfarer_engine::command::connection::{Connection, ServerFacts};
use wayfarer_engine::command::events::{Classes, Event, Events};
use wayfarer_engine::command::{Executed, Limits, Parsed, errors, execute_noting, parse};
use wayfarer_engine::ids::Version;
use wayfarer_engine::session::{Layout, Session};
use wayfarer_engine::wire::resp::{Protocol, Reply};
use words::{Random, unix_ms};

const COMMANDS: usize = 30_000;
const PIPELINE: usize = 40;
/// How far apart the two clocks may be read.
const TOLERANCE_MS: i64 = 5_000;
const LAYOUTS: [Layout; 6] = [Layout::Key, Layout::Json, Layout::Opaque, Layout::Hash, Layout::Msgpack, Layout::Php];

/// What the engine answers, and what it tells of keys. The layouts of keys differ from run to run.
fn answer(connection: &mut Connection, session: &mut Session, args: Vec<Bytes>) -> (Bytes, Vec<Event>) {
    let mut out = BytesMut::new();
    let mut events = Events::of(Classes::parse(b"A").unwrap());
    let protocol = connection.protocol;
    match parse(args) {
        Parsed::Connection(command) => {
            connection.run(
                &command,
                ServerFacts { password: None, port: 1, uptime_s: 1, clients: 1, events: Classes::NONE, databases: 16 },
                &mut out,
            );
        }
        Parsed::Keyed(mut op) => {
            for target in op.targets_mut() {
                let number = usize::from(target.key.last().copied().unwrap_or(0)).wrapping_add(connection.id as usize);
                (target.layout, target.label) = (LAYOUTS[number % LAYOUTS.len()], Bytes::from_static(b"label"));
                target.key = in_database(connection.db, &target.key);
            }
            let before = session.clone();
            match execute_noting(Limits::default(), session, &op, unix_ms(), protocol, (&mut out).into(), &mut events) {
                Executed::Missing(_) => panic!("nothing is elsewhere"),
                Executed::Done { wrote: false } => assert!(same_values(&before, session), "a change was not said: {op:?}"),
                Executed::Done { wrote: true } => assert!(before.last_version() < session.last_version(), "{op:?}"),
            }
        }
        Parsed::Refused(refused) => Reply::new(&mut out, protocol).error(refused.error),
        Parsed::Foreign(foreign) => Reply::new(&mut out, protocol).error(errors::unknown_command(&foreign.args)),
    }
    (out.freeze(), events.into_noted())
}

/// Whether two sessions differ in nothing but the counts of reads.
fn same_values(a: &Session, b: &Session) -> bool {
    let same = |(a, b): (&wayfarer_engine::session::Key, &wayfarer_engine::session::Key)| {
        let variables = a.variables().zip(b.variables());
        (&a.name, a.kind, a.expires_at_ms, a.len()) == (&b.name, b.kind, b.expires_at_ms, b.len())
            && variables.into_iter().all(|(a, b)| (a.0, &a.1.content, a.1.version) == (b.0, &b.1.content, b.1.version))
    };
    a.keys().len() == b.keys().len() && a.last_version() == b.last_version() && a.keys().iter().zip(b.keys()).all(same)
}

/// A reply taken apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Value {
    Line(Vec<u8>),
    Bulk(Vec<u8>),
    Many(u8, Vec<Value>),
}

impl Value {
    fn of(reply: &[u8]) -> Value {
        let (value, rest) = Value::first(reply);
        assert!(rest.is_empty());
        value
    }

    fn first(reply: &[u8]) -> (Value, &[u8]) {
        let end = reply.windows(2).position(|w| w == b"\r\n").unwrap();
        let (line, rest) = (&reply[..end], &reply[end + 2..]);
        let count = || std::str::from_utf8(&line[1..]).unwrap().parse::<i64>().unwrap();
        match line[0] {
            b'$' if count() >= 0 => {
                let length = usize::try_from(count()).unwrap();
                (Value::Bulk(rest[..length].to_vec()), &rest[length + 2..])
            }
            kind @ (b'*' | b'~' | b'%' | b'>') if count() >= 0 => {
                let (mut rest, mut elements) = (rest, Vec::new());
                for _ in 0..count() * if kind == b'%' { 2 } else { 1 } {
                    let (element, behind) = Value::first(rest);
                    elements.push(element);
                    rest = behind;
                }
                (Value::Many(kind, elements), rest)
            }
            _ => (Value::Line(line.to_vec()), rest),
        }
    }

    /// With the elements of the outermost list, or of the list in it, in order.
    fn sorted(mut self) -> Value {
        if let Value::Many(_, elements) = &mut self {
            if let [Value::Bulk(_), Value::Many(_, inner)] = elements.as_mut_slice() {
                inner.sort();
            } else {
                elements.sort();
            }
        }
        self
    }

    /// What kind of reply it is, and of how many elements.
    fn shape(&self) -> Value {
        match self {
            Value::Line(line) if line[0] == b'-' || line[0] == b'_' || line[0] == b'$' => self.clone(),
            Value::Line(line) => Value::Line(line[..1].to_vec()),
            Value::Bulk(_) => Value::Bulk(Vec::new()),
            Value::Many(kind, elements) => Value::Many(*kind, elements.iter().map(Value::shape).collect()),
        }
    }

    fn bulks(&self) -> Vec<Vec<u8>> {
        match self {
            Value::Line(_) => Vec::new(),
            Value::Bulk(bytes) => vec![bytes.clone()],
            Value::Many(_, elements) => elements.iter().flat_map(Value::bulks).collect(),
        }
    }
}

fn integer(reply: &[u8]) -> Option<i64> {
    std::str::from_utf8(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?).ok()?.parse().ok()
}

fn agree(name: &str, ours: &[u8], theirs: &[u8]) -> bool {
    let within = |tolerance: i64| match (integer(ours), integer(theirs)) {
        (Some(a), Some(b)) if a > 0 && b > 0 => (a - b).abs() <= tolerance,
        _ => ours == theirs,
    };
    match name.to_ascii_lowercase().as_str() {
        "ttl" | "expiretime" => within(TOLERANCE_MS / 1000),
        "pttl" | "pexpiretime" => within(TOLERANCE_MS),
        "smembers" | "sinter" | "sunion" | "sdiff" | "sscan" => Value::of(ours).sorted() == Value::of(theirs).sorted(),
        "spop" | "srandmember" | "hrandfield" | "object" => Value::of(ours).shape() == Value::of(theirs).shape(),
        _ => ours == theirs,
    }
}

/// Whether what was drawn by chance was in the session: of ours in it before, and without repetition unless asked for.
fn was_there(before: &Session, database: u8, shown: &[String], ours: &Value) -> bool {
    let drawn = ours.bulks();
    let name = shown.get(1).map(|name| in_database(database, &Bytes::from(name.clone())));
    let Some(key) = name.and_then(|name| before.key(&name, unix_ms())) else { return drawn.is_empty() };
    let names: Vec<_> = if shown.len() == 4 { drawn.chunks(2).map(|pair| pair[0].clone()).collect() } else { drawn };
    let repeats = shown.get(2).is_some_and(|count| count.starts_with('-'));
    let different: HashSet<_> = names.iter().collect();
    names.iter().all(|name| key.variable(name).is_some()) && (repeats || different.len() == names.len())
}

/// Someone who hears what the server tells of its keys.
struct Listener(server::Client);

impl Listener {
    fn new(redis: &Redis) -> Listener {
        let words = |text: &str| text.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect::<Vec<_>>();
        let mut client = redis.connect();
        client.send(&[words("CONFIG SET notify-keyspace-events KA"), words("PSUBSCRIBE __keyspace@*__:*")]);
        assert_eq!(client.reply(), "+OK\r\n");
        client.reply();
        Listener(client)
    }

    /// All that it has heard up to now, as (channel, event).
    fn heard(&mut self) -> Vec<(String, String)> {
        self.0.send(&[vec![Bytes::from_static(b"PING")]]);
        let mut heard = Vec::new();
        loop {
            let mut words = Value::of(&self.0.reply()).bulks();
            if words.len() < 4 {
                return heard;
            }
            let mut text = || String::from_utf8_lossy(&words.pop().unwrap()).into_owned();
            let (event, channel) = (text(), text());
            heard.push((channel, event));
        }
    }
}

fn told(events: Vec<Event>) -> impl Iterator<Item = (String, String)> {
    events.into_iter().map(|event| {
        let (database, key) = database_of(&event.key);
        (format!("__keyspace@{database}__:{}", String::from_utf8_lossy(&key)), event.name.to_owned())
    })
}

fn shorten(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).chars().take(400).collect()
}

/// The last commands that named the key of the very last one.
fn past(history: &[Vec<String>]) -> Vec<String> {
    const SHOWN_MAX: usize = 12;
    let Some((key, (_, before))) = history.last().and_then(|last| last.get(1)).zip(history.split_last()) else {
        return Vec::new();
    };
    before.iter().rev().filter(|words| words.contains(key)).take(SHOWN_MAX).map(|words| words.join(" ")).collect()
}

fn compare(redis: &Redis, protocol: Protocol, seed: u64) {
    let mut random = Random(seed);
    let mut client = redis.connect();
    let mut connection = Connection::new(seed % LAYOUTS.len() as u64, false);
    let mut session = Session::new(Version(0));
    client.send(&[vec![Bytes::from_static(b"FLUSHALL")]]);
    assert_eq!(client.reply(), "+OK\r\n");
    if protocol == Protocol::Resp3 {
        client.send(&[vec![Bytes::from_static(b"HELLO"), Bytes::from_static(b"3")]]);
        client.reply();
        connection.protocol = protocol;
    }
    let mut history: Vec<Vec<String>> = Vec::new();
    let mut listener = Listener::new(redis);
    for round in 0..COMMANDS / PIPELINE {
        let commands: Vec<Vec<String>> = (0..PIPELINE).map(|_| words::command(&mut random)).collect();
        let bytes = |words: &Vec<String>| words.iter().map(|w| Bytes::from(w.clone())).collect::<Vec<_>>();
        client.send(&commands.iter().map(bytes).collect::<Vec<_>>());
        let mut events = Vec::new();
        for (index, shown) in commands.into_iter().enumerate() {
            let theirs = client.reply();
            let name = shown.first().cloned().unwrap_or_default();
            history.push(shown.clone());
            let before = session.clone();
            let (ours, ours_told) = answer(&mut connection, &mut session, bytes(&shown));
            events.extend(told(ours_told));
            let by_chance = ["spop", "srandmember", "hrandfield"].contains(&name.to_ascii_lowercase().as_str());
            let fine =
                agree(&name, &ours, &theirs) && (!by_chance || was_there(&before, connection.db, &shown, &Value::of(&ours)));
            assert!(
                fine,
                "WAYFARER_SEED={seed} {protocol:?} command {}: {shown:?}\n ours   {:?}\n theirs {:?}\n before on this key: {:?}",
                round * PIPELINE + index,
                shorten(&ours),
                shorten(&theirs),
                past(&history),
            );
            if name.eq_ignore_ascii_case("spop") && ours != theirs {
                // The same members must go on both sides.
                session = before;
                let popped = Value::of(&theirs).bulks();
                let removal = ["SREM", &shown[1]].map(|w| Bytes::copy_from_slice(w.as_bytes()));
                let removal = removal.into_iter().chain(popped.iter().map(|m| Bytes::copy_from_slice(m))).collect();
                assert_eq!(integer(&answer(&mut connection, &mut session, removal).0), Some(popped.len() as i64), "{shown:?}");
            }
        }
        let mut theirs = listener.heard();
        theirs.retain(|(_, event)| event != "expired");
        events.retain(|(_, event)| event != "expired");
        assert!(
            events == theirs,
            "WAYFARER_SEED={seed} {protocol:?} round {round}:\n ours   {events:?}\n theirs {theirs:?}\n {:?}",
            &history[history.len() - PIPELINE..]
        );
    }
}

#[test]
fn replies_are_those_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let seed = std::env::var("WAYFARER_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(unix_ms);
    println!("WAYFARER_SEED={seed}");
    compare(&redis, Protocol::Resp2, seed);
    compare(&redis, Protocol::Resp3, seed);
}

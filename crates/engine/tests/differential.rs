//! Random commands on a session and on a real `redis-server`, compared reply by reply in RESP2 and RESP3.
//!
//! The seed is printed; `WAYFARER_SEED=n` replays a run. Without `redis-server` in the path the test says so and is skipped.
//! Times to live are compared within a tolerance, because the two clocks are read at different moments; everything else byte
//! by byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)]

use bytes::{Bytes, BytesMut};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use wayfarer_engine::command::connection::{Connection, ServerFacts};
use wayfarer_engine::command::{Executed, Parsed, encode_request, errors, execute, parse};
use wayfarer_engine::ids::Version;
use wayfarer_engine::session::{Layout, Session};
use wayfarer_engine::wire::resp::{FrameScanner, Protocol, Reply};

const COMMANDS: usize = 6000;
const PIPELINE: usize = 40;
const START_MS_MAX: Duration = Duration::from_secs(10);
const REPLY_MS_MAX: Duration = Duration::from_secs(20);
/// How far apart the two clocks may be read.
const TOLERANCE_MS: i64 = 5_000;

struct Redis {
    child: Child,
    port: u16,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Redis {
    /// A server of our own on a free port; `None` if there is no `redis-server`.
    fn start() -> Option<Redis> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let settings = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"];
        let hashes = ["--hash-max-listpack-entries", "512", "--hash-max-listpack-value", "128"];
        let mut command = Command::new("redis-server");
        command.arg("--port").arg(port.to_string()).args(settings).args(hashes).stdout(Stdio::null()).stderr(Stdio::null());
        let mut redis = Redis { child: command.spawn().ok()?, port };
        let deadline = Instant::now() + START_MS_MAX;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(redis.child.try_wait().unwrap().is_none(), "redis-server ended");
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(redis)
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(REPLY_MS_MAX)).unwrap();
        Client { stream, buffer: BytesMut::new() }
    }
}

struct Client {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Client {
    fn send(&mut self, commands: &[Vec<Bytes>]) {
        let mut out = BytesMut::new();
        commands.iter().for_each(|args| encode_request(args, &mut out));
        self.stream.write_all(&out).unwrap();
    }

    fn reply(&mut self) -> Bytes {
        let mut scanner = FrameScanner::new(1 << 24, 1 << 16);
        loop {
            if let Some(frame) = scanner.scan(&self.buffer).unwrap() {
                return self.buffer.split_to(frame.len).freeze();
            }
            let mut piece = [0; 16 * 1024];
            let read = self.stream.read(&mut piece).expect("redis-server answers");
            assert!(read > 0, "redis-server closed the connection");
            self.buffer.extend_from_slice(&piece[..read]);
        }
    }
}

/// splitmix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What stands in the templates below: K key, F field, V value, N number, R seconds from now, r ms from now, A a time in
/// seconds since 1970, a the same in ms, n an amount that is none, P pairs.
#[rustfmt::skip]
const TEMPLATES: &[&str] = &[
    "GET K", "GET K", "SET K V", "SET K V", "SET K V", "SET K V GET", "SET K V NX", "SET K V XX", "SET K V NX GET",
    "SET K V XX GET", "SET K V EX R", "SET K V PX r", "SET K V EXAT A", "SET K V PXAT a", "SET K V KEEPTTL",
    "SET K V KEEPTTL GET XX", "SET K V EX R NX GET", "SET K V PXAT a XX", "SET K V NX XX", "SET K V EX R KEEPTTL",
    "SET K V KEEPTTL EX R", "SET K V EX R PX r", "SET K V EX R EX R", "SET K V EX", "SET K V EX n", "SET K V PX n",
    "SET K V EXAT n", "SET K V PXAT n", "SET K V FOO", "SET K V ex R xx get", "SETEX K R V", "SETEX K n V", "PSETEX K r V",
    "PSETEX K n V", "SETNX K V", "GETSET K V", "GETDEL K", "GETEX K", "GETEX K EX R", "GETEX K PXAT a", "GETEX K EXAT A",
    "GETEX K PERSIST", "GETEX K EX n", "GETEX K EX R PERSIST", "GETEX K PERSIST EX R", "GETEX K KEEPTTL", "GETEX K NX",
    "GETEX K PERSIST PERSIST", "APPEND K V", "APPEND K V", "STRLEN K", "INCR K", "DECR K", "INCRBY K N", "DECRBY K N",
    "DECRBY K -9223372036854775808", "MGET K K K", "MGET K", "DEL K", "DEL K K K", "UNLINK K K", "EXISTS K K K", "TOUCH K K",
    "TYPE K", "EXPIRE K R", "EXPIRE K n", "PEXPIRE K r", "EXPIREAT K A", "PEXPIREAT K a", "EXPIREAT K A NX", "EXPIREAT K A XX",
    "PEXPIREAT K a GT", "PEXPIREAT K a LT", "EXPIREAT K A GT XX", "EXPIREAT K A NX GT", "EXPIRE K R GT LT", "EXPIRE K R FOO",
    "PEXPIRE K n NX", "EXPIRE K R NX", "TTL K", "PTTL K", "EXPIRETIME K", "PEXPIRETIME K", "PERSIST K", "HSET K P", "HSET K P",
    "HSET K P", "HMSET K P", "HSET K F", "HSETNX K F V", "HGET K F", "HGET K F", "HMGET K F F F", "HGETALL K", "HGETALL K",
    "HDEL K F", "HDEL K F F", "HLEN K", "HSTRLEN K F", "HKEYS K", "HVALS K", "HEXISTS K F", "HINCRBY K F N", "HINCRBY K F N",
    "HINCRBY K F x", "FOO K V", "foo", "PING", "PING V", "PING V V", "ECHO V", "ECHO", "SELECT x", "SELECT 99",
    "SELECT 99999999999", "SELECT 0", "AUTH x", "AUTH default V", "AUTH a b c", "HELLO 4", "HELLO x", "CLIENT", "CLIENT FOO",
    "CLIENT SETNAME a", "CLIENT GETNAME", "CLIENT SETNAME V", "CLIENT ID x", "CLIENT NO-EVICT x", "CONFIG", "CONFIG GET",
    "COMMAND FOO", "COMMAND COUNT x", "CONFIG GET save", "CONFIG GET nothing",
];

const LAYOUTS: [Layout; 6] = [Layout::Key, Layout::Json, Layout::Opaque, Layout::Hash, Layout::Msgpack, Layout::Php];

fn words(random: &mut Random) -> Vec<String> {
    let template = random.pick(TEMPLATES);
    let mut words = Vec::new();
    let value = |random: &mut Random| match random.below(8) {
        0 => random
            .pick(&["", "0", "-0", "01", " 1", "9223372036854775807", "-9223372036854775808", "9223372036854775808"])
            .to_string(),
        1 | 2 => random.below(1000).to_string(),
        3 => format!("{{\"a\":{},\"b\":[1,2], \"c\" : \"x\"}}", random.below(10)),
        4 => "x".repeat(random.below(100)),
        _ => format!("v{}", random.below(100)),
    };
    let number = |random: &mut Random| match random.below(4) {
        0 => random
            .pick(&["x", "", "1.5", "9223372036854775807", "-9223372036854775808", "9223372036854775", "0", "-1", "+1"])
            .to_string(),
        _ => (random.below(2000) as i64 - 1000).to_string(),
    };
    let absolute_s =
        |random: &mut Random| if random.chance(15) { 1000 } else { unix_ms() as usize / 1000 + 50_000 + 1000 * random.below(9) };
    for word in template.split(' ') {
        match word {
            "K" => words.push(format!("k{}", random.below(6))),
            "F" => words.push(format!("f{}", random.below(30))),
            "V" => words.push(value(random)),
            "N" => words.push(number(random)),
            "n" => words.push(
                random
                    .pick(&["x", "", "1.5", "0", "-1", "+1", "9223372036854775807", "-9223372036854775808", "9223372036854775"])
                    .to_string(),
            ),
            "R" => words.push((1000 + random.below(1000)).to_string()),
            "r" => words.push((1_000_000 + random.below(1_000_000)).to_string()),
            "A" => words.push(absolute_s(random).to_string()),
            "a" => words.push((absolute_s(random) * 1000).to_string()),
            "P" => {
                for _ in 0..=random.below(4) {
                    words.push(format!("f{}", random.below(30)));
                    words.push(value(random));
                }
            }
            word => words.push(word.to_string()),
        }
    }
    // Only commands on keys: what `COMMAND` lists and `CLIENT ID` counts differs between servers.
    let on_keys = template.contains('K');
    if on_keys && random.chance(3) {
        words.pop();
    } else if on_keys && random.chance(3) {
        words.push(random.pick(&["x", "GET", "1"]).to_string());
    }
    if words.is_empty() {
        words.push("GET".to_string());
    }
    if random.chance(20) {
        words[0].make_ascii_lowercase();
    }
    words
}

/// What the engine answers.
fn answer(connection: &mut Connection, session: &mut Session, args: Vec<Bytes>) -> Bytes {
    let mut out = BytesMut::new();
    let protocol = connection.protocol;
    match parse(args) {
        Parsed::Connection(command) => {
            connection.run(&command, ServerFacts { password: None, port: 1, uptime_s: 1, clients: 1 }, &mut out);
        }
        Parsed::Keyed(mut op) => {
            for target in op.targets_mut() {
                let number = usize::from(target.key.last().copied().unwrap_or(0));
                (target.layout, target.label) = (LAYOUTS[number % LAYOUTS.len()], Bytes::from_static(b"label"));
            }
            let executed = execute(session, &op, unix_ms(), protocol, &mut out);
            assert!(matches!(executed, Executed::Done { .. }));
        }
        Parsed::Refused(refused) => Reply::new(&mut out, protocol).error(refused.error),
        Parsed::Foreign(foreign) => Reply::new(&mut out, protocol).error(errors::unknown_command(&foreign.args)),
    }
    out.freeze()
}

fn integer(reply: &[u8]) -> Option<i64> {
    std::str::from_utf8(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?).ok()?.parse().ok()
}

fn agree(name: &str, ours: &[u8], theirs: &[u8]) -> bool {
    let tolerance = match name.to_ascii_lowercase().as_str() {
        "ttl" | "expiretime" => TOLERANCE_MS / 1000,
        "pttl" | "pexpiretime" => TOLERANCE_MS,
        _ => return ours == theirs,
    };
    match (integer(ours), integer(theirs)) {
        (Some(a), Some(b)) if a > 0 && b > 0 => (a - b).abs() <= tolerance,
        _ => ours == theirs,
    }
}

fn shorten(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).chars().take(400).collect()
}

fn compare(redis: &Redis, protocol: Protocol, seed: u64) {
    let mut random = Random(seed);
    let mut client = redis.connect();
    let mut connection = Connection::new(1, false);
    let mut session = Session::new(Version(0));
    client.send(&[vec![Bytes::from_static(b"FLUSHALL")]]);
    assert_eq!(client.reply(), "+OK\r\n");
    if protocol == Protocol::Resp3 {
        client.send(&[vec![Bytes::from_static(b"HELLO"), Bytes::from_static(b"3")]]);
        client.reply();
        connection.protocol = protocol;
    }
    for round in 0..COMMANDS / PIPELINE {
        let commands: Vec<Vec<Bytes>> =
            (0..PIPELINE).map(|_| words(&mut random).into_iter().map(Bytes::from).collect()).collect();
        client.send(&commands);
        for (index, args) in commands.into_iter().enumerate() {
            let theirs = client.reply();
            let shown = args.iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect::<Vec<_>>();
            let ours = answer(&mut connection, &mut session, args);
            let name = shown.first().cloned().unwrap_or_default();
            assert!(
                agree(&name, &ours, &theirs),
                "WAYFARER_SEED={seed} {protocol:?} command {}: {shown:?}\n ours   {:?}\n theirs {:?}",
                round * PIPELINE + index,
                shorten(&ours),
                shorten(&theirs),
            );
        }
    }
}

#[test]
fn replies_are_those_of_redis() {
    let Some(redis) = Redis::start() else {
        println!("skipped: there is no redis-server in the path");
        return;
    };
    let seed = std::env::var("WAYFARER_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(unix_ms);
    println!("WAYFARER_SEED={seed}");
    compare(&redis, Protocol::Resp2, seed);
    compare(&redis, Protocol::Resp3, seed);
}

//! Tests of `init` against a real redis-server, filled as the session libraries fill it; and the figures of its estimate.
//!
//! Without `redis-server` in the path a test says so and is skipped.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test reports by panicking")]

use super::*;
use crate::redis_server::RedisServer;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use wayfarer_engine::ids::Digest;

struct Redis {
    server: RedisServer,
    connection: BufReader<TcpStream>,
}

impl Redis {
    /// `None`: there is no redis-server here.
    fn start(more: &[&str]) -> Option<Redis> {
        let server = RedisServer::start(more)?;
        let connection = BufReader::new(TcpStream::connect(server.address()).unwrap());
        Some(Redis { server, connection })
    }

    /// Sends all, then waits for as many replies (of one line each).
    fn all(&mut self, commands: &[Vec<Vec<u8>>]) {
        for chunk in commands.chunks(1000) {
            let mut out = Vec::new();
            for command in chunk {
                out.extend(format!("*{}\r\n", command.len()).into_bytes());
                for word in command {
                    out.extend(format!("${}\r\n", word.len()).into_bytes());
                    out.extend(word);
                    out.extend(b"\r\n");
                }
            }
            self.connection.get_mut().write_all(&out).unwrap();
            for _ in chunk {
                let mut line = String::new();
                self.connection.read_line(&mut line).unwrap();
                assert!(!line.starts_with('-'), "{line}");
            }
        }
    }

    fn set(&mut self, database: u32, key: impl Fn(usize) -> String, value: &[u8], count: usize) {
        let select = vec![b"SELECT".to_vec(), database.to_string().into_bytes()];
        let set = |n| vec![b"SET".to_vec(), key(n).into_bytes(), value.to_vec(), b"EX".to_vec(), b"600".to_vec()];
        let commands: Vec<_> = [select].into_iter().chain((0..count).map(set)).collect();
        self.all(&commands);
    }

    fn hash(&mut self, database: u32, key: impl Fn(usize) -> String, fields: &[&str], count: usize) {
        let select = vec![b"SELECT".to_vec(), database.to_string().into_bytes()];
        let hset = |n| {
            let fields = fields.iter().flat_map(|field| [field.as_bytes().to_vec(), b"value".to_vec()]);
            [b"HSET".to_vec(), key(n).into_bytes()].into_iter().chain(fields).collect()
        };
        let commands: Vec<_> = [select].into_iter().chain((0..count).map(hset)).collect();
        self.all(&commands);
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.server.port)
    }

    /// How many commands that may write it has run.
    fn keys_and_changes(&mut self) -> String {
        self.connection.get_mut().write_all(b"INFO persistence\r\n").unwrap();
        let mut found = String::new();
        loop {
            let mut line = String::new();
            self.connection.read_line(&mut line).unwrap();
            if line.starts_with("rdb_changes_since_last_save") {
                found = line.clone();
            }
            if line.trim().is_empty() {
                return found;
            }
        }
    }
}

/// Hexadecimal digits that look random.
fn hex(n: usize, length: usize) -> String {
    Digest::of(&n.to_be_bytes()).0.iter().map(|b| format!("{b:02x}")).collect::<String>().repeat(2)[..length].to_owned()
}

fn uuid(n: usize) -> String {
    let h = hex(n, 32);
    format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
}

/// Letters and digits with all kinds of letters.
fn letters(n: usize, length: usize) -> String {
    let with_letters = |at: usize, c: char| if at.is_multiple_of(3) { char::from(b'G' + c as u8 % 19) } else { c };
    hex(n, length).chars().enumerate().map(|(at, c)| with_letters(at, c)).collect()
}

async fn found(redis: &Redis, samples: usize) -> (sample::Seen, Vec<library::Found>, Vec<(String, usize)>) {
    let bounds = sample::Bounds { samples, time: Duration::from_secs(60) };
    let seen = look(&Upstream::parse(&redis.url()).unwrap(), &bounds).await.unwrap();
    let (found, rest) = library::find(&seen);
    let others = library::others(&rest);
    (seen, found, others)
}

fn arguments(redis: &str, out: &Path) -> InitArgs {
    InitArgs { redis: redis.to_owned(), samples: 1000, seconds: 60, out: out.to_owned(), force: false, json: false }
}

fn code(exit: ExitCode) -> String {
    format!("{exit:?}")
}

/// What each library writes, as captured from it: preset, key, value.
#[allow(clippy::type_complexity)]
fn libraries() -> Vec<(&'static str, Box<dyn Fn(usize) -> String>, &'static [u8])> {
    vec![
        (
            "connect-redis",
            Box::new(|n| format!("sess:{}", letters(n, 32))),
            b"{\"cookie\":{\"originalMaxAge\":60000,\"httpOnly\":true},\"cart\":[1]}",
        ),
        (
            "fastify-session",
            Box::new(|n| format!("web:{}", letters(n, 32))),
            b"{\"cookie\":{\"expires\":\"2026-11-21T09:00:44.127Z\",\"originalMaxAge\":60000}}",
        ),
        ("koa-session", Box::new(uuid), b"{\"cart\":[1],\"_expire\":1795251643435,\"_maxAge\":60000}"),
        (
            "django",
            Box::new(|n| format!(":1:django.contrib.sessions.cache{}", hex(n, 32))),
            b"\x80\x05\x95\x19\x00\x00\x00}\x94(\x8c\x04cart",
        ),
        (
            "django-redis",
            Box::new(|n| format!(":1:django.contrib.sessions.cache{}", hex(n, 32))),
            b"\x80\x04\x95\x19\x00\x00\x00}\x94(\x8c\x04cart",
        ),
        (
            "flask-session",
            Box::new(|n| format!("session:{}", letters(n, 43))),
            b"\x83\xaa_permanent\xc3\xa4cart\x92\x01\x02\xa4user\xa1u",
        ),
        (
            "starsessions",
            Box::new(|n| format!("starsessions.{}", hex(n, 32))),
            b"{\"a\": 1, \"__metadata__\": {\"lifetime\": 60}}",
        ),
        ("starlette-session", Box::new(uuid), b"\x80\x04\x95\x19\x00\x00"),
        (
            "aiohttp-session",
            Box::new(|n| format!("AIOHTTP_SESSION_{}", hex(n, 32))),
            b"{\"created\": 1795251579, \"session\": {\"a\": 1}}",
        ),
        ("php", Box::new(|n| format!("PHPREDIS_SESSION:{}", hex(n, 32))), b"cart|a:2:{i:0;i:1;i:1;i:2;}user|s:1:\"u\";"),
        ("php", Box::new(|n| format!("APP:{}", hex(n, 32))), b"cart|a:2:{i:0;i:1;i:1;i:2;}user|s:1:\"u\";"),
        ("symfony", Box::new(|n| format!("sf_s{}", hex(n, 32))), b"_sf2_attributes|a:1:{s:1:\"a\";i:1;}"),
        ("laravel", Box::new(|n| format!("shop_database_shop_cache_{}", letters(n, 40))), b"s:20:\"a:1:{s:1:\"a\";i:1;}\";"),
        ("redis-rack", Box::new(|n| format!("rack:session:2::{}", hex(n, 64))), b"\x04\x08{\x07I\"\tcart\x06:\x06ET[\x06i\x06"),
        ("redis-rack", Box::new(|n| format!("2::{}", hex(n, 64))), b"\x04\x08{\x07I\"\tcart\x06:\x06ET[\x06i\x06"),
        ("redistore", Box::new(|n| format!("session_{}", letters(n, 52))), b"\x0e\xff\x81\x04\x01\x02\xff\x82\x00\x01\x10"),
        (
            "scs",
            Box::new(|n| format!("scs:session:{}", letters(n, 43))),
            b"\x3c\xff\x81\x03\x01\x01\x07auxData\x01\xff\x82\x00\x01\x02\x01\x08Deadline",
        ),
        ("tower-sessions", Box::new(|n| letters(n, 22)), b"\x93\xc4\x10u\xdc\xa9cg\xca8!\x97\x14#\x86"),
        ("actix-session", Box::new(|n| letters(n, 64)), b"{\"cart\":\"[1]\"}"),
        ("axum-session", Box::new(|n| format!("sessions:{}", uuid(n))), b"{\"id\":\"x\",\"data\":{},\"longterm\":false}"),
        ("jcoleman-tomcat", Box::new(|n| hex(n, 32).to_uppercase()), b"\xac\xed\x00\x05sr\x00"),
        ("catalyst", Box::new(|n| format!("session:{}", hex(n, 40))), b"BQsDAAAAAQQSfwAAAAVfX3VzZXI=\n"),
    ]
}

#[tokio::test]
async fn each_library_is_named_by_what_it_writes_amid_other_keys() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    for (preset, key, value) in libraries() {
        redis.all(&[vec![b"FLUSHALL".to_vec()]]);
        redis.set(0, key, value, 30);
        redis.set(0, |n| format!("cache:user:{}", uuid(n + 1000)), b"{\"name\":\"al\"}", 40);
        redis.set(0, |n| format!("rate:{n}"), b"17", 40);
        redis.hash(0, |n| format!("job:{n}"), &["state", "payload"], 10);
        let changes = redis.keys_and_changes();
        let (seen, found, others) = found(&redis, 1000).await;
        let names: Vec<_> = found.iter().map(|found| found.preset.map(|preset| preset.name)).collect();
        assert_eq!(names, [Some(preset)], "{:?}", found.iter().map(|f| &f.entry).collect::<Vec<_>>());
        assert_eq!((found[0].sessions, found[0].sampled, found[0].wrong.len()), (30, 30, 0), "{preset}");
        let others: BTreeMap<String, usize> = others.into_iter().collect();
        let expected = [("cache:…", 40), ("job:…", 10), ("rate:…", 40)].map(|(front, n)| (front.to_owned(), n));
        assert_eq!(others, BTreeMap::from(expected), "{preset}");
        assert_eq!(seen.cut_short, None);
        assert_eq!(redis.keys_and_changes(), changes, "init wrote");
    }
}

#[tokio::test]
async fn hashes_are_named_by_their_fields_with_shadow_and_index_keys() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    redis.hash(0, |n| format!("shop:sessions:{}", uuid(n)), &["creationTime", "lastAccessedTime", "sessionAttr:cart"], 20);
    redis.set(0, |n| format!("shop:sessions:expires:{}", uuid(n)), b"", 20);
    redis.set(0, |n| format!("shop:expirations:179525160{n:04}"), b"x", 5);
    redis.hash(1, |n| format!("shop{}", uuid(n)), &["absexp", "sldexp", "data"], 20);
    redis.hash(2, |n| format!("redisson:tomcat_session:{}", hex(n, 32)), &["session:creationTime", "cart"], 20);
    let (_, found, _) = found(&redis, 1000).await;
    let entries: std::collections::BTreeSet<&str> = found.iter().map(|found| found.entry.as_str()).collect();
    let expected = [
        r#"{ preset = "aspnetcore", instance_name = "shop", database = 1 }"#,
        r#"{ preset = "redisson-tomcat", database = 2 }"#,
        r#"{ preset = "spring-session-indexed", namespace = "shop", database = 0 }"#,
    ];
    assert_eq!(entries, expected.into());
    assert!(found.iter().all(|found| found.sessions == 20 && found.wrong.is_empty()));
}

#[tokio::test]
async fn the_configuration_is_right_and_nothing_private_is_in_it() {
    let Some(mut redis) = Redis::start(&["--requirepass", "hunter2"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("wayfarer.toml");
    let with_password = redis.url().replace("redis://", "redis://:hunter2@");
    assert_eq!(code(init(arguments(&redis.url(), &out)).await), code(ExitCode::FAILURE), "no password");
    assert_eq!(code(init(arguments(&with_password.replace("hunter2", "other"), &out)).await), code(ExitCode::FAILURE));
    assert_eq!(code(init(arguments(&with_password, &out)).await), code(ExitCode::FAILURE), "empty");
    assert!(!out.exists());
    redis.all(&[vec![b"AUTH".to_vec(), b"hunter2".to_vec()]]);
    redis.set(0, |n| format!("sess:{}", letters(n, 32)), b"{\"cookie\":{\"path\":\"/\"},\"secret\":\"private\"}", 30);
    redis.set(0, |n| format!("sess:setting{n}"), b"private text", 5);
    assert_eq!(code(init(arguments(&with_password, &out)).await), code(ExitCode::SUCCESS));
    let text = std::fs::read_to_string(&out).unwrap();
    for private in ["hunter2", "private", "setting1", &letters(3, 32)] {
        assert!(!text.contains(private), "{private} in {text}");
    }
    assert!(text.contains("WRONGLY TAKEN: 5 keys such as sess:<alnum:8> look like Text"), "{text}");
    assert!(text.contains("would leave those alone") && text.contains("codec = \"express\""), "{text}");
    // A second time only with --force.
    assert_eq!(code(init(arguments(&with_password, &out)).await), code(ExitCode::from(USAGE)));
    let again = InitArgs { force: true, json: true, ..arguments(&with_password, &out) };
    assert_eq!(code(init(again).await), code(ExitCode::SUCCESS));
    assert_eq!(code(init(arguments("rediss://127.0.0.1:1", &out)).await), code(ExitCode::from(USAGE)));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let elsewhere = folder.path().join("other.toml");
    assert_eq!(code(init(arguments(&format!("redis://{nobody}"), &elsewhere)).await), code(ExitCode::FAILURE), "unreachable");
}

#[tokio::test]
async fn of_many_keys_a_part_is_looked_at_and_the_rest_estimated() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    redis.set(0, |n| format!("cache:{n}"), b"x", 90_000);
    redis.set(0, |n| format!("sess:{}", letters(n, 32)), b"{\"cookie\":{\"path\":\"/\"}}", 10_000);
    let (seen, found, _) = found(&redis, 200).await;
    assert!(seen.samples.len() <= 200 && seen.databases[0].names.len() < 30_000, "{}", seen.samples.len());
    assert_eq!(seen.cut_short, Some("the number of samples"));
    assert_eq!(found.len(), 1);
    assert!((8_000..12_000).contains(&found[0].sessions), "{}", found[0].sessions);
}

//! A connection that hands replies on as they came, RESP2 or RESP3, and what two servers may answer differently.
//!
//! It never converts: two replies are the same if their bytes are, or if a row of [`BY_FORM`] or [`ON_PURPOSE`] says so.

use crate::harness::resp::encode;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any deadline of the sidecar: what takes longer hangs.
const READ_PATIENCE: Duration = Duration::from_secs(30);
/// Two clocks are read at different moments, on a busy machine.
const TOLERANCE_MS: i64 = 5_000;

/// A reply taken apart, nothing left out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frame {
    /// Simple strings, errors, numbers, nulls.
    Line(String),
    /// Its kind, and the bytes.
    Bulk(char, Vec<u8>),
    Many(char, Vec<Frame>),
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Frame::Line(line) => out.write_str(line),
            Frame::Bulk(kind, bytes) => write!(out, "{kind}{:?}", String::from_utf8_lossy(bytes)),
            Frame::Many(kind, items) => write!(out, "{kind}{items:?}"),
        }
    }
}

/// One connection.
pub struct Raw {
    /// Of the server, for messages.
    name: &'static str,
    stream: BufReader<TcpStream>,
}

impl Raw {
    pub fn to(name: &'static str, address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(READ_PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { name, stream: BufReader::new(stream) }
    }

    pub fn call(&mut self, words: &[Vec<u8>]) -> Frame {
        self.stream.get_mut().write_all(&encode(words)).unwrap();
        self.read()
    }

    /// What comes next, asked for or not.
    pub fn read(&mut self) -> Frame {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap_or_else(|error| panic!("nothing came from {}: {error}", self.name));
        let line = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("the connection ended within {line:?}"));
        let kind = line.chars().next().unwrap();
        let count = || line[1..].parse::<i64>().unwrap();
        match kind {
            '$' | '=' | '!' if count() >= 0 => {
                let mut bytes = vec![0; usize::try_from(count()).unwrap() + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                assert_eq!(bytes.split_off(bytes.len() - 2), b"\r\n");
                Frame::Bulk(kind, bytes)
            }
            '*' | '~' | '>' | '%' if count() >= 0 => {
                let items = count() * if kind == '%' { 2 } else { 1 };
                Frame::Many(kind, (0..items).map(|_| self.read()).collect())
            }
            _ => Frame::Line(line.to_owned()),
        }
    }
}

/// How replies are compared whose bytes cannot be the same.
#[derive(Clone, Copy)]
enum Form {
    /// The same names in the same order, with values of the same kinds: times, ids, versions.
    Names,
    /// The same kind of reply.
    Kind,
    /// A text with these lines where Redis has them.
    Lines(&'static [&'static str]),
    /// Numbers that are close.
    Near,
    /// Redis has no order.
    Sorted,
}

/// Command (and subcommand), and what is compared of its reply.
const BY_FORM: &[(&str, Form)] = &[
    ("hello", Form::Names),
    ("client id", Form::Kind),
    ("info", Form::Lines(&["redis_version", "redis_mode", "role", "loading"])),
    ("info server", Form::Lines(&["redis_version", "redis_mode"])),
    ("info replication", Form::Lines(&["role"])),
    ("ttl", Form::Near),
    ("pttl", Form::Near),
    ("smembers", Form::Sorted),
    ("keys", Form::Sorted),
];

/// Command, what Redis answers, what Wayfarer answers (the beginnings, as [`Frame`] shows them), and why.
const ON_PURPOSE: &[(&str, &str, &str, &str)] = &[
    (
        "client setinfo",
        "-ERR unknown subcommand",
        "+OK",
        "Redis has it since 7.2, the server beside is 7.0, and every client of today sends it",
    ),
    ("config get", "*[$\"slave-read-only\"", "*[]", "few parameters are known; a sidecar has no replicas"),
];

/// None if the two replies to a command are as they should be; else what is wrong.
pub fn difference(words: Option<&[Vec<u8>]>, redis: &Frame, ours: &Frame) -> Option<String> {
    if redis == ours {
        return None;
    }
    let text =
        |at: usize| words.and_then(|w| w.get(at)).map_or(String::new(), |w| String::from_utf8_lossy(w).to_ascii_lowercase());
    let (one, two) = (text(0), format!("{} {}", text(0), text(1)));
    let names = |name: &str| name == two || name == one;
    let starts = |frame: &Frame, with: &str| format!("{frame:?}").starts_with(with);
    let is_on_purpose = |row: &(&str, &str, &str, &str)| names(row.0) && starts(redis, row.1) && starts(ours, row.2);
    if ON_PURPOSE.iter().any(is_on_purpose) {
        return None;
    }
    let form = BY_FORM.iter().filter(|row| names(row.0)).max_by_key(|row| row.0.len()).map(|row| row.1);
    let same = form.is_some_and(|form| form.same(redis, ours));
    (!same).then(|| format!("Redis: {redis:?}\nWayfarer: {ours:?}"))
}

impl Form {
    fn same(self, redis: &Frame, ours: &Frame) -> bool {
        match (self, redis, ours) {
            (Form::Names, Frame::Many(a, left), Frame::Many(b, right)) => {
                a == b
                    && left.len() == right.len()
                    && left.chunks(2).zip(right.chunks(2)).all(|(l, r)| l[0] == r[0] && kind(&l[1]) == kind(&r[1]))
            }
            (Form::Kind, ..) => kind(redis) == kind(ours),
            (Form::Lines(names), Frame::Bulk(a, left), Frame::Bulk(b, right)) => {
                a == b && names.iter().all(|name| has_line(left, name) == has_line(right, name))
            }
            (Form::Near, Frame::Line(left), Frame::Line(right)) => {
                let number = |line: &String| line.strip_prefix(':').and_then(|n| n.parse::<i64>().ok());
                let both = number(left).zip(number(right));
                both.is_some_and(|(a, b)| (a < 0) == (b < 0) && (a - b).abs() <= TOLERANCE_MS)
            }
            (Form::Sorted, Frame::Many(a, left), Frame::Many(b, right)) => {
                let sorted = |items: &Vec<Frame>| {
                    let mut items = items.clone();
                    items.sort();
                    items
                };
                a == b && sorted(left) == sorted(right)
            }
            _ => false,
        }
    }
}

fn kind(frame: &Frame) -> char {
    match frame {
        Frame::Line(line) => line.chars().next().unwrap_or(' '),
        Frame::Bulk(kind, _) | Frame::Many(kind, _) => *kind,
    }
}

fn has_line(text: &[u8], name: &str) -> bool {
    String::from_utf8_lossy(text).lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))
}

#[test]
fn only_what_the_tables_name_may_differ() {
    let words = |line: &str| -> Vec<Vec<u8>> { line.split(' ').map(|w| w.as_bytes().to_vec()).collect() };
    let line = |text: &str| Frame::Line(text.to_owned());
    let list = |items: &[&str]| Frame::Many('*', items.iter().map(|i| Frame::Bulk('$', i.as_bytes().to_vec())).collect());
    let differ = |command: &str, a: &Frame, b: &Frame| difference(Some(&words(command)), a, b).is_some();
    assert!(differ("GET a", &line("$-1"), &line("_")));
    assert!(differ("GET a", &Frame::Bulk('$', b"a".to_vec()), &Frame::Bulk('$', b"b".to_vec())));
    assert!(differ("CLIENT SETINFO lib-name x", &line("-ERR other"), &line("+OK")));
    assert!(differ("CLIENT SETNAME x", &line("-ERR no"), &line("+OK")));
    assert!(!differ("PTTL a", &line(":1000"), &line(":998")));
    assert!(differ("PTTL a", &line(":1000"), &line(":-1")));
    assert!(!differ("SMEMBERS a", &list(&["a", "b"]), &list(&["b", "a"])));
    assert!(differ("SMEMBERS a", &list(&["a", "b"]), &list(&["b", "c"])));
    assert!(differ("HMGET a x y", &list(&["a", "b"]), &list(&["b", "a"])));
    let text = |t: &str| Frame::Bulk('=', t.as_bytes().to_vec());
    assert!(!differ("INFO server", &text("\nredis_version:7\r\n"), &text("\nredis_version:8\r\n")));
    assert!(differ("INFO server", &text("\nredis_version:7\r\n"), &text("\nredis_versions:8\r\n")));
}

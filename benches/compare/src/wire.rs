//! Requests of the measurements, and a plain client that loads data and looks at single replies.
//!
//! It never measures. `load` sends the same requests in quantity.
//!
//! | operation | request | data before |
//! |---|---|---|
//! | GET, SET | a string of 512 B | strings |
//! | HGET, HSET | one field of 100 B | hashes of 10 fields of 100 B |
//! | HGETALL | all of them | the same |
//! | birth | HSET of one field into a session that never was | none |
//! | miss | GET of a session that never was | none |
//! | page | HTTP GET with the cookie of a session | hashes, where there are sessions |
//!
//! Invariant: every request of an operation has the same bytes but for the digits of its key, and so has every reply.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Digits of a key's number.
pub const DIGITS: usize = 12;
/// Fields of a hash, and bytes of each.
pub const FIELDS: usize = 10;
pub const FIELD_BYTES: usize = 100;
const STRING_BYTES: usize = 512;
/// The cookie of a page's session, whose hash is `sess:` and its value.
pub const COOKIE: &str = "sid";
/// Requests that are sent before their replies are read, while data is loaded.
const LOAD_BATCH: u64 = 200;

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Get,
    Set,
    Hget,
    Hset,
    Hgetall,
    Birth,
    Miss,
    Page,
}

/// The operations whose cost is compared.
pub const COMPARED: [Operation; 5] = [Operation::Get, Operation::Set, Operation::Hget, Operation::Hset, Operation::Hgetall];
const OTHERS: [Operation; 3] = [Operation::Birth, Operation::Miss, Operation::Page];

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Operation::Get => "GET",
            Operation::Set => "SET",
            Operation::Hget => "HGET",
            Operation::Hset => "HSET",
            Operation::Hgetall => "HGETALL",
            Operation::Birth => "birth",
            Operation::Miss => "miss",
            Operation::Page => "page",
        }
    }

    pub fn named(name: &str) -> Option<Operation> {
        COMPARED.into_iter().chain(OTHERS).find(|operation| operation.name() == name)
    }

    /// The first bytes of a reply that say whether it is the right one: a type of RESP, or an HTTP status.
    pub fn mark_bytes(self) -> usize {
        if self == Operation::Page { "HTTP/1.1 200".len() } else { 1 }
    }

    /// The request for key 0 of a space, and where the digits of its number are.
    pub fn request(self, space: u64) -> (Vec<u8>, usize) {
        if self == Operation::Page {
            let id = format!("h{:0width$}", 0, width = DIGITS);
            let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {COOKIE}={id}\r\n\r\n").into_bytes();
            let place = find(&request, id.as_bytes()) + 1;
            return (request, place);
        }
        let prefix = match self {
            Operation::Get | Operation::Set => "sess:s",
            Operation::Hget | Operation::Hset | Operation::Hgetall => "sess:h",
            Operation::Birth => &format!("sess:b{space}-"),
            Operation::Miss | Operation::Page => "sess:never",
        };
        let key = format!("{prefix}{:0width$}", 0, width = DIGITS);
        let (string, field) = ("s".repeat(STRING_BYTES), "v".repeat(FIELD_BYTES));
        let words: Vec<&str> = match self {
            Operation::Get | Operation::Miss | Operation::Page => vec!["GET", &key],
            Operation::Set => vec!["SET", &key, &string],
            Operation::Hget => vec!["HGET", &key, "field5"],
            Operation::Hset => vec!["HSET", &key, "field5", &field],
            Operation::Hgetall => vec!["HGETALL", &key],
            Operation::Birth => vec!["HSET", &key, "field0", &field],
        };
        let request = encode(&words);
        let place = find(&request, key.as_bytes()) + prefix.len();
        (request, place)
    }
}

fn find(text: &[u8], part: &[u8]) -> usize {
    text.windows(part.len()).position(|window| window == part).unwrap_or(0)
}

/// Writes a number over the digits at `place`.
pub fn number(request: &mut [u8], place: usize, mut n: u64) {
    for digit in request[place..place + DIGITS].iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

/// A command in RESP.
pub fn encode(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    out
}

/// One connection that waits for each reply.
pub struct Plain(BufReader<TcpStream>);

impl Plain {
    pub fn connect(port: u16) -> Result<Plain, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| format!("cannot connect to port {port}: {e}"))?;
        let patient = stream.set_read_timeout(Some(Duration::from_secs(60))).and_then(|()| stream.set_nodelay(true));
        patient.map_err(|e| format!("cannot set up a connection: {e}"))?;
        Ok(Plain(BufReader::with_capacity(1 << 16, stream)))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.get_mut().write_all(bytes).map_err(|e| format!("a server takes no more: {e}"))
    }

    /// Sends a request and reads its whole reply: of RESP any type but nested lists, of HTTP a body with its length.
    pub fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>, String> {
        self.send(request)?;
        let mut reply = Vec::new();
        self.element(&mut reply)?;
        if reply.starts_with(b"HTTP/") {
            self.page(&mut reply)?;
        }
        Ok(reply)
    }

    /// What follows an HTTP status.
    fn page(&mut self, reply: &mut Vec<u8>) -> Result<(), String> {
        let mut length = None;
        loop {
            let at = reply.len();
            self.0.read_until(b'\n', reply).map_err(|e| format!("half a header: {e}"))?;
            let line = String::from_utf8_lossy(&reply[at..]).trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            length = line.strip_prefix("content-length:").and_then(|n| n.trim().parse::<usize>().ok()).or(length);
        }
        let start = reply.len();
        reply.resize(start + length.ok_or("an answer without its length")?, 0);
        self.0.read_exact(&mut reply[start..]).map_err(|e| format!("half an answer: {e}"))
    }

    fn element(&mut self, reply: &mut Vec<u8>) -> Result<(), String> {
        let at = reply.len();
        self.0.read_until(b'\n', reply).map_err(|e| format!("no reply: {e}"))?;
        let line = String::from_utf8_lossy(&reply[at..]).trim_end().to_owned();
        let count = || line.get(1..).and_then(|n| n.parse::<i64>().ok()).unwrap_or(-1);
        match line.bytes().next() {
            Some(b'$') if count() >= 0 => {
                let start = reply.len();
                reply.resize(start + count() as usize + 2, 0);
                self.0.read_exact(&mut reply[start..]).map_err(|e| format!("half a reply: {e}"))
            }
            Some(b'*') => (0..count().max(0)).try_for_each(|_| self.element(reply)),
            Some(_) => Ok(()),
            None => Err("a server has closed the connection".to_owned()),
        }
    }

    /// Sends one request for each number in batches; every reply must be `expected`.
    pub fn load(&mut self, numbers: std::ops::Range<u64>, request: &[u8], place: usize, expected: &str) -> Result<(), String> {
        let (mut request, mut from) = (request.to_vec(), numbers.start);
        while from < numbers.end {
            let batch = from..numbers.end.min(from + LOAD_BATCH);
            let mut bytes = Vec::new();
            for n in batch.clone() {
                number(&mut request, place, n);
                bytes.extend_from_slice(&request);
            }
            self.send(&bytes)?;
            for _ in batch.clone() {
                let mut reply = Vec::new();
                self.element(&mut reply)?;
                if reply != expected.as_bytes() {
                    return Err(format!("while loading: {}", String::from_utf8_lossy(&reply).trim_end()));
                }
            }
            from = batch.end;
        }
        Ok(())
    }

    /// Loads `count` strings.
    pub fn load_strings(&mut self, count: u64) -> Result<(), String> {
        let (request, place) = Operation::Set.request(0);
        self.load(0..count, &request, place, "+OK\r\n")
    }

    /// Loads hashes of [`FIELDS`] fields.
    pub fn load_hashes(&mut self, numbers: std::ops::Range<u64>) -> Result<(), String> {
        self.load_hashes_of(numbers, FIELDS, FIELD_BYTES)
    }

    /// Loads hashes of so many fields of so many bytes.
    pub fn load_hashes_of(&mut self, numbers: std::ops::Range<u64>, fields: usize, bytes: usize) -> Result<(), String> {
        let key = format!("sess:h{:0width$}", 0, width = DIGITS);
        let names: Vec<String> = (0..fields).map(|n| format!("field{n}")).collect();
        let value = "v".repeat(bytes);
        let mut words = vec!["HSET", &key];
        names.iter().for_each(|name| words.extend([name.as_str(), &value]));
        let request = encode(&words);
        let place = find(&request, key.as_bytes()) + "sess:h".len();
        self.load(numbers, &request, place, &format!(":{fields}\r\n"))
    }
}

impl Plain {
    /// Loads hashes that have only the field that HGET asks for, each with an expiry that does not come.
    pub fn load_hashes_of_one(&mut self, numbers: std::ops::Range<u64>) -> Result<(), String> {
        let (request, place) = Operation::Hset.request(0);
        self.load(numbers.clone(), &request, place, ":1\r\n")?;
        let key = format!("sess:h{:0width$}", 0, width = DIGITS);
        let request = encode(&["PEXPIRE", &key, "86400000"]);
        let place = find(&request, key.as_bytes()) + "sess:h".len();
        self.load(numbers, &request, place, ":1\r\n")
    }
}

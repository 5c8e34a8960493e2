//! Stores for the tests: a real Redis, and an in-memory server with faults that can be switched on, which speaks as much RESP as
//! the shop needs.
//!
//! It never runs outside the tests. Invariant: without a fault it is an atomic store.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, dead_code)]

#[path = "../../../../tests/harness/redis_server.rs"]
mod redis_server;

use redis_server::RedisServer;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use wayfarer_demo::world::{Background, spawn};

/// What goes wrong, and from which occurrence on (once).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// An HSET of `cart` is acknowledged and not done.
    DropWrite,
    /// A read of `user` returns the value before the last one.
    OldValue,
    /// A value has one byte changed.
    FlipByte,
    /// HINCRBY answers and does not store.
    LoseCount,
    /// DEL is acknowledged and not done.
    KeepDeleted,
    /// One operation is refused.
    TryAgain,
}

/// A real Redis on a free port; it ends when dropped.
pub struct Redis {
    pub url: String,
    _server: RedisServer,
}

impl Redis {
    pub async fn start() -> Self {
        let server = RedisServer::start(&[]);
        let server = server.unwrap_or_else(|| panic!("this test needs redis-server (Debian: apt install redis-server)"));
        Self { url: format!("redis://127.0.0.1:{}/", server.port), _server: server }
    }
}

#[derive(Default)]
struct World {
    now: HashMap<Vec<u8>, HashMap<Vec<u8>, Vec<u8>>>,
    before: HashMap<(Vec<u8>, Vec<u8>), Vec<u8>>,
    chances: u32,
    done: bool,
}

/// A fault happens at this occurrence of the operation that it concerns.
const AT_CHANCE: u32 = 40;

pub struct FaultyStore {
    pub url: String,
    world: Arc<Mutex<World>>,
    _listener: Background,
}

impl FaultyStore {
    pub async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/", listener.local_addr().unwrap());
        let world = Arc::new(Mutex::new(World::default()));
        let served = Arc::clone(&world);
        let accept = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                spawn(serve(stream, Arc::clone(&served), fault));
            }
        };
        Self { url, world, _listener: Background::start(accept) }
    }

    /// Whether its fault has happened.
    pub fn has_struck(&self) -> bool {
        self.world.lock().unwrap().done
    }
}

async fn serve(stream: TcpStream, world: Arc<Mutex<World>>, fault: Fault) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    while let Some(command) = read_command(&mut stream).await {
        let reply = world.lock().unwrap().execute(&command, fault);
        if stream.get_mut().write_all(&reply).await.is_err() {
            return;
        }
    }
}

async fn read_command(stream: &mut BufReader<TcpStream>) -> Option<Vec<Vec<u8>>> {
    let count = read_number(stream, '*').await?;
    let mut command = Vec::new();
    for _ in 0..count {
        let length = read_number(stream, '$').await?;
        let mut word = vec![0; length + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(length);
        command.push(word);
    }
    Some(command)
}

async fn read_number(stream: &mut BufReader<TcpStream>, kind: char) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.strip_prefix(kind)?.trim_end().parse().ok()
}

impl World {
    fn strike(&mut self, wanted: Fault, fault: Fault) -> bool {
        if wanted != fault || self.done {
            return false;
        }
        self.chances += 1;
        self.done = self.chances >= AT_CHANCE;
        self.done
    }

    fn execute(&mut self, command: &[Vec<u8>], fault: Fault) -> Vec<u8> {
        let name = String::from_utf8_lossy(&command[0]).to_ascii_uppercase();
        let key = command.get(1).cloned().unwrap_or_default();
        if matches!(name.as_str(), "HGET" | "HMGET") && self.strike(Fault::TryAgain, fault) {
            return b"-TRYAGAIN the session is on its way\r\n".to_vec();
        }
        match name.as_str() {
            "CLIENT" | "SELECT" => b"+OK\r\n".to_vec(),
            "PING" => b"+PONG\r\n".to_vec(),
            "EXPIRE" => b":1\r\n".to_vec(),
            "DEL" => {
                if !self.strike_delete(fault) {
                    self.now.remove(&key);
                }
                b":1\r\n".to_vec()
            }
            "HSET" => {
                for pair in command[2..].chunks(2) {
                    if pair[0] == b"cart" && self.strike(Fault::DropWrite, fault) {
                        continue;
                    }
                    let old = self.now.entry(key.clone()).or_default().insert(pair[0].clone(), pair[1].clone());
                    if let Some(old) = old {
                        self.before.insert((key.clone(), pair[0].clone()), old);
                    }
                }
                b":1\r\n".to_vec()
            }
            "HINCRBY" => {
                let hash = self.now.entry(key.clone()).or_default();
                let count = hash.get(&command[2]).map_or(0, |text| String::from_utf8_lossy(text).parse().unwrap()) + 1i64;
                if !self.strike(Fault::LoseCount, fault) {
                    self.now.get_mut(&key).unwrap().insert(command[2].clone(), count.to_string().into_bytes());
                }
                format!(":{count}\r\n").into_bytes()
            }
            "HGET" => bulk(self.read(&key, &command[2], fault)),
            "HMGET" => {
                let fields = &command[2..];
                let mut reply = format!("*{}\r\n", fields.len()).into_bytes();
                fields.iter().for_each(|field| reply.extend(bulk(self.read(&key, field, fault))));
                reply
            }
            "HGETALL" => {
                let hash = self.now.get(&key).cloned().unwrap_or_default();
                let mut reply = format!("*{}\r\n", hash.len() * 2).into_bytes();
                for (field, value) in hash {
                    reply.extend(bulk(Some(field)));
                    reply.extend(bulk(Some(value)));
                }
                reply
            }
            other => format!("-ERR unknown command '{other}'\r\n").into_bytes(),
        }
    }

    fn strike_delete(&mut self, fault: Fault) -> bool {
        // Few sessions end in a short run, so the first one counts.
        if fault == Fault::KeepDeleted && !self.done {
            self.done = true;
            return true;
        }
        false
    }

    fn read(&mut self, key: &[u8], field: &[u8], fault: Fault) -> Option<Vec<u8>> {
        let mut value = self.now.get(key).and_then(|hash| hash.get(field)).cloned();
        let old = self.before.get(&(key.to_vec(), field.to_vec())).cloned();
        if field == b"user" && old.is_some() && self.strike(Fault::OldValue, fault) {
            return old;
        }
        if let Some(bytes) = &mut value
            && self.strike(Fault::FlipByte, fault)
        {
            *bytes.last_mut().unwrap() ^= 0x20;
        }
        value
    }
}

fn bulk(value: Option<Vec<u8>>) -> Vec<u8> {
    match value {
        Some(bytes) => [format!("${}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat(),
        None => b"$-1\r\n".to_vec(),
    }
}

/// Polls `condition` until it holds; fails after a minute, so that a busy machine is no failure.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let mut beat = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..6000 {
        if condition() {
            return;
        }
        beat.tick().await;
    }
    panic!("{what} did not happen within a minute");
}

//! A `redis-server` of the test's own, and a client of it.
//!
//! It never listens beyond loopback and never outlives its owner.

#[path = "../../../../tests/harness/redis_server.rs"]
mod redis_server;

use bytes::{Bytes, BytesMut};
use redis_server::RedisServer;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use wayfarer_engine::command::encode_request;
use wayfarer_engine::wire::resp::FrameScanner;

const REPLY_MS_MAX: Duration = Duration::from_secs(20);

/// A running server, whose small hashes keep the order of their fields.
pub struct Redis(RedisServer);

impl Redis {
    /// A server of our own on a free port; `None`, with the reason said, if there is no `redis-server`.
    pub fn start() -> Option<Redis> {
        let hashes = ["--hash-max-listpack-entries", "512", "--hash-max-listpack-value", "8192"];
        RedisServer::start(&hashes).map(Redis)
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.0.address()).unwrap();
        stream.set_read_timeout(Some(REPLY_MS_MAX)).unwrap();
        Client { stream, buffer: BytesMut::new() }
    }
}

/// A connection to it.
pub struct Client {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Client {
    /// Sends commands at once.
    pub fn send(&mut self, commands: &[Vec<Bytes>]) {
        let mut out = BytesMut::new();
        commands.iter().for_each(|args| encode_request(args, &mut out));
        self.stream.write_all(&out).unwrap();
    }

    /// The next reply, whole.
    pub fn reply(&mut self) -> Bytes {
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

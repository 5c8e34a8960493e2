//! A `redis-server` of the test's own, and a client of it.
//!
//! It never listens beyond loopback and never outlives its owner.

use bytes::{Bytes, BytesMut};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use wayfarer_engine::command::encode_request;
use wayfarer_engine::wire::resp::FrameScanner;

const START_MS_MAX: Duration = Duration::from_secs(10);
const REPLY_MS_MAX: Duration = Duration::from_secs(20);

/// A running server.
pub struct Redis {
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
    pub fn start() -> Option<Redis> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let settings = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"];
        let hashes = ["--hash-max-listpack-entries", "512", "--hash-max-listpack-value", "8192"];
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

    /// A new connection.
    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
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

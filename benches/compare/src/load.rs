//! The load generator: one thread, one process, pinned by whoever starts it.
//!
//! It never decides what is compared. `measure` starts it as `wayfarer-compare load …` and reads the one line of JSON that it
//! prints.
//!
//! *Closed*: every connection always has one batch of `pipeline` requests under way; the latency is that of the batch.
//! *Open* (`rate` > 0): requests are due at a steady rate whatever the server does, and the latency counts from when one was due,
//! so that a server that stalls is not asked less (no coordinated omission).
//!
//! A reply is counted by its bytes, which are as many for every request of an operation, and how each begins is looked at. Invariant: an answer that is not the expected one ends the measurement with an error.

use crate::clock::now;
use crate::wire::{Operation, Plain, number};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    pub port: u16,
    pub operation: Operation,
    pub connections: usize,
    pub pipeline: usize,
    pub seconds: f64,
    /// Requests a second; 0: as fast as the server answers.
    pub rate: u64,
    /// Keys to choose from; births and misses count upwards instead.
    pub keys: u64,
    /// Tells the births of one measurement from those of another.
    pub space: u64,
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    unsent: usize,
    /// Bytes of replies that are still to come, and since when the batch is due.
    awaited: usize,
    since: Instant,
}

struct Run<'a> {
    load: &'a Load,
    one: Vec<u8>,
    place: usize,
    reply: Vec<u8>,
    random: u64,
    next: u64,
    latencies_us: Vec<u32>,
    done: u64,
}

/// Sends the load and says what came of it.
pub fn run(load: &Load) -> Result<serde_json::Value, String> {
    let (one, place) = load.operation.request(load.space);
    let mut first = one.clone();
    // The reply to the first request of an operation is that to all; for a birth its key is one that is not used again.
    number(&mut first, place, if load.operation == Operation::Birth { 999_999_999_999 } else { 0 });
    let reply = Plain::connect(load.port)?.ask(&first)?;
    if reply.first() == Some(&b'-') || (load.operation == Operation::Page && !reply.starts_with(b"HTTP/1.1 200")) {
        return Err(String::from_utf8_lossy(&reply).trim_end().to_owned());
    }
    let seed = 0x9e37_79b9_7f4a_7c15 ^ (u64::from(std::process::id()) << 17);
    let mut run = Run { load, one, place, reply, random: seed, next: 0, latencies_us: Vec::new(), done: 0 };
    let seconds = run.go()?;
    run.latencies_us.sort_unstable();
    let part = |p: f64| run.latencies_us.get((run.latencies_us.len() as f64 * p) as usize).copied().unwrap_or(0);
    Ok(serde_json::json!({
        "operations": run.done, "seconds": seconds, "p50_us": part(0.50), "p99_us": part(0.99), "p999_us": part(0.999),
    }))
}

impl Run<'_> {
    fn go(&mut self) -> Result<f64, String> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| format!("epoll: {e}"))?;
        let mut connections = Vec::new();
        for at in 0..self.load.connections {
            let stream = TcpStream::connect(("127.0.0.1", self.load.port)).map_err(|e| format!("cannot connect: {e}"))?;
            stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).map_err(|e| format!("socket: {e}"))?;
            let (data, flags) = (epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN);
            epoll::add(&epoll, &stream, data, flags).map_err(|e| format!("epoll: {e}"))?;
            connections.push(Connection { stream, request: Vec::new(), unsent: 0, awaited: 0, since: now() });
        }
        let start = now();
        let end = start + Duration::from_secs_f64(self.load.seconds);
        let mut idle: VecDeque<usize> = (0..connections.len()).collect();
        let (mut begun, mut buffer, mut events) = (0u64, vec![0u8; 1 << 17], Vec::with_capacity(256));
        loop {
            let time = now();
            if time >= end && idle.len() == connections.len() {
                return Ok((time - start).as_secs_f64());
            }
            if time > end + Duration::from_secs(20) {
                return Err("a server has not answered for 20 s".to_owned());
            }
            while time < end && !idle.is_empty() {
                let due = if self.load.rate == 0 {
                    time
                } else {
                    start + Duration::from_secs_f64(begun as f64 / self.load.rate as f64)
                };
                if due > time || due >= end {
                    break;
                }
                let Some(at) = idle.pop_front() else { break };
                self.begin(&mut connections[at], due)?;
                begun += 1;
            }
            events.clear();
            let nap = Timespec { tv_sec: 0, tv_nsec: if self.load.rate == 0 { 100_000_000 } else { 200_000 } };
            match epoll::wait(&epoll, spare_capacity(&mut events), Some(&nap)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(format!("epoll: {error}")),
            }
            for event in &events {
                let at = event.data.u64() as usize;
                if self.receive(&mut connections[at], &mut buffer)? {
                    let over = self.load.rate > 0 || now() >= end;
                    if over { idle.push_back(at) } else { self.begin(&mut connections[at], now())? }
                }
            }
        }
    }

    fn begin(&mut self, connection: &mut Connection, due: Instant) -> Result<(), String> {
        let (length, pipeline) = (self.one.len(), self.load.pipeline);
        if connection.request.is_empty() {
            connection.request = self.one.repeat(pipeline);
        }
        for at in 0..pipeline {
            let n = self.choose();
            number(&mut connection.request, at * length + self.place, n);
        }
        (connection.unsent, connection.awaited, connection.since) = (connection.request.len(), self.reply.len() * pipeline, due);
        send(connection)
    }

    fn choose(&mut self) -> u64 {
        if matches!(self.load.operation, Operation::Birth | Operation::Miss) {
            self.next += 1;
            return self.next;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % self.load.keys.max(1)
    }

    /// Reads what has come. True: the batch is answered.
    fn receive(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> Result<bool, String> {
        if connection.unsent > 0 {
            send(connection)?;
        }
        let got = match connection.stream.read(buffer) {
            Ok(0) => return Err("a server has closed a connection".to_owned()),
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(format!("a connection broke: {error}")),
        };
        if got > connection.awaited {
            return Err("a server says more than it was asked".to_owned());
        }
        let (length, total) = (self.reply.len(), self.reply.len() * self.load.pipeline);
        let seen = total - connection.awaited;
        let first_start = seen.div_ceil(length) * length - seen;
        for start in (first_start..got).step_by(length) {
            let end = got.min(start + self.load.operation.mark_bytes());
            if !self.reply.starts_with(&buffer[start..end]) {
                return Err(format!("unexpected: {}", String::from_utf8_lossy(&buffer[start..got.min(start + 80)])));
            }
        }
        connection.awaited -= got;
        if connection.awaited == 0 {
            self.done += self.load.pipeline as u64;
            self.latencies_us.push(u32::try_from((now() - connection.since).as_micros()).unwrap_or(u32::MAX));
        }
        Ok(connection.awaited == 0)
    }
}

/// Sends as much as the socket takes; the rest goes when replies come, for a full socket has replies under way.
fn send(connection: &mut Connection) -> Result<(), String> {
    while connection.unsent > 0 {
        let from = connection.request.len() - connection.unsent;
        match connection.stream.write(&connection.request[from..]) {
            Ok(sent) => connection.unsent -= sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(format!("a connection broke: {error}")),
        }
    }
    Ok(())
}

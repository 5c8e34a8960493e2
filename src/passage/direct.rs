//! Operations on sessions that nobody owns and nobody may claim, performed at the upstream byte for byte, each as a whole.
//!
//! It never decides that one may go there: whoever calls holds a [`super::Pass`]. What a client of the state face sends while the
//! mode is `observe` goes through that client's own connection instead; here is the rest: what was on its way when the mode changed.
//!
//! | operation | at the upstream |
//! |---|---|
//! | a command, a script | itself |
//! | stamps of watched keys | a script that gives a fingerprint and the expiry of each key |
//! | a transaction | `WATCH` and the same script, if keys are watched; then `MULTI`, its commands, `EXEC` |
//!
//! Bounds: [`AT_ONCE_MAX`] operations, [`IDLE_MAX`] idle connections, the time and the bytes of a reply.
//! Invariant: a transaction runs whole or not at all, and a key whose stamp differs has changed.

use crate::upstream::{Dialer, ELEMENTS_MAX, Wire};
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use wayfarer_engine::command::compound::{Form, database_of};
use wayfarer_engine::command::{Op, Target, encode_request};
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_engine::wire::resp::{FrameScanner, Protocol, Reply};

/// Operations that are performed at once; more wait for a place.
const AT_ONCE_MAX: usize = 64;
/// Connections that are kept for the next operation.
const IDLE_MAX: usize = 16;
/// `fingerprint.lua` comes before it: equal stamps for equal contents, types and expiries; none for a key that is not there.
const STAMPS: &str = "
local stamps = {}
for i, key in ipairs(KEYS) do
  local found, kind = fingerprint(key)
  local expiry = redis.pcall('PEXPIRETIME', key)
  stamps[i] = kind == 'none' and '' or ('at rest ' .. found .. ' ' .. (type(expiry) == 'number' and string.format('%.0f', expiry) or ''))
end
return stamps";

/// A connection in a database and a protocol.
struct Idle {
    database: u8,
    protocol: Protocol,
    stream: Wire,
}

/// See the head of this file.
pub struct Direct {
    dialer: Arc<Dialer>,
    patience: Duration,
    reply_bytes_max: usize,
    idle: Mutex<Vec<Idle>>,
    places: Semaphore,
}

impl Direct {
    /// Not connected yet. A reply is waited for at most `patience`.
    pub fn new(dialer: Arc<Dialer>, patience: Duration, reply_bytes_max: usize) -> Direct {
        Direct { dialer, patience, reply_bytes_max, idle: Mutex::default(), places: Semaphore::new(AT_ONCE_MAX) }
    }

    /// Performs an operation; `None`: the upstream did not answer, and whether it ran is unknown.
    pub async fn run(&self, op: &Op, protocol: Protocol) -> Option<Bytes> {
        match tokio::time::timeout(self.patience, self.perform(op, protocol)).await {
            Ok(Ok(reply)) => Some(reply),
            Ok(Err(error)) => {
                tracing::debug!(kind = ?error.kind(), "the upstream did not answer an operation on a session at rest");
                None
            }
            Err(_) => None,
        }
    }

    async fn perform(&self, op: &Op, protocol: Protocol) -> io::Result<Bytes> {
        let _place = self.places.acquire().await.map_err(io::Error::other)?;
        let database = op.targets().first().map_or(0, |target| database_of(&target.key).0);
        let kept = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let at = idle.iter().position(|one| one.database == database && one.protocol == protocol);
            at.map(|at| idle.swap_remove(at).stream)
        };
        // One that the upstream has closed meanwhile would fail an operation that it never saw.
        let stream = match kept.and_then(|mut wire| wire.is_quiet().then_some(wire)) {
            Some(stream) => stream,
            None => self.dialer.dial(protocol, database).await?,
        };
        let mut talk = Talk { stream, input: BytesMut::new(), bytes_max: self.reply_bytes_max };
        let reply = talk.perform(op, protocol).await?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && talk.input.is_empty() {
            idle.push(Idle { database, protocol, stream: talk.stream });
        }
        Ok(reply)
    }
}

/// One conversation.
struct Talk {
    stream: Wire,
    input: BytesMut,
    bytes_max: usize,
}

impl Talk {
    async fn perform(&mut self, op: &Op, protocol: Protocol) -> io::Result<Bytes> {
        match op.form() {
            Form::Single => self.last_of(&[op.args().to_vec()]).await,
            Form::Stamps => self.last_of(&[stamps_of(op.targets())]).await,
            Form::Transaction { watched, ops } => {
                if !watched.is_empty() && !self.is_unchanged(watched).await? {
                    self.last_of(&[vec![Bytes::from_static(b"UNWATCH")]]).await?;
                    let mut out = BytesMut::new();
                    Reply::new(&mut out, protocol).null_array();
                    return Ok(out.freeze());
                }
                let mut requests = vec![vec![Bytes::from_static(b"MULTI")]];
                requests.extend(ops.iter().map(|op| op.args().to_vec()));
                requests.push(vec![Bytes::from_static(b"EXEC")]);
                self.last_of(&requests).await
            }
        }
    }

    async fn is_unchanged(&mut self, watched: &[(Target, Bytes)]) -> io::Result<bool> {
        let targets: Vec<Target> = watched.iter().map(|(target, _)| target.clone()).collect();
        let watch = [Bytes::from_static(b"WATCH")].into_iter().chain(targets.iter().map(|t| database_of(&t.key).1)).collect();
        let reply = self.last_of(&[watch, stamps_of(&targets)]).await?;
        let stamps = elements(&reply, targets.len()).unwrap_or_default();
        let bulk = |stamp: &Bytes| {
            let mut out = BytesMut::new();
            Reply::new(&mut out, Protocol::Resp2).bulk(stamp);
            out
        };
        Ok(stamps.len() == watched.len() && stamps.iter().zip(watched).all(|(now, (_, seen))| bulk(seen).as_ref() == *now))
    }

    /// Sends requests and gives the reply to the last one.
    async fn last_of(&mut self, requests: &[Vec<Bytes>]) -> io::Result<Bytes> {
        let mut outgoing = BytesMut::new();
        requests.iter().for_each(|request| encode_request(request, &mut outgoing));
        self.stream.write_all(&outgoing).await?;
        self.stream.flush().await?;
        let mut last = Bytes::new();
        for _ in requests {
            last = self.reply().await?;
        }
        Ok(last)
    }

    async fn reply(&mut self) -> io::Result<Bytes> {
        let mut scanner = FrameScanner::new(self.bytes_max, ELEMENTS_MAX);
        loop {
            match scanner.scan(&self.input).map_err(io::Error::other)? {
                Some(frame) => {
                    let reply = self.input.split_to(frame.len.min(self.input.len())).freeze();
                    if !frame.push {
                        return Ok(reply);
                    }
                    scanner = FrameScanner::new(self.bytes_max, ELEMENTS_MAX);
                }
                None if self.stream.read_buf(&mut self.input).await? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => {}
            }
        }
    }
}

fn stamps_of(targets: &[Target]) -> Vec<Bytes> {
    let text = [crate::rest::FINGERPRINT, STAMPS].concat();
    let before = [Bytes::from_static(b"EVAL"), Bytes::from(text), Bytes::from(targets.len().to_string())];
    before.into_iter().chain(targets.iter().map(|target| database_of(&target.key).1)).collect()
}

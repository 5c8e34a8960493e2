//! What waits for one subscriber: messages in order, up to a number of bytes.
//!
//! It never waits for the subscriber: who does not read in time loses its connection, as in Redis, and costs nobody else.
//! The registry puts in, the client's connection takes out.
//!
//! Invariant: *everything is bounded*: no more than `bytes_max` of messages wait, and after an overflow none.

use crate::telemetry::names;
use bytes::Bytes;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What a message costs beside its bytes.
const OVERHEAD_BYTES: usize = 64;

/// One message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The pattern that matched; `None`: the channel itself is subscribed.
    pub pattern: Option<Bytes>,
    /// Where it was published.
    pub channel: Bytes,
    /// What.
    pub payload: Bytes,
}

impl std::fmt::Debug for Message {
    // A channel may be the name of a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({} B)", self.payload.len())
    }
}

impl Message {
    fn size_bytes(&self) -> usize {
        let pattern = self.pattern.as_ref().map_or(0, Bytes::len);
        OVERHEAD_BYTES.saturating_add(pattern).saturating_add(self.channel.len()).saturating_add(self.payload.len())
    }
}

/// More waited than may; the messages are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overflow;

#[derive(Default)]
struct Waiting {
    messages: Vec<Message>,
    bytes: usize,
    overflowed: bool,
}

/// See the head of this file.
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    ready: Notify,
    overflow: Notify,
    bytes_max: usize,
}

impl Mailbox {
    pub(super) fn new(bytes_max: usize) -> Mailbox {
        Mailbox { waiting: Mutex::default(), ready: Notify::new(), overflow: Notify::new(), bytes_max }
    }

    pub(super) fn put(&self, message: Message) {
        let mut waiting = self.waiting();
        if waiting.overflowed {
            return;
        }
        waiting.bytes = waiting.bytes.saturating_add(message.size_bytes());
        if waiting.bytes > self.bytes_max {
            metrics::counter!(names::SUBSCRIBERS_OVERFLOWED).increment(1);
            *waiting = Waiting { overflowed: true, ..Waiting::default() };
            self.overflow.notify_one();
        } else {
            waiting.messages.push(message);
        }
        drop(waiting);
        self.ready.notify_one();
    }

    /// Waits until something has come since the last look. Only one waits at a time.
    pub(super) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Waits until more has come than may wait: also who takes nothing now must hear of it.
    pub(super) async fn overflow(&self) {
        self.overflow.notified().await;
    }

    pub(super) fn take(&self) -> Result<Vec<Message>, Overflow> {
        let mut waiting = self.waiting();
        if waiting.overflowed {
            return Err(Overflow);
        }
        Ok(std::mem::take(&mut *waiting).messages)
    }

    /// Nothing in here panics with the lock held.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

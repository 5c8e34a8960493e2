//! The queue of one lane to one peer: frames that wait for the connection, already encoded, in order.
//!
//! It never waits and never does I/O. [`super::Control::send`] appends, the lane's task takes all that is there at once: what
//! many handovers have to say in one moment crosses in one write.
//!
//! | standing | append | set by |
//! |---|---|---|
//! | open | queued, also before the first dial | the start, a connection |
//! | down | `NotSent::Unreachable` | a refused or broken connection |
//! | closed | `NotSent::Unknown` | the peer is gone, or this node's life has ended |
//!
//! Invariant: no more than `queue_len_max` frames, and no more than `queue_bytes_max` bytes (or one frame, if that is longer),
//! wait here; as much again may be in the write that is under way.

use super::{ControlSettings, NotSent};
use bytes::BytesMut;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use wayfarer_engine::wire::control::{self, ControlMessage, Phase};

/// A buffer that has grown beyond this is not kept for the next batch.
const BUFFER_KEPT_BYTES: usize = 256 * 1024;

/// Frames that cross together.
#[derive(Default)]
pub(super) struct Batch {
    /// The frames, one behind the other.
    pub bytes: BytesMut,
    /// How many.
    pub frames: usize,
    /// Bytes by phase.
    pub count: super::BytesSent,
}

impl Batch {
    /// Forgets the frames; keeps the buffer unless it is large.
    pub fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        *self = Batch::default();
        if bytes.capacity() <= BUFFER_KEPT_BYTES {
            self.bytes = bytes;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Open,
    Down,
    Closed,
}

struct State {
    standing: Standing,
    started: bool,
    waiting: Batch,
}

/// See the head of this file.
pub(super) struct Outbox {
    state: Mutex<State>,
    ready: Notify,
}

impl Outbox {
    pub fn new() -> Outbox {
        let state = State { standing: Standing::Open, started: false, waiting: Batch::default() };
        Outbox { state: Mutex::new(state), ready: Notify::new() }
    }

    /// Appends one frame. `true`: it is the first ever, and the lane needs its task.
    pub fn append(&self, message: &ControlMessage, settings: &ControlSettings) -> Result<bool, NotSent> {
        let mut state = self.lock();
        match state.standing {
            Standing::Open => {}
            Standing::Down => return Err(NotSent::Unreachable),
            Standing::Closed => return Err(NotSent::Unknown),
        }
        let waiting = &mut state.waiting;
        if waiting.frames >= settings.queue_len_max {
            return Err(NotSent::Full);
        }
        let before = waiting.bytes.len();
        let written = control::encode(message, &mut waiting.bytes, settings.frame_bytes_max).map_err(NotSent::TooLong)?;
        if before > 0 && waiting.bytes.len() > settings.queue_bytes_max {
            waiting.bytes.truncate(before);
            return Err(NotSent::Full);
        }
        waiting.frames += 1;
        let bytes = written as u64;
        match control::phase(message) {
            Some(Phase::Eager) => waiting.count.eager += bytes,
            Some(Phase::Late) => waiting.count.late += bytes,
            None => waiting.count.other += bytes,
        }
        let first = !std::mem::replace(&mut state.started, true);
        drop(state);
        self.ready.notify_one();
        Ok(first)
    }

    /// Exchanges `batch`, which is empty, for all that waits.
    pub fn take(&self, batch: &mut Batch) {
        batch.clear();
        std::mem::swap(&mut self.lock().waiting, batch);
    }

    /// Waits until something was appended since the last time.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }

    /// There is a connection.
    pub fn set_open(&self) {
        let mut state = self.lock();
        if state.standing == Standing::Down {
            state.standing = Standing::Open;
        }
    }

    /// There is none; what waited is dropped. Returns how many frames that were.
    pub fn set_down(&self) -> usize {
        self.stop(Standing::Down)
    }

    /// There never will be one again; what waited is dropped. Returns how many frames that were.
    pub fn close(&self) -> usize {
        self.stop(Standing::Closed)
    }

    fn stop(&self, standing: Standing) -> usize {
        let mut state = self.lock();
        if state.standing != Standing::Closed {
            state.standing = standing;
        }
        std::mem::take(&mut state.waiting).frames
    }

    /// A panic while the lock was held cannot leave more than a frame cut short, and encoding does not panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Requests that wait until it is known where they run, and their bound: so many, so many bytes of headers, so long.
//!
//! It never looks into a request. The exchange asks for a place before it waits; the place is given back when it is dropped, so also
//! when the client leaves. Bodies are not read meanwhile: they wait in the client's socket.
//!
//! | the bound | beyond it |
//! |---|---|
//! | `waiting_max` requests, `waiting_bytes_max` of their headers | 503 and `Retry-After` at once |
//! | `waiting_ms_max` | the same when it is over |
//!
//! Invariant: what the requests of one face hold while they wait never exceeds the bound, however many ask at once.

use crate::names;
use std::future::Future;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::timeout;

/// How many wait, and how large they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WaitingBounds {
    pub(crate) requests_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) time_max: Duration,
}

/// See the head of this file.
pub(crate) struct Waiting {
    bounds: WaitingBounds,
    now: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    requests: usize,
    bytes: usize,
}

/// A request's place among those that wait.
struct Place<'a> {
    waiting: &'a Waiting,
    bytes: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut now = self.waiting.lock();
        now.requests = now.requests.saturating_sub(1);
        now.bytes = now.bytes.saturating_sub(self.bytes);
        metrics::gauge!(names::WAITING).decrement(1.0);
    }
}

impl Waiting {
    pub(crate) fn new(bounds: WaitingBounds) -> Waiting {
        Waiting { bounds, now: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `answer` with a header of `bytes`; `None`: a bound was met, and the client should come again.
    pub(crate) async fn within<T>(&self, bytes: usize, answer: impl Future<Output = T>) -> Option<T> {
        let _place = self.enter(bytes)?;
        let answer = timeout(self.bounds.time_max, answer).await.ok();
        if answer.is_none() {
            refused("time");
        }
        answer
    }

    fn enter(&self, bytes: usize) -> Option<Place<'_>> {
        let mut now = self.lock();
        let all = now.bytes.saturating_add(bytes);
        if now.requests >= self.bounds.requests_max || all > self.bounds.bytes_max {
            refused(if all > self.bounds.bytes_max { "bytes" } else { "count" });
            return None;
        }
        (now.requests, now.bytes) = (now.requests.saturating_add(1), all);
        metrics::gauge!(names::WAITING).increment(1.0);
        Some(Place { waiting: self, bytes })
    }
}

fn refused(bound: &'static str) {
    metrics::counter!(names::WAITING_REFUSED, "bound" => bound).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    const BOUNDS: WaitingBounds = WaitingBounds { requests_max: 2, bytes_max: 100, time_max: Duration::from_secs(3600) };

    #[tokio::test]
    async fn those_beyond_the_bound_are_refused_and_places_come_back() {
        let waiting = Waiting::new(BOUNDS);
        assert_eq!(waiting.within(100, ready(7)).await, Some(7));
        assert_eq!(waiting.within(101, ready(7)).await, None, "too large");
        let first = waiting.enter(50);
        assert_eq!(waiting.within(51, ready(7)).await, None, "too large together");
        let second = waiting.enter(50);
        assert!(first.is_some() && second.is_some());
        assert_eq!(waiting.within(0, ready(7)).await, None, "too many");
        drop(first);
        assert_eq!(waiting.within(50, ready(7)).await, Some(7));
        drop(second);
        let now = waiting.lock();
        assert_eq!((now.requests, now.bytes), (0, 0));
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_the_bound() {
        let waiting = Waiting::new(WaitingBounds { time_max: Duration::from_millis(1), ..BOUNDS });
        assert_eq!(waiting.within(1, pending::<()>()).await, None);
        assert_eq!(waiting.lock().requests, 0);
    }
}

//! Scripts take turns, so that those who have none are served meanwhile.
//!
//! It never runs one. Each operation asks before it executes, and nothing but a script waits.
//!
//! One worker stays free of scripts, where there are two at least. Where there is one, it looks between two scripts at what has
//! come from sockets: a task that always has something to do would else be served many times before the runtime looks again.
//!
//! Invariant: whoever has no script waits for one script at most, not for those that stand behind it.

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::yield_now;
use wayfarer_engine::command::Op;

/// Scripts that may run at the same time.
pub(super) struct Turns(Semaphore);

impl Turns {
    /// As many as this runtime bears.
    pub(super) fn of_this_runtime() -> Turns {
        let workers = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        Turns(Semaphore::new(workers.saturating_sub(1).max(1)))
    }

    /// Waits for a turn; it ends when the result is dropped. Nobody waits for what is no script.
    pub(super) async fn take(&self, op: &Op) -> Option<SemaphorePermit<'_>> {
        if !op.is_script() {
            return None;
        }
        // It is never closed.
        let turn = self.0.acquire().await.ok();
        yield_now().await;
        turn
    }
}

//! Whether one of the threads of a directory has broken off, by a panic.
//!
//! Such a thread answers nothing any more, and nobody else would say so: a question is told that it was not asked, and a watch
//! that never tells looks like one that sees no change. Each thread holds a [`Sentry`]; the composition root waits.

use std::sync::Arc;
use tokio::sync::watch;

/// Says when the first thread breaks off.
#[derive(Clone)]
pub(super) struct Broken(Arc<watch::Sender<bool>>);

impl Broken {
    pub(super) fn new() -> Broken {
        Broken(Arc::new(watch::Sender::new(false)))
    }

    /// For a thread to hold as long as it runs.
    pub(super) fn sentry(&self) -> Sentry {
        Sentry(self.clone())
    }

    /// Resolves when a thread has broken off.
    pub(super) async fn wait(&self) {
        // The channel cannot close: its sender is here.
        drop(self.0.subscribe().wait_for(|broken| *broken).await);
    }
}

/// Tells, when it is dropped by a panic.
pub(super) struct Sentry(Broken);

impl Drop for Sentry {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.0.send_replace(true);
        }
    }
}

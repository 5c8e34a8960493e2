//! The thread that tells a watcher of changed members and groups.
//!
//! It never tells of changes of locations, and never tells the same state twice. `SqliteDirectory::watch` starts it; the writer
//! pokes it after a commit of this process, for other processes it looks every `poll_ms` at `PRAGMA data_version`, which
//! costs no input or output.
//!
//! Invariant: `changes` in the view's own snapshot decides whether a view is told, so none is skipped and none goes back.

use super::broken::Broken;
use super::busy::locked;
use super::{SqliteOptions, rows, schema, thread};
use rusqlite::Connection;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use wayfarer_engine::directory::{DirectoryError, View, Watcher};

/// The place of the one watcher of an instance.
pub(super) struct Watch {
    path: Arc<Path>,
    options: SqliteOptions,
    pokes: Mutex<Option<SyncSender<()>>>,
    broken: Broken,
}

impl Watch {
    pub(super) fn new(path: Arc<Path>, options: SqliteOptions, broken: Broken) -> Watch {
        Watch { path, options, pokes: Mutex::new(None), broken }
    }

    /// Starts a thread for `watcher`; an earlier one ends.
    pub(super) fn start(&self, watcher: Watcher) -> std::io::Result<JoinHandle<()>> {
        let (poke, pokes) = sync_channel(1);
        *locked(&self.pokes) = Some(poke);
        let (path, options) = (self.path.clone(), self.options.clone());
        thread("directory-watch", &self.broken, move || {
            Watching { path, options, watcher, conn: None, seen: Seen::default() }.run(&pokes)
        })
    }

    /// Says that members or groups have just changed.
    pub(super) fn poke(&self) {
        if let Some(poke) = locked(&self.pokes).as_ref() {
            // Full: the thread will look anyway. Closed: it has ended with its watcher.
            let _ = poke.try_send(());
        }
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        *locked(&self.pokes) = None;
    }
}

/// What was last seen of the file.
#[derive(Clone, Copy, Default)]
struct Seen {
    data_version: Option<i64>,
    changes: Option<u64>,
    failing: bool,
}

struct Watching {
    path: Arc<Path>,
    options: SqliteOptions,
    watcher: Watcher,
    conn: Option<Connection>,
    seen: Seen,
}

impl Watching {
    fn run(mut self, pokes: &Receiver<()>) {
        let poll = Duration::from_millis(self.options.poll_ms.max(1));
        loop {
            match self.look() {
                Ok(view) => {
                    self.seen.failing = false;
                    if let Some(view) = view {
                        (self.watcher)(view);
                    }
                }
                Err(error) => self.note(&error),
            }
            if pokes.recv_timeout(poll) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// The present view, if members or groups have changed since the last one.
    fn look(&mut self) -> Result<Option<View>, DirectoryError> {
        let path = self.path.clone();
        let failed = |e: rusqlite::Error| super::failed(&path, "watch", &e);
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => schema::connect(&path, &self.options)?,
        };
        let conn = self.conn.insert(conn);
        // Prepared once: this is asked a hundred times a second, for as long as the process lives.
        let mut asked = conn.prepare_cached("PRAGMA data_version").map_err(failed)?;
        let data_version = asked.query_row([], |row| row.get(0)).map_err(failed)?;
        drop(asked);
        if self.seen.data_version == Some(data_version) {
            return Ok(None);
        }
        let tx = conn.unchecked_transaction().map_err(failed)?;
        let changes: u64 = tx.query_row("SELECT changes FROM meta", [], |row| row.get(0)).map_err(failed)?;
        let view = if self.seen.changes == Some(changes) { None } else { Some(rows::view(&tx).map_err(failed)?) };
        self.seen.changes = Some(changes);
        // Noted last: what fails before is looked at again.
        self.seen.data_version = Some(data_version);
        Ok(view)
    }

    /// Says once that the watch sees nothing; it goes on looking.
    fn note(&mut self, error: &DirectoryError) {
        if !self.seen.failing {
            tracing::warn!(%error, "the watch of the directory sees nothing at present; leases go on");
        }
        self.seen.failing = true;
        self.seen.data_version = None;
    }
}

//! The directory in one SQLite file, opened by every process of one machine.
//!
//! It never serves two machines: proof of death and the write-ahead log both need one kernel. The composition root opens it;
//! the driver asks it through [`Directory`].
//!
//! ```text
//! transact, register, sweep ─► bounded queue ─► writer thread: BEGIN IMMEDIATE · a savepoint each · COMMIT · answer all
//! read, view, is_proven_dead ─► bounded queue ─► reader thread: one snapshot for all that wait
//! watch ─► watch thread: PRAGMA data_version every few milliseconds, at once after an own commit
//! ```
//!
//! Invariant: an outcome is told only after its COMMIT, so each read that starts later sees it; and a read's snapshot is
//! taken after the question arrived, so what is read is linearizable across processes.

mod apply;
mod broken;
mod busy;
mod lock;
mod reader;
mod register;
mod rows;
mod same_file;
mod schema;
mod sweep;
mod watch;
mod writer;

pub use apply::PARTS_MAX;
pub use register::{GROUPS_MAX, TEXT_BYTES_MAX};
pub use sweep::Swept;

use broken::Broken;
use busy::locked;
use lock::Locks;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use watch::Watch;
use wayfarer_engine::directory::{
    Answer, Directory, DirectoryError, MemberDraft, Outcome, Placement, Registration, Transaction, View, Watcher,
};
use wayfarer_engine::ids::{Incarnation, SessionId};
use wayfarer_engine::mode::Phase;

/// The bounds of a [`SqliteDirectory`].
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// How many questions wait in each of the two queues before more are refused.
    pub queue_max: usize,
    /// How many queued questions one commit or snapshot answers.
    pub batch_max: usize,
    /// How long, in milliseconds, to wait for another process that has the file.
    pub busy_ms: u64,
    /// How often, in milliseconds, a watch looks for changes of other processes.
    pub poll_ms: u64,
    /// How large, in bytes, the file may grow.
    pub size_bytes_max: u64,
    /// How many members may be registered, fenced ones included.
    pub members_max: usize,
    /// How many fenced members are kept at most.
    pub fenced_max: usize,
    /// Whose directory it is: a file that another cluster has made is refused. Empty: anybody's.
    pub cluster: String,
    /// The mode that a new directory begins with.
    pub begins: Phase,
    /// How long, in seconds, fenced members, lost groups and locations in lost groups are kept.
    pub keep_fenced_s: u64,
}

impl Default for SqliteOptions {
    fn default() -> SqliteOptions {
        SqliteOptions {
            queue_max: 4096,
            batch_max: 256,
            busy_ms: 1000,
            poll_ms: 10,
            size_bytes_max: 4 << 30,
            members_max: 1024,
            fenced_max: 256,
            cluster: String::new(),
            begins: Phase::Own,
            keep_fenced_s: 86_400,
        }
    }
}

/// One process's access to the directory in a SQLite file.
///
/// Dropping it ends its threads after they have answered what was queued. The locks that prove this process alive stay until
/// the process ends or [`SqliteDirectory::release`].
pub struct SqliteDirectory {
    path: Arc<Path>,
    locks: Arc<Locks>,
    write: Option<SyncSender<writer::Job>>,
    read: Option<SyncSender<reader::Job>>,
    watch: Arc<Watch>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    broken: Broken,
    made_unix_ms: u64,
    secret: [u8; schema::SECRET_BYTES],
}

impl SqliteDirectory {
    /// Opens the file at `path`, or makes it; the folder must exist. Blocks for at most a few times `busy_ms`.
    pub fn open(path: impl Into<PathBuf>, options: SqliteOptions) -> Result<SqliteDirectory, DirectoryError> {
        let path: PathBuf = path.into();
        let mut writing = schema::connect(&path, &options)?;
        // Every process must come to the same folder of locks, by whatever name it knows the file.
        let path: Arc<Path> = std::fs::canonicalize(&path)
            .map_err(|error| DirectoryError::NotAsked(format!("{} cannot be found: {error}", path.display())))?
            .into();
        let locks = Arc::new(Locks::open(&path)?);
        schema::prepare(&mut writing, &path, &locks.boot_id, options.begins)?;
        schema::claim(&writing, &path, &options.cluster)?;
        let file = same_file::SameFile::of(&path)?;
        let made_unix_ms = schema::made_unix_ms(&writing).map_err(|e| failed(&path, "read", &e))?;
        let secret = schema::secret(&writing, &path)?;
        let reading = schema::connect(&path, &options)?;
        reading.execute_batch("PRAGMA query_only = ON").map_err(|e| failed(&path, "open", &e))?;

        let broken = Broken::new();
        let watch = Arc::new(Watch::new(path.clone(), options.clone(), broken.clone()));
        let (write, write_jobs) = sync_channel(options.queue_max.max(1));
        let (read, read_jobs) = sync_channel(options.queue_max.max(1));
        let batch_max = options.batch_max.max(1);
        let writer = writer::Writer::new(writing, (path.clone(), file), locks.clone(), watch.clone(), options);
        let reader = reader::Reader::new(reading, path.clone(), locks.clone(), batch_max);
        // The senders are in the directory before the second thread starts: if that fails, dropping it ends the first.
        let directory = SqliteDirectory {
            path,
            locks,
            write: Some(write),
            read: Some(read),
            watch,
            made_unix_ms,
            secret,
            threads: Mutex::new(Vec::new()),
            broken: broken.clone(),
        };
        let writing = thread("directory-write", &broken, move || writer.run(&write_jobs)).map_err(|e| directory.no_thread(&e))?;
        locked(&directory.threads).push(writing);
        let reading = thread("directory-read", &broken, move || reader.run(&read_jobs)).map_err(|e| directory.no_thread(&e))?;
        locked(&directory.threads).push(reading);
        Ok(directory)
    }

    /// When the file was made, in milliseconds since 1970: epochs of two directories cannot be compared, their ages can.
    pub fn made_unix_ms(&self) -> u64 {
        self.made_unix_ms
    }

    /// What the members of this directory share and nobody else is told: what one of them signs with it, the others believe.
    pub fn secret(&self) -> [u8; schema::SECRET_BYTES] {
        self.secret
    }

    /// Lets the locks of everything that was registered here go: the process counts as proven dead from now on. Only for a
    /// process that answers for nothing any more.
    pub fn release(&self) {
        self.locks.release();
    }

    /// Resolves when one of the directory's threads has broken off, by a panic: nothing that depends on it goes on then, and only
    /// a restart of the process mends that.
    pub async fn broken(&self) {
        self.broken.wait().await;
    }

    /// Removes what nobody can need: fenced members and lost groups that are old or too many, with the locations in them,
    /// and lock files without a member. Happens after every registration by itself. An absent member counts as dead and an
    /// absent group as lost, so nobody sees a difference but in the size.
    pub fn sweep(&self) -> Answer<'_, Swept> {
        self.ask(self.write.as_ref(), writer::Job::Sweep)
    }

    /// Queues a question for one of the threads when first polled, and waits for the answer.
    fn ask<'a, J: Send, T: Send + 'a>(
        &'a self,
        queue: Option<&'a SyncSender<J>>,
        job: impl FnOnce(Reply<T>) -> J + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            match queue.map(|queue| queue.try_send(job(reply))) {
                Some(Ok(())) => answer.await.unwrap_or_else(|_| Err(self.stopped())),
                Some(Err(TrySendError::Full(_))) => Err(DirectoryError::NotAsked(format!(
                    "the queue for {} is full; ask again later, or raise the directory's queue length",
                    self.path.display()
                ))),
                Some(Err(TrySendError::Disconnected(_))) | None => {
                    Err(DirectoryError::NotAsked(format!("the thread for {} has ended; restart this node", self.path.display())))
                }
            }
        })
    }

    fn stopped(&self) -> DirectoryError {
        DirectoryError::Unknown(format!("the thread for {} ended before it answered", self.path.display()))
    }

    fn no_thread(&self, error: &std::io::Error) -> DirectoryError {
        DirectoryError::NotAsked(format!("no thread for {} could be started: {error}", self.path.display()))
    }
}

/// Where an answer goes.
type Reply<T> = oneshot::Sender<Result<T, DirectoryError>>;

impl Directory for SqliteDirectory {
    fn register(&self, draft: MemberDraft, groups: usize) -> Answer<'_, Registration> {
        self.ask(self.write.as_ref(), move |reply| writer::Job::Register(draft, groups, reply))
    }

    fn transact(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        self.ask(self.write.as_ref(), move |reply| writer::Job::Transact(transaction, reply))
    }

    fn read(&self, session: SessionId) -> Answer<'_, Placement> {
        self.ask(self.read.as_ref(), move |reply| reader::Job::Read(rows::key_of(&session), reply))
    }

    fn view(&self) -> Answer<'_, View> {
        self.ask(self.read.as_ref(), reader::Job::View)
    }

    /// A second watcher takes the place of the first.
    fn watch(&self, watcher: Watcher) {
        match self.watch.start(watcher) {
            Ok(thread) => locked(&self.threads).push(thread),
            Err(error) => tracing::error!(path = %self.path.display(), %error, "no thread for the watch of the directory"),
        }
    }

    fn is_proven_dead(&self, incarnation: Incarnation) -> Answer<'_, bool> {
        self.ask(self.read.as_ref(), move |reply| reader::Job::Proof(incarnation, reply))
    }
}

impl Drop for SqliteDirectory {
    fn drop(&mut self) {
        self.write = None;
        self.read = None;
        self.watch.stop();
        let here = std::thread::current().id();
        for thread in std::mem::take(&mut *locked(&self.threads)) {
            // A watcher may have been the last to hold the directory: its thread ends when it returns.
            if thread.thread().id() != here && thread.join().is_err() {
                tracing::error!(path = %self.path.display(), "a thread of the directory had panicked");
            }
        }
    }
}

impl std::fmt::Debug for SqliteDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SqliteDirectory({})", self.path.display())
    }
}

#[allow(clippy::disallowed_methods, reason = "SQLite blocks: its three threads are started here and joined in drop")]
fn thread(name: &str, broken: &Broken, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let sentry = broken.sentry();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _sentry = sentry;
        run();
    })
}

/// An error of SQLite that left nothing changed, with the file and what was tried.
fn failed(path: &Path, step: &str, error: &rusqlite::Error) -> DirectoryError {
    use rusqlite::ErrorCode as Code;
    let path = path.display();
    let remedy = match error.sqlite_error_code() {
        Some(Code::NotADatabase) => "it is not a SQLite database; name another file",
        Some(Code::DatabaseCorrupt) => "it is damaged; stop all nodes, move it and its .locks folder away, and start again",
        Some(Code::CannotOpen | Code::ReadOnly | Code::PermissionDenied) => {
            "the folder must exist, and this process must be allowed to write in it"
        }
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => "another process holds it for too long",
        Some(Code::DiskFull) => "the disk is full, or the file has reached its size limit",
        Some(Code::SystemIoFailure) => "the disk does not answer as it should",
        _ => "nothing has changed",
    };
    DirectoryError::NotAsked(format!("could not {step} {path}: {error}; {remedy}"))
}

//! Proof of death: a locked file for each incarnation, and the question whether its lock is still held.
//!
//! It never guesses: what cannot be found out counts as alive. The writer creates and removes the files, the reader probes.
//!
//! The lock is `flock` (std's `File::lock`), because rustix has no OFD form of `fcntl`. On Linux both belong to the open file
//! description, not to the process: probing in the process that holds the lock neither succeeds nor releases it (plain
//! `fcntl` locks would do both), and the kernel releases it when the last copy of the descriptor is gone, however the process
//! ended. Files are opened close-on-exec, so an instance that was started as a child does not keep its parent "alive".
//!
//! | who | lock | so that |
//! |---|---|---|
//! | an incarnation | exclusive, from before its record exists until its process ends | nobody proves a live one dead |
//! | a prober | shared, for a moment | probers do not see one another |
//! | the sweep | exclusive, only on files without a record | nobody asks for these |
//!
//! Invariant: a file is unlinked only under the database's write lock and when no committed record names it.

use super::busy::locked;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use wayfarer_engine::directory::DirectoryError;
use wayfarer_engine::ids::Incarnation;

/// How many incarnations one instance of the directory may hold locks for.
pub(super) const HELD_MAX: usize = 1024;
/// How many entries of the folder one sweep looks at.
const SCANNED_MAX: usize = 8192;
/// Length of a token: 16 random bytes in hexadecimal.
const TOKEN_LEN: usize = 32;
const SUFFIX: &str = ".lock";

/// The folder of lock files beside one database, and the locks that this instance holds.
pub(super) struct Locks {
    folder: PathBuf,
    /// Of the machine, this time.
    pub(super) boot_id: String,
    held: Mutex<Vec<(Incarnation, Held)>>,
}

/// A lock file that this process has locked exclusively.
pub(super) struct Held {
    file: File,
    path: PathBuf,
}

impl Held {
    /// Removes the file of an incarnation whose registration did not happen.
    pub(super) fn discard(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a lock file without a member stays until the next sweep");
        }
    }
}

impl Locks {
    /// The locks beside the database `path`; makes the folder if it is not there.
    pub(super) fn open(path: &Path) -> Result<Locks, DirectoryError> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".locks");
        let folder = path.with_file_name(name);
        if let Err(error) = std::fs::create_dir(&folder)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            let folder = folder.display();
            return Err(DirectoryError::NotAsked(format!(
                "the folder of lock files {folder} cannot be made: {error}; let this process write beside the database"
            )));
        }
        let boot_id = boot_id().map_err(|error| {
            DirectoryError::NotAsked(format!("{BOOT_ID} cannot be read: {error}; the SQLite directory needs Linux with /proc"))
        })?;
        Ok(Locks { folder, boot_id, held: Mutex::new(Vec::new()) })
    }

    /// Creates and locks the file of an incarnation that is about to be registered.
    pub(super) fn create(&self, token: &str) -> io::Result<Held> {
        let path = self.path_of(token).ok_or_else(|| io::Error::other("not a token"))?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let held = Held { file, path };
        match held.file.try_lock() {
            Ok(()) => Ok(held),
            Err(error) => {
                held.discard();
                Err(match error {
                    TryLockError::WouldBlock => io::Error::other("a new lock file is locked by another process"),
                    TryLockError::Error(error) => error,
                })
            }
        }
    }

    /// Keeps `held` until the process ends or [`Locks::release`].
    pub(super) fn keep(&self, incarnation: Incarnation, held: Held) {
        locked(&self.held).push((incarnation, held));
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        locked(&self.held).len() < HELD_MAX
    }

    /// Lets the lock of an incarnation go that nobody will use.
    pub(super) fn let_go(&self, incarnation: Incarnation) {
        locked(&self.held).retain(|(i, _)| *i != incarnation);
    }

    /// Lets the locks of incarnations go that no committed record names: nobody can ask for these any more.
    pub(super) fn keep_only(&self, is_named: impl Fn(Incarnation) -> bool) {
        locked(&self.held).retain(|(incarnation, _)| is_named(*incarnation));
    }

    /// Lets all locks go: from now on every incarnation of this instance can be proven dead.
    pub(super) fn release(&self) {
        locked(&self.held).clear();
    }

    /// Whether the process that registered with this boot id and token is gone for certain.
    pub(super) fn is_proven_dead(&self, boot_id: &str, token: &str) -> bool {
        if boot_id != self.boot_id {
            return true;
        }
        let Some(path) = self.path_of(token) else { return false };
        match File::open(&path) {
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(error)) => not_proven(&path, &error),
            },
            Err(error) => not_proven(&path, &error),
        }
    }

    /// Unlinks files that no record names and nobody holds. The caller has the database's write lock, under which alone such
    /// files are made; `is_named` tells whether a committed record names a token.
    pub(super) fn remove_orphans(&self, is_named: impl Fn(&str) -> bool) -> io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.folder)?.take(SCANNED_MAX) {
            let name = entry?.file_name();
            let Some(path) =
                name.to_str().and_then(|n| n.strip_suffix(SUFFIX)).filter(|t| !is_named(t)).and_then(|t| self.path_of(t))
            else {
                continue;
            };
            let file = File::open(&path)?;
            if file.try_lock().is_ok() {
                std::fs::remove_file(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Tokens come from a file: only what is made of hexadecimal digits becomes a path.
    fn path_of(&self, token: &str) -> Option<PathBuf> {
        let is_token = token.len() == TOKEN_LEN && token.bytes().all(|b| b.is_ascii_hexdigit());
        is_token.then(|| self.folder.join(format!("{token}{SUFFIX}")))
    }
}

impl Drop for Locks {
    /// Dropping the directory does not end the process, which may still answer for sessions: the descriptors stay open
    /// (at most [`HELD_MAX`]), and the kernel closes them when the process ends.
    fn drop(&mut self) {
        let held = std::mem::take(self.held.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner));
        for (_, held) in held {
            let _ = held.file.into_raw_fd();
        }
    }
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn boot_id() -> io::Result<String> {
    let text = std::fs::read_to_string(BOOT_ID)?;
    let boot_id = text.trim();
    if boot_id.is_empty() { Err(io::Error::other("it is empty")) } else { Ok(boot_id.to_owned()) }
}

fn not_proven(path: &Path, error: &io::Error) -> bool {
    tracing::warn!(path = %path.display(), %error, "a lock file cannot be probed; its incarnation counts as alive");
    false
}

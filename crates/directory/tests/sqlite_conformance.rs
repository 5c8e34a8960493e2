//! The conformance suite on the SQLite backend.
//!
//! Several instances in one process stand for several processes here; real processes are in `sqlite_processes.rs`.

use tempfile::TempDir;
use wayfarer_directory::conformance::Store;
use wayfarer_directory::{SqliteDirectory, SqliteOptions, conformance_suite};

/// A file in a folder of its own.
struct OneFile(TempDir);

impl Store for OneFile {
    type Instance = SqliteDirectory;

    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    async fn open(&self) -> SqliteDirectory {
        // Many instances write from two cores at once: what is tested is not how long they wait.
        let options = SqliteOptions { busy_ms: 20_000, ..SqliteOptions::default() };
        SqliteDirectory::open(self.0.path().join("directory.db"), options).unwrap()
    }

    fn end_process(&self, instance: &SqliteDirectory) -> bool {
        instance.release();
        true
    }
}

#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
fn one_file() -> OneFile {
    OneFile(TempDir::new().unwrap())
}

conformance_suite!(one_file());

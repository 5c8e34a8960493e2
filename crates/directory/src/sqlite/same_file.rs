//! Whether the file of that name is still the one that was opened.
//!
//! A process keeps a file that was removed or replaced under it, and would go on in a directory that nobody else sees: two nodes
//! could own one session. The writer looks before each commit, so such a node cannot renew its lease, and stops answering.
//! It never opens the file (closing such a descriptor would drop SQLite's own locks in this process).

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use wayfarer_engine::directory::DirectoryError;

/// Device and inode of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SameFile(u64, u64);

impl SameFile {
    /// The one that has this name now.
    pub(super) fn of(path: &Path) -> Result<SameFile, DirectoryError> {
        match std::fs::metadata(path) {
            Ok(found) => Ok(SameFile(found.dev(), found.ino())),
            Err(error) => Err(gone(path, &error.to_string())),
        }
    }

    /// An error if that name is now another file's, or nobody's.
    pub(super) fn is_there(self, path: &Path) -> Result<(), DirectoryError> {
        if SameFile::of(path)? == self { Ok(()) } else { Err(gone(path, "another file has its name")) }
    }
}

fn gone(path: &Path, why: &str) -> DirectoryError {
    DirectoryError::NotAsked(format!(
        "{} is not the file any more that this process opened ({why}); restart all nodes, so that they share one directory",
        path.display()
    ))
}

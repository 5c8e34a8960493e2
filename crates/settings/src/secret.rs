//! Secrets: passwords and keys that are never shown, and the reading of `…_file` settings.
//!
//! It touches the world only to read a named file. Called by `reader`.
//! Invariant: neither `Debug` nor a complaint shows a secret or a part of one.

use crate::mistake::{Complaint, shown};
use std::fmt;
use std::io::Read;
use std::path::PathBuf;

/// Longest secret in a file, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Makes `text` a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself: to be compared in constant time, sent, or hashed; never shown.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The key of the keyed hashes by which session ids are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdKey(pub [u8; 16]);

impl IdKey {
    /// Reads 32 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Result<IdKey, Complaint> {
        let wrong = || Complaint::new("is not 32 hexadecimal digits", "make one with `openssl rand -hex 16`");
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return Err(wrong());
        }
        let mut key = [0u8; 16];
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let value = char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).ok_or_else(wrong)?;
                *byte = (*byte << 4) | value;
            }
        }
        Ok(IdKey(key))
    }
}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The path, if it is a file that can be opened; what is in it is for others to judge.
pub(crate) fn can_be_read(path: &str) -> Result<PathBuf, Complaint> {
    let remedy = "name a readable file; a relative path starts where wayfarer is started";
    let unreadable = |error: std::io::Error| Complaint::new(format!("cannot read {}: {}", shown(path), error.kind()), remedy);
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Complaint::new(format!("{} is not a file", shown(path)), remedy));
    }
    std::fs::File::open(path).map_err(unreadable)?;
    Ok(PathBuf::from(path))
}

/// The secret in the file at `path`, without the line end that editors leave.
pub(crate) fn read_secret_file(path: &str) -> Result<Secret, Complaint> {
    let remedy = "name a readable file with the secret in it; a relative path starts where wayfarer is started";
    let unreadable = |error: std::io::Error| Complaint::new(format!("cannot read {}: {}", shown(path), error.kind()), remedy);
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        // A pipe or a terminal would make the start wait for ever.
        return Err(Complaint::new(format!("{} is not a file", shown(path)), remedy));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > SECRET_BYTES_MAX) {
        return Err(Complaint::new(format!("{} is longer than {SECRET_BYTES_MAX} bytes", shown(path)), remedy));
    }
    let text = String::from_utf8(bytes).map_err(|_| Complaint::new(format!("{} is not UTF-8 text", shown(path)), remedy))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err(Complaint::new(format!("{} is empty", shown(path)), remedy));
    }
    Ok(Secret::new(text))
}

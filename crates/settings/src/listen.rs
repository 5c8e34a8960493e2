//! Where the state face or the instance listens: an address, or a Unix socket; and the mode of the face's own.
//!
//! Nothing is opened or looked at here. `values` reads an address by it; the state face binds what it says, the HTTP face connects.
//!
//! ```text
//! 127.0.0.1:6379        unix:/run/wayfarer/state.sock   (also unix:///run/…)
//! ```
//! Invariant: a path is short enough for the system, the state face's is absolute, and a mode gives no more than reading, writing and
//! searching.

use crate::gather::Raw;
use crate::mistake::{Complaint, shown};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The longest path that the system takes for a Unix socket, in bytes.
pub(crate) const PATH_BYTES_MAX: usize = 107;
/// All that a mode can give.
const MODE_MAX: u32 = 0o777;
/// Without it the sidecar's own user could not connect.
const MODE_OF_OWNER: u32 = 0o600;

/// Where a listener of the state face is, or the instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListenAt {
    /// TCP; port 0: any free one, which the instance's is not.
    Tcp(SocketAddr),
    /// A Unix socket, by its path.
    Unix(PathBuf),
}

impl ListenAt {
    /// Its address, if it is TCP.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            ListenAt::Tcp(address) => Some(*address),
            ListenAt::Unix(_) => None,
        }
    }

    /// Reads what stands behind `unix:`.
    pub(crate) fn of_path(text: &str) -> Result<ListenAt, Complaint> {
        let remedy = "write unix:/ and the rest of the path, as in unix:/run/wayfarer/state.sock";
        // `unix:///run/x` and `unix:/run/x` both mean the absolute path.
        let path = text.strip_prefix("//").unwrap_or(text);
        if !path.starts_with('/') || path.ends_with('/') {
            return Err(Complaint::new(format!("{} is not the absolute path of a socket", shown(path)), remedy));
        }
        if path.chars().any(char::is_control) {
            return Err(Complaint::new(format!("{} has a control character", shown(path)), remedy));
        }
        if path.len() > PATH_BYTES_MAX {
            let message = format!("the path has {} bytes", path.len());
            return Err(Complaint::new(message, format!("choose a shorter one: the system takes {PATH_BYTES_MAX}")));
        }
        Ok(ListenAt::Unix(PathBuf::from(path)))
    }
}

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAt::Tcp(address) => write!(f, "{address}"),
            ListenAt::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The mode of a file: octal digits as text, or a number that TOML writes in octal.
pub(crate) fn file_mode(raw: &Raw) -> Result<u32, Complaint> {
    let remedy = "write it in octal and in quotes, as in \"0660\"";
    let digits = match raw {
        Raw::Text(text) | Raw::Bare(text) => text.as_str(),
        Raw::Integer { digits, radix: 8 } => digits.as_str(),
        Raw::Integer { .. } => return Err(Complaint::new("is a decimal number, which a mode is not", remedy)),
        _ => return Err(Complaint::new("is not a mode of a file", remedy)),
    };
    let octal = digits.bytes().all(|digit| matches!(digit, b'0'..=b'7')).then(|| u32::from_str_radix(digits, 8).ok()).flatten();
    match octal {
        Some(mode) if mode > MODE_MAX => Err(Complaint::new(format!("{} is more than 0777", shown(digits)), remedy)),
        Some(mode) if mode & MODE_OF_OWNER != MODE_OF_OWNER => {
            let message = format!("{} keeps the sidecar's own user out", shown(digits));
            Err(Complaint::new(message, "write 06 or 07 first, as in \"0600\""))
        }
        Some(mode) => Ok(mode),
        None => Err(Complaint::new(format!("{} is not a mode of a file", shown(digits)), remedy)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_is_absolute_and_fits() {
        assert_eq!(ListenAt::of_path("/run/x.sock").unwrap(), ListenAt::Unix("/run/x.sock".into()));
        assert_eq!(ListenAt::of_path("///run/x.sock").unwrap().to_string(), "unix:/run/x.sock");
        let longest = format!("/{}", "x".repeat(PATH_BYTES_MAX - 1));
        ListenAt::of_path(&longest).unwrap();
        for wrong in ["", "/", "//", "x.sock", "//host", "/run/", "/a\0b", "/a\nb", &format!("{longest}x")] {
            ListenAt::of_path(wrong).unwrap_err();
        }
    }

    #[test]
    fn a_mode_is_octal() {
        let text = |text: &str| file_mode(&Raw::Text(text.to_owned()));
        assert_eq!((text("0660").unwrap(), text("600").unwrap(), text("777").unwrap()), (0o660, 0o600, 0o777));
        assert_eq!(file_mode(&Raw::Integer { digits: "666".to_owned(), radix: 8 }).unwrap(), 0o666);
        for wrong in ["", "0o660", "1777", "888", "0060", "0200", "+600", "rw-------", "99999999999999999999"] {
            text(wrong).unwrap_err();
        }
        file_mode(&Raw::Integer { digits: "660".to_owned(), radix: 10 }).unwrap_err();
        file_mode(&Raw::Flag(true)).unwrap_err();
    }
}

//! Addresses that are more than `host:port`: the upstream Redis and the directory.
//!
//! Nothing is resolved or opened here; called by `values`. Complaints never quote an upstream, for it may hold a password.
//!
//! ```text
//! redis://[user:password@]host[:port][/database]        sqlite:PATH
//! ```
//! Invariant: port and database are numbers in range, and user and password are percent-decoded.

use crate::mistake::{Complaint, plain};
use crate::secret::Secret;
use std::path::PathBuf;

/// The port of Redis where the URL names none.
const REDIS_PORT: u16 = 6379;
/// Highest database number.
const DATABASE_MAX: u32 = 65_535;

/// The upstream Redis or Valkey.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upstream {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// ACL user; `None`: the default user.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Database number.
    pub database: u32,
}

/// How clients count the databases of an upstream: their 0 is the one that its URL names, and so is that one's own number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Numbering {
    /// The upstream's number of the database that is 0 for clients.
    pub first: u32,
}

impl Numbering {
    /// The one of a client's numbers that stands for a database, where two name the same.
    pub fn canonical(self, database: u8) -> u8 {
        if u32::from(database) == self.first { 0 } else { database }
    }

    /// The upstream's number of a client's database.
    pub fn at_upstream(self, database: u8) -> u32 {
        if database == 0 { self.first } else { u32::from(database) }
    }
}

impl Upstream {
    /// How its clients count.
    pub fn numbering(&self) -> Numbering {
        Numbering { first: self.database }
    }

    /// Reads `redis://[user:password@]host[:port][/database]`.
    pub fn parse(url: &str) -> Result<Upstream, Complaint> {
        let remedy = "write redis://[user:password@]host:port[/database]";
        let wrong = |message: &str| Complaint::new(message, remedy);
        let Some(rest) = url.strip_prefix("redis://") else {
            return Err(match url.split_once("://").map(|(scheme, _)| scheme) {
                Some("rediss") => Complaint::new("TLS to the upstream is not available yet in this version", "write redis://…"),
                Some("valkey") => Complaint::new("`valkey` is not a scheme known here", "write redis://…, Valkey speaks it too"),
                _ => wrong("is not a Redis URL"),
            });
        };
        if rest.contains(['?', '#']) {
            return Err(wrong("has a query or fragment, which have no meaning here"));
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match database {
            "" => 0,
            text => decimal(text)
                .filter(|n| *n <= DATABASE_MAX)
                .ok_or_else(|| wrong("the database is not a number from 0 to 65535"))?,
        };
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (user, password) = match login {
            None => (None, None),
            Some(login) => {
                let (user, password) = login.split_once(':').ok_or_else(|| wrong("has a user without `:password`"))?;
                let decode =
                    |text: &str| percent_decoded(text).ok_or_else(|| wrong("the user or password is not percent-encoded UTF-8"));
                (Some(decode(user)?).filter(|user| !user.is_empty()), Some(Secret::new(decode(password)?)))
            }
        };
        let (host, port) = host_and_port(place).ok_or_else(|| wrong("has no right host and port"))?;
        Ok(Upstream { host, port, user, password, database })
    }
}

fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `host`, `host:port` or `[v6]:port`.
fn host_and_port(place: &str) -> Option<(String, u16)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, Some("")),
        },
    };
    let port = match port? {
        "" if !place.ends_with(':') => REDIS_PORT,
        text => u16::try_from(decimal(text)?).ok().filter(|port| *port != 0)?,
    };
    let named = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    (!host.is_empty() && host.len() <= 253 && host.chars().all(named)).then(|| (host.to_owned(), port))
}

pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Where the directory is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DirectoryPlace {
    /// A SQLite file on this machine.
    Sqlite {
        /// Its path; a relative one starts where wayfarer is started.
        path: PathBuf,
    },
}

impl DirectoryPlace {
    /// Reads `sqlite:PATH`.
    pub fn parse(text: &str) -> Result<DirectoryPlace, Complaint> {
        let remedy = "write sqlite:PATH, for instance sqlite:wayfarer-directory.db";
        let Some(path) = text.strip_prefix("sqlite:") else {
            let scheme = text.split_once(':').map_or(text, |(scheme, _)| scheme);
            return Err(match scheme {
                "etcd" | "redis" | "rediss" | "valkey" => {
                    Complaint::new(format!("a directory in {scheme} is not available yet in this version"), remedy)
                }
                other => Complaint::new(format!("`{}` is not a directory known here", plain(other)), remedy),
            });
        };
        if path.is_empty() || path.ends_with('/') {
            return Err(Complaint::new("names no file", remedy));
        }
        if path == ":memory:" || path.contains('\0') || path.starts_with("file:") {
            let message = "must be a file that all nodes of this machine open: else there would be as many clusters as nodes";
            return Err(Complaint::new(message, remedy));
        }
        // `sqlite:///var/lib/x` and `sqlite:/var/lib/x` both mean the absolute path.
        let path = path.strip_prefix("//").unwrap_or(path);
        Ok(DirectoryPlace::Sqlite { path: PathBuf::from(path) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_upstream_is_read_with_all_its_parts_or_the_least() {
        let full = Upstream::parse("redis://al%40ice:p%3As@cache.example:6380/3").unwrap();
        assert_eq!(full.user.as_deref(), Some("al@ice"));
        assert_eq!(full.password.as_ref().unwrap().expose(), "p:s");
        assert_eq!((full.host.as_str(), full.port, full.database), ("cache.example", 6380, 3));
        assert!(!format!("{full:?}").contains("p:s"));
        let least = Upstream::parse("redis://cache").unwrap();
        assert_eq!((least.host.as_str(), least.port, least.database), ("cache", 6379, 0));
        assert_eq!((least.user, least.password), (None, None));
        assert_eq!(Upstream::parse("redis://:pw@h/").unwrap().user, None);
        assert_eq!(Upstream::parse("redis://[::1]:7000").unwrap().host, "::1");
    }

    #[test]
    fn a_wrong_upstream_is_refused_without_being_quoted() {
        for wrong in [
            "",
            "redis:",
            "http://hunter2",
            "redis://",
            "redis://h:0",
            "redis://h:65536",
            "redis://h:",
            "redis://h:6379/x",
            "redis://h/65536",
            "redis://hunter2@h",
            "redis://u:%zz@h",
            "redis://u:%ff@h",
            "redis://[::1",
            "redis://[zz]:1",
            "redis://h:+1",
            "rediss://h",
            "redis://h/0?hunter2",
            "redis://a b:1",
            "redis://::1",
        ] {
            let complaint = Upstream::parse(wrong).unwrap_err();
            assert!(!format!("{complaint:?}").contains("hunter2"), "{complaint:?}");
        }
    }

    #[test]
    fn a_directory_is_a_file() {
        let path = |text| DirectoryPlace::parse(text).map(|DirectoryPlace::Sqlite { path }| path);
        assert_eq!(path("sqlite:a/b.db").unwrap(), PathBuf::from("a/b.db"));
        assert_eq!(path("sqlite:///a/b.db").unwrap(), PathBuf::from("/a/b.db"));
        for wrong in ["", "sqlite:", "sqlite::memory:", "etcd://x:1", "redis://x", "mysql://x", "sqlite:dir/"] {
            path(wrong).unwrap_err();
        }
    }
}

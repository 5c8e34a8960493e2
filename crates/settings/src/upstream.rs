//! Addresses that are more than `host:port`: the upstream Redis and the directory.
//!
//! Nothing is resolved or opened here; called by `values`. Complaints never quote an upstream, for it may hold a password.
//!
//! ```text
//! redis://[user:password@]host[:port][/database]                              sqlite:PATH
//! redis-sentinel://[user:password@]host[:port],host[:port],…/MASTER[/database]
//! redis+cluster://[user:password@]host[:port],host[:port],…
//! rediss://…, rediss-sentinel://…, rediss+cluster://…                         the same under TLS
//! ```
//! Invariant: port and database are numbers in range, and user and password are percent-decoded.

use crate::mistake::{Complaint, plain};
use crate::secret::Secret;
use std::fmt;
use std::path::PathBuf;
use wayfarer_certificates::Files;

/// The port of Redis where the URL names none.
const REDIS_PORT: u16 = 6379;
/// The same of a sentinel.
const SENTINEL_PORT: u16 = 26_379;
/// Sentinels or nodes of one URL.
const PLACES_MAX: usize = 16;
/// Longest name of a master, in bytes.
const MASTER_BYTES_MAX: usize = 128;
/// Highest database number.
const DATABASE_MAX: u32 = 65_535;

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPort {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Where the upstream is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UpstreamPlace {
    /// There.
    Server(HostPort),
    /// Where its sentinels say.
    Sentinels(Sentinels),
    /// A Redis Cluster: these of its nodes say where the others are. At least one; they are asked in this order.
    Cluster(Vec<HostPort>),
}

/// Who knows where the master is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sentinels {
    /// At least one; they are asked in this order.
    pub at: Vec<HostPort>,
    /// What they call the master.
    pub master: String,
    /// What they want to hear first.
    pub password: Option<Secret>,
}

/// TLS to the upstream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UpstreamTls {
    /// Certificates of those who may have signed the server's; `None`: those whom this machine believes.
    pub ca_file: Option<PathBuf>,
    /// The name that the server's certificate must have; `None`: the host to which the connection goes.
    pub server_name: Option<String>,
    /// The certificate of this client and its key; `None`: it shows none.
    pub client: Option<Files>,
}

/// The upstream Redis or Valkey.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upstream {
    /// Where it is.
    pub place: UpstreamPlace,
    /// Whether and how it is reached under TLS.
    pub tls: Option<UpstreamTls>,
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

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPort { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// As it stands in a URL.
impl fmt::Display for UpstreamPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |at: &[HostPort]| at.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match self {
            UpstreamPlace::Server(at) => write!(f, "{at}"),
            UpstreamPlace::Sentinels(Sentinels { at, master, .. }) => write!(f, "{}/{master}", list(at)),
            UpstreamPlace::Cluster(at) => f.write_str(&list(at)),
        }
    }
}

impl Upstream {
    /// Its URL without user, password and database.
    pub fn without_login(&self) -> String {
        let secured = if self.tls.is_some() { "s" } else { "" };
        let asked = match self.place {
            UpstreamPlace::Server(_) => "",
            UpstreamPlace::Sentinels(_) => "-sentinel",
            UpstreamPlace::Cluster(_) => "+cluster",
        };
        format!("redis{secured}{asked}://{}", self.place)
    }

    /// How many databases a client of it may name: 0 and up. A Redis Cluster has one.
    pub fn databases(&self) -> u8 {
        if self.is_cluster() { 1 } else { 16 }
    }

    /// Whether it is a Redis Cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self.place, UpstreamPlace::Cluster(_))
    }

    /// How its clients count.
    pub fn numbering(&self) -> Numbering {
        Numbering { first: self.database }
    }

    /// Reads a URL of one of the forms in the head of this file.
    pub fn parse(url: &str) -> Result<Upstream, Complaint> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (form, tls) = match scheme {
            "redis" => (Form::Server, false),
            "rediss" => (Form::Server, true),
            "redis-sentinel" => (Form::Sentinels, false),
            "rediss-sentinel" => (Form::Sentinels, true),
            "redis+cluster" => (Form::Cluster, false),
            "rediss+cluster" => (Form::Cluster, true),
            "valkey" | "valkeys" => {
                let message = format!("`{scheme}` is not a scheme known here");
                return Err(Complaint::new(message, "write redis://… or rediss://…, Valkey speaks it too"));
            }
            _ => return Err(Complaint::new("is not a Redis URL", REMEDY)),
        };
        let remedy = match form {
            Form::Server => REMEDY,
            Form::Sentinels => SENTINEL_REMEDY,
            Form::Cluster => CLUSTER_REMEDY,
        };
        let wrong = |message: &str| Complaint::new(message, remedy);
        if rest.contains(['?', '#']) {
            return Err(wrong("has a query or fragment, which have no meaning here"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (master, database) = if form == Form::Sentinels { path.split_once('/').unwrap_or((path, "")) } else { ("", path) };
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
        if form == Form::Cluster && database != 0 {
            return Err(wrong("names a database, and a Redis Cluster has none but 0"));
        }
        let host_and_port = |text, port| host_and_port(text, port).ok_or_else(|| wrong("has no right host and port"));
        let several = |port| -> Result<Vec<HostPort>, Complaint> {
            let at: Vec<HostPort> = place.split(',').map(|one| host_and_port(one, port)).collect::<Result<_, _>>()?;
            if at.len() <= PLACES_MAX { Ok(at) } else { Err(wrong("names more than 16 servers")) }
        };
        let place = match form {
            Form::Server => UpstreamPlace::Server(host_and_port(place, REDIS_PORT)?),
            Form::Cluster => UpstreamPlace::Cluster(several(REDIS_PORT)?),
            Form::Sentinels => {
                if master.is_empty() || master.len() > MASTER_BYTES_MAX || !master.chars().all(is_of_name) {
                    return Err(wrong("does not say what the sentinels call the master"));
                }
                UpstreamPlace::Sentinels(Sentinels { at: several(SENTINEL_PORT)?, master: master.to_owned(), password: None })
            }
        };
        Ok(Upstream { place, tls: tls.then(UpstreamTls::default), user, password, database })
    }
}

const REMEDY: &str = "write redis://[user:password@]host:port[/database], or rediss:// for TLS";
const SENTINEL_REMEDY: &str = "write redis-sentinel://[user:password@]host:port,host:port/MASTER[/database]";

const CLUSTER_REMEDY: &str = "write redis+cluster://[user:password@]host:port,host:port, or rediss+cluster:// for TLS";

/// What a URL names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Server,
    Sentinels,
    Cluster,
}

/// Letters, digits, `.`, `_`, `-`.
fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `host`, `host:port` or `[v6]:port`.
fn host_and_port(place: &str, default: u16) -> Option<HostPort> {
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
        "" if !place.ends_with(':') => default,
        text => u16::try_from(decimal(text)?).ok().filter(|port| *port != 0)?,
    };
    let named = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    (!host.is_empty() && host.len() <= 253 && host.chars().all(named)).then(|| HostPort { host: host.to_owned(), port })
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
        let at = |upstream: &Upstream| match &upstream.place {
            UpstreamPlace::Server(HostPort { host, port }) => (host.clone(), *port),
            _ => unreachable!(),
        };
        assert_eq!((at(&full), full.database, &full.tls), (("cache.example".to_owned(), 6380), 3, &None));
        assert!(!format!("{full:?}").contains("p:s"));
        let least = Upstream::parse("redis://cache").unwrap();
        assert_eq!((at(&least), least.database), (("cache".to_owned(), 6379), 0));
        assert_eq!((least.user, least.password), (None, None));
        assert_eq!(Upstream::parse("redis://:pw@h/").unwrap().user, None);
        assert_eq!(at(&Upstream::parse("redis://[::1]:7000").unwrap()), ("::1".to_owned(), 7000));
        assert_eq!(Upstream::parse("rediss://h/2").unwrap().tls, Some(UpstreamTls::default()));
    }

    #[test]
    fn sentinels_are_read_with_the_name_of_their_master() {
        let read = |url: &str| Upstream::parse(url).unwrap();
        let upstream = read("redis-sentinel://u:p@one,[::1]:5000,three:26380/my-master/4");
        let UpstreamPlace::Sentinels(Sentinels { at, master, password: None }) = upstream.place else { unreachable!() };
        let at: Vec<_> = at.iter().map(|at| (at.host.as_str(), at.port)).collect();
        assert_eq!(at, [("one", 26379), ("::1", 5000), ("three", 26380)]);
        assert_eq!((master.as_str(), upstream.database, upstream.user.as_deref()), ("my-master", 4, Some("u")));
        assert!(read("rediss-sentinel://one/m").tls.is_some());
        let upstream = read("redis+cluster://u:p@one,[::1]:5000,three:7001/0");
        assert!(upstream.is_cluster() && upstream.databases() == 1 && upstream.user.as_deref() == Some("u"));
        let UpstreamPlace::Cluster(at) = upstream.place else { unreachable!() };
        let at: Vec<_> = at.iter().map(|at| (at.host.as_str(), at.port)).collect();
        assert_eq!(at, [("one", 6379), ("::1", 5000), ("three", 7001)]);
        assert!(read("rediss+cluster://one").tls.is_some());
        for url in ["redis+cluster://h:1,[::1]:2", "rediss+cluster://h:1"] {
            assert_eq!(read(&url.replace("://", "://u:p@")).without_login(), url);
        }
        for url in ["redis://h:1", "rediss://[::1]:2", "redis-sentinel://one:26379,[::1]:5000/m", "rediss-sentinel://one:1/m"] {
            assert_eq!(read(&url.replace("://", "://u:p@")).without_login(), url);
        }
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
            "rediss://",
            "valkey://h",
            "redis-sentinel://h",
            "redis-sentinel://h/",
            "redis-sentinel://h,/m",
            "redis-sentinel://h/m/x",
            "redis-sentinel://h/m/1/2",
            "redis-sentinel://h/hunter2%20",
            "redis://h,i",
            "redis+cluster://",
            "redis+cluster://h,",
            "redis+cluster://h/1",
            "redis+cluster://h/m/0",
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

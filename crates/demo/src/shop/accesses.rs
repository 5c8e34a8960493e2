//! What one request reads and writes, parsed from its query and its cookie.
//!
//! It touches no store. Called by the shop's routes. Invariant: names are those of the model, numbers of names and sizes are
//! bounded, whatever a client sends.

use axum::http::{HeaderMap, header};
use serde::Deserialize;

use crate::model::{VALUE_BYTES_MAX, Variable};

/// Name of the cookie that carries the session id.
pub const SESSION_COOKIE: &str = "sid";
const SID_DIGITS: usize = 32;
const NAMES_MAX: usize = 64;

/// The query as it came.
#[derive(Debug, Deserialize)]
pub struct RawAccesses {
    r: Option<String>,
    w: Option<String>,
    n: Option<u8>,
}

/// Which variables a request reads.
#[derive(Debug, PartialEq, Eq)]
pub enum Reads {
    /// The whole session.
    All,
    /// These.
    Some(Vec<Variable>),
}

/// One write of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Write {
    /// What is written.
    pub variable: Variable,
    /// Which write of its client this is, from 1.
    pub sequence: u64,
    /// Size of the value.
    pub bytes: usize,
}

/// What a request reads, then writes, and whether it counts as a page.
#[derive(Debug, PartialEq, Eq)]
pub struct Accesses {
    /// Read before anything is written.
    pub reads: Reads,
    /// Written at once.
    pub writes: Vec<Write>,
    /// Whether `hits` goes up by one.
    pub counts: bool,
}

impl Accesses {
    /// Parses the query; the error is a sentence for the client.
    pub fn parse(raw: &RawAccesses) -> Result<Self, &'static str> {
        let reads = match raw.r.as_deref() {
            Some("*") => Reads::All,
            text => Reads::Some(list(text, Variable::parse)?),
        };
        Ok(Self { reads, writes: list(raw.w.as_deref(), write)?, counts: raw.n == Some(1) })
    }
}

/// The session id in the cookie: 32 hexadecimal digits.
pub fn session_of(headers: &HeaderMap) -> Option<String> {
    let pairs =
        headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let sid =
        pairs.filter_map(|pair| pair.trim().split_once('=')).find_map(|(name, sid)| (name == SESSION_COOKIE).then_some(sid))?;
    (sid.len() == SID_DIGITS && sid.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| sid.to_owned())
}

fn list<T>(text: Option<&str>, item: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, &'static str> {
    let parts = text.unwrap_or_default().split(',').filter(|part| !part.is_empty());
    let items: Option<Vec<T>> = parts.take(NAMES_MAX + 1).map(item).collect();
    match items {
        Some(items) if items.len() <= NAMES_MAX => Ok(items),
        Some(_) => Err("too many variables in one request"),
        None => Err("a variable or a number that this shop does not know"),
    }
}

fn write(text: &str) -> Option<Write> {
    let mut parts = text.split(':');
    let (variable, sequence, bytes) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = bytes.parse().ok().filter(|bytes| *bytes <= VALUE_BYTES_MAX)?;
    let write = Write { variable: Variable::parse(variable)?, sequence: sequence.parse().ok()?, bytes };
    parts.next().is_none().then_some(write)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(r: &str, w: &str) -> Result<Accesses, &'static str> {
        Accesses::parse(&RawAccesses { r: Some(r.into()), w: Some(w.into()), n: Some(1) })
    }

    #[test]
    fn a_query_names_reads_and_writes() {
        let accesses = parse("user,recs_3", "cart:7:1200").unwrap();
        let names = |reads: &Reads| match reads {
            Reads::All => panic!("not all"),
            Reads::Some(list) => list.iter().map(|variable| variable.name()).collect::<Vec<_>>(),
        };
        assert_eq!(names(&accesses.reads), ["user", "recs_3"]);
        assert_eq!(accesses.writes, [Write { variable: Variable::named("cart", 0).unwrap(), sequence: 7, bytes: 1200 }]);
        assert!(accesses.counts);
        assert_eq!(parse("*", "").unwrap().reads, Reads::All);
    }

    #[test]
    fn strange_queries_are_refused() {
        for (r, w) in
            [("nobody", ""), ("", "cart"), ("", "cart:x:1"), ("", "cart:1:99999999"), ("", "cart:1:2:3"), ("", "cart:1:-1")]
        {
            assert!(parse(r, w).is_err(), "{r} {w}");
        }
        assert!(parse(&"user,".repeat(NAMES_MAX + 1), "").is_err());
        assert!(parse(&"user,".repeat(NAMES_MAX), "").is_ok());
    }

    #[test]
    fn the_session_is_found_in_the_cookie_and_only_if_well_formed() {
        let find = |line: &str| session_of(&HeaderMap::from_iter([(header::COOKIE, line.parse().unwrap())]));
        let sid = "0123456789abcdef0123456789abcdef";
        assert_eq!(find(&format!("a=b; sid={sid}")).as_deref(), Some(sid));
        assert_eq!(find("sid=short"), None);
        assert_eq!(find(&format!("xsid={sid}")), None);
    }
}

//! Which session a request belongs to: cookies, headers, queries, paths and tokens → the id in the session library's keys.
//!
//! It never logs, never keeps anything, and never fails a request: what is malformed names no session. The HTTP face asks it for
//! each request and each answer, `wayfarer check` asks it to explain; the settings are read into its types. It is pure.
//!
//! | module | what is in it |
//! |---|---|
//! | `codec` | how a framework writes an id: value → id |
//! | `signature` | HMACs of cookies and tokens, compared in constant time |
//! | `cookie` | `Cookie` and `Set-Cookie` fields → values |
//! | `target` | path and query → values |
//! | `token` | bearer tokens (JWT) → claims |
//!
//! ```text
//! request ─► source 1: place ─► value ─► codec (signature) ─► id
//!               │ nothing, or why not
//!               ▼
//!            source 2 …
//! ```
//! Invariant: an id is never empty and never longer than [`ID_BYTES_MAX`]; the work for one request is bounded by the constants here
//! and the number of sources, whatever it holds.

mod codec;
mod cookie;
mod signature;
mod target;
mod token;

pub use codec::Codec;
pub use signature::Secrets;
pub use target::PathTemplate;

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, SET_COOKIE};
use std::borrow::Cow;
use std::fmt;

/// Longest session id, in bytes.
pub const ID_BYTES_MAX: usize = 1024;
/// Longest value of a cookie, header, query parameter or path segment that is looked at, in bytes; browsers keep no longer cookies.
pub const VALUE_BYTES_MAX: usize = 4096;
/// Longest bearer token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8192;
/// Cookies, query parameters or path segments that are looked at in one request; browsers keep fewer cookies per site.
pub const PARTS_MAX: usize = 512;
/// `Set-Cookie` fields that are looked at in one answer.
pub const SET_COOKIES_MAX: usize = 64;
/// Sources of one face.
pub const SOURCES_MAX: usize = 8;
/// Secrets of one source.
pub const SECRETS_MAX: usize = 16;

/// Where a session's id stands in a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the cookie of this name; compared byte for byte, as browsers do.
    Cookie(String),
    /// In this header.
    Header(HeaderName),
    /// In the query parameter of this name.
    Query(String),
    /// In the path.
    Path(PathTemplate),
    /// In this claim of a bearer token (JWT).
    Bearer(String),
}

/// One place to look at, and how to read what stands there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Where.
    pub place: Place,
    /// How.
    pub codec: Codec,
    /// With which the id must be signed; none: the signature is the instance's to check.
    pub secrets: Secrets,
}

/// Why a source names no session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// There is no such cookie, header, parameter, segment or token.
    NotThere,
    /// The value, or the id in it, is too long.
    TooLong,
    /// The id is empty.
    Empty,
    /// The percent-encoding is broken, or is not UTF-8.
    PercentEncoding,
    /// It does not begin with `s:`.
    NotExpress,
    /// There is no signature.
    Unsigned,
    /// The signature is by none of the secrets.
    Forged,
    /// It is not base64.
    NotBase64,
    /// No id of this framework looks so.
    Shape,
    /// There is no bearer token of three parts with JSON objects in them.
    NotToken,
    /// The token is signed in a way that a secret cannot check.
    Algorithm,
    /// The token has no such claim that is text or a whole number.
    Claim,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::NotThere => "it is not there",
            Why::TooLong => "it is too long",
            Why::Empty => "the id is empty",
            Why::PercentEncoding => "its percent-encoding is broken",
            Why::NotExpress => "it does not begin with `s:` (or `s%3A`): express-session signs its cookies so",
            Why::Unsigned => "the signature is missing",
            Why::Forged => "the signature is by none of the secrets",
            Why::NotBase64 => "it is not base64",
            Why::Shape => "no id of this framework looks so",
            Why::NotToken => "there is no bearer token (JWT) of three parts",
            Why::Algorithm => "the token is not signed with HS256, HS384 or HS512, which alone a secret can check",
            Why::Claim => "the token has no such claim that is text or a whole number",
        })
    }
}

/// What of a request names its session.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Path and query as the client sent them.
    pub target: &'a [u8],
    /// Its headers.
    pub headers: &'a HeaderMap,
}

/// What an answer says of the client's session.
#[derive(Clone, PartialEq, Eq)]
pub enum Learned<'a> {
    /// From now on the client has the session of this id.
    Has(Cow<'a, [u8]>),
    /// It has none any more.
    Ended,
}

/// The sources of a face, in the order in which they are asked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    sources: Vec<Source>,
}

impl Identity {
    /// Asks `sources` in their order; those beyond [`SOURCES_MAX`] are not asked.
    pub fn new(mut sources: Vec<Source>) -> Identity {
        sources.truncate(SOURCES_MAX);
        Identity { sources }
    }

    /// The sources in their order.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The session of a request: the id by the first source that names one.
    pub fn of_request<'a>(&self, asked: Asked<'a>) -> Option<Cow<'a, [u8]>> {
        self.sources.iter().find_map(|source| source.of_request(asked).ok())
    }

    /// What an answer's headers say; `None`: nothing of a session.
    pub fn of_answer<'a>(&self, headers: &'a HeaderMap) -> Option<Learned<'a>> {
        self.sources.iter().find_map(|source| source.of_answer(headers))
    }
}

impl Source {
    /// A source without secrets.
    pub fn new(place: Place, codec: Codec) -> Source {
        Source { place, codec, secrets: Secrets::default() }
    }

    /// The id that a request names here, or why there is none.
    pub fn of_request<'a>(&self, asked: Asked<'a>) -> Result<Cow<'a, [u8]>, Why> {
        let headers = |name: &HeaderName| asked.headers.get_all(name).iter().map(|value| value.as_bytes());
        match &self.place {
            Place::Cookie(name) => {
                let value = cookie::value(headers(&COOKIE), name.as_bytes(), self.codec.last_wins()).ok_or(Why::NotThere)?;
                self.read(Cow::Borrowed(value))
            }
            Place::Header(name) => {
                let value = asked.headers.get(name).ok_or(Why::NotThere)?;
                self.read(Cow::Borrowed(value.as_bytes().trim_ascii()))
            }
            Place::Query(name) => self.read(target::parameter(asked.target, name.as_bytes())?),
            Place::Path(template) => self.read(template.session(asked.target)?),
            Place::Bearer(claim) => {
                let value = headers(&AUTHORIZATION).next().ok_or(Why::NotThere)?;
                let claim = token::claim(value, claim, &self.secrets)?;
                // The token's signature covers the claim: within it there is none to check.
                bounded(self.codec.id(Cow::Owned(claim), &Secrets::default())?)
            }
        }
    }

    /// What an answer says of the session here: only cookies and headers are set by answers.
    fn of_answer<'a>(&self, headers: &'a HeaderMap) -> Option<Learned<'a>> {
        let value = match &self.place {
            Place::Cookie(name) => {
                let fields = headers.get_all(SET_COOKIE).iter().map(|value| value.as_bytes()).take(SET_COOKIES_MAX);
                match cookie::set(fields, name.as_bytes())? {
                    cookie::Set::To(value) => value,
                    cookie::Set::Removed => return Some(Learned::Ended),
                }
            }
            Place::Header(name) => match headers.get(name)?.as_bytes().trim_ascii() {
                b"" => return Some(Learned::Ended),
                value => value,
            },
            Place::Query(_) | Place::Path(_) | Place::Bearer(_) => return None,
        };
        self.read(Cow::Borrowed(value)).ok().map(Learned::Has)
    }

    fn read<'a>(&self, value: Cow<'a, [u8]>) -> Result<Cow<'a, [u8]>, Why> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(Why::TooLong);
        }
        bounded(self.codec.id(value, &self.secrets)?)
    }
}

fn bounded(id: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>, Why> {
    match id.len() {
        0 => Err(Why::Empty),
        1..=ID_BYTES_MAX => Ok(id),
        _ => Err(Why::TooLong),
    }
}

#[cfg(test)]
mod tests;

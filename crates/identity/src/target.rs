//! Path and query of a request → a query parameter, or the part of the path that a template names.
//!
//! It resolves no `..` and no doubled slashes: a path that a template does not fit as it stands names no session. A source calls it.
//!
//! | template | fits | session |
//! |---|---|---|
//! | `/s/{session}` | `/s/abc`, `/s/abc/cart` | `abc` |
//! | `/{any}/u-{session}.html` | `/en/u-abc.html` | `abc` |
//! | `;jsessionid={session}` | `/cart;jsessionid=abc` | `abc`: a parameter of any segment of the path |
//!
//! Invariant: no more than [`PARTS_MAX`] parts of a request are looked at.

use crate::codec::percent_decoded;
use crate::{PARTS_MAX, VALUE_BYTES_MAX, Why};
use std::borrow::Cow;
use std::fmt;

/// Segments of a template.
const SEGMENTS_MAX: usize = 32;
const SESSION: &str = "{session}";
const ANY: &str = "{any}";

/// Where in a path the id stands; what is behind the template's last segment may be anything.
#[derive(Clone, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    form: Form,
}

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Segments(Vec<Segment>),
    Parameter(String),
}

#[derive(Clone, PartialEq, Eq)]
enum Segment {
    Any,
    Text(String),
    Session { before: String, after: String },
}

impl fmt::Debug for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PathTemplate {
    /// Reads a template; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<PathTemplate, &'static str> {
        if text.matches(SESSION).count() != 1 {
            return Err("it must have {session} once");
        }
        if let Some(name) = text.strip_prefix(';') {
            let name =
                name.strip_suffix("={session}").filter(|name| !name.is_empty() && !name.contains(['{', '}', ';', '/', '=']));
            let name = name.ok_or("a parameter of the path is written ;NAME={session}")?;
            return Ok(PathTemplate { text: text.to_owned(), form: Form::Parameter(name.to_owned()) });
        }
        let rest = text.strip_prefix('/').ok_or("it must begin with `/`, or with `;` for a parameter of the path")?;
        let segments: Vec<Segment> = rest.split('/').map(segment).collect::<Result<_, _>>()?;
        if segments.len() > SEGMENTS_MAX {
            return Err("it has more than 32 segments");
        }
        Ok(PathTemplate { text: text.to_owned(), form: Form::Segments(segments) })
    }

    /// The template as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The id in the path of `target`, decoded.
    pub(crate) fn session<'a>(&self, target: &'a [u8]) -> Result<Cow<'a, [u8]>, Why> {
        let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
        let raw = match &self.form {
            Form::Parameter(name) => parameter_of_path(path, name.as_bytes()),
            Form::Segments(segments) => session_segment(path, segments),
        };
        decoded(raw.ok_or(Why::NotThere)?)
    }
}

fn segment(text: &str) -> Result<Segment, &'static str> {
    let braces = |text: &str| text.contains(['{', '}']);
    match text.split_once(SESSION) {
        Some((before, after)) if !braces(before) && !braces(after) => {
            Ok(Segment::Session { before: before.to_owned(), after: after.to_owned() })
        }
        None if text == ANY => Ok(Segment::Any),
        None if !braces(text) => Ok(Segment::Text(text.to_owned())),
        _ => Err("braces hold `session` or `any` only, and {any} is a whole segment"),
    }
}

fn session_segment<'a>(path: &'a [u8], segments: &[Segment]) -> Option<&'a [u8]> {
    let mut parts = path.strip_prefix(b"/")?.split(|&byte| byte == b'/');
    let mut session = None;
    for segment in segments {
        let part = parts.next()?;
        match segment {
            Segment::Any => {}
            Segment::Text(text) => (part == text.as_bytes()).then_some(())?,
            Segment::Session { before, after } => {
                session = Some(part.strip_prefix(before.as_bytes())?.strip_suffix(after.as_bytes())?);
            }
        }
    }
    session
}

fn parameter_of_path<'a>(path: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let segments = path.split(|&byte| byte == b'/');
    let parameters = segments.flat_map(|segment| segment.split(|&byte| byte == b';').skip(1)).take(PARTS_MAX);
    parameters.filter_map(|parameter| parameter.strip_prefix(name)?.strip_prefix(b"=")).next()
}

/// The value of query parameter `name`, decoded; of several the first.
pub(crate) fn parameter<'a>(target: &'a [u8], name: &[u8]) -> Result<Cow<'a, [u8]>, Why> {
    let at = target.iter().position(|&byte| byte == b'?').ok_or(Why::NotThere)?;
    let query = target.get(at.saturating_add(1)..).unwrap_or_default();
    let parameters = query.split(|&byte| byte == b'&').take(PARTS_MAX);
    let raw = parameters.filter_map(|parameter| parameter.strip_prefix(name)?.strip_prefix(b"=")).next();
    decoded(raw.ok_or(Why::NotThere)?)
}

fn decoded(raw: &[u8]) -> Result<Cow<'_, [u8]>, Why> {
    if raw.len() > VALUE_BYTES_MAX {
        return Err(Why::TooLong);
    }
    percent_decoded(Cow::Borrowed(raw))
}

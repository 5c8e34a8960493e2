//! Which keys belong to sessions: patterns such as `sess:{session}`, and the matcher that finds the session in a key.
//!
//! It never allocates or fails on a key, and knows no regular expressions. The state face asks it for every key of every
//! command.
//!
//! | pattern | takes | session | variable |
//! |---|---|---|---|
//! | `sess:{session}` | `sess:42` | `42` | by the layout, or the fixed name |
//! | `{session}:lock` | `42:lock` | `42` | the same |
//! | `u:{session}:v:{variable}` | `u:42:v:cart` | `42` (up to the first `:v:`) | `cart` |
//!
//! Where several patterns take a key, the more specific one wins: it has the longer literal text before and after. Two
//! patterns that take a common key without one being more specific are a mistake ([`KeyPattern::collides_with`]).
//! Invariant: the session and a captured variable are never empty.

use crate::mistake::{Complaint, shown};
use wayfarer_engine::session::Layout;

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 256;
/// Longest name of a variable in the configuration, in bytes.
pub const VARIABLE_BYTES_MAX: usize = 128;
/// The name of the variable of an opaque key where the configuration gives none.
pub const OPAQUE_VARIABLE: &str = "session";

const SESSION: &str = "{session}";
const VARIABLE: &str = "{variable}";

/// Where the name of the variable of a key comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Naming {
    /// From the value: a hash field, a JSON member.
    ByValue,
    /// From the configuration.
    Fixed(String),
    /// From the key, behind this text.
    Captured { middle: String },
}

/// One pattern, read and checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyPattern {
    text: String,
    layout: Layout,
    prefix: String,
    suffix: String,
    naming: Naming,
}

/// What a key was taken for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Match<'a> {
    /// The session's id: private, never to be shown.
    pub session: &'a [u8],
    /// Index of the pattern in [`KeyMatcher::patterns`].
    pub pattern: usize,
    /// How the value is divided into variables.
    pub layout: Layout,
    /// The variable that the key is, for the layouts `key` and `opaque`; `None`: the value has its own names.
    pub variable: Option<&'a [u8]>,
}

impl KeyPattern {
    /// Reads `text`; `variable` is the fixed name of the variable, for the layouts `key` and `opaque`.
    pub fn parse(text: &str, layout: Layout, variable: Option<&str>) -> Result<KeyPattern, Complaint> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(Complaint::new(format!("is longer than {PATTERN_BYTES_MAX} bytes"), "shorten it"));
        }
        let Some((prefix, rest)) = text.split_once(SESSION) else {
            let remedy = "put {session} where the session's id stands, as in `sess:{session}`";
            return Err(Complaint::new(format!("{} has no {{session}}", shown(text)), remedy));
        };
        let (middle, suffix) = match rest.split_once(VARIABLE) {
            Some((middle, suffix)) => (Some(middle), suffix),
            None => (None, rest),
        };
        if let Some(part) = [Some(prefix), middle, Some(suffix)].into_iter().flatten().find(|part| part.contains(['{', '}'])) {
            let message = format!("has braces in {} that are neither {{session}} nor, behind it, {{variable}}", shown(part));
            return Err(Complaint::new(message, "write each at most once, {session} first"));
        }
        let naming = naming(layout, middle, variable)?;
        Ok(KeyPattern { text: text.to_owned(), layout, prefix: prefix.to_owned(), suffix: suffix.to_owned(), naming })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it takes every key whole: nothing stands around `{session}`, so each key is a session of its own.
    pub fn takes_every_key(&self) -> bool {
        self.text == SESSION
    }

    /// How the value of its keys is divided into variables.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The fixed name of its variable; `None`: from the key or from the value.
    pub fn variable(&self) -> Option<&str> {
        match &self.naming {
            Naming::Fixed(name) => Some(name),
            Naming::ByValue | Naming::Captured { .. } => None,
        }
    }

    /// Whether some key is taken by both, and neither is more specific than the other.
    pub fn collides_with(&self, other: &KeyPattern) -> bool {
        let prefixes_fit = self.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&self.prefix);
        let suffixes_fit = self.suffix.ends_with(&other.suffix) || other.suffix.ends_with(&self.suffix);
        prefixes_fit && suffixes_fit && !self.is_more_specific_than(other) && !other.is_more_specific_than(self)
    }

    /// Whether the literal text of `self` extends that of `other`.
    fn is_more_specific_than(&self, other: &KeyPattern) -> bool {
        if !self.prefix.starts_with(&other.prefix) || !self.suffix.ends_with(&other.suffix) {
            return false;
        }
        if self.outer_bytes() > other.outer_bytes() {
            return true;
        }
        match (&self.naming, &other.naming) {
            (Naming::Captured { middle }, Naming::Captured { middle: others }) => {
                middle.len() > others.len() && middle.contains(others.as_str())
            }
            (Naming::Captured { .. }, _) => true,
            _ => false,
        }
    }

    fn outer_bytes(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    fn middle_bytes(&self) -> usize {
        if let Naming::Captured { middle } = &self.naming { middle.len() } else { 0 }
    }

    /// The key of a session and the name of its variable; `None`: that needs the name of a variable as well.
    fn key_of(&self, session: &[u8]) -> Option<(Vec<u8>, &[u8])> {
        let label = match &self.naming {
            Naming::ByValue => &[][..],
            Naming::Fixed(name) => name.as_bytes(),
            Naming::Captured { .. } => return None,
        };
        Some(([self.prefix.as_bytes(), session, self.suffix.as_bytes()].concat(), label))
    }

    fn take<'a>(&'a self, key: &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let rest = key.strip_prefix(self.prefix.as_bytes())?.strip_suffix(self.suffix.as_bytes())?;
        let (session, variable) = match &self.naming {
            Naming::ByValue => (rest, None),
            Naming::Fixed(name) => (rest, Some(name.as_bytes())),
            Naming::Captured { middle } => {
                let middle = middle.as_bytes();
                let at = rest.windows(middle.len()).position(|window| window == middle)?;
                let (session, rest) = rest.split_at_checked(at)?;
                (session, Some(rest.strip_prefix(middle)?))
            }
        };
        let full = !session.is_empty() && variable.is_none_or(|name| !name.is_empty());
        full.then_some((session, variable))
    }
}

/// Which name the variables of a key have, or why layout, `{variable}` and fixed name do not go together.
fn naming(layout: Layout, middle: Option<&str>, variable: Option<&str>) -> Result<Naming, Complaint> {
    if let Some(name) = variable
        && (name.is_empty() || name.len() > VARIABLE_BYTES_MAX)
    {
        let message = format!("the name of the variable has {} bytes", name.len());
        return Err(Complaint::new(message, format!("give it 1 to {VARIABLE_BYTES_MAX} bytes")));
    }
    match (layout, middle, variable) {
        (Layout::Key, Some(""), None) => Err(Complaint::new(
            "{session} and {variable} have nothing between them",
            "put the text between them that stands in the keys, as in `{session}:{variable}`",
        )),
        (Layout::Key, Some(middle), None) => Ok(Naming::Captured { middle: middle.to_owned() }),
        (Layout::Key, Some(_), Some(_)) => Err(Complaint::new(
            "the variable is named twice: by {variable} in the pattern and by `variable`",
            "keep one of the two",
        )),
        (_, Some(_), _) => Err(Complaint::new(
            "{variable} is only for layout = \"key\"",
            "set layout = \"key\", or take {variable} out of the pattern",
        )),
        (Layout::Key, None, None) => Err(Complaint::new(
            "layout = \"key\" needs the name of its variable",
            "add variable = \"…\", or {variable} to the pattern",
        )),
        (Layout::Hash | Layout::Json | Layout::Msgpack | Layout::Php, None, Some(_)) => Err(Complaint::new(
            "`variable` has no meaning here: each field or member of the value is a variable",
            "remove it, or set layout = \"key\"",
        )),
        (Layout::Key | Layout::Opaque, None, Some(name)) => Ok(Naming::Fixed(name.to_owned())),
        (Layout::Opaque, None, None) => Ok(Naming::Fixed(OPAQUE_VARIABLE.to_owned())),
        (Layout::Hash | Layout::Json | Layout::Msgpack | Layout::Php, None, None) => Ok(Naming::ByValue),
    }
}

/// Finds the session of a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyMatcher {
    patterns: Vec<KeyPattern>,
    /// Indices of `patterns`, the most specific first.
    order: Vec<usize>,
}

impl KeyMatcher {
    /// A matcher of these patterns.
    pub fn new(patterns: Vec<KeyPattern>) -> KeyMatcher {
        let mut ranked: Vec<_> = patterns.iter().map(|p| (p.outer_bytes(), p.middle_bytes())).enumerate().collect();
        ranked.sort_by_key(|(index, rank)| (std::cmp::Reverse(*rank), *index));
        let order = ranked.into_iter().map(|(index, _)| index).collect();
        KeyMatcher { patterns, order }
    }

    /// The patterns, in the order of the configuration.
    pub fn patterns(&self) -> &[KeyPattern] {
        &self.patterns
    }

    /// The keys of a session whose names follow from its id, with their layouts and the names of their variables.
    pub fn keys_of(&self, session: &[u8]) -> Vec<(Vec<u8>, Layout, Vec<u8>)> {
        let keys = self.patterns.iter().filter_map(|p| p.key_of(session).map(|(key, label)| (key, p.layout, label.to_vec())));
        // What a more specific pattern takes for another session's is another session's.
        keys.filter(|(key, ..)| self.classify(key).is_some_and(|found| found.session == session)).collect()
    }

    /// Whether some pattern has a variable in its keys, so that not all keys of a session can be listed.
    pub fn has_captured(&self) -> bool {
        self.patterns.iter().any(|p| matches!(p.naming, Naming::Captured { .. }))
    }

    /// The session and variable that `key` belongs to; `None`: it is no session's.
    pub fn classify<'a>(&'a self, key: &'a [u8]) -> Option<Match<'a>> {
        self.order.iter().find_map(|index| {
            let pattern = self.patterns.get(*index)?;
            let (session, variable) = pattern.take(key)?;
            Some(Match { session, pattern: *index, layout: pattern.layout, variable })
        })
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;

//! What is wrong with a configuration, said so that it can be put right: where, which key, what, the remedy, the nearest name.
//!
//! It never quotes a secret, and quotes other values shortened ([`shown`]). Called by every other module of this crate; the
//! command line prints [`Mistake`]s as they are.
//! Invariant: names and values of any length or content give a message of bounded length on one line.

use std::fmt;

/// Longest part of a name or value that a message quotes, in characters.
const SHOWN_CHARS_MAX: usize = 60;
/// Longest name for which a nearest one is searched, in bytes: the search is quadratic.
const NEAREST_BYTES_MAX: usize = 64;

/// One thing that is wrong, or (among the warnings) that its reader should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// The configuration file, `environment`, `command line` or `defaults`.
    pub file: String,
    /// The line in that file, counted from 1; `None` where there are no lines.
    pub line: Option<u32>,
    /// The setting as it is written there: `state.listen`, or `WAYFARER_STATE__LISTEN`; empty for mistakes of syntax.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

/// What is wrong with a value, before it is known where the value stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Complaint {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

impl Complaint {
    /// A complaint with its remedy.
    pub(crate) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Complaint {
        Complaint { message: message.into(), remedy: remedy.into() }
    }
}

/// `text` as a message quotes it: in backquotes, on one line, shortened.
pub(crate) fn shown(text: &str) -> String {
    let mut quoted = String::from("`");
    quoted.push_str(&plain(text));
    quoted.push('`');
    quoted
}

/// `text` on one line and shortened, without quotes.
pub(crate) fn plain(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

/// The candidate that `name` was most likely meant to be, if one is near enough (a third of its letters may differ) or is the same word
/// cut short or with more behind it.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NEAREST_BYTES_MAX {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let name = plain(name);
    let rank = |candidate: &str| {
        let candidate = plain(candidate);
        let distance = strsim::damerau_levenshtein(&name, &candidate);
        if distance <= (name.len().min(candidate.len()) / 3).max(1) {
            return Some((0, distance));
        }
        let begins = name.len().min(candidate.len()) > 1 && (candidate.starts_with(&name) || name.starts_with(&candidate));
        (begins || candidate.split('_').any(|word| word == name)).then_some((1, distance))
    };
    candidates.into_iter().filter_map(|one| Some((rank(one)?, one))).min_by_key(|(rank, _)| *rank).map(|(_, one)| one)
}

/// The remedy for a word that is not among `words`: the nearest, or all of them.
pub(crate) fn choose_from(word: &str, words: &[&str]) -> String {
    match nearest(word, words.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? (possible: {})", words.join(", ")),
        None => format!("possible: {}", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_when_a_third_of_it_differs_and_not_when_more_does() {
        assert_eq!(nearest("lisen", ["listen", "upstream"]), Some("listen"));
        assert_eq!(nearest("Up-Stream", ["listen", "upstream"]), Some("upstream"));
        assert_eq!(nearest("banana", ["listen", "upstream"]), None);
        assert_eq!(nearest("flask", ["express-session", "flask-session", "flask-caching-session"]), Some("flask-session"));
        assert_eq!(nearest("redis", ["connect-redis", "koa-session"]), Some("connect-redis"));
        assert_eq!(nearest("hi", ["critical", "high", "medium", "low"]), Some("high"));
        assert_eq!(nearest("x", ["xyz"]), None);
        assert_eq!(nearest(&"listen".repeat(1_000), ["listen"]), None);
    }

    #[test]
    fn what_is_quoted_stays_short_and_on_one_line() {
        assert_eq!(shown("a\nb"), "`a\\nb`");
        assert!(shown(&"x".repeat(1_000_000)).chars().count() < 70);
    }
}

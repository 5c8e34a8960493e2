//! `HSCAN`, `SSCAN`, `ZSCAN`: everything at once, with a cursor that says that this was all.
//!
//! They never split a key over several calls: Redis does so only for large ones, and a client must take any number of elements.
//! So no element can be missed or come twice, whatever happens between two calls. Called by `execute`.
//!
//! Invariant: the cursor of the reply is 0.

use super::errors;
use super::execute::Run;
use super::glob;
use super::numbers::format_stored;
use crate::session::{Content, Kind};
use crate::wire::resp::parse_integer;
use bytes::Bytes;

/// Whether `strtoul` reads the whole text, as Redis demands of a cursor. Its value does not matter here.
pub(super) fn check_cursor(text: &[u8]) -> Result<(), Bytes> {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    let number = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
    let whole = number.is_some_and(|d| d.parse::<u64>().is_ok()) || text.is_empty();
    if whole { Ok(()) } else { Err(errors::INVALID_CURSOR.into()) }
}

/// The pattern of `MATCH`, if there is one. Redis looks at the options only if the key exists.
fn options(args: &[Bytes]) -> Result<Option<&Bytes>, &'static str> {
    let mut pattern = None;
    let mut rest = args;
    while let [option, behind @ ..] = rest {
        rest = match behind {
            [count, behind @ ..] if option.eq_ignore_ascii_case(b"count") => {
                match parse_integer(count) {
                    None => return Err(errors::NOT_AN_INTEGER),
                    Some(count) if count < 1 => return Err(errors::SYNTAX),
                    Some(_) => {}
                }
                behind
            }
            [text, behind @ ..] if option.eq_ignore_ascii_case(b"match") => {
                pattern = Some(text).filter(|text| text.as_ref() != b"*");
                behind
            }
            _ => return Err(errors::SYNTAX),
        };
    }
    Ok(pattern)
}

impl Run<'_> {
    pub(super) fn scan(&mut self, kind: Kind) {
        let found = match self.of_kind(kind) {
            None => return,
            Some(false) => Ok(None),
            Some(true) => options(self.op.args().get(3..).unwrap_or_default()),
        };
        let pattern = match found {
            Ok(pattern) => pattern,
            Err(error) => return self.reply.error(error),
        };
        let fits = |name: &Bytes| pattern.is_none_or(|p| glob::matches(p, name));
        let mut found = Vec::new();
        match (kind, self.key()) {
            (_, None) => {}
            (Kind::SortedSet, Some(key)) => {
                for (score, name) in key.ranked().into_iter().filter(|(_, name)| fits(name)) {
                    found.extend([name, format_stored(score).into()]);
                }
            }
            (_, Some(key)) => {
                for (name, variable) in key.variables().filter(|(name, _)| fits(name)) {
                    found.push(name.clone());
                    if let (Kind::Hash, Content::Here(value)) = (kind, &variable.content) {
                        found.push(value.clone());
                    }
                }
            }
        }
        self.session.count_reads(&self.target().key, self.now);
        self.reply.array(2);
        self.reply.bulk(b"0");
        self.reply.array(found.len());
        found.iter().for_each(|text| self.reply.bulk(text));
    }
}

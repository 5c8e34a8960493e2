//! `Cookie` and `Set-Cookie` fields → the value of one cookie.
//!
//! It decodes nothing but quotes, and never looks at more than [`PARTS_MAX`] cookies. A source calls it.
//! Invariant: a value that comes out stands in the fields as it is.

use crate::PARTS_MAX;

/// What an answer does to a cookie.
pub(crate) enum Set<'a> {
    To(&'a [u8]),
    Removed,
}

/// The value of cookie `name`; of several the first, or the last.
pub(crate) fn value<'a>(fields: impl IntoIterator<Item = &'a [u8]>, name: &[u8], last: bool) -> Option<&'a [u8]> {
    let pairs = fields.into_iter().flat_map(|field| field.split(|&byte| byte == b';')).take(PARTS_MAX);
    let mut values = pairs.filter_map(|pair| value_of(pair, name));
    if last { values.last() } else { values.next() }
}

/// The value of `name=value` if the name is the one wanted, without quotes around it.
fn value_of<'a>(pair: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let equals = pair.iter().position(|&byte| byte == b'=')?;
    let (name, rest) = pair.split_at_checked(equals)?;
    if name.trim_ascii() != wanted {
        return None;
    }
    let value = rest.strip_prefix(b"=")?.trim_ascii();
    Some(value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value))
}

/// What the fields of an answer do to cookie `name`; the last of several is what browsers keep.
pub(crate) fn set<'a>(fields: impl IntoIterator<Item = &'a [u8]>, name: &[u8]) -> Option<Set<'a>> {
    fields.into_iter().filter_map(|field| set_by(field, name)).last()
}

fn set_by<'a>(field: &'a [u8], name: &[u8]) -> Option<Set<'a>> {
    let mut parts = field.split(|&byte| byte == b';').take(PARTS_MAX);
    let value = value_of(parts.next()?, name)?;
    if value.is_empty() || parts.any(removes) {
        return Some(Set::Removed);
    }
    Some(Set::To(value))
}

/// Whether an attribute lies in the past: `Max-Age` of 0 or less, or `Expires` in the year in which clocks begin, as every framework
/// writes it to remove a cookie. (There is no clock here that could judge other dates.)
fn removes(attribute: &[u8]) -> bool {
    let attribute = attribute.trim_ascii();
    let Some(equals) = attribute.iter().position(|&byte| byte == b'=') else { return false };
    let Some((name, value)) = attribute.split_at_checked(equals) else { return false };
    let value = value.strip_prefix(b"=").unwrap_or_default().trim_ascii();
    if name.eq_ignore_ascii_case(b"max-age") {
        value.starts_with(b"-") || (!value.is_empty() && value.iter().all(|&byte| byte == b'0'))
    } else {
        name.eq_ignore_ascii_case(b"expires") && value.windows(4).any(|year| year == b"1970")
    }
}

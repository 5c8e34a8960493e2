//! Cookie headers → session id.
//!
//! It never checks a signature (the instance does, it has the secret), never logs, and never fails: what is malformed names
//! no session. The exchange of a request calls it; it is pure.
//!
//! | codec | cookie value | id |
//! |---|---|---|
//! | plain | `<id>` or `"<id>"` | the value as it stands |
//! | express | `s%3A<id>.<signature>`, also unencoded `s:<id>.<signature>` | between `s:` and the last dot, after percent-decoding |
//!
//! Of several cookies with the name the first decides, even if it is malformed: browsers send the most specific first, and
//! the frameworks take the first too. Invariant: an id is never empty and never longer than [`ID_BYTES_MAX`].

use crate::settings::{Codec, SessionCookie};
use std::borrow::Cow;

/// Longest session id.
pub const ID_BYTES_MAX: usize = 1024;
/// Longest cookie value that is looked at; browsers keep no longer ones.
pub const VALUE_BYTES_MAX: usize = 4096;
/// Cookies that are looked at in one request; browsers keep fewer per site.
pub const COOKIES_MAX: usize = 512;

/// The session that a request's `Cookie` headers (in their order) name.
pub fn session_of<'a>(headers: impl IntoIterator<Item = &'a [u8]>, cookie: &SessionCookie) -> Option<Cow<'a, [u8]>> {
    let value = headers
        .into_iter()
        .flat_map(|header| header.split(|&byte| byte == b';'))
        .take(COOKIES_MAX)
        .find_map(|pair| value_of(pair, cookie.name.as_bytes()))?;
    if value.len() > VALUE_BYTES_MAX {
        return None;
    }
    let id = match cookie.codec {
        Codec::Plain => Cow::Borrowed(value),
        Codec::Express => unsigned(percent_decoded(value)?)?,
    };
    (!id.is_empty() && id.len() <= ID_BYTES_MAX).then_some(id)
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

/// `%XX` → byte. `None` for a broken escape, and for a result that is not UTF-8: `decodeURIComponent` refuses both.
fn percent_decoded(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !value.contains(&b'%') {
        return Some(Cow::Borrowed(value));
    }
    let mut decoded = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            other => other,
        });
    }
    std::str::from_utf8(&decoded).is_ok().then_some(Cow::Owned(decoded))
}

/// The value of one hexadecimal digit.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// `s:<id>.<signature>` → id. An id may have dots, a signature has none.
fn unsigned(value: Cow<'_, [u8]>) -> Option<Cow<'_, [u8]>> {
    fn id(value: &[u8]) -> Option<&[u8]> {
        let signed = value.strip_prefix(b"s:")?;
        let dot = signed.iter().rposition(|&byte| byte == b'.')?;
        let (id, signature) = signed.split_at_checked(dot)?;
        (signature.len() > 1).then_some(id)
    }
    match value {
        Cow::Borrowed(value) => id(value).map(Cow::Borrowed),
        Cow::Owned(value) => id(&value).map(|id| Cow::Owned(id.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn cookie(codec: Codec) -> SessionCookie {
        SessionCookie { name: "sid".to_owned(), codec }
    }

    fn check(codec: Codec, headers: &[&str], expected: Option<&str>) {
        let found = session_of(headers.iter().map(|header| header.as_bytes()), &cookie(codec));
        assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{codec:?} {headers:?}");
    }

    #[test]
    fn plain() {
        check(Codec::Plain, &["sid=abc"], Some("abc"));
        check(Codec::Plain, &["theme=dark; sid=abc; x=y"], Some("abc"));
        check(Codec::Plain, &["theme=dark", "sid=abc"], Some("abc"));
        check(Codec::Plain, &["sid=\"abc\""], Some("abc"));
        check(Codec::Plain, &["sid=\""], Some("\""));
        check(Codec::Plain, &["  sid =  abc  "], Some("abc"));
        check(Codec::Plain, &["sid=a=b=="], Some("a=b=="));
        check(Codec::Plain, &["sid=first; sid=second"], Some("first"));
        check(Codec::Plain, &["sid=first", "sid=second"], Some("first"));
        check(Codec::Plain, &["sid=a%20b"], Some("a%20b"));
        for nothing in ["", ";", ";;=;", "sid", "sid=", "sid=\"\"", "SID=abc", "xsid=abc", "sidx=abc", "=sid", "a=sid=b"] {
            check(Codec::Plain, &[nothing], None);
        }
        check(Codec::Plain, &[], None);
    }

    #[test]
    fn express() {
        check(Codec::Express, &["sid=s%3Aabc.c2ln"], Some("abc"));
        check(Codec::Express, &["sid=s%3aabc.c2%2Bln%2F"], Some("abc"));
        check(Codec::Express, &["sid=s:abc.c2ln"], Some("abc"));
        check(Codec::Express, &["sid=\"s:abc.c2ln\""], Some("abc"));
        check(Codec::Express, &["sid=s%3Aa.b.c2ln"], Some("a.b"));
        check(Codec::Express, &["sid=s%3A%C3%A9.c2ln"], Some("é"));
        for nothing in [
            "sid=abc",
            "sid=s%3A",
            "sid=s%3Aabc",
            "sid=s%3Aabc.",
            "sid=s%3A.c2ln",
            "sid=j%3A%7B%7D",
            "sid=s%3",
            "sid=s%",
            "sid=s%3Aabc.%zz",
            "sid=s%3A%ff.c2ln",
            "sid=S%3Aabc.c2ln",
            "sid=s%3Aabc.c2ln%",
        ] {
            check(Codec::Express, &[nothing], None);
        }
        // The first of the name decides, also when it is malformed.
        check(Codec::Express, &["sid=broken; sid=s%3Aabc.c2ln"], None);
    }

    #[test]
    fn limits() {
        let longest = "x".repeat(ID_BYTES_MAX);
        check(Codec::Plain, &[&format!("sid={longest}")], Some(&longest));
        check(Codec::Plain, &[&format!("sid={longest}x")], None);
        check(Codec::Express, &[&format!("sid=s%3A{longest}.c2ln")], Some(&longest));
        check(Codec::Express, &[&format!("sid=s%3A{longest}x.c2ln")], None);
        check(Codec::Express, &[&format!("sid=s%3Aabc.{}", "x".repeat(VALUE_BYTES_MAX))], None);
        check(Codec::Plain, &[&format!("{}sid=abc", "a=b;".repeat(COOKIES_MAX - 1))], Some("abc"));
        check(Codec::Plain, &[&format!("{}sid=abc", "a=b;".repeat(COOKIES_MAX))], None);
    }

    /// Any bytes are taken without a panic, and what is found keeps the invariant.
    #[test]
    fn random_bytes() {
        let alphabet = b"sid=s:%3Aj.;\"= \t\xff\xc3\xa9abc0\0\r\n";
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut found = 0;
        for round in 0..200_000_u32 {
            let mut header: Vec<u8> = if round % 2 == 0 { b"sid=s%3A".to_vec() } else { Vec::new() };
            let length = next() % 24;
            header.extend((0..length).map(|_| alphabet[usize::try_from(next()).unwrap() % alphabet.len()]));
            for codec in [Codec::Plain, Codec::Express] {
                if let Some(id) = session_of([header.as_slice()], &cookie(codec)) {
                    found += 1;
                    assert!(!id.is_empty() && id.len() <= ID_BYTES_MAX, "{header:?}");
                }
            }
        }
        assert!(found > 1000, "the bytes are too random to find anything: {found}");
    }
}

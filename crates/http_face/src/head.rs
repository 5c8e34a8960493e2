//! The header of a request, of HTTP/1 as its bytes came: whether every program behind would read the same request in it.
//!
//! Pingora's parser is as lenient as others are, and drops what it overrules; what two programs may read differently is how requests
//! are smuggled, so it is refused here, byte for byte. It changes nothing. Called before anything else: of HTTP/1 by `framing`, before pingora
//! has read it, of HTTP/2 by the exchange; it is pure.
//!
//! | refused | because somebody |
//! |---|---|
//! | a bare CR or LF, NUL, other control characters | ends a line or a field there |
//! | a line that begins with white space; white space before the colon | joins it to the line before, or drops it |
//! | a name with other bytes than those of a token | reads another name |
//! | `Content-Length` twice, with sign, list or more than 18 digits; together with `Transfer-Encoding` | takes the other one |
//! | `Transfer-Encoding` twice, other than `chunked`, or in HTTP/1.0 | finds no chunks |
//! | `content_length`, `transfer_encoding`: `_` for `-` | takes `_` for `-` |
//! | `Host` missing, twice, or with other bytes than those of an authority | routes by another one |
//! | a target that is no path, `*` or `http://` with the same authority as `Host`; `#` in it | cuts or routes it otherwise |
//!
//! HTTP/2 has its own framing, and the h2 crate refuses what would break it (fields of the connection, upper case, control characters);
//! of the table the rows on names with `_`, on `Host` (which `:authority` is then, too) and on the target are left to be looked at.
//!
//! Invariant: what passes has one end, one length and one host, however it is read.

use http::header::{COOKIE, HeaderName, HeaderValue};
use pingora_http::RequestHeader;

/// A header that is refused, and why; the reason holds no byte of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// 400.
    Malformed(&'static str),
    /// 431.
    TooLarge,
    /// 405: a request for a tunnel.
    Tunnel,
}

/// How long the body behind a header is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Length {
    Bytes(u64),
    Chunked,
}

/// What was found of the fields that decide about framing and routing.
#[derive(Default)]
struct Found<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    has_encoding: bool,
}

/// Fields of a request: of HTTP/1 as many as pingora takes; of HTTP/2 without cookies, which may come in any number of pieces.
const FIELDS_MAX: usize = 256;
/// What HTTP/1 writes around name and value.
const FIELD_FRAME_BYTES: usize = 4;
/// Empty lines that may stand before a request: some old clients send one behind a body.
const EMPTY_LINES_MAX: usize = 1;
/// Digits of a `Content-Length`.
const LENGTH_DIGITS_MAX: usize = 18;

/// Looks at the header in `raw`, its blank line included: how long is the body behind it?
pub(crate) fn check(raw: &[u8], bytes_max: usize) -> Result<Length, Fault> {
    if raw.len() > bytes_max {
        return Err(Fault::TooLarge);
    }
    let mut rest = raw;
    for _ in 0..EMPTY_LINES_MAX {
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
    }
    let (request_line, mut rest) = line(rest)?;
    let (method, target, is_10) = request_parts(request_line)?;
    let (mut found, mut fields) = (Found::default(), 0_usize);
    loop {
        let (field, behind) = line(rest)?;
        if field.is_empty() {
            break;
        }
        take(field, is_10, &mut found)?;
        (rest, fields) = (behind, fields.saturating_add(1));
    }
    if fields > FIELDS_MAX {
        return Err(Fault::TooLarge);
    }
    if found.length.is_some() && found.has_encoding {
        return Err(Fault::Malformed("Content-Length and Transfer-Encoding"));
    }
    if found.host.is_none() && !is_10 {
        return Err(Fault::Malformed("no Host"));
    }
    if method == b"CONNECT" {
        return Err(Fault::Tunnel);
    }
    target_fits(method, target, found.host)?;
    Ok(if found.has_encoding { Length::Chunked } else { Length::Bytes(found.length.unwrap_or(0)) })
}

/// Looks at the header of a request of HTTP/2.
pub(crate) fn check_fields(request: &RequestHeader, bytes_max: usize) -> Result<(), Fault> {
    let target = request.raw_path();
    let field_bytes = |(name, value): (&HeaderName, &HeaderValue)| {
        name.as_str().len().saturating_add(value.len()).saturating_add(FIELD_FRAME_BYTES)
    };
    let bytes = request.headers.iter().map(field_bytes).fold(target.len(), usize::saturating_add);
    let cookies = request.headers.get_all(COOKIE).iter().count();
    if bytes > bytes_max || request.headers.len().saturating_sub(cookies) > FIELDS_MAX {
        return Err(Fault::TooLarge);
    }
    let (mut found, is_10) = (Found::default(), false);
    for (name, value) in &request.headers {
        if name != COOKIE {
            take_named(name.as_str().as_bytes(), value.as_bytes().trim_ascii(), is_10, &mut found)?;
        }
    }
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    if !authority.is_none_or(is_authority) {
        return Err(Fault::Malformed("the authority"));
    }
    if target.is_empty() || target.iter().any(|&byte| byte <= b' ' || byte == 0x7f || byte == b'#') {
        return Err(Fault::Malformed("the target"));
    }
    target_fits(request.method.as_str().as_bytes(), target, found.host.or(authority))
}

/// The bytes up to the next CR LF, and what is behind it. White space that may stand within a line is left in it.
fn line(raw: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = raw.iter().position(|&byte| byte < b' ' && byte != b'\t').ok_or(Fault::Malformed("no end of the header"))?;
    let (line, rest) = raw.split_at_checked(end).ok_or(Fault::Malformed("no end of the header"))?;
    if line.contains(&0x7f) {
        return Err(Fault::Malformed("a control character"));
    }
    let rest = rest.strip_prefix(b"\r\n").ok_or(Fault::Malformed("a control character, or a line end of one character"))?;
    Ok((line, rest))
}

fn request_parts(line: &[u8]) -> Result<(&[u8], &[u8], bool), Fault> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Fault::Malformed("a request line that has not three parts"));
    };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(Fault::Malformed("the method"));
    }
    // Of bytes that are no UTF-8 pingora would make others.
    if target.is_empty() || target.iter().any(|&byte| byte == b'\t' || byte == b'#') || std::str::from_utf8(target).is_err() {
        return Err(Fault::Malformed("the target"));
    }
    match version {
        b"HTTP/1.1" => Ok((method, target, false)),
        b"HTTP/1.0" => Ok((method, target, true)),
        _ => Err(Fault::Malformed("the version")),
    }
}

/// Notes one field.
fn take<'a>(field: &'a [u8], is_10: bool, found: &mut Found<'a>) -> Result<(), Fault> {
    let colon = field.iter().position(|&byte| byte == b':').ok_or(Fault::Malformed("a field without colon"))?;
    let (name, value) = field.split_at_checked(colon).ok_or(Fault::Malformed("a field without colon"))?;
    take_named(name, value.strip_prefix(b":").unwrap_or_default().trim_ascii(), is_10, found)
}

/// Notes one field by its name.
fn take_named<'a>(name: &[u8], value: &'a [u8], is_10: bool, found: &mut Found<'a>) -> Result<(), Fault> {
    if name.is_empty() || !name.iter().copied().all(is_token) {
        // A folded line begins with white space, which is no token either.
        return Err(Fault::Malformed("the name of a field"));
    }
    let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
    if is(b"content-length") {
        let length = length(value).filter(|_| found.length.is_none()).ok_or(Fault::Malformed("Content-Length"))?;
        found.length = Some(length);
        return Ok(());
    }
    if is(b"transfer-encoding") {
        let right = !found.has_encoding && !is_10 && value.eq_ignore_ascii_case(b"chunked");
        found.has_encoding = true;
        return if right { Ok(()) } else { Err(Fault::Malformed("Transfer-Encoding")) };
    }
    if is(b"host") {
        let right = found.host.is_none() && is_authority(value);
        found.host = Some(value);
        return if right { Ok(()) } else { Err(Fault::Malformed("Host")) };
    }
    if is(b"content_length") || is(b"transfer_encoding") {
        return Err(Fault::Malformed("a framing field with an underscore"));
    }
    Ok(())
}

/// A number in digits, and nothing else.
fn length(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.len() <= LENGTH_DIGITS_MAX && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}

/// RFC 9110, section 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Host and port: no user, path, list or space. (Empty is what clients send for a target without authority.)
pub(crate) fn is_authority(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(&byte))
}

/// Whether the target is of a form that a proxy before an instance forwards, and names no other host.
fn target_fits(method: &[u8], target: &[u8], host: Option<&[u8]>) -> Result<(), Fault> {
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok(());
    }
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let rest = scheme.and_then(|scheme| target.get(scheme.len()..)).ok_or(Fault::Malformed("the target"))?;
    let authority = rest.split(|&byte| matches!(byte, b'/' | b'?')).next().unwrap_or_default();
    if authority.is_empty() || !is_authority(authority) {
        return Err(Fault::Malformed("the authority of the target"));
    }
    match host {
        Some(host) if host.eq_ignore_ascii_case(authority) => Ok(()),
        None => Ok(()),
        Some(_) => Err(Fault::Malformed("a target of another host than Host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(raw: &str) -> Option<&'static str> {
        match check(raw.as_bytes(), 4096) {
            Ok(_) => None,
            Err(Fault::Malformed(why)) => Some(why),
            Err(Fault::TooLarge) => Some("too large"),
            Err(Fault::Tunnel) => Some("a tunnel"),
        }
    }

    #[test]
    fn what_is_right_passes() {
        for raw in [
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "\r\nGET /a?b=c HTTP/1.1\r\nHost: shop.example:81\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nhost:h\r\n\r\n",
            "GET http://H.example:80/x HTTP/1.1\r\nHost: h.example:80\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 0010 \r\nX:\ta\tb \r\n\r\n",
            "POST / HTTP/1.1\r\nHost: \r\nTransfer-Encoding: Chunked\r\nX: é\r\n\r\n",
        ] {
            assert_eq!(refused(raw), None, "{raw:?}");
        }
    }

    #[test]
    fn what_follows_is_as_long_as_it_says() {
        let length = |fields: &str| check(format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes(), 4096);
        assert_eq!(length(""), Ok(Length::Bytes(0)));
        assert_eq!(length("Content-Length: 0012 \r\n"), Ok(Length::Bytes(12)));
        assert_eq!(length("transfer-encoding: chunked\r\n"), Ok(Length::Chunked));
        assert_eq!(length(&"a: b\r\n".repeat(FIELDS_MAX - 1)), Ok(Length::Bytes(0)));
        assert_eq!(length(&"a: b\r\n".repeat(FIELDS_MAX)), Err(Fault::TooLarge));
        assert_eq!(check(b"CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", 4096), Err(Fault::Tunnel));
        assert!(check(b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", 4096).is_err());
    }

    fn fields(method: &str, uri: &str, fields: &[(&'static str, &str)]) -> Result<(), Fault> {
        let mut request = RequestHeader::build(method, b"/", None).unwrap_or_else(|error| panic!("{error}"));
        request.set_uri(uri.parse().unwrap_or_else(|error| panic!("{uri}: {error}")));
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap_or_else(|error| panic!("{error}"));
        }
        check_fields(&request, 4096)
    }

    #[test]
    fn of_http2_what_is_one_request_passes_and_nothing_else() {
        let many: Vec<_> = std::iter::repeat_n(("cookie", "a=b"), 300).collect();
        assert_eq!(fields("GET", "https://h:1/a?b=c", &[("x", "y"), ("content-length", "3")]), Ok(()));
        assert_eq!(fields("GET", "/", &[("host", "h")]), Ok(()));
        assert_eq!(fields("GET", "https://h/", &many), Ok(()));
        for wrong in [
            [("content_length", "3")],
            [("transfer_encoding", "chunked")],
            [("host", "a b")],
            [("host", "a, b")],
            [("content-length", "+3")],
        ] {
            assert!(matches!(fields("GET", "https://h/", &wrong), Err(Fault::Malformed(_))), "{wrong:?}");
        }
        assert!(matches!(fields("GET", "/", &[("host", "a"), ("host", "a")]), Err(Fault::Malformed(_))));
        assert!(matches!(fields("GET", "*", &[("host", "a")]), Err(Fault::Malformed(_))));
        assert!(matches!(fields("GET", "https://a@b/", &[]), Err(Fault::Malformed(_))));
        assert_eq!(fields("GET", "https://h/", &[("x", &"y".repeat(4096))]), Err(Fault::TooLarge));
        let many: Vec<_> = std::iter::repeat_n(("x", "y"), 257).collect();
        assert_eq!(fields("GET", "https://h/", &many), Err(Fault::TooLarge));
    }

    #[test]
    fn what_could_be_read_in_two_ways_does_not() {
        let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
        for fields in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1, 1",
            "Content-Length: +1",
            "Content-Length: -1",
            "Content-Length: 0x1",
            "Content-Length: 1 1",
            "Content-Length:",
            "Content-Length: 9999999999999999999",
            "Content-Length : 1",
            "Content-Length\t: 1",
            " Content-Length: 1",
            "X: y\r\n folded",
            "X: y\r\n\tfolded",
            "Content_Length: 1",
            "Transfer_Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: \u{b}chunked",
            "Transfer-Encoding:\u{a0}chunked",
            "Transfer-Encoding",
            "Transfer-Encoding : chunked",
            "X: a\nTransfer-Encoding: chunked",
            "X: a\rTransfer-Encoding: chunked",
            "X: a\0b",
            "X: a\u{7f}b",
            "X\u{0}: a",
            ": a",
            "X y: a",
            "X(: a",
            "É: a",
            "Host: h",
            "X: a\n",
        ] {
            assert!(refused(&head(fields)).is_some(), "{fields:?}");
        }
        for raw in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\nHost: h\n\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
            "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
            "GET / x HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
            " GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: h\r\n\r\n",
            "GET / http/1.1\r\nHost: h\r\n\r\n",
            "G@T / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /#a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET http:///x HTTP/1.1\r\nHost: \r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            assert!(refused(raw).is_some(), "{raw:?}");
        }
        assert_eq!(refused(&head(&format!("X: {}", "x".repeat(5000)))), Some("too large"));
    }
}

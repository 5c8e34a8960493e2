//! The header rules of a proxy that pingora leaves to its user: who the request came from, and hop-by-hop fields of answers.
//!
//! Pingora itself takes the hop-by-hop fields out of requests, keeps the upgrade fields of a WebSocket handshake, and sets
//! `Connection` and `Date` of answers. The exchange calls this; it is pure. Invariant: framing fields (`Content-Length`,
//! `Transfer-Encoding`) are pingora's alone, and no client or instance can have them removed by naming them in `Connection`.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING, UPGRADE};
use pingora_http::{RequestHeader, ResponseHeader};
use std::net::IpAddr;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Fields that an answer's `Connection` may name; more are ignored.
const NOMINATIONS_MAX: usize = 16;

/// Appends the client to `X-Forwarded-For`, and says `http` in `X-Forwarded-Proto` unless a balancer in front said what the
/// client spoke. An error means that the header has no room left.
pub(crate) fn name_client(request: &mut RequestHeader, client: IpAddr) -> Result<(), Box<pingora_core::Error>> {
    let client = client.to_canonical().to_string();
    let mut list = Vec::new();
    for hop in request.headers.get_all(FORWARDED_FOR) {
        list.extend_from_slice(hop.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(client.as_bytes());
    request.insert_header(FORWARDED_FOR, list)?;
    if !request.headers.contains_key(FORWARDED_PROTO) {
        request.insert_header(FORWARDED_PROTO, HeaderValue::from_static("http"))?;
    }
    Ok(())
}

/// Takes out of an answer what was meant for the connection between instance and face only. Not for an answer 101, whose
/// upgrade fields are the handshake.
pub(crate) fn strip_hop_by_hop(answer: &mut ResponseHeader) {
    let nominated: Vec<HeaderName> = answer
        .headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .take(NOMINATIONS_MAX)
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| name != CONTENT_LENGTH && name != TRANSFER_ENCODING)
        .collect();
    for name in nominated.iter().chain(&[CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRAILER, UPGRADE]) {
        answer.remove_header(name);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn the_client_is_appended() {
        let check = |fields: &[(&'static str, &str)], client: &str, expected_for: &str, expected_proto: &str| {
            let mut request = request(fields);
            name_client(&mut request, client.parse().unwrap()).unwrap();
            let all: Vec<_> = request.headers.get_all(FORWARDED_FOR).iter().collect();
            assert_eq!(all, [expected_for], "{fields:?}");
            assert_eq!(request.headers.get(FORWARDED_PROTO).unwrap(), expected_proto, "{fields:?}");
        };
        check(&[], "10.0.0.1", "10.0.0.1", "http");
        check(&[("x-forwarded-for", "1.2.3.4")], "10.0.0.1", "1.2.3.4, 10.0.0.1", "http");
        check(&[("x-forwarded-for", "a, b"), ("X-Forwarded-For", "c")], "::1", "a, b, c, ::1", "http");
        check(&[("x-forwarded-proto", "https")], "::ffff:10.0.0.1", "10.0.0.1", "https");
    }

    #[test]
    fn hop_by_hop_fields_end_here() {
        let mut answer = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("connection", "keep-alive, x-hop, content-length"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("x-hop", "1"),
            ("x-end", "2"),
            ("content-length", "3"),
        ] {
            answer.append_header(name, value).unwrap();
        }
        strip_hop_by_hop(&mut answer);
        let mut left: Vec<&str> = answer.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "x-end"]);
    }
}

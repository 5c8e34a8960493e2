//! The header rules of a proxy that pingora leaves to its user: who the request came from, and hop-by-hop fields of answers.
//!
//! Pingora itself takes the hop-by-hop fields out of requests, keeps the upgrade fields of a WebSocket handshake, and sets
//! `Connection` and `Date` of answers. The exchange calls this; it is pure. Invariant: framing fields (`Content-Length`,
//! `Transfer-Encoding`) are pingora's alone, and no client or instance can have them removed by naming them in `Connection`.

use crate::connection::Peer;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use pingora_http::{RequestHeader, ResponseHeader};
use std::net::IpAddr;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What others may claim about where a request came from.
pub(crate) const CLAIMS: [&str; 7] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-real-ip",
];

/// Fields that an answer's `Connection` may name; more are ignored.
const NOMINATIONS_MAX: usize = 16;

/// Says who the request came from and how. What a trusted peer says of those before it is kept and lengthened; what anybody else
/// says of them is taken away. An error means that the header has no room left.
pub(crate) fn name_client(request: &mut RequestHeader, peer: Peer) -> Result<(), Box<pingora_core::Error>> {
    if !peer.is_trusted {
        for claim in CLAIMS {
            request.remove_header(claim);
        }
    }
    let client = peer.address.to_canonical().to_string();
    append_forwarded(request, peer.address, peer.scheme)?;
    let mut list = Vec::new();
    for hop in request.headers.get_all(FORWARDED_FOR) {
        list.extend_from_slice(hop.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(client.as_bytes());
    request.insert_header(FORWARDED_FOR, list)?;
    if !request.headers.contains_key(FORWARDED_PROTO) {
        request.insert_header(FORWARDED_PROTO, HeaderValue::from_static(peer.scheme))?;
    }
    // Between HTTP/2 and HTTP/2 there need be no Host.
    let authority = || request.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if !request.headers.contains_key(FORWARDED_HOST)
        && let Some(host) = request.headers.get(HOST).cloned().or_else(authority)
    {
        request.insert_header(FORWARDED_HOST, host)?;
    }
    Ok(())
}

/// Names a host if the client has named none, as HTTP/1.0 allows: what goes on is of HTTP/1.1, which must have one. The same for every
/// member, so that the instance sees the same, whichever way the request came.
pub(crate) fn name_host(request: &mut RequestHeader) -> Result<(), Box<pingora_core::Error>> {
    if request.headers.contains_key(HOST) || request.uri.authority().is_some() {
        return Ok(());
    }
    request.insert_header(HOST, HeaderValue::from_static("localhost"))
}

/// RFC 7239's field is lengthened where a trusted peer writes it, and not begun: those who read it configure it.
fn append_forwarded(request: &mut RequestHeader, client: IpAddr, scheme: &str) -> Result<(), Box<pingora_core::Error>> {
    if !request.headers.contains_key(FORWARDED) {
        return Ok(());
    }
    let mut list = Vec::new();
    for hop in request.headers.get_all(FORWARDED) {
        list.extend_from_slice(hop.as_bytes());
        list.extend_from_slice(b", ");
    }
    let this = match client.to_canonical() {
        IpAddr::V4(client) => format!("for={client};proto={scheme}"),
        IpAddr::V6(client) => format!("for=\"[{client}]\";proto={scheme}"),
    };
    list.extend_from_slice(this.as_bytes());
    request.insert_header(FORWARDED, list)
}

/// Joins the pieces into which HTTP/2 may cut the cookies of a request (RFC 9113, section 8.2.3): who speaks HTTP/1 expects one field.
pub(crate) fn join_cookies(request: &mut RequestHeader) -> Result<(), Box<pingora_core::Error>> {
    let pieces: Vec<&[u8]> = request.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if pieces.len() < 2 {
        return Ok(());
    }
    let whole = pieces.join(b"; ".as_slice());
    request.insert_header(COOKIE, whole)
}

/// Lets a request change the connection to a WebSocket and to nothing else: an instance that takes h2c would serve whatever is
/// sent through such a tunnel, past everything that is done here.
pub(crate) fn upgrade_to_websocket_only(request: &mut RequestHeader) {
    if request.headers.contains_key(&UPGRADE) && !asks_for_websocket(request) {
        request.remove_header(&UPGRADE);
        request.remove_header(&CONNECTION);
        request.remove_header(&HTTP2_SETTINGS);
    }
}

/// Whether the instance may answer it with 101.
pub(crate) fn asks_for_websocket(request: &RequestHeader) -> bool {
    let mut wanted = request.headers.get_all(UPGRADE).iter();
    let is_websocket = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket");
    wanted.next().is_some_and(is_websocket) && wanted.next().is_none()
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
            name_client(&mut request, Peer { address: client.parse().unwrap(), is_trusted: true, scheme: "http" }).unwrap();
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
    fn what_strangers_claim_is_taken_away() {
        let mut claims = request(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "other"),
            ("x-real-ip", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("host", "h"),
        ]);
        let mut trusted = claims.clone();
        let address = "2001:db8::1".parse().unwrap();
        name_client(&mut claims, Peer { address, is_trusted: false, scheme: "https" }).unwrap();
        let left = |request: &RequestHeader| {
            let mut left: Vec<String> =
                request.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
            left.sort_unstable();
            left
        };
        assert_eq!(left(&claims), ["host: h", "x-forwarded-for: 2001:db8::1", "x-forwarded-host: h", "x-forwarded-proto: https"]);
        name_client(&mut trusted, Peer { address, is_trusted: true, scheme: "http" }).unwrap();
        let forwarded = trusted.headers.get(FORWARDED).unwrap();
        assert_eq!(forwarded, "for=1.2.3.4, for=\"[2001:db8::1]\";proto=http");
        assert_eq!(trusted.headers.get(FORWARDED_HOST).unwrap(), "other");
    }

    #[test]
    fn cookies_are_one_field() {
        let mut crumbs = request(&[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d; e=f"), ("cookie", "g")]);
        join_cookies(&mut crumbs).unwrap();
        let all: Vec<_> = crumbs.headers.get_all(COOKIE).iter().collect();
        assert_eq!(all, ["a=b; c=d; e=f; g"]);
    }

    #[test]
    fn only_websockets_are_tunnels() {
        for (upgrade, kept) in
            [(&["websocket"][..], true), (&["WebSocket"], true), (&["h2c"], false), (&["websocket, h2c"], false)]
        {
            let fields: Vec<_> = upgrade.iter().map(|value| ("upgrade", *value)).chain([("connection", "upgrade")]).collect();
            let mut request = request(&fields);
            upgrade_to_websocket_only(&mut request);
            assert_eq!(
                (request.headers.contains_key(UPGRADE), request.headers.contains_key(CONNECTION)),
                (kept, kept),
                "{upgrade:?}"
            );
        }
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

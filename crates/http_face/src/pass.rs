//! The pass of a request that one member forwards to another: it shows that a member sends it, and that it has been forwarded.
//!
//! It reads no clock and no key file: time and key are arguments. The exchange writes a pass as the last thing before a request goes to
//! the owner of its session, and the face that members come to asks each request for one.
//!
//! ```text
//! wayfarer-pass: 1.MILLISECONDS.BASE64(HMAC-SHA-256(key, what it is for))
//! ```
//!
//! | it is for | so that |
//! |---|---|
//! | the address of the one member | no other member takes it |
//! | the time, [`AGE_MS_MAX`] at most | one that was seen somewhere is soon worth nothing |
//! | method, path and query | it opens nothing else |
//! | what is said of the client: `X-Forwarded-…`, `Forwarded`, `X-Request-Id` | nobody else says it |
//!
//! Invariants: clients can neither make nor use one, for the face that they come to takes it away, and the one that members come to
//! takes nothing without; a request with a pass is never forwarded again.

use crate::forwarding::CLAIMS;
use crate::trace::REQUEST_ID;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use pingora_http::RequestHeader;
use sha2::Sha256;
use std::fmt;
use std::net::SocketAddr;
use subtle::ConstantTimeEq;

/// The field of a pass.
pub(crate) const PASS: HeaderName = HeaderName::from_static("wayfarer-pass");
/// What the answer to a forwarded request has if its session was not there after all.
pub(crate) const ELSEWHERE: HeaderName = HeaderName::from_static("wayfarer-elsewhere");

/// What the answer to a forwarded request has if nothing of the request has come to an instance: whoever sent it may run it.
pub(crate) const GIVEN_BACK: HeaderName = HeaderName::from_static("wayfarer-given-back");
/// What only members say to each other.
pub(crate) const OURS: [HeaderName; 3] = [PASS, ELSEWHERE, GIVEN_BACK];

/// How old a pass may be, and how far the clocks of two members may be apart.
const AGE_MS_MAX: u64 = 30_000;
/// What the members of a cluster share, and nobody else knows.
#[derive(Clone, PartialEq, Eq)]
pub struct PassKey([u8; 32]);

impl fmt::Debug for PassKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl PassKey {
    /// Random bytes that all members have.
    pub fn new(bytes: [u8; 32]) -> PassKey {
        PassKey(bytes)
    }

    /// The pass for `request` to the member at `to`.
    pub(crate) fn sign(&self, to: SocketAddr, now_unix_ms: u64, request: &RequestHeader) -> String {
        format!("1.{now_unix_ms}.{}", STANDARD_NO_PAD.encode(self.mac(to, now_unix_ms, request)))
    }

    /// Whether `request` has one pass, and that is right for the member at `to`.
    pub(crate) fn admits(&self, to: SocketAddr, now_unix_ms: u64, request: &RequestHeader) -> bool {
        let mut passes = request.headers.get_all(&PASS).iter();
        let (Some(pass), None) = (passes.next(), passes.next()) else { return false };
        let Some((at_ms, mac)) = pass.to_str().ok().and_then(parse) else { return false };
        let right = STANDARD_NO_PAD.encode(self.mac(to, at_ms, request));
        let is_right = bool::from(right.as_bytes().ct_eq(mac.as_bytes()));
        is_right && now_unix_ms.abs_diff(at_ms) <= AGE_MS_MAX
    }

    /// Empty if an HMAC took no key of this length, which it does.
    fn mac(&self, to: SocketAddr, at_ms: u64, request: &RequestHeader) -> Vec<u8> {
        let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0) else { return Vec::new() };
        let mut add = |piece: &[u8]| {
            // With its length, so that nothing can be moved from one piece to the next.
            mac.update(&u64::try_from(piece.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(piece);
        };
        add(b"wayfarer pass 1");
        add(to.to_string().as_bytes());
        add(&at_ms.to_be_bytes());
        add(request.method.as_str().as_bytes());
        add(request.uri.path_and_query().map_or("", |target| target.as_str()).as_bytes());
        // What a proxy says of the client.
        for name in CLAIMS.into_iter().chain([REQUEST_ID.as_str()]) {
            let values = request.headers.get_all(name);
            add(&u64::try_from(values.iter().count()).unwrap_or(u64::MAX).to_be_bytes());
            values.iter().for_each(|value| add(value.as_bytes()));
        }
        mac.finalize().into_bytes().to_vec()
    }
}

fn parse(pass: &str) -> Option<(u64, &str)> {
    let (at_ms, mac) = pass.strip_prefix("1.")?.split_once('.')?;
    (!at_ms.is_empty() && at_ms.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
    Some((at_ms.parse().ok()?, mac))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TO: &str = "127.0.0.1:4001";
    const NOW: u64 = 1_700_000_000_000;

    fn request(target: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn signed() -> RequestHeader {
        let mut request = request("/cart?a=b", &[("x-forwarded-for", "1.2.3.4"), ("host", "shop")]);
        let pass = PassKey::new([7; 32]).sign(TO.parse().unwrap(), NOW, &request);
        request.insert_header(PASS, pass).unwrap();
        request
    }

    fn admits(request: &RequestHeader) -> bool {
        PassKey::new([7; 32]).admits(TO.parse().unwrap(), NOW, request)
    }

    #[test]
    fn a_pass_is_good_for_its_request_its_member_and_a_while() {
        let (key, to) = (PassKey::new([7; 32]), TO.parse().unwrap());
        let request = signed();
        assert!(admits(&request));
        for (now, admitted) in [(NOW + AGE_MS_MAX, true), (NOW + AGE_MS_MAX + 1, false), (NOW - AGE_MS_MAX - 1, false)] {
            assert_eq!(key.admits(to, now, &request), admitted, "{now}");
        }
        assert!(!key.admits("127.0.0.1:4002".parse().unwrap(), NOW, &request), "another member");
        assert!(!PassKey::new([8; 32]).admits(to, NOW, &request), "another cluster");
    }

    #[test]
    fn what_it_is_for_cannot_be_changed() {
        type Change = fn(&mut RequestHeader);
        let changes: [Change; 6] = [
            |request| request.set_method(http::Method::POST),
            |request| request.set_uri("/cart?a=c".parse().unwrap()),
            |request| request.insert_header("x-forwarded-for", "1.2.3.5").unwrap(),
            |request| assert!(request.append_header("x-forwarded-for", "1.2.3.4").unwrap()),
            |request| request.insert_header("x-forwarded-proto", "https").unwrap(),
            |request| request.insert_header("x-request-id", "mine").unwrap(),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut request = signed();
            change(&mut request);
            assert!(!admits(&request), "change {n}");
        }
        let mut other = signed();
        other.insert_header("cookie", "sid=other").unwrap();
        assert!(admits(&other), "the rest is the client's to say");
    }

    #[test]
    fn what_is_no_pass_is_refused() {
        let right = signed().headers.get(&PASS).unwrap().to_str().unwrap().to_owned();
        let mac = right.rsplit('.').next().unwrap();
        for wrong in [
            "",
            "1",
            "1.",
            "1..",
            &format!("1..{mac}"),
            &format!("2.{NOW}.{mac}"),
            &format!("1.+{NOW}.{mac}"),
            &format!("{right}="),
        ] {
            let mut request = signed();
            request.insert_header(PASS, wrong).unwrap();
            assert!(!admits(&request), "{wrong:?}");
        }
        let mut twice = signed();
        twice.append_header(PASS, right.as_str()).unwrap();
        assert!(!admits(&twice));
        assert!(!admits(&request("/cart?a=b", &[])));
        assert_eq!(format!("{:?}", PassKey::new([7; 32])), "…");
    }
}

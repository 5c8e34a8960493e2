//! What tells the balancers in front which node has the session of a client: a cookie, and a field of each answer.
//!
//! It knows no session's place: it is told who the owner is, by the name that balancers know that node by. Called by the exchange for
//! each answer. A balancer that takes the hint sends the client's next request to the owner; one that does not costs nothing.
//!
//! | encoding | the cookie's value | read by |
//! |---|---|---|
//! | plain | the name itself | HAProxy (`cookie NAME`, each server with its value), nginx (`map $cookie_NAME`) |
//! | envoy | base64 of a protobuf message whose field 1 is the name, an `IP:PORT` | Envoy's cookie-based stateful session filter |
//!
//! Invariants: a client that has the right hint gets none; an answer without a session, or of a session whose owner is not known or
//! takes no new requests, is not changed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora_http::ResponseHeader;

/// How the cookie's value says the node's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum HintEncoding {
    /// As it is.
    Plain,
    /// As Envoy writes it.
    Envoy,
}

/// Where hints are put. With neither there are none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HintSettings {
    /// The cookie's name.
    pub cookie: Option<String>,
    /// The field of each answer; its value is the name itself.
    pub field: Option<HeaderName>,
    /// How the cookie says it.
    pub encoding: HintEncoding,
}

impl HintSettings {
    /// Whether anybody wants to know where sessions are.
    pub fn is_empty(&self) -> bool {
        self.cookie.is_none() && self.field.is_none()
    }

    /// Adds what this answer must say, for a client that sent `request` over `scheme`, so that its requests come to `owner`.
    pub(crate) fn write(
        &self,
        owner: &str,
        request: &HeaderMap,
        scheme: &str,
        answer: &mut ResponseHeader,
    ) -> pingora_core::Result<()> {
        if let Some(field) = &self.field {
            answer.insert_header(field.clone(), owner)?;
        }
        let Some(name) = &self.cookie else { return Ok(()) };
        let value = self.encoding.of(owner);
        if has_cookie(request, name, &value) {
            return Ok(());
        }
        let secure = if scheme == "https" { "; Secure" } else { "" };
        let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}");
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            answer.append_header(header::SET_COOKIE, cookie)?;
        }
        Ok(())
    }
}

impl HintEncoding {
    fn of(self, name: &str) -> String {
        match self {
            HintEncoding::Plain => name.to_owned(),
            HintEncoding::Envoy => {
                // Field 1, of a length; names are shorter than the 128 bytes from which on a length needs a second byte.
                let length = u8::try_from(name.len()).unwrap_or(u8::MAX).min(NAME_BYTES_MAX);
                let shown = name.as_bytes().get(..usize::from(length)).unwrap_or_default();
                STANDARD.encode([&[0x0A, length], shown].concat())
            }
        }
    }
}

/// Longest name of a node for balancers.
pub const NAME_BYTES_MAX: u8 = 127;

/// Whether a request has this cookie with this value.
fn has_cookie(request: &HeaderMap, name: &str, value: &str) -> bool {
    let pairs = request.get_all(header::COOKIE).into_iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    let mut found = pairs.filter_map(|pair| {
        let pair = pair.trim_ascii();
        let (key, value) = pair.split_at_checked(pair.iter().position(|byte| *byte == b'=')?)?;
        if key == name.as_bytes() { value.get(1..) } else { None }
    });
    // The first one is what balancers read.
    found.next() == Some(value.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn written(encoding: HintEncoding, cookies: &[&str], scheme: &str) -> Vec<String> {
        let hints = HintSettings { cookie: Some("node".into()), field: Some(HeaderName::from_static("x-node")), encoding };
        let mut request = HeaderMap::new();
        for cookie in cookies {
            request.append(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
        }
        let mut answer = ResponseHeader::build(200, None).unwrap();
        hints.write("10.0.0.7:8080", &request, scheme, &mut answer).unwrap();
        assert_eq!(answer.headers.get("x-node").unwrap(), "10.0.0.7:8080");
        answer.headers.get_all(header::SET_COOKIE).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_client_without_the_right_hint_gets_it() {
        let cookie = "node=10.0.0.7:8080; Path=/; HttpOnly; SameSite=Lax";
        for cookies in
            [&[][..], &["sid=1"], &["node=10.0.0.8:8080"], &["node"], &["xnode=10.0.0.7:8080"], &["node=a; node=10.0.0.7:8080"]]
        {
            assert_eq!(written(HintEncoding::Plain, cookies, "http"), [cookie], "{cookies:?}");
        }
        assert_eq!(written(HintEncoding::Plain, &[], "https"), [format!("{cookie}; Secure")]);
    }

    #[test]
    fn a_client_with_the_right_hint_gets_none() {
        for cookies in [&["node=10.0.0.7:8080"][..], &["sid=1;node=10.0.0.7:8080"], &["sid=1", "a=b; node=10.0.0.7:8080 "]] {
            assert_eq!(written(HintEncoding::Plain, cookies, "http"), [""; 0], "{cookies:?}");
        }
    }

    #[test]
    fn envoy_gets_its_message() {
        // The bytes 0A 0D and the address, as protobuf writes a string of 13 bytes in field 1.
        let expected = "node=Cg0xMC4wLjAuNzo4MDgw; Path=/; HttpOnly; SameSite=Lax";
        assert_eq!(written(HintEncoding::Envoy, &["node=10.0.0.7:8080"], "http"), [expected]);
        assert_eq!(written(HintEncoding::Envoy, &["node=Cg0xMC4wLjAuNzo4MDgw"], "http"), [""; 0]);
    }
}

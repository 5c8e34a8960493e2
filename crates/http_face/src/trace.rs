//! W3C trace context and request ids: kept where they are right, begun where there are none.
//!
//! It makes no spans: a `traceparent` that came passes as it is. It takes random bytes as an argument; it is pure. The exchange calls
//! it.
//!
//! | field | kept | else |
//! |---|---|---|
//! | `traceparent` | of version 00 to fe with ids that are not zero | begun, not sampled; `tracestate` is taken away |
//! | `x-request-id` | 1 to 128 visible ASCII characters, from a trusted peer | the trace's id, or made new |
//!
//! Invariant: a request that reaches the instance has one of each.

use http::header::{HeaderName, HeaderValue};
use pingora_core::Error;
use pingora_http::RequestHeader;

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is kept, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// What a new trace and its first span need.
pub(crate) const RANDOM_BYTES: usize = 24;

/// Sees to it that `request` has both; `random` is called once at most. An error means that the header has no room left.
pub(crate) fn follow(
    request: &mut RequestHeader,
    is_trusted: bool,
    random: impl FnOnce() -> [u8; RANDOM_BYTES],
) -> Result<(), Box<Error>> {
    let kept = kept_trace(request);
    let trace = match kept {
        Some(trace) => trace,
        None => {
            let digits = hexadecimal(&random());
            let (trace, span) = digits.split_at_checked(32).unwrap_or((&digits, ""));
            request.remove_header(&TRACE_STATE);
            request.insert_header(TRACE_PARENT, format!("00-{trace}-{span}-00"))?;
            trace.to_owned()
        }
    };
    let is_right = |id: &HeaderValue| {
        let id = id.as_bytes();
        !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.iter().all(u8::is_ascii_graphic)
    };
    if !(is_trusted && request.headers.get(REQUEST_ID).is_some_and(is_right)) {
        request.insert_header(REQUEST_ID, trace)?;
    }
    Ok(())
}

/// The ids that `request` has: its own, and its trace's.
pub(crate) fn ids(request: &RequestHeader) -> (String, String) {
    let own = request.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    (own.to_owned(), kept_trace(request).unwrap_or_default())
}

/// The trace's id, if there is one `traceparent` and it is right.
fn kept_trace(request: &RequestHeader) -> Option<String> {
    let mut fields = request.headers.get_all(TRACE_PARENT).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    trace_of(field.to_str().ok()?).map(str::to_owned)
}

/// `00-<32 hex>-<16 hex>-<2 hex>`; later versions may have more behind.
fn trace_of(field: &str) -> Option<&str> {
    let mut parts = field.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let some = |text: &str| text.bytes().any(|byte| byte != b'0');
    let ends = parts.next().is_none() || version != "00";
    let right =
        hex(version, 2) && version != "ff" && hex(trace, 32) && some(trace) && hex(span, 16) && some(span) && hex(flags, 2);
    (right && ends && field.len() <= 256).then_some(trace)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RIGHT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn follow_with(fields: &[(&'static str, &str)], is_trusted: bool) -> (String, String, bool) {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        follow(&mut request, is_trusted, || [0xab; RANDOM_BYTES]).unwrap();
        let one = |name: HeaderName| request.headers.get(name).unwrap().to_str().unwrap().to_owned();
        (one(TRACE_PARENT), one(REQUEST_ID), request.headers.contains_key(TRACE_STATE))
    }

    #[test]
    fn a_trace_is_kept_or_begun() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736".to_owned();
        assert_eq!(follow_with(&[("traceparent", RIGHT), ("tracestate", "a=b")], false), (RIGHT.to_owned(), trace, true));
        let begun = format!("00-{}-{}-00", "ab".repeat(16), "ab".repeat(8));
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(
                follow_with(&[("traceparent", wrong), ("tracestate", "a=b")], true),
                (begun.clone(), "ab".repeat(16), false)
            );
        }
        assert_eq!(follow_with(&[("traceparent", RIGHT), ("traceparent", RIGHT)], true).0, begun);
    }

    #[test]
    fn a_request_id_is_kept_from_trusted_peers() {
        assert_eq!(follow_with(&[("x-request-id", "abc-1")], true).1, "abc-1");
        assert_eq!(follow_with(&[("x-request-id", "abc-1")], false).1, "ab".repeat(16));
        assert_eq!(follow_with(&[("x-request-id", "a b")], true).1, "ab".repeat(16));
        assert_eq!(follow_with(&[("x-request-id", &"a".repeat(129))], true).1, "ab".repeat(16));
    }
}

//! The one place that maps errors to HTTP answers.
//!
//! It never shows a cause in detail: a cause may hold bytes of a request. The exchange and the listener call it.
//!
//! | what happened | answer |
//! |---|---|
//! | no connection to the instance | 502, `Retry-After` |
//! | the instance closed or broke the protocol before it answered | 502, `Retry-After` |
//! | the request is malformed (bad chunk, ambiguous host, …) | 400 |
//! | the client paused too long within its body | 408 |
//! | the client is gone | none |
//! | the member to which it was forwarded broke off before it answered | 502, `Retry-After` |
//! | that member cannot reach its instance, and the body was too long to keep for another try | 503, `Retry-After` |
//! | the member to which it was forwarded stands still | 503, `Retry-After`; of HTTP/2: the stream is reset |
//! | too much waits until it is known where it runs, or this for too long | 503, `Retry-After` |
//! | it came where members come, without a right pass | 403 |
//! | `connections_max` reached | 503, `Retry-After`, before anything is read |
//! | anything else | 500 |
//!
//! Invariant: each answer ends its connection, because after an error nobody knows what else is on it.

use bytes::Bytes;
use pingora_core::{Error, ErrorSource, ErrorType};
use pingora_http::ResponseHeader;

/// When a client may try again, in seconds: an instance that restarts is back within moments.
const RETRY_AFTER_SECONDS: &str = "1";

/// What is sent to a connection beyond `connections_max`.
pub(crate) const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 29\r\nretry-after: 1\r\ncache-control: no-store\r\n\
    connection: close\r\n\r\ntoo many connections are open";

/// The status and the reason that a client is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

/// To a request that another member has, and that stands still.
pub(crate) const MEMBER_SILENT: Answer = Answer { status: 503, reason: "the node that has the session does not answer" };

/// To a request that another member has taken, and broken off.
pub(crate) const MEMBER_GONE: Answer =
    Answer { status: 502, reason: "the node that has the session closed the connection before it had answered" };
/// To a request whose body could be read in two ways.
pub(crate) const MALFORMED: Answer = Answer { status: 400, reason: "the request is malformed" };

/// The answer to a failed exchange; `None` when the client is gone.
pub(crate) fn answer_to(error: &Error) -> Option<Answer> {
    use ErrorType::{ConnectionClosed, HTTPStatus, ReadError, ReadTimedout, WriteError, WriteTimedout};
    let (status, reason) = match (error.esource(), error.etype()) {
        (_, HTTPStatus(status)) => (*status, "the request cannot be served"),
        (ErrorSource::Upstream, kind) if is_connect(kind) => (502, "the instance cannot be reached"),
        (ErrorSource::Upstream, _) => (502, "the instance closed the connection before it had answered"),
        (ErrorSource::Downstream, ConnectionClosed | ReadError | WriteError | WriteTimedout) => return None,
        (ErrorSource::Downstream, ReadTimedout) => (408, "the request was not sent in time"),
        (ErrorSource::Downstream, _) => (MALFORMED.status, MALFORMED.reason),
        (ErrorSource::Internal | ErrorSource::Unset, _) => (500, "the request failed in the sidecar"),
    };
    Some(Answer { status, reason })
}

/// Whether the instance could not be reached at all.
pub(crate) fn is_connect(kind: &ErrorType) -> bool {
    use ErrorType::{BindError, ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout, SocketError};
    matches!(kind, ConnectRefused | ConnectTimedout | ConnectNoRoute | ConnectError | BindError | SocketError)
}

impl Answer {
    /// Header and body to send; a HEAD request gets no body.
    pub(crate) fn into_response(self, head: bool) -> Result<(ResponseHeader, Bytes), Box<Error>> {
        let mut header = ResponseHeader::build(self.status, Some(6))?;
        header.insert_header(http::header::CONTENT_TYPE, "text/plain; charset=utf-8")?;
        header.insert_header(http::header::CONTENT_LENGTH, self.reason.len())?;
        header.insert_header(http::header::CACHE_CONTROL, "no-store")?;
        if matches!(self.status, 502 | 503) {
            header.insert_header(http::header::RETRY_AFTER, RETRY_AFTER_SECONDS)?;
        }
        Ok((header, if head { Bytes::new() } else { Bytes::from_static(self.reason.as_bytes()) }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_table() {
        let up = |kind| answer_to(&Error::new_up(kind)).map(|answer| answer.status);
        let down = |kind| answer_to(&Error::new_down(kind)).map(|answer| answer.status);
        assert_eq!(up(ErrorType::ConnectRefused), Some(502));
        assert_eq!(up(ErrorType::ReadError), Some(502));
        assert_eq!(down(ErrorType::ConnectionClosed), None);
        assert_eq!(down(ErrorType::WriteTimedout), None);
        assert_eq!(down(ErrorType::ReadTimedout), Some(408));
        assert_eq!(down(ErrorType::Custom("InvalidChunk")), Some(400));
        assert_eq!(answer_to(&Error::new_in(ErrorType::InternalError)).unwrap().status, 500);
    }

    #[test]
    fn the_refusal_is_framed() {
        let text = std::str::from_utf8(TOO_MANY_CONNECTIONS).unwrap();
        let (header, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(header.contains(&format!("content-length: {}\r\n", body.len())));
    }
}

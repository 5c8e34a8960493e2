//! Every metric of the HTTP face: its name, and what it counts.
//!
//! Nothing else in this crate writes a metric name. Labels have few fixed values (`status`: `1xx`…`5xx` or `none` when the
//! client left before an answer; `reused`, `changed`: `true`, `false`; `outcome`: `loaded`, `refused`, or what came of a forwarded request; `bound`: which of three); invariant: no id,
//! address, path or other text of a client is ever a label.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// Requests, by class of the answer (`status`).
pub const REQUESTS: &str = "wayfarer_http_requests_total";
/// From the whole request header to the end of the answer.
pub const REQUEST_SECONDS: &str = "wayfarer_http_request_seconds";
/// Requests whose session was found and announced.
pub const ARRIVALS: &str = "wayfarer_http_session_arrivals_total";
/// Answers that gave their client a session, by whether its request had named another (`changed`).
pub const LEARNED: &str = "wayfarer_http_sessions_learned_total";
/// Clients' connections open now.
pub const CONNECTIONS: &str = "wayfarer_http_connections";
/// Clients' connections that were served.
pub const CONNECTIONS_ACCEPTED: &str = "wayfarer_http_connections_accepted_total";
/// Connections that were refused because `connections_max` were open.
pub const CONNECTIONS_REFUSED: &str = "wayfarer_http_connections_refused_total";
/// Connections closed because nothing came on them for `idle_ms_max`.
pub const IDLE_CLOSED: &str = "wayfarer_http_idle_closed_total";
/// Requests cut because they were not answered to the end within `request_ms_max`.
pub const REQUESTS_OVERDUE: &str = "wayfarer_http_requests_overdue_total";
/// Requests refused with 408 because their body came too slowly.
pub const BODIES_TOO_SLOW: &str = "wayfarer_http_bodies_too_slow_total";
/// Requests refused because their header could be read in two ways, or was too long.
pub const HEADERS_REFUSED: &str = "wayfarer_http_headers_refused_total";
/// Requests refused because their chunks or trailers could be read in two ways, or were too long for what they say.
pub const BODIES_REFUSED: &str = "wayfarer_http_bodies_refused_total";
/// Connections closed because they did not begin with a PROXY header of a trusted peer.
pub const PROXY_HEADERS_REFUSED: &str = "wayfarer_http_proxy_headers_refused_total";
/// Lines of the access log that were dropped because its writer was behind.
pub const ACCESS_LINES_DROPPED: &str = "wayfarer_http_access_lines_dropped_total";
/// WebSockets closed with 1012 in a drain.
pub const WEBSOCKETS_CLOSED: &str = "wayfarer_http_websockets_closed_total";
/// TLS handshakes that failed, or were not finished within `header_ms_max`.
pub const TLS_HANDSHAKES_FAILED: &str = "wayfarer_http_tls_handshakes_failed_total";
/// Changes of the certificate's files, by what came of them (`outcome`).
pub const CERTIFICATES_LOADED: &str = "wayfarer_http_certificates_loaded_total";
/// HTTP/2 connections closed because of what their client sent: too many resets, frames or malformed requests.
pub const H2_FLOODS: &str = "wayfarer_http_h2_floods_total";
/// Connections closed because no whole request header came within `header_ms_max`.
pub const HEADERS_OVERDUE: &str = "wayfarer_http_headers_overdue_total";
/// Connections with a request in flight that were cut when `close_ms_max` had passed.
pub const CONNECTIONS_CUT: &str = "wayfarer_http_connections_cut_total";
/// Failures to accept a connection (out of file descriptors, for example).
pub const ACCEPT_FAILURES: &str = "wayfarer_http_accept_failures_total";
/// Connections to the instance taken for a request, new or used again (`reused`).
pub const INSTANCE_CONNECTIONS: &str = "wayfarer_http_instance_connections_total";
/// Requests that the instance did not answer, or not to the end.
pub const INSTANCE_FAILURES: &str = "wayfarer_http_instance_failures_total";
/// Requests of sessions that another member has, by what came of it (`outcome`: `answered`, `failed`, `silent`; `unreachable`, `given_back`: it ran here).
pub const FORWARDED: &str = "wayfarer_http_forwarded_total";
/// Requests that were refused with 403 because they came where members come, without a pass that is right.
pub const PASSES_REFUSED: &str = "wayfarer_http_passes_refused_total";
/// Requests that wait until it is known where their session is.
pub const WAITING: &str = "wayfarer_http_waiting";
/// Requests refused with 503 instead of waiting (any longer), by the `bound` that was met: `count`, `bytes`, `time`.
pub const WAITING_REFUSED: &str = "wayfarer_http_waiting_refused_total";

/// Tells the recorder what each metric means; called once, when a face is bound.
pub(crate) fn describe() {
    describe_counter!(REQUESTS, "Requests, by class of the answer");
    describe_histogram!(REQUEST_SECONDS, "From the whole request header to the end of the answer");
    describe_counter!(ARRIVALS, "Requests whose session was found and announced");
    describe_counter!(LEARNED, "Answers that gave their client a session, new or instead of another");
    describe_gauge!(CONNECTIONS, "Clients' connections open now");
    describe_counter!(CONNECTIONS_ACCEPTED, "Clients' connections that were served");
    describe_counter!(CONNECTIONS_REFUSED, "Connections refused because connections_max were open");
    describe_counter!(HEADERS_OVERDUE, "Connections closed because no whole request header came in time");
    describe_counter!(TLS_HANDSHAKES_FAILED, "TLS handshakes that failed");
    describe_counter!(CERTIFICATES_LOADED, "Changes of the certificate's files, loaded or refused");
    describe_counter!(H2_FLOODS, "HTTP/2 connections closed because their client flooded them");
    describe_counter!(WEBSOCKETS_CLOSED, "WebSockets closed with 1012 in a drain");
    describe_counter!(IDLE_CLOSED, "Connections closed because nothing came on them");
    describe_counter!(REQUESTS_OVERDUE, "Requests cut because they took too long");
    describe_counter!(BODIES_TOO_SLOW, "Requests refused because their body came too slowly");
    describe_counter!(HEADERS_REFUSED, "Requests refused because of their header");
    describe_counter!(BODIES_REFUSED, "Requests refused because of the chunks of their body");
    describe_counter!(PROXY_HEADERS_REFUSED, "Connections closed for want of a PROXY header of a trusted peer");
    describe_counter!(ACCESS_LINES_DROPPED, "Lines of the access log that were dropped");
    describe_counter!(CONNECTIONS_CUT, "Connections with a request in flight cut at the end of a shutdown");
    describe_counter!(ACCEPT_FAILURES, "Failures to accept a connection");
    describe_counter!(INSTANCE_CONNECTIONS, "Connections to the instance taken for a request, new or used again");
    describe_counter!(FORWARDED, "Requests that were to go to the owner of their session, by what came of it");
    describe_counter!(PASSES_REFUSED, "Requests at the listener for members without a right pass");
    describe_gauge!(WAITING, "Requests that wait until it is known where their session is");
    describe_counter!(WAITING_REFUSED, "Requests refused because too many or too large ones waited, or for too long");
    describe_counter!(INSTANCE_FAILURES, "Requests that the instance did not answer to the end");
}

//! One client's HTTP/2 connection: its streams, each a request of its own.
//!
//! The frames are the h2 crate's, the requests pingora's. What is here is when the connection ends, and what one client may have under
//! way. It never looks into a request. A connection that begins so is handed to it.
//!
//! | a client | is bounded by |
//! |---|---|
//! | opens streams | [`STREAMS_MAX`] at a time, by the protocol |
//! | sends long headers, or headers in many frames | `header_bytes_max`; the h2 crate counts the frames |
//! | resets its streams (rapid reset), or makes the face reset them | the h2 crate, while they are not accepted; [`REQUESTS_MAX`] that still run; [`WASTED_MAX`] |
//! | sends malformed requests | [`WASTED_MAX`] |
//! | sends empty or tiny pieces of bodies | the h2 crate: 100 empty ones, [`PIECES_OVERHEAD_MAX`] of tiny ones that wait |
//! | sends bodies that nobody takes yet | the windows |
//! | takes no answers | [`ANSWER_BYTES_MAX`] for a stream, and `stalled_ms_max` |
//! | pauses within a body before there is an answer | `stalled_ms_max` |
//! | sends only pings and settings, or nothing | `idle_ms_max` without a stream; who does not read what they are answered is not read |
//!
//! ```text
//! preface ─► handshake ─► streams ──drain: GOAWAY──► streams that run ─► closed
//! ```
//! Invariant: when `serve` returns, or its future is dropped, no request of the connection is left.

use crate::client_stream::{ClientStream, FirstBytes, Signals, Transport};
use crate::connection::{Arrival, Bounds, Leaving, Service};
use crate::{elsewhere, names};
use bytes::Bytes;
use h2::Reason;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, handshake};
use pingora_core::protocols::{Digest, Stream};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

/// Streams of one connection at a time.
const STREAMS_MAX: u32 = 100;
/// Requests of one connection that run, those of streams that were reset included.
const REQUESTS_MAX: usize = 200;
/// Requests of one connection that were malformed or given up before an answer: so many, and more than half of all, are a flood.
const WASTED_MAX: usize = 100;
/// What the protocol counts for each field beside its bytes, for as many fields as HTTP/1 may have.
const FIELDS_OVERHEAD: u32 = 256 * 32;
/// Bytes of one body that may be under way to the face.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all bodies of a connection.
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// Bytes of one answer that wait for the client.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What tiny pieces of bodies may take beside their bytes: 256 each, less what they hold.
const PIECES_OVERHEAD_MAX: usize = 256 * 1024;
/// Streams that the client has reset before they were accepted.
const RESETS_WAITING_MAX: usize = 20;
/// Streams that the face has reset and still remembers.
const RESETS_REMEMBERED_MAX: usize = 50;
/// Streams of one connection that the h2 crate had to reset because of what the client sent.
const FAULTS_MAX: usize = 256;
/// How long the last frames, and requests whose connection is gone, may take.
const LAST_FRAMES_TIME: Duration = Duration::from_secs(1);

type Connection = h2::server::Connection<Stream, Bytes>;

fn options(header_bytes_max: usize) -> H2Options {
    let mut options = H2Options::new();
    options
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(header_bytes_max).unwrap_or(u32::MAX).saturating_add(FIELDS_OVERHEAD))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(ANSWER_BYTES_MAX)
        .data_frame_budget(PIECES_OVERHEAD_MAX)
        .max_pending_accept_reset_streams(RESETS_WAITING_MAX)
        .max_concurrent_reset_streams(RESETS_REMEMBERED_MAX)
        .max_local_error_reset_streams(Some(FAULTS_MAX));
    options
}

/// What came of the connection's requests so far.
#[derive(Default)]
struct Ledger {
    begun: usize,
    wasted: usize,
}

impl Ledger {
    /// Notes how a request ended; whether it had an answer.
    fn ended(&mut self, answered: Result<bool, JoinError>) {
        match answered {
            Ok(true) => {}
            Ok(false) => self.wasted = self.wasted.saturating_add(1),
            // The panic's text may hold bytes of a request.
            Err(error) if error.is_panic() => tracing::error!("the task of a client's request panicked; that request was cut"),
            Err(_) => {}
        }
    }

    fn is_flood(&self) -> bool {
        self.wasted > WASTED_MAX && self.wasted > self.begun / 2
    }
}

/// Serves HTTP/2 on `stream` until it is closed. `first` are the bytes of it that were read already.
pub(crate) async fn serve<T: Transport>(stream: T, first: FirstBytes, service: Service) {
    let signals = Arc::new(Signals::default());
    let stream = Box::new(ClientStream::new(stream, first, Arc::clone(&signals)));
    let begun = timeout(service.bounds.header, handshake(stream, Some(options(service.bounds.header_bytes_max)))).await;
    let Ok(begun) = begun else {
        metrics::counter!(names::HEADERS_OVERDUE).increment(1);
        return;
    };
    let Ok(mut connection) = begun else { return };
    let mut requests = JoinSet::new();
    let start = |session, requests: &mut JoinSet<bool>| {
        spawn(requests, request(session, Arrival::new(service.peer, &signals), service.clone()));
    };
    let end = accept(&mut connection, &mut requests, start, service.bounds, &service.leaving).await;
    if matches!(end, End::Flood) {
        metrics::counter!(names::H2_FLOODS).increment(1);
        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        requests.abort_all();
        drop(timeout(LAST_FRAMES_TIME, std::future::poll_fn(|context| connection.poll_closed(context))).await);
    }
    // Their streams are gone with the connection, which each of them notices by itself and notes in the access log.
    drop(connection);
    let ended = async { while requests.join_next().await.is_some() {} };
    if timeout(LAST_FRAMES_TIME, ended).await.is_err() {
        tracing::debug!(requests = requests.len(), "requests were cut: their connection is gone");
    }
}

/// Why no more streams are accepted.
enum End {
    /// The connection is closed, or to be dropped.
    Over,
    /// The client must be told to calm down.
    Flood,
}

/// Accepts streams, and hands each to `start`; it is this that reads and writes the frames of all of them.
async fn accept(
    connection: &mut Connection,
    requests: &mut JoinSet<bool>,
    start: impl Fn(HttpSession, &mut JoinSet<bool>),
    bounds: Bounds,
    leaving: &Leaving,
) -> End {
    let digest = Arc::new(Digest::default());
    let (mut ledger, mut has_said_goodbye) = (Ledger::default(), false);
    let (mut draining, mut shutdown) = (leaving.draining.clone(), leaving.shutdown.clone());
    loop {
        let silence_max = if has_said_goodbye { LAST_FRAMES_TIME } else { bounds.idle };
        // A client that comes in a drain has its first request served, as over HTTP/1.
        let has_begun = ledger.begun > 0;
        let accepted = tokio::select! {
            biased;
            Some(ended) = requests.join_next(), if !requests.is_empty() => {
                ledger.ended(ended);
                if ledger.is_flood() {
                    return End::Flood;
                }
                continue;
            }
            _ = draining.wait_for(|draining| *draining), if has_begun && !has_said_goodbye => {
                connection.graceful_shutdown();
                has_said_goodbye = true;
                continue;
            }
            _ = shutdown.wait_for(|stop| *stop), if !has_begun => return End::Over,
            accepted = HttpSession::from_h2_conn(connection, Arc::clone(&digest)) => accepted,
            () = sleep(silence_max), if requests.is_empty() => {
                if !has_said_goodbye {
                    metrics::counter!(names::IDLE_CLOSED).increment(1);
                }
                return End::Over;
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(_))) if requests.len() >= REQUESTS_MAX => return End::Flood,
            Ok(Some(H2Accept::Session(session))) => {
                ledger.begun = ledger.begun.saturating_add(1);
                start(session, requests);
            }
            Ok(Some(H2Accept::Rejected)) => {
                metrics::counter!(names::HEADERS_REFUSED).increment(1);
                ledger.begun = ledger.begun.saturating_add(1);
                ledger.wasted = ledger.wasted.saturating_add(1);
                if ledger.is_flood() {
                    return End::Flood;
                }
            }
            Ok(None) => return End::Over,
            Err(error) => {
                let cause = error.root_cause().downcast_ref::<h2::Error>();
                if cause.is_some_and(|cause| !cause.is_remote() && cause.reason() == Some(Reason::ENHANCE_YOUR_CALM)) {
                    metrics::counter!(names::H2_FLOODS).increment(1);
                }
                tracing::debug!(kind = error.etype().as_str(), "a client's HTTP/2 connection ended");
                return End::Over;
            }
        }
    }
}

/// One request, for as long as it may take; whether it had an answer.
async fn request(mut session: HttpSession, arrival: Arc<Arrival>, service: Service) -> bool {
    session.req_header_mut().extensions_mut().insert(Arc::clone(&arrival));
    tokio::select! {
        biased;
        // A stream is never used again.
        _ = service.proxy.process_new_http(ServerSession::new_http2(session), &service.leaving.shutdown) => arrival.is_answered(),
        () = arrival.member_silent() => {
            elsewhere::count("silent");
            true
        }
        overdue = arrival.overdue_stream(service.bounds) => {
            metrics::counter!(overdue).increment(1);
            // The face gives it up, not the client.
            true
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the streams of one connection run beside each other, and end with it")]
fn spawn(set: &mut JoinSet<bool>, task: impl Future<Output = bool> + Send + 'static) {
    set.spawn(task);
}

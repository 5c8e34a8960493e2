//! One client's connection: request after request, until either side has had enough.
//!
//! It is pingora's `ServerApp::process_new` for HTTP/1.1, with two things that it lacks: a deadline for a whole request
//! header (pingora limits each read, so a byte a minute would live for ever), and the client's address for the exchange. It
//! never looks into a request. The listener spawns it.
//!
//! ```text
//! wait for a header ──whole──► exchange ──reusable──► wait for a header
//!       │ overdue, shutdown        │ close, error
//!       ▼                          ▼
//!     closed                     closed
//! ```
//! Invariant: while no request is in flight, a connection ends within `header_ms_max`, and at once on shutdown.

use crate::exchange::Exchange;
use crate::names;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::stream::Stream;
use pingora_proxy::HttpProxy;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

/// Probes of a silent connection: a client that has vanished without a word (a WebSocket, above all) gives its place back
/// within about two minutes.
const PROBES: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(10),
    count: 6,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};

/// One request on its way in: who sends it, and whether its header is whole. The exchange gets it as its context.
pub(crate) struct Arrival {
    pub(crate) client: IpAddr,
    header_whole: Notify,
}

impl Arrival {
    fn new(client: IpAddr) -> Arc<Arrival> {
        Arc::new(Arrival { client, header_whole: Notify::new() })
    }

    /// The header has been read: the deadline is off.
    pub(crate) fn has_header(&self) {
        self.header_whole.notify_one();
    }

    /// Returns when the header is overdue; never, once it is whole.
    async fn overdue(&self, header_time_max: Duration) {
        if tokio::time::timeout(header_time_max, self.header_whole.notified()).await.is_ok() {
            std::future::pending().await
        }
    }
}

/// Serves `stream` until it is closed.
pub(crate) async fn serve(
    stream: TcpStream,
    client: IpAddr,
    proxy: Arc<HttpProxy<Exchange>>,
    header_time_max: Duration,
    shutdown: watch::Receiver<bool>,
) {
    let mut stream = Stream::from(stream);
    if stream.set_nodelay().and_then(|()| stream.set_keepalive(&PROBES)).is_err() {
        tracing::debug!("a client's connection was gone before it was served");
        return;
    }
    let mut session = ServerSession::new_http1(Box::new(stream));
    loop {
        let arrival = Arrival::new(client);
        // Without timeout of pingora's own: the deadline below is the only one for headers.
        session.set_keepalive(Some(0));
        // A client may send its next request before the answer; without this pingora would drop it.
        session.set_pipelining_enabled(true);
        session.set_connection_user_context(Some(Box::new(Arc::clone(&arrival))));
        let done = tokio::select! {
            biased;
            done = proxy.process_new_http(session, &shutdown) => done,
            () = arrival.overdue(header_time_max) => {
                metrics::counter!(names::HEADERS_OVERDUE).increment(1);
                return;
            }
        };
        let Some((stream, carried)) = done.map(|reused| reused.consume()) else { return };
        session = ServerSession::new_http1(stream);
        if let Some(carried) = carried {
            carried.apply_to_session(&mut session);
        }
    }
}

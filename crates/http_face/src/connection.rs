//! One client's HTTP/1 connection: request after request, until either side has had enough.
//!
//! It is pingora's `ServerApp::process_new` for HTTP/1.1, with what that lacks: one limit for silence between requests, one for a
//! whole request header (pingora limits each read, so a byte a minute would live for ever), one for a whole request, the PROXY
//! protocol, the end of WebSockets in a drain, and the client's address for the exchange. It never looks into a request. The listener spawns it.
//!
//! ```text
//! PROXY header ─► silence ──first byte──► header ──whole──► exchange ──reusable──► silence
//!   │ none, late     │ idle_ms_max          │ header_ms_max     │ close, error, request_ms_max
//!   ▼                ▼ shutdown             ▼ shutdown          ▼
//! closed           closed                 closed              closed
//! ```
//! Invariant: while no request is in flight, a connection ends within `idle_ms_max` and `header_ms_max`, and at once on shutdown.

use crate::client_stream::{ClientStream, FirstBytes, Signals, Transport};
use crate::exchange::Exchange;
use crate::head::Fault;
use crate::names;
use crate::proxy_protocol;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::ext::set_tcp_keepalive;
use pingora_proxy::HttpProxy;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

/// Probes of a silent connection: a client that has vanished without a word (a WebSocket, above all) gives its place back
/// within about two minutes.
const PROBES: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(10),
    count: 6,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};

/// Between looks at a member that has not answered a request yet.
const MEMBER_LOOK: Duration = Duration::from_millis(250);

/// How long a connection may do what, and how long its headers may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) idle: Duration,
    pub(crate) header: Duration,
    /// The longest header.
    pub(crate) header_bytes_max: usize,
    /// A pause of the client.
    pub(crate) stalled: Duration,
    /// `None`: as long as it takes.
    pub(crate) request: Option<Duration>,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// Whether it is one of `trusted_proxies`.
    pub(crate) is_trusted: bool,
    /// How it reaches the face: `http`, `https`.
    pub(crate) scheme: &'static str,
}

/// One request on its way in: who sends it, and how far it has come. The exchange gets it as its context.
pub(crate) struct Arrival {
    pub(crate) peer: Peer,
    header_whole: Notify,
    signals: Arc<Signals>,
    is_websocket: AtomicBool,
    became_websocket: Notify,
    /// Pieces of its body that were read.
    pieces: AtomicU64,
    /// Whether nothing of its body is waited for: it is whole, or the answer has begun and both sides may pause.
    is_taken: AtomicBool,
    is_answered: AtomicBool,
    /// Tells whether the member to which it was forwarded stands still.
    member_is_silent: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    was_forwarded: Notify,
    /// Whether it runs here after all.
    is_here: AtomicBool,
    is_given_up: AtomicBool,
}

impl Arrival {
    pub(crate) fn new(peer: Peer, signals: &Arc<Signals>) -> Arc<Arrival> {
        let (header_whole, became_websocket) = (Notify::new(), Notify::new());
        Arc::new(Arrival {
            peer,
            header_whole,
            signals: Arc::clone(signals),
            is_websocket: AtomicBool::new(false),
            became_websocket,
            pieces: AtomicU64::new(0),
            is_taken: AtomicBool::new(false),
            is_answered: AtomicBool::new(false),
            member_is_silent: OnceLock::new(),
            was_forwarded: Notify::new(),
            is_here: AtomicBool::new(false),
            is_given_up: AtomicBool::new(false),
        })
    }

    /// A piece of its body has been read, perhaps the last.
    pub(crate) fn has_piece(&self, is_last: bool) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        self.is_taken.fetch_or(is_last, Ordering::Relaxed);
    }

    /// The answer begins.
    pub(crate) fn has_answer(&self) {
        self.is_taken.store(true, Ordering::Relaxed);
        self.is_answered.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.is_answered.load(Ordering::Relaxed)
    }

    /// As [`Arrival::overdue`] for a stream of HTTP/2, whose header is whole. Pingora has no timeout for its body, so a pause is noticed
    /// here: within twice its time, and whoever pauses, also an instance that takes no more.
    pub(crate) async fn overdue_stream(&self, bounds: Bounds) -> &'static str {
        let stalled = async {
            while !self.is_taken.load(Ordering::Relaxed) {
                let before = self.pieces.load(Ordering::Relaxed);
                sleep(bounds.stalled).await;
                if self.pieces.load(Ordering::Relaxed) == before && !self.is_taken.load(Ordering::Relaxed) {
                    return names::BODIES_TOO_SLOW;
                }
            }
            std::future::pending().await
        };
        let Some(request) = bounds.request else { return stalled.await };
        timeout(request, stalled).await.unwrap_or(names::REQUESTS_OVERDUE)
    }

    /// It goes to another member, which may come to stand still before it answers.
    pub(crate) fn is_forwarded(&self, member_is_silent: Box<dyn Fn() -> bool + Send + Sync>) {
        if self.member_is_silent.set(member_is_silent).is_ok() {
            self.signals.is_forwarded(true);
            self.was_forwarded.notify_one();
        }
    }

    /// It runs here after all.
    pub(crate) fn runs_here(&self) {
        self.is_here.store(true, Ordering::Relaxed);
        self.signals.is_forwarded(false);
    }

    /// Whether the member that has it stood still, and nobody waits for its answer any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    /// Returns when the member that has it stands still before it has begun to answer; never, if that does not happen.
    pub(crate) async fn member_silent(&self) {
        self.was_forwarded.notified().await;
        let flags = [&self.is_answered, &self.is_websocket, &self.is_here];
        loop {
            sleep(MEMBER_LOOK).await;
            if flags.iter().any(|flag| flag.load(Ordering::Relaxed)) {
                return std::future::pending().await;
            }
            if self.member_is_silent.get().is_some_and(|is_silent| is_silent()) {
                self.is_given_up.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Why it was refused, of HTTP/1: already as its bytes came, for its header or later for its body.
    pub(crate) fn fault(&self) -> Option<(Fault, bool)> {
        self.signals.fault()
    }

    /// The header has been read: its deadline is off.
    pub(crate) fn has_header(&self) {
        self.header_whole.notify_one();
    }

    /// The answer, which is not written yet, makes it a WebSocket: no deadline holds any more.
    pub(crate) fn becomes_websocket(&self) {
        self.signals.becomes_websocket();
        self.is_websocket.store(true, Ordering::Relaxed);
        self.became_websocket.notify_one();
    }

    /// Gives the answer of a member up that stands still. Never returns: pingora ends the request then.
    async fn give_up(&self) {
        self.member_silent().await;
        self.signals.give_up();
        std::future::pending().await
    }

    /// Closes the WebSocket that this may become some time after the drain has begun: not all of them at once, or all their clients
    /// would connect elsewhere in the same moment. Never returns.
    async fn leave(&self, mut draining: watch::Receiver<bool>, window: Duration) {
        self.became_websocket.notified().await;
        // Without the sender nobody drains any more.
        if draining.wait_for(|draining| *draining).await.is_ok() {
            sleep(window.mul_f64(random_share())).await;
            metrics::counter!(names::WEBSOCKETS_CLOSED).increment(1);
            self.signals.say_farewell();
        }
        std::future::pending().await
    }

    /// Returns the metric of a deadline that has passed; never, if none does.
    async fn overdue(&self, bounds: Bounds) -> &'static str {
        let whole = async {
            tokio::select! {
                () = self.header_whole.notified() => return None,
                // It may have come with the request before.
                () = self.signals.header_begins() => {}
                () = sleep(bounds.idle) => return Some(names::IDLE_CLOSED),
            }
            timeout(bounds.header, self.header_whole.notified()).await.is_err().then_some(names::HEADERS_OVERDUE)
        };
        if let Some(name) = whole.await {
            return name;
        }
        let Some(request) = bounds.request else { return std::future::pending().await };
        sleep(request).await;
        if self.is_websocket.load(Ordering::Relaxed) { std::future::pending().await } else { names::REQUESTS_OVERDUE }
    }
}

/// From 0 to 1.
fn random_share() -> f64 {
    let mut bytes = [0; 4];
    // Without random bytes all leave at the beginning of the window, which is no harm but a rush.
    if getrandom::fill(&mut bytes).is_err() {
        tracing::error!("the system gives no random bytes");
    }
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}

/// When the face leaves, and in how much time its WebSockets are closed.
#[derive(Clone)]
pub(crate) struct Leaving {
    pub(crate) draining: watch::Receiver<bool>,
    pub(crate) window: Duration,
    pub(crate) shutdown: watch::Receiver<bool>,
}

/// What one connection, of whichever HTTP, is served with.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) peer: Peer,
    pub(crate) proxy: Arc<HttpProxy<Exchange>>,
    pub(crate) bounds: Bounds,
    pub(crate) leaving: Leaving,
}

/// The client of a fresh connection, as the PROXY protocol says it; `None`: it must be closed.
pub(crate) async fn proxied(stream: &mut TcpStream, peer: Peer, time_max: Duration) -> Option<Peer> {
    let client =
        if peer.is_trusted { timeout(time_max, proxy_protocol::client(stream, peer.address)).await.ok().flatten() } else { None };
    if client.is_none() {
        metrics::counter!(names::PROXY_HEADERS_REFUSED).increment(1);
    }
    // Who speaks through a trusted balancer is as trusted as if it had come by itself, which the listener cannot know: not at all.
    client.map(|address| Peer { address, is_trusted: address == peer.address, ..peer })
}

/// Sets what holds for each socket of a client; false if it is gone.
pub(crate) fn prepare(stream: &TcpStream) -> bool {
    stream.set_nodelay(true).is_ok() && set_tcp_keepalive(stream, &PROBES).is_ok()
}

/// Serves HTTP/1 on `stream` until it is closed. `first` are the bytes of it that were read already.
pub(crate) async fn serve<T: Transport>(stream: T, first: FirstBytes, service: Service) {
    let Service { peer, proxy, bounds, leaving } = service;
    let signals = Arc::new(Signals::default());
    let stream = ClientStream::http1(stream, first, Arc::clone(&signals), bounds.header_bytes_max);
    let mut session = ServerSession::new_http1(Box::new(stream));
    loop {
        signals.ask();
        let arrival = Arrival::new(peer, &signals);
        // Without timeout of pingora's own: the deadlines below are the only ones for headers.
        session.set_keepalive(Some(0));
        // The stream gives pingora one request at a time. What pingora finds all the same when it reads for the next one is of a WebSocket,
        // and is kept with this.
        session.set_pipelining_enabled(true);
        session.set_connection_user_context(Some(Box::new(Arc::clone(&arrival))));
        let done = tokio::select! {
            biased;
            done = proxy.process_new_http(session, &leaving.shutdown) => done,
            overdue = arrival.overdue(bounds) => {
                metrics::counter!(overdue).increment(1);
                return;
            }
            () = arrival.leave(leaving.draining.clone(), leaving.window) => return,
            () = arrival.give_up() => return,
        };
        signals.is_forwarded(false);
        let Some((stream, carried)) = done.map(|reused| reused.consume()) else { return };
        session = ServerSession::new_http1(stream);
        if let Some(carried) = carried {
            carried.apply_to_session(&mut session);
        }
    }
}

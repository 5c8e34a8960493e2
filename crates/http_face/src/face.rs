//! The listener: accepts clients' connections up to a bound, drains, and shuts down in order.
//!
//! It never reads a byte of a client. Where somebody else accepts ([`handed`]), it takes what it is given. The sidecar's composition root binds and runs it; each connection is a task of its own.
//!
//! | stage | accepts | idle connections | answers | requests in flight |
//! |---|---|---|---|---|
//! | serving | up to `connections_max`, then 503 | kept | keep-alive | served |
//! | draining | the same | kept until their next answer; of HTTP/2: GOAWAY | `Connection: close` | served; WebSockets closed within `websocket_close_ms` |
//! | shutdown | no | closed at once | `Connection: close` | finish within `close_ms_max`, then are cut and counted |
//!
//! Invariant: when `run` returns, or its future is dropped, no client's connection is left. (Pingora's watchers of idle
//! connections to the instance end by themselves within `pool_idle_ms_max`.)

use crate::connection::{Bounds, Leaving, Peer, Service};
use crate::exchange::Exchange;
use crate::settings::HttpFaceSettings;
use crate::{Sessions, access, answer, connection, greeting, names, tls};
use pingora_core::apps::HttpServerApp;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

/// Refused connections that are given time to read their 503; more are dropped without one.
const REFUSALS_MAX: usize = 64;
/// How long a refused connection may take to read its 503.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(2);
/// Bytes that are read from a refused client, so that its 503 is not lost to a reset.
const REFUSAL_BYTES_MAX: u64 = 64 * 1024;
/// Pause after a failed accept: out of descriptors, the next one would fail at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long the last lines of the access log may take.
const LAST_LINES: Duration = Duration::from_secs(2);
/// Tries of an idempotent request on connections to the instance that turn out dead.
const TRIES_MAX: usize = 4;

/// A bound HTTP face, not yet running: clients that connect wait in the listener's queue.
pub struct HttpFace {
    accepts: Accepts,
    address: SocketAddr,
    settings: HttpFaceSettings,
    proxy: Arc<HttpProxy<Exchange>>,
    draining: Draining,
    access_writer: Option<access::Writer>,
    spoken: greeting::Spoken,
    follower: Option<tls::Follower>,
}

/// Where connections come from, each with who has made it.
enum Accepts {
    Here(TcpListener),
    /// Somebody else accepts, and hands them over.
    Elsewhere(Mutex<mpsc::Receiver<(TcpStream, SocketAddr)>>),
}

impl Accepts {
    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Accepts::Here(listener) => listener.accept().await,
            Accepts::Elsewhere(handed) => match handed.lock().await.recv().await {
                Some(handed) => Ok(handed),
                // Whoever accepts has ended; the face will be told to.
                None => std::future::pending().await,
            },
        }
    }
}

/// Turns draining on; cloned to whoever decides it.
#[derive(Clone, Debug)]
pub struct Draining {
    flag: Arc<AtomicBool>,
    told: watch::Sender<bool>,
}

impl Draining {
    /// From now on every answer says `Connection: close` and WebSockets are closed one by one, while connections are still
    /// accepted. There is no way back.
    pub fn begin(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.told.send_replace(true);
    }
}

/// How a face ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed {
    /// Connections with a request in flight (or a WebSocket) that were cut because `close_ms_max` had passed.
    pub cut_off: usize,
}

/// Binds a face to `settings.listen`. An error is the system's (address in use, not ours to take), or says what is wrong with the
/// certificate's files or the path of the instance's socket.
pub async fn bind(settings: HttpFaceSettings, sessions: Arc<dyn Sessions>) -> io::Result<HttpFace> {
    let listener = TcpListener::bind(settings.listen).await?;
    bind_to(listener, settings, sessions)
}

/// The same on a listener that is bound already; `settings.listen` is not looked at.
pub fn bind_to(listener: TcpListener, settings: HttpFaceSettings, sessions: Arc<dyn Sessions>) -> io::Result<HttpFace> {
    let address = listener.local_addr()?;
    face(Accepts::Here(listener), address, settings, sessions)
}

/// The same for connections to `settings.listen` that somebody else accepts and hands over, with who has made them.
pub fn handed(
    handed: mpsc::Receiver<(TcpStream, SocketAddr)>,
    settings: HttpFaceSettings,
    sessions: Arc<dyn Sessions>,
) -> io::Result<HttpFace> {
    let address = settings.listen;
    face(Accepts::Elsewhere(Mutex::new(handed)), address, settings, sessions)
}

fn face(accepts: Accepts, address: SocketAddr, settings: HttpFaceSettings, sessions: Arc<dyn Sessions>) -> io::Result<HttpFace> {
    names::describe();
    let draining = Arc::new(AtomicBool::new(false));
    let (tls, follower) = settings.tls.as_ref().map(|files| tls::of(files, settings.http2)).transpose()?.unzip();
    let spoken = greeting::Spoken { tls, http2: settings.http2 };
    let pingora = Arc::new(ServerConf {
        upstream_keepalive_pool_size: settings.pool_connections_max,
        max_retries: TRIES_MAX,
        ..ServerConf::default()
    });
    let (access, access_writer) = settings.access_log.as_deref().map(access::log).unzip();
    let exchange = Exchange::new(&settings, address, sessions, Arc::clone(&draining), access)?;
    let proxy = Arc::new(http_proxy(&pingora, exchange));
    Ok(HttpFace {
        accepts,
        address,
        settings,
        proxy,
        draining: Draining { flag: draining, told: watch::Sender::new(false) },
        access_writer,
        spoken,
        follower,
    })
}

impl HttpFace {
    /// Where clients connect; with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The switch for draining.
    pub fn draining(&self) -> Draining {
        self.draining.clone()
    }

    /// Serves clients until `shutdown` is true or its sender is gone, then ends by the table above.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Closed {
        let mut writers = JoinSet::new();
        if let Some(writer) = self.access_writer.take() {
            spawn(&mut writers, writer.run());
        }
        let mut followers = JoinSet::new();
        if let Some(follower) = self.follower.take() {
            spawn(&mut followers, follower.run());
        }
        let mut connections = JoinSet::new();
        let mut refusals = JoinSet::new();
        self.serve(&mut shutdown, &mut connections, &mut refusals).await;
        drop(self.accepts);
        self.draining.begin();
        self.proxy.http_cleanup().await;
        let close_time_max = Duration::from_millis(self.settings.close_ms_max);
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                note_end(ended);
            }
        };
        let in_time = timeout(close_time_max, all_ended).await.is_ok();
        let mut cut_off = 0;
        if !in_time {
            while let Some(ended) = connections.try_join_next() {
                note_end(ended);
            }
            cut_off = connections.len();
            connections.shutdown().await;
            metrics::counter!(names::CONNECTIONS_CUT).increment(u64::try_from(cut_off).unwrap_or(u64::MAX));
            tracing::warn!(cut_off, close_ms_max = self.settings.close_ms_max, "connections with a request in flight were cut");
        }
        refusals.shutdown().await;
        followers.shutdown().await;
        // With the last of the proxy goes the log's sender; its writer ends when everything is written.
        drop(self.proxy);
        if timeout(LAST_LINES, async { while writers.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!("the access log could not be written to its end");
        }
        Closed { cut_off }
    }

    /// Accepts until shutdown.
    async fn serve(&self, shutdown: &mut watch::Receiver<bool>, connections: &mut JoinSet<()>, refusals: &mut JoinSet<()>) {
        let over = shutdown.clone();
        let stop = async { shutdown.wait_for(|stop| *stop).await.map(drop).unwrap_or_default() };
        tokio::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return,
                Some(ended) = connections.join_next(), if !connections.is_empty() => note_end(ended),
                Some(ended) = refusals.join_next(), if !refusals.is_empty() => note_end(ended),
                (stream, client) = self.accept() => {
                    if connections.len() < self.settings.connections_max {
                        spawn(connections, self.connection(stream, client, over.clone()));
                    } else {
                        metrics::counter!(names::CONNECTIONS_REFUSED).increment(1);
                        // Whoever expects TLS cannot read it.
                        if refusals.len() < REFUSALS_MAX && self.spoken.tls.is_none() {
                            spawn(refusals, refuse(stream));
                        }
                    }
                }
            }
        }
    }

    /// The next connection. A failure to accept ends nothing: it is counted, and tried again after a pause.
    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.accepts.next().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    metrics::counter!(names::ACCEPT_FAILURES).increment(1);
                    tracing::debug!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        shutdown: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let proxy = Arc::clone(&self.proxy);
        let bounds = Bounds {
            idle: Duration::from_millis(self.settings.idle_ms_max),
            header: Duration::from_millis(self.settings.header_ms_max),
            header_bytes_max: self.settings.header_bytes_max,
            stalled: Duration::from_millis(self.settings.stalled_ms_max),
            request: self.settings.request_ms_max.map(Duration::from_millis),
        };
        let spoken = self.spoken.clone();
        let scheme = if spoken.tls.is_some() { "https" } else { "http" };
        let peer = Peer { address: client.ip(), is_trusted: self.settings.trusts(client.ip()), scheme };
        let proxy_protocol = self.settings.proxy_protocol;
        let window = Duration::from_millis(self.settings.websocket_close_ms);
        let leaving = Leaving { draining: self.draining.told.subscribe(), window, shutdown };
        metrics::counter!(names::CONNECTIONS_ACCEPTED).increment(1);
        let open = Open::new();
        async move {
            let mut stream = stream;
            let peer = if proxy_protocol { connection::proxied(&mut stream, peer, bounds.header).await } else { Some(peer) };
            match peer {
                Some(peer) if connection::prepare(&stream) => {
                    greeting::serve(stream, Service { peer, proxy, bounds, leaving }, spoken).await;
                }
                _ => tracing::debug!("a connection was closed before it was served"),
            }
            drop(open);
        }
    }
}

/// Counts a connection as open for as long as it lives, also when its task is cut.
struct Open(metrics::Gauge);

impl Open {
    fn new() -> Open {
        let gauge = metrics::gauge!(names::CONNECTIONS);
        gauge.increment(1.0);
        Open(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Sends the 503 and waits for the client to close: a connection closed with unread bytes is reset, and the 503 with it.
async fn refuse(mut stream: TcpStream) {
    let told = async {
        stream.write_all(answer::TOO_MANY_CONNECTIONS).await?;
        stream.shutdown().await?;
        let mut unread = stream.take(REFUSAL_BYTES_MAX);
        tokio::io::copy(&mut unread, &mut tokio::io::sink()).await
    };
    match timeout(REFUSAL_TIME_MAX, told).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a refused client left before it was told"),
        Err(_) => tracing::debug!("a refused client did not close in time"),
    }
}

/// A task that panicked took one connection with it; a human must look. The panic's text may hold bytes of a request.
fn note_end(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("the task of a client's connection panicked; that connection was cut");
    }
}

#[allow(clippy::disallowed_methods, reason = "the listener is the one place of this crate that starts tasks, and it joins them")]
fn spawn(set: &mut JoinSet<()>, task: impl Future<Output = ()> + Send + 'static) {
    set.spawn(task);
}

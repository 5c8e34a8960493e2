//! What the HTTP face is told: addresses, where sessions are named, whom it trusts, and every bound that it keeps.
//!
//! It never reads a file or the environment; the sidecar's validated settings are converted to this at the edge. The face
//! reads it when it is bound; nothing changes afterwards. Invariant: every field named `…_max` has a default that is safe in
//! front of a small instance.

use crate::hint::{HintEncoding, HintSettings};
use crate::pass::PassKey;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use wayfarer_certificates::Files;
use wayfarer_identity::Identity;

/// Where an instance listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InstanceAddress {
    /// An address of the network.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl From<SocketAddr> for InstanceAddress {
    fn from(address: SocketAddr) -> InstanceAddress {
        InstanceAddress::Tcp(address)
    }
}

impl fmt::Display for InstanceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InstanceAddress::Tcp(address) => address.fmt(f),
            InstanceAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The settings of one HTTP face.
#[derive(Clone, Debug)]
pub struct HttpFaceSettings {
    /// Where clients connect; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where the instance listens.
    pub app: InstanceAddress,
    /// Whether it is spoken to in HTTP/2, without TLS.
    pub app_http2: bool,
    /// Where requests name their session; empty: nothing is announced and everything is still proxied.
    pub session: Identity,
    /// Clients' connections at a time; beyond it the answer is 503 and `Connection: close`.
    pub connections_max: usize,
    /// Longest silence of a connection on which no request is under way, in milliseconds.
    pub idle_ms_max: u64,
    /// Longest wait for a whole request header, from its first byte on, in milliseconds.
    pub header_ms_max: u64,
    /// Longest request header, in bytes; beyond it the answer is 431.
    pub header_bytes_max: usize,
    /// Longest pause of a client in the middle of a request body, or in taking a response, in milliseconds. WebSockets may
    /// be silent for ever.
    pub stalled_ms_max: u64,
    /// How fast a request body must come on average, once half a minute has passed, in bytes a second; 0: as slow as it likes.
    pub body_bytes_per_s_min: u64,
    /// Longest time from a whole header to the end of the answer, in milliseconds; `None`: as long as it takes. Not for WebSockets.
    pub request_ms_max: Option<u64>,
    /// Longest wait for a connection to the instance, in milliseconds.
    pub connect_ms_max: u64,
    /// Idle connections to the instance that are kept for reuse.
    pub pool_connections_max: usize,
    /// How long a connection to the instance may be idle and be used again, in milliseconds. Shorter than the instance's own
    /// limit (gunicorn 2 s, Node and uvicorn 5 s), or a request is sent just as the instance closes.
    pub pool_idle_ms_max: u64,
    /// After the shutdown signal: how long requests in flight may take to finish, in milliseconds.
    pub close_ms_max: u64,
    /// In a drain: WebSockets are closed with 1012 within so many milliseconds, each at a time of its own. Less than `close_ms_max`.
    pub websocket_close_ms: u64,
    /// Peers whose forwarding fields, request ids and PROXY headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether each connection begins with a PROXY header (version 2), which only a trusted peer may send.
    pub proxy_protocol: bool,
    /// What clients are shown over TLS; `None`: they speak without it.
    pub tls: Option<Files>,
    /// Whether clients may speak HTTP/2: agreed on in the TLS handshake, or without TLS by prior knowledge.
    pub http2: bool,
    /// Where the access log is appended, `-` for standard output; `None`: nowhere.
    pub access_log: Option<PathBuf>,
    /// Where answers say which node has the client's session.
    pub hints: HintSettings,
    /// With what requests are signed that go to the member that has their session; `None`: all run here.
    pub forwards: Option<PassKey>,
    /// If set, this is the face that members come to: it takes only what one of them has signed with this, and forwards nothing.
    pub takes_passes: Option<PassKey>,
    /// Requests that may wait until it is known where their session is; beyond it the answer is 503.
    pub waiting_max: usize,
    /// Bytes of their headers, all together.
    pub waiting_bytes_max: usize,
    /// How long each may wait, in milliseconds.
    pub waiting_ms_max: u64,
}

impl HttpFaceSettings {
    /// The default bounds for a face at `listen` before the instance at `app` (over HTTP/1.1), without sessions, trusting nobody.
    pub fn new(listen: SocketAddr, app: impl Into<InstanceAddress>) -> HttpFaceSettings {
        HttpFaceSettings {
            listen,
            app: app.into(),
            app_http2: false,
            session: Identity::default(),
            connections_max: 10_000,
            idle_ms_max: 60_000,
            header_ms_max: 10_000,
            header_bytes_max: 65_536,
            stalled_ms_max: 60_000,
            body_bytes_per_s_min: 50,
            request_ms_max: None,
            connect_ms_max: 2_000,
            pool_connections_max: 128,
            pool_idle_ms_max: 1_500,
            close_ms_max: 25_000,
            websocket_close_ms: 3_000,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            tls: None,
            http2: true,
            access_log: None,
            hints: HintSettings { cookie: None, field: None, encoding: HintEncoding::Plain },
            forwards: None,
            takes_passes: None,
            waiting_max: 1024,
            waiting_bytes_max: 8 << 20,
            waiting_ms_max: 2_500,
        }
    }

    /// Whether `peer` is one of the trusted.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&peer))
    }
}

//! What the HTTP face is told: addresses, where sessions are named, and every bound that it keeps.
//!
//! It never reads a file or the environment; the sidecar's validated settings are converted to this at the edge. The face
//! reads it when it is bound; nothing changes afterwards. Invariant: every field named `…_max` has a default that is safe in
//! front of a small instance.

use std::net::SocketAddr;
use wayfarer_identity::Identity;

/// The settings of one HTTP face.
#[derive(Clone, Debug)]
pub struct HttpFaceSettings {
    /// Where clients connect; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where the instance listens.
    pub app: SocketAddr,
    /// Where requests name their session; empty: nothing is announced and everything is still proxied.
    pub session: Identity,
    /// Clients' connections at a time; beyond it the answer is 503 and `Connection: close`.
    pub connections_max: usize,
    /// Longest wait for a whole request header, from the connection or the last response on: ends idle connections and slow
    /// headers alike, in milliseconds.
    pub header_ms_max: u64,
    /// Longest pause of a client in the middle of a request body, or in taking a response, in milliseconds. WebSockets may
    /// be silent for ever.
    pub stalled_ms_max: u64,
    /// Longest wait for a connection to the instance, in milliseconds.
    pub connect_ms_max: u64,
    /// Idle connections to the instance that are kept for reuse.
    pub pool_connections_max: usize,
    /// How long a connection to the instance may be idle and be used again, in milliseconds. Shorter than the instance's own
    /// limit (gunicorn 2 s, Node and uvicorn 5 s), or a request is sent just as the instance closes.
    pub pool_idle_ms_max: u64,
    /// After the shutdown signal: how long requests in flight may take to finish, in milliseconds.
    pub close_ms_max: u64,
}

impl HttpFaceSettings {
    /// The default bounds for a face at `listen` before the instance at `app`, without sessions.
    pub fn new(listen: SocketAddr, app: SocketAddr) -> HttpFaceSettings {
        HttpFaceSettings {
            listen,
            app,
            session: Identity::default(),
            connections_max: 10_000,
            header_ms_max: 60_000,
            stalled_ms_max: 60_000,
            connect_ms_max: 2_000,
            pool_connections_max: 128,
            pool_idle_ms_max: 1_500,
            close_ms_max: 25_000,
        }
    }
}

//! The HTTP face: it finds the session of each request, says that the session is about to be used here, and proxies the
//! request to the instance, streaming, WebSockets included.
//!
//! It never decides where a session lives, never holds a body whole, and never writes a session id anywhere. The sidecar's
//! composition root binds it and runs it; what the rest of the sidecar learns from it goes through [`Sessions`].
//!
//! | module | what is in it |
//! |---|---|
//! | `settings` | what the face is told, with its bounds |
//! | `head` | which headers are refused because they could be read in two ways (pure) |
//! | `forwarding` | header rules of a proxy: forwarded-for, hop-by-hop (pure) |
//! | `hint` | what tells balancers where a session is (pure) |
//! | `trace` | trace context and request id (pure) |
//! | `proxy_protocol` | the client's address as a balancer says it before the first byte |
//! | `access` | the access log |
//! | `websocket` | where frames end (pure) |
//! | `answer` | the one place that maps errors to HTTP answers |
//! | `exchange` | what happens at each stage of one request: pingora's callbacks |
//! | `client_stream` | a client's socket as pingora sees it |
//! | `greeting` | how a connection begins: TLS or not, which version of HTTP |
//! | `tls` | the handshake, and certificates that change |
//! | `connection` | one client's HTTP/1 connection, request after request |
//! | `http2` | one client's HTTP/2 connection, its streams beside each other |
//! | `face` | the listener, its bound, drain and shutdown |
//! | `names` | every metric of the face |
//!
//! Only `exchange`, `connection`, `http2` and `face` know pingora's machinery; its `Server`, which owns runtimes and ends the
//! process, is used nowhere. Invariant: nothing here is unbounded; each bound is a field of [`HttpFaceSettings`] or a named constant.

mod access;
mod answer;
mod client_stream;
mod connection;
mod exchange;
mod face;
mod forwarding;
mod greeting;
mod head;
mod hint;
mod http2;
pub mod names;
mod proxy_protocol;
mod settings;
mod tls;
mod trace;
mod websocket;

pub use face::{Closed, Draining, HttpFace, bind};
pub use hint::{HintEncoding, HintSettings, NAME_BYTES_MAX};
pub use settings::{HttpFaceSettings, InstanceAddress};
pub use wayfarer_certificates::Files;
pub use wayfarer_identity::Identity;

/// What the face tells the rest of the sidecar.
pub trait Sessions: Send + Sync + 'static {
    /// A request of this session has arrived and is about to run on this instance. Called once per request, before anything
    /// of it is sent to the instance, on the task of the connection: it must be cheap and must not block.
    ///
    /// `session` is what the client claims: a signed cookie's signature is the instance's to check, so this may start work
    /// that is harmless for an id that does not exist, and nothing else.
    fn arriving(&self, session: &[u8]);

    /// The instance's answer gives the client the session `now`: a new one, or (a login often changes the id) another one than
    /// `before`, which its request named. Called before the client sees the answer, with the same bounds as `arriving`.
    fn learned(&self, before: Option<&[u8]>, now: &[u8]);

    /// The request for which `arriving` was called has ended. `answered`: the instance has answered it whole; if not, it may still
    /// be at work on it. Called exactly once for each `arriving`, with the same bounds.
    fn left(&self, session: &[u8], answered: bool);

    /// The name that balancers know the owner of this session by; `None`: it is not known here who that is, or it takes no more
    /// requests. `is_new`: this answer gives the client the session, which the instance may not have written yet: it will be born here,
    /// if it is not somewhere already. Asked for each answer if hints are wanted, with the same bounds.
    fn owner(&self, session: &[u8], is_new: bool) -> Option<String>;
}

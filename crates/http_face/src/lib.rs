//! The HTTP face: it finds the session of each request, says that the session is about to be used here, and proxies the
//! request to the instance, streaming, WebSockets included.
//!
//! It never decides where a session lives, never holds a body whole, and never writes a session id anywhere. The sidecar's
//! composition root binds it and runs it; what the rest of the sidecar learns from it goes through [`Sessions`].
//!
//! | module | what is in it |
//! |---|---|
//! | `settings` | what the face is told, with its bounds |
//! | `framing` | where requests of HTTP/1 begin and end, and which bodies are refused (pure) |
//! | `incoming` | what came of the next request and may not be read yet |
//! | `head` | which headers are refused because they could be read in two ways (pure) |
//! | `forwarding` | header rules of a proxy: forwarded-for, hop-by-hop (pure) |
//! | `elsewhere` | requests whose session is at another member |
//! | `pass` | what shows that a member has forwarded a request (pure) |
//! | `waiting` | the bound of requests that wait until it is known where they run |
//! | `hint` | what tells balancers where a session is (pure) |
//! | `trace` | trace context and request id (pure) |
//! | `proxy_protocol` | the client's address as a balancer says it before the first byte |
//! | `access` | the access log |
//! | `websocket` | where frames end (pure) |
//! | `answer` | the one place that maps errors to HTTP answers |
//! | `exchange` | what happens at each stage of one request: pingora's callbacks |
//! | `request` | what is known of one request |
//! | `handshake` | the connection on which a WebSocket is opened |
//! | `client_stream` | a client's socket as pingora sees it |
//! | `greeting` | how a connection begins: TLS or not, which version of HTTP |
//! | `tls` | the handshake, and certificates that change |
//! | `connection` | one client's HTTP/1 connection, request after request |
//! | `http2` | one client's HTTP/2 connection, its streams beside each other |
//! | `face` | the listener, its bound, drain and shutdown |
//! | `world` | the time, and random bytes |
//! | `names` | every metric of the face |
//!
//! Only `exchange`, `handshake`, `connection`, `http2` and `face` know pingora's machinery; its `Server`, which owns runtimes and ends the
//! process, is used nowhere. Invariant: nothing here is unbounded; each bound is a field of [`HttpFaceSettings`] or a named constant.

mod access;
mod answer;
mod client_stream;
mod connection;
mod elsewhere;
mod exchange;
mod face;
mod forwarding;
mod framing;
mod greeting;
mod handshake;
mod head;
mod hint;
mod http2;
mod incoming;
pub mod names;
mod pass;
mod proxy_protocol;
mod request;
mod settings;
mod tls;
mod trace;
mod waiting;
mod websocket;
mod world;

pub use face::{Closed, Draining, HttpFace, bind, bind_to, handed};
pub use hint::{HintEncoding, HintSettings, NAME_BYTES_MAX};
pub use pass::PassKey;
pub use settings::{HttpFaceSettings, InstanceAddress};
pub use wayfarer_certificates::Files;
pub use wayfarer_identity::Identity;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

/// Another member, as requests are forwarded to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Where it takes them.
    pub address: SocketAddr,
    /// Which life of which member that is; only the rest of the sidecar knows what it means.
    pub life: u64,
}

/// How a request has come to the face at whose instance it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    /// From its client.
    Directly,
    /// The same, and it has just been asked where its session is.
    LookedUp,
    /// From another member, which believes its session to be here.
    Forwarded,
}

/// A request that is about to run, beside its session.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// How it has come here.
    pub came: Came,
    /// Its method.
    pub method: &'a str,
    /// Its path, without the query.
    pub path: &'a str,
}

/// What is to be done when a request has ended, however it ends. Cheap, as all that the face calls.
pub type Ended = Box<dyn FnOnce() + Send + Sync>;

/// Where a request runs.
pub enum Place {
    /// At the instance of this face.
    Here,
    /// At the member that has its session.
    At(Member),
    /// That must be asked for. The answer may take as long as it likes: whoever waits has a bound. `None`: here.
    Unknown(Pin<Box<dyn Future<Output = Option<Member>> + Send>>),
}

/// What the face tells the rest of the sidecar, and asks it.
pub trait Sessions: Send + Sync + 'static {
    /// A request of this session has arrived and is about to run on this instance. Called once per request, before anything
    /// of it is sent to the instance, on the task of the connection: it must be cheap and must not block.
    ///
    /// `session` is what the client claims: a signed cookie's signature is the instance's to check, so this may start work
    /// that is harmless for an id that does not exist, and nothing else. What it returns is called when the request has ended.
    fn arriving(&self, session: &[u8], run: Run<'_>) -> Option<Ended>;

    /// Where a request of this session runs. Asked before `arriving`, where requests may be forwarded, with the same bounds.
    fn place(&self, _session: &[u8]) -> Place {
        Place::Here
    }

    /// Whether the session is here now.
    fn is_here(&self, _session: &[u8]) -> bool {
        true
    }

    /// The member to which a request of this session went says that the session is not there.
    fn misplaced(&self, _session: &[u8], _at: Member) {}

    /// There is no connection to be had to this member.
    fn unreachable(&self, _member: Member) {}

    /// Whether this member stands still, so that what it was sent may never be answered. Asked now and then while a request waits for
    /// its answer.
    fn is_silent(&self, _member: Member) -> bool {
        false
    }

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

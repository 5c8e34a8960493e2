//! The state face: what the instance takes for its Redis.
//!
//! It never decides where a session is and never holds one: it cuts commands out of bytes, finds whose keys they name, executes on
//! [`Sessions`] or relays to the upstream, and sends the replies in the order of the commands. The composition root binds and
//! runs it.
//!
//! ```text
//!  bytes ─► arguments ─► whose keys?
//!     ├─ nobody's, about the connection ──────────────► reply
//!     ├─ one session's ─► execute (hot path) ─────────► reply
//!     │                └► slow: in the session's lane ► reply, later
//!     ├─ several sessions' ─► parts, joined ──────────► reply
//!     │                    └► RENAME: lanes of both ──► reply, later
//!     └─ no session's ─► upstream ────────────────────► reply, later
//! ```
//! | file | |
//! |---|---|
//! | `keys` | which session and variable a key is |
//! | `connection` | one client: its loop, its bounds |
//! | `dispatch` | what becomes of one command |
//! | `through` | commands on sessions while the mode of the cluster is `observe` |
//! | `guards` | keys that are Wayfarer's own |
//! | `slow`, `lanes` | operations that take time, one lane a session |
//! | `merging`, `flights` | which value a write rests on, where it is to be merged |
//! | `output` | what can be sent, and what all leave unread |
//! | `transaction` | MULTI, EXEC, WATCH |
//! | `exec` | EXEC, and replies that are changed |
//! | `scripts` | EVAL, EVALSHA, SCRIPT |
//! | `survey` | SCAN, KEYS, DBSIZE, FLUSHDB |
//! | `subscriptions`, `asking` | SUBSCRIBE, PUBLISH and their sisters |
//! | `tunnel` | after MONITOR, and SUBSCRIBE at an upstream |
//! | `sifting` | what the upstream tells of session keys |
//! | `understand` | commands with their keys filled in, from clients and other nodes |
//! | `upstream` | the client's own connection to the upstream |
//! | `socket` | TCP and Unix: listeners and connections |
//! | `timers`, `together` | the times that the loop measures; replies of clients that are ready at once go out at once |
//!
//! Bounds: connections, commands in flight, bytes of a command, of a value, of unread replies: `[state]`.
//! Invariants: replies leave in the order of their commands; a waiting session stalls no other; *what is no session's passes
//! untouched*; a key of a session never goes upstream but where the mode says so.

mod asking;
mod connection;
mod dispatch;
mod exec;
mod flights;
mod guards;
mod keys;
mod lanes;
mod merging;
mod output;
#[cfg(feature = "lua")]
mod scripts;
mod sifting;
mod slow;
mod socket;
mod subscriptions;
mod survey;
mod through;
mod timers;
mod together;
mod transaction;
mod tunnel;
mod understand;
mod upstream;

pub use flights::Flights;
pub use keys::SessionKeys;
pub use understand::Understanding;

use crate::bus::Bus;
use crate::passage::Passage;
use crate::telemetry::names;
use crate::upstream::Dialer;
use bytes::Bytes;
use connection::Client;
use metrics::{Counter, Gauge};
use output::Total;
use socket::{Listener, Socket};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use wayfarer_engine::command::Op;
use wayfarer_engine::command::events::Classes;
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::wire::resp::{Answer, Protocol};
use wayfarer_settings::{ListenAt, State, Upstream};

/// A client whose unread replies exceed their bound, or who is to be let go, must read something within this time.
const STALL: Duration = Duration::from_secs(10);
/// At shutdown, replies that are still to come are waited for so long.
const FINISH: Duration = Duration::from_secs(5);
/// Pause after the system has refused to accept a connection, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where operations on sessions are executed.
pub trait Sessions: Send + Sync + 'static {
    /// The hot path: executes on a session that is open here and appends the reply. `false`: nothing was appended and nothing
    /// changed, take the slow path.
    fn execute(&self, session: &[u8], op: &Op, protocol: Protocol, out: Answer<'_>) -> bool;

    /// Everything else: birth, miss, fetch, forward, wait. Always ends with one reply, an error in the worst case, within a
    /// bounded time.
    fn slow(self: Arc<Self>, session: SessionId, op: Op, protocol: Protocol) -> impl Future<Output = Bytes> + Send;

    /// Asks all members about the keys of their sessions. Always ends with one reply, as that of `slow`.
    fn survey(self: Arc<Self>, survey: Survey, protocol: Protocol) -> impl Future<Output = Bytes> + Send;
}

/// A question about the keys of all sessions of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Survey {
    /// How many there are.
    Size {
        /// In this database.
        database: u8,
    },
    /// Their names, if they are not too many.
    Keys {
        /// In this database.
        database: u8,
        /// Those that match.
        pattern: Bytes,
    },
    /// Their names, a part at a time.
    Scan {
        /// In this database.
        database: u8,
        /// What the part before gave; 0: from the start.
        cursor: u64,
        /// How many, about.
        count: usize,
        /// Those that match; `None`: all.
        pattern: Option<Bytes>,
        /// Those of this type; `None`: all.
        kind: Option<Bytes>,
    },
    /// End them.
    Flush {
        /// In this database; `None`: in all.
        database: Option<u8>,
    },
}

/// What all connections share.
struct Face<S> {
    state: State,
    understanding: Understanding,
    /// `None`: there is no upstream.
    dialer: Option<Arc<Dialer>>,
    sessions: Arc<S>,
    stall: Duration,
    /// The way of operations on sessions.
    passage: Arc<Passage>,
    /// Names in the upstream that begin with this are not shown.
    hidden: Option<&'static [u8]>,
    /// Who may sign in, with the password: `default`, as in a Redis without ACLs, unless another is named.
    user: String,
    port: u16,
    started: Instant,
    clients: AtomicUsize,
    /// Replies that clients have not taken.
    unread: Arc<Total>,
    next_id: AtomicU64,
    metrics: Metrics,
    bus: Arc<Bus>,
    /// `None`: no write is merged.
    merging: Option<Arc<Flights>>,
}

/// Handles that the hot path need not look up.
struct Metrics {
    hot: Counter,
    slow: Counter,
    upstream: Counter,
    refused: Counter,
    connections: Gauge,
}

impl Metrics {
    fn new() -> Metrics {
        Metrics {
            hot: metrics::counter!(names::STATE_OPERATIONS, "path" => "hot"),
            slow: metrics::counter!(names::STATE_OPERATIONS, "path" => "slow"),
            upstream: metrics::counter!(names::STATE_OPERATIONS, "path" => "upstream"),
            refused: metrics::counter!(names::STATE_OPERATIONS, "path" => "refused"),
            connections: metrics::gauge!(names::STATE_CONNECTIONS),
        }
    }
}

impl<S> Face<S> {
    /// How many databases there are.
    fn databases(&self) -> u8 {
        self.state.upstream.as_ref().map_or(16, Upstream::databases)
    }

    /// Compares in constant time; there is one user.
    fn is_right_password(&self, user: &[u8], password: &[u8]) -> bool {
        let expected = self.state.password.as_ref().map(|p| p.expose().as_bytes());
        user == self.user.as_bytes() && expected.is_some_and(|expected| bool::from(expected.ct_eq(password)))
    }
}

/// Counts one connection for as long as it lives.
struct Counted<S>(Arc<Face<S>>);

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::AcqRel);
        self.0.metrics.connections.decrement(1.0);
    }
}

/// See the head of this file.
pub struct StateFace<S> {
    listener: Listener,
    face: Arc<Face<S>>,
}

/// Whether one could listen there now. It changes nothing.
pub async fn can_listen(at: &ListenAt) -> io::Result<()> {
    socket::can_bind(at).await
}

impl<S: Sessions> StateFace<S> {
    /// Listens where the settings say; `dialer` reaches the upstream. The recorder of metrics must have been installed before.
    pub async fn bind(state: State, dialer: Option<Arc<Dialer>>, sessions: Arc<S>) -> io::Result<StateFace<S>> {
        let listener = Listener::bind(&state.listen, state.socket_mode).await?;
        StateFace::on(listener, state, dialer, sessions)
    }

    /// The same for connections to this address that somebody else accepts and hands over, with who has made them.
    pub fn handed(
        address: SocketAddr,
        handed: mpsc::Receiver<(TcpStream, SocketAddr)>,
        state: State,
        dialer: Option<Arc<Dialer>>,
        sessions: Arc<S>,
    ) -> io::Result<StateFace<S>> {
        StateFace::on(Listener::Handed(address, Mutex::new(handed)), state, dialer, sessions)
    }

    #[allow(clippy::disallowed_methods, reason = "only for the uptime that INFO shows")]
    fn on(listener: Listener, state: State, dialer: Option<Arc<Dialer>>, sessions: Arc<S>) -> io::Result<StateFace<S>> {
        // Redis says 0 as well where it does not listen on TCP.
        let port = listener.place()?.tcp().map_or(0, |address| address.port());
        let understanding = Understanding::new(&state);
        let numbering = state.upstream.as_ref().map(Upstream::numbering).unwrap_or_default();
        let bus = Arc::new(Bus::new(Classes::NONE, numbering));
        let unread = Arc::new(Total::new(state.output_total_bytes_max));
        let face = Face {
            state,
            unread,
            understanding,
            dialer,
            sessions,
            stall: STALL,
            passage: Arc::default(),
            hidden: None,
            user: "default".to_owned(),
            port,
            started: Instant::now(),
            clients: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
            metrics: Metrics::new(),
            bus,
            merging: None,
        };
        Ok(StateFace { listener, face: Arc::new(face) })
    }

    /// Where it listens.
    pub fn place(&self) -> io::Result<ListenAt> {
        self.listener.place()
    }

    /// Its clients sign in as this user. Without it they do as in a Redis without ACLs.
    pub fn with_user(mut self, user: Option<&str>) -> StateFace<S> {
        if let Some((face, user)) = Arc::get_mut(&mut self.face).zip(user) {
            face.user = user.to_owned();
        }
        self
    }

    /// Names of the upstream's keys that begin with this are its own, and not shown.
    pub fn with_hidden(mut self, prefix: &'static [u8]) -> StateFace<S> {
        if let Some(face) = Arc::get_mut(&mut self.face) {
            face.hidden = Some(prefix);
        }
        self
    }

    /// Its clients' channels are those of this bus. Without it they are the face's own.
    pub fn with_bus(mut self, bus: Arc<Bus>) -> StateFace<S> {
        if let Some(face) = Arc::get_mut(&mut self.face) {
            face.bus = bus;
        }
        self
    }

    /// Operations on sessions go the way that this says; else always to their owners.
    pub fn with_passage(mut self, passage: Arc<Passage>) -> StateFace<S> {
        if let Some(face) = Arc::get_mut(&mut self.face) {
            face.passage = passage;
        }
        self
    }

    /// Writes to keys that say so are merged on what their requests have read. Without it every write replaces all.
    pub fn with_merging(mut self, flights: Option<Arc<Flights>>) -> StateFace<S> {
        if let Some(face) = Arc::get_mut(&mut self.face) {
            face.merging = flights.filter(|_| face.understanding.keys.any_merges());
        }
        self
    }

    /// Another time for a client to read something; see `STALL`.
    pub fn with_stall(mut self, stall: Duration) -> StateFace<S> {
        if let Some(face) = Arc::get_mut(&mut self.face) {
            face.stall = stall;
        }
        self
    }

    /// Serves until `shutdown` becomes true or its sender is gone; then accepts nobody, finishes the replies that are due, and
    /// closes.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let for_clients = shutdown.clone();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(stream) => self.welcome(stream, &for_clients, &mut connections),
                    Err(error) => {
                        tracing::warn!(%error, "the state face cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
                () = stopped(&mut shutdown) => break,
            }
        }
        drop(self.listener);
        let ended = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        if tokio::time::timeout(FINISH, ended).await.is_err() {
            tracing::warn!(connections = connections.len(), "connections of the state face are cut off at shutdown");
            connections.shutdown().await;
        }
    }

    fn welcome(&self, stream: Socket, shutdown: &watch::Receiver<bool>, connections: &mut JoinSet<()>) {
        if self.face.clients.fetch_add(1, Ordering::AcqRel) >= self.face.state.connections_max {
            self.face.clients.fetch_sub(1, Ordering::AcqRel);
            metrics::counter!(names::STATE_CONNECTIONS_REFUSED).increment(1);
            // The buffer of a new socket takes this without waiting; if it does not, the client sees the connection close.
            if let Err(error) = stream.try_write(b"-ERR max number of clients reached\r\n") {
                tracing::debug!(%error, "a refused client was not told why");
            }
            return;
        }
        self.face.metrics.connections.increment(1.0);
        let counted = Counted(self.face.clone());
        let client = Client::new(self.face.clone(), self.face.next_id.fetch_add(1, Ordering::Relaxed));
        let shutdown = shutdown.clone();
        connections.spawn(async move {
            let _counted = counted;
            client.serve(stream, shutdown).await;
        });
    }
}

/// Waits until the face is to stop. A sender that is gone cannot say so any more, so that counts as well.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let stopped = shutdown.wait_for(|stop| *stop).await;
    drop(stopped);
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection of the state face ended in a panic: a bug, please report it");
    }
}

#[cfg(test)]
mod tests;

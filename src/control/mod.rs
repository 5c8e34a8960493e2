//! The control channel: moves messages between nodes, in order within a lane, as long as both live.
//!
//! It never decides anything about a session and never asks for an answer: a message may be lost, and whoever sent it has a
//! deadline of its own. The driver sends, gives the view of members, and takes what arrives ([`Inbound`]).
//!
//! ```text
//!  send ─▶ queue of (peer, lane) ─▶ one task ─── connection dialled by this node ───▶ the peer's Inbound
//!  Inbound ◀────────── one task ◀─────────────── connection dialled by the peer ──── the peer's queue
//! ```
//!
//! Messages go one way on a connection; two lanes a peer keep what is large from delaying what is urgent. Loopback only as
//! long as there is no mutual TLS, whose place is in `dial` and `accept`, before the first frame.
//!
//! Invariant: all is bounded (connections, peers, frames, queues, handshakes, writes), and nobody talks to another life than the
//! one that it means.

mod accept;
mod dial;
mod hello;
mod outbox;
mod peers;
mod strangers;

use crate::telemetry::names;
use peers::{Peer, Peers};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use strangers::Strangers;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use wayfarer_engine::directory::View;
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::wire::control::{self, ControlMessage, Lane, WireError, lane};

/// Pause after a failed accept: out of descriptors, the next one would fail at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Takes what arrives.
pub trait Inbound: Send + Sync + 'static {
    /// A message. While this waits, nothing more is read from that lane of that peer. It is dropped where it waits when the life
    /// ends, the peer is gone, or the peer has dialled again.
    fn received(&self, from: Incarnation, message: ControlMessage) -> impl Future<Output = ()> + Send;

    /// Questions that were sent to this peer may be lost: told each time that [`Lane::Control`] falls. Whatever becomes of the other
    /// lane, questions under way are still answered. Must not block.
    fn unreachable(&self, peer: Incarnation);
}

/// What a node must know to talk to others.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// The cluster's name; nodes of another one are refused.
    pub cluster: String,
    /// This node's name, for the logs of others.
    pub member: String,
    /// SHA-256 of what this node takes for keys of sessions; members that take others are named.
    pub keys: [u8; 32],
    /// Bytes of a frame, at most. The same in the whole cluster.
    pub frame_bytes_max: usize,
    /// Frames that wait for one lane of one peer, at most.
    pub queue_len_max: usize,
    /// Bytes that wait for one lane of one peer, at most (one frame may be longer).
    pub queue_bytes_max: usize,
    /// Time for connecting with the handshake, on either side.
    pub connect_ms_max: u64,
    /// Time in which a write must get on.
    pub write_ms_max: u64,
    /// Pause before the first redial.
    pub redial_ms_min: u64,
    /// Pause between redials, at most.
    pub redial_ms_max: u64,
    /// Connections of peers, at most; each peer has two.
    pub connections_max: usize,
}

impl ControlSettings {
    /// With the ordinary limits.
    pub fn new(cluster: impl Into<String>, member: impl Into<String>) -> ControlSettings {
        ControlSettings {
            cluster: cluster.into(),
            member: member.into(),
            keys: [0; 32],
            frame_bytes_max: 64 << 20,
            queue_len_max: 16_384,
            queue_bytes_max: 64 << 20,
            connect_ms_max: 2_000,
            write_ms_max: 10_000,
            redial_ms_min: 50,
            redial_ms_max: 1_000,
            connections_max: 1_024,
        }
    }
}

/// Why a message was not sent. Nothing of it will arrive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotSent {
    /// This node has no life now: `run` has not begun or has ended.
    NotRunning,
    /// The view has no such living peer, or it is this node.
    Unknown,
    /// Its connection is broken or was refused; it is being dialled again.
    Unreachable,
    /// Too much waits for it already.
    Full,
    /// No frame holds it.
    TooLong(WireError),
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotSent::NotRunning => f.write_str("the control channel is not running"),
            NotSent::Unknown => f.write_str("no such peer is alive"),
            NotSent::Unreachable => f.write_str("the peer is unreachable"),
            NotSent::Full => f.write_str("too much waits for the peer"),
            NotSent::TooLong(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for NotSent {}

/// `run` was called while another one runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlreadyRunning;

/// Bytes of frames that were sent, lengths included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BytesSent {
    /// Before sessions answered at their new places, manifests included.
    pub eager: u64,
    /// After that: what was fetched late.
    pub late: u64,
    /// Everything else.
    pub other: u64,
}

#[derive(Default)]
struct Counters {
    eager: AtomicU64,
    late: AtomicU64,
    other: AtomicU64,
}

/// One life of this node: all that the tasks of its connections share.
struct Life {
    me: Incarnation,
    settings: Arc<ControlSettings>,
    peers: Arc<Peers>,
    present: accept::Present,
    counters: Arc<Counters>,
    strangers: Arc<Strangers>,
    unreachable: Box<dyn Fn(Incarnation) + Send + Sync>,
}

impl Life {
    fn count_sent(&self, batch: &outbox::Batch) {
        let outbox::Batch { count: BytesSent { eager, late, other }, .. } = batch;
        for (counter, phase, bytes) in [
            (&self.counters.eager, "eager", *eager),
            (&self.counters.late, "late", *late),
            (&self.counters.other, "other", *other),
        ] {
            counter.fetch_add(bytes, Ordering::Relaxed);
            metrics::counter!(names::CONTROL_BYTES, "phase" => phase).increment(bytes);
        }
    }

    fn count_dropped(&self, frames: usize) {
        count_dropped(frames);
    }
}

fn count_dropped(frames: usize) {
    metrics::counter!(names::CONTROL_DROPPED).increment(frames as u64);
}

fn not_loopback() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the control channel is not encrypted yet: only loopback addresses are allowed")
}

/// See the head of this file.
pub struct Control {
    listener: TcpListener,
    address: SocketAddr,
    settings: Arc<ControlSettings>,
    peers: Arc<Peers>,
    counters: Arc<Counters>,
    strangers: Arc<Strangers>,
    /// Messages that no frame holds, so far.
    too_long: AtomicU64,
    /// Lanes that were sent to for the first time and have no task yet: at most two a peer.
    fresh: Mutex<Vec<(Arc<Peer>, Lane)>>,
    has_fresh: Notify,
}

impl Control {
    /// Listens. Peers that dial wait for `run`. An error is the system's, or says that `address` is not a loopback one.
    pub async fn bind(address: SocketAddr, settings: ControlSettings) -> io::Result<Control> {
        if !address.ip().is_loopback() {
            return Err(not_loopback());
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (peers, counters) = (Arc::new(Peers::new()), Arc::default());
        let (fresh, has_fresh) = (Mutex::default(), Notify::new());
        Ok(Control {
            listener,
            address,
            settings: Arc::new(settings),
            peers,
            counters,
            strangers: Arc::default(),
            too_long: AtomicU64::new(0),
            fresh,
            has_fresh,
        })
    }

    /// Where peers dial; with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Queues a message; the lane follows from its kind. Never waits.
    pub fn send(&self, to: Incarnation, message: ControlMessage) -> Result<(), NotSent> {
        let peer = match self.peers.get(to) {
            (false, _) => return Err(NotSent::NotRunning),
            (true, None) => return Err(NotSent::Unknown),
            (true, Some(peer)) => peer,
        };
        let lane = lane(&message);
        let appended = peer.outbox(lane).append(&message, &self.settings);
        if let Err(NotSent::TooLong(error)) = &appended {
            // Whoever sends may try again and again: the first is told, and then ever fewer.
            let times = self.too_long.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            if times.is_power_of_two() {
                let (kind, bytes) = (control::kind(&message), control::value_bytes(&message));
                tracing::warn!(kind, bytes, times, %error, "a message to another node was not sent ([cluster] frame_bytes_max)");
            }
        }
        if appended? {
            self.lock_fresh().push((peer, lane));
            self.has_fresh.notify_one();
        }
        Ok(())
    }

    /// Takes over who lives where; ends connections with those who are gone.
    pub fn members(&self, view: &View) {
        count_dropped(self.peers.update(view));
    }

    /// Whether this member has said that it takes other keys for sessions than this node.
    pub fn takes_other_keys(&self, member: Incarnation) -> bool {
        self.strangers.has(member)
    }

    /// Bytes sent since `bind`.
    pub fn bytes(&self) -> BytesSent {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BytesSent { eager: of(&self.counters.eager), late: of(&self.counters.late), other: of(&self.counters.other) }
    }

    /// Lives as `me` until `shutdown` is true or its sender is gone. When it returns, all connections of that life are closed;
    /// the listener stays, and it may be called again with another `me`.
    pub async fn run<I: Inbound>(
        &self,
        me: Incarnation,
        inbound: Arc<I>,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), AlreadyRunning> {
        if !self.peers.begin(me) {
            return Err(AlreadyRunning);
        }
        // Ends the life also if this future is dropped.
        let _ends = EndsLife(self);
        let for_unreachable = Arc::clone(&inbound);
        let life = Arc::new(Life {
            me,
            settings: Arc::clone(&self.settings),
            peers: Arc::clone(&self.peers),
            present: accept::Present::default(),
            counters: Arc::clone(&self.counters),
            strangers: Arc::clone(&self.strangers),
            unreachable: Box::new(move |peer| for_unreachable.unreachable(peer)),
        });
        let (mut accepted, mut dialled) = (JoinSet::new(), JoinSet::new());
        loop {
            tokio::select! {
                () = until_stopped(&mut shutdown) => break,
                connection = self.listener.accept() => match connection {
                    Ok((stream, _)) if accepted.len() >= self.settings.connections_max => {
                        metrics::counter!(names::CONTROL_REFUSED).increment(1);
                        drop(stream);
                    }
                    Ok((stream, address)) => {
                        accepted.spawn(accept::serve(stream, address, Arc::clone(&life), Arc::clone(&inbound)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the control channel cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                () = self.has_fresh.notified() => {
                    for (peer, lane) in self.lock_fresh().drain(..) {
                        // One of a former life, sent to at its very end, has nothing to say any more.
                        if !peer.is_gone() {
                            dialled.spawn(dial::keep(Arc::clone(&life), peer, lane));
                        }
                    }
                }
                Some(ended) = accepted.join_next() => note_end(ended),
                Some(ended) = dialled.join_next() => note_end(ended),
            }
        }
        accepted.shutdown().await;
        dialled.shutdown().await;
        Ok(())
    }

    fn lock_fresh(&self) -> std::sync::MutexGuard<'_, Vec<(Arc<Peer>, Lane)>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when `shutdown` is true or its sender is gone.
async fn until_stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Ends the life of a [`Control`] when `run` returns or is dropped.
struct EndsLife<'a>(&'a Control);

impl Drop for EndsLife<'_> {
    fn drop(&mut self) {
        count_dropped(self.0.peers.end());
        self.0.lock_fresh().clear();
    }
}

/// A task of a connection that panicked is a bug; the others go on. What it says is not logged: it may hold anything.
fn note_end(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a task of the control channel panicked");
    }
}

#[cfg(test)]
mod tests;

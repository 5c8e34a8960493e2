//! A Redis Cluster as if it were one server: which node serves which slots, for all connections of this process.
//!
//! It never sends a command of a client: a [`Front`] does, one for each connection that somebody dials. [`super::Dialer`] has one
//! of these.
//!
//! ```text
//!  whoever dials ─ RESP ─► Front ─┬─► node of slot 0…     MOVED, ASK, a lost connection ─► the map is corrected and asked for again
//!                                 ├─► node of slot 5461…
//!                                 └─► …
//! ```
//! | file | |
//! |---|---|
//! | `slots` | slots of keys, who serves which, redirections |
//! | `route` | where a command goes |
//! | `node` | a connection to one node |
//! | `front` | many of them as one: order, parts, what must be alone |
//! | `spread` | commands that concern several nodes |
//! | `again` | what is sent again: redirections, lost connections, nodes that are silent |
//! | `transaction` | MULTI, WATCH and their like, at one node |
//! | `listening` | SUBSCRIBE and its like; events of keys are told by each node for itself |
//!
//! The map is asked for when nothing is known, when a node is lost, silent or said to be the wrong one, and otherwise never; nobody
//! asks twice within [`PAUSE`], and who asks while another does takes that answer.
//! Bounds: [`ASK`] a node, [`ASKED_MAX`] nodes.

mod again;
mod front;
mod listening;
mod node;
mod route;
mod slots;
mod spread;
mod transaction;

pub(super) use front::Front;
pub use route::is_blocking;
pub use slots::{hash_tag, slot_of, tag_of_slot};

use super::handshake::{auth, perform};
use super::{Dialer, Wire};
use bytes::Bytes;
use slots::SlotMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use wayfarer_settings::HostPort;

/// One node must have answered within this time.
const ASK: Duration = Duration::from_millis(500);
/// Between two questions for the map.
const PAUSE: Duration = Duration::from_millis(100);
/// Where a node may only be slow, an answer that is not older is new enough.
const RENEWED_MIN: Duration = Duration::from_secs(1);
/// So many nodes are asked, one after the other.
const ASKED_MAX: usize = 64;
const REFUSED: &str =
    "it refuses the handshake, or is no node of a Redis Cluster: look at scheme, user and password in [state] upstream";

/// See the head of this file.
pub(super) struct Cluster {
    /// Where its nodes are by the settings.
    seeds: Vec<HostPort>,
    map: watch::Sender<Arc<SlotMap>>,
    /// Counts the questions for the map that have ended.
    asked: AtomicU64,
    asking: Mutex<Asked>,
    /// Who is asked next: who answered last, or the one behind who did not.
    next: AtomicUsize,
    /// A connection was given up while a node owed it a reply.
    suspected: AtomicBool,
}

/// How the last question ended.
#[derive(Default)]
struct Asked {
    at: Option<Instant>,
    failed: Option<(io::ErrorKind, String)>,
}

impl Cluster {
    /// Nothing is known.
    pub(super) fn new(seeds: &[HostPort]) -> Cluster {
        Cluster {
            seeds: seeds.to_vec(),
            map: watch::Sender::new(Arc::default()),
            asked: AtomicU64::new(0),
            asking: Mutex::default(),
            next: AtomicUsize::new(0),
            suspected: AtomicBool::new(false),
        }
    }

    /// What is known.
    fn map(&self) -> Arc<SlotMap> {
        self.map.borrow().clone()
    }

    /// A node has said that another serves a slot.
    fn moved(&self, slot: u16, to: &HostPort) {
        self.map.send_if_modified(|map| {
            let is_new = map.owner(slot) != Some(to);
            if is_new {
                Arc::make_mut(map).moved(slot, to);
            }
            is_new
        });
    }

    /// Counts the questions for the map: [`Cluster::renew`] wants to know from when on an answer is new.
    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// Asks for the map, unless somebody has since the count was `seen`, or the last answer is not `older`. The error is that of the
    /// last node.
    async fn renew(&self, dialer: &Dialer, seen: u64, older: Duration) -> io::Result<()> {
        let mut asked = self.asking.lock().await;
        if self.asked() == seen && asked.at.is_none_or(|at| at + older <= now()) {
            if let Some(at) = asked.at {
                tokio::time::sleep_until(at + PAUSE).await;
            }
            let answer = self.ask(dialer).await;
            asked.at = Some(now());
            self.asked.fetch_add(1, Ordering::AcqRel);
            match answer {
                Ok(map) => {
                    asked.failed = None;
                    self.map.send_replace(Arc::new(map));
                }
                Err(error) => asked.failed = Some((error.kind(), error.to_string())),
            }
        }
        asked.failed.as_ref().map_or(Ok(()), |(kind, text)| Err(io::Error::new(*kind, text.clone())))
    }

    async fn ask(&self, dialer: &Dialer) -> io::Result<SlotMap> {
        let map = self.map();
        let mut places: Vec<&HostPort> = Vec::new();
        for place in map.nodes().chain(&self.seeds) {
            if !places.contains(&place) && places.len() < ASKED_MAX {
                places.push(place);
            }
        }
        let mut failed = io::Error::from(io::ErrorKind::NotConnected);
        for _ in 0..places.len() {
            // Counted on before it is known who answers: whoever has no more patience does not ask the same again.
            let at = self.next.fetch_add(1, Ordering::AcqRel);
            let Some(place) = at.checked_rem(places.len()).and_then(|at| places.get(at)) else { break };
            match tokio::time::timeout(ASK, ask_one(dialer, place)).await {
                Ok(Ok(map)) => {
                    self.next.store(at, Ordering::Release);
                    return Ok(map);
                }
                Ok(Err(error)) => failed = error,
                Err(_) => failed = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(failed)
    }

    /// A connection was given up while a node owed it a reply: before the next one the map is asked for.
    fn suspect(&self) {
        self.suspected.store(true, Ordering::Release);
    }
}

async fn ask_one(dialer: &Dialer, place: &HostPort) -> io::Result<SlotMap> {
    let mut wire = dialer.to(place).await?;
    let question = vec![Bytes::from_static(b"CLUSTER"), Bytes::from_static(b"SLOTS")];
    let requests: Vec<_> = auth(dialer.upstream()).into_iter().chain([question]).collect();
    let replies = perform(&mut wire, &requests, REFUSED).await?;
    let map = replies.last().and_then(|reply| SlotMap::read(reply, place));
    map.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer to CLUSTER SLOTS is not understood"))
}

#[allow(clippy::disallowed_methods, reason = "a pause of tokio's own timer needs tokio's own clock")]
fn now() -> Instant {
    Instant::now()
}

/// A connection to the whole of it.
pub(super) async fn reach(dialer: &Arc<Dialer>, cluster: &Arc<Cluster>) -> io::Result<Wire> {
    let asked = cluster.asked();
    if cluster.map().masters().is_empty() {
        cluster.renew(dialer, asked, Duration::ZERO).await?;
    } else if cluster.suspected.swap(false, Ordering::AcqRel) {
        // Without an answer the map is as good as it was.
        drop(cluster.renew(dialer, asked, RENEWED_MIN).await);
    }
    Ok(Wire::cluster(Front::new(dialer.clone(), cluster.clone())))
}

//! Whom this node may talk to: the living members of the last view, with their addresses and queues.
//!
//! It never dials. [`super::Control`] looks peers up here; the tasks of connections learn here that a peer is gone.
//!
//! A peer is *gone* if the view has it as fenced, or does not have it although the view has a younger one: incarnations are
//! numbers of one growing counter, so that an unknown number above all known ones is a member that the view does not have yet.
//!
//! Invariant: a restarted node is another peer. A view that comes late may hide a peer until the next one, and does no other harm.

use super::outbox::Outbox;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;
use wayfarer_engine::directory::View;
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::wire::control::Lane;

/// Members that a node keeps addresses of. More are named in the log and cannot be sent to.
pub(super) const PEERS_MAX: usize = 4096;

/// One life of another node.
pub(super) struct Peer {
    pub incarnation: Incarnation,
    pub address: String,
    control: Outbox,
    bulk: Outbox,
    lanes_down: AtomicU8,
    gone: watch::Sender<bool>,
}

impl Peer {
    fn new(incarnation: Incarnation, address: String) -> Arc<Peer> {
        let (control, bulk) = (Outbox::new(), Outbox::new());
        Arc::new(Peer { incarnation, address, control, bulk, lanes_down: AtomicU8::new(0), gone: watch::Sender::new(false) })
    }

    /// The queue of a lane.
    pub fn outbox(&self, lane: Lane) -> &Outbox {
        match lane {
            Lane::Control => &self.control,
            Lane::Bulk => &self.bulk,
        }
    }

    /// A lane that had or awaited a connection has none. `true`: the other one still had, so that this is news.
    pub fn lane_down(&self) -> bool {
        self.lanes_down.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// A lane that was down has a connection.
    pub fn lane_up(&self) {
        self.lanes_down.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether nothing can be sent to it any more.
    pub fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Waits until the peer is gone.
    pub async fn gone(&self) {
        // The sender lives as long as `self`.
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Drops what waits; returns how many frames that were.
    fn close(&self) -> usize {
        self.gone.send_replace(true);
        self.control.close() + self.bulk.close()
    }
}

#[derive(Default)]
struct Table {
    me: Option<Incarnation>,
    peers: HashMap<Incarnation, Arc<Peer>>,
    youngest: Option<Incarnation>,
}

/// See the head of this file.
pub(super) struct Peers {
    table: RwLock<Table>,
    changes: watch::Sender<()>,
}

impl Peers {
    pub fn new() -> Peers {
        Peers { table: RwLock::default(), changes: watch::Sender::new(()) }
    }

    /// Begins a life: queues are new. `false`: the last one has not ended.
    pub fn begin(&self, me: Incarnation) -> bool {
        let mut table = self.write();
        if table.me.is_some() {
            return false;
        }
        table.me = Some(me);
        for peer in table.peers.values_mut() {
            *peer = Peer::new(peer.incarnation, peer.address.clone());
        }
        true
    }

    /// Ends a life: nothing more is taken. Returns how many frames were dropped.
    pub fn end(&self) -> usize {
        let mut table = self.write();
        table.me = None;
        table.peers.values().map(|p| p.close()).sum()
    }

    /// Takes over a view. Returns how many frames for peers that are gone were dropped.
    pub fn update(&self, view: &View) -> usize {
        let mut table = self.write();
        table.youngest = table.youngest.max(view.members.keys().next_back().copied());
        let mut dropped = 0;
        table.peers.retain(|incarnation, peer| {
            let stays = !view.is_dead(*incarnation);
            if !stays {
                dropped += peer.close();
            }
            stays
        });
        for (incarnation, member) in view.members.iter().filter(|(i, _)| !view.is_dead(**i)) {
            if table.peers.len() >= PEERS_MAX {
                tracing::warn!(PEERS_MAX, "more members than a node keeps connections to; the youngest cannot be sent to");
                break;
            }
            table.peers.entry(*incarnation).or_insert_with(|| Peer::new(*incarnation, member.draft.control.clone()));
        }
        drop(table);
        self.changes.send_replace(());
        dropped
    }

    /// The peer, and whether this node is alive to send to it.
    pub fn get(&self, to: Incarnation) -> (bool, Option<Arc<Peer>>) {
        let table = self.read();
        (table.me.is_some(), table.peers.get(&to).filter(|_| table.me != Some(to)).cloned())
    }

    /// See the head of this file.
    pub fn is_gone(&self, incarnation: Incarnation) -> bool {
        let table = self.read();
        !table.peers.contains_key(&incarnation) && table.peers.len() < PEERS_MAX && Some(incarnation) <= table.youngest
    }

    /// Ends when `incarnation` can be sent to, or never will: when the view has it, or a younger one.
    pub async fn until_known(&self, incarnation: Incarnation) {
        let mut changes = self.changes.subscribe();
        while self.is_awaited(incarnation) {
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    fn is_awaited(&self, incarnation: Incarnation) -> bool {
        let table = self.read();
        table.peers.len() < PEERS_MAX && Some(incarnation) > table.youngest
    }

    /// Ends when `incarnation` is gone.
    pub async fn until_gone(&self, incarnation: Incarnation) {
        let mut changes = self.changes.subscribe();
        while !self.is_gone(incarnation) {
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

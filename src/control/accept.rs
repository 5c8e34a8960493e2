//! One connection that a peer dialled: handshake, then its messages in order, until either end has enough.
//!
//! It never sends anything but the answer to `Hello`, and never reads ahead of whoever takes the messages: a slow taker slows
//! the peer down. A task of the life's set.
//!
//! Invariant: one connection a peer and lane: a second one ends the first, whose peer has given it up.

use super::hello::{self, Ended};
use super::{Inbound, Life};
use crate::telemetry::names;
use bytes::BytesMut;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::wire::control::{self, ControlMessage, Lane};

/// Serves the connection to its end. Mutual TLS will wrap the stream here, before the first frame.
pub(super) async fn serve<I: Inbound>(mut stream: TcpStream, address: SocketAddr, life: Arc<Life>, inbound: Arc<I>) {
    let mut input = BytesMut::new();
    let time_max = Duration::from_millis(life.settings.connect_ms_max);
    let handshake = hello::welcome(&mut stream, &mut input, &life.settings, life.me, &life.peers, &life.strangers);
    let (from, lane) = match timeout(time_max, handshake).await.unwrap_or(Err(Ended::Overdue("the handshake"))) {
        Ok(peer) => peer,
        Err(ended) => {
            metrics::counter!(names::CONTROL_REFUSED).increment(1);
            return tracing::warn!(%address, %ended, "a connection to the control channel was refused");
        }
    };
    let replaced = life.present.enter(from, lane);
    let ended = tokio::select! {
        ended = receive(&mut stream, &mut input, from, &life, &*inbound) => ended,
        () = replaced.notified() => Ended::Replaced,
        () = life.peers.until_gone(from) => Ended::Gone,
    };
    life.present.leave(from, lane, &replaced);
    if ended.is_strange() {
        tracing::warn!(%address, peer = from.0.0, ?lane, %ended, "a connection of the control channel was closed");
    } else {
        tracing::debug!(%address, peer = from.0.0, ?lane, %ended, "a connection of the control channel has ended");
    }
}

async fn receive<I: Inbound>(stream: &mut TcpStream, input: &mut BytesMut, from: Incarnation, life: &Life, inbound: &I) -> Ended {
    loop {
        let message = match hello::read_frame(stream, input, life.settings.frame_bytes_max).await {
            Ok(message) => message,
            Err(ended) => return ended,
        };
        let kind = control::kind(&message);
        match message {
            ControlMessage::Hello { .. } | ControlMessage::Welcome { .. } | ControlMessage::Unwelcome { .. } => {
                return Ended::OutOfTurn(kind);
            }
            message => {
                metrics::counter!(names::CONTROL_RECEIVED, "kind" => kind).increment(1);
                inbound.received(from, message).await;
            }
        }
    }
}

/// The connections that are past their handshake.
#[derive(Default)]
pub(super) struct Present(Mutex<HashMap<(Incarnation, Lane), Arc<Notify>>>);

impl Present {
    /// Ends an older connection of the same peer and lane; the result is told when a younger one comes.
    fn enter(&self, from: Incarnation, lane: Lane) -> Arc<Notify> {
        let replaced = Arc::new(Notify::new());
        if let Some(older) = self.lock().insert((from, lane), Arc::clone(&replaced)) {
            older.notify_one();
        }
        replaced
    }

    fn leave(&self, from: Incarnation, lane: Lane, mine: &Arc<Notify>) {
        let mut present = self.lock();
        if present.get(&(from, lane)).is_some_and(|latest| Arc::ptr_eq(latest, mine)) {
            present.remove(&(from, lane));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Incarnation, Lane), Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

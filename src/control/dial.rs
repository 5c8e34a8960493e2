//! One lane to one peer: dials at the first message, keeps the connection, writes what waits, dials again when it broke.
//!
//! It never reads a message: messages of the peer come over connections that the peer dialled. A task of the life's set.
//!
//! | event | queue | `unreachable` |
//! |---|---|---|
//! | refused, unwelcome, broken, no progress for `write_ms_max` | dropped, then closed to new ones | yes, if it is the control lane and was up until now |
//! | dialled again | open | no |
//! | the peer is gone from the view | closed for ever | yes, if it is the control lane and was up until now |
//!
//! Between dials it waits `redial_ms_min`, doubled each time, up to `redial_ms_max`.
//! Invariant: what is written is whole frames in the order in which they were queued; a frame is never sent twice.

use super::Life;
use super::hello::{self, Ended};
use super::outbox::{Batch, Outbox};
use super::peers::Peer;
use crate::telemetry::names;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use wayfarer_engine::wire::control::Lane;

/// Runs until the peer is gone; a shutdown cancels it.
pub(super) async fn keep(life: Arc<Life>, peer: Arc<Peer>, lane: Lane) {
    let mut is_down = false;
    tokio::select! {
        biased;
        () = peer.gone() => {
            if !is_down && lane == Lane::Control {
                (life.unreachable)(peer.incarnation);
            }
        }
        never = keep_dialled(&life, &peer, lane, &mut is_down) => match never {},
    }
}

async fn keep_dialled(life: &Life, peer: &Peer, lane: Lane, is_down: &mut bool) -> std::convert::Infallible {
    let outbox = peer.outbox(lane);
    let wait_min = Duration::from_millis(life.settings.redial_ms_min.max(1));
    let wait_max = Duration::from_millis(life.settings.redial_ms_max).max(wait_min);
    let mut wait = wait_min;
    loop {
        let ended = match open(life, peer, lane).await {
            Ok(mut stream) => {
                wait = wait_min;
                outbox.set_open();
                if std::mem::take(is_down) {
                    peer.lane_up();
                }
                tracing::debug!(peer = peer.incarnation.0.0, address = peer.address, ?lane, "connected");
                write_batches(&mut stream, outbox, life).await
            }
            Err(ended) => ended,
        };
        let dropped = outbox.set_down();
        life.count_dropped(dropped);
        let was_up = !std::mem::replace(is_down, true);
        if was_up && peer.lane_down() {
            let (peer_life, address) = (peer.incarnation.0.0, &peer.address);
            if matches!(ended, Ended::Closed) {
                tracing::info!(peer = peer_life, address, ?lane, dropped, "a peer has closed its connection");
            } else {
                tracing::warn!(peer = peer_life, address, ?lane, dropped, %ended, "a peer is unreachable");
            }
            metrics::counter!(names::CONTROL_UNREACHABLE).increment(1);
        } else {
            tracing::debug!(peer = peer.incarnation.0.0, ?lane, dropped, %ended, "not connected");
        }
        if was_up && lane == Lane::Control {
            (life.unreachable)(peer.incarnation);
        }
        sleep(wait).await;
        wait = (wait * 2).min(wait_max);
    }
}

/// Connects and says hello. Mutual TLS will wrap the stream here, before the first frame.
async fn open(life: &Life, peer: &Peer, lane: Lane) -> Result<TcpStream, Ended> {
    let dialling = async {
        let mut stream = TcpStream::connect(&peer.address).await.map_err(Ended::Io)?;
        if !stream.peer_addr().map_err(Ended::Io)?.ip().is_loopback() {
            return Err(Ended::Io(super::not_loopback()));
        }
        stream.set_nodelay(true).map_err(Ended::Io)?;
        hello::greet(&mut stream, &life.settings, life.me, peer.incarnation, lane).await?;
        Ok(stream)
    };
    let time_max = Duration::from_millis(life.settings.connect_ms_max);
    timeout(time_max, dialling).await.unwrap_or(Err(Ended::Overdue("connecting")))
}

/// Writes what waits, all of it at once, until the connection ends.
async fn write_batches<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, outbox: &Outbox, life: &Life) -> Ended {
    let mut batch = Batch::default();
    let mut unexpected = [0; 1];
    loop {
        outbox.take(&mut batch);
        if batch.frames == 0 {
            tokio::select! {
                () = outbox.ready() => {}
                // The peer says nothing here: a byte is a mistake, the end tells at once that it is gone.
                read = stream.read(&mut unexpected) => return match read {
                    Ok(0) => Ended::Closed,
                    Ok(_) => Ended::OutOfTurn("after the handshake"),
                    Err(error) => Ended::Io(error),
                },
            }
            continue;
        }
        if let Err(ended) = write_all(stream, &batch.bytes, life.settings.write_ms_max).await {
            life.count_dropped(batch.frames);
            return ended;
        }
        life.count_sent(&batch);
    }
}

/// Writes all bytes, each part within `write_ms_max`: a slow peer is waited for, one that stands still is not.
async fn write_all<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8], write_ms_max: u64) -> Result<(), Ended> {
    let time_max = Duration::from_millis(write_ms_max);
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = timeout(time_max, stream.write(rest)).await.map_err(|_| Ended::Overdue("writing"))?;
        match written.map_err(Ended::Io)? {
            0 => return Err(Ended::Io(io::ErrorKind::WriteZero.into())),
            count => rest = rest.get(count..).unwrap_or_default(),
        }
    }
    timeout(time_max, stream.flush()).await.map_err(|_| Ended::Overdue("writing"))?.map_err(Ended::Io)
}

//! The gate of a direction: accepts what was redirected, and gives each connection its way.
//!
//! It never reads. The table is in the head of the module; the composition root runs a gate beside the face that it serves.
//! Bounds: connections at once that are not handed over; those beyond are closed.
//! Invariant: a face gets only what was redirected, and wanted to go to what the face stands for.

use super::known::{Is, Known};
use super::original::{Listeners, destination};
use super::passing::{pass, refuse, reset};
use crate::telemetry::names;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

/// Connections that wait for their face to take them.
const HANDED_MAX: usize = 64;
/// Pause after the system has refused to accept a connection, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Other servers that the log names, each once.
const NAMED_MAX: usize = 64;

/// What a client of the outbound listener itself is told.
const NOT_REDIRECTED: &[u8] =
    b"-ERR wayfarer: only connections that were redirected are served here ([redirect] outbound_port); connect to [state] listen\r\n";
/// The same at the inbound listener.
const NOT_REDIRECTED_HTTP: &[u8] = b"HTTP/1.1 421 Misdirected Request\r\ncontent-type: text/plain\r\ncontent-length: 87\r\n\
    connection: close\r\n\r\nOnly connections that were redirected are served here; connect to the service's port.\r\n";

/// A connection, and who has made it.
pub type Handed = (TcpStream, SocketAddr);

/// What the face behind a gate stands for.
enum Behind {
    Upstream(Known),
    /// The instance, by its port.
    Instance(u16),
}

/// What all connections of a gate share.
struct Shared {
    behind: Behind,
    face: mpsc::Sender<Handed>,
    /// Other servers that the log has named.
    named: Mutex<HashSet<SocketAddr>>,
}

/// See the head of this file.
pub struct Gate {
    listeners: Listeners,
    connections_max: usize,
    shared: Arc<Shared>,
}

/// What became of a connection, as the metric has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Taken,
    Passed,
    Direct,
    Unknown,
    Full,
}

impl Gate {
    /// For connections to the upstream; what comes out is the state face's.
    pub fn outbound(listeners: Listeners, known: Known, connections_max: usize) -> (Gate, mpsc::Receiver<Handed>) {
        Gate::before(Behind::Upstream(known), listeners, connections_max)
    }

    /// For connections to the instance's port; what comes out is the HTTP face's.
    pub fn inbound(listeners: Listeners, port: u16, connections_max: usize) -> (Gate, mpsc::Receiver<Handed>) {
        Gate::before(Behind::Instance(port), listeners, connections_max)
    }

    fn before(behind: Behind, listeners: Listeners, connections_max: usize) -> (Gate, mpsc::Receiver<Handed>) {
        let (face, handed) = mpsc::channel(HANDED_MAX);
        let shared = Arc::new(Shared { behind, face, named: Mutex::default() });
        (Gate { listeners, connections_max, shared }, handed)
    }

    /// Accepts until `shutdown` becomes true or its sender is gone; then it closes its listeners, and cuts what is passed through.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let stop = async { drop(shutdown.wait_for(|stop| *stop).await) };
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
                accepted = self.listeners.accept() => match accepted {
                    Ok((stream, _)) if connections.len() >= self.connections_max => {
                        self.shared.count(Outcome::Full);
                        reset(stream);
                    }
                    Ok(handed) => {
                        connections.spawn(self.shared.clone().decide(handed));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a redirected connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listeners);
        connections.shutdown().await;
    }
}

impl Shared {
    async fn decide(self: Arc<Self>, (stream, peer): Handed) {
        let wanted = match destination(&stream) {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::warn!(%error, "the kernel does not say where a connection wanted to go: it is closed");
                self.count(Outcome::Unknown);
                return reset(stream);
            }
        };
        let Some(wanted) = wanted else { return self.turn_away(stream).await };
        match &self.behind {
            Behind::Instance(port) if wanted.port() == *port => self.hand_over((stream, peer)).await,
            // Somebody else's rule; here is nothing but the instance.
            Behind::Instance(_) => self.turn_away(stream).await,
            Behind::Upstream(known) => match known.what(wanted).await {
                Is::Upstream => self.hand_over((stream, peer)).await,
                Is::Another => {
                    self.count(Outcome::Passed);
                    self.name(wanted);
                    pass(stream, wanted).await;
                }
                Is::Unknown => {
                    tracing::warn!("where [state] upstream is cannot be found out now: a redirected connection is closed");
                    self.count(Outcome::Unknown);
                    reset(stream);
                }
            },
        }
    }

    async fn hand_over(&self, handed: Handed) {
        self.count(Outcome::Taken);
        // A face that has ended takes none; its client finds the connection closed, as the others of that face do.
        if self.face.send(handed).await.is_err() {
            tracing::debug!("a redirected connection came when its face had closed");
        }
    }

    async fn turn_away(&self, stream: TcpStream) {
        self.count(Outcome::Direct);
        let words = match self.behind {
            Behind::Upstream(_) => NOT_REDIRECTED,
            Behind::Instance(_) => NOT_REDIRECTED_HTTP,
        };
        refuse(stream, words).await;
    }

    fn count(&self, outcome: Outcome) {
        let direction = match self.behind {
            Behind::Upstream(_) => "outbound",
            Behind::Instance(_) => "inbound",
        };
        let outcome = match outcome {
            Outcome::Taken => "taken",
            Outcome::Passed => "passed",
            Outcome::Direct => "direct",
            Outcome::Unknown => "unknown",
            Outcome::Full => "full",
        };
        metrics::counter!(names::REDIRECT_CONNECTIONS, "direction" => direction, "outcome" => outcome).increment(1);
    }

    /// If the upstream was meant after all, its operator must see why it is not served.
    fn name(&self, other: SocketAddr) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() < NAMED_MAX && named.insert(other) {
            tracing::info!(%other, "connections to this address, which [state] upstream has not, are passed through");
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("a redirected connection ended in a panic: a bug, please report it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_over_http_is_as_long_as_it_says() {
        let text = String::from_utf8_lossy(NOT_REDIRECTED_HTTP).into_owned();
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
        assert!(text.contains(&format!("content-length: {}\r\n", body.unwrap_or(0))));
    }
}

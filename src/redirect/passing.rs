//! What becomes of connections that no face gets: passed through, or refused.
//!
//! It never looks at a byte of what is passed through. A gate calls it.
//!
//! Bounds: [`CONNECT`]; for who is refused [`REFUSAL`] and [`REFUSAL_BYTES_MAX`]. What is passed through may be silent for as long as both
//! ends are there, which the kernel asks them by its probes.
//! Invariant: each end hears the end of the other: a half that is closed is closed, and a server that is not there is a reset.

use crate::telemetry::names;
use rustix::net::sockopt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the other server may take to accept.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a refused client may take to read why.
const REFUSAL: Duration = Duration::from_secs(2);
/// Bytes that are read from it, so that the reason is not lost to a reset.
const REFUSAL_BYTES_MAX: u64 = 64 * 1024;
/// Silence after which it is asked whether the other end is there.
const PROBE_AFTER: Duration = Duration::from_secs(60);

/// Counts a connection that is passed through for as long as it is.
struct Passed(metrics::Gauge);

impl Passed {
    fn new() -> Passed {
        let gauge = metrics::gauge!(names::REDIRECT_PASSED);
        gauge.increment(1.0);
        Passed(gauge)
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Joins the client to the server that it wanted, to the end of both.
pub(super) async fn pass(mut client: TcpStream, to: SocketAddr) {
    let _passed = Passed::new();
    let connected = timeout(CONNECT, TcpStream::connect(to)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let mut server = match connected {
        Ok(server) => server,
        Err(error) => {
            tracing::debug!(%error, "the server of a connection that was passed through is not there");
            reset(client);
            return;
        }
    };
    if let Err(error) = prepare(&client).and_then(|()| prepare(&server)) {
        tracing::debug!(%error, "a connection that was passed through was gone before it began");
        return;
    }
    if let Err(error) = copy_bidirectional(&mut client, &mut server).await {
        tracing::debug!(kind = ?error.kind(), "a connection that was passed through broke");
        reset(client);
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
    Ok(())
}

/// Closes so that the client hears of a broken connection, as it would have without a sidecar.
pub(super) fn reset(client: TcpStream) {
    if let Err(error) = sockopt::set_socket_linger(&client, Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection is closed and not reset");
    }
}

/// Says why it is not served, and closes.
pub(super) async fn refuse(mut client: TcpStream, words: &[u8]) {
    let told = async {
        client.write_all(words).await?;
        client.shutdown().await?;
        tokio::io::copy(&mut client.take(REFUSAL_BYTES_MAX), &mut tokio::io::sink()).await
    };
    match timeout(REFUSAL, told).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a refused client left before it was told why"),
        Err(_) => tracing::debug!("a refused client did not close in time"),
    }
}

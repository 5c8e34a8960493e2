//! A client's connection as pingora reads and writes it: a socket, with or without TLS, that tells when bytes came.
//!
//! It looks at no byte. What it adds to a socket: a small buffer, so that header and body of a short answer are one write, and the
//! count of reads that found something, with which the connection tells an idle client from a slow one. The connection makes it.
//!
//! Invariant: what is written and flushed is on its way; nothing stays in the buffer.

use async_trait::async_trait;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID, UniqueIDType,
    raw_connect::ProxyDigest,
};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Bytes of answers that are gathered before they are written: a header and a little more.
const WRITE_BYTES: usize = 4096;

/// What carries the bytes.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static {}

impl Transport for TcpStream {}

/// How often bytes came; shared between a connection and its stream.
#[derive(Default)]
pub(crate) struct Reads {
    count: AtomicU64,
    came: Notify,
}

impl Reads {
    /// How often so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns when there are more than `before`.
    pub(crate) async fn more_than(&self, before: u64) {
        while self.count() <= before {
            self.came.notified().await;
        }
    }
}

/// See the head of this file.
pub(crate) struct ClientStream<T> {
    inner: BufWriter<T>,
    reads: Arc<Reads>,
}

impl<T: Transport> ClientStream<T> {
    pub(crate) fn new(inner: T, reads: Arc<Reads>) -> ClientStream<T> {
        ClientStream { inner: BufWriter::with_capacity(WRITE_BYTES, inner), reads }
    }
}

impl<T> fmt::Debug for ClientStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a client's connection")
    }
}

impl<T: Transport> AsyncRead for ClientStream<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.reads.count.fetch_add(1, Ordering::Relaxed);
            self.reads.came.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for ClientStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[async_trait]
impl<T: Transport> Shutdown for ClientStream<T> {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(&mut self.inner).await {
            tracing::debug!(%error, "a client was gone before its connection was closed");
        }
    }
}

impl<T> UniqueID for ClientStream<T> {
    /// Pingora uses it for connections that it pools, which this is not.
    fn id(&self) -> UniqueIDType {
        0
    }
}

impl<T> Ssl for ClientStream<T> {}

impl<T> Peek for ClientStream<T> {}

impl<T> GetTimingDigest for ClientStream<T> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<T> GetProxyDigest for ClientStream<T> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl<T> GetSocketDigest for ClientStream<T> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

//! A client's connection as pingora reads and writes it: a socket, with or without TLS, that tells when bytes came.
//!
//! What it adds to a socket: the bytes that were read to see how it begins; a small buffer, so that header and body of a short
//! answer are one write; of HTTP/1, that pingora reads one request at a time, whole headers, and nothing that `framing` refuses; whether
//! a header has begun, with which the connection tells an idle client from a slow one; and the end of a WebSocket that its instance knows nothing of: when the connection asks for it, a close frame is put between two
//! frames, and pingora reads the end. In the same way pingora reads the end when the answer of another member is given up; the client is
//! then told why. It never looks at a WebSocket's payload. The connection makes it.
//!
//! ```text
//! passing ──farewell asked, between two frames──► telling ──frame sent──► waiting ──client closes, LAST_WORD_TIME──► ended
//! ```
//! Invariant: what is written and flushed is on its way; nothing of the instance follows the close frame.

use crate::head::Fault;
use crate::incoming::Incoming;
use crate::websocket::{CLOSE_SERVICE_RESTART, Frames};
use async_trait::async_trait;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID, UniqueIDType,
    raw_connect::ProxyDigest,
};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

/// Bytes of answers that are gathered before they are written: a header and a little more.
const WRITE_BYTES: usize = 4096;
/// How long a client may take to close a WebSocket that it was told to close.
const LAST_WORD_TIME: Duration = Duration::from_secs(1);
/// Bytes of a client that are thrown away at once, after its WebSocket was closed.
const REST_BYTES: usize = 4096;

/// What carries the bytes.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static {}

impl Transport for TcpStream {}

impl Transport for TlsStream<TcpStream> {}

/// The first bytes of a connection, which were read to see what it speaks, and are read again behind that.
#[derive(Default, Clone, Copy)]
pub(crate) struct FirstBytes {
    bytes: [u8; FirstBytes::MAX],
    filled: usize,
    read: usize,
}

impl FirstBytes {
    /// So many tell what a connection speaks.
    pub(crate) const MAX: usize = 24;

    /// Where the next ones go.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// So many more are there.
    pub(crate) fn add(&mut self, count: usize) {
        self.filled = self.filled.saturating_add(count).min(FirstBytes::MAX);
    }

    /// Those that nobody has read again.
    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.read..self.filled).unwrap_or_default()
    }

    /// Moves as many as there is room for.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.unread().len().min(buffer.remaining());
        buffer.put_slice(self.unread().get(..count).unwrap_or_default());
        self.read = self.read.saturating_add(count);
    }
}

/// What a connection and its stream tell each other.
#[derive(Default)]
pub(crate) struct Signals {
    /// The next request may be read.
    is_asked: AtomicBool,
    /// A part of its header has come.
    has_begun: AtomicBool,
    begun: Notify,
    /// What was wrong with what came, and whether in a header.
    fault: OnceLock<(Fault, bool)>,
    is_websocket: AtomicBool,
    farewell: AtomicBool,
    /// Whether the answer comes from another member, so that it may be given up.
    is_forwarded: AtomicBool,
    is_given_up: AtomicBool,
    /// Who reads, to be woken when the farewell can be said, or the answer is given up.
    reader: Mutex<Option<Waker>>,
}

impl Signals {
    /// The next answer that is written changes the connection to a WebSocket.
    pub(crate) fn becomes_websocket(&self) {
        self.is_websocket.store(true, Ordering::Release);
    }

    /// Closes the WebSocket with 1012 as soon as no frame is under way.
    pub(crate) fn say_farewell(&self) {
        self.farewell.store(true, Ordering::Release);
        self.wake_reader();
    }

    /// The next answer comes from another member; it may be given up.
    pub(crate) fn is_forwarded(&self, is_forwarded: bool) {
        self.is_forwarded.store(is_forwarded, Ordering::Release);
    }

    /// Nobody waits for that answer any more: the client's side reads as closed, though it can still be told so.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
        self.wake_reader();
    }

    fn keep_reader(&self, context: &Context<'_>) {
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
    }

    fn wake_reader(&self) {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The next request may be read.
    pub(crate) fn ask(&self) {
        self.has_begun.store(false, Ordering::Relaxed);
        self.is_asked.store(true, Ordering::Release);
    }

    /// Returns when a part of its header has come.
    pub(crate) async fn header_begins(&self) {
        while !self.has_begun.load(Ordering::Relaxed) {
            self.begun.notified().await;
        }
    }

    /// Why the request was refused that is read now, and whether for its header.
    pub(crate) fn fault(&self) -> Option<(Fault, bool)> {
        self.fault.get().copied()
    }

    fn note(&self, incoming: &Incoming) {
        if incoming.has_begun() && !self.has_begun.swap(true, Ordering::Relaxed) {
            self.begun.notify_one();
        }
        if let Some(fault) = incoming.fault() {
            self.fault.get_or_init(|| fault);
        }
    }
}

/// See the head of this file.
pub(crate) struct ClientStream<T> {
    inner: BufWriter<T>,
    first: FirstBytes,
    /// Requests of HTTP/1.
    incoming: Option<Incoming>,
    signals: Arc<Signals>,
    /// Where the instance is, if this is a WebSocket.
    frames: Option<Frames>,
    stage: Stage,
}

/// See the diagram at the head of this file.
enum Stage {
    Passing,
    /// So many bytes of the close frame are written.
    Telling(usize),
    Waiting(Pin<Box<Sleep>>),
    Ended,
}

impl<T: Transport> ClientStream<T> {
    /// One whose bytes pass as they come.
    pub(crate) fn new(inner: T, first: FirstBytes, signals: Arc<Signals>) -> ClientStream<T> {
        let inner = BufWriter::with_capacity(WRITE_BYTES, inner);
        ClientStream { inner, first, incoming: None, signals, frames: None, stage: Stage::Passing }
    }

    /// One of HTTP/1, whose headers are not longer than this.
    pub(crate) fn http1(inner: T, first: FirstBytes, signals: Arc<Signals>, header_bytes_max: usize) -> ClientStream<T> {
        ClientStream { incoming: Some(Incoming::new(header_bytes_max)), ..ClientStream::new(inner, first, signals) }
    }

    /// Reads what came.
    fn poll_bytes(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.first.unread() {
            [] => Pin::new(&mut self.inner).poll_read(context, buffer),
            _ => {
                self.first.give(buffer);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Reads what may be read of it.
    fn poll_incoming(
        &mut self,
        incoming: &mut Incoming,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Not before the answer that makes it a WebSocket is written: until then pingora reads for the next request.
        if self.frames.is_some() {
            incoming.open();
        } else if self.signals.is_asked.swap(false, Ordering::Acquire) {
            incoming.ask();
            self.signals.note(incoming);
        }
        while !incoming.give(buffer) {
            match incoming.fault() {
                Some((_, true)) => return Poll::Ready(Ok(())),
                Some((_, false)) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                None => {}
            }
            if incoming.must_wait() {
                self.signals.keep_reader(context);
                return Poll::Pending;
            }
            let before = buffer.filled().len();
            ready!(self.poll_bytes(context, buffer))?;
            let came = buffer.filled().get(before..).unwrap_or_default();
            if came.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = incoming.take(came);
            self.signals.note(incoming);
            buffer.set_filled(before.saturating_add(passed));
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn can_say_farewell(&self) -> bool {
        self.frames.as_ref().is_some_and(Frames::is_at_boundary) && self.signals.farewell.load(Ordering::Acquire)
    }

    /// Goes on with the farewell; ready when the WebSocket is over.
    fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.stage {
                Stage::Passing => self.stage = Stage::Telling(0),
                Stage::Telling(written) => {
                    let rest = CLOSE_SERVICE_RESTART.get(*written..).unwrap_or_default();
                    if rest.is_empty() {
                        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
                        self.stage = Stage::Waiting(Box::pin(sleep(LAST_WORD_TIME)));
                    } else {
                        *written += ready!(Pin::new(&mut self.inner).poll_write(context, rest))?;
                    }
                }
                Stage::Waiting(patience) => {
                    // A connection that is closed with unread bytes is reset, and the close frame with it.
                    let mut rest = [0; REST_BYTES];
                    let mut rest = ReadBuf::new(&mut rest);
                    let read = Pin::new(&mut self.inner).poll_read(context, &mut rest);
                    let closed = matches!(&read, Poll::Ready(Ok(())) if rest.filled().is_empty());
                    if closed || matches!(read, Poll::Ready(Err(_))) || patience.as_mut().poll(context).is_ready() {
                        self.stage = Stage::Ended;
                    } else if read.is_pending() {
                        return Poll::Pending;
                    }
                }
                Stage::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<T> fmt::Debug for ClientStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a client's connection")
    }
}

impl<T: Transport> AsyncRead for ClientStream<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.signals.is_websocket.load(Ordering::Acquire) {
            self.signals.keep_reader(context);
            if !matches!(self.stage, Stage::Passing) || self.can_say_farewell() {
                return self.poll_farewell(context);
            }
        }
        if self.signals.is_forwarded.load(Ordering::Acquire) {
            self.signals.keep_reader(context);
            if self.signals.is_given_up.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
        }
        let Some(mut incoming) = self.incoming.take() else { return self.poll_bytes(context, buffer) };
        let read = self.poll_incoming(&mut incoming, context, buffer);
        self.incoming = Some(incoming);
        read
    }
}

impl<T: Transport> AsyncWrite for ClientStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !matches!(self.stage, Stage::Passing) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        if self.frames.is_none() && self.signals.is_websocket.load(Ordering::Acquire) {
            self.frames = Some(Frames::new());
            self.signals.wake_reader();
        }
        if let Some(frames) = &mut self.frames {
            frames.feed(bytes.get(..written).unwrap_or_default());
            if self.can_say_farewell() {
                self.signals.wake_reader();
            }
        }
        Poll::Ready(Ok(written))
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

//! A connection to the upstream, with or without TLS, or to the whole of a cluster: the same to whoever reads and writes it.
//!
//! It never buffers more than TLS needs. [`super::Dialer`] makes it. One to a master ends, as if the server had closed it, when
//! another server is the master ([`super::master`]).
//! Invariant: what was written under TLS goes out while the connection is read, so nobody waits for the answer to a question that
//! was not sent.

use super::cluster::Front;
use super::master::Retired;
use bytes::BytesMut;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// See the head of this file.
pub struct Wire {
    stream: Stream,
    /// Ready when it is of no use any more.
    retired: Option<Retired>,
}

enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Cluster(Box<Front>),
}

impl Wire {
    /// As it is.
    pub(super) fn plain(stream: TcpStream) -> Wire {
        Wire { stream: Stream::Tcp(stream), retired: None }
    }

    /// Under TLS.
    pub(super) fn secured(stream: TlsStream<TcpStream>) -> Wire {
        Wire { stream: Stream::Tls(Box::new(stream)), retired: None }
    }

    /// To all nodes of a cluster.
    pub(super) fn cluster(front: Front) -> Wire {
        Wire { stream: Stream::Cluster(Box::new(front)), retired: None }
    }

    /// The same, until `retired`.
    pub(super) fn until(self, retired: Retired) -> Wire {
        Wire { retired: Some(retired), ..self }
    }

    /// Its stream, unless it has ended.
    fn open(&mut self, cx: &mut Context<'_>) -> io::Result<&mut Stream> {
        match self.retired.as_mut().map(|retired| retired.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => {
                self.retired = Some(Box::pin(std::future::ready(())));
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            _ => Ok(&mut self.stream),
        }
    }

    /// Writes something of `outgoing`, or reads something into `input`, whichever can be done first. False: the connection is gone.
    /// May be dropped at any time without loss.
    pub async fn exchange(&mut self, input: &mut BytesMut, outgoing: &mut BytesMut) -> bool {
        std::future::poll_fn(|cx| {
            if !outgoing.is_empty()
                && let Poll::Ready(wrote) = pin!(self.write_buf(outgoing)).poll(cx)
            {
                return Poll::Ready(wrote.is_ok_and(|n| n > 0));
            }
            if let Poll::Ready(Err(_)) = Pin::new(&mut *self).poll_flush(cx) {
                return Poll::Ready(false);
            }
            pin!(self.read_buf(input)).poll(cx).map(|read| read.is_ok_and(|n| n > 0))
        })
        .await
    }

    /// Whether nothing has come, not even the end.
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        Pin::new(self).poll_read(&mut Context::from_waker(Waker::noop()), &mut byte).is_pending()
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().open(cx)? {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, into),
            Stream::Cluster(front) => Pin::new(front.as_mut()).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut().open(cx)? {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Stream::Cluster(front) => Pin::new(front.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Stream::Cluster(front) => Pin::new(front.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Stream::Cluster(front) => Pin::new(front.as_mut()).poll_shutdown(cx),
        }
    }
}

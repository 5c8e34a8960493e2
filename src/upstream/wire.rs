//! A connection to the upstream, with or without TLS: the same to whoever reads and writes it.
//!
//! It never buffers more than TLS needs. [`super::Dialer`] makes it.
//! Invariant: what was written under TLS goes out while the connection is read, so nobody waits for the answer to a question that
//! was not sent.

use bytes::BytesMut;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// See the head of this file.
pub enum Wire {
    /// As it is.
    Tcp(TcpStream),
    /// Under TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
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
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

//! The connection on which a WebSocket is opened: of its own, and with no answer before the request has ended.
//!
//! Pingora reads the answer and notes the end of the request in no certain order. If it has read a 101 first, it takes the end of the
//! request, which it notes then, for the end of the WebSocket, and closes it before its first frame. So nothing is read from this
//! connection until pingora has noted that end. Nothing tells of that but a flush: pingora flushes the header, and once more, with nothing
//! in between, when it notes the end of a request that has no body. This never looks at a byte. The exchange asks for it.
//!
//! | stage | a write | a flush | a read |
//! |---|---|---|---|
//! | `Idle` | `Writing` | – | waits |
//! | `Writing` | – | `Written` | waits |
//! | `Written` | `Writing` | `Open` | waits |
//! | `Open` | – | – | reads |
//!
//! Not for requests with a body: their ends are flushed in other ways, and an instance may answer, and stop reading, before it has all.
//!
//! Invariant: such a connection carries one request, whatever the answer: it comes from no pool, and is in none that anybody asks.

use async_trait::async_trait;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, OrErr, Result};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Those of one face; each has a number.
#[derive(Default)]
pub(crate) struct Handshakes(AtomicU64);

impl Handshakes {
    /// Lets the next connection to `peer` be one as at the head of this file. In HTTP/2, where nothing is upgraded, it stays as it is.
    pub(crate) fn begin(&self, peer: &mut HttpPeer) {
        if peer.options.alpn.get_max_http_version() != 1 {
            return;
        }
        peer.options.custom_l4 = Some(Arc::new(Opening));
        // Pingora may keep it after an answer that refuses the upgrade: for no time, and where no other request looks (the others are in
        // group 0).
        peer.group_key = self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        peer.options.idle_timeout = Some(Duration::ZERO);
    }
}

/// Connects as pingora does, which also keeps the time.
#[derive(Debug)]
struct Opening;

#[async_trait]
impl L4Connect for Opening {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let socket: Box<dyn VirtualSocket> = match address {
            SocketAddr::Inet(address) => {
                let socket = TcpStream::connect(address).await.map_err(unconnected)?;
                socket.set_nodelay(true).or_err(ErrorType::ConnectError, "TCP_NODELAY")?;
                Box::new(Held::new(socket))
            }
            SocketAddr::Unix(address) => {
                let Some(path) = address.as_pathname() else {
                    return Error::e_explain(ErrorType::InternalError, "a Unix socket without a path");
                };
                Box::new(Held::new(UnixStream::connect(path).await.map_err(unconnected)?))
            }
        };
        Ok(VirtualSocketStream::new(socket).into())
    }
}

/// As pingora says why there is no connection.
fn unconnected(error: io::Error) -> Box<Error> {
    use io::ErrorKind;
    let kind = match error.kind() {
        ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => ErrorType::ConnectNoRoute,
        ErrorKind::AddrNotAvailable | ErrorKind::PermissionDenied | ErrorKind::AddrInUse => ErrorType::InternalError,
        _ => ErrorType::ConnectError,
    };
    Error::because(kind, "no connection for a WebSocket", error)
}

/// See the table at the head of this file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Idle,
    Writing,
    Written,
    Open,
}

/// A socket from which nothing is read before the request has ended.
struct Held<T> {
    inner: T,
    stage: Stage,
    /// Who would have read.
    reader: Option<Waker>,
}

impl<T> Held<T> {
    fn new(inner: T) -> Held<T> {
        Held { inner, stage: Stage::Idle, reader: None }
    }
}

impl<T> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a connection for a WebSocket, {:?}", self.stage)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> VirtualSocket for Held<T> {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            // It is so from the beginning.
            VirtualSockOpt::NoDelay => Ok(()),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Held<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.stage != Stage::Open {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Held<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        if self.stage != Stage::Open {
            self.stage = Stage::Writing;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
        self.stage = match self.stage {
            Stage::Idle => Stage::Idle,
            Stage::Writing => Stage::Written,
            Stage::Written | Stage::Open => Stage::Open,
        };
        if self.stage == Stage::Open
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn nothing_is_read_before_a_flush_with_nothing_before_it() {
        let (mut instance, socket) = duplex(1000);
        let mut socket = Held::new(socket);
        instance.write_all(b"early").await.unwrap();
        socket.flush().await.unwrap();
        for piece in ["header", "more of it"] {
            socket.write_all(piece.as_bytes()).await.unwrap();
            socket.flush().await.unwrap();
            assert_eq!(socket.stage, Stage::Written);
        }
        let (mut reader, mut writer) = tokio::io::split(socket);
        let mut came = [0; 5];
        {
            let mut reading = std::pin::pin!(reader.read_exact(&mut came));
            let mut context = Context::from_waker(Waker::noop());
            assert!(reading.as_mut().poll(&mut context).is_pending(), "shut");
            // Both halves are asked by one task, which is woken.
            let (read, flushed) = tokio::join!(reading, writer.flush());
            assert!(read.is_ok() && flushed.is_ok());
        }
        assert_eq!(&came, b"early");
        writer.write_all(b"frame").await.unwrap();
        instance.write_all(b"later").await.unwrap();
        reader.read_exact(&mut came).await.unwrap();
        assert_eq!(&came, b"later", "open for good");
    }

    #[test]
    fn a_connection_that_fails_is_told_as_pingora_tells_it() {
        for (error, told) in [
            (io::ErrorKind::ConnectionRefused, ErrorType::ConnectRefused),
            (io::ErrorKind::HostUnreachable, ErrorType::ConnectNoRoute),
            (io::ErrorKind::NotFound, ErrorType::ConnectError),
            (io::ErrorKind::AddrNotAvailable, ErrorType::InternalError),
        ] {
            assert_eq!(unconnected(error.into()).etype(), &told, "{error:?}");
        }
    }
}

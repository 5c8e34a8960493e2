//! Listeners for redirected connections, and where such a connection wanted to go.
//!
//! It never accepts for anybody else and never decides. A rule `redirect` changes the destination to this machine: a connection from here
//! to loopback, one from elsewhere to the address by which it came. So outbound connections are awaited on loopback alone, which no other
//! machine can reach, and inbound ones on every address; with IPv4 and IPv6 apart, for the kernel is asked for the destination in
//! the terms of either.
//!
//! Invariant: a machine without IPv6 has one listener less, and anything else that keeps one from listening is an error.

use rustix::io::Errno;
use rustix::net::sockopt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that wait to be accepted, as many as the standard library has.
const BACKLOG: u32 = 1024;

/// Where to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Addresses {
    /// For connections of this machine.
    Loopback,
    /// For those of others too.
    All,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Listeners {
    v4: TcpListener,
    /// `None`: this machine has no IPv6.
    v6: Option<TcpListener>,
}

impl Listeners {
    /// Listens on this port.
    pub fn bind(at: Addresses, port: u16) -> io::Result<Listeners> {
        let (v4, v6) = match at {
            Addresses::Loopback => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            Addresses::All => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        };
        let v4 = listen(TcpSocket::new_v4()?, SocketAddr::from((v4, port)))?;
        // Port 0 is any free one, and the same for both.
        let port = v4.local_addr()?.port();
        let over_v6 = || {
            let socket = TcpSocket::new_v6()?;
            sockopt::set_ipv6_v6only(&socket, true)?;
            listen(socket, SocketAddr::from((v6, port)))
        };
        let v6 = match over_v6() {
            Ok(listener) => Some(listener),
            Err(error) if is_without_v6(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Listeners { v4, v6 })
    }

    /// The port on which it listens.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.v4.local_addr()?.port())
    }

    /// The next connection, and who has made it.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let over_v6 = async {
            match &self.v6 {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.v4.accept() => accepted,
            accepted = over_v6 => accepted,
        }
    }
}

fn listen(socket: TcpSocket, at: SocketAddr) -> io::Result<TcpListener> {
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

fn is_without_v6(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|error| [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].contains(&error))
}

/// Where the client had connected to; `None`: to where it is accepted, for nothing has redirected it.
pub(super) fn destination(stream: &TcpStream) -> io::Result<Option<SocketAddr>> {
    let here = stream.local_addr()?;
    let wanted = match here.ip() {
        IpAddr::V4(_) => sockopt::ip_original_dst(stream).map(SocketAddr::V4),
        IpAddr::V6(_) => sockopt::ipv6_original_dst(stream).map(SocketAddr::V6),
    };
    match wanted {
        Ok(wanted) => Ok(Some(wanted).filter(|wanted| (wanted.ip(), wanted.port()) != (here.ip(), here.port()))),
        // The kernel follows no connections here, or not this one, so it cannot have redirected it.
        Err(Errno::NOENT | Errno::NOPROTOOPT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn who_connects_to_the_listener_itself_wanted_to_go_nowhere_else() {
        let listeners = Listeners::bind(Addresses::Loopback, 0).unwrap();
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            if ip.is_ipv6() && listeners.v6.is_none() {
                continue;
            }
            let client = TcpStream::connect((ip, listeners.port().unwrap())).await.unwrap();
            let (stream, peer) = listeners.accept().await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(destination(&stream).unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error() {
        let listeners = Listeners::bind(Addresses::All, 0).unwrap();
        let again = Listeners::bind(Addresses::All, listeners.port().unwrap());
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}

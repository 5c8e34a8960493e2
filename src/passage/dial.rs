//! A connection to the upstream: dialled, authenticated, in its database and protocol.
//!
//! It never sends anything else. The state face dials one for each client that needs it, [`super::direct`] a few for itself.
//! Bounds: [`CONNECT`], and the bytes of the replies of a handshake.

use bytes::{Bytes, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wayfarer_engine::command::encode_request;
use wayfarer_engine::wire::resp::{FrameScanner, Protocol};
use wayfarer_settings::Upstream;

/// The upstream must have taken the connection and answered the handshake within this time.
const CONNECT: Duration = Duration::from_secs(2);
/// A reply may have this many elements.
pub const ELEMENTS_MAX: usize = 16 * 1024 * 1024;
/// The replies of a handshake are short.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// Dials. Database 0 is the one that the upstream's URL names.
pub fn dial(upstream: &Upstream, protocol: Protocol, database: u8) -> impl Future<Output = io::Result<TcpStream>> + Send + use<> {
    let requests = handshake(upstream, protocol, database);
    let (host, port) = (upstream.host.clone(), upstream.port);
    async move {
        let connecting = tokio::time::timeout(CONNECT, connect(host, port, requests)).await;
        connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Chooses a protocol.
pub fn hello(protocol: Protocol) -> Vec<Bytes> {
    let version: &'static [u8] = if protocol == Protocol::Resp3 { b"3" } else { b"2" };
    vec![Bytes::from_static(b"HELLO"), Bytes::from_static(version)]
}

/// Chooses a database.
pub fn select(upstream: &Upstream, db: u8) -> Vec<Bytes> {
    vec![Bytes::from_static(b"SELECT"), Bytes::from(upstream.numbering().at_upstream(db).to_string())]
}

fn handshake(upstream: &Upstream, protocol: Protocol, db: u8) -> Vec<Vec<Bytes>> {
    let mut requests = Vec::new();
    if let Some(password) = &upstream.password {
        let user = upstream.user.iter().map(|user| Bytes::copy_from_slice(user.as_bytes()));
        let password = Bytes::copy_from_slice(password.expose().as_bytes());
        requests.push([Bytes::from_static(b"AUTH")].into_iter().chain(user).chain([password]).collect());
    }
    if protocol == Protocol::Resp3 {
        requests.push(hello(protocol));
    }
    if db != 0 || upstream.database != 0 {
        requests.push(select(upstream, db));
    }
    requests
}

async fn connect(host: String, port: u16, requests: Vec<Vec<Bytes>>) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    let mut outgoing = BytesMut::new();
    requests.iter().for_each(|request| encode_request(request, &mut outgoing));
    stream.write_all(&outgoing).await?;
    let mut input = BytesMut::new();
    for _ in &requests {
        let mut scanner = FrameScanner::new(HANDSHAKE_BYTES_MAX, ELEMENTS_MAX);
        let frame = loop {
            match scanner.scan(&input).map_err(io::Error::other)? {
                Some(frame) => break frame,
                None if stream.read_buf(&mut input).await? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => {}
            }
        };
        if input.split_to(frame.len.min(input.len())).first() == Some(&b'-') {
            tracing::warn!("the upstream refuses the handshake: look at user, password and database in [state] upstream");
            return Err(io::ErrorKind::PermissionDenied.into());
        }
    }
    Ok(stream)
}

//! What is said to the upstream before the first command: password, protocol, database.
//!
//! It never sends anything else. Bounds: the bytes of the replies.

use super::{ELEMENTS_MAX, Wire};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wayfarer_engine::command::encode_request;
use wayfarer_engine::wire::resp::{FrameScanner, Protocol};
use wayfarer_settings::Upstream;

/// The replies of a handshake are short.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// What an error reply to the handshake means.
pub(super) const REFUSED: &str = "it refuses the handshake: look at user, password and database in [state] upstream";

/// Chooses a protocol.
pub fn hello(protocol: Protocol) -> Vec<Bytes> {
    let version: &'static [u8] = if protocol == Protocol::Resp3 { b"3" } else { b"2" };
    vec![Bytes::from_static(b"HELLO"), Bytes::from_static(version)]
}

/// Chooses a database.
pub fn select(upstream: &Upstream, db: u8) -> Vec<Bytes> {
    vec![Bytes::from_static(b"SELECT"), Bytes::from(upstream.numbering().at_upstream(db).to_string())]
}

/// Signs in, if there is a password.
pub fn auth(upstream: &Upstream) -> Option<Vec<Bytes>> {
    let password = upstream.password.as_ref()?;
    let user = upstream.user.iter().map(|user| Bytes::copy_from_slice(user.as_bytes()));
    let password = Bytes::copy_from_slice(password.expose().as_bytes());
    Some([Bytes::from_static(b"AUTH")].into_iter().chain(user).chain([password]).collect())
}

/// What is said before the first command of somebody who speaks so and uses this database.
pub(super) fn handshake(upstream: &Upstream, protocol: Protocol, db: u8) -> Vec<Vec<Bytes>> {
    let mut requests = Vec::from_iter(auth(upstream));
    if protocol == Protocol::Resp3 {
        requests.push(hello(protocol));
    }
    if db != 0 || upstream.database != 0 {
        requests.push(select(upstream, db));
    }
    requests
}

/// Sends requests and reads their replies; an error reply to one of them is one, and `refused` says what it means.
pub(super) async fn perform(wire: &mut Wire, requests: &[Vec<Bytes>], refused: &str) -> io::Result<Vec<Bytes>> {
    let mut outgoing = BytesMut::new();
    requests.iter().for_each(|request| encode_request(request, &mut outgoing));
    wire.write_all(&outgoing).await?;
    wire.flush().await?;
    let (mut input, mut replies) = (BytesMut::new(), Vec::new());
    for _ in requests {
        let mut scanner = FrameScanner::new(HANDSHAKE_BYTES_MAX, ELEMENTS_MAX);
        let frame = loop {
            match scanner.scan(&input).map_err(io::Error::other)? {
                Some(frame) => break frame,
                None if wire.read_buf(&mut input).await? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => {}
            }
        };
        let reply = input.split_to(frame.len.min(input.len())).freeze();
        if reply.first() == Some(&b'-') {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, refused));
        }
        replies.push(reply);
    }
    Ok(replies)
}

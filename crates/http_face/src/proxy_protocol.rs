//! The PROXY protocol, version 2: who the client is, as a balancer before the face says it in front of the first byte.
//!
//! It reads its own header and not a byte more, and takes it from nobody who is not trusted (the connection decides that). The
//! additional fields (TLVs) are skipped. The connection calls it.
//!
//! | command, family | client |
//! |---|---|
//! | LOCAL (a health check of the balancer); PROXY, of no family that the balancer could name | the peer itself |
//! | PROXY, TCP over IPv4 or IPv6 | the source that it names |
//! | PROXY, anything else | refused |
//!
//! Invariant: at most [`HEADER_BYTES_MAX`] bytes are read, and everything else than such a header ends the connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
/// The longest header that is taken, its TLVs included.
pub(crate) const HEADER_BYTES_MAX: usize = 4096;

/// The client of a connection whose peer is `peer`; `None`: this is no such header.
pub(crate) async fn client(stream: &mut (impl AsyncRead + Unpin), peer: IpAddr) -> Option<IpAddr> {
    let mut fixed = [0; FIXED_BYTES];
    stream.read_exact(&mut fixed).await.ok()?;
    let (signature, rest) = fixed.split_first_chunk::<12>()?;
    let [version_and_command, family, high, low] = rest else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if signature != SIGNATURE || length + FIXED_BYTES > HEADER_BYTES_MAX {
        return None;
    }
    let mut addresses = vec![0; length];
    stream.read_exact(&mut addresses).await.ok()?;
    match (version_and_command, family) {
        (0x20, _) | (0x21, 0x00) => Some(peer),
        // Source, destination (4 bytes each), two ports.
        (0x21, 0x11) => addresses.get(..12)?.first_chunk::<4>().map(|source| IpAddr::V4(Ipv4Addr::from(*source))),
        (0x21, 0x21) => addresses.get(..36)?.first_chunk::<16>().map(|source| IpAddr::V6(Ipv6Addr::from(*source))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> (Option<String>, usize) {
        let mut rest = bytes;
        let found = client(&mut rest, IpAddr::V4(Ipv4Addr::LOCALHOST)).await;
        (found.map(|ip| ip.to_string()), rest.len())
    }

    fn header(version: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap_or(u16::MAX).to_be_bytes();
        [SIGNATURE.as_slice(), &[version, family], &length, addresses].concat()
    }

    #[tokio::test]
    async fn the_table() {
        let v4 = [10, 1, 2, 3, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 20]].concat();
        let then = |mut bytes: Vec<u8>| {
            bytes.extend(b"GET");
            bytes
        };
        assert_eq!(read(&then(header(0x21, 0x11, &v4))).await, (Some("10.1.2.3".to_owned()), 3));
        assert_eq!(read(&then(header(0x21, 0x21, &v6))).await, (Some("2001:db8::1".to_owned()), 3));
        assert_eq!(read(&then(header(0x21, 0x11, &[&v4[..], &[4, 0, 1, 9]].concat()))).await, (Some("10.1.2.3".to_owned()), 3));
        assert_eq!(read(&then(header(0x20, 0, &[]))).await, (Some("127.0.0.1".to_owned()), 3));
        assert_eq!(read(&then(header(0x21, 0, &[4, 0, 1, 9]))).await, (Some("127.0.0.1".to_owned()), 3));
        assert_eq!(read(&header(0x21, 0x12, &v4)).await.0, None);
        assert_eq!(read(&header(0x21, 0x11, &v4[..11])).await.0, None);
        assert_eq!(read(&header(0x11, 0x11, &v4)).await.0, None);
        assert_eq!(read(&header(0x21, 0x11, &[0; 5000])).await.0, None);
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.0, None);
        assert_eq!(read(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n").await.0, None);
        assert_eq!(read(&SIGNATURE[..7]).await.0, None);
    }
}

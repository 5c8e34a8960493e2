//! Where in a stream of WebSocket frames one frame ends and the next could begin.
//!
//! It reads the sizes of frames (RFC 6455, section 5.2) and skips everything else: no payload is looked at. The client's stream
//! feeds it what the instance sends, from the handshake's answer on; it is pure.
//!
//! ```text
//! handshake ──blank line──► boundary ──first byte──► header ──whole──► payload ──last byte──► boundary
//! ```
//! Invariant: it is at a boundary exactly when a frame of its own could be put in without breaking one.

/// A close frame of a server: status 1012, the service restarts; clients connect again.
pub(crate) const CLOSE_SERVICE_RESTART: [u8; 4] = [0x88, 0x02, 0x03, 0xf4];

/// The longest header of a frame.
const HEADER_BYTES_MAX: usize = 14;
const BLANK_LINE: &[u8; 4] = b"\r\n\r\n";

/// See the diagram at the head of this file.
#[derive(Debug)]
pub(crate) enum Frames {
    /// So many bytes of the blank line behind the handshake's answer have been seen.
    Handshake(usize),
    /// A header as far as it has come; empty: a boundary.
    Header([u8; HEADER_BYTES_MAX], usize),
    /// So many bytes of a payload are missing.
    Payload(u64),
}

impl Frames {
    /// Before the answer to the handshake.
    pub(crate) fn new() -> Frames {
        Frames::Handshake(0)
    }

    fn boundary() -> Frames {
        Frames::Header([0; HEADER_BYTES_MAX], 0)
    }

    /// Whether a frame could begin here.
    pub(crate) fn is_at_boundary(&self) -> bool {
        matches!(self, Frames::Header(_, 0))
    }

    /// Takes note of `bytes`, which follow those before.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            match self {
                Frames::Handshake(seen) => {
                    *seen = match BLANK_LINE.get(*seen) {
                        Some(wanted) if wanted == first => seen.saturating_add(1),
                        _ => usize::from(*first == b'\r'),
                    };
                    if *seen == BLANK_LINE.len() {
                        *self = Frames::boundary();
                    }
                    bytes = rest;
                }
                Frames::Header(header, filled) => {
                    if let Some(place) = header.get_mut(*filled) {
                        *place = *first;
                    }
                    *filled = filled.saturating_add(1);
                    if let Some(payload) = header.get(..*filled).and_then(payload_bytes) {
                        *self = if payload == 0 { Frames::boundary() } else { Frames::Payload(payload) };
                    }
                    bytes = rest;
                }
                Frames::Payload(missing) => {
                    let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(*missing);
                    bytes = usize::try_from(here).ok().and_then(|here| bytes.get(here..)).unwrap_or_default();
                    *missing = missing.saturating_sub(here);
                    if *missing == 0 {
                        *self = Frames::boundary();
                    }
                }
            }
        }
    }
}

/// The length of the payload, once the header is whole.
fn payload_bytes(header: &[u8]) -> Option<u64> {
    let second = header.get(1)?;
    let (length, behind) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(*header.get(2..)?.first_chunk::<2>()?)), 4),
        127 => (u64::from_be_bytes(*header.get(2..)?.first_chunk::<8>()?), 10),
        short => (u64::from(short), 2),
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    (header.len() >= behind + mask).then_some(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn frame(payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x82];
        match payload {
            0..126 => bytes.push(u8::try_from(payload).unwrap() | mask),
            126..65536 => {
                bytes.push(126 | mask);
                bytes.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(127 | mask);
                bytes.extend(u64::try_from(payload).unwrap().to_be_bytes());
            }
        }
        bytes.extend(vec![0xff; payload + if masked { 4 } else { 0 }]);
        bytes
    }

    #[test]
    fn a_boundary_is_where_a_frame_has_ended_however_the_bytes_come() {
        let handshake = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n".to_vec();
        let mut stream = handshake.clone();
        let mut boundaries = vec![stream.len()];
        for (payload, masked) in [(0, false), (1, true), (125, false), (126, false), (65_535, true), (65_536, false), (0, true)] {
            stream.extend(frame(payload, masked));
            // A mask belongs to the header: a masked frame without payload ends with it.
            boundaries.push(stream.len());
        }
        for step in [1, 3, 1000, stream.len()] {
            let mut frames = Frames::new();
            let mut fed = 0;
            for piece in stream.chunks(step) {
                frames.feed(piece);
                fed += piece.len();
                assert_eq!(frames.is_at_boundary(), boundaries.contains(&fed), "at {fed} in steps of {step}");
            }
        }
    }
}

//! The first frames of a connection: who is there, of which cluster, in which life, and for what.
//!
//! It never lets two nodes talk of which one takes the other for somebody else: a restarted node listens at the old address, and
//! a message for its former life would be answered by one who knows nothing of it. Called by both ends, under a deadline.
//!
//! ```text
//! dialler                                         acceptor
//!    Hello {protocols, cluster, me, to, lane, keys}  →     is it for me? my cluster? a protocol of mine? not fenced?
//!                                              ←  Welcome {protocol}, or Unwelcome {reason} and the end
//!    frames                                    →     no more bytes come back
//! ```
//!
//! Invariant: before `Hello` was accepted nobody can make this node read more than [`HELLO_BYTES_MAX`].

use super::ControlSettings;
use super::peers::Peers;
use super::strangers::Strangers;
use bytes::BytesMut;
use std::fmt;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::wire::control::{self, ControlMessage, Lane, PROTOCOL_MAX, PROTOCOL_MIN, WireError};

/// A frame of the handshake, at most.
pub(super) const HELLO_BYTES_MAX: usize = 8 * 1024;
/// Room that is made before each read.
const READ_BYTES: usize = 64 * 1024;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The other end closed it between two frames.
    Closed,
    /// The other end closed it within a frame.
    CutShort,
    /// The system says.
    Io(io::Error),
    /// The bytes are not frames.
    Wire(WireError),
    /// A message that has no place there.
    OutOfTurn(&'static str),
    /// Somebody does not want to talk; the reason.
    Unwelcome(String),
    /// Something took too long: what.
    Overdue(&'static str),
    /// The peer is fenced or has left.
    Gone,
    /// The peer has dialled again for the same lane.
    Replaced,
}

impl Ended {
    /// Whether somebody should look: not the ordinary end of a life.
    pub fn is_strange(&self) -> bool {
        matches!(self, Ended::Wire(_) | Ended::OutOfTurn(_) | Ended::Unwelcome(_))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Closed => f.write_str("closed by the peer"),
            Ended::CutShort => f.write_str("closed by the peer within a frame"),
            Ended::Io(error) => write!(f, "{error}"),
            Ended::Wire(error) => write!(f, "{error}"),
            Ended::OutOfTurn(kind) => write!(f, "a message {kind:?} has no place there"),
            Ended::Unwelcome(reason) => write!(f, "unwelcome: {reason}"),
            Ended::Overdue(what) => write!(f, "{what} took too long"),
            Ended::Gone => f.write_str("the peer is fenced or has left"),
            Ended::Replaced => f.write_str("the peer has dialled again"),
        }
    }
}

/// Reads until a whole frame is there. `input` keeps what follows it. Cancelling loses nothing.
pub(super) async fn read_frame<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    frame_bytes_max: usize,
) -> Result<ControlMessage, Ended> {
    loop {
        if let Some(message) = control::decode(input, frame_bytes_max).map_err(Ended::Wire)? {
            return Ok(message);
        }
        // Grows with what has come, never with what a length claims.
        input.reserve(READ_BYTES);
        if stream.read_buf(input).await.map_err(Ended::Io)? == 0 {
            return Err(if input.is_empty() { Ended::Closed } else { Ended::CutShort });
        }
    }
}

async fn write_frame<S: AsyncWrite + Unpin>(stream: &mut S, message: &ControlMessage) -> Result<(), Ended> {
    let mut bytes = BytesMut::new();
    control::encode(message, &mut bytes, HELLO_BYTES_MAX).map_err(Ended::Wire)?;
    stream.write_all(&bytes).await.map_err(Ended::Io)?;
    stream.flush().await.map_err(Ended::Io)
}

/// The dialler's part.
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    settings: &ControlSettings,
    me: Incarnation,
    to: Incarnation,
    lane: Lane,
) -> Result<(), Ended> {
    let (cluster, member) = (settings.cluster.clone(), settings.member.clone());
    let (protocol_min, protocol_max) = (PROTOCOL_MIN, PROTOCOL_MAX);
    write_frame(
        stream,
        &ControlMessage::Hello {
            protocol_min,
            protocol_max,
            cluster,
            member,
            incarnation: me,
            to,
            lane,
            keys: Some(settings.keys),
        },
    )
    .await?;
    let mut input = BytesMut::new();
    match read_frame(stream, &mut input, HELLO_BYTES_MAX).await? {
        ControlMessage::Welcome { protocol } if (PROTOCOL_MIN..=PROTOCOL_MAX).contains(&protocol) && input.is_empty() => Ok(()),
        // For a log: a line of ours, whatever the other end says.
        ControlMessage::Unwelcome { reason } => Err(Ended::Unwelcome(reason.replace(char::is_control, " "))),
        other => Err(Ended::OutOfTurn(control::kind(&other))),
    }
}

/// The acceptor's part: who dialled, and for which lane.
pub(super) async fn welcome<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    settings: &ControlSettings,
    me: Incarnation,
    peers: &Peers,
    strangers: &Strangers,
) -> Result<(Incarnation, Lane), Ended> {
    let hello = read_frame(stream, input, HELLO_BYTES_MAX).await?;
    let ControlMessage::Hello { protocol_min, protocol_max, cluster, member, incarnation, to, lane, keys } = hello else {
        return Err(Ended::OutOfTurn(control::kind(&hello)));
    };
    let protocol = protocol_max.min(PROTOCOL_MAX);
    let ours = &settings.cluster;
    if cluster == *ours && to == me {
        // One that has just joined may be faster than the view; what it asks could not be answered yet, and would be lost.
        peers.until_known(incarnation).await;
    }
    let reason = if cluster != *ours {
        Some(format!("this node is of the cluster {ours:?}, not of {cluster:?}"))
    } else if protocol < protocol_min.max(PROTOCOL_MIN) {
        Some(format!("this node speaks the protocols {PROTOCOL_MIN} to {PROTOCOL_MAX}, not {protocol_min} to {protocol_max}"))
    } else if to != me {
        Some(format!("this is {} in its life {}, not in {}", settings.member, me.0.0, to.0.0))
    } else if incarnation == me || peers.is_gone(incarnation) {
        Some(format!("the life {} of {member:?} is fenced or has left", incarnation.0.0))
    } else {
        None
    };
    match reason {
        None => {
            strangers.heard(peers, incarnation, &member, keys, settings.keys);
            write_frame(stream, &ControlMessage::Welcome { protocol }).await.map(|()| (incarnation, lane))
        }
        Some(reason) => {
            write_frame(stream, &ControlMessage::Unwelcome { reason: reason.clone() }).await?;
            Err(Ended::Unwelcome(reason))
        }
    }
}

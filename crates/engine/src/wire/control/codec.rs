//! Frames: bytes of the control channel to messages and back. The one file that names bincode.
//!
//! It never copies what it need not, never trusts a length and never changes a published variant. Called by the connections of
//! the control channel, with whatever has arrived.
//!
//! ```text
//! frame    = length: u32, little endian (of what follows, at most `frame_bytes_max`) · envelope
//! envelope = message (bincode, varint integers, enum variants by number) · later
//! later    = count · count × (tag, bytes)     fields that a later version adds; whoever does not know a tag skips it
//! bytes    = count · the bytes
//! ```
//!
//! A claimed count is compared with what is left of the frame before anything is allocated for it, and each element is at least
//! a byte, so that a frame costs memory in proportion to its own length and never to a number in it.
//!
//! Invariant: `decode(encode(m)) = m`, and any other bytes are an error that says what is wrong and shows none of them.

use super::ControlMessage;
use super::convert::{debts_of, message_to_wire, wire_to_message};
use bincode::de::read::Reader;
use bincode::de::{BorrowDecode, BorrowDecoder};
use bincode::enc::Encoder;
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode as BorrowDecodeFields, Encode};
use bytes::{Buf, BytesMut};
use std::fmt;

/// Bytes of the length before each frame.
pub const PREFIX_BYTES: usize = 4;
/// The most that `frame_bytes_max` can usefully be.
pub const FRAME_BYTES_CEILING: usize = 256 << 20;
/// Elements of one list, at most. What is longer is not sent.
pub(super) const ITEMS_MAX: usize = 1 << 20;
/// bincode counts decoded bytes, where an integer of one byte counts eight.
const DECODED_BYTES_MAX: usize = FRAME_BYTES_CEILING * 8;

type Config = bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<DECODED_BYTES_MAX>,
>;
const CONFIG: Config = bincode::config::standard().with_limit::<DECODED_BYTES_MAX>();

/// Why bytes are no message, or a message has no bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WireError {
    /// Nothing was written: the message would make too long a frame, or has too long a list.
    MessageTooLong {
        /// Which kind of message.
        kind: &'static str,
        /// `frame_bytes_max`.
        limit: usize,
    },
    /// The claimed length of a frame is above the limit; the stream cannot be read any further.
    FrameTooLong {
        /// What it claims.
        bytes: usize,
        /// `frame_bytes_max`.
        limit: usize,
    },
    /// The frame does not hold a message; the stream cannot be trusted any further.
    Malformed(String),
    /// The frame goes on behind its message.
    Trailing {
        /// By so many bytes.
        bytes: usize,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::MessageTooLong { kind, limit } => {
                write!(f, "a message {kind:?} is longer than a frame may be ({limit} bytes, {ITEMS_MAX} elements a list)")
            }
            WireError::FrameTooLong { bytes, limit } => write!(f, "a frame claims {bytes} bytes, the limit is {limit}"),
            WireError::Malformed(what) => write!(f, "a frame is malformed: {what}"),
            WireError::Trailing { bytes } => write!(f, "a frame has {bytes} bytes behind its message"),
        }
    }
}

impl std::error::Error for WireError {}

/// Appends the frame of `message` to `out` and returns how many bytes that were. After an error `out` is as before.
pub fn encode(message: &ControlMessage, out: &mut BytesMut, frame_bytes_max: usize) -> Result<usize, WireError> {
    let too_long = || WireError::MessageTooLong { kind: super::kind(message), limit: frame_bytes_max };
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    let debts = debts_of(message).map(|debts| bincode::encode_to_vec(&debts, CONFIG));
    let Ok(debts) = debts.transpose() else { return Err(too_long()) };
    let keys = match message {
        ControlMessage::Hello { keys: Some(keys), .. } => Some((KEYS, keys.as_slice())),
        _ => None,
    };
    let envelope = Envelope { message: message_to_wire(message, debts.as_deref()), later: List(keys.into_iter().collect()) };
    let sink = Sink { out, left: frame_bytes_max };
    let written = bincode::encode_into_writer(&envelope, sink, CONFIG);
    let length = out.len() - start - PREFIX_BYTES;
    let prefix = u32::try_from(length).ok().filter(|_| written.is_ok());
    match (prefix, out.get_mut(start..start + PREFIX_BYTES)) {
        (Some(length), Some(place)) => place.copy_from_slice(&length.to_le_bytes()),
        _ => {
            out.truncate(start);
            return Err(too_long());
        }
    }
    Ok(length + PREFIX_BYTES)
}

/// The debts behind their tag in a manifest.
pub(super) fn decode_debts(bytes: &[u8]) -> Result<WireDebts<'_>, &'static str> {
    match bincode::borrow_decode_from_slice::<WireDebts<'_>, _>(bytes, CONFIG) {
        Ok((debts, read)) if read == bytes.len() => Ok(debts),
        _ => Err("the debts of a manifest are malformed"),
    }
}

/// Takes the first frame off `input`; `None`: it has not arrived entirely. After an error `input` is as before.
pub fn decode(input: &mut BytesMut, frame_bytes_max: usize) -> Result<Option<ControlMessage>, WireError> {
    let Some((prefix, rest)) = input.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*prefix) as usize;
    let limit = frame_bytes_max.min(FRAME_BYTES_CEILING);
    if length > limit {
        return Err(WireError::FrameTooLong { bytes: length, limit });
    }
    let Some(frame) = rest.get(..length) else { return Ok(None) };
    let (envelope, read) = bincode::borrow_decode_from_slice::<Envelope<'_>, _>(frame, CONFIG).map_err(malformed)?;
    if read != length {
        return Err(WireError::Trailing { bytes: length.saturating_sub(read) });
    }
    let mut message = wire_to_message(envelope.message).map_err(|what| WireError::Malformed(what.to_owned()))?;
    if let (ControlMessage::Hello { keys, .. }, Some((_, bytes))) =
        (&mut message, envelope.later.0.iter().find(|(tag, _)| *tag == KEYS))
    {
        let digest = WireDigest::try_from(*bytes);
        *keys = Some(digest.map_err(|_| WireError::Malformed("the digest of a hello has another length".to_owned()))?);
    }
    input.advance(PREFIX_BYTES + length);
    Ok(Some(message))
}

/// Says what is wrong without showing any of the bytes.
fn malformed(error: DecodeError) -> WireError {
    WireError::Malformed(match error {
        DecodeError::UnexpectedEnd { .. } => "it ends within a field".to_owned(),
        DecodeError::LimitExceeded => "a length is above the limit".to_owned(),
        DecodeError::UnexpectedVariant { type_name, found, .. } => {
            let name = type_name.rsplit("::").next().unwrap_or(type_name);
            format!("{name} has no variant {found}")
        }
        DecodeError::Utf8 { .. } => "a name is not UTF-8".to_owned(),
        DecodeError::InvalidBooleanValue(_) => "a flag is neither 0 nor 1".to_owned(),
        DecodeError::Other(what) => what.to_owned(),
        _ => "a number is out of its range".to_owned(),
    })
}

/// Appends to a buffer, up to a limit.
struct Sink<'a> {
    out: &'a mut BytesMut,
    left: usize,
}

impl Writer for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(EncodeError::UnexpectedEnd)?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// A list on the wire: its count, then its elements. Unlike bincode's own it allocates no more than the frame is long.
pub(super) struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> List<T> {
        List(Vec::new())
    }
}

impl<T: Encode> Encode for List<T> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        if self.0.len() > ITEMS_MAX {
            return Err(EncodeError::Other("a list is too long"));
        }
        (self.0.len() as u64).encode(encoder)?;
        self.0.iter().try_for_each(|item| item.encode(encoder))
    }
}

impl<'de, C, T: BorrowDecode<'de, C>> BorrowDecode<'de, C> for List<T> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let claimed = <u64 as BorrowDecode<'de, C>>::borrow_decode(decoder)?;
        let count = usize::try_from(claimed).ok().filter(|c| *c <= ITEMS_MAX);
        let count = count.ok_or(DecodeError::Other("a list claims too many elements"))?;
        if decoder.reader().peek_read(count).is_none() {
            return Err(DecodeError::Other("a list claims more elements than the frame has bytes"));
        }
        // Room for as many as fill the bytes that are there, in memory; the rest grows with what really comes.
        let mut items = Vec::with_capacity(count / size_of::<T>().max(1));
        for _ in 0..count {
            items.push(T::borrow_decode(decoder)?);
        }
        Ok(List(items))
    }
}

/// Fields that a later version adds, by tag; this version knows [`DEBTS`], [`RESTLESSNESS`] and [`KEYS`] and skips the others. Reserved in the envelope for the id of a
/// connection, the role of the sender and subscriptions, in a manifest and its entries for what they depend on and their context.
pub(super) type Later<'a> = List<(u16, &'a [u8])>;
/// Values or names with something each, by key, so that the name of a key crosses once.
pub(super) type ByKey<'a, T> = List<(&'a [u8], List<T>)>;
/// A handover: origin, serial.
pub(super) type WireHandover = (u64, u64);
/// SHA-256.
pub(super) type WireDigest = [u8; 32];

#[derive(Encode, BorrowDecodeFields)]
struct Envelope<'a> {
    message: WireMessage<'a>,
    later: Later<'a>,
}

/// [`ControlMessage`] on the wire. Variants and fields are never changed, moved or removed; new variants are appended.
#[derive(Encode, BorrowDecodeFields)]
pub(super) enum WireMessage<'a> {
    Hello { protocols: (u16, u16), cluster: &'a str, member: &'a str, incarnation: u64, to: u64, lane: WireLane },
    Welcome { protocol: u16 },
    Unwelcome { reason: &'a str },
    Propose { handover: WireHandover, session: &'a [u8], proposer: WireProposer, summary: WireSummary },
    Accept { handover: WireHandover, group: (u64, u64), have: ByKey<'a, (&'a [u8], WireDigest)> },
    Reject { handover: WireHandover, reason: WireRejection },
    PreCopy { handover: WireHandover, values: ByKey<'a, (&'a [u8], &'a [u8])> },
    PreCopied { handover: WireHandover },
    Stage { handover: WireHandover, stage: WireStage<'a> },
    Committed { handover: WireHandover },
    Promised { handover: WireHandover },
    Abort { handover: WireHandover },
    Fetch { request: u64, handover: WireHandover, variables: ByKey<'a, &'a [u8]> },
    Fetched { request: u64, values: List<Option<&'a [u8]>> },
    Confirm { handover: WireHandover },
    Arrival { session: &'a [u8] },
    Operation { id: u64, session: &'a [u8], arguments: List<&'a [u8]>, resp3: bool, create: bool },
    OperationReply { id: u64, outcome: WireForwarded<'a> },
    LoadAsk { id: u64 },
    Load { id: u64, sessions: u64 },
    Give { id: u64, to: u64, count: u64 },
    Given { id: u64, moved: u64, failed: u64 },
    Leaving { id: u64 },
    LeavingHeard { id: u64 },
    Happened { events: List<(u8, &'a [u8], &'a [u8])> },
}

#[derive(Encode, BorrowDecodeFields)]
pub(super) enum WireLane {
    Control,
    Bulk,
}

#[derive(Encode, BorrowDecodeFields)]
pub(super) enum WireProposer {
    Router,
    Origin,
    Target,
}

#[derive(Encode, BorrowDecodeFields)]
pub(super) enum WireRejection {
    NotAccepting,
    Busy,
}

#[derive(Encode, BorrowDecodeFields)]
pub(super) enum WireForwarded<'a> {
    Reply(&'a [u8]),
    NotHere,
    Failed(&'a [u8]),
}

#[derive(Encode, BorrowDecodeFields)]
pub(super) struct WireSummary {
    pub variables: u32,
    pub bytes: u64,
    pub carried_bytes: u64,
    pub accesses: u32,
}

/// The location of the session, then the rest of the stage.
#[derive(Encode, BorrowDecodeFields)]
pub(super) struct WireStage<'a> {
    pub group: u64,
    pub epoch: u64,
    pub last: Option<WireHandover>,
    pub depends: List<WireHandover>,
    pub origin_group_epoch: u64,
    pub manifest: WireManifest<'a>,
    pub values: ByKey<'a, (&'a [u8], &'a [u8])>,
}

/// The tag of [`WireDebts`] in a manifest: what the upstream lacks of the session.
pub(super) const DEBTS: u16 = 1;
/// The tag of one byte in a manifest: how often the session has followed its clients in vain. None: never.
pub(super) const RESTLESSNESS: u16 = 2;

/// The tag of a [`WireDigest`] in the envelope of a `Hello`: what the sender takes for keys of sessions.
pub(super) const KEYS: u16 = 3;

/// Ages are by impact, the most urgent first.
#[derive(Encode, BorrowDecodeFields)]
pub(super) struct WireDebts<'a> {
    pub unwritten: List<&'a [u8]>,
    pub gone: List<&'a [u8]>,
    pub age_us: (Option<u64>, Option<u64>, Option<u64>, Option<u64>),
}

#[derive(Encode, BorrowDecodeFields)]
pub(super) struct WireManifest<'a> {
    pub last_version: u64,
    pub keys: List<WireKey<'a>>,
    pub later: Later<'a>,
}

#[derive(Encode, BorrowDecodeFields)]
pub(super) struct WireKey<'a> {
    pub name: &'a [u8],
    pub layout: WireLayout,
    pub kind: WireKind,
    pub expires_at_ms: Option<u64>,
    pub entries: List<WireEntry<'a>>,
}

#[derive(Encode, BorrowDecodeFields)]
pub(super) struct WireEntry<'a> {
    pub name: &'a [u8],
    pub version: u64,
    pub reads: u16,
    pub writes: u16,
    pub held: WireHeld<'a>,
    pub later: Later<'a>,
}

#[derive(Encode, BorrowDecodeFields)]
pub(super) enum WireHeld<'a> {
    Inline(&'a [u8]),
    Staged { size: u64, digest: WireDigest },
    At { handover: WireHandover, size: u64, digest: WireDigest, class: WireClass },
    Lost,
}

#[derive(Encode, BorrowDecodeFields)]
pub(super) enum WireLayout {
    Hash,
    Key,
    Json,
    Opaque,
    Msgpack,
    Php,
}

#[derive(Encode, BorrowDecodeFields)]
pub(super) enum WireKind {
    String,
    Hash,
    Set,
    SortedSet,
    List,
}

#[derive(Encode, BorrowDecodeFields)]
pub(super) enum WireClass {
    Carried,
    Streamed,
    Deferred,
    Dropped,
}

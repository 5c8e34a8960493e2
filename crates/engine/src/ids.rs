//! Names of things: sessions, members, groups, epochs, versions, handovers.
//!
//! Plain values without behaviour; every other module of the engine may use them. Nothing here allocates an id: epochs come
//! from the directory's one counter, serials from the machine that owns them.
//! Invariant: no `Debug` or `Display` here shows a session id (invariant 9, *nothing private leaves*).

use bytes::Bytes;
use std::fmt;

/// A number from the directory's one counter, never reused: the fencing token of sessions, groups and incarnations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

/// One life of a member, named by the epoch under which it registered; a restarted node is a new incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Incarnation(pub Epoch);

/// A replica group: a strictly ordered stream of updates with one owner. The number is from the directory's counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(pub u64);

/// A handover: unique for ever, and it names the incarnation that keeps its residual.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HandoverId {
    /// Who was the owner when it was proposed, and holds what is fetched late.
    pub origin: Incarnation,
    /// Counts the handovers of that incarnation, from 1.
    pub serial: u64,
}

impl HandoverId {
    /// Before all others, for ranges.
    pub const LEAST: HandoverId = HandoverId { origin: Incarnation(Epoch(0)), serial: 0 };
}

/// The version of a variable: grows with each change within one life of a session, and is never used twice in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version(pub u64);

/// Joins an effect with the input that answers it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Joins a question of a waiting operation with its verdict; the shell chooses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// The id by which a client's session is known. Any bytes; secret, because whoever knows it is logged in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub Bytes);

impl SessionId {
    /// A copy of `bytes` as an id.
    pub fn copy_of(bytes: &[u8]) -> SessionId {
        SessionId(Bytes::copy_from_slice(bytes))
    }
}

impl std::borrow::Borrow<[u8]> for SessionId {
    // Hash and order of an id are those of its bytes, so a table can be searched without copying the id.
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({} B)", self.0.len())
    }
}

/// The key under which session ids are shown to people: in status pages, logs and metrics.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdKey(pub [u8; 16]);

impl IdKey {
    /// 16 hexadecimal digits: the first 8 bytes of SHA-256(key ‖ id). The key has a fixed length, and whoever does not know it
    /// cannot try ids.
    pub fn show(&self, id: &[u8]) -> String {
        use sha2::Digest as _;
        let sum: [u8; 32] = sha2::Sha256::new().chain_update(self.0).chain_update(id).finalize().into();
        sum.iter().take(8).map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey(…)")
    }
}

/// SHA-256 of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `value`.
    pub fn of(value: &[u8]) -> Digest {
        use sha2::Digest as _;
        Digest(sha2::Sha256::digest(value).into())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, ..] = self.0;
        write!(f, "Digest({a:02x}{b:02x}{c:02x}…)")
    }
}

/// The time of an input, read once by the shell: the engine has no clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Microseconds of CLOCK_BOOTTIME: goes on in suspend, never jumps; for leases and deadlines.
    pub boot_us: u64,
    /// Milliseconds since 1970 of the wall clock: for the expiry of keys, as Redis has it.
    pub unix_ms: u64,
}

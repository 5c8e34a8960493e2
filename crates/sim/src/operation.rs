//! What clients ask for, and how it runs on a resident: reads, overwrites, read-modify-writes and deletions.
//!
//! It never looks for the session: `shell` does. Every value carries the unique number of the write that made it, so that an
//! answer tells exactly which write it saw. Values are longer than what travels inside a manifest, but for one.

use bytes::Bytes;
use wayfarer_engine::ids::{Epoch, GroupId, Incarnation};
use wayfarer_engine::residence::{Gate, Resident};
use wayfarer_engine::session::{Missing, VariableId};

/// The Redis keys that may hold a session; how many of them do is in the profile.
pub const KEYS: [&[u8]; 3] = [b"session", b"second", b"third"];
/// The variables of a session with the bytes of their values; their names give their classes.
pub const FIELDS: [(&str, usize); 4] = [("carried_small", 16), ("streamed", 90), ("deferred", 120), ("carried", 150)];
/// The key that holds a field, of so many.
pub fn key_of(field: usize, keys: usize) -> &'static [u8] {
    KEYS[field % keys]
}

/// The fields of the key at a place, of so many.
pub fn fields_of(place: usize, keys: usize) -> impl Iterator<Item = usize> {
    (0..FIELDS.len()).filter(move |field| field % keys == place)
}

/// Every value begins with the number of its write.
const NUMBER_BYTES: usize = 8;

/// A number of a write; unique in a run.
pub type WriteId = u64;

/// What an operation does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Reads one variable.
    Read(usize),
    /// Overwrites one variable, creating the session if need be.
    Write(usize, WriteId),
    /// Reads one variable and replaces it, as INCR and APPEND do.
    Update(usize, WriteId),
    /// Deletes the session.
    Delete,
    /// Deletes the key at a place, of so many; the session goes with its last one.
    Drop(usize, usize),
    /// Gives the key at a place, of so many, to another session.
    Rename {
        /// Its place.
        place: usize,
        /// Of so many.
        keys: usize,
        /// That session.
        to: usize,
    },
}

impl Kind {
    /// Whether it changes anything.
    pub fn changes(self) -> bool {
        !matches!(self, Kind::Read(_))
    }

    /// The keys that it names, where a session has so many.
    pub fn keys(self, keys: usize) -> Vec<Bytes> {
        let names: Vec<&'static [u8]> = match self {
            Kind::Read(field) | Kind::Write(field, _) | Kind::Update(field, _) => vec![key_of(field, keys)],
            Kind::Delete => KEYS[..keys].to_vec(),
            Kind::Drop(place, _) | Kind::Rename { place, .. } => vec![KEYS[place]],
        };
        names.into_iter().map(Bytes::from_static).collect()
    }
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Whose.
    pub client: usize,
    /// On which session.
    pub session: usize,
    /// What.
    pub kind: Kind,
    /// The life of the node that it was sent to.
    pub entry: Incarnation,
    /// When.
    pub called_us: u64,
    /// Whether its client has an answer.
    pub answered: bool,
}

/// The answer to an operation, or of one node to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It happened; the write that a read or update saw.
    Done(Option<WriteId>),
    /// The variable is declared lost; nothing happened.
    Lost,
    /// Nothing happened.
    Failed,
    /// Whether it happened is not known.
    Unknown,
    /// The node that was asked does not have the session.
    NotHere,
}

/// What came of running an operation on a resident.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// The session is not here, or its gate is closed.
    NotHere,
    /// Nobody has looked whether its keys are at rest.
    Unknown,
    /// These values must come first.
    Fetch(Vec<VariableId>),
    /// The variable is declared lost.
    Lost,
    /// It ran.
    Ran {
        /// The write that a read or update saw.
        saw: Option<WriteId>,
        /// Whether the session has no key left.
        emptied: bool,
        /// The record under which it ran.
        key: (GroupId, Epoch),
    },
}

/// The value that write `id` gives to a variable.
pub fn value_of(id: WriteId, field: usize) -> Bytes {
    let mut value = id.to_be_bytes().to_vec();
    value.resize(FIELDS[field].1.max(NUMBER_BYTES), b'a' + field as u8);
    value.into()
}

/// The write that made a value; `None` if no write of ours did.
pub fn id_of(value: &[u8], field: usize) -> Option<WriteId> {
    let id = WriteId::from_be_bytes(value.get(..NUMBER_BYTES)?.try_into().ok()?);
    (value_of(id, field) == value).then_some(id)
}

/// Runs `kind` on a resident whose gate is open, where a session has so many keys.
pub fn run(kind: Kind, resident: &mut Resident, unix_ms: u64, keys: usize) -> Attempt {
    let names = kind.keys(keys);
    if resident.unknown(names.iter()) {
        return Attempt::Unknown;
    }
    let key = (resident.location.group, resident.location.epoch);
    let session = &mut resident.session;
    let mut saw = None;
    if let Kind::Read(field) | Kind::Update(field, _) = kind {
        let (of, name) = (key_of(field, keys), FIELDS[field].0.as_bytes());
        match session.missing_of(of, Some(name)) {
            Some(Missing::Fetch(variables)) => return Attempt::Fetch(variables),
            Some(Missing::Lost) => return Attempt::Lost,
            None => {}
        }
        // A value that no write made is shown as a number that no write has.
        saw = session.read_field(of, name, unix_ms).map(|value| id_of(&value, field).unwrap_or(WriteId::MAX));
    }
    match kind {
        // These have a way of their own.
        Kind::Rename { .. } => return Attempt::NotHere,
        Kind::Read(_) => {}
        Kind::Write(field, id) | Kind::Update(field, id) => {
            session.write_field(key_of(field, keys), FIELDS[field].0.as_bytes(), value_of(id, field), unix_ms);
        }
        Kind::Delete | Kind::Drop(..) => names.iter().for_each(|name| {
            session.remove(name, unix_ms);
        }),
    }
    let emptied = matches!(kind, Kind::Delete | Kind::Drop(..)) && session.is_empty();
    if emptied {
        resident.gate = Gate::Ending;
    }
    Attempt::Ran { saw, emptied, key }
}

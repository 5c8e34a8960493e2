//! The words that a setting may be one of, and what they mean: codec, layout, class, impact, log format.
//!
//! Nothing here reads configuration; [`crate::table`] lists the words of a setting from here, `values` reads them.
//! Invariant: each word is written once, so what is accepted, documented and suggested cannot differ.

use wayfarer_engine::plan::{Impact, OnLost};
use wayfarer_engine::session::{Class, Layout};
pub use wayfarer_identity::Codec;

/// A closed set of words.
pub trait Word: Copy + Sized + 'static {
    /// Each word with its value, in the order in which they are documented.
    const WORDS: &'static [(&'static str, Self)];

    /// The value of `word`.
    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
    }

    /// The word for this value.
    fn word(self) -> &'static str
    where
        Self: PartialEq,
    {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    /// The words alone.
    fn names() -> Vec<&'static str> {
        Self::WORDS.iter().map(|(name, _)| *name).collect()
    }
}

impl Word for Layout {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("hash", Self::Hash),
        ("key", Self::Key),
        ("json", Self::Json),
        ("msgpack", Self::Msgpack),
        ("php", Self::Php),
        ("opaque", Self::Opaque),
    ];
}

impl Word for Class {
    const WORDS: &'static [(&'static str, Self)] =
        &[("carried", Self::Carried), ("streamed", Self::Streamed), ("deferred", Self::Deferred), ("dropped", Self::Dropped)];
}

impl Word for Impact {
    const WORDS: &'static [(&'static str, Self)] =
        &[("critical", Self::Critical), ("high", Self::High), ("medium", Self::Medium), ("low", Self::Low)];
}

impl Word for OnLost {
    const WORDS: &'static [(&'static str, Self)] = &[("error", Self::Error), ("absent", Self::Absent)];
}

/// The mode that a new cluster begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum BeginsAs {
    /// Sessions have owners.
    Own,
    /// The upstream answers for sessions.
    Observe,
}

impl Word for BeginsAs {
    const WORDS: &'static [(&'static str, Self)] = &[("own", Self::Own), ("observe", Self::Observe)];
}

/// Where requests run whose session is at another member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Forward {
    /// Where they have come.
    Never,
    /// At the owner, if its instance is of the same application and version.
    Owner,
}

impl Word for Forward {
    const WORDS: &'static [(&'static str, Self)] = &[("never", Self::Never), ("owner", Self::Owner)];
}

impl Word for Codec {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("plain", Self::Plain),
        ("express", Self::Express),
        ("fastify", Self::Fastify),
        ("spring", Self::Spring),
        ("rack", Self::Rack),
        ("django", Self::Django),
        ("php", Self::Php),
        ("tower", Self::Tower),
    ];
}

/// Which keys of a listener belong to sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ListenerSessions {
    /// Those that `state.keys` takes.
    Keys,
    /// All: the whole key is the session's id.
    All,
}

impl Word for ListenerSessions {
    const WORDS: &'static [(&'static str, Self)] = &[("keys", Self::Keys), ("all", Self::All)];
}

/// What becomes of writes to one value at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Merge {
    /// Each leaves alone the members that its writer has not changed since it read the value.
    Members,
}

impl Word for Merge {
    const WORDS: &'static [(&'static str, Self)] = &[("members", Self::Members)];
}

/// What tells whose read a write rests on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum MergeBy {
    /// A connection of the instance serves one request at a time.
    Connection,
    /// The HTTP face: while one request of a session is with the instance, what is read and written of the session is its.
    Request,
}

impl Word for MergeBy {
    const WORDS: &'static [(&'static str, Self)] = &[("connection", Self::Connection), ("request", Self::Request)];
}

/// How log lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// How a cookie tells a balancer the name of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum HintEncoding {
    /// The name itself.
    Plain,
    /// As Envoy's stateful session filter writes it.
    Envoy,
}

impl Word for HintEncoding {
    const WORDS: &'static [(&'static str, Self)] = &[("plain", Self::Plain), ("envoy", Self::Envoy)];
}

/// The least important lines that are logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum LogLevel {
    /// A human must look.
    Error,
    /// Something is not as it should be, and was dealt with.
    Warn,
    /// What happens to the node: members, drains, scale events.
    Info,
    /// What happens to sessions.
    Debug,
    /// Each message.
    Trace,
}

impl Word for LogLevel {
    const WORDS: &'static [(&'static str, Self)] =
        &[("error", Self::Error), ("warn", Self::Warn), ("info", Self::Info), ("debug", Self::Debug), ("trace", Self::Trace)];
}

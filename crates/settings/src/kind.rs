//! What a row of the table of settings can be: kinds with their bounds, shapes of text, units.
//!
//! It knows no setting. `table` is written with it, `values` reads by it, `reference` prints it.
//! Invariant: a kind has all its bounds in it, so that whoever reads a value needs nothing else.

use crate::table::field_of_one;

/// In what a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Pieces.
    Count,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// Milliseconds.
    Milliseconds,
}

impl Unit {
    /// As the reference prints it.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Count => "count",
            Unit::Bytes => "bytes",
            Unit::BytesPerSecond => "bytes/s",
            Unit::Milliseconds => "ms",
        }
    }
}

/// Which text is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Letters, digits, `.`, `_`, `-`: a name that stands in keys and messages.
    Name,
    /// Letters, digits, `.`, `_`, `-`, `:`, `[`, `]`: a name or an address, as the value of a cookie.
    Place,
    /// Visible ASCII without spaces, quotes, `,`, `;`, `=`: the name of a cookie.
    Cookie,
    /// The name of a header.
    Header,
    /// Anything without control characters.
    Line,
}

/// What a setting is, with its bounds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// Text of at most this many bytes.
    Text {
        /// Which characters.
        shape: Shape,
        /// Longest, in bytes.
        bytes_max: usize,
    },
    /// One of a few words.
    Choice {
        /// Those that are possible.
        words: fn() -> Vec<&'static str>,
        /// Those that later versions will know.
        later: &'static [&'static str],
    },
    /// A whole number.
    Number {
        /// In what it counts.
        unit: Unit,
        /// Least.
        min: u64,
        /// Greatest.
        max: u64,
    },
    /// Where to listen: `IP:PORT`, port 0 = any free one.
    Listen {
        /// Whether other machines may reach it.
        beyond_loopback: bool,
    },
    /// Where the state face listens: `IP:PORT`, or `unix:/PATH`.
    ListenAt,
    /// The mode of a file, in octal.
    Mode,
    /// Where the instance listens: `IP:PORT`, port not 0; or `unix:PATH`.
    Instance,
    /// `redis://…`; may hold a password.
    Upstream,
    /// `sqlite:PATH`.
    Directory,
    /// Letters of classes of key events, as Redis has them.
    Events,
    /// Text that is never shown.
    Secret,
    /// 32 hexadecimal digits that are never shown.
    IdKey,
    /// A file with the secret that its sister setting would hold.
    SecretFile,
    /// A file that is read at the start.
    File,
    /// A pattern for keys.
    Pattern,
    /// A name or glob for variables.
    Glob,
    /// A list of tables; the rows with `[]` say what they hold.
    List,
    /// As [`Kind::List`]; a list of one may be written as its table alone, and set field by field.
    Sources,
    /// Texts that are never shown: one, or a list.
    Secrets,
    /// Networks as CIDR: a list of texts, or one text with commas.
    Networks,
    /// Users by name or number: a list of texts, or one text with commas.
    Users,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// `section.key`.
    pub key: &'static str,
    /// What it is.
    pub kind: Kind,
    /// As text; `None`: not set.
    pub default: Option<&'static str>,
    /// What it does.
    pub meaning: &'static str,
}

impl Kind {
    /// Whether it may be written as a list of texts.
    pub(crate) fn may_be_texts(self) -> bool {
        matches!(self, Kind::Secrets | Kind::Networks | Kind::Users)
    }

    /// Whether it is a list of tables.
    pub fn is_list(self) -> bool {
        matches!(self, Kind::List | Kind::Sources)
    }
}

impl Setting {
    /// The environment variable that sets it; `None` for what belongs to an entry of a list (set the list instead).
    pub fn variable(&self) -> Option<String> {
        let name = || format!("WAYFARER_{}", self.key.replace("[]", "").replace('.', "__").to_ascii_uppercase());
        (!self.key.contains("[]") || field_of_one(&self.key.replace("[]", "")).is_some()).then(name)
    }

    /// The part of the key behind its last dot.
    pub fn leaf(&self) -> &'static str {
        self.key.rsplit_once('.').map_or(self.key, |(_, leaf)| leaf)
    }

    /// The part of the key before its last dot.
    pub fn section(&self) -> &'static str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }
}

//! Configuration text to validated settings.
//!
//! It opens no socket, reads no clock and no environment: texts come in as arguments ([`Sources`]), typed settings or *all*
//! mistakes go out. The only files it touches are those that a `…_file` setting names. Called by the command line (`run`,
//! `check`); the matcher of keys ([`keys::KeyMatcher`]) is what the state face asks on its hot path.
//!
//! ```text
//! defaults < TOML file < WAYFARER_SECTION__KEY < section.key=value
//!        gather ──► reader + values ──► assemble ──► checks ──► Settings + warnings, or mistakes
//!           └──────────── table ───────────┘
//! ```
//! Invariant: one table says which settings there are; nothing else is accepted, and nothing wrong passes in silence.

mod assemble;
mod checks;
mod explain;
mod gather;
mod key_entries;
pub mod keys;
mod kind;
mod later;
mod listen;
mod lookup;
mod mistake;
mod overlap;
mod pattern;
mod preset_table;
pub mod presets;
mod reader;
mod redirect;
mod reference;
mod rows;
mod secret;
mod settings;
mod shape;
mod sources;
pub mod table;
mod upstream;
mod values;
mod words;

pub use explain::Miss;
pub use keys::{KeyMatcher, KeyPattern, Match};
pub use listen::ListenAt;
pub use mistake::{Complaint, Mistake};
pub use redirect::Redirect;
pub use reference::{presets_markdown, reference_markdown, reference_toml};
pub use secret::{IdKey, Secret};
pub use settings::{Admin, App, Child, Cluster, Drain, Handover, Http, Log, Probe, Runtime, Settings, State, StateListener};
pub use shape::{Alphabet, IdShape};
pub use upstream::{DirectoryPlace, HostPort, Numbering, Sentinels, Upstream, UpstreamPlace, UpstreamTls};
pub use wayfarer_engine::plan::{Impact, OnLost, Policy, Rule, Treatment};
pub use wayfarer_engine::session::{Class, Layout};
pub use wayfarer_identity::{Identity, PathTemplate, Place, Secrets, Source};
pub use words::{BeginsAs, Codec, Forward, HintEncoding, ListenerSessions, LogFormat, LogLevel, Merge, MergeBy, Word};

/// Most mistakes that are named at once; the rest is counted.
const MISTAKES_MAX: usize = 200;

/// What settings are made from; the later of file, environment and overrides wins.
#[derive(Clone, Default)]
pub struct Sources {
    /// The configuration file: its name for messages, and its text. `None`: there is none.
    pub file: Option<(String, String)>,
    /// Environment variables; those that do not start with `WAYFARER_` are not looked at.
    pub environment: Vec<(String, String)>,
    /// Flags, as `section.key=value`.
    pub overrides: Vec<String>,
    /// The name of this host: the node's name where none is set.
    pub host_name: String,
}

/// Settings that hold, and what their reader should know.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What is right but surprising: to be logged at start, and shown by `check`.
    pub warnings: Vec<Mistake>,
}

impl Settings {
    /// Reads `sources`; the error names everything that is wrong, in the order of the lines.
    pub fn load(sources: &Sources) -> Result<Loaded, Vec<Mistake>> {
        let mut gathered = gather::Gathered::of_defaults();
        if let Some((name, text)) = &sources.file {
            gathered.add_file(name, text);
        }
        gathered.add_environment(&sources.environment);
        gathered.add_overrides(&sources.overrides);
        let gather::Gathered { fields, mut mistakes, mut warnings } = gathered;
        let mut reader = reader::Reader::new(&fields, &mut mistakes);
        let settings = assemble::settings(&mut reader, &sources.host_name);
        let (wrong, surprising) = (reader.wrong, reader.warnings);
        warnings.extend(surprising);
        mistakes.extend(checks::mistakes(&settings, &fields, &wrong));
        if mistakes.is_empty() {
            warnings.extend(checks::warnings(&settings, &fields));
            return Ok(Loaded { settings, warnings });
        }
        Err(ordered(mistakes))
    }
}

/// By line, what has none at the end; each once; at most [`MISTAKES_MAX`].
fn ordered(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    mistakes.sort_by_key(|mistake| (mistake.line.is_none(), mistake.line));
    mistakes.dedup();
    let more = mistakes.len().saturating_sub(MISTAKES_MAX);
    if let Some(last) = mistakes.get(MISTAKES_MAX).cloned() {
        mistakes.truncate(MISTAKES_MAX);
        mistakes.push(Mistake {
            key: String::new(),
            message: format!("and {more} more from here on"),
            remedy: String::new(),
            ..last
        });
    }
    mistakes
}

#[cfg(test)]
mod tests;

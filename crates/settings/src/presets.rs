//! What is known of session libraries: their keys, what lies beside them, how their cookie is written.
//!
//! Types and look-ups only; the rows are in [`crate::preset_table`]. Called by `key_entries` for `state.keys = [ { preset = "…" } ]`,
//! by `reference` for `docs/presets.md`, and by `wayfarer check` and `wayfarer init`.
//!
//! Lock and shadow keys belong to their session and travel with it. Keys that index several sessions stay upstream: no pattern
//! of their preset takes them (a test), and they are listed so that `check` and `init` can say what they are.
//! In a pattern, `<name>` stands for an option of the preset.
//! Invariant: with the defaults of its options each preset is a set of right patterns of which no two take the same key.

pub use crate::preset_table::PRESETS;

use crate::keys::KeyPattern;
use crate::mistake::Complaint;
use crate::words::Codec;
use wayfarer_engine::session::Layout;

/// What a key of a preset is to its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The session's values.
    Values,
    /// Who may write just now.
    Lock,
    /// A key beside the values that has a life of its own: an expiry, a flash message.
    Shadow,
}

/// One pattern of a preset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PresetPattern {
    /// As in `state.keys[].pattern`, with `<option>`.
    pub pattern: &'static str,
    /// How the value is divided into variables.
    pub layout: Layout,
    /// The name of the variable, where the layout has one a key.
    pub variable: Option<&'static str>,
    /// What such a key is.
    pub part: Part,
}

/// Keys of a library that belong to no single session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexKeys {
    /// As a pattern, with one `{any}` where a part differs from key to key; without one it is the whole key.
    pub pattern: &'static str,
    /// What is in them.
    pub what: &'static str,
}

/// The same with the options filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexKey {
    /// The pattern, or the whole key.
    pub text: String,
    pattern: Option<KeyPattern>,
    /// Whose it is.
    pub preset: &'static str,
    /// What is in it.
    pub what: &'static str,
}

impl IndexKey {
    /// Whether `key` is one of these.
    pub fn takes(&self, key: &[u8]) -> bool {
        match &self.pattern {
            Some(pattern) => pattern.take(0, key).is_some(),
            None => self.text.as_bytes() == key,
        }
    }
}

/// A part of the keys that a service chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PresetOption {
    /// As in `state.keys[].NAME`.
    pub name: &'static str,
    /// What the library takes by default; `None`: there is no default, the service must say it.
    pub default: Option<&'static str>,
    /// What the library calls it.
    pub library_setting: &'static str,
}

/// The keys of one library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preset {
    /// As in `state.keys[].preset`.
    pub name: &'static str,
    /// Which library.
    pub library: &'static str,
    /// Its keys.
    pub patterns: &'static [PresetPattern],
    /// What stays upstream.
    pub index: &'static [IndexKeys],
    /// What can be set.
    pub options: &'static [PresetOption],
    /// The name of its cookie by default.
    pub cookie: &'static str,
    /// How the id stands in it; `None`: it is encrypted, or inside other data.
    pub codec: Option<Codec>,
    /// What to watch out for.
    pub notes: &'static str,
}

impl Preset {
    /// Its patterns for the options that `given` knows by name; the others have their defaults. The error names an option that is
    /// missing, or a pattern that an option made wrong.
    pub fn key_patterns(&self, given: impl Fn(&str) -> Option<String>) -> Result<Vec<KeyPattern>, Complaint> {
        let read = |p: &PresetPattern| KeyPattern::parse(&self.filled_in(p.pattern, &given)?, p.layout, p.variable);
        self.patterns.iter().map(|p| Ok(read(p)?.of_preset(self.name))).collect()
    }

    /// `text` with the options in place of their names; braces of an option are braces of the key.
    pub fn filled_in(&self, text: &str, given: impl Fn(&str) -> Option<String>) -> Result<String, Complaint> {
        let mut filled = text.to_owned();
        for option in self.options {
            let Some(value) = given(option.name).or_else(|| option.default.map(str::to_owned)) else {
                let message = format!("the preset {} needs {}", self.name, option.name);
                return Err(Complaint::new(message, format!("add {} = \"…\": {}", option.name, option.library_setting)));
            };
            filled = filled.replace(&format!("<{}>", option.name), &value.replace('{', "{{").replace('}', "}}"));
        }
        Ok(filled)
    }

    /// Its keys that stay upstream, for the options that `given` knows by name; as [`Preset::key_patterns`].
    pub fn index_keys(&self, given: impl Fn(&str) -> Option<String>) -> Result<Vec<IndexKey>, Complaint> {
        let read = |index: &IndexKeys| {
            let text = self.filled_in(index.pattern, &given)?;
            // What differs from key to key is no session, but a pattern wants one.
            let pattern = text.contains("{any").then(|| text.replace("{any", "{session"));
            let pattern = pattern.map(|text| KeyPattern::parse(&text, Layout::Opaque, None)).transpose()?;
            Ok(IndexKey { text, pattern, preset: self.name, what: index.what })
        };
        self.index.iter().map(read).collect()
    }

    /// The names of its options.
    pub fn option_names(&self) -> Vec<&'static str> {
        self.options.iter().map(|option| option.name).collect()
    }
}

/// The preset of that name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The names of all presets.
pub fn preset_names() -> Vec<&'static str> {
    PRESETS.iter().map(|preset| preset.name).collect()
}

#[cfg(test)]
#[path = "presets_tests.rs"]
mod tests;

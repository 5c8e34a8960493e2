//! From the sources to one raw value for each setting: TOML text, environment, flags; the later source wins.
//!
//! It never says whether a value is right (`values` does), only whether its key is one of the table. Called by
//! [`crate::Settings::load`].
//!
//! | layer | written as | from |
//! |---|---|---|
//! | 0 default | the table | [`crate::table::TABLE`] |
//! | 1 file | TOML | the text and its name are given |
//! | 2 environment | `WAYFARER_SECTION__KEY=value`; a list as a TOML array; an empty value counts as not set | pairs are given |
//! | 3 command line | `section.key=value`; a list as a TOML array | texts are given |
//!
//! Invariant: whatever the texts hold, each key and value is either gathered or named in a mistake with its line.

use crate::mistake::{Mistake, nearest, plain, shown};
use crate::table::{Kind, NOT_YET, Setting, TABLE, field_of_one, names_in, setting};
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longest configuration text, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Most entries of one list.
const ENTRIES_MAX: usize = 256;
/// What every environment variable for a setting starts with.
const ENVIRONMENT_PREFIX: &str = "WAYFARER_";

/// Which source a value is from; the greater wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Layer {
    Default,
    File,
    Environment,
    CommandLine,
}

/// Where a value stands.
#[derive(Clone)]
pub(crate) struct Origin {
    pub layer: Layer,
    /// As in [`Mistake::file`].
    pub file: String,
    pub line: Option<u32>,
    /// As in [`Mistake::key`].
    pub key: String,
}

impl Origin {
    pub(crate) fn mistake(&self, message: impl Into<String>, remedy: impl Into<String>) -> Mistake {
        Mistake {
            file: self.file.clone(),
            line: self.line,
            key: self.key.clone(),
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// The place of another key of the same table.
    fn of(&self, key: &str, line: Option<u32>) -> Origin {
        Origin { layer: self.layer, file: self.file.clone(), line, key: key.to_owned() }
    }
}

/// A value before it is known whether it is right. Not `Debug`: it may be a secret.
#[derive(Clone)]
pub(crate) enum Raw {
    /// TOML text.
    Text(String),
    /// A TOML integer, as it is written.
    Integer { digits: String, radix: u32 },
    /// A TOML boolean.
    Flag(bool),
    /// A TOML array of tables.
    Items(Vec<Item>),
    /// A TOML array of texts.
    Texts(Vec<String>),
    /// Untyped text, from the table, the environment or the command line.
    Bare(String),
    /// A TOML value of a type that no setting has.
    Other(&'static str),
}

/// A raw value and where it stands.
#[derive(Clone)]
pub(crate) struct Located {
    pub raw: Raw,
    pub origin: Origin,
}

/// By key of the table.
pub(crate) type Fields = BTreeMap<&'static str, Located>;

/// One entry of a list.
#[derive(Clone)]
pub(crate) struct Item {
    pub origin: Origin,
    pub fields: Fields,
}

/// All raw values, and what was wrong on the way.
pub(crate) struct Gathered {
    pub fields: Fields,
    pub mistakes: Vec<Mistake>,
    pub warnings: Vec<Mistake>,
}

impl Gathered {
    /// The defaults of the table.
    pub(crate) fn of_defaults() -> Gathered {
        let mut gathered = Gathered { fields: Fields::new(), mistakes: Vec::new(), warnings: Vec::new() };
        for setting in TABLE {
            if let Some(text) = setting.default {
                let origin =
                    Origin { layer: Layer::Default, file: "defaults".to_owned(), line: None, key: setting.key.to_owned() };
                gathered.insert_bare(setting, text, origin);
            }
        }
        gathered
    }

    /// Adds what `text` says; `name` is the file's.
    pub(crate) fn add_file(&mut self, name: &str, text: &str) {
        let origin = Origin { layer: Layer::File, file: name.to_owned(), line: Some(1), key: String::new() };
        if text.len() > TEXT_BYTES_MAX {
            self.mistakes.push(origin.mistake(format!("is longer than {TEXT_BYTES_MAX} bytes"), "shorten it"));
            return;
        }
        let lines = Lines::of(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        let broken: Vec<u32> = errors.iter().map(|error| lines.line(&error.span().unwrap_or(0..0))).collect();
        for (error, line) in errors.iter().zip(&broken) {
            // Only the parser's own words: its full message would quote the line, which may hold a secret.
            let message = format!("is not TOML: {}", plain(error.message()));
            self.mistakes
                .push(origin.of("", Some(*line)).mistake(message, "text stands in quotes, a section in [ ], one setting a line"));
        }
        let mut walk = Walk { lines: Some(&lines), base: origin, mistakes: Vec::new(), is_one: false };
        let mut fields = Fields::new();
        walk.table(table.get_ref(), "", &mut fields);
        // What the parser made up to go on behind a syntax error is worth no second message about its line, nor are the lines of a
        // section whose head is broken: they seem to belong to another one.
        let heads: Vec<u32> =
            (1..).zip(text.lines()).filter(|(_, line)| line.trim_start().starts_with('[')).map(|(n, _)| n).collect();
        let is_broken = |line: u32| {
            let head = heads.iter().rev().find(|head| **head <= line);
            broken.contains(&line) || head.is_some_and(|head| broken.contains(head))
        };
        self.mistakes.extend(walk.mistakes.into_iter().filter(|mistake| !mistake.line.is_some_and(is_broken)));
        self.fields.extend(fields.into_iter().filter(|(_, located)| !located.origin.line.is_some_and(is_broken)));
    }

    /// Adds what the environment says.
    pub(crate) fn add_environment(&mut self, environment: &[(String, String)]) {
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            if value.is_empty() {
                continue;
            }
            let origin = Origin { layer: Layer::Environment, file: "environment".to_owned(), line: None, key: plain(name) };
            let key = rest.replace("__", ".").to_ascii_lowercase();
            match setting(&key).filter(|setting| setting.variable().is_some()) {
                Some(setting) => self.insert_bare(setting, value, origin),
                None if field_of_one(&key).is_some() => self.insert_field(&key, value, origin),
                None if rest.contains("__") => self.mistakes.push(unknown_variable(name, &key, &origin)),
                // Kubernetes makes variables of this form for a Service that is called wayfarer: not ours to refuse.
                None => {
                    let names: Vec<String> = TABLE.iter().filter_map(Setting::variable).collect();
                    let flat = |name: &str| name.replace("__", "_");
                    if let Some(near) = names.iter().find(|near| flat(near) == *name) {
                        self.warnings.push(origin.mistake("is not a setting, and was not read", format!("did you mean {near}?")));
                    }
                }
            }
        }
    }

    /// Adds what the command line says.
    pub(crate) fn add_overrides(&mut self, overrides: &[String]) {
        for text in overrides {
            let mut origin =
                Origin { layer: Layer::CommandLine, file: "command line".to_owned(), line: None, key: String::new() };
            let Some((key, value)) = text.split_once('=') else {
                self.mistakes.push(origin.mistake(format!("{} has no `=`", shown(text)), "write section.key=value"));
                continue;
            };
            let key = key.trim();
            origin.key = plain(key);
            match setting(key).filter(|setting| setting.variable().is_some()) {
                Some(setting) => self.insert_bare(setting, value, origin),
                None if field_of_one(key).is_some() => self.insert_field(key, value, origin),
                None => self.mistakes.push(unknown(key, &origin)),
            }
        }
    }

    fn insert_bare(&mut self, setting: &'static Setting, text: &str, origin: Origin) {
        let raw = if setting.kind.is_list() {
            match self.items_of(setting, text, &origin) {
                Some(items) => Raw::Items(items),
                None => return,
            }
        } else {
            Raw::Bare(text.to_owned())
        };
        self.fields.insert(setting.key, Located { raw, origin });
    }

    /// Sets a field of the one entry of a list, which is made if there is none.
    fn insert_field(&mut self, key: &str, text: &str, origin: Origin) {
        let Some((list, field)) = field_of_one(key) else { return };
        let mut items = match self.fields.get(list.key) {
            Some(Located { raw: Raw::Items(items), .. }) => items.clone(),
            _ => Vec::new(),
        };
        if items.is_empty() {
            items.push(Item { origin: origin.clone(), fields: Fields::new() });
        }
        match items.as_mut_slice() {
            [one] => drop(one.fields.insert(field.key, Located { raw: Raw::Bare(text.to_owned()), origin: origin.clone() })),
            _ => {
                return self.mistakes.push(origin.mistake(
                    format!("{} has several entries: it is not clear which is meant", list.key),
                    format!("set the whole list: {}", list.key),
                ));
            }
        }
        self.fields.insert(list.key, Located { raw: Raw::Items(items), origin });
    }

    /// The entries of a list that is written as one TOML array.
    fn items_of(&mut self, setting: &'static Setting, text: &str, origin: &Origin) -> Option<Vec<Item>> {
        let remedy = r#"write a TOML array of tables: [{ … = "…" }, …]"#;
        if text.len() > TEXT_BYTES_MAX {
            self.mistakes.push(origin.mistake(format!("is longer than {TEXT_BYTES_MAX} bytes"), "use the configuration file"));
            return None;
        }
        let value = match DeValue::parse(text.trim()) {
            Ok(value) => value,
            Err(error) => {
                self.mistakes.push(origin.mistake(format!("is not TOML: {}", plain(error.message())), remedy));
                return None;
            }
        };
        let mut walk = Walk { lines: None, base: origin.clone(), mistakes: Vec::new(), is_one: false };
        let raw = walk.value(value.get_ref(), setting, None);
        self.mistakes.append(&mut walk.mistakes);
        match raw {
            Raw::Items(items) => Some(items),
            _ => {
                self.mistakes.push(origin.mistake("is not a list", remedy));
                None
            }
        }
    }
}

/// Where lines start.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        Lines(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1).collect())
    }

    fn line(&self, span: &Range<usize>) -> u32 {
        u32::try_from(self.0.partition_point(|start| *start <= span.start)).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// Walks over a TOML table along the table of settings.
struct Walk<'a> {
    /// `None`: the text has no lines worth naming.
    lines: Option<&'a Lines>,
    base: Origin,
    mistakes: Vec<Mistake>,
    /// Whether the list in which it walks is written as the table of its one entry.
    is_one: bool,
}

impl Walk<'_> {
    fn origin(&self, key: &str, span: &Range<usize>) -> Origin {
        let unlisted = self.is_one.then(|| key.replace("[]", ""));
        let key = unlisted.as_deref().unwrap_or(key);
        let key = if self.lines.is_some() { plain(key) } else { format!("{}: {}", self.base.key, plain(key)) };
        self.base.of(&key, self.lines.map(|lines| lines.line(span)))
    }

    /// Puts what stands in `table`, the section `section`, into `fields`.
    fn table(&mut self, table: &DeTable<'_>, section: &str, fields: &mut Fields) {
        for (name, value) in table {
            let key = if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{}", name.get_ref()) };
            let origin = self.origin(&key, &name.span());
            if let Some(setting) = setting(&key) {
                let raw = self.value(value.get_ref(), setting, origin.line);
                fields.insert(setting.key, Located { raw, origin });
            } else if names_in(&key).is_empty() {
                self.mistakes.push(unknown(&key, &origin));
            } else if let DeValue::Table(inner) = value.get_ref() {
                self.table(inner, &key, fields);
            } else {
                let remedy = format!("write [{key}] on a line of its own, and its settings below: {}", names_in(&key).join(", "));
                self.mistakes.push(origin.mistake("is a section, not a setting", remedy));
            }
        }
    }

    fn value(&mut self, value: &DeValue<'_>, setting: &'static Setting, line: Option<u32>) -> Raw {
        let (key, kind) = (setting.key, setting.kind);
        match value {
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Integer(number) => Raw::Integer { digits: number.as_str().to_owned(), radix: number.radix() },
            DeValue::Boolean(flag) => Raw::Flag(*flag),
            DeValue::Array(entries) if kind.is_list() => Raw::Items(self.items(entries.iter(), key, line)),
            DeValue::Array(entries) if kind.may_be_texts() && entries.len() <= ENTRIES_MAX => {
                let texts = entries.iter().map(|entry| entry.get_ref().as_str().map(str::to_owned));
                texts.collect::<Option<Vec<String>>>().map_or(Raw::Other("a list with other things than text"), Raw::Texts)
            }
            DeValue::Table(table) if matches!(kind, Kind::Sources) => {
                let mut fields = Fields::new();
                self.is_one = true;
                self.table(table, &format!("{key}[]"), &mut fields);
                self.is_one = false;
                Raw::Items(vec![Item { origin: self.base.of(key, line), fields }])
            }
            DeValue::Array(_) => Raw::Other("a list"),
            DeValue::Table(_) => Raw::Other("a table"),
            DeValue::Float(_) => Raw::Other("a number with a fraction"),
            DeValue::Datetime(_) => Raw::Other("a date"),
        }
    }

    fn items<'t, 'i: 't>(
        &mut self,
        entries: impl Iterator<Item = &'t Spanned<DeValue<'i>>>,
        key: &str,
        line: Option<u32>,
    ) -> Vec<Item> {
        let mut items = Vec::new();
        let section = format!("{key}[]");
        for entry in entries {
            let mut origin = self.origin(key, &entry.span());
            if items.len() == ENTRIES_MAX {
                self.mistakes.push(origin.mistake(format!("has more than {ENTRIES_MAX} entries"), "merge some"));
                break;
            }
            let DeValue::Table(table) = entry.get_ref() else {
                let remedy = format!("write each entry as {{ … }}; it has: {}", names_in(&section).join(", "));
                self.mistakes.push(origin.mistake("has an entry that is no table", remedy));
                continue;
            };
            let mut fields = Fields::new();
            self.table(table, &section, &mut fields);
            // The span of `[[…]]` may be empty; then the first setting says where the entry is.
            if self.lines.is_some() && entry.span().is_empty() {
                origin.line = fields.values().filter_map(|field| field.origin.line).min().or(line);
            }
            items.push(Item { origin, fields });
        }
        items
    }
}

/// The mistake of a key that is in no table: not yet, elsewhere, or misspelt.
fn unknown(key: &str, origin: &Origin) -> Mistake {
    if let Some((_, what_to_do)) = NOT_YET.iter().find(|(later, _)| *later == key) {
        return origin.mistake("is not available yet in this version", *what_to_do);
    }
    let (section, leaf) = key.rsplit_once('.').unwrap_or(("", key));
    let mut siblings = names_in(section);
    // The list of one entry is written without its brackets.
    siblings.extend(names_in(&format!("{section}[]")));
    let spelt = |name: &str| if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
    let remedy = if siblings.contains(&leaf) {
        format!("set the whole list: {}", section.trim_end_matches("[]"))
    } else if let Some(near) = nearest(leaf, siblings.iter().copied()) {
        format!("did you mean {}?", spelt(near))
    } else if let Some(elsewhere) = TABLE.iter().find(|setting| setting.leaf() == leaf && !setting.key.contains("[]")) {
        format!("did you mean {}?", elsewhere.key)
    } else if let Some(near) = nearest(key, TABLE.iter().map(|setting| setting.key)) {
        format!("did you mean {near}?")
    } else if siblings.is_empty() {
        format!("the sections are {}", names_in("").join(", "))
    } else if section.is_empty() {
        format!("possible: {}", siblings.join(", "))
    } else {
        format!("[{section}] has {}", siblings.join(", "))
    };
    origin.mistake("is not a setting", remedy)
}

fn unknown_variable(name: &str, key: &str, origin: &Origin) -> Mistake {
    let mistake = unknown(key, origin);
    let names: Vec<String> = TABLE.iter().filter_map(Setting::variable).map(|name| name.to_ascii_lowercase()).collect();
    match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => Mistake { remedy: format!("did you mean {}?", near.to_ascii_uppercase()), ..mistake },
        None => mistake,
    }
}

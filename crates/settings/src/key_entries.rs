//! `[state] keys` and `[[state.listener]]`: entries of the configuration → matchers of keys.
//!
//! It knows presets and patterns, but no key. Called by `assemble`.
//! Invariant: two patterns of one matcher never take the same keys with equal right without a mistake or a warning.

use crate::assemble::items;
use crate::gather::{Item, Origin};
use crate::keys::{KeyMatcher, KeyPattern};
use crate::mistake::{Mistake, shown};
use crate::presets::{self, IndexKey, Preset};
use crate::reader::Reader;
use crate::settings::StateListener;
use crate::words::{ListenerSessions, Merge};
use wayfarer_engine::session::Layout;

/// What a preset may be told, as in `state.keys[].NAME`.
const OPTIONS: [(&str, &str); 5] = [
    ("prefix", "state.keys[].prefix"),
    ("namespace", "state.keys[].namespace"),
    ("instance_name", "state.keys[].instance_name"),
    ("table", "state.keys[].table"),
    ("version", "state.keys[].version"),
];

/// A pattern, and whether a person wrote it.
struct Written {
    pattern: KeyPattern,
    by_preset: bool,
    origin: Origin,
}

/// The matcher of `state.keys`, and what its presets leave upstream.
pub(crate) fn keys(read: &mut Reader<'_>) -> (KeyMatcher, Vec<IndexKey>) {
    let mut found: Vec<Written> = Vec::new();
    let mut index_keys = Vec::new();
    for item in items(read, "state.keys") {
        let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
        let mut entry = Reader::new(&item.fields, &mut mistakes);
        let patterns = key_entry(&mut entry, &item.origin, &mut index_keys);
        #[cfg(test)]
        read.asked.append(&mut entry.asked);
        let origin = ["state.keys[].pattern", "state.keys[].preset"].into_iter().find_map(|key| item.fields.get(key));
        let origin = origin.map_or(&item.origin, |located| &located.origin);
        let by_preset = item.fields.contains_key("state.keys[].preset");
        let before = found.len();
        for pattern in patterns {
            let written = Written { pattern, by_preset, origin: origin.clone() };
            // Patterns of one preset are made for each other.
            let others = || found.iter().take(before);
            match others().find_map(|other| clash(&written, other)) {
                Some(mistake) => mistakes.push(mistake),
                None => warnings.extend(others().find_map(|other| overlap(&written, other))),
            }
            found.push(written);
        }
        mistakes.into_iter().for_each(|mistake| read.report(mistake));
        read.warnings.extend(warnings);
    }
    (KeyMatcher::new(found.into_iter().map(|written| written.pattern).collect()), index_keys)
}

fn place(origin: &Origin) -> String {
    origin.line.map_or_else(|| origin.file.clone(), |line| format!("line {line}"))
}

/// Why two patterns cannot stand beside each other.
fn clash(new: &Written, other: &Written) -> Option<Mistake> {
    let (pattern, first, place) = (&new.pattern, &other.pattern, place(&other.origin));
    if pattern.is_the_same_as(first) {
        let message = format!("`{}` takes the same keys as `{}` ({place})", pattern.text(), first.text());
        return Some(new.origin.mistake(message, "remove one, or give one of them longer text before and after {session}"));
    }
    let named = |pattern: &KeyPattern| pattern.variable().filter(|_| pattern.layout() == Layout::Key).map(str::to_owned);
    if !new.by_preset && !other.by_preset && named(pattern).is_some() && named(pattern) == named(first) {
        let message = format!("`{}` has the same variable as `{}` ({place})", pattern.text(), first.text());
        return Some(new.origin.mistake(message, "give each key of a session a variable of its own"));
    }
    None
}

/// The warning that some key is taken by both.
fn overlap(new: &Written, other: &Written) -> Option<Mistake> {
    let example = new.pattern.collides_with(&other.pattern)?;
    let both = KeyMatcher::new(vec![other.pattern.clone(), new.pattern.clone()]);
    let winner = both.classify(new.pattern.database().or(other.pattern.database()).unwrap_or(0), example.as_bytes())?.pattern;
    let winner = if winner == 0 { &other.pattern } else { &new.pattern };
    let (text, first, place) = (new.pattern.text(), other.pattern.text(), place(&other.origin));
    let message =
        format!("`{text}` and `{first}` ({place}) both take keys such as {}, which go to `{}`", shown(&example), winner.text());
    Some(new.origin.mistake(message, "if that is not meant, give one of them a shape, a database or more text"))
}

/// The patterns of one entry of `state.keys`.
fn key_entry(entry: &mut Reader<'_>, origin: &Origin, index_keys: &mut Vec<IndexKey>) -> Vec<KeyPattern> {
    let preset = entry.choice_word("state.keys[].preset");
    let layout = entry.choice::<Layout>("state.keys[].layout");
    let variable = entry.optional_text("state.keys[].variable");
    let database = entry.optional_number("state.keys[].database").and_then(|number| u32::try_from(number).ok());
    let merge = entry.choice::<Merge>("state.keys[].merge");
    let finished = |entry: &mut Reader<'_>, patterns: Vec<KeyPattern>| -> Vec<KeyPattern> {
        let patterns: Vec<_> = patterns.into_iter().map(|pattern| pattern.in_database(database)).collect();
        let Some(Merge::Members) = merge else { return patterns };
        let patterns: Vec<_> = patterns.into_iter().map(KeyPattern::merging).collect();
        if !patterns.is_empty() && !patterns.iter().any(KeyPattern::merges) {
            let origin = entry.origin_or("state.keys[].merge", origin);
            let remedy = "give the entry layout = \"json\", \"msgpack\" or \"php\", or remove merge";
            entry.report(origin.mistake("has no meaning here: such values have no members", remedy));
        }
        patterns
    };
    let options: Vec<(&str, Option<String>)> =
        OPTIONS.iter().map(|(name, key)| (*name, entry.optional_empty_text(key))).collect();
    let has = |entry: &Reader<'_>, key| entry.located(key).is_some();
    if has(entry, "state.keys[].preset") {
        let preset = preset.and_then(|name| presets::preset(&name));
        let Some((patterns, mut index)) = preset.map(|preset| of_preset(entry, origin, preset, &options)) else {
            return Vec::new();
        };
        index_keys.append(&mut index);
        return finished(entry, patterns);
    }
    for (name, key) in OPTIONS {
        if let Some(located) = entry.located(key) {
            let mistake = located.origin.mistake(format!("`{name}` is an option of presets"), "write it into the pattern");
            entry.report(mistake);
        }
    }
    if !has(entry, "state.keys[].pattern") {
        entry.report(origin.mistake(
            "has an entry without preset and pattern",
            "add preset = \"…\", or pattern = \"…{session}…\" and layout = \"…\"",
        ));
        return Vec::new();
    }
    if !has(entry, "state.keys[].layout") {
        let origin = entry.origin_or("state.keys[].pattern", origin);
        entry.report(origin.mistake(
            "has no layout",
            "add layout = \"hash\", \"key\", \"json\", \"msgpack\", \"php\" or \"opaque\" to this entry",
        ));
    }
    // The pattern is looked at even if the layout is wrong or missing, so that both mistakes are named at once.
    let variable_is_wrong = variable.is_none() && has(entry, "state.keys[].variable");
    let pattern = entry.parsed("state.keys[].pattern", |text| match layout {
        Some(layout) if !variable_is_wrong => KeyPattern::parse(text, layout, variable.as_deref()).map(Some),
        _ if text.contains("{variable") => KeyPattern::parse(text, Layout::Key, None).map(|_| None),
        _ => KeyPattern::parse(text, Layout::Hash, None).map(|_| None),
    });
    finished(entry, pattern.flatten().into_iter().collect())
}

/// The patterns of a preset with its options.
fn of_preset(
    entry: &mut Reader<'_>,
    origin: &Origin,
    preset: &Preset,
    options: &[(&str, Option<String>)],
) -> (Vec<KeyPattern>, Vec<IndexKey>) {
    let others = ["state.keys[].pattern", "state.keys[].layout", "state.keys[].variable"];
    if let Some(located) = others.into_iter().find_map(|key| entry.located(key)) {
        let mistake =
            located.origin.mistake("a preset has its own patterns and layouts", "make two entries of it, or remove this");
        entry.report(mistake);
    }
    for (name, key) in OPTIONS {
        if let Some(located) = entry.located(key)
            && !preset.option_names().contains(&name)
        {
            let known = match preset.option_names().as_slice() {
                [] => "it has none".to_owned(),
                names => format!("it has {}", names.join(", ")),
            };
            let mistake = located.origin.mistake(format!("`{name}` is no option of the preset {}", preset.name), known);
            entry.report(mistake);
        }
    }
    let given = |name: &str| options.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.clone());
    match preset.key_patterns(given).and_then(|patterns| Ok((patterns, preset.index_keys(given)?))) {
        Ok(of_it) => of_it,
        Err(complaint) => {
            let origin = entry.origin_or("state.keys[].preset", origin);
            entry.report(origin.mistake(complaint.message, complaint.remedy));
            (Vec::new(), Vec::new())
        }
    }
}

/// The listeners beside `state.listen`.
pub(crate) fn listeners(read: &mut Reader<'_>, keys: &KeyMatcher) -> Vec<StateListener> {
    let mut found = Vec::new();
    for item in items(read, "state.listener") {
        let mut mistakes = Vec::new();
        let mut entry = Reader::new(&item.fields, &mut mistakes);
        let listener = listener(&mut entry, item, keys);
        let of_all = |listener: &&StateListener| listener.sessions == ListenerSessions::All;
        // What another node forwards does not say through which listener it came.
        if let (Some(new), Some(other)) = (listener.as_ref().filter(of_all), found.iter().find(of_all))
            && new.keys != other.keys
        {
            let origin = entry.origin_or("state.listener[].layout", &item.origin);
            let message = "another listener with sessions = \"all\" has another layout";
            entry.report(origin.mistake(message, "give them the same layout"));
        }
        #[cfg(test)]
        read.asked.append(&mut entry.asked);
        mistakes.into_iter().for_each(|mistake| read.report(mistake));
        found.extend(listener);
    }
    found
}

fn listener(entry: &mut Reader<'_>, item: &Item, keys: &KeyMatcher) -> Option<StateListener> {
    let listen = entry.optional_listen_at("state.listener[].listen");
    let sessions = entry.choice("state.listener[].sessions").unwrap_or(ListenerSessions::Keys);
    let layout = entry.choice::<Layout>("state.listener[].layout");
    if entry.located("state.listener[].listen").is_none() {
        entry
            .report(item.origin.mistake("has an entry without an address", "add listen = \"127.0.0.1:PORT\", or \"unix:/PATH\""));
    }
    let keys = match (sessions, layout) {
        (ListenerSessions::Keys, None) => keys.clone(),
        (ListenerSessions::Keys, Some(_)) => {
            let origin = entry.origin_or("state.listener[].layout", &item.origin);
            entry.report(
                origin.mistake("has no meaning here: state.keys says the layouts", "add sessions = \"all\", or remove it"),
            );
            return None;
        }
        (ListenerSessions::All, layout) => match keys.and_everything(layout.unwrap_or(Layout::Opaque)) {
            Ok(keys) => keys,
            Err(_) => {
                let origin = entry.origin_or("state.listener[].layout", &item.origin);
                entry.report(origin.mistake("a whole key has no name for its variable", "write layout = \"opaque\""));
                return None;
            }
        },
    };
    Some(StateListener { listen: listen?, sessions, keys })
}

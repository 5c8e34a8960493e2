//! `wayfarer check --key K`: what a key is taken for, and why.
//!
//! It asks the matcher of the state face, so that its answer is the face's. It prints the session's id: whoever asks has typed it.
//! Called by `check`; `named` is the same for requests.
//!
//! Invariant: what it prints of bytes is on one line and without control characters.

use super::put;
use serde_json::{Value, json};
use wayfarer_settings::presets::{PRESETS, preset};
use wayfarer_settings::{KeyPattern, Layout, ListenerSessions, Settings, Word};

/// An answer for people, and the same for programs.
pub(super) struct Answer {
    pub lines: Vec<String>,
    pub json: Value,
    /// Whether something is wrong with what was asked about.
    pub wrong: bool,
}

pub(super) fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] })
        .collect()
}

pub(super) fn named(pattern: &KeyPattern) -> String {
    let database = pattern.database().map(|n| format!(" in database {n}")).unwrap_or_default();
    let of = pattern.preset().map(|name| format!(" (preset {name})")).unwrap_or_default();
    format!("`{}`{database}{of}", pattern.text())
}

fn layout_word(layout: Layout) -> &'static str {
    Layout::WORDS.iter().find(|(_, known)| *known == layout).map_or("?", |(word, _)| word)
}

/// What `key` of `database` is.
pub(super) fn key(settings: &Settings, database: u32, key: &str) -> Answer {
    let keys = &settings.state.keys;
    let found = keys.classify(database, key.as_bytes());
    let mut lines = vec![format!("key       {}", readable(key.as_bytes())), format!("database  {database}")];
    let mut json = json!({ "key": key, "database": database, "taken": found.is_some() });
    let winner = found.and_then(|found| Some((found, keys.patterns().get(found.pattern)?)));
    if let Some((found, pattern)) = winner {
        let variable = match found.variable {
            None => "each field of the hash".to_owned(),
            Some(name) if pattern.is_divided() => format!("each member of the value; {} if it cannot be divided", readable(name)),
            Some(name) => readable(name),
        };
        lines.push(format!("taken by  {}", named(pattern)));
        lines.extend(pattern.preset().and_then(preset).map(|preset| format!("library   {}", preset.library)));
        lines.push(format!("session   {}", readable(found.session)));
        lines.push(format!("variable  {variable}"));
        lines.push(format!("layout    {}", layout_word(found.layout)));
        put(&mut json, "pattern", pattern.text());
        put(&mut json, "preset", pattern.preset());
        put(&mut json, "session", readable(found.session));
        put(&mut json, "variable", found.variable.map(readable));
        put(&mut json, "layout", layout_word(found.layout));
    } else {
        lines.push("taken by  no pattern: it is no session's key, and goes to the upstream".to_owned());
        let all = settings.state.listeners.iter().filter(|more| more.sessions == ListenerSessions::All);
        let places: Vec<String> = all.map(|more| more.listen.to_string()).collect();
        for place in &places {
            lines.push(format!("but       on {place} (sessions = \"all\") it is a session, by its whole name"));
        }
        if !places.is_empty() {
            put(&mut json, "session_on", places);
        }
        if let Some(index) = settings.state.index_keys.iter().find(|index| index.takes(key.as_bytes())) {
            lines.push(format!("known as  {}: {} (preset {})", index.text, index.what, index.preset));
            put(&mut json, "index_of", index.preset);
        }
    }
    let mut missed: Vec<_> = keys.patterns().iter().filter_map(|p| Some((p, p.miss(database, key.as_bytes())?))).collect();
    missed.sort_by_key(|(_, miss)| std::cmp::Reverse(miss.fitted_bytes));
    for (at, (pattern, miss)) in missed.iter().enumerate() {
        let label = if at == 0 && winner.is_none() { "nearest  " } else { "not by   " };
        lines.push(format!("{label} {}: {}, after {} bytes that fit", named(pattern), miss.why, miss.fitted_bytes));
    }
    let beaten = keys.patterns().iter().filter(|p| p.miss(database, key.as_bytes()).is_none());
    for pattern in beaten.filter(|p| winner.is_some_and(|(_, w)| !std::ptr::eq(w, *p))) {
        lines.push(format!("not by    {}: it takes the key too, but is less specific or stands later", named(pattern)));
    }
    put(
        &mut json,
        "others",
        missed
            .iter()
            .map(|(p, m)| json!({ "pattern": p.text(), "why": m.why, "fitted_bytes": m.fitted_bytes }))
            .collect::<Vec<_>>(),
    );
    if winner.is_none() {
        unknown_library(database, key, settings, &mut lines, &mut json);
    }
    Answer { lines, json, wrong: false }
}

/// Presets that would take the key and are not in the configuration.
fn unknown_library(database: u32, key: &str, settings: &Settings, lines: &mut Vec<String>, json: &mut Value) {
    let in_use = |name: &str| settings.state.keys.patterns().iter().any(|p| p.preset() == Some(name));
    let would = |preset: &&wayfarer_settings::presets::Preset| {
        let patterns = preset.key_patterns(|_| None).unwrap_or_default();
        !in_use(preset.name) && patterns.iter().any(|p| p.miss(database, key.as_bytes()).is_none())
    };
    let names: Vec<&str> = PRESETS.iter().filter(would).map(|preset| preset.name).collect();
    if !names.is_empty() {
        lines.push(format!("would be  taken by the preset {}", names.join(", or ")));
        put(json, "presets", names);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::configuration::settings_with as settings;

    fn express() -> Settings {
        let keys =
            r#"state.keys=[{ preset = "connect-redis" }, { pattern = "sess:{session:uuid}:x", layout = "hash", database = 2 }]"#;
        settings(&[keys, "http.session.cookie=connect.sid"])
    }

    #[test]
    fn a_key_is_explained_by_the_pattern_that_takes_it_and_those_that_do_not() {
        let taken = key(&express(), 0, "sess:abc");
        let text = taken.lines.join("\n");
        assert!(text.contains("taken by  `sess:{session}` (preset connect-redis)"), "{text}");
        assert!(text.contains("session   abc\n") && text.contains("layout    json"), "{text}");
        assert!(
            text.contains("not by    `sess:{session:uuid}:x` in database 2: the pattern is for database 2, and this is 0"),
            "{text}"
        );
        assert_eq!((taken.json["session"].as_str(), taken.json["preset"].as_str()), (Some("abc"), Some("connect-redis")));
    }

    #[test]
    fn a_key_that_nobody_takes_is_told_the_nearest_pattern_and_preset() {
        let text = key(&express(), 0, "PHPREDIS_SESSION:29c6eddf09d603f7f228dd154f5f1867").lines.join("\n");
        assert!(text.contains("no pattern") && text.contains("nearest   `sess:{session}`"), "{text}");
        assert!(text.contains("would be  taken by the preset php"), "{text}");
        let spring = settings(&[r#"state.keys=[{ preset = "spring-session-indexed", namespace = "shop" }]"#]);
        let text = key(&spring, 0, "shop:expirations:1795251600000").lines.join("\n");
        assert!(text.contains("known as  shop:expirations:{any:digits}: the sessions that expire in one minute"), "{text}");
        assert!(!key(&spring, 0, "a\x1b[2J").lines.join("").contains('\x1b'));
        let all = settings(&[
            r#"state.listener=[{ listen = "unix:/run/all.sock", sessions = "all" }, { listen = "unix:/run/more.sock", sessions = "all" }]"#,
        ]);
        let found = key(&all, 0, "nobodys");
        for place in ["unix:/run/all.sock", "unix:/run/more.sock"] {
            assert!(found.lines.join("\n").contains(&format!("but       on {place} (sessions = \"all\")")), "{:?}", found.lines);
        }
        assert_eq!(found.json["session_on"], json!(["unix:/run/all.sock", "unix:/run/more.sock"]));
        assert_eq!(key(&express(), 0, "nobodys").json.get("session_on"), None);
    }
}

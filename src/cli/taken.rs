//! `wayfarer check --key K --cookie C`: what a key or a cookie is taken for, and why.
//!
//! It asks the matcher of the state face and the reader of the HTTP face, so that its answer is theirs. It prints the session's
//! id: whoever asks has typed it. Called by `check`.
//!
//! Invariant: what it prints of bytes is on one line and without control characters.

use super::put;
use serde_json::{Value, json};
use wayfarer_settings::cookie::CookieForm;
use wayfarer_settings::presets::{PRESETS, preset};
use wayfarer_settings::{KeyPattern, Layout, Settings, Word};

/// A cookie's value is at most this long; the HTTP face looks at no longer one.
const COOKIE_BYTES_MAX: usize = 4096;

/// An answer for people, and the same for programs.
pub(super) struct Answer {
    pub lines: Vec<String>,
    pub json: Value,
    /// Whether something is wrong with what was asked about.
    pub wrong: bool,
}

fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] })
        .collect()
}

fn named(pattern: &KeyPattern) -> String {
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

/// What a cookie (its value, or `name=value; …`) names.
pub(super) fn cookie(settings: &Settings, text: &str) -> Answer {
    let configured = settings.http.session.as_ref();
    let name = configured.map(|session| session.cookie.as_str());
    let value = name.and_then(|name| value_of(text, name)).unwrap_or(text);
    let form = configured.map(|session| CookieForm::from(session.codec));
    let form = form.or_else(|| {
        let presets = settings.state.keys.patterns().iter().filter_map(KeyPattern::preset);
        presets.filter_map(preset).map(|preset| preset.cookie_form).next()
    });
    let mut lines = Vec::new();
    match name {
        Some(name) => lines.push(format!("cookie    {name}")),
        None => lines.push("cookie    http.session.cookie is not set: the HTTP face reads none".to_owned()),
    }
    let form = form.unwrap_or(CookieForm::Plain);
    lines.push(format!("codec     {}", form.word()));
    let mut json = json!({ "codec": form.word(), "read_by_http_face": configured.is_some() });
    let id = if value.len() > COOKIE_BYTES_MAX {
        Err(format!("it is longer than {COOKIE_BYTES_MAX} bytes"))
    } else {
        form.id(value).and_then(|id| agreed(settings, value, id))
    };
    let id = match id {
        Ok(id) => id,
        Err(why) => {
            lines.push(format!("mistake   {why}"));
            put(&mut json, "mistake", why);
            lines.extend(hint(form, value));
            return Answer { lines, json, wrong: true };
        }
    };
    lines.push(format!("session   {}", readable(&id)));
    put(&mut json, "session", readable(&id));
    lines.extend(hint(form, value));
    let (mut places, mut reasons) = (Vec::new(), Vec::new());
    for pattern in settings.state.keys.patterns() {
        match pattern.key_of(&id) {
            Ok(key) => places.push((readable(&key), named(pattern))),
            Err(why) => reasons.push(format!("{}: {why}", named(pattern))),
        }
    }
    lines.extend(places.iter().map(|(key, pattern)| format!("in Redis  {key}  by {pattern}")));
    put(&mut json, "keys", places.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>());
    if places.is_empty() {
        lines.push("mistake   no pattern of state.keys could hold this id".to_owned());
        lines.extend(reasons.iter().map(|reason| format!("          {reason}")));
        put(&mut json, "mistake", "no pattern of state.keys could hold this id");
    }
    Answer { lines, json, wrong: places.is_empty() }
}

/// The id, if the HTTP face reads the same; it is the one that counts.
fn agreed(settings: &Settings, value: &str, id: Vec<u8>) -> Result<Vec<u8>, String> {
    let Some(session) = &settings.http.session else { return Ok(id) };
    let codec = match session.codec {
        wayfarer_settings::Codec::Plain => wayfarer_http_face::Codec::Plain,
        wayfarer_settings::Codec::Express => wayfarer_http_face::Codec::Express,
    };
    let cookie = wayfarer_http_face::SessionCookie { name: session.cookie.clone(), codec };
    let header = format!("{}={value}", session.cookie);
    match wayfarer_http_face::identity::session_of([header.as_bytes()], &cookie) {
        Some(read) => Ok(read.into_owned()),
        None => Err("the HTTP face finds no session in it: it ends at a `;`, or the id is too long".to_owned()),
    }
}

/// The value of cookie `name` in `name=value; other=…`.
fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split(';').find_map(|pair| pair.split_once('=').filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()))
}

/// What the value looks like, if that is another form.
fn hint(form: CookieForm, value: &str) -> Option<String> {
    let signed = value.starts_with("s:") || value.starts_with("s%3A") || value.starts_with("s%3a");
    if signed && form != CookieForm::Express {
        return Some("looks     signed as express-session does: codec = \"express\"".to_owned());
    }
    let text = CookieForm::Base64.id(value).ok().and_then(|id| String::from_utf8(id).ok());
    let uuid = text.filter(|text| wayfarer_settings::IdShape::of(text.as_bytes()).is_some_and(|s| s.to_string() == "uuid"));
    (form != CookieForm::Base64 && uuid.is_some()).then(|| {
        "looks     like base64 of a UUID, as Spring Session writes it; the HTTP face cannot read that form yet".to_owned()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use wayfarer_settings::Sources;

    fn settings(overrides: &[&str]) -> Settings {
        let overrides = overrides.iter().map(|s| (*s).to_owned()).collect();
        Settings::load(&Sources { overrides, host_name: "h".to_owned(), ..Sources::default() }).unwrap().settings
    }

    fn express() -> Settings {
        let keys =
            r#"state.keys=[{ preset = "connect-redis" }, { pattern = "sess:{session:uuid}:x", layout = "hash", database = 2 }]"#;
        settings(&[keys, "http.session.cookie=connect.sid", "http.session.codec=express"])
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
    }

    #[test]
    fn a_cookie_names_its_session_and_its_keys() {
        let answer = cookie(&express(), "theme=dark; connect.sid=s%3Aabc.sig");
        let text = answer.lines.join("\n");
        assert!(!answer.wrong && text.contains("session   abc\n") && text.contains("in Redis  sess:abc  by"), "{text}");
        assert_eq!(answer.json["keys"], json!(["sess:abc"]));
        let unsigned = cookie(&express(), "s%3Aabc");
        assert!(unsigned.wrong && unsigned.lines.join("\n").contains("mistake   the signature is missing"));
        let plain = settings(&["http.session.cookie=sid"]);
        assert!(cookie(&plain, "s%3Aabc.sig").lines.join("\n").contains("codec = \"express\""));
        let shaped = settings(&["http.session.cookie=sid", r#"state.keys=[{ preset = "koa-session" }]"#]);
        let answer = cookie(&shaped, "abc");
        assert!(answer.wrong && answer.lines.join("\n").contains("no pattern of state.keys could hold this id"));
        let spring = settings(&[r#"state.keys=[{ preset = "spring-session" }]"#]);
        let text = cookie(&spring, "NzQ3YjkxYmUtZTI4NS00MTliLTgzYjctN2UyNDNmMzliMGYw").lines.join("\n");
        assert!(text.contains("spring:session:sessions:747b91be-e285-419b-83b7-7e243f39b0f0"), "{text}");
    }
}

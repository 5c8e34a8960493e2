//! `wayfarer check --cookie C --header H --path P --bearer T`: which session such a request names, and why none.
//!
//! It asks the sources that the HTTP face asks, so that its answer is the face's. It prints the session's id: whoever asks has typed
//! it; a secret is never printed. Called by `check`.
//!
//! Invariant: what it prints of bytes is on one line and without control characters.

use super::put;
use super::taken::{Answer, named, readable};
use clap::Args;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use wayfarer_identity::{Asked, Codec, Place, Source, Why};
use wayfarer_settings::presets::preset;
use wayfarer_settings::{IdShape, KeyPattern, Settings, Word};

/// A request, as far as it names a session.
#[derive(Args)]
pub(super) struct RequestArgs {
    /// Say which session a request with this cookie names (its value, or the whole header), and which key that is
    #[arg(long, value_name = "COOKIE")]
    cookie: Option<String>,
    /// Say which session a request with this header names
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Say which session a request for this path (with its query) names
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Say which session a request with this bearer token names
    #[arg(long, value_name = "TOKEN")]
    bearer: Option<String>,
}

impl RequestArgs {
    /// Whether there is anything to explain.
    pub(super) fn is_given(&self) -> bool {
        self.cookie.is_some() || !self.header.is_empty() || self.path.is_some() || self.bearer.is_some()
    }

    fn headers(&self, sources: &[Source]) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        let mut add = |name: HeaderName, value: &str| match HeaderValue::from_bytes(value.as_bytes()) {
            Ok(value) => {
                headers.append(name, value);
                Ok(())
            }
            Err(_) => Err(format!("the value of {name} has control characters")),
        };
        for text in &self.header {
            let (name, value) = text.split_once(':').ok_or("a header is written NAME: VALUE")?;
            add(HeaderName::try_from(name.trim()).map_err(|_| "that is no name of a header")?, value.trim())?;
        }
        if let Some(token) = &self.bearer {
            add(AUTHORIZATION, &format!("Bearer {token}"))?;
        }
        if let Some(text) = &self.cookie {
            let names: Vec<&str> = sources.iter().filter_map(|source| cookie_name(&source.place)).collect();
            let is_header =
                text.split(';').any(|pair| pair.split_once('=').is_some_and(|(name, _)| names.contains(&name.trim())));
            let values = if is_header { vec![text.clone()] } else { names.iter().map(|name| format!("{name}={text}")).collect() };
            values.iter().try_for_each(|value| add(COOKIE, value))?;
        }
        Ok(headers)
    }
}

fn cookie_name(place: &Place) -> Option<&str> {
    if let Place::Cookie(name) = place { Some(name) } else { None }
}

fn described(source: &Source) -> String {
    let place = match &source.place {
        Place::Cookie(name) => format!("cookie {name}"),
        Place::Header(name) => format!("header {name}"),
        Place::Query(name) => format!("query parameter {name}"),
        Place::Path(template) => format!("path {}", template.text()),
        Place::Bearer(claim) => format!("claim {claim} of a bearer token"),
    };
    let checked = if source.secrets.is_empty() { "" } else { ", signature checked" };
    format!("{place}, codec {}{checked}", source.codec.word())
}

/// The sources of the settings; without any, the cookie of a preset in use, and its name.
fn sources(settings: &Settings) -> (Vec<Source>, Option<&'static str>) {
    let configured = settings.http.session.sources();
    if !configured.is_empty() {
        return (configured.to_vec(), None);
    }
    let presets = settings.state.keys.patterns().iter().filter_map(KeyPattern::preset).filter_map(preset);
    let known = presets.filter_map(|preset| Some((preset.name, preset.cookie, preset.codec?))).next();
    let (name, cookie, codec) = known.unwrap_or(("", "sid", Codec::Plain));
    (vec![Source::new(Place::Cookie(cookie.to_owned()), codec)], Some(name))
}

/// What a request names.
pub(super) fn request(settings: &Settings, args: &RequestArgs) -> Answer {
    let (sources, preset) = sources(settings);
    let mut lines = Vec::new();
    let mut json = json!({ "read_by_http_face": preset.is_none() });
    if let Some(preset) = preset {
        let of = if preset.is_empty() { String::new() } else { format!(" by the preset {preset}") };
        lines.push(format!("source    http.session is not set: the HTTP face reads none{of}"));
    }
    let headers = match args.headers(&sources) {
        Ok(headers) => headers,
        Err(why) => return mistaken(lines, json, why),
    };
    let target = args.path.as_deref().unwrap_or("/");
    let asked = Asked { target: target.as_bytes(), headers: &headers };
    let mut found: Option<Vec<u8>> = None;
    let mut reasons: Vec<Why> = Vec::new();
    let mut each: Vec<Value> = Vec::new();
    for source in &sources {
        let outcome = source.of_request(asked);
        let described = described(source);
        let word = match &outcome {
            Ok(id) => format!("names {}", readable(id)),
            Err(why) => why.to_string(),
        };
        each.push(json!({ "source": described, "outcome": word }));
        lines.push(format!("source    {described}: {word}"));
        match outcome {
            Ok(id) if found.is_none() => found = Some(id.into_owned()),
            Ok(_) => {}
            Err(why) => reasons.push(why),
        }
    }
    put(&mut json, "sources", each);
    lines.extend(hint(&sources, args));
    let Some(id) = found else {
        let why = match reasons.as_slice() {
            [why] => why.to_string(),
            _ => "no source names a session".to_owned(),
        };
        return mistaken(lines, json, why);
    };
    lines.push(format!("session   {}", readable(&id)));
    put(&mut json, "session", readable(&id));
    places(settings, &id, lines, json)
}

fn mistaken(mut lines: Vec<String>, mut json: Value, why: String) -> Answer {
    lines.push(format!("mistake   {why}"));
    put(&mut json, "mistake", why);
    Answer { lines, json, wrong: true }
}

/// The keys that hold session `id`.
fn places(settings: &Settings, id: &[u8], mut lines: Vec<String>, mut json: Value) -> Answer {
    let (mut keys, mut reasons) = (Vec::new(), Vec::new());
    for pattern in settings.state.every_key().patterns() {
        match pattern.key_of(id) {
            Ok(key) => keys.push((readable(&key), named(pattern))),
            Err(why) => reasons.push(format!("{}: {why}", named(pattern))),
        }
    }
    lines.extend(keys.iter().map(|(key, pattern)| format!("in Redis  {key}  by {pattern}")));
    put(&mut json, "keys", keys.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>());
    if !keys.is_empty() {
        return Answer { lines, json, wrong: false };
    }
    let mut answer = mistaken(lines, json, "no pattern of state.keys could hold this id".to_owned());
    answer.lines.extend(reasons.iter().map(|reason| format!("          {reason}")));
    answer
}

/// What the cookie looks like, if that is another form than the one that is read.
fn hint(sources: &[Source], args: &RequestArgs) -> Option<String> {
    let text = args.cookie.as_deref()?;
    let value = text.split_once('=').filter(|(name, _)| sources.iter().any(|s| cookie_name(&s.place) == Some(name.trim())));
    let value = value.map_or(text, |(_, value)| value);
    let read_as = |codec: Codec| sources.iter().any(|source| source.codec == codec);
    let signed = ["s:", "s%3A", "s%3a"].iter().any(|start| value.starts_with(start));
    if signed && !read_as(Codec::Express) {
        return Some("looks     signed as express-session does: codec = \"express\"".to_owned());
    }
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, HeaderValue::from_str(&format!("a={value}")).ok()?);
    let spring = Source::new(Place::Cookie("a".to_owned()), Codec::Spring);
    let id = spring.of_request(Asked { target: b"/", headers: &headers }).ok()?;
    let is_uuid = IdShape::of(&id).is_some_and(|shape| shape.to_string() == "uuid");
    (is_uuid && !read_as(Codec::Spring))
        .then(|| "looks     like base64 of a UUID, as Spring Session writes it: codec = \"spring\"".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::configuration::settings_with as settings;

    fn express() -> Settings {
        settings(&[
            r#"state.keys=[{ preset = "connect-redis" }]"#,
            "http.session.cookie=connect.sid",
            "http.session.codec=express",
        ])
    }

    fn nothing() -> RequestArgs {
        RequestArgs { cookie: None, header: Vec::new(), path: None, bearer: None }
    }

    fn cookie(settings: &Settings, text: &str) -> Answer {
        request(settings, &RequestArgs { cookie: Some(text.to_owned()), ..nothing() })
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
        assert!(cookie(&shaped, "a\nb").wrong);
    }

    #[test]
    fn without_a_setting_the_preset_says_how_it_is_written() {
        let spring = settings(&[r#"state.keys=[{ preset = "spring-session" }]"#]);
        let answer = cookie(&spring, "NzQ3YjkxYmUtZTI4NS00MTliLTgzYjctN2UyNDNmMzliMGYw");
        let text = answer.lines.join("\n");
        assert!(text.contains("spring:session:sessions:747b91be-e285-419b-83b7-7e243f39b0f0"), "{text}");
        assert_eq!(answer.json["read_by_http_face"], json!(false));
        let plain = settings(&["http.session.cookie=sid"]);
        let text = cookie(&plain, "sid=NzQ3YjkxYmUtZTI4NS00MTliLTgzYjctN2UyNDNmMzliMGYw").lines.join("\n");
        assert!(text.contains("codec = \"spring\""), "{text}");
    }

    #[test]
    fn every_source_says_what_it_finds() {
        let several = settings(&[
            r#"http.session=[{ cookie = "sid", codec = "express", secret = "hunter2" }, { header = "x-sid" }, { path = "/s/{session}" }, { bearer = "sub" }]"#,
        ]);
        let args = RequestArgs {
            cookie: Some("sid=s:abc.forged".to_owned()),
            header: vec!["X-Sid: from-header".to_owned()],
            path: Some("/s/from-path".to_owned()),
            ..nothing()
        };
        let answer = request(&several, &args);
        let text = answer.lines.join("\n");
        assert!(
            text.contains("source    cookie sid, codec express, signature checked: the signature is by none of the secrets"),
            "{text}"
        );
        assert!(text.contains("source    header x-sid, codec plain: names from-header"), "{text}");
        assert!(text.contains("source    path /s/{session}, codec plain: names from-path"), "{text}");
        assert!(text.contains("claim sub of a bearer token, codec plain: it is not there"), "{text}");
        assert!(text.contains("session   from-header\n") && !text.contains("hunter2"), "{text}");
        let none = request(&several, &RequestArgs { bearer: Some("a.b.c".to_owned()), ..nothing() });
        assert!(none.wrong && none.lines.join("\n").contains("mistake   no source names a session"));
    }
}

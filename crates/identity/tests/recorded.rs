//! Cookies that real frameworks wrote (`recorded.tsv`): each names the session under which its framework stored it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use std::collections::BTreeSet;
use wayfarer_identity::{Asked, Codec, Identity, Learned, Place, Secrets, Source, Why};

struct Recorded<'a> {
    by: &'a str,
    codec: Codec,
    secret: &'a str,
    name: &'a str,
    set_cookie: &'a str,
    cookie: &'a str,
    id: &'a str,
}

fn recorded() -> Vec<Recorded<'static>> {
    let lines = include_str!("recorded.tsv").lines().filter(|line| !line.starts_with('#'));
    let read = |line: &'static str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [by, codec, secret, set_cookie, id] = columns.as_slice() else { panic!("{line}") };
        let codec = match *codec {
            "plain" => Codec::Plain,
            "express" => Codec::Express,
            "fastify" => Codec::Fastify,
            "django" => Codec::Django,
            "php" => Codec::Php,
            "rack" => Codec::Rack,
            other => panic!("{other}"),
        };
        let cookie = set_cookie.split(';').next().unwrap();
        let name = cookie.split_once('=').unwrap().0;
        // The presets' patterns have Rack's `2::` before the id.
        Recorded { by, codec, secret, name, set_cookie, cookie, id: id.trim_start_matches("2::") }
    };
    lines.map(read).collect()
}

fn source(of: &Recorded<'_>, secrets: &[&str]) -> Source {
    Source { secrets: Secrets::new(secrets.iter().copied()), ..Source::new(Place::Cookie(of.name.to_owned()), of.codec) }
}

fn id(source: &Source, cookie: &str) -> Result<String, Why> {
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, HeaderValue::from_str(&format!("theme=dark; {cookie}; _ga=GA1.2.3")).unwrap());
    source.of_request(Asked { target: b"/", headers: &headers }).map(|id| String::from_utf8(id.into_owned()).unwrap())
}

#[test]
fn each_names_the_session_of_its_store() {
    let all = recorded();
    for one in &all {
        assert_eq!(id(&source(one, &[]), one.cookie), Ok(one.id.to_owned()), "{}", one.by);
        let mut headers = HeaderMap::new();
        headers.insert(SET_COOKIE, HeaderValue::from_static(one.set_cookie));
        let identity = Identity::new(vec![source(one, &[])]);
        assert!(identity.of_answer(&headers) == Some(Learned::Has(one.id.as_bytes().into())), "{}", one.by);
    }
    let libraries: BTreeSet<&str> = all.iter().map(|one| one.by.split(' ').next().unwrap()).collect();
    assert_eq!(
        libraries.into_iter().collect::<Vec<_>>(),
        ["@fastify/session", "Django", "Flask-Session", "PHP", "Rack", "express-session"]
    );
}

#[test]
fn signatures_are_those_of_the_frameworks() {
    let signed: Vec<_> = recorded().into_iter().filter(|one| !one.secret.is_empty()).collect();
    assert!(signed.len() >= 8);
    for one in &signed {
        assert_eq!(id(&source(one, &[one.secret]), one.cookie), Ok(one.id.to_owned()), "{}", one.by);
        assert_eq!(id(&source(one, &["another", one.secret]), one.cookie), Ok(one.id.to_owned()), "{}", one.by);
        assert_eq!(id(&source(one, &["another"]), one.cookie), Err(Why::Forged), "{}", one.by);
        let swapped = one.cookie.replace(&one.id[..1], if one.id.starts_with('A') { "B" } else { "A" });
        let forged = id(&source(one, &[one.secret]), &swapped.replacen(&swapped[..one.name.len()], one.name, 1));
        assert!(forged.is_err(), "{}", one.by);
    }
}

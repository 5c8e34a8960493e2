//! Tests of the presets: real keys of each library are taken for what they are, what lies beside them is not taken.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::keys::KeyMatcher;
use crate::{Settings, Sources};

const UUID: &str = "747b91be-e285-419b-83b7-7e243f39b0f0";
const SHA: &str = "ec1c726987b60c48ea3dc528f0c4ac491c98ae4c669cb45c868d02e40c3f7a4a";
const HEX: &str = "29c6eddf09d603f7f228dd154f5f1867";
const SHA1: &str = "0123456789abcdef0123456789abcdef01234567";
const ALNUM_40: &str = "dBjftJeZ4CVPmB92K27uhbUJU1p1rQwTdBjftJeZ";
const ALNUM_52: &str = "QSWMW28ASVPES4J1HDVNFUA0IAATLNZQSWMW28ASVPES4J1HDVNF";
const ALNUM_64: &str = "q4SWmw28asVpes4J1hdVNfuA0iAatLNZq4SWmw28asVpes4J1hdVNfuA0iAatLNZ";

/// preset · options · keys that it takes, as `key > session > variable` (`-`: by the value) · keys that it leaves alone.
/// `U`, `S`, `H`, `C`, `A`, `B`, `D` in angle brackets stand for the ids above.
const EXAMPLES: &[(&str, &str, &[&str], &[&str])] = &[
    (
        "connect-redis",
        "",
        &["sess:q4SWmw28asVpes4J1hdVNfuA0iAatLNZ > q4SWmw28asVpes4J1hdVNfuA0iAatLNZ > session"],
        &["sess", "session:1", "sess:"],
    ),
    ("connect-redis", r#", prefix = "my{app}:""#, &["my{app}:abc > abc > session"], &["sess:abc"]),
    (
        "fastify-session",
        "",
        &["sess:ejYhuGgiNIZ7EgLHgSE-dd1NmpT0rEnP > ejYhuGgiNIZ7EgLHgSE-dd1NmpT0rEnP > session"],
        &["queue:1"],
    ),
    ("koa-session", "", &["<U> > <U> > session"], &["koa:sess:<U>", "<H>", "cache:<U>"]),
    ("koa-generic-session", "", &["koa:sess:abc > abc > session"], &["<U>"]),
    (
        "django",
        "",
        &[
            ":1:django.contrib.sessions.cachepmqcw003xizqfdx85pq6rzjpqm3gj0ol > pmqcw003xizqfdx85pq6rzjpqm3gj0ol > session",
            ":1:django.contrib.sessions.cached_dbpmqcw003xizqfdx85pq6rzjpqm3gj0ol > pmqcw003xizqfdx85pq6rzjpqm3gj0ol > session",
        ],
        &[
            ":1:views.decorators.cache.x",
            ":1:django.contrib.sessions.cache",
            ":2:django.contrib.sessions.cachepmqcw003xizqfdx85pq6rzjpqm3gj0ol",
        ],
    ),
    (
        "django-redis",
        r#", prefix = "shop", version = "2""#,
        &["shop:2:django.contrib.sessions.cache4zq3pdztt5r9cyx7acfsyfs30cy21493 > 4zq3pdztt5r9cyx7acfsyfs30cy21493 > session"],
        &[":1:django.contrib.sessions.cache4zq3pdztt5r9cyx7acfsyfs30cy21493"],
    ),
    (
        "flask-session",
        "",
        &["session:mUhECYa5qRbBMd4c5X2p89wIPK_JNIms_rE1xeX9Cao > mUhECYa5qRbBMd4c5X2p89wIPK_JNIms_rE1xeX9Cao > session"],
        &["sessions:a", "scs:session:a"],
    ),
    ("flask-session-json", "", &["session:<U> > <U> > session"], &["flask_cache_x"]),
    (
        "starsessions",
        "",
        &["starsessions.f414f4153ec82050476994c75b2c44e2 > f414f4153ec82050476994c75b2c44e2 > session"],
        &["starsessions"],
    ),
    ("starlette-session", "", &["<U> > <U> > session"], &["<H>", "x<U>"]),
    ("aiohttp-session", "", &["AIOHTTP_SESSION_<H> > <H> > session"], &["AIOHTTP_SESSION_x", "AIOHTTP_SESSION"]),
    ("sanic-session", "", &["session:<H> > <H> > session"], &["sanic:<H>"]),
    ("php", "", &["PHPREDIS_SESSION:<H> > <H> > session", "PHPREDIS_SESSION:<H>_LOCK > <H> > lock"], &["phpredis_session:<H>"]),
    (
        "php",
        r#", prefix = "APP:", database = 1"#,
        &["APP:<H> > <H> > session", "APP:<H>_LOCK > <H> > lock"],
        &["PHPREDIS_SESSION:<H>"],
    ),
    ("symfony", "", &["sf_sabc > abc > session"], &["sf_"]),
    (
        "laravel",
        "",
        &["laravel_database_laravel_cache_<A> > <A> > session"],
        &["laravel_database_laravel_cache_users", "laravel_database_laravel_cache_<A>:timer"],
    ),
    ("redis-rack", "", &["rack:session:2::<S> > <S> > session"], &["rack:session:<S>", "2::<S>"]),
    ("redis-rack", r#", prefix = """#, &["2::<S> > <S> > session"], &["rack:session:2::<S>", "<S>"]),
    ("redistore", "", &["session_<B> > <B> > session"], &["session_x"]),
    ("redisstore", "", &["session:<B> > <B> > session"], &["session_<B>"]),
    (
        "scs",
        "",
        &["scs:session:mUhECYa5qRbBMd4c5X2p89wIPK_JNIms_rE1xeX9Cao > mUhECYa5qRbBMd4c5X2p89wIPK_JNIms_rE1xeX9Cao > session"],
        &["session:a"],
    ),
    (
        "tower-sessions",
        "",
        &["fk2OnoYjFJchOMpnY6ncdQ > fk2OnoYjFJchOMpnY6ncdQ > session"],
        &["fk2OnoYjFJchOMpnY6ncd", "users", "<U>"],
    ),
    ("actix-session", "", &["<D> > <D> > session"], &["<A>", "job:<D>"]),
    ("axum-session", "", &["sessions:<U> > <U> > session"], &["sessions:x", "<U>"]),
    ("axum-session", r#", table = "web""#, &["web:<U> > <U> > session"], &["sessions:<U>"]),
    ("aspnetcore", "", &["<U> > <U> > -"], &["products", "shop<U>"]),
    ("aspnetcore", r#", instance_name = "shop""#, &["shop<U> > <U> > -"], &["<U>", "shopproducts"]),
    (
        "redisson-tomcat",
        r#", prefix = "x:""#,
        &["x:redisson:tomcat_session:<H>.node1 > <H>.node1 > -", "x:redisson:tomcat_notified_nodes:<H> > <H> > notified_nodes"],
        &["x:redisson:tomcat_session_updates", "redisson:tomcat_session:<H>"],
    ),
    ("jcoleman-tomcat", "", &["<H> > <H> > session"], &["<U>", "<H>.node1"]),
    (
        "spring-session",
        "",
        &["spring:session:sessions:<U> > <U> > -"],
        &["spring:session:sessions:expires:<U>", "spring:session:sessions:expirations"],
    ),
    (
        "spring-session-indexed",
        "",
        &["spring:session:sessions:<U> > <U> > -", "spring:session:sessions:expires:<U> > <U> > expires"],
        &[
            "spring:session:expirations:1795251600000",
            "spring:session:sessions:expirations",
            "spring:session:index:org.springframework.session.FindByIndexNameSessionRepository.PRINCIPAL_NAME_INDEX_NAME:al",
        ],
    ),
    ("spring-session", r#", namespace = "{shop}""#, &["{shop}:sessions:<U> > <U> > -"], &["spring:session:sessions:<U>"]),
    ("catalyst", "", &["session:<C> > <C> > session", "expires:<C> > <C> > expires", "flash:<C> > <C> > flash"], &["session:x"]),
    ("remix", r#", prefix = "remix:""#, &["remix:abc > abc > session"], &["abc"]),
    ("unstorage", r#", prefix = "app:sessions:""#, &["app:sessions:<U> > <U> > session"], &["app:cache:x"]),
];

fn with_ids(text: &str) -> String {
    [("U", UUID), ("S", SHA), ("H", HEX), ("C", SHA1), ("A", ALNUM_40), ("B", ALNUM_52), ("D", ALNUM_64)]
        .iter()
        .fold(text.to_owned(), |text, (name, id)| text.replace(&format!("<{name}>"), id))
}

fn matcher_of(preset: &str, options: &str) -> KeyMatcher {
    let overrides = vec![format!("state.keys=[{{ preset = \"{preset}\"{options} }}]")];
    match Settings::load(&Sources { overrides, host_name: "host".to_owned(), ..Sources::default() }) {
        Ok(loaded) => loaded.settings.state.keys,
        Err(mistakes) => panic!("{preset}: {mistakes:?}"),
    }
}

#[test]
fn every_preset_takes_real_keys_of_its_library_and_nothing_beside_them() {
    for (preset, options, taken, left) in EXAMPLES {
        let matcher = matcher_of(preset, options);
        let database = matcher.patterns().first().and_then(KeyPattern::database).unwrap_or(7);
        for example in *taken {
            let example = with_ids(example);
            let [key, session, variable] = example.split(" > ").collect::<Vec<_>>().try_into().unwrap();
            let found = matcher.classify(database, key.as_bytes()).unwrap_or_else(|| panic!("{preset} does not take {key}"));
            assert_eq!(found.session, session.as_bytes(), "{preset} {key}");
            assert_eq!(found.variable.unwrap_or(b"-"), variable.as_bytes(), "{preset} {key}");
        }
        for key in *left {
            assert!(matcher.classify(database, with_ids(key).as_bytes()).is_none(), "{preset} takes {key}");
        }
    }
    for preset in PRESETS {
        let of_it = EXAMPLES.iter().filter(|(name, ..)| *name == preset.name).flat_map(|(_, _, taken, _)| taken.iter());
        assert!(of_it.count() >= preset.patterns.len().min(1), "no example of {}", preset.name);
    }
}

#[test]
fn no_preset_is_at_odds_with_itself_and_its_index_keys_stay_upstream() {
    for preset in PRESETS {
        let given = |name: &str| (name == "prefix").then(|| "needed:".to_owned());
        let patterns = preset.key_patterns(given).unwrap();
        for (i, a) in patterns.iter().enumerate() {
            for b in patterns.iter().skip(i + 1) {
                assert_eq!(a.collides_with(b), None, "{} and {}", a.text(), b.text());
            }
        }
        let matcher = KeyMatcher::new(patterns);
        for index in preset.index {
            let text = preset.filled_in(index.pattern, given).unwrap();
            let key = text.replace("{any:digits}", "1795251600000").replace("{any}", "some:thing");
            let named = preset.index_keys(given).unwrap().into_iter().find(|index| index.takes(key.as_bytes()));
            assert_eq!(named.map(|named| named.what), Some(index.what));
            assert!(matcher.classify(0, key.as_bytes()).is_none(), "{key}");
        }
        assert!(
            preset.option_names().iter().all(|name| ["prefix", "namespace", "instance_name", "table", "version"].contains(name))
        );
    }
}

#[test]
fn wrong_options_are_named() {
    let mistake = |entry: &str| {
        let overrides = vec![format!("state.keys=[{entry}]")];
        let found = Settings::load(&Sources { overrides, host_name: "host".to_owned(), ..Sources::default() }).unwrap_err();
        found.iter().map(|m| format!("{m}\n")).collect::<String>()
    };
    assert!(mistake(r#"{ preset = "remix" }"#).contains("the preset remix needs prefix; add prefix = \"…\""));
    assert!(
        mistake(r#"{ preset = "catalyst", prefix = "x" }"#).contains("`prefix` is no option of the preset catalyst; it has none")
    );
    assert!(mistake(r#"{ preset = "django", table = "x" }"#).contains("it has prefix, version"));
    assert!(mistake(r#"{ pattern = "{session}", layout = "hash", prefix = "x" }"#).contains("`prefix` is an option of presets"));
    assert!(mistake(r#"{ preset = "php" }, { preset = "php" }"#).contains("takes the same keys"));
    assert!(mistake(r#"{ preset = "flask-session" }, { preset = "sanic-session" }"#).contains("takes the same keys"));
    let long = "x".repeat(129);
    assert!(mistake(&format!("{{ preset = \"php\", prefix = \"{long}\" }}")).contains("129 bytes"));
}

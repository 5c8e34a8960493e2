//! Tests of the key patterns: what is taken, which of two patterns wins, what is refused, and no panic on any bytes.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

fn matcher(patterns: &[(&str, Layout, Option<&str>)]) -> KeyMatcher {
    KeyMatcher::new(patterns.iter().map(|(text, layout, name)| KeyPattern::parse(text, *layout, *name).unwrap()).collect())
}

/// What a key is taken for, as text: `pattern session variable`.
fn taken(matcher: &KeyMatcher, key: &str) -> String {
    matcher.classify(0, key.as_bytes()).map_or("none".to_owned(), |m| {
        let variable = m.variable.map_or("-".into(), |v| String::from_utf8_lossy(v).into_owned());
        format!("{} {} {variable}", m.pattern, String::from_utf8_lossy(m.session))
    })
}

#[test]
fn the_session_is_what_stands_between_prefix_and_suffix() {
    let m = matcher(&[
        ("sess:{session}", Layout::Json, None),
        ("cart:{session}", Layout::Key, Some("cart")),
        ("{session}#tail", Layout::Opaque, None),
        ("u:{session}:v:{variable}!", Layout::Key, None),
    ]);
    assert_eq!(taken(&m, "sess:42"), "0 42 session");
    assert_eq!(taken(&m, "cart:42"), "1 42 cart");
    assert_eq!(taken(&m, "42#tail"), "2 42 session");
    assert_eq!(taken(&m, "u:42:v:theme!"), "3 42 theme");
    assert_eq!(taken(&m, "u:42:v:a:v:b!"), "3 42 a:v:b");
    for none in ["sess:", "", "ses:42", "#tail", "u:42:v:!", "u::v:x!", "u:42!", "other"] {
        assert_eq!(taken(&m, none), "none", "{none}");
    }
}

#[test]
fn overlapping_prefix_and_suffix_do_not_share_bytes() {
    let m = matcher(&[("aba{session}ba", Layout::Hash, None)]);
    assert_eq!(taken(&m, "aba"), "none");
    assert_eq!(taken(&m, "ababa"), "none");
    assert_eq!(taken(&m, "abaxba"), "0 x -");
}

#[test]
fn the_more_specific_pattern_wins_in_whatever_order_they_stand() {
    let m = matcher(&[
        ("s:{session}", Layout::Hash, None),
        ("s:{session}:lock", Layout::Key, Some("lock")),
        ("s:{session}:{variable}", Layout::Key, None),
        ("s:special:{session}", Layout::Opaque, None),
    ]);
    assert_eq!(taken(&m, "s:1"), "0 1 -");
    assert_eq!(taken(&m, "s:1:lock"), "1 1 lock");
    assert_eq!(taken(&m, "s:1:cart"), "2 1 cart");
    assert_eq!(taken(&m, "s:special:1"), "3 1 session");
}

#[test]
fn patterns_collide_only_if_neither_is_a_special_case_and_a_key_shows_it() {
    let common = |a: &str, b: &str| {
        let parse = |text: &str| {
            let name = (!text.contains("{variable}")).then_some("v");
            KeyPattern::parse(text, Layout::Key, name).unwrap()
        };
        assert_eq!(parse(a).collides_with(&parse(b)).is_some(), parse(b).collides_with(&parse(a)).is_some(), "{a} {b}");
        parse(a).collides_with(&parse(b))
    };
    assert_eq!(common("s:{session}", "s:{session}").as_deref(), Some("s:a"));
    assert_eq!(common("s:{session}", "{session}:x").as_deref(), Some("s:x"));
    assert_eq!(common("s:{session}:{variable}", "s:{session}#{variable}").as_deref(), Some("s:a:#a"));
    assert_eq!(common("{session:hex:4}", "{session:alnum:3-5}").as_deref(), Some("aaaa"));
    assert_eq!(common("x{session:hex:4}", "{session:alnum}").as_deref(), None, "the first is a special case");
    assert_eq!(common("s:{session:digits}", "{any}:{session:hex:2}").as_deref(), Some("s:00"));
    for (a, b) in [
        ("s:{session}", "s:{session}:x"),
        ("s:{session}", "s:{session}:{variable}"),
        ("sess:{session}", "session:{session}"),
        ("{session}:a", "{session}:b"),
        ("{session:uuid}", "{session:hex:36}"),
        ("{session:hex:32}", "{session:hex:40-64}"),
        ("s:{session:digits}", "{any:alnum:2}:{session}"),
    ] {
        assert_eq!(common(a, b), None, "{a} {b}");
    }
}

#[test]
fn shapes_skipped_parts_and_databases_choose() {
    let m = KeyMatcher::new(vec![
        KeyPattern::parse("{session:uuid}", Layout::Json, None).unwrap(),
        KeyPattern::parse("{session:base64url:22}", Layout::Msgpack, None).unwrap().in_database(Some(3)),
        KeyPattern::parse("t:{any}:{session:hex:4}", Layout::Opaque, None).unwrap(),
        KeyPattern::parse("p:{variable}:{session:digits:1-3}", Layout::Key, None).unwrap(),
        KeyPattern::parse("{{x}}{session:hex:2}{variable:alnum}!", Layout::Key, None).unwrap(),
    ]);
    let uuid = "747b91be-e285-419b-83b7-7e243f39b0f0";
    assert_eq!(taken(&m, uuid), format!("0 {uuid} session"));
    assert_eq!(taken(&m, "t:eu:ab12"), "2 ab12 session");
    assert_eq!(taken(&m, "p:cart:42"), "3 42 cart");
    assert_eq!(taken(&m, "{x}abcart!"), "4 ab cart");
    for none in
        ["747b91be", "t:eu:ab123", "t:eu:zz12", "p:cart:4a", "p:cart:1234", "{x}abc.rt!", "{x}ab!", "fk2OnoYjFJchOMpnY6ncdQ"]
    {
        assert_eq!(taken(&m, none), "none", "{none}");
    }
    let in_three = m.classify(3, b"fk2OnoYjFJchOMpnY6ncdQ").unwrap();
    assert_eq!((in_three.pattern, in_three.session), (1, &b"fk2OnoYjFJchOMpnY6ncdQ"[..]));
}

#[test]
fn of_alike_patterns_shape_then_database_then_order_decides() {
    let parse = |text: &str, database| KeyPattern::parse(text, Layout::Hash, None).unwrap().in_database(database);
    let first = |patterns: Vec<KeyPattern>| KeyMatcher::new(patterns).classify(1, b"s:ab").unwrap().pattern;
    assert_eq!(first(vec![parse("s:{session}", None), parse("s:{session:hex}", None), parse("s:{session:hex:2}", None)]), 2);
    assert_eq!(first(vec![parse("s:{session}", None), parse("s:{session}", Some(1))]), 1);
    assert_eq!(first(vec![parse("s:{session}", None), parse("{session}ab", None)]), 0);
    assert_eq!(first(vec![parse("s:{session:hex}", None), parse("s:{session:alnum}", None)]), 0);
    assert_eq!(first(vec![parse("s:{session:alnum}", None), parse("s:{session:hex}", None)]), 0);
}

#[test]
fn a_matcher_of_everything_takes_the_whole_key() {
    let m = KeyMatcher::default().and_everything(Layout::Opaque).unwrap();
    assert_eq!(taken(&m, "any:thing"), "0 any:thing session");
    assert_eq!(taken(&m, ""), "none");
    assert!(KeyMatcher::default().and_everything(Layout::Key).is_err());
}

#[test]
fn a_miss_says_how_far_the_key_fitted_and_why_not_further() {
    let miss = |text: &str, key: &str| {
        let pattern = KeyPattern::parse(text, Layout::Key, (!text.contains("{variable}")).then_some("v")).unwrap();
        pattern.in_database(Some(1)).miss(1, key.as_bytes()).map(|miss| (miss.fitted_bytes, miss.why))
    };
    let check = |text: &str, key: &str, fitted: usize, why: &str| {
        assert_eq!(miss(text, key), Some((fitted, why.to_owned())), "{text} {key}");
    };
    assert_eq!(miss("sess:{session}", "sess:1"), None);
    check("sess:{session}", "sex:1", 2, "the key does not begin with `sess:`");
    check("sess:{session}", "sess:", 5, "the session's id does not fit: it is empty");
    check("sess:{session}_LOCK", "sess:12", 5, "the key does not end in `_LOCK`");
    check("s:{session:hex:4}", "s:12x4", 4, "the session's id does not fit: its byte 3 is not one of hex:4");
    check("s:{session:hex:4}", "s:12", 4, "the session's id does not fit: it has 2 bytes, and hex:4 has 4");
    check("s:{session}:{variable}", "s:12", 2, "`:` does not stand behind {session}");
    let other = KeyPattern::parse("s:{session}", Layout::Hash, None).unwrap().in_database(Some(3));
    assert_eq!(other.miss(0, b"s:1").unwrap().why, "the pattern is for database 3, and this is 0");
}

#[test]
fn what_is_refused_says_why_and_where() {
    let why = |text: &str, layout, name| KeyPattern::parse(text, layout, name).unwrap_err().message;
    let json = |text: &str| why(text, Layout::Json, None);
    assert_eq!(json("sess:"), "`sess:` has no {session}");
    assert_eq!(json("a{session}b{session}"), "at character 12 of `a{session}b{session}`: a second {session}");
    assert_eq!(json("é:{sesion}"), "at character 3 of `é:{sesion}`: {sesion} is no placeholder");
    assert_eq!(json("s:{session:hexx:3}"), "at character 3 of `s:{session:hexx:3}`: the shape `hexx` is not known");
    assert_eq!(json("s:{session:hex:0}"), "at character 3 of `s:{session:hex:0}`: `0` is not a length");
    assert_eq!(json("s:{session"), "at character 3 of `s:{session`: this brace is not closed");
    assert_eq!(json("s:}{session}"), "at character 3 of `s:}{session}`: a brace closes that none opened");
    assert_eq!(json("{session}{any}"), "at character 10 of `{session}{any}`: nothing stands between two placeholders");
    assert!(json(&format!("{}{{session}}", "{any}x".repeat(8))).contains("more than 8 placeholders"));
    assert!(why("{session}:{variable}", Layout::Hash, None).contains("only for layout"));
    assert!(why("{session}:{variable}", Layout::Key, Some("x")).contains("named twice"));
    assert!(why("{session}", Layout::Key, None).contains("needs the name"));
    assert!(why("{session}", Layout::Json, Some("x")).contains("no meaning"));
    assert!(why("{session}", Layout::Key, Some("")).contains("0 bytes"));
    assert!(why(&format!("{}{{session}}", "x".repeat(300)), Layout::Json, None).contains("longer"));
}

/// The longest key and the pattern with the most places to begin anew, in time that a debug build does not notice.
#[test]
fn no_key_makes_matching_slow() {
    let text = format!("{{any}}{0}b{{session}}{0}c{{variable}}", "a".repeat(100));
    let m = matcher(&[(&text, Layout::Key, None)]);
    assert!(m.classify(0, &vec![b'a'; 1 << 20]).is_none());
}

proptest! {
    #[test]
    fn any_bytes_are_classified_without_panic_and_never_with_an_empty_session(key in prop::collection::vec(any::<u8>(), 0..40)) {
        let m = matcher(&[("s:{session}", Layout::Hash, None), ("{session}:{variable}x", Layout::Key, None)]);
        if let Some(found) = m.classify(0, &key) {
            prop_assert!(!found.session.is_empty());
            prop_assert!(found.variable.is_none_or(|v| !v.is_empty()));
        }
    }

    #[test]
    fn what_a_pattern_writes_it_reads_back(prefix in "[a-z:]{0,6}", suffix in "[a-z:]{0,6}", session in prop::collection::vec(any::<u8>(), 1..20)) {
        let m = matcher(&[(&format!("{prefix}{{session}}{suffix}"), Layout::Hash, None)]);
        let key = [prefix.as_bytes(), &session, suffix.as_bytes()].concat();
        prop_assert_eq!(m.classify(0, &key).map(|found| found.session), Some(&session[..]));
    }

    #[test]
    fn a_key_is_missed_exactly_if_it_is_not_taken(key in "[abx:!0-9]{0,12}", which in 0usize..6, database in 0u32..2) {
        let text = ["a:{session}", "{session:digits:2}{variable}!", "{any}:{session:hex}x", "{session:hex:1-2}:{variable}", "{variable:alnum}!{session}", "{session}ab{any:digits:1}b{variable}"][which];
        let layout = if text.contains("variable") { Layout::Key } else { Layout::Hash };
        let pattern = KeyPattern::parse(text, layout, None).unwrap().in_database(Some(0));
        let missed = pattern.miss(database, key.as_bytes());
        prop_assert!(missed.as_ref().is_none_or(|miss| miss.fitted_bytes <= key.len() + 1));
        prop_assert_eq!(missed.is_none(), KeyMatcher::new(vec![pattern]).classify(database, key.as_bytes()).is_some());
    }

    #[test]
    fn a_common_key_is_common(a in "[ab:]{0,2}[{]session(:hex|:digits:1-2|:alnum:3)?[}][ab:]{0,2}", b in "[ab:]{0,2}[{]session(:uuid|:alnum)?[}][ab:]{0,2}", key in "[ab:0]{0,6}") {
        let parse = |text: &str| KeyPattern::parse(text, Layout::Hash, None).unwrap();
        let (one, other) = (parse(&a), parse(&b));
        let takes = |pattern: &KeyPattern, key: &[u8]| KeyMatcher::new(vec![pattern.clone()]).classify(0, key).is_some();
        match crate::overlap::common_key(&one, &other) {
            Some(found) => prop_assert!(takes(&one, &found) && takes(&other, &found)),
            None => prop_assert!(!(takes(&one, key.as_bytes()) && takes(&other, key.as_bytes()))),
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_a_complaint(text in ".{0,60}", braces in "[a-z{}:]{0,40}") {
        for text in [text, braces] {
            if let Ok(pattern) = KeyPattern::parse(&text, Layout::Hash, None) {
                let named = text.contains("{session");
                prop_assert!(named);
                prop_assert_eq!(pattern.text(), text);
            }
        }
    }
}

//! Tests of the key patterns: what is taken, which of two patterns wins, what is refused, and no panic on any bytes.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

fn matcher(patterns: &[(&str, Layout, Option<&str>)]) -> KeyMatcher {
    KeyMatcher::new(patterns.iter().map(|(text, layout, name)| KeyPattern::parse(text, *layout, *name).unwrap()).collect())
}

/// What a key is taken for, as text: `pattern session variable`.
fn taken(matcher: &KeyMatcher, key: &str) -> String {
    matcher.classify(key.as_bytes()).map_or("none".to_owned(), |m| {
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
    assert_eq!(taken(&m, "sess:42"), "0 42 -");
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
fn patterns_collide_only_if_neither_is_more_specific() {
    let collide = |a: &str, b: &str| {
        let parse = |text: &str| {
            let name = (!text.contains("{variable}")).then_some("v");
            KeyPattern::parse(text, Layout::Key, name).unwrap()
        };
        assert_eq!(parse(a).collides_with(&parse(b)), parse(b).collides_with(&parse(a)));
        parse(a).collides_with(&parse(b))
    };
    assert!(collide("s:{session}", "s:{session}"));
    assert!(collide("s:{session}", "{session}:x"));
    assert!(collide("s:{session}:{variable}", "s:{session}#{variable}"));
    assert!(!collide("s:{session}", "s:{session}:x"));
    assert!(!collide("s:{session}", "s:{session}:{variable}"));
    assert!(!collide("sess:{session}", "session:{session}"));
    assert!(!collide("{session}:a", "{session}:b"));
}

#[test]
fn what_is_refused_says_why() {
    let why = |text: &str, layout, name| KeyPattern::parse(text, layout, name).unwrap_err().message;
    assert_eq!(why("sess:", Layout::Json, None), "`sess:` has no {session}");
    assert_eq!(
        why("{session}{session}", Layout::Json, None),
        "has braces in `{session}` that are neither {session} nor, behind it, {variable}"
    );
    assert!(why("{variable}:{session}", Layout::Key, None).contains("behind it"));
    assert!(why("{session}{variable}", Layout::Key, None).contains("nothing between"));
    assert!(why("{session}:{variable}", Layout::Hash, None).contains("only for layout"));
    assert!(why("{session}:{variable}", Layout::Key, Some("x")).contains("named twice"));
    assert!(why("{session}", Layout::Key, None).contains("needs the name"));
    assert!(why("{session}", Layout::Json, Some("x")).contains("no meaning"));
    assert!(why("{session}", Layout::Key, Some("")).contains("0 bytes"));
    assert!(why(&format!("{}{{session}}", "x".repeat(300)), Layout::Json, None).contains("longer"));
}

proptest! {
    #[test]
    fn any_bytes_are_classified_without_panic_and_never_with_an_empty_session(key in prop::collection::vec(any::<u8>(), 0..40)) {
        let m = matcher(&[("s:{session}", Layout::Hash, None), ("{session}:{variable}x", Layout::Key, None)]);
        if let Some(found) = m.classify(&key) {
            prop_assert!(!found.session.is_empty());
            prop_assert!(found.variable.is_none_or(|v| !v.is_empty()));
        }
    }

    #[test]
    fn what_a_pattern_writes_it_reads_back(prefix in "[a-z:]{0,6}", suffix in "[a-z:]{0,6}", session in prop::collection::vec(any::<u8>(), 1..20)) {
        let m = matcher(&[(&format!("{prefix}{{session}}{suffix}"), Layout::Hash, None)]);
        let key = [prefix.as_bytes(), &session, suffix.as_bytes()].concat();
        prop_assert_eq!(m.classify(&key).map(|found| found.session), Some(&session[..]));
    }

    #[test]
    fn any_text_is_a_pattern_or_a_complaint(text in ".{0,60}", braces in "[a-z{}:]{0,40}") {
        for text in [text, braces] {
            if let Ok(pattern) = KeyPattern::parse(&text, Layout::Hash, None) {
                let named = text.contains("{session}");
                prop_assert!(named);
                prop_assert_eq!(pattern.text(), text);
            }
        }
    }
}

//! Splitters: members are named, any bytes come back, limits hold; merges: what two writers changed survives.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::merge::merge;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const DIVIDED: [Layout; 3] = [Layout::Json, Layout::Msgpack, Layout::Php];

/// Splits, checks what holds for every split, and gives the pieces.
fn pieces(layout: Layout, text: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let split = split(layout, &Bytes::copy_from_slice(text))?;
    let joined: Vec<u8> = split.pieces.iter().flat_map(|(_, piece)| piece.to_vec()).collect();
    assert_eq!(joined, text, "the pieces are the input");
    let names: HashSet<&Bytes> = split.pieces.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), split.pieces.len(), "names are distinct");
    let plain = |name: &Bytes| String::from_utf8_lossy(&plain_name(layout, name)).into_owned();
    Some(split.pieces.iter().map(|(name, piece)| (plain(name), piece.to_vec())).collect())
}

fn names(layout: Layout, text: &[u8]) -> Option<Vec<String>> {
    Some(pieces(layout, text)?.into_iter().map(|(name, _)| name).collect())
}

fn form(layout: Layout, text: &[u8]) -> Option<Form> {
    split(layout, &Bytes::copy_from_slice(text)).map(|s| s.form)
}

#[test]
fn json_members_are_named_and_the_text_comes_back() {
    let names = |text: &str| names(Layout::Json, text.as_bytes());
    assert_eq!(names(r#"{"a":1,"b":{"c":[1,2,"}"]},"":null}"#).unwrap(), ["a", "b", "", ""]);
    assert_eq!(names(" { } ").unwrap(), [""]);
    assert_eq!(names(r#"{"a\"b" : "x\\" , "é":[]}"#).unwrap(), ["a\\\"b", "é", ""]);
    assert_eq!(names(r#"{"id":"\"42\"","n":"1"}"#).unwrap(), ["id", "n", ""], "as actix-session writes it");
    let deep = |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert_eq!((names(&deep(DEPTH_MAX)).is_some(), names(&deep(DEPTH_MAX + 1))), (true, None));
    let many = |count: usize| format!("{{{}}}", (0..count).map(|n| format!("\"{n}\":{n}")).collect::<Vec<_>>().join(","));
    assert_eq!((names(&many(MEMBERS_MAX)).unwrap().len(), names(&many(MEMBERS_MAX + 1))), (MEMBERS_MAX + 1, None));
    let named = |bytes: usize| format!("{{\"{}\":1}}", "n".repeat(bytes - 2));
    assert_eq!((names(&named(NAME_BYTES_MAX)).is_some(), names(&named(NAME_BYTES_MAX + 1))), (true, None));
}

#[test]
fn json_that_is_not_an_object_with_distinct_members_stays_whole() {
    for text in
        ["", "[]", "1", "{", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1,}"#, r#"{"a":1,"a":2}"#, r#"{"a":[}"#, r#"{"a":1}x"#, "{a:1}"]
    {
        assert_eq!(names(Layout::Json, text.as_bytes()), None, "{text}");
    }
}

#[test]
fn msgpack_maps_have_keys_of_any_type() {
    let names = |bytes: &[u8]| names(Layout::Msgpack, bytes);
    assert_eq!(names(b"\x80").unwrap(), ["" /* the head */]);
    assert_eq!(names(b"\x82\xA1a\x01\xA1b\xC3").unwrap(), ["", "a", "b"]);
    assert_eq!(names(b"\x83\x07\x01\xC4\x02xy\x02\xD9\x01z\x03").unwrap(), ["", "7", "xy", "z"], "a number, bytes, long text");
    let text_and_bytes = pieces(Layout::Msgpack, b"\x82\xA1a\x01\xC4\x01a\x02").unwrap();
    assert_eq!(text_and_bytes.len(), 3, "text and bytes of one content are two keys");
    assert_eq!(names(b"\x81\x92\x01\x02\x03").unwrap().len(), 2, "an array as key");
    assert_eq!(names(b"\xDE\x00\x01\xA1a\xDF\x00\x00\x00\x01\xC0\xC0").unwrap(), ["", "a"], "map16, and a map32 in it");
    let record = pieces(Layout::Msgpack, b"\x93\xC4\x02id\x81\xA1a\x01\x92\x01\x02").unwrap();
    assert_eq!(record[0].1, b"\x93\xC4\x02id\x81");
    assert_eq!((record[1].0.as_str(), record[2].1.as_slice()), ("a", &b"\x92\x01\x02"[..]));
    let deep = [&b"\x81\xA1a"[..], &[0x91; 100_000], b"\xC0"].concat();
    assert_eq!(names(&deep).unwrap(), ["", "a"], "nesting costs no stack");
}

#[test]
fn every_kind_of_msgpack_value_is_stepped_over() {
    let sizes: [(u8, usize); 19] = [
        (0xC0, 0),
        (0xC2, 0),
        (0xCA, 4),
        (0xCB, 8),
        (0xCC, 1),
        (0xCD, 2),
        (0xCE, 4),
        (0xCF, 8),
        (0xD0, 1),
        (0xD1, 2),
        (0xD2, 4),
        (0xD3, 8),
        (0xD4, 2),
        (0xD5, 3),
        (0xD6, 5),
        (0xD7, 9),
        (0xD8, 17),
        (0xE0, 0),
        (0x7F, 0),
    ];
    for (first, behind) in sizes {
        let bytes = [&[0x82, 0xA1, b'a', first][..], &vec![0xFF; behind], b"\xA1b\xC0"].concat();
        assert_eq!(names(Layout::Msgpack, &bytes).unwrap(), ["", "a", "b"], "{first:x}");
        assert_eq!(names(Layout::Msgpack, &bytes[..bytes.len() - 1]), None, "{first:x} truncated");
    }
    for lengths in ["C403", "C50003", "C600000003", "D903", "DA0003", "DB00000003", "C70305", "C8000305", "C90000000305"] {
        let header: Vec<u8> =
            (0..lengths.len()).step_by(2).map(|at| u8::from_str_radix(&lengths[at..at + 2], 16).unwrap()).collect();
        let bytes = [&b"\x81\xA1a"[..], &header, b"xyz"].concat();
        assert_eq!(names(Layout::Msgpack, &bytes).unwrap(), ["", "a"], "{lengths}");
        assert_eq!(names(Layout::Msgpack, &bytes[..bytes.len() - 1]), None, "{lengths} truncated");
    }
}

#[test]
fn msgpack_that_is_no_map_with_distinct_keys_stays_whole() {
    for bytes in [
        &b""[..],
        b"\x81",
        b"\x90",
        b"\xC1",
        b"\x81\xC1\x01",
        b"\x81\xA1a\x01\x00",
        b"\x82\xA1a\x01\xA1a\x02",
        b"\xDF\xFF\xFF\xFF\xFF",
        b"\x81\xA1a\xDD\xFF\xFF\xFF\xFF",
        b"\x81\xA1a\xDB\xFF\xFF\xFF\xFF",
        b"\x93\x01\x02\x03",
        b"\x92\x01\x81\xA1a\x01",
    ] {
        assert_eq!(names(Layout::Msgpack, bytes), None, "{bytes:x?}");
    }
}

#[test]
fn php_sessions_are_divided_in_every_form() {
    let of = |text: &str| (form(Layout::Php, text.as_bytes()).unwrap(), names(Layout::Php, text.as_bytes()).unwrap());
    let text = r#"user|s:4:"a|"b";n|i:1;all|a:1:{i:0;s:3:"}";";}"#;
    assert_eq!(of(text), (Form::PhpText, vec!["user".into(), "n".into(), "all".into(), String::new()]));
    let object = r#"a:2:{i:0;a:0:{}s:1:"k";O:8:"stdClass":1:{s:1:"p";N;}}"#;
    for value in ["b:1;", "i:-5;", "d:1.0E+25;", "d:-INF;", "N;", "E:11:\"Suit:Hearts\";", "C:1:\"A\":2:{}}}", object] {
        assert_eq!(of(&format!("a|{value}b|i:1;")).1, ["a", "b", ""], "{value}");
    }
    assert_eq!(
        of(r#"a:2:{s:6:"_token";s:2:""}";i:-7;a:0:{}}"#),
        (Form::PhpArray, vec![String::new(), "_token".into(), "-7".into(), String::new()])
    );
    assert_eq!(of(r#"s:18:"a:1:{s:1:"a";i:1;}";"#), (Form::PhpWrapped, vec![String::new(), "a".into(), String::new()]));
    assert_eq!(of("\u{1}ai:1;\u{2}bbN;"), (Form::PhpBinary, vec!["a".into(), "bb".into(), String::new()]));
    assert_eq!(of("a:0:{}").1, ["", ""]);
    let not_utf8 = b"a|s:2:\"\xFF\xFE\";\xFF|i:1;";
    assert_eq!(split(Layout::Php, &Bytes::from_static(not_utf8)).unwrap().pieces[1].0, &b"\xFF"[..]);
}

#[test]
fn php_that_refers_across_members_is_not_independent() {
    let independent = |text: &'static str| split(Layout::Php, &Bytes::from_static(text.as_bytes())).unwrap().independent;
    assert!(independent(r#"a|O:8:"stdClass":0:{}b|i:1;"#));
    assert!(!independent(r#"a|O:8:"stdClass":0:{}b|r:1;"#));
    assert!(!independent(r#"a:2:{i:0;a:0:{}i:1;R:2;}"#));
    assert!(!independent(r#"a|C:1:"A":4:{i:1;}"#), "what a class writes may refer to anything");
}

#[test]
fn php_that_is_not_certainly_a_session_stays_whole() {
    for text in [
        "",
        "a",
        "a|",
        "a|i:1",
        "a|i:1;a|i:2;",
        "|i:1;",
        "a|s:99:\"x\";",
        "a|s:1:\"xy\";",
        "a|s:01:\"x\";",
        "a|s:+1:\"x\";",
        "a|s:18446744073709551616:\"\";",
        "a|a:1:{i:0;}",
        "a|a:1:{i:0;i:1;",
        "a|a:9223372036854775808:{}",
        "a|x:1;",
        "a:1:{s:1:\"a\";i:1;}x",
        "a:2:{i:0;i:1;i:0;i:2;}",
        "a:1:{d:1;i:1;}",
        "s:17:\"a:1:{s:1:\"a\";i:1;}\";",
        "s:3:\"abc\";",
    ] {
        assert_eq!(names(Layout::Php, text.as_bytes()), None, "{text}");
    }
    let deep = |levels: usize| format!("a|{}N;{}", "a:1:{i:0;".repeat(levels), "}".repeat(levels));
    assert!(names(Layout::Php, deep(DEPTH_MAX).as_bytes()).is_some());
    assert_eq!(names(Layout::Php, deep(DEPTH_MAX + 1).as_bytes()), None);
}

/// A value of one of the divided layouts, as a list of members in order.
type Members = Vec<(String, u32)>;

fn render(form: Form, members: &Members) -> Bytes {
    let text = |all: Vec<String>| all.concat();
    let array = || {
        let entries = members.iter().map(|(k, v)| format!("s:{}:\"{k}\";i:{v};", k.len())).collect();
        format!("a:{}:{{{}}}", members.len(), text(entries))
    };
    let map = |out: &mut Vec<u8>| {
        match u8::try_from(members.len()) {
            Ok(few @ 0..=15) => out.push(0x80 | few),
            _ => out.extend([0xDE, 0, u8::try_from(members.len()).unwrap()]),
        }
        for (k, v) in members {
            out.push(0xA0 | u8::try_from(k.len()).unwrap());
            out.extend(k.as_bytes());
            out.push(0xCE);
            out.extend(v.to_be_bytes());
        }
    };
    match form {
        Form::Json => format!("{{{}}}", members.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect::<Vec<_>>().join(",")).into(),
        Form::Msgpack => {
            let mut out = Vec::new();
            map(&mut out);
            out.into()
        }
        Form::MsgpackRecord => {
            let mut out = b"\x93\xC4\x02id".to_vec();
            map(&mut out);
            out.extend(b"\x92\x01\x02");
            out.into()
        }
        Form::PhpArray => array().into(),
        Form::PhpWrapped => format!("s:{}:\"{}\";", array().len(), array()).into(),
        Form::PhpText => text(members.iter().map(|(k, v)| format!("{k}|i:{v};")).collect()).into(),
        Form::PhpBinary => {
            let entry = |(k, v): &(String, u32)| format!("{}{k}i:{v};", char::from(u8::try_from(k.len()).unwrap()));
            text(members.iter().map(entry).collect()).into()
        }
    }
}

const FORMS: [(Form, Layout); 7] = [
    (Form::Json, Layout::Json),
    (Form::Msgpack, Layout::Msgpack),
    (Form::MsgpackRecord, Layout::Msgpack),
    (Form::PhpArray, Layout::Php),
    (Form::PhpWrapped, Layout::Php),
    (Form::PhpText, Layout::Php),
    (Form::PhpBinary, Layout::Php),
];

/// What a client changes of what it has read: sets and removals.
type Changes = BTreeMap<String, Option<u32>>;

fn changed(members: &Members, changes: &Changes) -> Members {
    let mut result = members.clone();
    for (name, change) in changes {
        match (result.iter().position(|(n, _)| n == name), change) {
            (Some(at), Some(value)) => result[at].1 = *value,
            (Some(at), None) => drop(result.remove(at)),
            (None, Some(value)) => result.push((name.clone(), *value)),
            (None, None) => {}
        }
    }
    result
}

fn sorted(members: &Members) -> BTreeMap<String, u32> {
    members.iter().cloned().collect()
}

/// The members of a text that [`render`] could have written, by rendering each alone.
fn read_back(form: Form, layout: Layout, text: &Bytes, known: &BTreeMap<String, u32>) -> bool {
    let split = split(layout, text).unwrap();
    let found: HashSet<Vec<u8>> = split.members().map(|(_, piece)| core_of(form, piece)).collect();
    let expected: HashSet<Vec<u8>> = known
        .iter()
        .flat_map(|(k, v)| {
            let one = super::split(layout, &render(form, &vec![(k.clone(), *v)])).unwrap();
            one.members().map(|(_, piece)| core_of(form, piece)).collect::<Vec<_>>()
        })
        .collect();
    split.form == form && found == expected && split.members().count() == known.len()
}

fn core_of(form: Form, piece: &Bytes) -> Vec<u8> {
    if form == Form::Json { json::core(piece).to_vec() } else { piece.to_vec() }
}

fn name() -> impl Strategy<Value = String> {
    "[a-h]"
}

fn members() -> impl Strategy<Value = Members> {
    proptest::collection::btree_map(name(), 0..3u32, 1..8).prop_map(|m| m.into_iter().collect::<Members>()).prop_shuffle()
}

fn changes() -> impl Strategy<Value = Changes> {
    proptest::collection::btree_map(name(), proptest::option::weighted(0.8, 3..9u32), 0..5)
}

proptest! {
    #[test]
    fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for layout in DIVIDED {
            pieces(layout, &bytes);
        }
    }

    #[test]
    fn bytes_that_look_like_json_come_back(text in r#"[{}\[\]":,\\ a1]{0,60}"#) {
        pieces(Layout::Json, text.as_bytes());
        pieces(Layout::Json, format!("{{\"k\":{text}}}").as_bytes());
    }

    #[test]
    fn bytes_that_look_like_php_come_back(text in r#"([aisOCNrRbdE]:|[0-3]:|[{}";|:]|a:[0-2]:\{|s:1:"x";|i:1;){0,20}"#) {
        pieces(Layout::Php, text.as_bytes());
        pieces(Layout::Php, format!("k|{text}").as_bytes());
    }

    #[test]
    fn bytes_that_look_like_msgpack_come_back(bytes in proptest::collection::vec(prop_oneof![0x80..0x86u8, 0x90..0x94u8, 0xA0..0xA4u8, 0xC0..=0xDFu8, 0..4u8], 0..40)) {
        pieces(Layout::Msgpack, &bytes);
        pieces(Layout::Msgpack, &[b"\x81\xA1k", bytes.as_slice()].concat());
    }

    #[test]
    fn what_is_truncated_or_damaged_is_whole_or_comes_back(members in members(), cut in any::<prop::sample::Index>(), flip in any::<u8>()) {
        for (form, layout) in FORMS {
            let text = render(form, &members);
            assert_eq!(super::split(layout, &text).map(|s| s.form), Some(form));
            let at = cut.index(text.len());
            pieces(layout, &text[..at]);
            let mut damaged = text.to_vec();
            damaged[at] = flip;
            pieces(layout, &damaged);
        }
    }

    #[test]
    fn writers_of_different_members_both_survive_in_any_order(read in members(), one in changes(), mut two in changes()) {
        two.retain(|name, _| !one.contains_key(name));
        for (form, layout) in FORMS {
            let [base, first, second] = [&read, &changed(&read, &one), &changed(&read, &two)].map(|m| render(form, m));
            if [&base, &first, &second].iter().any(|t| t.is_empty()) {
                continue; // An empty session of PHP has no members to merge.
            }
            let wanted = sorted(&changed(&changed(&read, &one), &two));
            let one_then_two = merge(layout, &base, &second, &first).unwrap();
            let two_then_one = merge(layout, &base, &first, &second).unwrap();
            if !wanted.is_empty() || !matches!(form, Form::PhpText | Form::PhpBinary) {
                prop_assert!(read_back(form, layout, &one_then_two, &wanted), "{form:?}: {one_then_two:?}");
                prop_assert!(read_back(form, layout, &two_then_one, &wanted), "{form:?}: {two_then_one:?}");
            }
        }
    }

    #[test]
    fn of_writers_of_one_member_the_later_wins(read in members(), one in changes(), two in changes()) {
        let (base, first, second) = (render(Form::Json, &read), changed(&read, &one), changed(&read, &two));
        // What the second writer changed, not what it wrote unchanged.
        let effective: Changes = two.into_iter().filter(|(n, v)| read.iter().find(|(r, _)| r == n).map(|(_, v)| *v) != *v).collect();
        let wanted = sorted(&changed(&first, &effective));
        let merged = merge(Layout::Json, &base, &render(Form::Json, &second), &render(Form::Json, &first)).unwrap();
        prop_assert!(read_back(Form::Json, Layout::Json, &merged, &wanted), "{merged:?}");
    }

    #[test]
    fn without_another_writer_the_written_value_stays(base in proptest::collection::vec(any::<u8>(), 0..50), written in proptest::collection::vec(any::<u8>(), 0..50)) {
        let (base, written) = (Bytes::from(base), Bytes::from(written));
        for layout in DIVIDED {
            prop_assert_eq!(merge(layout, &base, &written, &base), Some(written.clone()));
        }
    }
}

#[test]
fn what_cannot_be_divided_alike_is_not_merged() {
    let merge = |layout, texts: [&'static str; 3]| {
        let [read, written, present] = texts.map(|t| Bytes::from_static(t.as_bytes()));
        merge(layout, &read, &written, &present)
    };
    assert_eq!(merge(Layout::Json, ["{\"a\":1}", "[]", "{\"a\":2}"]), None);
    assert_eq!(merge(Layout::Php, ["a|i:1;", "a|i:2;", "a:1:{s:1:\"a\";i:3;}"]), None, "another form");
    assert_eq!(merge(Layout::Php, ["a|i:1;b|i:1;", "a|i:2;b|R:1;", "a|i:3;b|i:1;"]), None, "values that refer to each other");
    assert_eq!(merge(Layout::Key, ["a", "b", "c"]), None);
    let spaced = merge(Layout::Json, ["{\"a\": 1}", "{\"a\": 1, \"b\": 2}", "{\"c\": 3, \"a\": 1}"]);
    assert_eq!(spaced.as_deref(), Some(&br#"{"c": 3, "a": 1, "b": 2}"#[..]), "separators stay as each writer likes them");
}

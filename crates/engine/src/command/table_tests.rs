//! The table of commands: that look-ups find its rows, that parts keep their values, and that `docs/commands.md` is the table.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)]

use super::*;

#[test]
fn the_rows_are_sorted_and_found() {
    assert!(ROWS.is_sorted_by(|a, b| a.name < b.name));
    for known in &ROWS {
        assert!(std::ptr::eq(row(known.name.to_uppercase().as_bytes()).unwrap(), known));
        assert!(known.name.len() <= NAME_BYTES_MAX);
        assert!(known.write || !known.may_create, "{}", known.name);
    }
    for unknown in ["", "ge", "gett", "a-name-that-is-longer-than-any", "\u{0}"] {
        assert!(row(unknown.as_bytes()).is_none());
    }
}

#[test]
fn keys_are_where_redis_says() {
    for (command, expected) in [
        ("GET a", "a"),
        ("RENAME a b", "a b"),
        ("OBJECT ENCODING a", "a"),
        ("MSET a 1 b 2", "a b"),
        ("DEL a b c", "a b c"),
        ("SADD a b", "a"),
        ("LMOVE a b LEFT RIGHT", "a b"),
        ("MSET", ""),
        ("OBJECT", ""),
        ("OBJECT HELP", ""),
        ("RENAME a", "a"),
    ] {
        let args: Vec<Bytes> = command.split(' ').map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
        let keys: Vec<_> = row(&args[0]).unwrap().keys.of(&args).map(|k| String::from_utf8_lossy(k).into_owned()).collect();
        assert_eq!(keys.join(" "), expected, "{command}");
    }
}

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md");

/// The commands of one type of key, or of any.
fn section(title: &str, kind: Option<Kind>) -> String {
    let names = |wanted: fn(&Row) -> bool| {
        let names: Vec<_> = ROWS.iter().filter(|r| r.kind == kind && wanted(r)).map(|r| r.name.to_uppercase()).collect();
        if names.is_empty() { "–".to_owned() } else { names.join(" ") }
    };
    let (reads, writes) = (names(|r| !r.write), names(|r| r.write));
    format!("| {title} | {reads} | {writes} |\n")
}

fn document() -> String {
    let titles = [
        ("any key", None),
        ("strings", Some(Kind::String)),
        ("hashes", Some(Kind::Hash)),
        ("sets", Some(Kind::Set)),
        ("sorted sets", Some(Kind::SortedSet)),
        ("lists", Some(Kind::List)),
    ];
    let sections: String = titles.iter().map(|(title, kind)| section(title, *kind)).collect();
    let several =
        |wanted: fn(&Row) -> bool| ROWS.iter().filter(|r| wanted(r)).map(|r| r.name.to_uppercase()).collect::<Vec<_>>().join(" ");
    let (split, one) = (
        several(|r| r.join.is_some()),
        several(|r| r.join.is_none() && r.keys != Keys::First && r.keys != Keys::Second && !r.name.starts_with("rename")),
    );
    include_str!("commands.template.md").replace("{sections}", &sections).replace("{split}", &split).replace("{one}", &one)
}

#[test]
fn the_document_is_the_table() {
    let expected = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(DOCUMENT, &expected).unwrap();
    }
    let found = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(
        found == expected,
        "docs/commands.md is not what the table says: UPDATE_DOCS=1 cargo nextest run -p wayfarer-engine the_document"
    );
}

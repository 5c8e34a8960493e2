//! Each rule against trees that break it and trees that do not: a rule that finds nothing anywhere would pass unseen.

use crate::{
    rules::{self, Rule},
    tables::{CODEC_FILE, LINES_MAX, LINES_WITHOUT_REASON_MAX, MODULES, REASON, WALLS},
    tree::Tree,
};

/// The rule finds in the snippets exactly what is listed: each finding begins with `path:line` and holds the word.
fn check(rule: Rule, snippets: &[(&str, &str)], expected: &[(&str, &str)]) {
    let findings = rule(&Tree::of_snippets(snippets));
    assert_eq!(findings.len(), expected.len(), "{findings:#?}");
    for (place, word) in expected {
        let found = findings.iter().any(|finding| finding.starts_with(&format!("{place}: ")) && finding.contains(word));
        assert!(found, "no finding at {place} with {word}: {findings:#?}");
    }
}

const HEAD: &str = "//! What this file is, in one sentence.\n";

#[test]
fn head_comments() {
    let good = ("src/store/a.rs", HEAD);
    check(rules::head_comments, &[good, ("tests/e2e.rs", "fn main() {}")], &[]);
    check(rules::head_comments, &[("src/store/a.rs", "use x;\n//! Too late to say it here.")], &[("src/store/a.rs:1", "head")]);
    check(rules::head_comments, &[("crates/sim/src/b.rs", "//! Short.")], &[("crates/sim/src/b.rs:1", "head")]);
}

#[test]
fn lengths() {
    let file = |head: &str, lines: usize, tests: usize| {
        let body = "fn f() {}\n".repeat(lines - 1);
        format!("//! {head}\n{body}#[cfg(test)]\nmod tests {{\n{}}}\n", "// t\n".repeat(tests))
    };
    let long = file("A file.", LINES_WITHOUT_REASON_MAX + 1, 0);
    let explained = file(&format!("A file. {REASON} the table is one."), LINES_WITHOUT_REASON_MAX + 1, 0);
    let endless = file(&format!("A file. {REASON} it grew."), LINES_MAX + 1, 0);
    let tested = file("A file.", LINES_WITHOUT_REASON_MAX, 2_000);
    let declared = format!("{HEAD}#[cfg(test)]\nmod tests;\n{}", "fn f() {}\n".repeat(LINES_MAX));
    check(rules::lengths, &[("src/a.rs", &explained), ("src/b.rs", &tested), ("src/store/tests.rs", &endless)], &[]);
    check(rules::lengths, &[("src/a.rs", &long)], &[("src/a.rs:401", "divide it, or")]);
    check(rules::lengths, &[("src/a.rs", &endless)], &[("src/a.rs:501", "at most 500")]);
    check(rules::lengths, &[("src/a.rs", &declared)], &[("src/a.rs:503", "at most 500")]);
}

#[test]
fn walls_see_every_way_to_name_a_thing() {
    let engine = "crates/engine/src/lease/mod.rs";
    let bad = [
        "use tokio::net::TcpListener;",
        "use std::{fmt, net::TcpStream};",
        "use std::{collections::{HashMap, BTreeMap}, time::{Duration, Instant}};",
        "fn now() -> u64 { std::time::SystemTime::now() }",
        "fn go() { ::std::thread::spawn(f); }",
        "fn go<'a>(x: &'a str) { std::fs::read(x); }",
        "fn quote() -> char { '\"' } fn go() { tokio::spawn(f) }",
        "fn raw() -> &'static str { r#\"a \" b\"# } fn go() { tokio::spawn(f) }",
    ];
    for code in bad {
        let findings = rules::walls(&Tree::of_snippets(&[(engine, &format!("{HEAD}{code}\n"))]));
        assert_eq!(findings.len(), 1, "{code}: {findings:#?}");
        assert!(findings[0].starts_with(&format!("{engine}:2: ")), "{findings:?}");
    }
    let good = [
        "// tokio::spawn is what a shell does",
        "/* use std::net; /* nested */ use tokio; */ fn f() {}",
        "fn f() -> &'static str { \"use tokio::spawn\" }",
        "fn f() -> &'static str { r##\"use tokio::spawn \"# \"## }",
        "use std::time::Duration; use my_tokio::x; struct NotInstantly;",
        "#[cfg(test)]\nmod tests {\n    use std::time::Instant;\n}",
    ];
    for code in good {
        check(rules::walls, &[(engine, &format!("{HEAD}{code}\n"))], &[]);
    }
}

#[test]
fn modules_of_the_product() {
    let in_store = |code: &str, expected: &[(&str, &str)]| check(rules::modules_name, &[("src/store/table.rs", code)], expected);
    in_store("use crate::driver::Clock;", &[("src/store/table.rs:1", "crate::driver")]);
    in_store("use crate::{telemetry::x, app::Y};", &[("src/store/table.rs:1", "crate::app")]);
    in_store("use super::super::cli::Run;", &[("src/store/table.rs:1", "crate::cli")]);
    in_store("use super::shard::Shard; use wayfarer_engine::ids::Epoch; use crate::telemetry::names;", &[]);
    check(rules::walls, &[("src/store.rs", "use tokio::spawn;")], &[("src/store.rs:1", "tokio")]);
    check(rules::walls, &[("src/storefront/a.rs", "use tokio::spawn;")], &[]);
    check(rules::modules_name, &[("src/storefront/a.rs", HEAD)], &[("src/storefront/a.rs:1", "not in the table")]);
    for module in MODULES {
        let path = format!("src/{}/a.rs", module.name);
        let named: String = MODULES.iter().map(|other| format!("use crate::{}::X;\n", other.name)).collect();
        let lines = MODULES.iter().zip(1..).filter(|(other, _)| other.name != module.name && !module.may.contains(&other.name));
        let expected: Vec<(String, String)> =
            lines.map(|(other, line)| (format!("{path}:{line}"), format!("crate::{}", other.name))).collect();
        let expected: Vec<(&str, &str)> = expected.iter().map(|(place, word)| (place.as_str(), word.as_str())).collect();
        check(rules::modules_name, &[(&path, &named)], &expected);
    }
}

#[test]
fn walls_have_code_behind_them() {
    let file = |folder: &str| if folder.ends_with(".rs") { folder.to_owned() } else { format!("{folder}/mod.rs") };
    let one_less: Vec<String> = WALLS.iter().skip(1).map(|wall| file(wall.folder)).collect();
    let one_less: Vec<(&str, &str)> = one_less.iter().map(|path| (path.as_str(), HEAD)).collect();
    check(rules::walls_stand, &one_less, &[(&format!("{}:1", WALLS[0].folder), "without code")]);
}

#[test]
fn manifests() {
    let pure = "[package]\nname = \"x\"\n[dependencies]\nbytes = \"1\"\n";
    let manifest = |text: &'static str| {
        [("crates/engine/Cargo.toml", text), ("crates/sim/Cargo.toml", pure), ("crates/settings/Cargo.toml", pure)]
    };
    let place = "crates/engine/Cargo.toml";
    check(rules::manifests, &manifest("[dependencies]\nbytes.workspace = true\n[package.metadata]\ntokio = 1\n"), &[]);
    check(rules::manifests, &manifest("[dependencies]\ntokio.workspace = true\n"), &[(&format!("{place}:2"), "tokio")]);
    check(rules::manifests, &manifest("[dev-dependencies]\nrand = \"1\"\n"), &[(&format!("{place}:2"), "rand")]);
    check(
        rules::manifests,
        &manifest("[target.'cfg(unix)'.dependencies.tokio]\nversion = \"1\"\n"),
        &[(&format!("{place}:1"), "tokio")],
    );
    check(rules::manifests, &manifest(pure)[1..], &[(&format!("{place}:1"), "gone")]);
}

#[test]
fn codec() {
    let home = (CODEC_FILE, "use bincode::config;");
    check(rules::codec, &[home, ("src/a.rs", "// bincode is elsewhere")], &[]);
    check(rules::codec, &[home, ("src/a.rs", "#[derive(bincode::Encode)]\nstruct A;")], &[("src/a.rs:1", "bincode")]);
    check(rules::codec, &[("src/a.rs", "fn f() {}")], &[(&format!("{CODEC_FILE}:1"), "where")]);
}

#[test]
fn metric_names() {
    let code =
        "fn f() { counter!(\"wayfarer_moves_total\"); }\n#[cfg(test)]\nmod tests {\n    const M: &str = \"wayfarer_x\";\n}";
    check(rules::metric_names, &[("src/telemetry/names.rs", code), ("tests/e2e.rs", code)], &[]);
    check(rules::metric_names, &[("src/driver/mod.rs", code)], &[("src/driver/mod.rs:1", "wayfarer_moves_total")]);
}

#[test]
fn file_names() {
    check(rules::file_names, &[("src/store/shard.rs", ""), ("src/commoner.rs", "")], &[]);
    check(rules::file_names, &[("src/utils.rs", "")], &[("src/utils.rs:1", "domain")]);
    check(rules::file_names, &[("tests/common/mod.rs", "")], &[("tests/common/mod.rs:1", "domain")]);
}

#[test]
fn code_map() {
    let tree = |map: &'static str| {
        [
            ("ARCHITECTURE.md", map),
            ("src/lib.rs", ""),
            ("src/app.rs", ""),
            ("src/store/mod.rs", ""),
            ("crates/engine/src/ids.rs", ""),
        ]
    };
    let all = "# A\n## Code map\n`src/app.rs` `src/store/` `crates/engine/`\n### engine\n`crates/engine/src/ids.rs`\n## Next\n`src/not_a_module`\n";
    check(rules::code_map, &tree(all), &[]);
    let one_less = "## Code map\n`src/app.rs` `crates/engine/` `crates/engine/src/ids.rs`\n## Next\n`src/store`\n";
    check(rules::code_map, &tree(one_less), &[("ARCHITECTURE.md:1", "does not name `src/store`")]);
    let one_more = "## Code map\n`src/app.rs` `src/store/` `crates/engine/` `crates/engine/src/ids.rs` `src/gone.rs`\n";
    check(rules::code_map, &tree(one_more), &[("ARCHITECTURE.md:1", "`src/gone.rs`, which is not there")]);
    check(rules::code_map, &[("src/app.rs", "")], &[("ARCHITECTURE.md:1", "is not there")]);
}

#[test]
fn words() {
    let mark = concat!("fn f() {}\n// TO", "DO: later\n");
    check(rules::words, &[("src/a.rs", mark)], &[("src/a.rs:2", "finish")]);
    check(rules::words, &[("scripts/a.sh", concat!("cd /ro", "ot/x"))], &[("scripts/a.sh:1", "machine")]);
    check(
        rules::words,
        &[("README.md", concat!("see ~/wo", "rk/x")), ("docs/a.md", concat!("./ho", "me/x and x/wo", "rk/y"))],
        &[("README.md:1", "machine")],
    );
}

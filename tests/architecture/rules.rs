//! The rules: each looks at the whole tree and returns its findings, `path:line: what is wrong, and what to do`.

use std::collections::BTreeSet;

use crate::{
    paths::{module_of, named, names},
    tables::*,
    tree::{File, Tree},
};

pub type Rule = fn(&Tree) -> Vec<String>;

pub fn head_comments(tree: &Tree) -> Vec<String> {
    let silent = tree.sources().filter(|file| file.head().len() < HEAD_CHARS_MIN);
    silent.map(|file| format!("{}:1: no head comment: begin with `//!` and say what the file is", file.path)).collect()
}

pub fn lengths(tree: &Tree) -> Vec<String> {
    let check = |file: &File| {
        let lines = file.production_lines();
        if lines > LINES_MAX {
            return Some(format!("{}:{lines}: {lines} lines before the tests, at most {LINES_MAX}: divide it", file.path));
        }
        let explained = file.head().contains(REASON);
        (lines > LINES_WITHOUT_REASON_MAX && !explained)
            .then(|| format!("{}:{lines}: {lines} lines: divide it, or let the head comment say \"{REASON} …\"", file.path))
    };
    tree.production().filter_map(check).collect()
}

pub fn walls(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.production() {
        let walls: Vec<&Wall> = WALLS.iter().filter(|wall| is_under(&file.path, wall.folder)).collect();
        if walls.is_empty() {
            continue;
        }
        let paths = named(&file.production_code(), &module_of(&file.path));
        for wall in walls {
            for never in wall.never {
                // A longer path is reported once, at its first segment that completes the forbidden one.
                let hits = paths
                    .iter()
                    .filter(|path| names(&path.segments, never) && !names(&path.segments[..path.segments.len() - 1], never));
                findings.extend(hits.map(|path| format!("{}:{}: names `{never}`: {}", file.path, path.line, wall.because)));
            }
        }
    }
    findings
}

/// A module names of the others what its row allows; one without a row has no place yet.
pub fn modules_name(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.production() {
        let Some((entry, _)) = file.path.strip_prefix("src/").and_then(|inside| inside.split_once('/')) else { continue };
        let Some(module) = MODULES.iter().find(|module| module.name == entry) else {
            findings.push(format!("{}:1: `{entry}` is not in the table of modules: say there what it may name", file.path));
            continue;
        };
        for path in named(&file.production_code(), &module_of(&file.path)) {
            let [root, other] = path.segments.as_slice() else { continue };
            let is_module = root == "crate" && other != entry && MODULES.iter().any(|module| module.name == other);
            if is_module && !module.may.contains(&other.as_str()) {
                findings.push(format!("{}:{}: names `crate::{other}`: {}", file.path, path.line, module.because));
            }
        }
    }
    findings
}

/// The table itself: each module names only those before it, so there is no circle.
pub fn modules_are_in_order(_: &Tree) -> Vec<String> {
    let is_before = |at: usize, name: &str| MODULES.iter().take(at).any(|module| module.name == name);
    let rows = MODULES.iter().enumerate();
    let late =
        rows.flat_map(|(at, module)| module.may.iter().filter(move |name| !is_before(at, name)).map(move |name| (module, name)));
    late.map(|(module, name)| {
        format!("tests/architecture/tables.rs:1: `{}` may name `{name}`, which is not before it", module.name)
    })
    .collect()
}

/// A wall around code that has moved away keeps nothing, and says nothing.
pub fn walls_stand(tree: &Tree) -> Vec<String> {
    let empty = WALLS.iter().filter(|wall| !tree.production().any(|file| is_under(&file.path, wall.folder)));
    empty.map(|wall| format!("{}:1: a wall without code behind it: change the table of walls", wall.folder)).collect()
}

fn is_under(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || (rest == ".rs" && !folder.ends_with(".rs")))
}

pub fn manifests(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for wall in MANIFEST_WALLS {
        let Some(file) = tree.file(wall.manifest) else {
            findings.push(format!("{}:1: this manifest is gone: change the table of walls", wall.manifest));
            continue;
        };
        let mut in_dependencies = false;
        for (index, line) in file.text.lines().enumerate() {
            if let Some(heading) = line.trim().strip_prefix('[') {
                in_dependencies = heading.contains("dependencies");
                // `[dependencies.tokio]` names the package in the heading.
                let named = heading.trim_end_matches(']').rsplit('.').next().unwrap_or_default();
                findings.extend(
                    wall.never
                        .iter()
                        .filter(|never| in_dependencies && named == **never)
                        .map(|never| manifest_finding(wall, index, never)),
                );
                continue;
            }
            let package = line.split(['=', '.', ' ']).next().unwrap_or_default().trim();
            findings.extend(
                wall.never
                    .iter()
                    .filter(|never| in_dependencies && package == **never)
                    .map(|never| manifest_finding(wall, index, never)),
            );
        }
    }
    findings
}

fn manifest_finding(wall: &ManifestWall, index: usize, never: &str) -> String {
    format!("{}:{}: depends on {never}: {}", wall.manifest, index + 1, wall.because)
}

pub fn codec(tree: &Tree) -> Vec<String> {
    let naming = |file: &&File| named(&file.scan.code, &module_of(&file.path)).iter().any(|path| names(&path.segments, CODEC));
    let files: Vec<&str> =
        tree.files.iter().filter(|file| file.path.ends_with(".rs")).filter(naming).map(|file| file.path.as_str()).collect();
    let mut findings: Vec<String> = files
        .iter()
        .filter(|path| **path != CODEC_FILE)
        .map(|path| format!("{path}:1: names {CODEC}: only {CODEC_FILE} does, so that the format has one place and one limit"))
        .collect();
    if !files.contains(&CODEC_FILE) {
        findings.push(format!("{CODEC_FILE}:1: does not name {CODEC}: where is the codec now?"));
    }
    findings
}

pub fn metric_names(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.production().filter(|file| !file.path.ends_with(&format!("/{METRIC_FILE}"))) {
        let last = file.production_lines();
        let names = file.scan.strings.iter().filter(|(line, inside)| *line <= last && inside.starts_with(METRIC_PREFIX));
        findings.extend(
            names.map(|(line, inside)| format!("{}:{line}: the metric name \"{inside}\" belongs in a {METRIC_FILE}", file.path)),
        );
    }
    findings
}

pub fn file_names(tree: &Tree) -> Vec<String> {
    let is_empty_name = |part: &str| EMPTY_NAMES.contains(&part.split('.').next().unwrap_or(part));
    let said = tree.files.iter().filter(|file| file.path.split('/').any(is_empty_name));
    said.map(|file| format!("{}:1: a name of what is in it, in the terms of the domain", file.path)).collect()
}

pub fn code_map(tree: &Tree) -> Vec<String> {
    let Some(map) = tree.file(CODE_MAP_FILE) else {
        return vec![format!("{CODE_MAP_FILE}:1: is not there")];
    };
    let named = backticked(&map.text);
    let modules = modules(tree);
    let mut findings: Vec<String> = modules
        .difference(&named)
        .map(|module| format!("{CODE_MAP_FILE}:1: the section \"{CODE_MAP_HEADING}\" does not name `{module}`"))
        .collect();
    let gone = named.iter().filter(|name| name.starts_with("src/") || name.starts_with("crates/"));
    let gone = gone.filter(|name| !tree.files.iter().any(|file| is_under(&file.path, name)));
    findings.extend(
        gone.map(|name| format!("{CODE_MAP_FILE}:1: the section \"{CODE_MAP_HEADING}\" names `{name}`, which is not there")),
    );
    findings
}

/// What the map must name: the entries of the folders in the table, by their paths without a slash at the end.
fn modules(tree: &Tree) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for folder in CODE_MAP_FOLDERS {
        for file in tree.sources() {
            let Some(entry) = file.path.strip_prefix(folder).and_then(|rest| rest.split('/').next()) else { continue };
            if !CODE_MAP_EXEMPT.contains(&entry) {
                modules.insert(format!("{folder}{entry}"));
            }
        }
    }
    modules
}

/// Everything in backticks between the heading of the map and the next heading of its level or above.
fn backticked(text: &str) -> BTreeSet<String> {
    let level = |line: &str| line.chars().take_while(|c| *c == '#').count();
    let mut map_level = 0;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if level(line) > 0 {
            if line.to_lowercase().contains(CODE_MAP_HEADING) {
                map_level = level(line);
            } else if level(line) <= map_level {
                map_level = 0;
            }
        }
        if map_level > 0 {
            found.extend(line.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches('/').to_owned()));
        }
    }
    found
}

pub fn words(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for (index, line) in file.text.lines().enumerate() {
            let hits = WORDS.iter().filter(|(word, _)| line.match_indices(word).any(|(at, _)| stands_alone(line, at)));
            findings.extend(hits.map(|(word, remedy)| format!("{}:{}: `{word}`: {remedy}", file.path, index + 1)));
        }
    }
    findings
}

/// Whether what begins at `at` is no part of a longer word or path.
fn stands_alone(line: &str, at: usize) -> bool {
    !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

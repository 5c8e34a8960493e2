//! The walls of the project that neither the compiler nor clippy can see, held by a test.
//!
//! It reads the source tree as text and never runs the product. The rules are in `architecture/rules.rs`, what they compare with
//! (folders, words, limits) in `architecture/tables.rs`; a new wall is a new line there. `architecture/bad_snippets.rs` shows each
//! rule a tree that breaks it and one that does not, so that a rule that sees nothing fails too.
//!
//! Every finding reads `path:line: what is wrong, and what to do`.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test reports by panicking"
)]

#[path = "architecture/bad_snippets.rs"]
mod bad_snippets;
#[path = "architecture/paths.rs"]
mod paths;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/scan.rs"]
mod scan;
#[path = "architecture/tables.rs"]
mod tables;
#[path = "architecture/tree.rs"]
mod tree;

use tree::Tree;

/// Runs one rule over the real tree and shows all of its findings at once.
fn hold(rule: rules::Rule) {
    let tree = Tree::of_project();
    assert!(tree.files.len() > 20, "the source tree was not found: {} files", tree.files.len());
    let findings = rule(&tree);
    assert!(findings.is_empty(), "{} finding(s):\n{}\n", findings.len(), findings.join("\n"));
}

#[test]
fn every_source_file_says_what_it_is() {
    hold(rules::head_comments);
}

#[test]
fn files_are_short_or_say_why_not() {
    hold(rules::lengths);
}

#[test]
fn folders_use_only_what_lies_below_them() {
    hold(rules::walls);
}

#[test]
fn modules_name_only_what_their_row_allows() {
    hold(rules::modules_name);
    hold(rules::modules_are_in_order);
}

#[test]
fn every_wall_has_code_behind_it() {
    hold(rules::walls_stand);
}

#[test]
fn pure_crates_depend_on_nothing_that_touches_the_world() {
    hold(rules::manifests);
}

#[test]
fn one_file_names_the_codec() {
    hold(rules::codec);
}

#[test]
fn metric_names_are_in_the_files_for_names() {
    hold(rules::metric_names);
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    hold(rules::file_names);
}

#[test]
fn the_code_map_is_the_tree() {
    hold(rules::code_map);
}

#[test]
fn no_text_names_a_machine_a_registry_or_unfinished_work() {
    hold(rules::words);
}

//! What it costs to find the session of a key: plain patterns, shapes, and keys that are no session's.
//!
//! Run with `cargo bench -p wayfarer-settings`. Only figures of one machine and one run are compared.
#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use wayfarer_settings::{KeyMatcher, KeyPattern, Layout};

fn matcher(texts: &[&str]) -> KeyMatcher {
    KeyMatcher::new(texts.iter().map(|text| KeyPattern::parse(text, Layout::Hash, None).unwrap()).collect())
}

fn classify(c: &mut Criterion) {
    let plain = matcher(&["sess:{session}", "session:{session}"]);
    let shaped = matcher(&["{session:uuid}", "{session:base64url:22}"]);
    for (name, matcher, key) in [
        ("plain prefix, taken", &plain, "sess:q4SWmw28asVpes4J1hdVNfuA0iAatLNZ"),
        ("plain prefix, no session's", &plain, "queue:emails:priority:high"),
        ("shape, taken", &shaped, "747b91be-e285-419b-83b7-7e243f39b0f0"),
        ("shape, no session's", &shaped, "queue:emails:priority:high"),
    ] {
        c.bench_function(name, |b| b.iter(|| matcher.classify(0, black_box(key.as_bytes())).map(|found| found.session.len())));
    }
}

criterion_group!(benches, classify);
criterion_main!(benches);

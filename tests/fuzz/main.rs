//! Replays the seeds of the fuzz targets, and bytes made from them, without a fuzzer.
//!
//! The generator is a counter's hash: the same bytes in every run. `make fuzz` looks further.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::path::PathBuf;

/// Inputs made from each seed.
const MUTANTS: u64 = 300;
const SEED_BYTES_MAX: usize = 16 * 1024;

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seeds: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{target} has no seeds");
    assert!(seeds.iter().all(|(_, seed)| seed.len() <= SEED_BYTES_MAX), "{target} has a seed that is too long");
    seeds
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }
}

/// Some of: a byte changed, a bit flipped, a run removed, repeated or taken from another seed, the end cut off.
fn mutate(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let (at, length) = (random.below(bytes.len()), 1 + random.below(12));
        let end = (at + length).min(bytes.len());
        match random.below(6) {
            _ if bytes.is_empty() => bytes.push(0),
            0 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            1 => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let run = bytes[at..end].to_vec();
                bytes.splice(at..at, run);
            }
            4 => {
                let from = random.below(other.len());
                let run = other[from..(from + length).min(other.len())].to_vec();
                bytes.splice(at..at, run);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn replay(target: &str) {
    let (_, run) = targets::TARGETS.into_iter().find(|(name, _)| *name == target).unwrap();
    let seeds = seeds(target);
    let mut random = Random(1);
    for (name, seed) in &seeds {
        println!("{target}: {name}");
        run(seed);
        for number in 0..MUTANTS {
            let other = &seeds[random.below(seeds.len())].1;
            let bytes = mutate(seed, other, &mut random);
            let outcome = std::panic::catch_unwind(|| run(&bytes));
            assert!(outcome.is_ok(), "{target}: made from {name}, number {number}: {bytes:?}");
        }
    }
}

macro_rules! replays {
    ($($target:ident),+) => {
        $(#[test] fn $target() { replay(stringify!($target)); })+
        #[test]
        fn every_target_is_replayed() {
            assert_eq!(targets::TARGETS.map(|(name, _)| name), [$(stringify!($target)),+]);
        }
    };
}

replays!(resp_request, control_frame, layout_split, json, settings_text, http_identity);

#[test]
fn what_libraries_write_is_divided() {
    use wayfarer_engine::session::{Layout, layout};
    // Those that are no map with distinct members.
    let whole = ["json_duplicates", "json_list", "json_truncated", "msgpack_no_map"];
    for (name, seed) in seeds("layout_split").into_iter().filter(|(name, _)| !name.ends_with("_three")) {
        let layout = [Layout::Json, Layout::Msgpack, Layout::Php][usize::from(seed[0])];
        let split = layout::split(layout, &bytes::Bytes::copy_from_slice(&seed[1..]));
        assert_eq!(split.is_some(), !whole.contains(&name.as_str()), "{name}");
        if name.ends_with("_shared") {
            assert!(!split.unwrap().independent, "{name}: two members share an object");
        }
    }
}

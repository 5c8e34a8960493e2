//! libFuzzer's way to `targets::json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wayfarer_fuzz::json(data));

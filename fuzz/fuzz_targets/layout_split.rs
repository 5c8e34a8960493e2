//! libFuzzer's way to `targets::layout_split`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wayfarer_fuzz::layout_split(data));

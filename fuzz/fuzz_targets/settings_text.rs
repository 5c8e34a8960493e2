//! libFuzzer's way to `targets::settings_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wayfarer_fuzz::settings_text(data));

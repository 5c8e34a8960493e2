//! libFuzzer's way to `targets::http_identity`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wayfarer_fuzz::http_identity(data));

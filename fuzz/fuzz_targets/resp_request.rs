//! libFuzzer's way to `targets::resp_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wayfarer_fuzz::resp_request(data));

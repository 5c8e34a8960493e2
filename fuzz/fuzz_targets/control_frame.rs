//! libFuzzer's way to `targets::control_frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wayfarer_fuzz::control_frame(data));

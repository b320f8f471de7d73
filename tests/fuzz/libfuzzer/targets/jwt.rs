#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jpat_fuzz::jwt::fuzz(data));

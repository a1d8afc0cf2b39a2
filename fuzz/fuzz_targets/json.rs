#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| icefield_ingest::untrusted::json(bytes));

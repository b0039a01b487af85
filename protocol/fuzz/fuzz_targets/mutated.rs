//! See `tern_protocol::fuzzing::mutated`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tern_protocol::fuzzing::mutated(bytes));

//! See `tern_protocol::fuzzing::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tern_protocol::fuzzing::session(bytes));

//! See `tern_protocol::fuzzing::round_trip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tern_protocol::fuzzing::round_trip(bytes));

//! The FORMAT file of a database directory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| storage::fuzzing::format(bytes));

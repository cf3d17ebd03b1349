//! The manifest of a database, as it is and with its checksum made right.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| storage::fuzzing::manifest(bytes));

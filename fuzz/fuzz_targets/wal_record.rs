//! A segment of the log: as it is, as records in a sound segment, and with their checksums made
//! right.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| storage::fuzzing::wal_record(bytes));

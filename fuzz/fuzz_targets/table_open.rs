//! A whole table, as it is and with its checksums made right.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| storage::fuzzing::table_open(bytes));

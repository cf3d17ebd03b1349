//! The contents of a block of a table, restarts and entries.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| storage::fuzzing::table_block(bytes));

//! The writes of a transaction, as they stand in a record of the log.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| storage::fuzzing::batch(bytes));

//! A value file, as it is and with its checksums made right; and a handle.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| storage::fuzzing::values_file(bytes));

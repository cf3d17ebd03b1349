//! A message between replicas, an entry's payload, and a configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raft::fuzzing::message(bytes));

//! The engine on a simulated disk, where the library above cannot reach: one test for each mistake
//! that was found in it, and what must hold between its files.
//!
//! The sweeps over all stops and faults are in `crates/holm/tests/crash`.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod engine;
mod garbage;

//! Tests of whole groups of replicas, on simulated disks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of tests are tests")]

mod clients;
mod crashes;
mod random;
mod scripts;
mod world;

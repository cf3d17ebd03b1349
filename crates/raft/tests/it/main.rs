//! Tests of whole groups: random worlds, scripts, and bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of tests are tests")]

mod chance;
mod codec;
mod disk;
mod follower;
mod judge;
mod random;
mod scripts;
mod world;

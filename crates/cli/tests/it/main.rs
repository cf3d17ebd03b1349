//! The program, run as a person or a script runs it.
//!
//! What it says stands in `transcripts/` and in the walk of README.md; what these cannot show
//! (bytes, kills, closed pipes) is tested here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bed;
mod crash;
mod exit_codes;
mod files;
mod readme;
mod transcript;

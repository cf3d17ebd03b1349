//! The program, run as a person or a script runs it.
//!
//! What it says stands in `transcripts/`; what a transcript cannot show (bytes, kills, closed pipes)
//! is tested here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bed;
mod crash;
mod exit_codes;
mod files;
mod transcript;

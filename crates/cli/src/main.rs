//! The program `holm`: the embedded database at a terminal, in scripts and in pipes.
//!
//! ```text
//!   args ─► commands::… ─► target (opens --db) ─► holm
//!                │                                  │
//!                └─► output (text, JSON) ◄──────────┘      exit: one line, one code
//! ```

#![forbid(unsafe_code)]

mod args;
mod commands;

mod exit;
mod target;
mod when;

mod file_format;
mod form;
mod lines;
mod output;
mod progress;
mod size;
mod table;
mod victim;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::bad_usage(&error),
    };
    exit::code_of(commands::run(cli))
}

//! `holm bench`: the benchmark's own program, with only Holm compiled in.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::exit::{Failure, Result};

/// Measures Holm on this machine; `holm bench --help` says what it takes.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// What the benchmark takes.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

pub(crate) fn run(args: Args) -> Result {
    // It has said itself what went wrong.
    match bench::main_with_args(&["bench"], args.arguments) {
        ExitCode::SUCCESS => Ok(()),
        _ => Err(Failure::Silent),
    }
}

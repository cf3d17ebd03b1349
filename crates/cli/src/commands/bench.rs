//! `holm bench`: the benchmark's own program, with only Holm compiled in.

use std::ffi::OsString;
use std::iter;

use clap::Parser;

use super::Context;
use crate::exit::{Failure, Result, usage_line};

/// Measures Holm on this machine; `holm bench --help` says what it takes.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// What the benchmark takes.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result {
    let words = iter::once(OsString::from("holm bench")).chain(args.arguments);
    let mut options = match bench::Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) if error.use_stderr() => {
            let line = usage_line(&error);
            return Err(Failure::usage(format!("{line}; `holm bench --help` shows what there is")));
        }
        Err(help) => {
            // A closed pipe is nobody's mistake.
            let _ = help.print();
            return Ok(());
        }
    };
    if context.output.is_json() {
        options.output = bench::Output::Json;
    }
    match bench::run(&["bench"], options) {
        Ok(true) => Ok(()),
        // What could not be measured has been said, cell by cell.
        Ok(false) => Err(Failure::Silent),
        Err(error) => Err(Failure::new(error.to_string())),
    }
}

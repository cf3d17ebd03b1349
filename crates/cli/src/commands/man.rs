//! `holm man`.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;

use super::Context;
use crate::args::Cli;
use crate::exit::{Failure, Result};

/// Prints the manual page, or writes one for each command to a directory.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory; it is made if it is missing.
    directory: Option<PathBuf>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    let Some(directory) = args.directory else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
        rendered.map_err(|error| Failure::of_io("the manual page", "write", &error))?;
        return context.output.bytes(&page);
    };
    fs::create_dir_all(&directory).map_err(Failure::io(&directory, "create"))?;
    let written = clap_mangen::generate_to(Cli::command(), &directory);
    written.map_err(Failure::io(&directory, "write"))
}

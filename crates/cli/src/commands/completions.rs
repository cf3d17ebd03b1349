//! `holm completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Context;
use crate::args::Cli;
use crate::exit::Result;

/// Prints what makes a shell complete `holm`'s commands and options.
///
/// For bash: `holm completions bash > ~/.local/share/bash-completion/completions/holm`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "holm", &mut script);
    context.output.bytes(&script)
}

//! `holm repair`.

use super::Context;
use crate::exit::{Code, Failure, Result, say};

/// Shows what a damaged database would lose by being opened again, and does it if told so.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Does it. Make a copy of the directory first.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    let _ = args.yes;
    match context.target.open().and_then(|db| Ok(db.verify()?)) {
        Ok(_) => context.output.line("nothing is damaged, nothing to repair"),
        Err(Failure::Said { code: Code::Damaged, message }) => {
            say(&message);
            Err(Failure::with_code(
                Code::Damaged,
                "this version cannot repair yet: restore a copy, and keep the damaged directory",
            ))
        }
        Err(other) => Err(other),
    }
}

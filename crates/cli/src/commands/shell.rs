//! `holm shell`: commands one after the other, typed or piped.
//!
//! A line is a command and its arguments, separated by spaces. An argument with spaces stands in
//! double quotes; in and out of them arguments are in text form. Both kinds of input share one
//! grammar and one [`session`]; what differs is how answers look.

mod grammar;
mod piped;
mod screen;
mod session;
mod terminal;
mod words;

use std::io::{self, IsTerminal};

use super::Context;
use crate::exit::Result;
use session::Session;

/// Takes commands from the terminal or from a pipe; `help` lists them.
///
/// Piped input is answered with one line per command, in order, each as soon as it is true: the
/// value in text form, `(none)`, `ok @TIMESTAMP` for a commit that is durable, `ok`, or `error: …`.
/// A scan answers with `key=value` pairs separated by spaces; a space in them stands as `\x20`, and
/// an equals sign in a key as `\x3d`. A value that would read `(none)` or `error: …` has its first
/// character as `\xNN`. With `-o json` each answer is a JSON object instead. Empty lines and lines
/// that begin with `#` are passed over.
///
/// Once a command fails inside a transaction, `commit` refuses and rolls back, so that no half of a
/// script is committed; `rollback to SAVEPOINT` goes on from there. The exit code is 1 if any line
/// failed, or if the input ends inside a transaction.
///
/// Arguments with spaces stand in double quotes, and what is quoted is never an option; a quote
/// inside is written `\"`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(context: &mut Context, _: Args) -> Result {
    let db = context.target.open_or_create()?;
    let is_terminal = io::stdin().is_terminal();
    let session = Session::new(db, context.target.keyspace.clone(), !is_terminal);
    if is_terminal { terminal::run(context, session) } else { piped::run(context, session) }
}

//! The commands, a module each: what it takes, and what it does.

pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod put;
pub(crate) mod scan;

pub(crate) mod shell;

pub(crate) mod export;
pub(crate) mod import;

pub(crate) mod checkpoint;
pub(crate) mod inspect;
pub(crate) mod repair;
pub(crate) mod stats;
pub(crate) mod verify;

pub(crate) mod bench;
pub(crate) mod demo;
pub(crate) mod kill_test;
pub(crate) mod sim;

pub(crate) mod completions;
pub(crate) mod man;

use crate::args::{Cli, Command};
use crate::exit::Result;
use crate::output::Output;
use crate::target::Target;

/// What every command is given.
pub(crate) struct Context {
    pub(crate) target: Target,
    pub(crate) output: Output,
}

/// Runs the command of a command line.
pub(crate) fn run(cli: Cli) -> Result {
    let output = Output::new(cli.global.output);
    let mut context = Context { target: cli.global.target(), output };
    let context = &mut context;
    match cli.command {
        Command::Get(args) => get::run(context, args),
        Command::Put(args) => put::run(context, args),
        Command::Delete(args) => delete::run(context, args),
        Command::Scan(args) => scan::run(context, args),
        Command::Shell(args) => shell::run(context, args),
        Command::Import(args) => import::run(context, args),
        Command::Export(args) => export::run(context, args),
        Command::Stats(args) => stats::run(context, args),
        Command::Verify(args) => verify::run(context, args),
        Command::Inspect(args) => inspect::run(context, args),
        Command::Repair(args) => repair::run(context, args),
        Command::Checkpoint(args) => checkpoint::run(context, args),
        Command::Bench(args) => bench::run(context, args),
        Command::Demo(args) => demo::run(context, args),
        Command::Sim(args) => sim::run(context, args),
        Command::Completions(args) => completions::run(context, args),
        Command::Man(args) => man::run(context, args),
        Command::DemoChild(args) => demo::run_child(context, args),
        Command::KillTest(args) => kill_test::run(context, args),
        Command::KillTestChild(args) => kill_test::run_child(context, args),
    }?;
    context.output.flush()
}

//! The command line. What a command takes stands beside what it does, in [`crate::commands`].

use clap::{Parser, Subcommand};

use crate::commands::{
    bench, checkpoint, completions, delete, demo, export, get, import, inspect, kill_test, man,
    put, repair, scan, shell, sim, stats, verify,
};
use crate::output::Format;
use crate::size::{self, Size};
use crate::target::{DEFAULT_KEYSPACE, Target};

/// A transactional key-value database.
///
/// Keys and values are given and shown in text form: printable UTF-8 stands for itself, and a
/// backslash escapes: `\\`, `\n`, `\t`, `\xNN`.
///
/// Exit codes: 0 done, 1 failed (or no such key), 2 wrong usage, 3 open in another process,
/// 4 damaged, 5 written by a newer version, 6 disk full, 7 not connected.
#[derive(Debug, Parser)]
#[command(name = "holm", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What all commands take.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The database: a directory.
    #[arg(
        long,
        global = true,
        value_name = "TARGET",
        env = "HOLM_DB",
        default_value = "./holm-data"
    )]
    db: String,

    /// The keyspace to work in.
    #[arg(long, global = true, value_name = "NAME", default_value = DEFAULT_KEYSPACE)]
    keyspace: String,

    /// The memory that the database may take, as 64MiB or 1GiB.
    #[arg(
        long,
        global = true,
        value_name = "SIZE",
        env = "HOLM_MEMORY",
        default_value = "256MiB",
        value_parser = size::memory
    )]
    memory: Size,

    /// Who reads the output.
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value = "text")]
    pub(crate) output: Format,
}

impl Global {
    pub(crate) fn target(&self) -> Target {
        let (db, keyspace) = (self.db.clone(), self.keyspace.clone());
        Target { db, keyspace, memory_bytes: self.memory.0 }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(get::Args),
    Put(put::Args),
    Delete(delete::Args),
    Scan(scan::Args),
    Shell(shell::Args),
    Import(import::Args),
    Export(export::Args),
    Stats(stats::Args),
    Verify(verify::Args),
    Inspect(inspect::Args),
    Repair(repair::Args),
    Checkpoint(checkpoint::Args),
    Bench(bench::Args),
    Demo(demo::Args),
    Sim(sim::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    DemoChild(demo::ChildArgs),
    #[command(hide = true)]
    KillTest(kill_test::Args),
    #[command(hide = true)]
    KillTestChild(kill_test::ChildArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}

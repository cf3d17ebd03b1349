//! The command line, of `holm-bench` and of `holm bench`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::cell::Cell;
use crate::compare::Compare;
use crate::records::{KEY_BYTES, VALUE_BYTES};

/// Runs the same workloads on Holm and on the databases one could use instead.
///
/// Each cell (a workload with a number of threads) runs on every store before the next begins, each
/// in a process of its own, and all cells run `--runs` times, so that a busy moment of the machine
/// hits all stores alike. Tables show medians over the runs; `of best` is a store's rate divided by
/// that of the best peer.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "holm-bench", version, args_conflicts_with_subcommands = true)]
pub struct Options {
    /// What to do instead of measuring.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Stores to run, by name and comma-separated; all that were compiled in by default, but for
    /// variants of Holm, which have to be named.
    #[arg(long, value_delimiter = ',')]
    pub stores: Vec<String>,

    /// Workloads to run, comma-separated: a group (`fill`), a workload (`get-cold`) or a cell
    /// (`commits/64`).
    #[arg(long, value_delimiter = ',')]
    pub workloads: Vec<String>,

    /// Measured time of a cell, unless it ends when its work is done.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,

    /// Time before the measured one, to fill caches and to start background threads.
    #[arg(long, default_value_t = 0.5)]
    pub warm_up: f64,

    /// Time after which a cell is ended whose work is not done: fills, overwriting, the queue.
    #[arg(long, default_value_t = 15.0)]
    pub patience: f64,

    /// Ends a cell after this many operations, for equal work instead of equal time.
    #[arg(long)]
    pub ops: Option<u64>,

    /// Times that everything is repeated; the tables show medians.
    #[arg(long, default_value_t = 3)]
    pub runs: u32,

    /// Records of the stores: 16-byte keys, 128-byte values.
    #[arg(long, default_value_t = 1_000_000)]
    pub records: u64,

    /// Records of the cold cells; as many as `--records` unless told otherwise.
    #[arg(long)]
    pub cold_records: Option<u64>,

    /// Memory of each store for caches and write buffers together, in MiB. Cold cells have a tenth
    /// of their data.
    #[arg(long, default_value_t = 256)]
    pub memory: usize,

    /// The part of each value, 0 to 1, that can be compressed away.
    #[arg(long, default_value_t = 0.0)]
    pub compressible: f64,

    /// Where to put the data; a directory of its own is made below and removed afterwards.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,

    /// Writes every sample and the medians to a file, anew after each cell.
    #[arg(long)]
    pub json: Option<PathBuf>,

    /// Who reads standard output: people, or programs, which get what `--json` writes.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,

    /// Seed of all keys and values.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,

    /// Runs everything once and so short that no figure means anything: whether it works.
    #[arg(long)]
    pub smoke: bool,

    /// Lists stores and cells and ends.
    #[arg(long)]
    pub list: bool,

    /// Runs also the cells in which a limit row means nothing; for the smoke test.
    #[arg(long, hide = true)]
    pub all_cells: bool,

    /// What this process is to do for the one that started it, in `--dir`, with the one store and
    /// the one workload that are named.
    #[arg(long, hide = true)]
    pub child: Option<Task>,

    /// Which of the runs it is, for a child.
    #[arg(long, hide = true, default_value_t = 0)]
    pub run: u32,
}

/// What the program can do besides measuring.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Compares results: the ratio of Holm to the best peer for each workload.
    Compare(Compare),
}

/// What a child process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Task {
    /// Runs one cell on one store and prints its figures.
    Measure,
    /// Loads the hot records, then flushes and compacts.
    PrepareHot,
    /// Loads the cold records, then flushes and compacts.
    PrepareCold,
    /// Loads the hot records and closes the store.
    PrepareClosed,
    /// Loads a store durably, says so, and waits to be killed.
    LoadAndWait,
}

/// Who reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// People: tables.
    Text,
    /// Programs: one JSON value.
    Json,
}

impl Options {
    /// Puts the short settings in place of what was asked for.
    pub(crate) fn settle(mut self) -> Options {
        if self.smoke {
            self.runs = 1;
            self.records = 2000;
            self.cold_records = None;
            self.ops = Some(self.ops.unwrap_or(100));
            (self.seconds, self.warm_up, self.patience) = (5.0, 0.0, 5.0);
        }
        self
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory << 20
    }

    pub(crate) fn cold_records(&self) -> u64 {
        self.cold_records.unwrap_or(self.records)
    }

    /// A tenth of the data.
    pub(crate) fn cold_memory_bytes(&self) -> usize {
        self.cold_records() as usize * (KEY_BYTES + VALUE_BYTES) / 10
    }

    /// Returns the arguments that let a child measure the same.
    pub(crate) fn child(
        &self,
        task: Task,
        store: &str,
        cell: Cell,
        dir: &Path,
        run: u32,
    ) -> Vec<OsString> {
        let task = match task {
            Task::Measure => "measure",
            Task::PrepareHot => "prepare-hot",
            Task::PrepareCold => "prepare-cold",
            Task::PrepareClosed => "prepare-closed",
            Task::LoadAndWait => "load-and-wait",
        };
        let mut arguments = vec![
            ("--child", task.to_owned()),
            ("--stores", store.to_owned()),
            ("--workloads", cell.name()),
            ("--seconds", self.seconds.to_string()),
            ("--warm-up", self.warm_up.to_string()),
            ("--patience", self.patience.to_string()),
            ("--run", run.to_string()),
            ("--records", self.records.to_string()),
            ("--cold-records", self.cold_records().to_string()),
            ("--memory", self.memory.to_string()),
            ("--compressible", self.compressible.to_string()),
            ("--seed", self.seed.to_string()),
        ];
        arguments.extend(self.ops.map(|ops| ("--ops", ops.to_string())));
        let mut words: Vec<OsString> =
            arguments.into_iter().flat_map(|(name, value)| [name.into(), value.into()]).collect();
        words.extend(["--dir".into(), dir.into()]);
        words
    }
}

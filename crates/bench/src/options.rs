//! The command line, of `holm-bench` and of `holm bench`.

use std::path::PathBuf;

/// Runs the same workloads on Holm and on the databases one could use instead.
///
/// Each cell (a workload with a number of threads) runs on every store before the next begins, and
/// all cells run `--runs` times, so that a busy moment of the machine hits all stores alike. Tables
/// show medians over the runs; `of best` is a store's rate divided by that of the best peer.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "holm-bench", version)]
pub struct Options {
    /// Stores to run, by name and comma-separated; all that were compiled in by default.
    #[arg(long, value_delimiter = ',')]
    pub stores: Vec<String>,

    /// Workloads to run, comma-separated: a name (`commits`) or a cell (`commits/64`).
    #[arg(long, value_delimiter = ',')]
    pub workloads: Vec<String>,

    /// Measured time of a cell.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,

    /// Time before the measured one, to fill caches and to start background threads.
    #[arg(long, default_value_t = 0.5)]
    pub warm_up: f64,

    /// Ends a cell after this many operations, for equal work instead of equal time.
    #[arg(long)]
    pub ops: Option<u64>,

    /// Times that everything is repeated; the tables show medians.
    #[arg(long, default_value_t = 3)]
    pub runs: u32,

    /// Records of the loaded stores: 16-byte keys, 128-byte values.
    #[arg(long, default_value_t = 1_000_000)]
    pub records: u64,

    /// Memory of each store for caches and write buffers, in MiB.
    #[arg(long, default_value_t = 512)]
    pub memory: usize,

    /// Where to put the data; a directory of its own is made below and removed afterwards.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,

    /// Writes every sample and the medians to a file.
    #[arg(long)]
    pub json: Option<PathBuf>,

    /// Who reads standard output: people, or programs, which get what `--json` writes.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,

    /// Seed of all keys and values.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,

    /// Lists stores and cells and ends.
    #[arg(long)]
    pub list: bool,

    /// Runs also the cells in which a limit row means nothing; for the smoke test.
    #[arg(long, hide = true)]
    pub all_cells: bool,

    /// Loads a store in `--dir`, says so, and waits to be killed: the child of `open-after-kill`.
    #[arg(long, hide = true)]
    pub load_and_wait: Option<String>,
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
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory << 20
    }
}

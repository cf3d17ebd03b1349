//! Workloads against Holm and its peers side by side.
//!
//! A figure alone says nothing: disks and machines differ by more than databases do. So every
//! cell runs on all stores in turn, with the same keys in the same order and equal promises of
//! durability, and what counts is the ratio.
//!
//! ```text
//!  for each run:  for each cell:  for each store, from another one each run:
//!                                   a process of its own: open -> warm up -> measure -> close
//! ```
//!
//! ```sh
//! cargo run --release -p bench                                   # Holm and the limits
//! cargo run --release -p bench --features peers -- --json results.json
//! cargo run --release -p bench --features all-peers -- --workloads get/2 --stores holm,rocksdb
//! cargo run --release -p bench -- compare results.json --svg ratios.svg
//! ```
//!
//! Peers are features, so that the program `holm`, which offers the same as `holm bench`, stays
//! light: `fjall`, `lmdb`, `redb`, `sqlite`, `surrealkv`, together `peers`; `rocksdb` apart, since
//! it needs a C++ compiler and libclang and builds for minutes; `all-peers` for everything. Which
//! settings each peer runs with, and why they are fair, stands at the head of its file.
//!
//! What a build needs beyond Rust: a C compiler for `lmdb` and `sqlite`; for `rocksdb` alone also a
//! C++ compiler and libclang (Debian: `apt-get install libclang-dev`). SQLite syncs with
//! `fdatasync` only when built under `LIBSQLITE3_FLAGS=-DHAVE_FDATASYNC`, else with `fsync`.
//!
//! What the cells do stands at the head of `cell.rs`, what the figures mean at that of
//! `figures.rs`, and how to run and read them in the book's chapter on benchmarks.

mod cell;
mod child;
mod compare;
mod evict;
mod figures;
mod json;
mod lane;
mod machine;
mod operate;
mod options;
mod peer;
mod picture;
mod prepare;
mod random;
mod records;
mod report;
mod run;
mod store;
mod table;
mod usage;
mod ycsb;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::Parser;

use crate::cell::Cell;
use crate::child::Children;
use crate::json::Json;
use crate::machine::Machine;
use crate::peer::{Peer, Role};
use crate::report::Sample;

pub use crate::compare::Compare;
pub use crate::lane::Lane;
pub use crate::options::{Command, Options, Output, Task};
pub use crate::store::{
    Access, Change, Durability, Error, Reader, Result, Row, Session, Setup, Store,
};

/// Runs the benchmark from arguments, without the program's name; says what went wrong itself.
///
/// `prefix` are the arguments that lead back to this function when the running program is started
/// again, as it is for each cell: none for `holm-bench`, `["bench"]` for `holm bench`.
pub fn main_with_args(prefix: &[&str], args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = std::iter::once(OsString::from("holm-bench")).chain(args);
    match Options::try_parse_from(args) {
        Ok(options) => match run(prefix, options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            // Help and version come this way too. A closed pipe is nobody's mistake.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
        }
    }
}

/// Does what the options say; returns whether every cell could be measured on every store.
///
/// # Errors
/// What prevents all measuring: unknown names, a directory that cannot be written.
pub fn run(prefix: &[&str], options: Options) -> Result<bool> {
    let options = options.settle();
    if let Some(Command::Compare(compare)) = &options.command {
        say(&compare.run()?)?;
        return Ok(true);
    }
    let (stores, cells) = chosen(&options)?;
    if let Some(task) = options.child {
        let (Some(store), Some(&cell)) = (stores.first(), cells.first()) else {
            return Err("the child does not know what to do".into());
        };
        child::run(prefix, &options, task, cell, store)?;
        return Ok(true);
    }
    let is_json = options.output == Output::Json;
    if options.list {
        return list(is_json, &peer::all(), &cells).map(|()| true);
    }
    let root = Scratch::new(&options.dir)?;
    let machine = Machine::look(&root.0)?;
    if !is_json {
        say(&format!("{}\n", machine.line()))?;
    }
    let report = Report { options: &options, machine, stores, cells };
    let (samples, failures) = report.measure(prefix, &root.0)?;
    if is_json {
        // A program that reads lines gets a whole value in one; the file is fit for a diff.
        say(&report.results(&samples, &failures).to_string().replace('\n', ""))?;
        return Ok(failures.is_empty());
    }
    for (&cell, standings) in report.cells.iter().zip(&report.standings(&samples)) {
        if !standings.is_empty() {
            say(&report::cell_table(cell, standings))?;
        }
    }
    say(&report::summary_table(&report.standings(&samples)))?;
    Ok(failures.is_empty())
}

fn chosen(options: &Options) -> Result<(Vec<Peer>, Vec<Cell>)> {
    let (mut stores, mut cells) = (peer::all(), Cell::all());
    let too_few = options.records < 2 || options.cold_records() < 2;
    if too_few || options.runs == 0 || options.seconds <= 0.0 {
        return Err("at least 2 records, 1 run and some time are needed".into());
    }
    for word in &options.stores {
        if !stores.iter().any(|store| store.name == word) {
            return Err(format!("no store is called {word:?} in this build; try --list").into());
        }
    }
    for word in &options.workloads {
        if !cells.iter().any(|cell| cell.is_called(word)) {
            return Err(format!("no workload or cell is called {word:?}; try --list").into());
        }
    }
    stores.retain(|store| match options.stores.as_slice() {
        [] => store.role != Role::Variant,
        words => words.iter().any(|word| store.name == word),
    });
    let words = &options.workloads;
    cells.retain(|cell| words.is_empty() || words.iter().any(|word| cell.is_called(word)));
    Ok((stores, cells))
}

/// What is measured and where, for the results file.
struct Report<'a> {
    options: &'a Options,
    machine: Machine,
    stores: Vec<Peer>,
    cells: Vec<Cell>,
}

impl Report<'_> {
    /// Runs all cells on all stores; a store that fails costs its own figures only.
    fn measure(&self, prefix: &[&str], root: &Path) -> Result<(Vec<Sample>, Vec<String>)> {
        let (options, stores) = (self.options, &self.stores);
        let children = Children::new(options, prefix, root);
        let (mut samples, mut failures) = (Vec::new(), Vec::new());
        for run in 0..options.runs {
            for &cell in &self.cells {
                // Another store begins each run, so that none is always the one after the longest.
                let (later, first) = stores.split_at(run as usize % stores.len().max(1));
                for store in first.iter().chain(later) {
                    if !cell.workload.suits(store.role, options.all_cells) {
                        continue;
                    }
                    let place = format!("run {}/{} {}", run + 1, options.runs, cell.name());
                    match children.measure(cell, store, run) {
                        Ok(None) => {}
                        Ok(Some(figures)) => {
                            let rate = table::rate(figures.rate());
                            eprintln!("{place} {}: {rate}/s", store.name);
                            samples.push(Sample { cell, store: store.name, run, figures });
                        }
                        Err(error) => {
                            eprintln!("{place} {}: failed: {error}", store.name);
                            failures.push(format!("{place} {}: {error}", store.name));
                        }
                    }
                }
                // What was measured outlives whatever ends the rest.
                self.write(&samples, &failures)?;
            }
        }
        Ok((samples, failures))
    }

    fn standings(&self, samples: &[Sample]) -> Vec<Vec<report::Standing>> {
        self.cells.iter().map(|&cell| report::standings(cell, &self.stores, samples)).collect()
    }

    fn write(&self, samples: &[Sample], failures: &[String]) -> Result<()> {
        let Some(path) = &self.options.json else { return Ok(()) };
        Ok(fs::write(path, format!("{}\n", self.results(samples, failures)))?)
    }

    fn results(&self, samples: &[Sample], failures: &[String]) -> Json {
        Json::object([
            ("machine", self.machine.json()),
            ("options", describe(self.options)),
            ("stores", settings(&self.stores)),
            ("medians", report::medians_json(&self.standings(samples))),
            ("samples", report::samples_json(samples)),
            ("failures", Json::List(failures.iter().map(|it| Json::from(it.as_str())).collect())),
        ])
    }
}

fn list(is_json: bool, stores: &[Peer], cells: &[Cell]) -> Result<()> {
    if is_json {
        let describe = |cell: &Cell| (cell.name(), Json::from(&*cell.workload.description()));
        let cells = Json::Object(cells.iter().map(describe).collect());
        return say(&Json::object([("stores", settings(stores)), ("cells", cells)]).to_string());
    }
    for store in stores {
        say(&format!("{:<14} {}", store.name, store.settings))?;
    }
    for cell in cells {
        let (name, group) = (cell.name(), cell.workload.group());
        say(&format!("{name:<18} {group:<12} {}", cell.workload.description()))?;
    }
    Ok(())
}

fn settings(stores: &[Peer]) -> Json {
    let fields = stores.iter().map(|store| (store.name.to_owned(), Json::from(store.settings)));
    Json::Object(fields.collect())
}

fn describe(options: &Options) -> Json {
    Json::object([
        ("seconds", Json::from(options.seconds)),
        ("warm_up", Json::from(options.warm_up)),
        ("patience", Json::from(options.patience)),
        ("cold_records", Json::from(options.cold_records() as f64)),
        ("compressible", Json::from(options.compressible)),
        ("ops", Json::from(options.ops.map(|ops| ops as f64))),
        ("runs", Json::from(f64::from(options.runs))),
        ("records", Json::from(options.records as f64)),
        ("memory_mib", Json::from(options.memory as f64)),
        ("seed", Json::from(options.seed as f64)),
    ])
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// A directory of this run's own, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(dir: &Path) -> Result<Scratch> {
        let scratch = dir.join(format!("holm-bench-{}", std::process::id()));
        fs::create_dir_all(&scratch)
            .map_err(|error| format!("cannot make {}: {error}", scratch.display()))?;
        Ok(Scratch(scratch))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

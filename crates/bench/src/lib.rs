//! Workloads against Holm and its peers side by side.
//!
//! A figure alone says nothing: disks and machines differ by more than databases do. So every
//! cell runs on all stores in turn, with the same keys in the same order and equal promises of
//! durability, and what counts is the ratio.
//!
//! ```text
//!  for each run:  for each cell:  for each store, from another one each run:
//!                                   open -> warm up -> measure -> close
//! ```
//!
//! ```sh
//! cargo run --release -p bench                                   # Holm and the limits
//! cargo run --release -p bench --features peers -- --json results.json
//! cargo run --release -p bench --features all-peers -- --workloads commits,get/2
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
//! # How to read the tables
//! * `ops/s`: median of the runs; `runs`: the lowest and the highest.
//! * `p50` to `p99.9`: latency of an operation, from the end of the one before it.
//! * `cpu/op`: processor time of the whole process, background threads included.
//! * `flush/op`: syncs the store counted, or else cache flushes the disk saw, whoever asked.
//! * `abort/op`: attempts that ended in a conflict, for each that committed.
//! * `of best`: rate over that of the best peer, run by run, median.
//!
//! # Not here
//! Cold caches and data larger than memory; values of other sizes; long steady overwriting.

mod cell;
mod json;
mod lane;
mod machine;
mod options;
mod peer;
mod random;
mod records;
mod report;
mod run;
mod store;
mod table;
mod usage;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::Parser;

use crate::cell::Cell;
use crate::json::Json;
use crate::machine::Machine;
use crate::peer::Peer;
use crate::report::{Figures, Sample};
use crate::run::{Runner, load_and_wait};

pub use crate::lane::Lane;
pub use crate::options::{Options, Output};
pub use crate::store::{Change, Durability, Error, Reader, Result, Row, Session, Setup, Store};

/// Runs the benchmark from arguments, without the program's name; says what went wrong itself.
///
/// `prefix` are the arguments that lead back to this function when the running program is started
/// again, which `open-after-kill` does: none for `holm-bench`, `["bench"]` for `holm bench`.
pub fn main_with_args(prefix: &[&str], args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = std::iter::once(OsString::from("holm-bench")).chain(args);
    match Options::try_parse_from(args) {
        Ok(options) => match run(prefix, &options) {
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

/// Runs the benchmark; returns whether every cell could be measured on every store.
///
/// # Errors
/// What prevents all measuring: unknown names, a directory that cannot be written.
pub fn run(prefix: &[&str], options: &Options) -> Result<bool> {
    let (stores, cells) = chosen(options)?;
    if let Some(name) = &options.load_and_wait {
        let store = peer::all().into_iter().find(|store| store.name == name);
        load_and_wait(options, &store.ok_or("the child does not know its store")?)?;
        return Ok(true);
    }
    let is_json = options.output == Output::Json;
    if options.list {
        return list(is_json, &stores, &cells).map(|()| true);
    }
    let root = Scratch::new(&options.dir)?;
    let machine = Machine::look(&root.0)?;
    if !is_json {
        say(&format!("{}\n", machine.line()))?;
    }
    let (samples, failures) = measure(prefix, options, &root.0, &stores, &cells);
    let standings: Vec<_> =
        cells.iter().map(|&cell| report::standings(cell, &stores, &samples)).collect();
    let results = Json::object([
        ("machine", machine.json()),
        ("options", describe(options)),
        ("stores", settings(&stores)),
        ("medians", report::medians_json(&standings)),
        ("samples", report::samples_json(&samples)),
        ("failures", Json::List(failures.iter().map(|it| Json::from(it.as_str())).collect())),
    ]);
    if let Some(path) = &options.json {
        fs::write(path, format!("{results}\n"))?;
    }
    if is_json {
        // A program that reads lines gets a whole value in one; the file is fit for a diff.
        say(&results.to_string().replace('\n', ""))?;
        return Ok(failures.is_empty());
    }
    for (&cell, standings) in cells.iter().zip(&standings) {
        if !standings.is_empty() {
            say(&report::cell_table(cell, standings))?;
        }
    }
    say(&report::summary_table(&standings))?;
    Ok(failures.is_empty())
}

fn chosen(options: &Options) -> Result<(Vec<Peer>, Vec<Cell>)> {
    let (mut stores, mut cells) = (peer::all(), Cell::all());
    if options.records < 2 || options.runs == 0 || options.seconds <= 0.0 {
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
    stores.retain(|store| wanted(&options.stores, |word| store.name == word));
    cells.retain(|cell| wanted(&options.workloads, |word| cell.is_called(word)));
    Ok((stores, cells))
}

fn wanted(words: &[String], is_called: impl Fn(&str) -> bool) -> bool {
    words.is_empty() || words.iter().any(|word| is_called(word))
}

/// Runs all cells on all stores; a store that fails costs its own figures only.
fn measure(
    prefix: &[&str],
    options: &Options,
    root: &Path,
    stores: &[Peer],
    cells: &[Cell],
) -> (Vec<Sample>, Vec<String>) {
    let runner = Runner::new(options, prefix, root);
    let (mut samples, mut failures) = (Vec::new(), Vec::new());
    for run in 0..options.runs {
        for &cell in cells {
            // Another store begins each run, so that none is always the one after the longest.
            let (later, first) = stores.split_at(run as usize % stores.len().max(1));
            for store in first.iter().chain(later) {
                if !cell.workload.suits(store.role, options.all_cells) {
                    continue;
                }
                let place = format!("run {}/{} {}", run + 1, options.runs, cell.name());
                match runner.run(cell, store, run) {
                    Ok(None) => {}
                    Ok(Some(measured)) => {
                        let figures = Figures::of(&measured);
                        let rate = table::rate(figures.ops_per_s);
                        eprintln!("{place} {}: {rate}/s", store.name);
                        samples.push(Sample { cell, store: store.name, run, figures });
                    }
                    Err(error) => {
                        eprintln!("{place} {}: failed: {error}", store.name);
                        failures.push(format!("{place} {}: {error}", store.name));
                    }
                }
            }
        }
    }
    (samples, failures)
}

fn list(is_json: bool, stores: &[Peer], cells: &[Cell]) -> Result<()> {
    if is_json {
        let describe = |cell: &Cell| (cell.name(), Json::from(cell.workload.description()));
        let cells = Json::Object(cells.iter().map(describe).collect());
        return say(&Json::object([("stores", settings(stores)), ("cells", cells)]).to_string());
    }
    for store in stores {
        say(&format!("{:<14} {}", store.name, store.settings))?;
    }
    for cell in cells {
        say(&format!("{:<18} {}", cell.name(), cell.workload.description()))?;
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

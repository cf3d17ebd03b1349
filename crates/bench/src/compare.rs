//! `compare`: ratios of Holm to the best peer, from results files.
//!
//! ```text
//!  fill.json   read.json      measure different cells: together one column
//!  fill2.json  read2.json     measure them again: the next column, and so on
//! ```
//!
//! A column without peers of its own, a run of Holm alone after a change, is held against the peers
//! of the first column: figures of another day, and only good for a first look.

use std::fs;
use std::path::PathBuf;

use crate::cell::Cell;
use crate::figures::Figures;
use crate::json::Json;
use crate::picture;
use crate::report::{self, Row};
use crate::store::Result;
use crate::table::{Table, rate, ratio};

/// Compares results files.
#[derive(Clone, Debug, clap::Args)]
pub struct Compare {
    /// Files that `--json` has written. Those that measure different cells stand in one column;
    /// one that measures a cell again begins the next.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,

    /// Draws the ratios as a picture, too.
    #[arg(long)]
    pub svg: Option<PathBuf>,

    /// Prints Markdown, as the book has it, with a table of every cell of the first column.
    #[arg(long)]
    pub markdown: bool,
}

/// Ratios that the engine is meant to reach. They were set on one machine, from what the best peer
/// did there.
const TARGETS: [(&str, f64); 16] = [
    ("fill-rand-1/1", 1.5),
    ("fill-rand-1000/1", 1.5),
    ("overwrite/1", 1.1),
    ("get/1", 2.0),
    ("get/2", 2.0),
    ("get-cold/1", 1.0),
    ("get-cold/2", 1.0),
    ("absent/1", 1.2),
    ("absent/2", 1.2),
    ("scan/1", 1.0),
    ("ycsb-a/2", 1.3),
    ("ycsb-b/2", 1.5),
    ("ycsb-f/2", 1.3),
    ("commits/1", 1.15),
    ("commits/8", 1.2),
    ("commits/64", 1.2),
];

/// The same to the best log-structured peer, where trees that are changed in place are in another
/// class: they append in order of the keys, and scan without merging.
const TARGETS_OF_LOG_STRUCTURED: [(&str, f64); 2] = [("fill-seq-1000/1", 1.0), ("scan-all/1", 1.0)];

const LOG_STRUCTURED: [&str; 4] = ["fjall", "fjall-plain", "rocksdb", "surrealkv"];

/// A row of a results file: a store in a cell.
#[derive(Clone, Debug)]
struct Standing {
    cell: Cell,
    store: String,
    role: String,
    of_best: Option<f64>,
    range: Option<(f64, f64)>,
    figures: Figures,
}

/// What stands below each other: the results of one day, if all went well.
struct Column {
    name: String,
    standings: Vec<Standing>,
    machine: String,
}

/// A line of the comparison: one way to set up Holm, in one cell.
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) target: Option<f64>,
    /// The best peer and its rate, as the first column has them.
    best: Option<(String, f64)>,
    /// For each column, Holm's rate and its ratio to the best peer.
    pub(crate) ratios: Vec<Option<(f64, Option<f64>)>>,
}

#[cfg(test)]
impl Line {
    pub(crate) fn new(
        label: &str,
        target: Option<f64>,
        ratios: Vec<Option<(f64, Option<f64>)>>,
    ) -> Line {
        Line { label: label.to_owned(), target, best: None, ratios }
    }
}

impl Compare {
    /// Returns what is to be printed; writes the picture.
    ///
    /// # Errors
    /// A file that cannot be read, or is none of results.
    pub fn run(&self) -> Result<String> {
        let columns = self.columns()?;
        let lines = lines(&columns);
        if lines.is_empty() {
            return Err("there is no figure of Holm in these files".into());
        }
        let names: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
        if let Some(path) = &self.svg {
            fs::write(path, picture::draw(&names, &lines))?;
        }
        let table = ratios_table(&names, &lines);
        if !self.markdown {
            return Ok(table.to_string());
        }
        let mut text = String::new();
        if let Some(first) = columns.first() {
            text += &format!("{}\n\n{}", first.machine, table.markdown());
            text += &cells_markdown(first);
        }
        Ok(text)
    }

    fn columns(&self) -> Result<Vec<Column>> {
        let mut columns: Vec<Column> = Vec::new();
        for path in &self.files {
            let read = fs::read_to_string(path).map_err(|error| error.to_string());
            let read = read.and_then(|text| Json::parse(&text).map_err(|error| error.to_string()));
            let json = read.map_err(|error| format!("{}: {error}", path.display()))?;
            let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            let standings = standings(&json);
            let is_new = |column: &Column| {
                let mut both = standings
                    .iter()
                    .flat_map(|new| column.standings.iter().map(move |old| (new, old)));
                both.all(|(new, old)| (new.cell, &new.store) != (old.cell, &old.store))
            };
            match columns.last_mut().filter(|column| is_new(column)) {
                Some(column) => {
                    column.name = format!("{} {name}", column.name);
                    column.standings.extend(standings);
                }
                None => columns.push(Column { name, standings, machine: machine(&json) }),
            }
        }
        Ok(columns)
    }
}

fn standings(json: &Json) -> Vec<Standing> {
    let cells = Cell::all();
    let rows = json.field("medians").map_or(&[][..], Json::list);
    let standing = |row: &Json| {
        let workload = row.field("workload")?.text()?;
        let name = format!("{workload}/{}", row.field("width")?.number()?);
        let number = |name: &str| row.field(name)?.number();
        Some(Standing {
            // A cell of another release may be gone by now.
            cell: *cells.iter().find(|cell| cell.name() == name)?,
            store: row.field("store")?.text()?.to_owned(),
            role: row.field("role")?.text()?.to_owned(),
            of_best: number("of_best_peer"),
            range: number("lowest").zip(number("highest")),
            figures: Figures::from_json(row),
        })
    };
    rows.iter().filter_map(standing).collect()
}

fn machine(json: &Json) -> String {
    let words = |name: &str| json.field("machine")?.field(name)?.text();
    let number = |name: &str| json.field("machine")?.field(name)?.number();
    format!(
        "{} cores ({}), kernel {}, {}, fdatasync p50 {:.0} us",
        number("cores").unwrap_or(0.0),
        words("processor").unwrap_or("unknown"),
        words("kernel").unwrap_or("unknown"),
        words("file_system").unwrap_or("unknown"),
        number("fdatasync_p50_us").unwrap_or(0.0),
    )
}

/// Returns the best of some peers of a cell and its rate.
fn best_peer(
    column: &Column,
    cell: Cell,
    takes_part: impl Fn(&str) -> bool,
) -> Option<(String, f64)> {
    let peers = column.standings.iter();
    let peers = peers.filter(|standing| standing.cell == cell && standing.role.ends_with("peer"));
    let peers = peers.filter(|standing| takes_part(&standing.store));
    let best = peers.max_by(|left, right| left.figures.rate().total_cmp(&right.figures.rate()))?;
    Some((best.store.clone(), best.figures.rate()))
}

fn lines(columns: &[Column]) -> Vec<Line> {
    let is_ours = |standing: &&Standing| matches!(standing.role.as_str(), "ours" | "variant");
    let ours = || columns.iter().flat_map(|column| &column.standings).filter(is_ours);
    let mut stores: Vec<&str> = Vec::new();
    for standing in ours() {
        if !stores.contains(&standing.store.as_str()) {
            stores.push(&standing.store);
        }
    }
    let mut lines = Vec::new();
    for cell in Cell::all() {
        let first_best = columns.iter().find_map(|column| best_peer(column, cell, |_| true));
        for &store in &stores {
            let of = |column: &Column| {
                let mut all = column.standings.iter();
                let found = all.find(|it| it.cell == cell && it.store == store)?;
                let rate = found.figures.rate();
                // Run by run where they ran together, else against the first that did.
                let ratio = found.of_best.or_else(|| Some(rate / first_best.as_ref()?.1));
                Some((rate, ratio))
            };
            let ratios: Vec<_> = columns.iter().map(of).collect();
            if ratios.iter().all(Option::is_none) {
                continue;
            }
            let is_plain = ours().any(|it| it.store == store && it.role == "ours");
            let suffix = if is_plain { String::new() } else { format!(" {store}") };
            let rates: Vec<_> = ratios.iter().map(|ours| ours.map(|(rate, _)| rate)).collect();
            lines.push(Line {
                label: format!("{}{suffix}", cell.name()),
                target: target(&TARGETS, cell).filter(|_| is_plain),
                best: first_best.clone(),
                ratios,
            });
            let target = target(&TARGETS_OF_LOG_STRUCTURED, cell).filter(|_| is_plain);
            lines
                .extend(target.and_then(|target| of_log_structured(columns, cell, target, &rates)));
        }
    }
    lines
}

/// Returns the line that holds Holm against its own kind.
fn of_log_structured(
    columns: &[Column],
    cell: Cell,
    target: f64,
    rates: &[Option<f64>],
) -> Option<Line> {
    let best_of = |column| best_peer(column, cell, |store| LOG_STRUCTURED.contains(&store));
    let first_best = columns.iter().find_map(best_of)?;
    let ratios = rates.iter().zip(columns).map(|(rate, column)| {
        let best = best_of(column).map_or(first_best.1, |(_, best)| best);
        rate.map(|rate| (rate, Some(rate / best)))
    });
    Some(Line {
        label: format!("{} LSM", cell.name()),
        target: Some(target),
        ratios: ratios.collect(),
        best: Some(first_best),
    })
}

fn target(targets: &[(&str, f64)], cell: Cell) -> Option<f64> {
    targets.iter().find(|(name, _)| *name == cell.name()).map(|(_, target)| *target)
}

fn ratios_table(names: &[String], lines: &[Line]) -> Table {
    let mut header = vec!["cell", "best peer", "ops/s"];
    let titles: Vec<_> = match names {
        [_] => vec![("Holm".to_owned(), "ratio".to_owned())],
        names => names.iter().map(|name| (format!("Holm {name}"), "ratio".to_owned())).collect(),
    };
    header.extend(titles.iter().flat_map(|(rate, ratio)| [rate.as_str(), ratio.as_str()]));
    header.push("target");
    let mut table = Table::new(&header);
    let dash = || "-".to_owned();
    for line in lines {
        let mut cells = vec![
            line.label.clone(),
            line.best.as_ref().map_or_else(dash, |(store, _)| store.clone()),
            line.best.as_ref().map_or_else(dash, |(_, best)| rate(*best)),
        ];
        for ours in &line.ratios {
            cells.push(ours.map_or_else(dash, |(ours, _)| rate(ours)));
            cells.push(ours.and_then(|(_, of_best)| of_best).map_or_else(dash, ratio));
        }
        cells.push(line.target.map_or_else(dash, ratio));
        table.row(cells);
    }
    table
}

/// Draws every cell of a column with all its stores.
fn cells_markdown(column: &Column) -> String {
    let mut text = String::new();
    for cell in Cell::all() {
        let standings = column.standings.iter().filter(|standing| standing.cell == cell);
        let rows: Vec<_> = standings
            .map(|standing| Row {
                store: &standing.store,
                range: standing.range,
                figures: &standing.figures,
                of_best: standing.of_best,
            })
            .collect();
        if !rows.is_empty() {
            let (name, what) = (cell.name(), cell.workload.description());
            let table = report::table(cell, &rows).markdown();
            text += &format!("\n### {name}\n\n{what}\n\n{table}");
        }
    }
    text
}

#[cfg(test)]
mod tests;

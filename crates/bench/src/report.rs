//! Samples, their medians and ratios, and the tables and JSON made of them.

use crate::cell::Cell;
use crate::figures::{Figures, median};
use crate::json::Json;
use crate::peer::{Peer, Role};
use crate::table::{Table, bytes, rate, ratio, time};

/// One run of one cell on one store, in numbers.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) cell: Cell,
    pub(crate) store: &'static str,
    pub(crate) run: u32,
    pub(crate) figures: Figures,
}

/// A store's row in a cell: its medians and how it stands.
pub(crate) struct Standing {
    cell: Cell,
    store: &'static str,
    role: Role,
    medians: Figures,
    /// Lowest and highest rate of the runs.
    range: (f64, f64),
    /// Rate divided by the best peer's of the same run, median over the runs.
    of_best: Option<f64>,
}

/// Returns the standings of a cell, in the order of the stores.
pub(crate) fn standings(cell: Cell, stores: &[Peer], samples: &[Sample]) -> Vec<Standing> {
    let of = |store: &'static str| {
        samples.iter().filter(move |sample| sample.cell == cell && sample.store == store)
    };
    let mut standings: Vec<Standing> = Vec::new();
    for store in stores {
        let rates = of(store.name).map(|sample| sample.figures.rate());
        if rates.clone().next().is_none() {
            continue;
        }
        standings.push(Standing {
            cell,
            store: store.name,
            role: store.role,
            medians: Figures::medians(of(store.name).map(|sample| &sample.figures)),
            range: (rates.clone().fold(f64::MAX, f64::min), rates.fold(0.0, f64::max)),
            of_best: None,
        });
    }
    if let Some(best) = best_peer(&standings).map(|best| best.store) {
        for standing in &mut standings {
            // Runs are compared pairwise: what disturbed the machine then disturbed both.
            let ratios = of(standing.store).filter_map(|sample| {
                let other = of(best).find(|other| other.run == sample.run)?;
                Some(sample.figures.rate() / other.figures.rate())
            });
            standing.of_best = median(ratios);
        }
    }
    standings
}

fn best_peer(standings: &[Standing]) -> Option<&Standing> {
    let peers = standings.iter().filter(|standing| standing.role.is_peer());
    peers.max_by(|left, right| left.medians.rate().total_cmp(&right.medians.rate()))
}

/// A column of the tables: its title, the figure it shows, and how.
type Column = (&'static str, &'static str, fn(f64) -> String);

/// All columns but those of every table. One that no row has a figure for is left out, and so is
/// one that is the same for all: nobody aborts in a cell that only reads.
const COLUMNS: [Column; 21] = [
    ("p50", "p50_us", time),
    ("p95", "p95_us", time),
    ("p99", "p99_us", time),
    ("p99.9", "p999_us", time),
    ("max", "max_us", time),
    ("cpu/op", "cpu_us_per_op", time),
    ("fsync/op", "fsyncs_per_op", short),
    ("flush/op", "flushes_per_op", short),
    ("abort/op", "aborts_per_op", short),
    ("reads/op", "device_reads_per_op", short),
    ("read B/op", "read_bytes_per_op", whole),
    ("written/B", "written_per_byte", ratio),
    ("at rest", "written_per_byte_settled", ratio),
    ("device/B", "device_written_per_byte", ratio),
    ("disk", "disk_bytes", bytes),
    ("disk/live", "space", ratio),
    ("peak", "space_peak", ratio),
    ("at rest", "space_settled", ratio),
    ("memory", "memory_bytes_peak", bytes),
    ("anon", "memory_anonymous_bytes_peak", bytes),
    ("rounds", "rounds", ratio),
];

fn short(number: f64) -> String {
    format!("{number:.3}")
}

fn whole(number: f64) -> String {
    format!("{number:.0}")
}

/// Which columns say something about a cell.
fn columns(cell: Cell, rows: &[&Figures]) -> Vec<Column> {
    let group = cell.workload.group();
    let wanted = |name: &str| match name {
        "fsyncs_per_op" | "flushes_per_op" => group == "commit",
        "device_reads_per_op" | "read_bytes_per_op" => group == "cold",
        "rounds" => matches!(group, "overwrite" | "fill" | "queue" | "large"),
        "disk_bytes" => rows.iter().all(|row| row.get("space").is_none()),
        "disk_bytes_settled" => false,
        "space_peak" => !matches!(group, "hot" | "cold" | "open"),
        "aborts_per_op" => rows.iter().any(|row| row.get(name).is_some_and(|it| it > 0.0)),
        _ => true,
    };
    let known = |name: &str| rows.iter().any(|row| row.get(name).is_some());
    COLUMNS.into_iter().filter(|(_, name, _)| wanted(name) && known(name)).collect()
}

/// A row of the table of a cell, before it is drawn.
pub(crate) struct Row<'a> {
    pub(crate) store: &'a str,
    pub(crate) range: Option<(f64, f64)>,
    pub(crate) figures: &'a Figures,
    pub(crate) of_best: Option<f64>,
}

/// Makes the table of a cell.
pub(crate) fn table(cell: Cell, rows: &[Row<'_>]) -> Table {
    let figures: Vec<_> = rows.iter().map(|row| row.figures).collect();
    let columns = columns(cell, &figures);
    let has_range = rows.iter().any(|row| row.range.is_some_and(|range| range.0 < range.1));
    let mut header = vec!["store", "ops/s", "of best"];
    header.extend(has_range.then_some("runs"));
    header.extend(columns.iter().map(|(title, ..)| title));
    let mut table = Table::new(&header);
    for row in rows {
        let range = row.range.map(|range| format!("{}-{}", rate(range.0), rate(range.1)));
        let mut cells = vec![
            row.store.to_owned(),
            rate(row.figures.rate()),
            row.of_best.map_or("-".to_owned(), ratio),
        ];
        if has_range {
            cells.push(range.unwrap_or("-".to_owned()));
        }
        cells.extend(
            columns
                .iter()
                .map(|(_, name, show)| row.figures.get(name).map_or("-".to_owned(), show)),
        );
        table.row(cells);
    }
    table
}

/// Draws a cell: a title and a row for each store.
pub(crate) fn cell_table(cell: Cell, standings: &[Standing]) -> String {
    let rows: Vec<_> = standings
        .iter()
        .map(|standing| Row {
            store: standing.store,
            range: Some(standing.range),
            figures: &standing.medians,
            of_best: standing.of_best,
        })
        .collect();
    let mut text =
        format!("{}: {}\n{}", cell.name(), cell.workload.description(), table(cell, &rows));
    for standing in standings {
        // What a writer beside the readers did is worth a line, not two columns.
        let medians = &standing.medians;
        if let (Some(writes), Some(max)) =
            (medians.get("writer_ops_per_s"), medians.get("writer_max_us"))
        {
            let (writes, max) = (rate(writes), time(max));
            text +=
                &format!("  {} wrote {writes} records/s, longest write {max}\n", standing.store);
        }
    }
    text
}

/// Draws one row for each cell: the best peer, and Holm beside it where it took part.
pub(crate) fn summary_table(cells: &[Vec<Standing>]) -> String {
    let mut table = Table::new(&["cell", "best peer", "ops/s", "Holm", "ratio Holm / best peer"]);
    for standings in cells {
        let Some(best) = best_peer(standings) else { continue };
        let ours = standings.iter().find(|standing| standing.role == Role::Ours);
        table.row([
            best.cell.name(),
            best.store.to_owned(),
            rate(best.medians.rate()),
            ours.map_or("-".to_owned(), |ours| rate(ours.medians.rate())),
            ours.and_then(|ours| ours.of_best).map_or("-".to_owned(), ratio),
        ]);
    }
    table.to_string()
}

/// Every sample as an object.
pub(crate) fn samples_json(samples: &[Sample]) -> Json {
    let object = |sample: &Sample| {
        let mut fields = labels(sample.cell, sample.store);
        fields.push(("run".to_owned(), Json::from(f64::from(sample.run))));
        fields.extend(sample.figures.fields());
        Json::Object(fields)
    };
    Json::List(samples.iter().map(object).collect())
}

/// The medians as objects.
pub(crate) fn medians_json(cells: &[Vec<Standing>]) -> Json {
    let object = |standing: &Standing| {
        let mut fields = labels(standing.cell, standing.store);
        fields.push(("role".to_owned(), Json::from(standing.role.name())));
        fields.push(("of_best_peer".to_owned(), Json::from(standing.of_best)));
        fields.push(("lowest".to_owned(), Json::from(standing.range.0)));
        fields.push(("highest".to_owned(), Json::from(standing.range.1)));
        fields.extend(standing.medians.fields());
        Json::Object(fields)
    };
    Json::List(cells.iter().flatten().map(object).collect())
}

fn labels(cell: Cell, store: &str) -> Vec<(String, Json)> {
    vec![
        ("workload".to_owned(), Json::from(cell.workload.name().as_str())),
        ("width".to_owned(), Json::from(cell.width as f64)),
        ("store".to_owned(), Json::from(store)),
    ]
}

#[cfg(test)]
mod tests;

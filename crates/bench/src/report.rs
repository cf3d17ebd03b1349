//! Samples, their medians and ratios, and the tables and JSON made of them.

use crate::cell::Cell;
use crate::json::Json;
use crate::peer::{Peer, Role};
use crate::run::Measured;
use crate::table::{Table, bytes, rate, time};

/// One run of one cell on one store, in numbers.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) cell: Cell,
    pub(crate) store: &'static str,
    pub(crate) run: u32,
    pub(crate) figures: Figures,
}

/// What is reported of a run, or the medians of several.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) ops_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p95_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) cpu_us_per_op: f64,
    pub(crate) disk_bytes: f64,
    pub(crate) aborts_per_op: f64,
    pub(crate) flushes_per_op: Option<f64>,
    pub(crate) fsyncs_per_op: Option<f64>,
}

impl Figures {
    pub(crate) fn of(measured: &Measured) -> Figures {
        let Measured { outcome, used, disk_bytes } = measured;
        let ops = outcome.ops.max(1) as f64;
        let us = |quantile| outcome.latencies.value_at_quantile(quantile) as f64 / 1e3;
        Figures {
            ops_per_s: outcome.ops as f64 / outcome.elapsed.as_secs_f64().max(1e-9),
            p50_us: us(0.5),
            p95_us: us(0.95),
            p99_us: us(0.99),
            p999_us: us(0.999),
            cpu_us_per_op: used.cpu.as_secs_f64() * 1e6 / ops,
            disk_bytes: *disk_bytes as f64,
            aborts_per_op: outcome.aborts as f64 / ops,
            flushes_per_op: used.flushes.map(|flushes| flushes as f64 / ops),
            fsyncs_per_op: used.fsyncs.map(|fsyncs| fsyncs as f64 / ops),
        }
    }

    fn medians<'a>(figures: impl Iterator<Item = &'a Figures> + Clone) -> Figures {
        let of = |field: fn(&Figures) -> f64| median(figures.clone().map(field)).unwrap_or(0.0);
        let maybe = |field: fn(&Figures) -> Option<f64>| median(figures.clone().filter_map(field));
        Figures {
            ops_per_s: of(|it| it.ops_per_s),
            p50_us: of(|it| it.p50_us),
            p95_us: of(|it| it.p95_us),
            p99_us: of(|it| it.p99_us),
            p999_us: of(|it| it.p999_us),
            cpu_us_per_op: of(|it| it.cpu_us_per_op),
            disk_bytes: of(|it| it.disk_bytes),
            aborts_per_op: of(|it| it.aborts_per_op),
            flushes_per_op: maybe(|it| it.flushes_per_op),
            fsyncs_per_op: maybe(|it| it.fsyncs_per_op),
        }
    }

    fn fields(&self) -> Vec<(String, Json)> {
        let fields = Json::object([
            ("ops_per_s", Json::from(self.ops_per_s)),
            ("p50_us", Json::from(self.p50_us)),
            ("p95_us", Json::from(self.p95_us)),
            ("p99_us", Json::from(self.p99_us)),
            ("p999_us", Json::from(self.p999_us)),
            ("cpu_us_per_op", Json::from(self.cpu_us_per_op)),
            ("disk_bytes", Json::from(self.disk_bytes)),
            ("aborts_per_op", Json::from(self.aborts_per_op)),
            ("flushes_per_op", Json::from(self.flushes_per_op)),
            ("fsyncs_per_op", Json::from(self.fsyncs_per_op)),
        ]);
        match fields {
            Json::Object(fields) => fields,
            _ => Vec::new(),
        }
    }
}

/// The median of a few numbers; of an even count, the mean of the middle two.
fn median(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
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
        let rates = of(store.name).map(|sample| sample.figures.ops_per_s);
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
                Some(sample.figures.ops_per_s / other.figures.ops_per_s)
            });
            standing.of_best = median(ratios);
        }
    }
    standings
}

fn best_peer(standings: &[Standing]) -> Option<&Standing> {
    let peers = standings.iter().filter(|standing| standing.role == Role::Peer);
    peers.max_by(|left, right| left.medians.ops_per_s.total_cmp(&right.medians.ops_per_s))
}

/// Draws a cell: a title and a row for each store.
pub(crate) fn cell_table(cell: Cell, standings: &[Standing]) -> String {
    let mut table = Table::new(&[
        "store", "ops/s", "runs", "p50", "p95", "p99", "p99.9", "cpu/op", "flush/op", "abort/op",
        "disk", "of best",
    ]);
    for standing in standings {
        let it = &standing.medians;
        let optional = |value: Option<f64>| value.map_or("-".to_owned(), |it| format!("{it:.3}"));
        table.row([
            standing.store.to_owned(),
            rate(it.ops_per_s),
            format!("{}-{}", rate(standing.range.0), rate(standing.range.1)),
            time(it.p50_us),
            time(it.p95_us),
            time(it.p99_us),
            time(it.p999_us),
            time(it.cpu_us_per_op),
            optional(it.fsyncs_per_op.or(it.flushes_per_op)),
            optional((it.aborts_per_op > 0.0).then_some(it.aborts_per_op)),
            bytes(it.disk_bytes),
            standing.of_best.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        ]);
    }
    format!("{}: {}\n{table}", cell.name(), cell.workload.description())
}

/// Draws one row for each cell: the best peer, and Holm beside it where it took part.
pub(crate) fn summary_table(cells: &[Vec<Standing>]) -> String {
    let mut table = Table::new(&["cell", "best peer", "ops/s", "Holm", "ratio Holm / best peer"]);
    for standings in cells {
        let Some(best) = best_peer(standings) else { continue };
        let ours = standings.iter().find(|standing| standing.role == Role::Ours);
        let ratio = ours.and_then(|ours| ours.of_best);
        table.row([
            best.cell.name(),
            best.store.to_owned(),
            rate(best.medians.ops_per_s),
            ours.map_or("-".to_owned(), |ours| rate(ours.medians.ops_per_s)),
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
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
        fields.extend(standing.medians.fields());
        fields.push(("of_best_peer".to_owned(), Json::from(standing.of_best)));
        Json::Object(fields)
    };
    Json::List(cells.iter().flatten().map(object).collect())
}

fn labels(cell: Cell, store: &str) -> Vec<(String, Json)> {
    vec![
        ("workload".to_owned(), Json::from(cell.workload.name())),
        ("width".to_owned(), Json::from(cell.width as f64)),
        ("store".to_owned(), Json::from(store)),
    ]
}

#[cfg(test)]
mod tests;

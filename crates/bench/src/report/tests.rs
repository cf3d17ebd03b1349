//! Medians, ratios and the choice of the best peer.

use super::*;
use crate::cell::Workload;

const CELL: Cell = Cell { workload: Workload::Commits, width: 8 };

fn peer(name: &'static str, role: Role) -> Peer {
    Peer { name, role, settings: "", open: |_| Err("never opened".into()) }
}

fn sample(store: &'static str, run: u32, ops_per_s: f64) -> Sample {
    Sample { cell: CELL, store, run, figures: Figures::from([("ops_per_s", ops_per_s)]) }
}

#[test]
fn ratios_are_taken_run_by_run_to_the_best_peer() {
    let stores = [
        peer("ours", Role::Ours),
        peer("slow", Role::Peer),
        peer("fast", Role::PlainPeer),
        peer("limit", Role::LogLimit),
    ];
    // The second run was disturbed: both halve, and the ratio does not move.
    let rates = [("ours", [200.0, 100.0]), ("slow", [50.0, 25.0]), ("fast", [100.0, 50.0])];
    let mut samples = vec![sample("limit", 0, 1000.0)];
    for (store, rates) in rates {
        samples.extend((0..).zip(rates).map(|(run, rate)| sample(store, run, rate)));
    }
    let standings = standings(CELL, &stores, &samples);
    let ratios: Vec<_> = standings.iter().map(|it| (it.store, it.of_best)).collect();
    let expected =
        [("ours", Some(2.0)), ("slow", Some(0.5)), ("fast", Some(1.0)), ("limit", Some(10.0))];
    assert_eq!(ratios, expected);
    assert!(summary_table(&[standings]).contains("commits/8"));
}

#[test]
fn stores_without_samples_have_no_row() {
    let stores = [peer("ours", Role::Ours), peer("absent", Role::Peer)];
    let standings = standings(CELL, &stores, &[sample("ours", 0, 1.0)]);
    let drawn = cell_table(CELL, &standings);
    assert!(drawn.contains("ours") && !drawn.contains("absent"), "{drawn}");
}

#[test]
fn columns_without_figures_are_left_out() {
    let figures = [
        Figures::from([("ops_per_s", 1.0), ("p50_us", 2.0), ("aborts_per_op", 0.0)]),
        Figures::from([("ops_per_s", 1.0), ("fsyncs_per_op", 0.5)]),
    ];
    let rows: Vec<_> = figures.iter().collect();
    let titles = columns(CELL, &rows).into_iter().map(|(title, ..)| title).collect::<Vec<_>>();
    assert_eq!(titles, ["p50", "fsync/op"]);
}

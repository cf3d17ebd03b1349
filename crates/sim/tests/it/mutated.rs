//! Small histories, right ones, wrong ones and damaged ones, each decided by brute force too.
//!
//! What brute force can explain must be valid: no false alarms, ever. What it cannot explain must
//! be caught where all appends were seen, since then the order of versions is known, and the
//! graph is complete. (An append that nobody saw, or an unknown outcome, may leave a loophole.)

use holm_sim::checker::{Level, Options, list_append};
use holm_sim::history::{History, Op, Outcome};

use crate::brute_force::{is_serializable, is_snapshot_isolated};
use crate::executor::{Fault, Rng, SMALL, Size, run};

const TINY: Size =
    Size { transactions: 5, sessions: 3, keys: 2, ops: 3, final_reads: true, ..SMALL };

/// Damages one read: swaps, drops, duplicates or changes an element; or turns an outcome round.
fn mutate(history: &mut History, rng: &mut Rng) {
    let index = rng.below(history.transactions.len());
    let txn = &mut history.transactions[index];
    if rng.one_in(8) {
        txn.outcome =
            if txn.outcome == Outcome::Aborted { Outcome::Committed } else { Outcome::Aborted };
        return;
    }
    let lists = txn.ops.iter_mut().filter_map(|op| match op {
        Op::ReadList { observed, .. } if !observed.is_empty() => Some(observed),
        _ => None,
    });
    let mut lists: Vec<_> = lists.collect();
    if lists.is_empty() {
        return;
    }
    let chosen = rng.below(lists.len());
    let list = &mut lists[chosen];
    let (a, b) = (rng.below(list.len()), rng.below(list.len()));
    match rng.below(5) {
        0 => list.swap(a, b),
        1 => drop(list.remove(a)),
        2 => drop(list.pop()),
        3 => list.insert(a, list[b]),
        _ => list[a] = 99,
    }
}

#[derive(Default, Debug)]
struct Tally {
    valid: usize,
    caught: usize,
    /// Wrong, and not caught, but with a loophole.
    missed: usize,
}

fn compare(history: &History, level: Level, explained: bool, context: &str, tally: &mut Tally) {
    // Durability is a promise of its own, which brute force knows nothing of.
    let report = list_append::check(history, &Options { level, durable: false });
    match (explained, report.is_valid()) {
        (true, true) => tally.valid += 1,
        (false, false) => tally.caught += 1,
        (true, false) => panic!("false alarm, {context}\n{report}\n{history}"),
        (false, true) => {
            assert!(has_loophole(history), "missed under {level}, {context}\n{report}\n{history}");
            tally.missed += 1;
        }
    }
}

/// Returns true if an append was seen by nobody, or if its fate is unknown.
fn has_loophole(history: &History) -> bool {
    let committed = || history.transactions.iter().filter(|t| t.outcome == Outcome::Committed);
    let is_seen = |key: &str, element: u64| {
        committed().flat_map(|t| &t.ops).any(|op| match op {
            Op::ReadList { key: k, observed } => k == key && observed.contains(&element),
            _ => false,
        })
    };
    let appends = history.transactions.iter().filter(|t| t.outcome != Outcome::Aborted);
    appends
        .flat_map(|t| &t.ops)
        .any(|op| op.written().is_some_and(|element| !is_seen(op.key(), element)))
}

fn compare_all(seeds: u64, fault: Fault, size: Size, mutations: usize) {
    let mut tallies = [const { Tally { valid: 0, caught: 0, missed: 0 } }; 4];
    for seed in 0..seeds {
        let mut history = run(seed, fault, size);
        let mut rng = Rng(seed ^ 0xabcd);
        for _ in 0..mutations {
            mutate(&mut history, &mut rng);
        }
        let context = format!("{fault:?} seed {seed} mutations {mutations}");
        let [serial, strict, snapshot, strict_snapshot] = &mut tallies;
        for (level, explained, tally) in [
            (Level::Serializable, is_serializable(&history, false), serial),
            (Level::StrictSerializable, is_serializable(&history, true), strict),
            (Level::SnapshotIsolation, is_snapshot_isolated(&history, false), snapshot),
            (Level::StrictSnapshotIsolation, is_snapshot_isolated(&history, true), strict_snapshot),
        ] {
            compare(&history, level, explained, &context, tally);
        }
    }
    println!("{fault:?} mutations {mutations}: {tallies:?}");
}

#[test]
fn checker_agrees_with_brute_force_on_right_histories() {
    compare_all(300, Fault::None, TINY, 0);
    compare_all(300, Fault::None, Size { final_reads: false, ..TINY }, 0);
}

#[test]
fn checker_agrees_with_brute_force_on_mutated_histories() {
    compare_all(1500, Fault::None, TINY, 1);
    compare_all(500, Fault::None, TINY, 2);
    compare_all(500, Fault::None, Size { final_reads: false, ..TINY }, 1);
}

#[test]
fn checker_agrees_with_brute_force_on_broken_databases() {
    for fault in [
        Fault::NoReadValidation,
        Fault::NoValidation,
        Fault::ReadCommitted,
        Fault::DirtyReads,
        Fault::LostWrites,
        Fault::StaleSnapshot,
        Fault::StaleBegin,
        Fault::TornCommits,
        Fault::LeakyAborts,
        Fault::AppliedTwice,
        Fault::ReorderedReplica,
    ] {
        compare_all(150, fault, TINY, 0);
    }
}

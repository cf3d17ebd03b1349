//! Small histories, right ones, wrong ones and damaged ones, each decided by brute force too.
//!
//! What brute force can explain must be valid: no false alarms, ever. What it cannot explain must
//! be caught where all appends were seen, since then the order of versions is known, and the
//! graph is complete. (An append that nobody saw, or an unknown outcome, may leave a loophole.)

use holm_sim::checker::{Level, Options, list_append, register};
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

/// Lets one read of a register see another value, or turns an outcome round.
fn mutate_register(history: &mut History, rng: &mut Rng) {
    let index = rng.below(history.transactions.len());
    let written = history.transactions.iter().flat_map(|txn| &txn.ops);
    let values: Vec<(String, u64)> =
        written.filter_map(|op| Some((op.key().to_owned(), op.written()?))).collect();
    let txn = &mut history.transactions[index];
    if rng.one_in(8) && txn.outcome != Outcome::Unknown {
        txn.outcome =
            if txn.outcome == Outcome::Aborted { Outcome::Committed } else { Outcome::Aborted };
        return;
    }
    for op in &mut txn.ops {
        if let Op::Read { key, value } = op {
            let of_key: Vec<u64> = values.iter().filter(|v| v.0 == *key).map(|v| v.1).collect();
            let chosen = rng.below(of_key.len() + 1);
            *value = of_key.get(chosen).copied();
            return;
        }
    }
}

#[test]
fn register_checker_accuses_nothing_that_brute_force_explains() {
    let size = Size { registers: true, ..TINY };
    let mut tally = [[0_usize; 3]; 4];
    let faults = [Fault::None, Fault::StaleSnapshot, Fault::StaleBegin, Fault::NoReadValidation];
    for seed in 0..1_500 {
        let mut history = run(seed, faults[seed as usize % faults.len()], size);
        // Without timestamps, so that the order of writes is the checker's to find.
        history.transactions.iter_mut().for_each(|txn| txn.commit_ts = None);
        let mut rng = Rng(seed ^ 0xfeed);
        for _ in 0..seed % 3 {
            mutate_register(&mut history, &mut rng);
        }
        for (i, (level, explained)) in [
            (Level::Serializable, is_serializable(&history, false)),
            (Level::StrictSerializable, is_serializable(&history, true)),
            (Level::SnapshotIsolation, is_snapshot_isolated(&history, false)),
            (Level::StrictSnapshotIsolation, is_snapshot_isolated(&history, true)),
        ]
        .into_iter()
        .enumerate()
        {
            let report = register::check(&history, &Options { level, durable: false });
            let accused = !report.is_valid();
            assert!(!(explained && accused), "false alarm, seed {seed}\n{report}\n{history}");
            tally[i][usize::from(!explained) + usize::from(accused)] += 1;
        }
    }
    // Of each level: right, wrong and not accused, wrong and accused. Registers hide some.
    println!("{tally:?}");
    for [right, missed, caught] in tally {
        assert!(right > 250 && caught > 100 && missed < caught, "{tally:?}");
    }
}

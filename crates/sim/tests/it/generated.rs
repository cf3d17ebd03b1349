//! Histories of whole runs: a right database is never accused, a wrong one is soon caught.

use holm_sim::checker::{Level, Options, Report, list_append, register, timestamps};
use holm_sim::history::History;

use crate::executor::{Fault, SMALL, Size, run};

const SEEDS: u64 = 100;

fn lists(history: &History, level: Level) -> Report {
    list_append::check(history, &Options::at(level))
}

#[track_caller]
fn check_never_accused(
    fault: Fault,
    level: Level,
    check: fn(&History, Level) -> Report,
    size: Size,
) {
    for seed in 0..SEEDS {
        let history = run(seed, fault, size);
        let report = check(&history, level);
        assert!(report.is_valid(), "seed {seed} {fault:?}\n{report}\n{history}");
    }
}

/// Checks that a fault is noticed in one of the first seeds, and prints in how many of all.
#[track_caller]
fn check_caught(
    fault: Fault,
    level: Level,
    check: fn(&History, Level) -> Report,
    size: Size,
    seeds_max: u64,
) {
    let is_caught = |seed: &u64| !check(&run(*seed, fault, size), level).is_valid();
    let caught = (0..SEEDS).filter(is_caught).count();
    let first = (0..SEEDS).find(is_caught);
    println!("{fault:?} under {level}: seed {first:?} first, {caught} of {SEEDS} seeds");
    assert!(first.is_some_and(|first| first < seeds_max), "{fault:?} not caught: {first:?}");
}

#[test]
fn a_right_database_is_never_accused() {
    let level = Level::StrictSerializable;
    check_never_accused(Fault::None, level, lists, SMALL);
    check_never_accused(Fault::None, level, lists, Size { final_reads: false, ..SMALL });
    check_never_accused(Fault::None, level, lists, Size { keys: 1, sessions: 8, ..SMALL });
}

#[test]
fn weaker_databases_keep_their_weaker_promises() {
    use Level::{ReadCommitted, Serializable, StrictSnapshotIsolation};
    check_never_accused(Fault::NoReadValidation, StrictSnapshotIsolation, lists, SMALL);
    check_never_accused(Fault::NoValidation, ReadCommitted, lists, SMALL);
    check_never_accused(Fault::ReadCommitted, ReadCommitted, lists, SMALL);
    // Reads of the past are serializable, if not strictly. The last reads may be stale, so that
    // an append can look lost.
    let stale =
        |history: &History, level| list_append::check(history, &Options { level, durable: false });
    check_never_accused(Fault::StaleSnapshot, Serializable, stale, SMALL);
    check_never_accused(Fault::StaleBegin, Serializable, stale, SMALL);
}

#[test]
fn wrong_databases_are_caught() {
    use Level::{ReadCommitted, Serializable, SnapshotIsolation, StrictSerializable};
    check_caught(Fault::NoReadValidation, Serializable, lists, SMALL, 5);
    check_caught(Fault::NoValidation, SnapshotIsolation, lists, SMALL, 5);
    check_caught(Fault::ReadCommitted, SnapshotIsolation, lists, SMALL, 5);
    check_caught(Fault::DirtyReads, ReadCommitted, lists, SMALL, 5);
    check_caught(Fault::LostWrites, StrictSerializable, lists, SMALL, 5);
    check_caught(Fault::StaleSnapshot, StrictSerializable, lists, SMALL, 5);
    check_caught(Fault::StaleBegin, StrictSerializable, lists, SMALL, 5);
    check_caught(Fault::TornCommits, SnapshotIsolation, lists, SMALL, 5);
    check_caught(Fault::LeakyAborts, ReadCommitted, lists, SMALL, 5);
    check_caught(Fault::AppliedTwice, Serializable, lists, SMALL, 5);
    check_caught(Fault::ReorderedReplica, ReadCommitted, lists, SMALL, 5);
}

fn registers(history: &History, level: Level) -> Report {
    register::check(history, &Options::at(level))
}

fn registers_without_timestamps(history: &History, level: Level) -> Report {
    let mut history = history.clone();
    history.transactions.iter_mut().for_each(|txn| txn.commit_ts = None);
    registers(&history, level)
}

#[test]
fn registers_with_and_without_timestamps() {
    use Level::{Serializable, SnapshotIsolation, StrictSerializable, StrictSnapshotIsolation};
    let size = Size { registers: true, ..SMALL };
    let blind = registers_without_timestamps;
    check_never_accused(Fault::None, StrictSerializable, registers, size);
    check_never_accused(Fault::None, StrictSerializable, blind, size);
    check_never_accused(Fault::NoReadValidation, StrictSnapshotIsolation, registers, size);
    check_never_accused(Fault::NoReadValidation, StrictSnapshotIsolation, blind, size);
    check_caught(Fault::NoReadValidation, Serializable, registers, size, 20);
    check_caught(Fault::NoReadValidation, Serializable, blind, size, 20);
    check_caught(Fault::NoValidation, SnapshotIsolation, registers, size, 5);
    check_caught(Fault::NoValidation, SnapshotIsolation, blind, size, 20);
    check_caught(Fault::StaleSnapshot, StrictSerializable, registers, size, 20);
    check_caught(Fault::StaleSnapshot, StrictSerializable, blind, size, 20);
    check_caught(Fault::LostWrites, StrictSerializable, registers, size, 20);
}

fn dated(history: &History, level: Level) -> Report {
    timestamps::check(history, &Options::at(level))
}

#[test]
fn timestamps_of_lists_and_registers() {
    use Level::{Serializable, SnapshotIsolation, StrictSerializable, StrictSnapshotIsolation};
    for registers in [false, true] {
        let size = Size { registers, ..SMALL };
        // A register of unknown write has no place on the timeline, so a read may not be exact.
        let size = Size { unknowns: !registers, ..size };
        check_never_accused(Fault::None, StrictSerializable, dated, size);
        check_never_accused(Fault::NoReadValidation, StrictSnapshotIsolation, dated, size);
        check_never_accused(Fault::StaleSnapshot, Serializable, dated, size);
        check_caught(Fault::NoReadValidation, Serializable, dated, size, 5);
        check_caught(Fault::NoValidation, SnapshotIsolation, dated, size, 5);
        check_caught(Fault::ReadCommitted, SnapshotIsolation, dated, size, 5);
        check_caught(Fault::LostWrites, SnapshotIsolation, dated, size, 5);
        check_caught(Fault::TornCommits, SnapshotIsolation, dated, size, 5);
        check_caught(Fault::StaleSnapshot, StrictSerializable, dated, size, 5);
    }
}

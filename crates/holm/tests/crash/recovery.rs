//! A log longer than several memtables: opening writes tables on its way, and is stopped, or
//! finds the disk failing or full, at each of its operations.
//!
//! ```text
//!   first life    memtable of 1 MiB: everything is in the log, nothing is flushed
//!   opening       memtable of 12 KiB: replay flushes several times, then one edit names it all
//! ```

use std::io::ErrorKind;

use env::{CrashMode, SeededRandom, SimDisk};
use holm::{Durability, Options};

use crate::stops::{recover, seeds_factor};
use crate::workload::{KEYS, KEYSPACES, Put, Step, workload};
use crate::world::{World, check_error, tiny};

/// Transactions in the log: replay looks at the memtable's size every 64.
const COMMITS: usize = 330;

/// The layout of the first life.
fn roomy() -> Options {
    tiny().memtable_bytes(1 << 20).log_bytes(1 << 20)
}

/// Small commits, the last of which promise nothing.
fn steps(seed: u64) -> Vec<Step> {
    let mut random = SeededRandom::new(seed);
    let mut steps = vec![Step::Keyspace(0), Step::Keyspace(1)];
    // Something is in tables before, for the rest to lie over.
    steps.extend(workload(seed, 20));
    steps.push(Step::Checkpoint);
    for n in 0..COMMITS {
        let puts = (0..1 + random.below(3)).map(|_| Put {
            keyspace: random.below(KEYSPACES) as u8,
            key: random.below(KEYS) as u8,
            value_bytes: random.chance(800).then(|| 20 + random.below(250) as usize),
        });
        let writes = puts.collect();
        let durability = if n + 20 < COMMITS { Durability::Sync } else { Durability::None };
        steps.push(Step::Commit { writes, deletes: None, durability, is_pending: false });
    }
    steps
}

fn first_life(seed: u64) -> World {
    let mut world = World::new(roomy());
    world.run(&steps(seed)).unwrap();
    let db = world.db.as_ref().unwrap();
    assert!(db.stats().engine.log_bytes > 48 << 10, "{}", db.stats().engine.log_bytes);
    world.history.note_floor(db);
    world
}

fn modes(seed: u64) -> [CrashMode; 3] {
    [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::Torn(seed)]
}

/// Returns the operations of a recovery, and what it does.
fn operations_of(disk: &SimDisk, world: &World) -> u64 {
    let disk = disk.crash(CrashMode::KeepUnsynced);
    disk.record_trace(true);
    recover(disk.clone(), &world.clock, &world.history, "recovered whole");
    let trace = disk.trace();
    let tables = trace.iter().filter(|line| line.contains("create  ") && line.contains(".table"));
    assert!(tables.count() >= 3, "replay does not flush: {trace:#?}");
    let edits = trace.iter().filter(|line| line.contains("rename") && line.contains("MANIFEST"));
    assert_eq!(edits.count(), 1, "{trace:#?}");
    disk.operations()
}

#[test]
fn a_recovery_that_flushes_may_be_stopped_anywhere_and_again() {
    for seed in 500..500 + seeds_factor() {
        let (mut stops, mut random) = (0, SeededRandom::new(seed));
        let world = first_life(seed);
        for mode in modes(seed) {
            let crashed = world.disk.crash(mode);
            let operations = operations_of(&crashed, &world);
            let disk = crashed.crash(CrashMode::KeepUnsynced);
            let expected = recover(disk, &world.clock, &world.history, "whole").history.len();
            for stop in 0..operations {
                let context = format!("seed {seed}, {mode:?}, recovery stopped at {stop}");
                let disk = crashed.crash(CrashMode::KeepUnsynced);
                disk.stop_at(stop);
                let history = world.history.clone();
                let mut stopped = World::resume(disk, world.clock.clone(), tiny(), history);
                stopped.context = context.clone();
                let opened = stopped.open();
                assert!(opened.is_err() || stop + 5 > operations, "{context}: it goes on");
                // Another one, stopped somewhere, and then one to the end.
                let again = stopped.disk.crash(modes(random.next_u64())[stop as usize % 3]);
                again.stop_at(random.below(operations));
                let history = world.history.clone();
                let mut second = World::resume(again, world.clock.clone(), tiny(), history);
                second.context = format!("{context}, and again");
                let _ = second.open();
                for mode in [CrashMode::LoseUnsynced, CrashMode::Torn(random.next_u64())] {
                    let context = format!("{}, then {mode:?}", second.context);
                    let disk = second.disk.crash(mode);
                    let last = recover(disk, &world.clock, &world.history, &context);
                    assert_eq!(last.history.len(), expected, "{context}: it changed");
                }
                stops += 1;
            }
        }
        println!("seed {seed}: {stops} stops of recoveries that flush");
        assert!(stops > 60, "{stops}");
    }
}

#[test]
fn a_recovery_that_flushes_may_fail_anywhere_and_works_once_the_disk_does() {
    let world = first_life(510);
    let crashed = world.disk.crash(CrashMode::KeepUnsynced);
    let (operations, mut refused) = (operations_of(&crashed, &world), 0);
    for number in 0..operations {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
            let context = format!("{kind:?} from operation {number} of a recovery on");
            let disk = crashed.crash(CrashMode::KeepUnsynced);
            disk.fail_from(number, kind);
            let mut failed =
                World::resume(disk, world.clock.clone(), tiny(), world.history.clone());
            failed.context = context.clone();
            if let Err(error) = failed.open() {
                check_error(&error, &context);
                refused += 1;
            }
            failed.close(false).unwrap();
            for mode in [CrashMode::LoseUnsynced, CrashMode::Torn(number)] {
                let context = format!("{context}, then {mode:?}");
                recover(failed.disk.crash(mode), &world.clock, &world.history, &context);
            }
            failed.disk.heal();
            failed.open().unwrap_or_else(|error| panic!("{context}, healed: {error}"));
            failed.run(&workload(1, 3)).unwrap();
        }
    }
    println!("{operations} operations of a recovery failed, {refused} refusals");
    assert!(refused > operations, "{refused} of {operations}");
}

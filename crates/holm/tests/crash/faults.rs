//! Calls that fail: each one for once, all from one on until the disk is healed, and a disk that is
//! full. The database goes on, or says that it cannot; it never shows what is not so, and a crash
//! after it takes back nothing that was acknowledged.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use env::{CrashMode, ManualClock, SeededRandom, SimDisk};
use holm::{Db, Error, StorageError};

use crate::stops::{recover, seeds_factor};
use crate::workload::{Step, workload};
use crate::world::{Tally, World, check_error, check_files, open, tiny};

const STEPS: usize = 90;

/// What a run met.
#[derive(Default, Debug)]
struct Met {
    refused_opens: u64,
    failed_logs: u64,
    full_disks: u64,
    others: u64,
}

impl Met {
    fn note(&mut self, error: &Error) {
        match error.as_storage() {
            Some(StorageError::LogFailed { .. }) => self.failed_logs += 1,
            Some(StorageError::DiskFull { .. }) => self.full_disks += 1,
            _ => self.others += 1,
        }
    }
}

/// Does all steps, whatever fails; looks at the database after each failure.
fn run_through(world: &mut World, steps: &[Step], heal_after: Option<u64>, met: &mut Met) {
    let mut left = heal_after;
    for step in steps {
        let was_open = world.db.is_some();
        if let Err(error) = world.step(step) {
            check_error(&error, &world.context);
            met.note(&error);
            met.refused_opens += u64::from(!was_open && world.db.is_none());
            world.check_view();
            if let Some(count) = &mut left {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    world.disk.heal();
                }
            }
        }
    }
}

/// After the faults: the process ends, the database is opened again on the same disk, takes a
/// write, and the power is lost.
fn live_on(world: &mut World) {
    world.disk.heal();
    let _ = world.close(false);
    let context = world.context.clone();
    world.open().unwrap_or_else(|error| panic!("{context}: opened again: {error}"));
    let known = world.history.len();
    assert_eq!(world.history.promised(), known);
    world.run(&workload(1, 4)).unwrap_or_else(|error| panic!("{context}: in use again: {error}"));
    for mode in [CrashMode::LoseUnsynced, CrashMode::Torn(known as u64)] {
        let context = format!("{context}, opened again, then {mode:?}");
        let found = recover(world.disk.crash(mode), &world.clock, &world.history, &context);
        assert!(found.history.len() >= known, "{context}: what had been shown is gone");
    }
}

/// Runs the workload of a seed with a fault at every operation.
fn fail_everywhere(seed: u64, every: usize, plan: impl Fn(&SimDisk, u64)) -> (u64, Met) {
    let steps = workload(seed, STEPS);
    let operations = {
        let mut world = World::new(tiny());
        world.run(&steps).unwrap();
        world.disk.operations()
    };
    let mut met = Met::default();
    let mut tally = Tally::default();
    for number in (0..operations).step_by(every) {
        let mut world = World::new(tiny());
        world.context = format!("seed {seed}, fault at {number}");
        plan(&world.disk, number);
        run_through(&mut world, &steps, Some(1 + number % 5), &mut met);
        world.check_view();
        // Power lost right away, and the process ended and begun again.
        for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::Torn(number)] {
            let context = format!("{}, then {mode:?}", world.context);
            recover(world.disk.crash(mode), &world.clock, &world.history, &context);
        }
        live_on(&mut world);
        tally.join(&world.tally);
    }
    tally.check_all_happened();
    (operations, met)
}

#[test]
fn any_call_may_fail_once() {
    for seed in 300..300 + 2 * seeds_factor() {
        let (calls, met) =
            fail_everywhere(seed, 1, |disk, number| disk.fail_at(number, ErrorKind::Other));
        println!("seed {seed}: {calls} calls failed once, {met:?}");
        assert!(met.failed_logs > 0 && met.refused_opens > 0 && met.others > 0, "{met:?}");
    }
}

#[test]
fn any_call_may_find_the_disk_full_once() {
    for seed in 310..310 + seeds_factor() {
        let (calls, met) =
            fail_everywhere(seed, 1, |disk, number| disk.fail_at(number, ErrorKind::StorageFull));
        println!("seed {seed}: {calls} calls found the disk full, {met:?}");
        assert!(met.full_disks > 0, "{met:?}");
    }
}

#[test]
fn all_calls_may_fail_until_the_disk_is_healed() {
    for seed in 320..320 + seeds_factor() {
        let plan = |disk: &SimDisk, number| disk.fail_from(number, ErrorKind::Other);
        let (calls, met) = fail_everywhere(seed, 2, plan);
        println!("seed {seed}: {calls} calls failed for good, {met:?}");
        let plan = |disk: &SimDisk, number| disk.fail_from(number, ErrorKind::StorageFull);
        let (calls, met) = fail_everywhere(seed + 5, 2, plan);
        println!("seed {seed}: {calls} calls found the disk full for good, {met:?}");
    }
}

#[test]
fn a_full_disk_refuses_writes_and_takes_them_once_there_is_space() {
    let steps = workload(330, STEPS);
    let needed = {
        let mut world = World::new(tiny());
        world.run(&steps).unwrap();
        world.disk.allocated_bytes()
    };
    let mut refusals = 0;
    for pages in 2..=needed / 4096 {
        let mut world = World::new(tiny());
        world.context = format!("room for {pages} pages");
        world.disk.set_capacity_bytes(pages * 4096);
        for step in &steps {
            let Err(error) = world.step(step) else { continue };
            refusals += 1;
            let context = &world.context;
            assert!(
                matches!(error.as_storage(), Some(StorageError::DiskFull { .. })),
                "{context}: {error:?}"
            );
            check_error(&error, context);
            world.check_view();
            world.disk.set_capacity_bytes(u64::MAX);
            // The same database goes on, in the same process.
            world.step(step).unwrap_or_else(|error| panic!("{}: {error}", world.context));
            world.disk.set_capacity_bytes(world.disk.allocated_bytes());
        }
        world.check_view();
        let context = world.context.clone();
        recover(world.disk.crash(CrashMode::Torn(pages)), &world.clock, &world.history, &context);
        world.disk.set_capacity_bytes(u64::MAX);
        live_on(&mut world);
    }
    println!("{refusals} refusals");
    assert!(refusals > 20, "{refusals}");
}

/// The log still has room where it was prepared, but no table can be written: memtables fill up
/// until there is no memory for another one. Then commits are refused, and only they.
#[test]
fn when_memory_is_full_of_what_cannot_be_flushed_only_writes_are_refused() {
    let options = tiny().segment_bytes(1 << 20, 1 << 20).log_bytes(1 << 20);
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1000));
    let db = open(&disk, &clock, &options).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut expected = BTreeMap::new();
    let mut commit = |number: u32| {
        let (key, value) = (format!("{:03}", number * 7 % 150), format!("{number:0200}"));
        db.put(&keyspace, &key, &value)?;
        expected.insert(key, value);
        Ok::<_, Error>(())
    };
    (0..200).try_for_each(&mut commit).unwrap();
    db.flush().unwrap();
    let mut number = 200;
    for round in 0..3 {
        let past = db.now();
        disk.set_capacity_bytes(disk.allocated_bytes());
        let error = loop {
            match commit(number) {
                Ok(()) => number += 1,
                Err(error) => break error,
            }
            assert!(number < 5_000, "nothing is ever refused");
        };
        assert!(matches!(error, Error::MemoryFull { .. }), "{error:?}");
        check_error(&error, "memory is full");
        let text = error.to_string();
        let names = [".table", ".values", "MANIFEST"];
        assert!(names.iter().any(|name| text.contains(name)), "{text}");
        let stats = db.stats().engine;
        assert!(stats.sealed >= 3, "{stats:#?}");
        // It stays so, and says so.
        assert!(matches!(commit(number), Err(Error::MemoryFull { .. })));
        assert!(db.flush().is_err());
        db.maintain();
        // Readers do not notice.
        let view = db.snapshot();
        assert_eq!(view.scan(&keyspace, ..).count(), 150);
        assert_eq!(view.scan(&keyspace, ..).reverse().count(), 150);
        assert!(view.get(&keyspace, "000").unwrap().is_some());
        assert!(db.at(past).unwrap().get(&keyspace, "001").unwrap().is_some());
        db.verify().unwrap();
        if round == 1 {
            // What was acknowledged is in the log.
            let crashed = disk.crash(CrashMode::LoseUnsynced);
            crashed.set_capacity_bytes(u64::MAX);
            let again = open(&crashed, &clock, &options).unwrap();
            assert_eq!(again.now(), db.now());
        }
        disk.set_capacity_bytes(u64::MAX);
        commit(number).expect("there is space again");
        number += 1;
        assert_eq!(db.stats().engine.sealed, 0, "and what waited is flushed at once");
    }
    let check = |db: &Db| {
        let keyspace = db.keyspace("k").unwrap();
        let now = db.snapshot();
        let rows = now.scan(&keyspace, ..).map(|row| {
            let (key, value) = row.unwrap().into_parts();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (text(&key), text(&value))
        });
        assert_eq!(rows.collect::<BTreeMap<_, _>>(), expected);
    };
    check(&db);
    drop(keyspace);
    db.close().unwrap();
    let db = open(&disk, &clock, &options).unwrap();
    check_files(&disk, &db, "opened again");
    check(&db);
}

#[test]
fn any_read_of_an_opening_and_of_a_verification_may_fail() {
    let (disk, clock, history) = {
        let mut world = World::new(tiny());
        world.run(&workload(340, STEPS)).unwrap();
        world.close(false).unwrap();
        (world.disk.crash(CrashMode::KeepUnsynced), world.clock.clone(), world.history.clone())
    };
    let mut refused = 0;
    for number in 0.. {
        let disk = disk.crash(CrashMode::KeepUnsynced);
        disk.count_reads(true);
        disk.fail_at(number, ErrorKind::Other);
        let context = format!("read {number} failed");
        let opened = open(&disk, &clock, &tiny());
        let is_past = disk.operations() <= number;
        disk.heal();
        match opened {
            Err(error) => {
                check_error(&error, &context);
                refused += 1;
            }
            Ok(db) => {
                history.check(&db, &context);
                if is_past {
                    break;
                }
            }
        }
        recover(disk.crash(CrashMode::LoseUnsynced), &clock, &history, &context);
    }
    assert!(refused > 20, "{refused}");
    let db = open(&disk, &clock, &tiny()).unwrap();
    disk.count_reads(true);
    for number in 0.. {
        let begin = disk.operations();
        disk.fail_at(begin + number, ErrorKind::Other);
        match db.verify() {
            Err(error) => check_error(&error, "verify"),
            Ok(_) => break,
        }
        disk.heal();
        db.verify().unwrap();
    }
}

#[test]
fn a_failed_sync_ends_writing_and_not_reading() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1000));
    let db = open(&disk, &clock, &tiny()).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    db.put(&keyspace, "a", "1").unwrap();
    let kept = db.now();
    // So that the next operation is that of the log.
    db.maintain();
    disk.fail_at(disk.operations(), ErrorKind::Other);
    for value in ["2", "3"] {
        let error = db.put(&keyspace, "a", value).unwrap_err();
        assert!(matches!(error.as_storage(), Some(StorageError::LogFailed { .. })), "{error}");
        check_error(&error, "the write");
    }
    assert!(db.sync().is_err());
    assert_eq!(db.get(&keyspace, "a").unwrap().unwrap(), "1");
    assert_eq!(db.snapshot().scan(&keyspace, ..).count(), 1);
    assert_eq!(db.at(kept).unwrap().get(&keyspace, "a").unwrap().unwrap(), "1");
    assert_eq!(db.now(), kept);
    db.verify().unwrap();
    assert!(db.close().is_err());
}

#[test]
fn a_failed_checkpoint_leaves_the_one_before_in_force() {
    let mut random = SeededRandom::new(5);
    for number in 0.. {
        let mut world = World::new(tiny());
        world.context = format!("checkpoint, call {number}");
        world.run(&workload(350, 40)).unwrap();
        world.run(&[Step::Checkpoint]).unwrap();
        world.run(&workload(351, 20)).unwrap();
        let before = world.db.as_ref().unwrap().stats().engine;
        let begin = world.disk.operations();
        world.disk.fail_at(begin + number, ErrorKind::Other);
        let failed = world.step(&Step::Checkpoint).is_err();
        let is_past = world.disk.operations() <= begin + number;
        let db = world.db.as_ref().unwrap();
        if failed {
            let after = db.stats().engine;
            assert_eq!(after.checkpoint_ts, before.checkpoint_ts, "{}", world.context);
        }
        for _ in 0..2 {
            // Tried again it works, or it is refused for good; neither harms what is there.
            let _ = world.step(&Step::Checkpoint);
            let crashed = world.disk.crash(CrashMode::Torn(random.next_u64()));
            recover(crashed, &world.clock, &world.history, &world.context);
        }
        live_on(&mut world);
        if is_past {
            assert!(number > 6, "{number}");
            break;
        }
    }
}

//! Bulk loads and checkpoints: all or nothing, wherever they are stopped, and beside transactions.

use std::path::Path;
use std::sync::Arc;

use env::{CrashMode, ManualClock, SimDisk};
use holm::{Db, Environment, Error, KeyspaceOptions, Options, WatchFrom};

use crate::world::{open, tiny};

/// Rows of a load: several tables' worth in the smallest layout.
const ROWS: u32 = 700;

fn key(n: u32) -> String {
    format!("row {n:05}")
}

fn value(n: u32) -> String {
    // Some are large enough to lie apart.
    let len = if n % 12 == 5 { 500 } else { n as usize % 90 };
    format!("{n}:{}", "x".repeat(len))
}

/// A database with a past in the range to come, of which nothing is left but tombstones.
fn with_a_past(disk: &SimDisk, clock: &ManualClock) -> Db {
    let db = open(disk, clock, &tiny()).unwrap();
    let rows = db.keyspace("rows").unwrap();
    let other = db.keyspace("other").unwrap();
    for n in 0..60 {
        db.put(&rows, key(n * 11), "old").unwrap();
        db.put(&other, key(n), value(n)).unwrap();
    }
    db.flush().unwrap();
    db.transact(|txn| txn.delete_range(&rows, ..)).unwrap();
    db.flush().unwrap();
    // The tombstones are among the hot rows.
    assert_eq!(db.get(&rows, key(11)).unwrap(), None);
    db
}

fn load(db: &Db) -> holm::Result<()> {
    let rows = db.keyspace("rows")?;
    let mut load = db.bulk_load(&rows);
    for n in 0..ROWS {
        load.add(key(n), value(n))?;
    }
    load.finish().map(|timestamp| assert_eq!(timestamp, Some(db.now())))
}

/// Checks that all rows of the load are there, or none; returns which.
fn check(db: &Db, context: &str) -> bool {
    let rows = db.find_keyspace("rows").unwrap();
    let found: Vec<_> = db.snapshot().scan(&rows, ..).map(|row| row.unwrap()).collect();
    let is_there = !found.is_empty();
    let expected = if is_there { ROWS } else { 0 };
    assert_eq!(found.len() as u32, expected, "{context}: half a load");
    for (n, row) in (0..).zip(&found) {
        assert_eq!((row.key(), row.value()), (key(n).as_bytes(), value(n).as_bytes()), "{context}");
    }
    for n in (0..ROWS).step_by(7) {
        let found = db.get(&rows, key(n)).unwrap();
        assert_eq!(found.is_some(), is_there, "{context}: {n} by itself");
    }
    let other = db.find_keyspace("other").unwrap();
    assert_eq!(db.snapshot().scan(&other, ..).count(), 60, "{context}");
    is_there
}

#[test]
fn a_load_is_there_whole_and_over_what_was_deleted_before() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let db = with_a_past(&disk, &clock);
    let before = db.now();
    let rows = db.keyspace("rows").unwrap();
    let reader = db.snapshot();
    let mut watch = db.watch(&rows, .., WatchFrom::Now).unwrap();
    load(&db).unwrap();
    assert!(check(&db, "after the load"));
    assert_eq!(reader.scan(&rows, ..).count(), 0, "a snapshot from before");
    assert_eq!(db.at(before).unwrap().scan(&rows, ..).count(), 0, "the past");
    assert_eq!(watch.next_change().unwrap().changes.len() as u32, ROWS);
    db.put(&rows, key(3), "newer").unwrap();
    assert_eq!(db.get(&rows, key(3)).unwrap().unwrap(), "newer");
    db.put(&rows, key(3), value(3)).unwrap();
    for _ in 0..2 {
        db.flush().unwrap();
        db.compact().unwrap();
        clock.advance(100);
        db.maintain();
        assert!(check(&db, "compacted"));
    }
    drop((reader, watch, rows));
    db.close().unwrap();
    let db = open(&disk, &clock, &tiny()).unwrap();
    assert!(check(&db, "opened again"));
    db.verify().unwrap();
}

/// The run of a load once had the number that the next opening gave to its first flush: two tables
/// of one run overlapped, and reads found one of them.
#[test]
fn what_is_flushed_after_the_next_opening_lies_over_a_load() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let db = with_a_past(&disk, &clock);
    load(&db).unwrap();
    let levels = db.stats().engine.levels;
    assert!(levels.iter().any(|at| at.level == 0 && at.entries >= ROWS.into()), "{levels:?}");
    drop(db);
    let disk = disk.crash(CrashMode::LoseUnsynced);
    let db = open(&disk, &clock, &tiny()).unwrap();
    let rows = db.keyspace("rows").unwrap();
    for n in (0..ROWS).step_by(50) {
        db.put(&rows, key(n), "newer").unwrap();
    }
    db.flush().unwrap();
    for n in 0..ROWS {
        let expected = if n % 50 == 0 { "newer".to_string() } else { value(n) };
        assert_eq!(db.get(&rows, key(n)).unwrap().unwrap(), expected, "{n}");
    }
}

#[test]
fn a_load_is_refused_where_there_are_rows_or_no_order() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let db = with_a_past(&disk, &clock);
    let rows = db.keyspace("rows").unwrap();
    let mut wrong = db.bulk_load(&rows);
    wrong.add("b", "1").unwrap();
    assert!(matches!(wrong.add("b", "2"), Err(Error::Invalid(_))));
    assert!(matches!(wrong.add("a", "2"), Err(Error::Invalid(_))));
    wrong.add("c", "2").unwrap();
    db.put(&rows, "bb", "in between").unwrap();
    let refused = wrong.finish().unwrap_err();
    assert!(matches!(refused, Error::NotEmpty { .. }), "{refused}");
    assert!(refused.to_string().starts_with("rows/bb is in the range"), "{refused}");
    assert_eq!(db.snapshot().scan(&rows, ..).count(), 1);
    assert_eq!(db.bulk_load(&rows).finish().unwrap(), None);
    drop(db.bulk_load(&rows));
    // Nothing of them is left.
    let is_table = |path: &Path| path.extension().is_some_and(|extension| extension == "table");
    let tables = disk.files().into_iter().filter(|(path, _)| is_table(path)).count();
    assert_eq!(tables as u64, db.stats().engine.levels.iter().map(|level| level.tables).sum());
}

#[test]
fn a_transaction_that_read_the_range_before_a_load_conflicts_with_it() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let db = with_a_past(&disk, &clock);
    let rows = db.keyspace("rows").unwrap();
    let mut scanner = db.begin();
    assert_eq!(scanner.scan(&rows, ..).count(), 0);
    scanner.put(&rows, "count", "0").unwrap();
    let mut getter = db.begin();
    assert_eq!(getter.get(&rows, key(5)).unwrap(), None);
    getter.put(&rows, "seen", "no").unwrap();
    let mut stranger = db.begin();
    assert_eq!(stranger.get(&rows, "elsewhere").unwrap(), None);
    stranger.put(&rows, "aside", "yes").unwrap();
    load(&db).unwrap();
    assert!(scanner.commit().unwrap_err().is_retryable());
    assert!(getter.commit().unwrap_err().is_retryable());
    stranger.commit().unwrap();
}

#[test]
fn a_load_that_is_stopped_anywhere_is_there_whole_or_not_at_all() {
    let mut whole = 0;
    for stop in 0.. {
        let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
        let db = with_a_past(&disk, &clock);
        let begin = disk.operations();
        disk.stop_at(begin + stop);
        let loaded = load(&db);
        let is_past = disk.operations() <= begin + stop;
        for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::Torn(stop)] {
            let crashed = disk.crash(mode);
            let context = format!("stopped at {stop}, {mode:?}");
            let db = open(&crashed, &clock, &tiny()).unwrap();
            let is_there = check(&db, &context);
            assert!(is_there || loaded.is_err(), "{context}: an acknowledged load is gone");
            whole += u32::from(is_there);
            db.verify().unwrap();
            if !is_there {
                load(&db).unwrap();
                check(&db, &context);
            }
        }
        if is_past {
            assert!(stop > 7 && whole > 3, "{stop} {whole}");
            break;
        }
    }
}

fn open_at(disk: &SimDisk, clock: &ManualClock, path: &str) -> holm::Result<Db> {
    let environment = Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(clock.clone()),
        seed: 8,
        has_background: false,
    };
    tiny().create_if_missing(false).open_in(environment, path)
}

#[test]
fn a_checkpoint_is_a_database_of_its_own() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let db = with_a_past(&disk, &clock);
    load(&db).unwrap();
    let rows = db.keyspace("rows").unwrap();
    let made = db.checkpoint("copy").unwrap();
    assert_eq!(made.timestamp, db.now());
    db.transact(|txn| txn.delete_range(&rows, ..)).unwrap();
    db.flush().unwrap();
    clock.advance(1000);
    db.maintain();
    let copy = open_at(&disk, &clock, "copy").unwrap();
    assert!(check(&copy, "the copy"));
    assert!(!check(&db, "the original"));
    copy.verify().unwrap();
    db.verify().unwrap();
    // Each lives on by itself.
    copy.put(&copy.keyspace("rows").unwrap(), key(0), value(0)).unwrap();
    db.put(&rows, "x", "y").unwrap();
    copy.compact().unwrap();
    drop(copy);
    assert!(check(&open_at(&disk, &clock, "copy").unwrap(), "the copy, opened again"));
    let refused = db.checkpoint("copy").unwrap_err().to_string();
    assert!(refused.contains("a database is in it already"), "{refused}");
}

#[test]
fn a_checkpoint_that_is_stopped_anywhere_is_whole_or_no_database() {
    let mut whole = 0;
    for stop in 0.. {
        let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
        let db = with_a_past(&disk, &clock);
        load(&db).unwrap();
        let begin = disk.operations();
        disk.stop_at(begin + stop);
        let made = db.checkpoint(Path::new("copy"));
        let is_past = disk.operations() <= begin + stop;
        for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::Torn(stop)] {
            let crashed = disk.crash(mode);
            let context = format!("stopped at {stop}, {mode:?}");
            assert!(check(&open(&crashed, &clock, &tiny()).unwrap(), &context));
            match open_at(&crashed, &clock, "copy") {
                Ok(copy) => {
                    assert!(check(&copy, &context));
                    copy.verify().unwrap();
                    whole += 1;
                }
                Err(error) => assert!(made.is_err(), "{context}: {error}"),
            }
        }
        if is_past {
            assert!(stop > 10 && whole >= 3, "{stop} {whole}");
            break;
        }
    }
}

/// The tables of a load are written while others commit; only its last step holds them up.
#[test]
fn others_commit_while_a_load_is_written() {
    let directory = std::env::temp_dir().join(format!("holm-test-bulk-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let db = Options::new().memtable_bytes(64 << 10).open(&directory).unwrap();
    let (rows, other) = (db.keyspace("rows").unwrap(), db.keyspace("other").unwrap());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..2_000_u32 {
                db.put(&other, key(n), value(n)).unwrap();
            }
        });
        let mut load = db.bulk_load(&rows);
        for n in 0..ROWS {
            load.add(key(n), value(n)).unwrap();
        }
        load.finish().unwrap();
        writer.join().unwrap();
    });
    assert_eq!(db.snapshot().scan(&rows, ..).count() as u32, ROWS);
    assert_eq!(db.snapshot().scan(&other, ..).count(), 2_000);
    drop((rows, other));
    db.close().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

/// A keyspace with a tree of its own beside one that has none: nothing gets into the wrong one,
/// whatever is flushed, compacted, loaded, crashed and opened again.
#[test]
fn a_tiered_keyspace_keeps_to_its_own_tree() {
    let (mut disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let mut expected = std::collections::BTreeMap::new();
    for round in 0..12_u32 {
        let db = open(&disk, &clock, &tiny()).unwrap();
        let before = db.keyspace("before").unwrap();
        let events = db.keyspace_with("events", KeyspaceOptions::new().tiered()).unwrap();
        let after = db.keyspace("after").unwrap();
        for n in 0..80 {
            let number = (n * 37 + round * 11) % 200;
            for space in [&before, &events, &after] {
                let content = format!("{} {}", space.name(), value(number + round));
                db.put(space, key(number), &content).unwrap();
                expected.insert((space.name().to_owned(), key(number)), content);
            }
        }
        db.transact(|txn| txn.delete(&events, key(round))).unwrap();
        expected.remove(&("events".to_owned(), key(round)));
        db.maintain();
        clock.advance(100);
        if round % 3 == 1 {
            db.flush().unwrap();
            db.compact().unwrap();
        }
        let levels = db.stats().engine.levels;
        let trees: std::collections::BTreeSet<u32> = levels.iter().map(|at| at.tree).collect();
        assert_eq!(trees.into_iter().collect::<Vec<_>>(), [0, 2], "round {round}");
        assert!(levels.iter().all(|at| at.tree == 0 || at.level == 0), "a tiered tree has runs");
        let crashed = disk.crash(CrashMode::LoseUnsynced);
        drop((before, events, after, db));
        disk = crashed;
        let db = open(&disk, &clock, &tiny()).unwrap();
        let mut found = std::collections::BTreeMap::new();
        for space in db.keyspaces() {
            for row in db.snapshot().scan(&space, ..) {
                let row = row.unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                found.insert((space.name().to_owned(), text(row.key())), text(row.value()));
            }
        }
        assert_eq!(found, expected, "round {round}");
        db.verify().unwrap();
    }
}

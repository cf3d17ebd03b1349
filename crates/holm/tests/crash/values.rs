//! Large values, which lie in value files: their space comes back, readers and copies keep what
//! they need, and no wrong byte of one is ever handed out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use env::{CrashMode, Disk, ManualClock, SimDisk};
use holm::{Db, Environment, Keyspace, Options, StorageError};

use crate::world::{check_files, open, tiny};

/// Keys, and bytes of each value: about thirty of them fill a memtable and a value file each.
const KEYS: u64 = 200;
const VALUE_BYTES: usize = 3_000;

/// What memtables, the log and the small files take, in bytes.
const REST_BYTES: u64 = 400 << 10;

fn options() -> Options {
    tiny().memtable_bytes(96 << 10).log_bytes(192 << 10).table(holm::TableOptions {
        separate_from: Some(1_000),
        value_file_bytes: 64 << 10,
        ..holm::TableOptions::default()
    })
}

fn key(n: u64) -> String {
    format!("{:03}", n * 77 % KEYS)
}

/// A value that cannot be compressed.
fn value(round: u64, n: u64) -> Vec<u8> {
    let mut random = env::SeededRandom::new(round * 1_000 + n % KEYS);
    (0..VALUE_BYTES).map(|_| random.next_u64() as u8).collect()
}

fn fill(db: &Db, clock: &ManualClock, keyspace: &Keyspace, round: u64) {
    for n in 0..KEYS {
        db.put(keyspace, key(n), value(round, n)).unwrap();
        if n % 10 == 0 {
            clock.advance(10);
            db.maintain();
        }
    }
}

fn check(db: &Db, keyspace: &Keyspace, round: u64) {
    let now = db.snapshot();
    let rows: Vec<_> = now.scan(keyspace, ..).map(|row| row.unwrap()).collect();
    let reverse: Vec<_> = now.scan(keyspace, ..).reverse().map(|row| row.unwrap()).collect();
    assert_eq!(rows.len() as u64, KEYS);
    assert!(rows.iter().eq(reverse.iter().rev()));
    for n in 0..KEYS {
        let found = now.get(keyspace, key(n)).unwrap().unwrap();
        assert!(found == value(round, n), "{} in round {round}", key(n));
        let at = rows.iter().position(|row| row.key() == key(n).as_bytes()).unwrap();
        assert!(rows[at].value() == found, "{} in a scan", key(n));
    }
}

/// Overwriting everything again and again takes no more than about twice the data, and hardly more
/// is written than log and values; deleting gives all of it back.
#[test]
fn overwritten_and_deleted_values_give_their_space_back() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let db = open(&disk, &clock, &options()).unwrap();
    let keyspace = db.keyspace("large").unwrap();
    let mut highest = 0;
    for round in 0..12 {
        fill(&db, &clock, &keyspace, round);
        highest = highest.max(disk.allocated_bytes());
        check(&db, &keyspace, round);
    }
    let stats = db.stats().engine;
    let data = KEYS * VALUE_BYTES as u64;
    assert!(highest < 5 * data / 2 + REST_BYTES, "{highest} bytes on disk for {data}");
    assert!(stats.values.live_bytes > data / 2, "{stats:#?}");
    // Beside the log, which is written in whole pages.
    let written = stats.flushed_bytes + stats.compaction_written_bytes;
    assert!(written < stats.user_bytes * 5 / 4, "{written} of {}", stats.user_bytes);
    db.verify().unwrap();
    db.transact(|txn| txn.delete_range(&keyspace, ..)).unwrap();
    db.flush().unwrap();
    for _ in 0..3 {
        clock.advance(1_000);
        db.maintain();
    }
    let values = db.stats().engine.values;
    assert_eq!((values.files, values.bytes), (0, 0));
    check_files(&disk, &db, "after all was deleted");
}

/// Keys are overwritten at random, so that each value file keeps some that live for long.
#[test]
fn what_is_live_in_a_worn_file_is_taken_along() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let db = open(&disk, &clock, &options()).unwrap();
    let keyspace = db.keyspace("large").unwrap();
    fill(&db, &clock, &keyspace, 0);
    let mut random = env::SeededRandom::new(7);
    let mut rounds = [0; KEYS as usize];
    for round in 1..=10 * KEYS {
        let n = random.below(KEYS);
        db.put(&keyspace, key(n), value(round, n)).unwrap();
        rounds[n as usize] = round;
        if round % 10 == 0 {
            clock.advance(10);
            db.maintain();
        }
    }
    let stats = db.stats().engine;
    assert!(stats.moved_value_bytes > 0, "{stats:#?}");
    assert!(stats.values.bytes < 5 * stats.values.live_bytes / 2, "{:?}", stats.values);
    // By hand hardly any garbage is left.
    clock.advance(1_000);
    db.compact().unwrap();
    let values = db.stats().engine.values;
    assert!(values.bytes < values.live_bytes * 11 / 10 + 10_000, "{values:?}");
    for (n, round) in (0..).zip(rounds) {
        assert!(db.get(&keyspace, key(n)).unwrap().unwrap() == value(round, n));
    }
    db.verify().unwrap();
    drop(db);
    let disk = disk.crash(CrashMode::LoseUnsynced);
    let db = open(&disk, &clock, &options()).unwrap();
    check_files(&disk, &db, "opened again");
    db.verify().unwrap();
}

#[test]
fn a_snapshot_and_a_copy_keep_the_values_they_have() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let db = open(&disk, &clock, &options()).unwrap();
    let keyspace = db.keyspace("large").unwrap();
    fill(&db, &clock, &keyspace, 0);
    let past = db.snapshot();
    let copied = db.checkpoint("copy").unwrap();
    assert!(copied.value_files > 0, "{copied:?}");
    for round in 1..5 {
        fill(&db, &clock, &keyspace, round);
    }
    for n in 0..KEYS {
        assert!(past.get(&keyspace, key(n)).unwrap().unwrap() == value(0, n));
    }
    // A scan holds no files while it is paused, and goes on in others.
    let mut scan = past.scan(&keyspace, ..);
    assert!(scan.next().is_some());
    drop(past.scan(&keyspace, ..));
    fill(&db, &clock, &keyspace, 5);
    db.compact().unwrap();
    assert_eq!(scan.filter_map(Result::ok).count() as u64, KEYS - 1);
    drop(past);
    clock.advance(1_000);
    db.compact().unwrap();
    check(&db, &keyspace, 5);
    let environment = Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(clock.clone()),
        seed: 1,
        has_background: false,
    };
    let copy = options().open_in(environment, "copy").unwrap();
    check(&copy, &copy.find_keyspace("large").unwrap(), 0);
    copy.verify().unwrap();
}

/// A flipped bit in a value file is an error that names the file, for whoever reads that value and
/// for nobody else; the background finds it, too.
#[test]
fn a_flipped_bit_in_a_value_is_found_and_never_handed_out() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let db = open(&disk, &clock, &options()).unwrap();
    let keyspace = db.keyspace("large").unwrap();
    fill(&db, &clock, &keyspace, 0);
    db.close().unwrap();
    let folder = Path::new("db/tables");
    let names = disk.list(folder).unwrap();
    let path = folder.join(names.iter().find(|name| name.ends_with(".values")).unwrap());
    let len = disk.read_file(&path).unwrap().len() as u64;
    for offset in (0..len - 40).step_by(397) {
        let disk = disk.crash(CrashMode::KeepUnsynced);
        disk.flip_bit(&path, offset, (offset % 8) as u8).unwrap();
        let db = open(&disk, &clock, &options().memory(0)).unwrap();
        let keyspace = db.find_keyspace("large").unwrap();
        let mut damaged = 0;
        for n in 0..KEYS {
            match db.get(&keyspace, key(n)) {
                Ok(found) => assert!(found.unwrap() == value(0, n), "byte {offset}"),
                Err(error) => match error.as_storage() {
                    Some(StorageError::Damaged { path: named, .. }) if *named == path => {
                        damaged += 1;
                    }
                    _ => panic!("byte {offset}: {error}"),
                },
            }
        }
        assert_eq!(damaged, 1, "byte {offset}");
        let error = db.verify().unwrap_err();
        assert!(error.to_string().contains(".values"), "{error}");
    }
}

/// Options may change between two lives: what lies apart stays so, and is read.
#[test]
fn the_limit_may_change_from_one_opening_to_the_next() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    for (round, from) in [Some(1_000), None, Some(1), None, Some(1_000)].into_iter().enumerate() {
        let table = holm::TableOptions { separate_from: from, ..holm::TableOptions::default() };
        let options = options().table(table).retention(Duration::ZERO);
        let db = open(&disk, &clock, &options).unwrap();
        let keyspace = db.keyspace("large").unwrap();
        if round > 0 {
            check(&db, &keyspace, round as u64 - 1);
        }
        fill(&db, &clock, &keyspace, round as u64);
        check(&db, &keyspace, round as u64);
        db.verify().unwrap();
    }
}

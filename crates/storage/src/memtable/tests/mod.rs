//! Tests of the memtable as a whole. Leaves have 8 slots and inner nodes 4 children here, so that
//! a few hundred keys make a deep tree.

mod model;
mod stress;

use std::sync::Arc;

use base::{KeyRange, Timestamp};

use super::{Direction, Memtable, Pin, Row, Tombstones, TooOld};
use crate::Value;

fn ts(raw: u64) -> Timestamp {
    Timestamp::from_raw(raw)
}

fn key(n: usize) -> Vec<u8> {
    format!("key/{n:06}").into_bytes()
}

fn put(table: &Memtable, key: &[u8], at: u64, value: &[u8]) -> bool {
    table.pin_writer().insert(key, ts(at), Value::Put(value))
}

fn delete(table: &Memtable, key: &[u8], at: u64) -> bool {
    table.pin_writer().insert(key, ts(at), Value::Tombstone)
}

fn value_at(table: &Memtable, key: &[u8], at: u64) -> Option<Vec<u8>> {
    let pin = table.pin(ts(at)).expect("the floor was not raised that far");
    pin.get(key).map(|found| found.1.to_vec())
}

fn keys<'p>(rows: impl Iterator<Item = Row<'p>>) -> Vec<Vec<u8>> {
    rows.map(|row| row.key.to_vec()).collect()
}

#[test]
fn a_reader_sees_the_newest_version_at_its_timestamp() {
    let table = Memtable::new(1, Tombstones::Dropped);
    assert!(put(&table, b"a", 5, b"five"));
    assert!(put(&table, b"a", 9, b"nine"));
    assert!(put(&table, b"a", 7, b"seven"), "versions come in any order");
    assert!(!put(&table, b"a", 7, b"other"), "a version is written once");
    assert_eq!(value_at(&table, b"a", 4), None);
    assert_eq!(value_at(&table, b"a", 5).unwrap(), b"five");
    assert_eq!(value_at(&table, b"a", 8).unwrap(), b"seven");
    assert_eq!(value_at(&table, b"a", 100).unwrap(), b"nine");
    assert_eq!(value_at(&table, b"b", 100), None);
}

#[test]
fn a_tombstone_hides_a_key_and_shows_in_the_history() {
    let mut table = Memtable::new(1, Tombstones::Dropped);
    put(&table, b"a", 5, b"five");
    delete(&table, b"a", 6);
    {
        let pin = table.pin(ts(6)).unwrap();
        assert_eq!(pin.get(b"a"), None);
        assert_eq!(pin.get_version(b"a").unwrap().value, Value::Tombstone);
        assert_eq!(pin.newest(b"a"), Some(ts(6)));
        assert_eq!(pin.scan(b"", None, Direction::Forward).count(), 0);
        assert_eq!(pin.versions(&KeyRange::all()).count(), 1);
        let early = table.pin(ts(5)).unwrap();
        let history = early.versions(&KeyRange::all()).next().unwrap();
        let timestamps: Vec<_> = history.versions().map(|version| version.ts).collect();
        assert_eq!(timestamps, [ts(6), ts(5)]);
    }
    table.check_invariants();
}

#[test]
fn a_pin_below_the_floor_is_refused() {
    let table = Memtable::new(1, Tombstones::Dropped);
    let old = table.pin(ts(3)).unwrap();
    table.raise_floor(ts(7));
    assert_eq!(table.pin(ts(6)).unwrap_err(), TooOld { asked: ts(6), floor: ts(7) });
    assert_eq!(table.watermark(), ts(3));
    drop(old);
    assert_eq!(table.watermark(), ts(7));
    assert_eq!(table.pin_newest(|| ts(2)).ts(), ts(7));
}

#[test]
fn collecting_keeps_what_a_pin_can_see() {
    let mut table = Memtable::new(1, Tombstones::Dropped);
    for at in 1..=9 {
        put(&table, b"a", at, &[at as u8; 300]);
    }
    delete(&table, b"b", 4);
    let pin = table.pin(ts(5)).unwrap();
    table.raise_floor(ts(8));
    let collected = table.collect();
    assert_eq!((collected.versions, collected.keys), (4, 1));
    assert_eq!(pin.get(b"a").unwrap(), (ts(5), &[5; 300][..]));
    // The value borrows from a pin that was there before, so it is not freed yet.
    assert!(collected.waiting > 0);
    drop(pin);
    let collected = table.collect();
    assert_eq!((collected.versions, collected.waiting), (3, 0));
    assert_eq!(value_at(&table, b"a", 8).unwrap(), [8; 300]);
    assert_eq!(value_at(&table, b"a", 9).unwrap(), [9; 300]);
    assert_eq!(table.len(), 1);
    table.check_invariants();
}

#[test]
fn a_deleted_key_can_come_back() {
    let mut table = Memtable::new(1, Tombstones::Dropped);
    for round in 0..20 {
        put(&table, b"a", round * 10 + 1, b"x");
        delete(&table, b"a", round * 10 + 2);
        table.raise_floor(ts(round * 10 + 2));
        assert_eq!(table.collect().keys, 1);
        assert!(table.is_empty());
    }
    table.check_invariants();
}

#[test]
fn scans_go_both_ways_and_keep_to_their_range() {
    let table = Memtable::new(1, Tombstones::Dropped);
    let all: Vec<_> = (0..1000).map(key).collect();
    // A step coprime to the number of keys, so that they come in a scattered order.
    (0..1000).for_each(|n| assert!(put(&table, &all[n * 617 % 1000], 1 + n as u64, b"v")));
    let pin = table.pin(ts(1000)).unwrap();
    let check = |start: usize, end: Option<usize>| {
        let expected = &all[start..end.unwrap_or(1000)];
        let end = end.map(key);
        let forward = keys(pin.scan(&all[start], end.as_deref(), Direction::Forward));
        assert_eq!(forward, expected);
        let mut reverse = keys(pin.scan(&all[start], end.as_deref(), Direction::Reverse));
        reverse.reverse();
        assert_eq!(reverse, expected);
    };
    check(0, None);
    check(999, None);
    check(5, Some(5));
    for start in (0..900).step_by(7) {
        check(start, Some(start + start % 100));
    }
    assert_eq!(pin.scan(b"z", Some(b"a"), Direction::Forward).count(), 0);
    assert_eq!(pin.scan(b"z", Some(b"a"), Direction::Reverse).count(), 0);
}

#[test]
fn a_scan_can_jump() {
    let table = Memtable::new(1, Tombstones::Dropped);
    (0..500).for_each(|n| assert!(put(&table, &key(n * 2), 1, b"v")));
    let pin = table.pin(ts(1)).unwrap();
    let mut scan = pin.scan(b"", None, Direction::Forward);
    scan.seek(&key(401));
    assert_eq!(scan.next().unwrap().key, key(402));
    scan.seek(&key(3));
    assert_eq!(scan.next().unwrap().key, key(402), "a seek does not go back beyond the last one");
    let mut scan = pin.scan(&key(100), Some(&key(900)), Direction::Reverse);
    scan.seek(&key(401));
    assert_eq!(scan.next().unwrap().key, key(400));
    scan.seek(&key(300));
    assert_eq!(scan.next().unwrap().key, key(300));
    scan.seek(&key(50));
    assert!(scan.next().is_none());
}

#[test]
fn the_newest_in_a_range_is_found_whatever_the_pin() {
    let table = Memtable::new(1, Tombstones::Dropped);
    (0..100).for_each(|n| assert!(put(&table, &key(n), 1, b"v")));
    delete(&table, &key(50), 9);
    let pin = table.pin(ts(1)).unwrap();
    let found = |start: usize, end: usize, after| {
        pin.newest_in_range(&key(start), Some(&key(end)), ts(after)).map(|found| found.1)
    };
    assert_eq!(found(0, 100, 5), Some(ts(9)));
    assert_eq!(found(0, 100, 9), None);
    assert_eq!(found(51, 100, 5), None);
    assert_eq!(found(50, 51, 8), Some(ts(9)));
    assert_eq!(found(0, 50, 1), None);
}

#[test]
fn mass_deletion_leaves_a_small_tree() {
    let mut table = Memtable::new(1, Tombstones::Dropped);
    (0..2000).for_each(|n| assert!(put(&table, &key(n), 1, b"v")));
    let full = table.memory_bytes();
    (0..1990).for_each(|n| assert!(delete(&table, &key(n), 2)));
    table.raise_floor(ts(2));
    assert_eq!(table.collect().keys, 1990);
    table.check_invariants();
    assert_eq!(table.len(), 10);
    let pin = table.pin_writer();
    let leaves = table.tree.leaves(pin.guard()).count();
    assert!(leaves <= 10, "{leaves} leaves for ten keys");
    drop(pin);
    assert!(table.memory_bytes() < full / 2);
    (1990..2000).for_each(|n| assert!(delete(&table, &key(n), 3)));
    table.raise_floor(ts(3));
    table.collect();
    table.check_invariants();
    assert!(table.is_empty());
}

/// Each older version of a key looked for its place from the newest one on, past all that had come
/// before it. A checkpoint in which one key had 350,000 versions took the better part of a minute
/// to load; so would this.
#[test]
fn a_bulk_load_of_a_key_with_very_many_versions_passes_none_of_them_twice() {
    const VERSIONS: u64 = 300_000;
    let mut table = Memtable::new(7, Tombstones::Dropped);
    let mut load = table.bulk_load(2);
    for n in (1..=VERSIONS).rev() {
        load.push(b"hot", ts(n), Value::Put(&n.to_le_bytes()));
    }
    load.push(b"later", ts(1), Value::Tombstone);
    load.finish();
    table.check_invariants();
    for n in [1, 2, VERSIONS / 2, VERSIONS] {
        assert_eq!(value_at(&table, b"hot", n).unwrap(), n.to_le_bytes());
    }
}

#[test]
fn a_bulk_load_and_a_replay_make_the_table_that_inserts_make() {
    for replayed in [3, 700] {
        let mut table = Memtable::new(7, Tombstones::Dropped);
        let mut load = table.bulk_load(1000);
        for n in 0..1000 {
            if n % 10 == 0 {
                load.push(&key(n * 2), ts(8), Value::Tombstone);
            }
            load.push(&key(n * 2), ts(5), Value::Put(&[1; 400]));
            load.push(&key(n * 2), ts(3), Value::Put(b"old"));
        }
        load.finish();
        table.check_invariants();
        let mut replay = table.replay();
        for n in 0..replayed {
            assert!(replay.insert(&key(n * 37 % 2000), ts(9), Value::Put(b"new")));
            assert!(!replay.insert(&key(n * 37 % 2000), ts(9), Value::Put(b"again")));
        }
        let mut table = replay.finish();
        table.check_invariants();
        assert_eq!(value_at(&table, &key(0), 9).unwrap(), b"new");
        assert_eq!(value_at(&table, &key(20), 8), None);
        assert_eq!(value_at(&table, &key(20), 4).unwrap(), b"old");
        table.raise_floor(ts(9));
        table.collect();
        table.check_invariants();
    }
}

#[test]
fn an_owned_pin_keeps_the_table_alive() {
    let table = Arc::new(Memtable::new(1, Tombstones::Dropped));
    put(&table, b"a", 1, b"x");
    let pin: Pin<Arc<Memtable>> = table.pin_owned(ts(1)).unwrap();
    drop(table);
    let reader = std::thread::spawn(move || pin.get(b"a").map(|found| found.0));
    assert_eq!(reader.join().unwrap(), Some(ts(1)));
}

#[test]
fn keys_that_differ_by_zeros_or_late_bytes_stay_apart() {
    let mut table = Memtable::new(1, Tombstones::Dropped);
    let mut all: Vec<Vec<u8>> = Vec::new();
    for len in 0..40 {
        all.push(vec![0; len]);
        all.push(vec![0xff; len + 1]);
        let mut long = vec![b'p'; 60];
        long[20 + len] = b'q';
        all.push(long);
    }
    for (n, key) in all.iter().enumerate() {
        assert!(put(&table, key, 1 + n as u64, &n.to_le_bytes()));
    }
    table.check_invariants();
    for (n, key) in all.iter().enumerate() {
        assert_eq!(value_at(&table, key, 1000).unwrap(), n.to_le_bytes());
    }
    all.sort();
    let pin = table.pin(ts(1000)).unwrap();
    assert_eq!(keys(pin.scan(b"", None, Direction::Forward)), all);
}

//! Tests under the shuttle scheduler: `scripts/shuttle`. Nodes are as small as they can be (leaves
//! of 8, inner nodes of 4, hash shards of 2 slots), so that few steps cross every boundary.
//!
//! Shuttle interleaves at every atomic access but knows one memory order only, the sequentially
//! consistent one. What weaker orders might do is left to the argument in the headers and to
//! ThreadSanitizer.

use std::sync::Arc;

use base::Timestamp;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use super::{Direction, Memtable, Tombstones};
use crate::Value;

/// Of each kind, per test: together they take half a minute.
const SCHEDULES: usize = 5000;

/// Preemptions that the second kind of schedule is best at placing.
const DEPTH: usize = 3;

fn ts(raw: u64) -> Timestamp {
    Timestamp::from_raw(raw)
}

fn key(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

fn put(table: &Memtable, n: u64, at: u64) {
    table.pin_writer().insert(&key(n), ts(at), Value::Put(&at.to_be_bytes()));
}

fn get(table: &Memtable, n: u64, at: u64) -> Option<u64> {
    let pin = table.pin(ts(at)).ok()?;
    pin.get(&key(n)).map(|found| {
        assert_eq!(found.1, found.0.raw().to_be_bytes(), "a value of another version");
        found.0.raw()
    })
}

fn scan(table: &Memtable, at: u64, direction: Direction) -> Vec<u64> {
    let pin = table.pin(ts(at)).unwrap();
    let rows = pin.scan(b"", None, direction);
    rows.map(|row| u64::from_be_bytes(row.key.try_into().unwrap())).collect()
}

fn check(test: fn()) {
    shuttle::check_random(test, SCHEDULES);
    shuttle::check_pct(test, SCHEDULES, DEPTH);
}

#[test]
fn a_reader_while_the_hash_index_grows() {
    check(|| {
        let table = Arc::new(Memtable::new(1, Tombstones::Dropped));
        put(&table, 0, 1);
        let writer = thread::spawn({
            let table = Arc::clone(&table);
            move || (1..7).for_each(|n| put(&table, n, 2))
        });
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || (4..9).for_each(|n| put(&table, n, 3))
        });
        for _ in 0..4 {
            assert_eq!(get(&table, 0, 1), Some(1));
        }
        writer.join().unwrap();
        other.join().unwrap();
        (1..9).for_each(|n| assert_eq!(get(&table, n, 9), Some(if n < 4 { 2 } else { 3 })));
        Arc::try_unwrap(table).unwrap().check_invariants();
    });
}

#[test]
fn a_reader_while_leaves_split() {
    check(|| {
        let table = Arc::new(Memtable::new(1, Tombstones::Dropped));
        (0..7).for_each(|n| put(&table, n * 10, 1));
        let writers = [5, 35].map(|first| {
            let table = Arc::clone(&table);
            thread::spawn(move || (0..3).for_each(|n| put(&table, first + n, 2)))
        });
        let all: Vec<_> = (0..7).map(|n| n * 10).collect();
        assert_eq!(scan(&table, 1, Direction::Forward), all);
        assert!(scan(&table, 1, Direction::Reverse).into_iter().rev().eq(all));
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(scan(&table, 2, Direction::Forward).len(), 13);
        Arc::try_unwrap(table).unwrap().check_invariants();
    });
}

#[test]
fn a_reader_while_leaves_merge() {
    check(|| {
        let mut table = Memtable::new(1, Tombstones::Dropped);
        (0..14).for_each(|n| put(&table, n, 1));
        let kept = [0, 5, 13];
        for n in (0..14).filter(|n| !kept.contains(n)) {
            table.pin_writer().insert(&key(n), ts(2), Value::Tombstone);
        }
        table.check_invariants();
        table.raise_floor(ts(2));
        let table = Arc::new(table);
        let collector = thread::spawn({
            let table = Arc::clone(&table);
            move || table.collect().keys
        });
        let writer = thread::spawn({
            let table = Arc::clone(&table);
            move || [3, 6].into_iter().for_each(|n| put(&table, n, 3))
        });
        assert_eq!(scan(&table, 2, Direction::Forward), kept);
        assert!(scan(&table, 2, Direction::Reverse).into_iter().rev().eq(kept));
        assert!(collector.join().unwrap() >= 9);
        writer.join().unwrap();
        assert_eq!(scan(&table, 3, Direction::Forward), [0, 3, 5, 6, 13]);
        Arc::try_unwrap(table).unwrap().check_invariants();
    });
}

#[test]
fn a_reader_while_versions_are_trimmed_and_freed() {
    check(|| {
        let table = Arc::new(Memtable::new(1, Tombstones::Dropped));
        let visible = Arc::new(AtomicU64::new(1));
        put(&table, 7, 1);
        let writer = thread::spawn({
            let (table, visible) = (Arc::clone(&table), Arc::clone(&visible));
            move || {
                for at in 2..6 {
                    put(&table, 7, at);
                    visible.store(at, Ordering::SeqCst);
                    table.raise_floor(ts(at));
                }
            }
        });
        let collector = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                table.collect();
                table.collect();
            }
        });
        for _ in 0..2 {
            let pin = table.pin_newest(|| ts(visible.load(Ordering::SeqCst)));
            let first = pin.get(&key(7)).unwrap();
            assert_eq!(first.0, pin.ts(), "a version that the pin may see was trimmed");
            thread::yield_now();
            assert_eq!(pin.get(&key(7)), Some(first));
            assert_eq!(first.1, first.0.raw().to_be_bytes());
        }
        writer.join().unwrap();
        collector.join().unwrap();
        table.collect();
        assert_eq!(table.collect().waiting, 0);
        Arc::try_unwrap(table).unwrap().check_invariants();
    });
}

#[test]
fn a_key_that_dies_while_it_is_read_and_written() {
    check(|| {
        let table = Arc::new(Memtable::new(1, Tombstones::Dropped));
        put(&table, 7, 1);
        table.pin_writer().insert(&key(7), ts(2), Value::Tombstone);
        table.raise_floor(ts(2));
        let collector = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                table.collect();
                table.collect();
            }
        });
        let writer = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                put(&table, 7, 3);
                let pin = table.pin(ts(3)).unwrap();
                assert_eq!(pin.scan(b"", None, Direction::Forward).count(), 1);
            }
        });
        let pin = table.pin(ts(2)).unwrap();
        assert_eq!(pin.get(&key(7)), None);
        assert_eq!(pin.scan(b"", None, Direction::Forward).count(), 0);
        drop(pin);
        writer.join().unwrap();
        collector.join().unwrap();
        assert_eq!(get(&table, 7, 3), Some(3));
        assert_eq!(scan(&table, 3, Direction::Reverse), [7]);
        table.collect();
        let mut table = Arc::try_unwrap(table).unwrap();
        table.check_invariants();
        assert_eq!(table.len(), 1);
    });
}

#[test]
fn two_writers_of_one_new_key() {
    check(|| {
        let table = Arc::new(Memtable::new(1, Tombstones::Dropped));
        let writers = [1, 2].map(|at| {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                put(&table, 7, at);
                assert_eq!(scan(&table, 2, Direction::Forward), [7]);
            })
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!((get(&table, 7, 1), get(&table, 7, 2)), (Some(1), Some(2)));
        Arc::try_unwrap(table).unwrap().check_invariants();
    });
}

//! A day of writing without anybody looking: what is overwritten and deleted leaves the disk by
//! itself, as soon as the retention has passed it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use env::{ManualClock, SimDisk};
use holm::Options;

use crate::world::{open, tiny};

const MINUTE_MS: u64 = 60_000;
const MINUTES: u64 = 24 * 60;
const RETENTION_MINUTES: u64 = 10;

/// Rows that are overwritten in turn.
const ROWS: u64 = 300;
/// Of them and of the queue, each minute.
const WRITES_A_MINUTE: u64 = 20;
const VALUE_BYTES: usize = 150;
/// What the log and the small files take, at most, in bytes.
const LOG_BYTES: u64 = 112 << 10;
/// A key, a value and a share of a block's index and filter, in bytes.
const VERSION_BYTES: u64 = 220;

fn options() -> Options {
    tiny().retention(Duration::from_millis(RETENTION_MINUTES * MINUTE_MS))
}

fn value(minute: u64, n: u64) -> String {
    let mut value = format!("{minute}/{n}:");
    // Hardly compressible.
    let mut state = minute * 1_000 + n;
    while value.len() < VALUE_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        value.push(char::from(b' ' + (state >> 33) as u8 % 90));
    }
    value
}

#[test]
fn a_day_of_overwriting_and_queueing_does_not_fill_the_disk() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let mut db = open(&disk, &clock, &options()).unwrap();
    let (mut expected, mut waiting) = (BTreeMap::new(), VecDeque::new());
    let mut highest = 0;
    for minute in 0..MINUTES {
        clock.advance(MINUTE_MS);
        if minute % 359 == 358 {
            // Opened anew now and then.
            db.close().unwrap();
            db = open(&disk, &clock, &options()).unwrap();
        }
        let (rows, queue) = (&db.keyspace("rows").unwrap(), &db.keyspace("queue").unwrap());
        for n in 0..WRITES_A_MINUTE {
            let key = format!("{:04}", (minute * WRITES_A_MINUTE + n) * 7 % ROWS);
            let value = value(minute, n);
            let place = format!("{minute:06}/{n:03}");
            db.transact(|txn| {
                txn.put(rows, &key, value.as_str())?;
                txn.put(queue, &place, value.as_str())?;
                if waiting.len() >= 30 {
                    txn.delete(queue, &waiting[0])?;
                }
                Ok(())
            })
            .unwrap();
            expected.insert(key, value);
            if waiting.len() >= 30 {
                waiting.pop_front();
            }
            waiting.push_back(place);
        }
        db.maintain();
        highest = highest.max(disk.allocated_bytes());
        if minute % 120 == 119 {
            let now = db.snapshot();
            let found = now.scan(rows, ..).map(|row| row.unwrap());
            let found: BTreeMap<_, _> = found.map(|row| as_text(row.key(), row.value())).collect();
            assert_eq!(found, expected, "minute {minute}");
            let found = now.scan(queue, ..).map(|row| row.unwrap());
            let found: Vec<_> = found.map(|row| as_text(row.key(), row.value()).0).collect();
            assert_eq!(found, Vec::from(waiting.clone()), "minute {minute}");
        }
    }
    let kept = (ROWS + 30 + RETENTION_MINUTES * WRITES_A_MINUTE * 3) * VERSION_BYTES;
    let written = MINUTES * WRITES_A_MINUTE * 2 * VERSION_BYTES;
    let most = 2 * kept + LOG_BYTES;
    assert!(most < written / 20 && highest < most, "{highest} bytes on disk of {written}");

    for name in ["rows", "queue"] {
        let keyspace = db.keyspace(name).unwrap();
        db.transact(|txn| txn.delete_range(&keyspace, ..)).unwrap();
    }
    db.flush().unwrap();
    // What was deleted is a past like any other, and its tombstones go after it.
    for _ in 0..3 {
        clock.advance((RETENTION_MINUTES + 1) * MINUTE_MS);
        db.maintain();
    }
    let left = disk.allocated_bytes();
    assert!(left < LOG_BYTES, "{left} bytes on disk, and nothing in the database");
}

/// Grows to some thousand rows and loses them all, again and again, as a table of sessions or a
/// cache does. Nobody flushes and nobody compacts by hand.
#[test]
fn what_grows_and_is_deleted_gives_its_space_back_each_time() {
    const ROUNDS: u64 = 8;
    const SESSIONS: u64 = 1_500;
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let db = open(&disk, &clock, &options()).unwrap();
    let (sessions, others) = (db.keyspace("sessions").unwrap(), db.keyspace("others").unwrap());
    for round in 0..ROUNDS {
        let mut grown = 0;
        for n in 0..SESSIONS {
            // Spread over the keys, each at some time of the round.
            let key = format!("{:05}", n * 7_919 % SESSIONS);
            db.put(&sessions, &key, value(round, n).as_str()).unwrap();
            if n % WRITES_A_MINUTE == 0 {
                clock.advance(MINUTE_MS);
                db.maintain();
                grown = disk.allocated_bytes();
            }
        }
        let full = SESSIONS * VERSION_BYTES;
        assert!(grown < 2 * full + LOG_BYTES, "round {round}: {grown} bytes on disk");
        assert!(grown > SESSIONS * VALUE_BYTES as u64 / 2, "round {round}: {grown} bytes on disk");
        // In two ways: each by itself, and all at once.
        if round % 2 == 0 {
            for n in 0..SESSIONS {
                db.delete(&sessions, format!("{n:05}")).unwrap();
            }
        } else {
            db.transact(|txn| txn.delete_range(&sessions, ..)).unwrap();
        }
        assert_eq!(db.snapshot().scan(&sessions, ..).count(), 0);
        let mut left = 0;
        for minute in 0..4 * RETENTION_MINUTES {
            clock.advance(MINUTE_MS);
            // Some life goes on, or no memtable would ever be full.
            for n in 0..WRITES_A_MINUTE {
                let key = format!("alive {n}");
                db.put(&others, &key, value(minute, n).as_str()).unwrap();
            }
            db.maintain();
            left = disk.allocated_bytes();
        }
        // Of a few rows each, so that what the disk adds to a file counts for as much.
        let alive = RETENTION_MINUTES * WRITES_A_MINUTE * VERSION_BYTES;
        assert!(left < 4 * alive + LOG_BYTES, "round {round}: {left} bytes are left on disk");
    }
}

fn as_text(key: &[u8], value: &[u8]) -> (String, String) {
    (String::from_utf8(key.to_vec()).unwrap(), String::from_utf8(value.to_vec()).unwrap())
}

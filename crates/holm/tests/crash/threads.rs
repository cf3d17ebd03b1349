//! Power lost at any moment while threads commit, beside a background that writes checkpoints and
//! forgets the past: what each thread was told is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use env::{CrashMode, ManualClock, SeededRandom, SimDisk};
use holm::{Db, Durability, Environment, Keyspace, Options};

const THREADS: u64 = 4;

fn options() -> Options {
    Options::new()
        .segment_bytes(8 << 10, 16 << 10)
        .log_bytes(12 << 10)
        .retention(Duration::ZERO)
        .buffered(Duration::from_millis(1), 4 << 10)
}

fn open(disk: &SimDisk, clock: &ManualClock, has_background: bool) -> Db {
    let environment = Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(clock.clone()),
        seed: 7,
        has_background,
    };
    options().open_in(environment, "db").unwrap()
}

/// What a thread tried and what it was promised: the number of its last commit of each kind.
#[derive(Default)]
struct Told {
    tried: AtomicU64,
    promised: AtomicU64,
}

/// Writes the same number under two keys; every third commit promises nothing.
fn commit(db: &Db, keyspace: &Keyspace, thread: u64, number: u64, told: &Told) {
    told.tried.store(number, Ordering::SeqCst);
    let is_sync = !number.is_multiple_of(3);
    let durability = if is_sync { Durability::Sync } else { Durability::None };
    let mut txn = db.transaction().durability(durability).begin();
    let value = format!("{number:08}{}", "x".repeat((number * 37 % 900) as usize));
    for side in ["left", "right"] {
        txn.put(keyspace, format!("{thread} {side}"), &value).unwrap();
    }
    // A key that comes and goes.
    match number % 2 {
        0 => txn.put(keyspace, format!("{thread} even"), &value).unwrap(),
        _ => txn.delete(keyspace, format!("{thread} even")).unwrap(),
    }
    txn.commit().unwrap();
    if is_sync {
        told.promised.store(number, Ordering::SeqCst);
    }
}

fn check(disk: SimDisk, clock: &ManualClock, promised: &[u64], tried: &[Told], context: &str) {
    let db = open(&disk, clock, false);
    db.verify().unwrap();
    let keyspace = db.find_keyspace("k").expect(context);
    for (thread, promised) in promised.iter().enumerate() {
        let tried = tried[thread].tried.load(Ordering::SeqCst);
        let read = |side: &str| {
            let value = db.get(&keyspace, format!("{thread} {side}")).unwrap();
            value.map(|value| {
                String::from_utf8(value[..8].to_vec()).unwrap().parse::<u64>().unwrap()
            })
        };
        let found = read("left").unwrap_or(0);
        assert_eq!(found, read("right").unwrap_or(0), "{context}: half a transaction");
        assert!(
            (*promised..=tried).contains(&found),
            "{context}: thread {thread} was promised {promised}, tried {tried}, {found} is there"
        );
        let even = (found % 2 == 0 && found > 0).then_some(found);
        assert_eq!(read("even"), even, "{context}: thread {thread}, a stranger");
    }
    db.put(&keyspace, "after", "1").unwrap();
    db.flush().unwrap();
}

/// Ends the other threads also if this one panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn power_lost_while_threads_commit_takes_nothing_that_they_were_told() {
    let rounds = 120 * crate::stops::seeds_factor();
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1000));
    let db = open(&disk, &clock, true);
    let keyspace = db.keyspace("k").unwrap();
    let told: Vec<Told> = (0..THREADS).map(|_| Told::default()).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (db, keyspace, told, done) = (&db, &keyspace, &told, &done);
            scope.spawn(move || {
                let _ends = Ends(done);
                let mut number = 0;
                while !done.load(Ordering::SeqCst) {
                    number += 1;
                    commit(db, keyspace, thread, number, &told[thread as usize]);
                }
            });
        }
        // More checkpoints and collections than the background would make, at any moment.
        let (other, is_done) = (&db, &done);
        scope.spawn(move || {
            let _ends = Ends(is_done);
            while !is_done.load(Ordering::SeqCst) {
                other.flush().unwrap();
                other.maintain();
                other.verify().unwrap();
            }
        });
        let (later, is_over, time) = (&db, &done, &clock);
        scope.spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                time.advance(1);
                later.maintain();
                std::thread::yield_now();
            }
        });
        let mut random = SeededRandom::new(1);
        let _ends = Ends(&done);
        let commits = || told.iter().map(|told| told.tried.load(Ordering::SeqCst)).sum::<u64>();
        // So many crashes, and more if the machine is too busy for the work beside them.
        let mut round = 0;
        while round < rounds || commits() <= 500 || db.stats().engine.flushes <= 5 {
            round += 1;
            let promised: Vec<u64> =
                told.iter().map(|told| told.promised.load(Ordering::SeqCst)).collect();
            let mode = match random.below(4) {
                0 => CrashMode::LoseUnsynced,
                1 => CrashMode::KeepUnsynced,
                _ => CrashMode::Torn(random.next_u64()),
            };
            let crashed = disk.crash(mode);
            let context = format!("round {round}, {mode:?}");
            check(crashed, &clock, &promised, &told, &context);
        }
    });
    let commits: u64 = told.iter().map(|told| told.tried.load(Ordering::SeqCst)).sum();
    let checkpoints = db.stats().engine.flushes;
    println!("{rounds} crashes beside {commits} commits and {checkpoints} checkpoints");
    assert!(checkpoints > 5 && commits > 500, "{checkpoints} checkpoints, {commits} commits");
    db.close().unwrap();
}

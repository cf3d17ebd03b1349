//! Readers beside flushes, compactions and collections, all as often as can be: what a snapshot
//! shows does not depend on where it lies by then.
//!
//! ```text
//!   writers     take turns at a counter each, and move money between accounts
//!   keepers     flush; compact; let time pass and collect
//!   readers     one snapshot: forward, backward, one by one, again a while later, again by its
//!               timestamp: the same sum, the same counters; and no counter ever falls
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use env::{ManualClock, SeededRandom, SimDisk};
use holm::{
    CompactionOptions, Db, Durability, Environment, Error, Keyspace, Options, Snapshot,
    TableOptions, Timestamp, Transaction, WatchFrom,
};

const ACCOUNTS: u64 = 40;
const EACH: u64 = 100;
const WRITERS: u64 = 2;
const READERS: u64 = 3;

/// What has to have happened before the test ends.
const FLUSHES: u64 = 150;
const COMPACTIONS: u64 = 60;
const ROUNDS_OF_A_READER: u64 = 80;

/// Commits after which a writer waits until each reader has been round once more. A snapshot keeps
/// what was written since, and so a reader that falls behind has more and more to walk over: on a
/// busy machine it never caught up.
const COMMITS_OF_A_ROUND: u64 = 400;

fn options() -> Options {
    Options::new()
        .memory(1472 << 10)
        .memtable_bytes(12 << 10)
        .segment_bytes(8 << 10, 16 << 10)
        .log_bytes(24 << 10)
        .retention(Duration::from_millis(20))
        .compaction(CompactionOptions::for_flush_bytes(2 << 10))
        .table(TableOptions { block_bytes: 256, restart_interval: 3, ..TableOptions::default() })
}

/// Everything in a keyspace, by its keys.
type Rows = BTreeMap<String, u64>;

fn account(n: u64) -> String {
    format!("account {n:02}")
}

fn counter(writer: u64) -> String {
    format!("counter {writer}")
}

/// A number and some ballast, so that memtables fill up and rows are put out of the cache.
fn encode(number: u64) -> String {
    format!("{number:010}{}", "-".repeat((number * 31 % 1_900) as usize))
}

fn decode(value: &[u8]) -> u64 {
    std::str::from_utf8(&value[..10]).unwrap().parse().unwrap()
}

fn rows_of(scan: holm::Scan<'_>) -> Rows {
    let rows = scan.map(|row| row.unwrap());
    rows.map(|row| (String::from_utf8(row.key().to_vec()).unwrap(), decode(row.value()))).collect()
}

/// Moves money; an account without any is deleted, and comes back with the next payment.
fn transfer(
    txn: &mut Transaction,
    space: &Keyspace,
    random: &mut SeededRandom,
) -> holm::Result<()> {
    let from = random.below(ACCOUNTS);
    let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
    let balance = |txn: &mut Transaction, n| {
        txn.get(space, account(n)).map(|value| value.map_or(0, |value| decode(&value)))
    };
    let (source, target) = (balance(txn, from)?, balance(txn, to)?);
    let amount = source.min(1 + random.below(150));
    match source - amount {
        0 => txn.delete(space, account(from))?,
        left => txn.put(space, account(from), encode(left))?,
    }
    match target + amount {
        0 => txn.delete(space, account(to)),
        more => txn.put(space, account(to), encode(more)),
    }
}

fn write(db: &Db, space: &Keyspace, writer: u64, done: &AtomicBool, rounds: &[AtomicU64]) {
    let mut random = SeededRandom::new(writer + 1);
    let mut number = 0;
    while !done.load(Ordering::Acquire) {
        number += 1;
        if number % COMMITS_OF_A_ROUND == 0 {
            let been = |n: &AtomicU64| n.load(Ordering::Acquire);
            let before: Vec<u64> = rounds.iter().map(been).collect();
            let is_slow = |(n, before): (&AtomicU64, &u64)| been(n) == *before;
            while rounds.iter().zip(&before).any(is_slow) && !done.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        }
        let durability = if number % 3 == 0 { Durability::Sync } else { Durability::None };
        db.transaction()
            .durability(durability)
            .run(|txn| {
                txn.put(space, counter(writer), encode(number))?;
                transfer(txn, space, &mut random)
            })
            .unwrap();
    }
}

/// Checks what one snapshot shows, and that it goes on showing it.
fn read(
    db: &Db,
    space: &Keyspace,
    opened: &Timestamp,
    random: &mut SeededRandom,
    highest: &mut [u64],
) {
    let snapshot = db.snapshot();
    let first = check(&snapshot, space);
    for writer in 0..WRITERS {
        let found = first.get(&counter(writer)).copied().unwrap_or(0);
        let highest = &mut highest[writer as usize];
        assert!(found >= *highest, "a counter fell from {highest} to {found}");
        *highest = found;
    }
    for _ in 0..random.below(4) {
        // Meanwhile others write, flush and compact.
        for _ in 0..random.below(40) {
            std::thread::yield_now();
        }
        assert_eq!(check(&snapshot, space), first, "what a snapshot shows has changed");
    }
    // The same moment by its timestamp, unless the retention has passed it: who holds a snapshot
    // keeps what it shows, and nobody else may come to it any more.
    match db.at(snapshot.timestamp()) {
        Ok(past) => assert_eq!(check(&past, space), first, "by its timestamp"),
        Err(error) => assert!(matches!(error, Error::TooOld { .. }), "{error}"),
    }
    // What a watch tells from there on leads to what is there now.
    if random.chance(200)
        && let Ok(mut watch) = db.watch(space, .., WatchFrom::After(snapshot.timestamp()))
    {
        let mut state = first;
        while let Some(set) = watch.try_next().unwrap() {
            for change in set.changes {
                let key = String::from_utf8(change.key.to_vec()).unwrap();
                match change.value {
                    Some(value) => state.insert(key, decode(&value)),
                    None => state.remove(&key),
                };
            }
            let sum: u64 = money(&state);
            assert_eq!(sum, ACCOUNTS * EACH, "after a change that a watch told of");
        }
    }
    // A moment that nobody holds is the same moment, or refused.
    let back = random.below(4) << 20;
    let before = Timestamp::from_raw(db.now().raw().saturating_sub(back)).max(*opened);
    match db.at(before) {
        Ok(past) => drop(check(&past, space)),
        Err(error) => assert!(matches!(error, Error::TooOld { .. }), "{error}"),
    }
}

fn money(rows: &Rows) -> u64 {
    rows.iter().filter(|(key, _)| key.starts_with("account")).map(|(_, value)| value).sum()
}

fn check(snapshot: &Snapshot, space: &Keyspace) -> Rows {
    let rows = rows_of(snapshot.scan(space, ..));
    assert_eq!(money(&rows), ACCOUNTS * EACH, "at {}", snapshot.timestamp());
    assert_eq!(rows_of(snapshot.scan(space, ..).reverse()), rows, "backward");
    let keys = (0..ACCOUNTS).map(account).chain((0..WRITERS).map(counter));
    for key in keys {
        let found = snapshot.get(space, &key).unwrap().map(|value| decode(&value));
        assert_eq!(found, rows.get(&key).copied(), "{key} by itself, and in a scan");
    }
    rows
}

/// Ends the other threads also if this one panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_snapshot_shows_the_same_wherever_it_lies_by_then() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let environment = Environment {
        disk: Arc::new(disk),
        clock: Arc::new(clock.clone()),
        seed: 7,
        has_background: true,
    };
    let db = options().open_in(environment, "db").unwrap();
    let space = db.keyspace("bank").unwrap();
    db.transact(|txn| (0..ACCOUNTS).try_for_each(|n| txn.put(&space, account(n), encode(EACH))))
        .unwrap();
    let opened = db.now();
    let (done, rounds) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; READERS as usize]);
    std::thread::scope(|scope| {
        let (db, space, opened, done, clock) = (&db, &space, &opened, &done, &clock);
        let rounds = &rounds;
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let _ends = Ends(done);
                write(db, space, writer, done, rounds);
            });
        }
        scope.spawn(move || {
            let _ends = Ends(done);
            while !done.load(Ordering::Acquire) {
                db.flush().unwrap();
                clock.advance(1);
                db.maintain();
                std::thread::yield_now();
            }
        });
        scope.spawn(move || {
            let _ends = Ends(done);
            while !done.load(Ordering::Acquire) {
                db.compact().unwrap();
                for _ in 0..20 {
                    std::thread::yield_now();
                }
            }
        });
        for (reader, rounds) in (0..).zip(rounds) {
            scope.spawn(move || {
                let _ends = Ends(done);
                let mut random = SeededRandom::new(100 + reader);
                let mut highest = [0; WRITERS as usize];
                while !done.load(Ordering::Acquire) {
                    read(db, space, opened, &mut random, &mut highest);
                    rounds.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        let _ends = Ends(done);
        while !done.load(Ordering::Acquire) {
            let engine = db.stats().engine;
            let is_enough = engine.flushes >= FLUSHES
                && engine.compactions >= COMPACTIONS
                && rounds.iter().all(|n| n.load(Ordering::Acquire) >= ROUNDS_OF_A_READER);
            if is_enough {
                break;
            }
            for _ in 0..1_000 {
                std::thread::yield_now();
            }
        }
    });
    let engine = db.stats().engine;
    let rounds: u64 = rounds.iter().map(|n| n.load(Ordering::Acquire)).sum();
    println!(
        "{rounds} rounds of readers, {} flushes, {} compactions, {} moves, hot rows {:?}",
        engine.flushes, engine.compactions, engine.moves, engine.row_cache
    );
    assert!(engine.row_cache.hits > 0 && engine.row_cache.evictions > 0, "{engine:?}");
    assert!(engine.block_cache.hits > 0, "{engine:?}");
    assert!(engine.oldest_readable > Timestamp::ZERO, "nothing was ever collected");
    let found = check(&db.snapshot(), &space);
    db.verify().unwrap();
    drop(space);
    drop(found);
    db.close().unwrap();
}

//! Tests under the shuttle scheduler: `scripts/shuttle`. What is remembered and what waits for a
//! reader is bounded by a few commits here, so that few steps cross every boundary. A thread that
//! nobody wakes shows as a deadlock.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base::{KeyRange, KeyspaceId, Timestamp};
use bytes::Bytes;
use env::SimDisk;
use shuttle::thread;
use storage::compaction::CompactionOptions;
use storage::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};
use storage::table::TableOptions;
use storage::wal::{Lsn, WalOptions};
use storage::{Engine, EngineOptions, MemoryOptions};

use crate::error::Touched;
use crate::eval::{Footprint, Newer};
use crate::locks::{Locks, TransactionId};
use crate::sequencer::{Commit, Request, Sequencer};
use crate::{Durability, Error, ReadSet, Result, Shard, TransactionOptions, WriteSet};

/// Of each kind, per test: together they take a quarter of a minute.
const SCHEDULES: usize = 20_000;

/// Preemptions that the second kind of schedule is best at placing.
const DEPTH: usize = 3;

fn check(test: fn()) {
    shuttle::check_random(test, SCHEDULES);
    shuttle::check_pct(test, SCHEDULES, DEPTH);
}

fn key(name: &'static str) -> Bytes {
    Bytes::from(KeyspaceId(1).encode(name.as_bytes()))
}

/// A sequencer over a log and a memtable that are as simple as they can be.
struct World {
    sequencer: Sequencer,
    locks: Locks,
    next: AtomicU64,
    durable: AtomicU64,
    fails: AtomicBool,
    /// Of each commit: where it ends in the log, whether it wants to be durable, whether its
    /// versions are in the memtable.
    commits: Mutex<BTreeMap<Timestamp, (Lsn, bool, bool)>>,
    /// The values of each key, by timestamp.
    versions: Mutex<BTreeMap<&'static str, BTreeMap<Timestamp, u64>>>,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            sequencer: Sequencer::new(Timestamp::ZERO),
            locks: Locks::default(),
            next: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            fails: AtomicBool::new(false),
            commits: Mutex::default(),
            versions: Mutex::default(),
        })
    }

    fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    fn sync(&self, end: Lsn) -> Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            self.sequencer.fail(|owner| self.locks.release(owner));
            let cause = "told to".to_string();
            return Err(Error::from(storage::Error::LogFailed { cause }));
        }
        // Whoever writes takes along what others appended.
        self.durable.fetch_max(end.0.max(self.next.load(Ordering::Acquire)), Ordering::AcqRel);
        Ok(())
    }

    /// Puts a commit to a key in order; `read_ts` if it stands on having read that key.
    fn order(
        &self,
        name: &'static str,
        read_ts: Option<Timestamp>,
        needs_sync: bool,
        owner: Option<TransactionId>,
    ) -> Result<Arc<Commit>> {
        let mut writes = WriteSet::default();
        writes.write(key(name), None).unwrap();
        let mut reads = ReadSet::default();
        reads.add_point(key(name));
        let writes = Arc::new(writes);
        let footprint = Footprint { reads: &reads, writes: &writes, blind: read_ts.is_none() };
        let read_ts = read_ts.unwrap_or(Timestamp::ZERO);
        let request =
            Request { read_ts, footprint, writes: writes.clone(), label: None, needs_sync, owner };
        let look = || {
            let versions = lock(&self.versions);
            let newest = versions.get(name).and_then(|versions| versions.last_key_value());
            let newer = newest.filter(|(ts, _)| **ts > read_ts);
            Ok(newer.map(|(ts, _)| Newer { key: key(name), touched: Touched::Read, ts: *ts }))
        };
        let ordered = self.sequencer.commit(request, 0, look, |_, ts| {
            let begin = Lsn(self.next.fetch_add(1, Ordering::AcqRel));
            let end = Lsn(begin.0 + 1);
            lock(&self.commits).insert(ts, (end, needs_sync, false));
            Ok((begin, end, ()))
        });
        ordered.map(|(commit, ())| commit)
    }

    fn apply(&self, commit: &Commit, name: &'static str, value: u64) {
        lock(&self.versions).entry(name).or_default().insert(commit.ts, value);
        if let Some(known) = lock(&self.commits).get_mut(&commit.ts) {
            known.2 = true;
        }
        self.sequencer.applied(commit);
    }

    fn publish(&self) {
        self.sequencer.publish(|| self.durable(), |owner| self.locks.release(owner));
    }

    fn wait(&self, commit: &Commit) -> Result<()> {
        if commit.needs_sync() {
            self.sync(commit.end)?;
        }
        self.sequencer.wait_visible(
            commit.ts,
            || self.durable(),
            |end| self.sync(end),
            |owner| self.locks.release(owner),
        )
    }

    /// Checks that whoever reads now reads a whole prefix, and one that no crash takes back.
    fn check_visible(&self) -> Timestamp {
        let visible = self.sequencer.visible();
        let commits = lock(&self.commits).clone();
        for (ts, (end, needs_sync, is_applied)) in commits.range(..=visible) {
            assert!(is_applied, "{ts:?} is visible and not in the memtable");
            assert!(!needs_sync || *end <= self.durable(), "{ts:?} is visible and not durable");
        }
        visible
    }

    fn newest(&self, name: &str) -> (Timestamp, u64) {
        let visible = self.check_visible();
        let versions = lock(&self.versions);
        let newest = versions.get(name).and_then(|of| of.range(..=visible).next_back());
        (visible, newest.map_or(0, |(_, value)| *value))
    }
}

#[test]
fn what_is_visible_is_whole_durable_and_acknowledged_in_order() {
    check(|| {
        let world = World::new();
        let committers: Vec<_> = [true, false, true]
            .into_iter()
            .map(|needs_sync| {
                let world = world.clone();
                thread::spawn(move || {
                    let commit = world.order("k", None, needs_sync, None).unwrap();
                    world.apply(&commit, "k", 1);
                    if !needs_sync {
                        world.publish();
                    }
                    world.wait(&commit).unwrap();
                    assert!(world.check_visible() >= commit.ts, "acknowledged before visible");
                })
            })
            .collect();
        let before = world.check_visible();
        assert!(world.check_visible() >= before, "visible went back");
        committers.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(world.check_visible().raw(), 3);
    });
}

#[test]
fn nobody_sleeps_behind_a_commit_whose_owner_does_not_wait() {
    check(|| {
        let world = World::new();
        let absent = thread::spawn({
            let world = world.clone();
            move || {
                let commit = world.order("k", None, true, None).unwrap();
                world.apply(&commit, "k", 1);
            }
        });
        for needs_sync in [true, false] {
            let commit = world.order("k", None, needs_sync, None).unwrap();
            world.apply(&commit, "k", 2);
            world.wait(&commit).unwrap();
            assert!(world.check_visible() >= commit.ts);
        }
        absent.join().unwrap();
    });
}

#[test]
fn when_the_log_fails_all_are_told_and_nothing_becomes_visible_any_more() {
    check(|| {
        let world = World::new();
        let owners: Vec<_> = (1..=2u64)
            .map(|id| {
                let world = world.clone();
                thread::spawn(move || {
                    let owner = TransactionId(id);
                    let age = Timestamp::from_raw(id);
                    world.locks.acquire(owner, age, &key("k")).unwrap();
                    let commit = world.order("k", None, true, Some(owner)).unwrap();
                    world.apply(&commit, "k", id);
                    let waited = world.wait(&commit);
                    assert!(waited.is_err() || world.check_visible() >= commit.ts);
                })
            })
            .collect();
        world.fails.store(true, Ordering::SeqCst);
        let buffered = world.order("k", None, false, None).unwrap();
        world.apply(&buffered, "k", 3);
        world.publish();
        let _ = world.wait(&buffered);
        // The second of the two owners gets the lock although the first one never becomes visible.
        owners.into_iter().for_each(|thread| thread.join().unwrap());
        if world.sequencer.has_failed() {
            let visible = world.sequencer.visible();
            world.durable.store(100, Ordering::SeqCst);
            world.publish();
            assert_eq!(world.sequencer.visible(), visible);
        }
        assert!(world.locks.is_empty());
    });
}

#[test]
fn no_update_is_lost() {
    check(|| {
        let world = World::new();
        let writers: Vec<_> = (0..3)
            .map(|n| {
                let world = world.clone();
                thread::spawn(move || {
                    loop {
                        let (read_ts, value) = world.newest("k");
                        let Ok(commit) = world.order("k", Some(read_ts), n != 1, None) else {
                            thread::yield_now();
                            continue;
                        };
                        world.apply(&commit, "k", value + 1);
                        world.wait(&commit).unwrap();
                        return;
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(world.newest("k"), (Timestamp::from_raw(3), 3));
    });
}

#[test]
fn no_update_is_lost_among_many_that_do_not_conflict() {
    check(|| {
        let world = World::new();
        let others = thread::spawn({
            let world = world.clone();
            move || {
                for name in ["x", "y", "x"] {
                    let commit = world.order(name, None, false, None).unwrap();
                    world.apply(&commit, name, 0);
                    world.publish();
                }
            }
        });
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let world = world.clone();
                thread::spawn(move || {
                    loop {
                        let (read_ts, value) = world.newest("k");
                        thread::yield_now();
                        let Ok(commit) = world.order("k", Some(read_ts), false, None) else {
                            continue;
                        };
                        world.apply(&commit, "k", value + 1);
                        world.publish();
                        world.wait(&commit).unwrap();
                        return;
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|thread| thread.join().unwrap());
        others.join().unwrap();
        assert_eq!(world.newest("k").1, 2);
    });
}

#[test]
fn locks_exclude_and_every_circle_is_broken() {
    check(|| {
        let locks = Arc::new(Locks::default());
        let held = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let orders = [[0, 1], [1, 0], [0, 1]];
        let threads: Vec<_> = orders
            .into_iter()
            .enumerate()
            .map(|(n, order)| {
                let (locks, held) = (locks.clone(), held.clone());
                thread::spawn(move || {
                    for attempt in 0.. {
                        let id = TransactionId(n as u64 + 3 * attempt);
                        let mut got = Vec::new();
                        let age = Timestamp::from_raw(n as u64);
                        let all = order.iter().try_for_each(|&at| {
                            locks.acquire(id, age, &key(["a", "b"][at])).map_err(|_| ())?;
                            assert!(!held[at].swap(true, Ordering::SeqCst), "held twice");
                            got.push(at);
                            Ok::<(), ()>(())
                        });
                        got.into_iter().for_each(|at| held[at].store(false, Ordering::SeqCst));
                        locks.release(id);
                        if all.is_ok() {
                            return;
                        }
                        // The oldest is never the victim.
                        assert!(n > 0, "the oldest was rolled back");
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(locks.is_empty());
    });
}

fn shard() -> Arc<Shard> {
    let options = EngineOptions {
        create: true,
        owner: "a test".into(),
        new_id: [7; 16],
        hash_seed: 7,
        wal: WalOptions { segment_bytes_min: 16 << 10, ..WalOptions::default() },
        table: TableOptions::default(),
        memory: MemoryOptions::of_budget(64 << 20),
        compaction: CompactionOptions::for_flush_bytes(1 << 20),
        log_bytes_max: 64 << 20,
    };
    let (engine, _) = Engine::open(Arc::new(SimDisk::new()), Path::new("db"), options).unwrap();
    Shard::new(Arc::new(engine))
}

#[test]
fn a_watch_misses_nothing_while_it_overflows_and_garbage_is_collected() {
    check(|| {
        let shard = shard();
        let mut watch = shard.watch(KeyRange::prefix(&key("a")), None).unwrap();
        let writer = thread::spawn({
            let shard = shard.clone();
            move || {
                for n in 0..6u8 {
                    let options = TransactionOptions {
                        durability: Durability::None,
                        ..TransactionOptions::default()
                    };
                    let mut txn = shard.begin(options);
                    let name = if n == 2 { "elsewhere" } else { "a" };
                    txn.put(key(name), Bytes::copy_from_slice(&[n])).unwrap();
                    txn.commit(0).unwrap();
                }
            }
        });
        let collector = thread::spawn({
            let shard = shard.clone();
            move || {
                for _ in 0..2 {
                    shard.collect(Timestamp::MAX);
                }
            }
        });
        for expected in [0, 1, 3, 4, 5u8] {
            let set = watch.next_change().unwrap().unwrap();
            assert_eq!(set.changes[0].value.as_deref(), Some(&[expected][..]));
            assert_eq!(set.ts.raw(), u64::from(expected) + 1);
        }
        writer.join().unwrap();
        collector.join().unwrap();
    });
}

#[test]
fn money_is_neither_made_nor_lost_by_transfers() {
    check(|| {
        let shard = shard();
        let transfer = |shard: &Arc<Shard>, locks: bool| -> Result<()> {
            let mut txn = shard.begin(TransactionOptions::default());
            let mut balances = [0u8; 2];
            for (name, balance) in ["a", "b"].into_iter().zip(&mut balances) {
                let value = if locks { txn.get_for_update(key(name)) } else { txn.get(key(name)) }?;
                *balance = value.map_or(10, |value| value[0]);
            }
            assert_eq!(balances[0] + balances[1], 20, "a torn snapshot");
            txn.put(key("a"), Bytes::copy_from_slice(&[balances[0] - 1]))?;
            txn.put(key("b"), Bytes::copy_from_slice(&[balances[1] + 1]))?;
            txn.commit(0).map(|_| ())
        };
        let threads: Vec<_> = [false, true]
            .into_iter()
            .map(|locks| {
                let shard = shard.clone();
                thread::spawn(move || {
                    loop {
                        match transfer(&shard, locks) {
                            Ok(()) => return,
                            Err(error) => assert!(error.is_retryable(), "{error}"),
                        }
                        thread::yield_now();
                    }
                })
            })
            .collect();
        shard.collect(Timestamp::MAX);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let found = shard.snapshot();
        assert_eq!(found.get(&key("a")).unwrap().unwrap()[0], 8);
        assert_eq!(found.get(&key("b")).unwrap().unwrap()[0], 12);
        assert!(shard.locks().is_empty());
    });
}

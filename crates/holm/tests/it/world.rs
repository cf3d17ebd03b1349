//! What the workloads share: a database on a real or a simulated disk, with maintenance going on
//! beside the clients, and a client's way to run and record its transactions.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use env::{SeededRandom, SimDisk, SystemClock};
use holm::{
    CompactionOptions, Db, Durability, Environment, Options, PendingCommit, Result, TableOptions,
    Timestamp, Transaction,
};
use holm_sim::history::{History, Op, Outcome, Recorder, TransactionId};

/// Commits that one client keeps in flight.
const IN_FLIGHT_MAX: usize = 4;

/// Where a database is.
#[derive(Clone)]
pub(crate) enum Place {
    /// In a directory of the system's disk.
    Real(PathBuf),
    /// On a disk in memory.
    Simulated(SimDisk),
}

impl Place {
    /// Returns a new directory, removed by [`Place::remove`].
    pub(crate) fn real(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("holm-it-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Place::Real(path)
    }

    pub(crate) fn simulated() -> Place {
        Place::Simulated(SimDisk::new())
    }

    pub(crate) fn open(&self, options: Options) -> Db {
        match self {
            Place::Real(path) => options.open(path).unwrap(),
            Place::Simulated(disk) => {
                let environment = Environment {
                    disk: Arc::new(disk.clone()),
                    clock: Arc::new(SystemClock),
                    seed: 7,
                    has_background: true,
                };
                options.open_in(environment, Path::new("db")).unwrap()
            }
        }
    }

    pub(crate) fn remove(&self) {
        if let Place::Real(path) = self {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Options under which what is rare happens often: small memtables, tables and segments, hardly any
/// past, and caches that have just room for something.
pub(crate) fn options() -> Options {
    Options::new()
        .memory(1472 << 10)
        .memtable_bytes(64 << 10)
        .log_bytes(128 << 10)
        .compaction(CompactionOptions::for_flush_bytes(16 << 10))
        .table(TableOptions { block_bytes: 512, restart_interval: 4, ..TableOptions::default() })
        .retention(Duration::from_millis(2))
        .segment_bytes(32 << 10, 128 << 10)
        .buffered(Duration::from_millis(1), 16 << 10)
}

/// Runs one client on each of `clients` threads, and maintenance beside them until they are done.
pub(crate) fn run_clients(db: &Db, clients: u64, client: impl Fn(u64) + Sync) {
    let done = AtomicBool::new(false);
    let checkpoints = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A checkpoint each time would starve the clients of two cores.
            let mut rounds = 0u32;
            while !done.load(Ordering::Acquire) {
                db.maintain();
                rounds += 1;
                if rounds.is_multiple_of(16) {
                    db.flush().unwrap();
                    checkpoints.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::yield_now();
            }
            db.flush().unwrap();
        });
        let running: Vec<_> = (0..clients)
            .map(|n| {
                scope.spawn({
                    let client = &client;
                    move || client(n)
                })
            })
            .collect();
        let ended: Vec<_> = running.into_iter().map(|thread| thread.join()).collect();
        done.store(true, Ordering::Release);
        ended.into_iter().for_each(|end| end.unwrap());
    });
}

/// One thread's commits that are in flight. Each is a session of its own: the thread does not wait
/// for one before it begins the next.
pub(crate) struct InFlight<'r> {
    recorder: &'r Recorder,
    free: Vec<u64>,
    commits: VecDeque<(Attempt, PendingCommit)>,
}

/// An attempt at a transaction, as it is recorded.
pub(crate) struct Attempt {
    session: u64,
    id: TransactionId,
    wrote: bool,
}

impl<'r> InFlight<'r> {
    pub(crate) fn new(recorder: &'r Recorder, client: u64) -> InFlight<'r> {
        let sessions = (0..=IN_FLIGHT_MAX as u64).map(|n| client * 100 + n);
        InFlight { recorder, free: sessions.collect(), commits: VecDeque::new() }
    }

    /// Begins a transaction, in a session that waits for nothing.
    pub(crate) fn begin(&mut self) -> Attempt {
        let session = self.free.pop().unwrap();
        Attempt { session, id: self.recorder.begin(session), wrote: false }
    }

    /// Notes a write, or a read with its answer.
    pub(crate) fn op(&self, attempt: &mut Attempt, op: Op) {
        attempt.wrote |= op.written().is_some();
        self.recorder.op(attempt.id, op);
    }

    /// Ends it without a commit.
    pub(crate) fn abort(&mut self, attempt: Attempt) {
        self.recorder.end(attempt.id, Outcome::Aborted);
        self.free.push(attempt.session);
    }

    /// Commits, now or in a while.
    pub(crate) fn commit(&mut self, attempt: Attempt, txn: Transaction, random: &mut SeededRandom) {
        self.recorder.read_ts(attempt.id, txn.read_timestamp().raw());
        if random.chance(500) {
            // Nobody but this thread brings it to the disk, and what it does next comes after.
            let committed = retryable(txn.commit());
            if let Some(ts) = committed.filter(|_| attempt.wrote) {
                self.recorder.commit_ts(attempt.id, ts.raw());
            }
            let outcome = committed.map_or(Outcome::Aborted, |_| Outcome::Committed);
            self.recorder.end(attempt.id, outcome);
            self.free.push(attempt.session);
            return;
        }
        match txn.commit_pending() {
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                self.abort(attempt);
            }
            Ok(pending) => {
                if attempt.wrote {
                    self.recorder.commit_ts(attempt.id, pending.ts().raw());
                }
                self.commits.push_back((attempt, pending));
                let keep = random.below(IN_FLIGHT_MAX as u64 + 1) as usize;
                while self.commits.len() > keep {
                    self.finish_first();
                }
            }
        }
    }

    fn finish_first(&mut self) {
        let Some((attempt, pending)) = self.commits.pop_front() else { return };
        pending.wait().unwrap();
        self.recorder.end(attempt.id, Outcome::Committed);
        self.free.push(attempt.session);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        while !self.commits.is_empty() && !std::thread::panicking() {
            self.finish_first();
        }
    }
}

pub(crate) fn durability(random: &mut SeededRandom) -> Durability {
    match random.below(3) {
        0 => Durability::Sync,
        1 => Durability::Buffered,
        _ => Durability::None,
    }
}

/// Returns a timestamp of the last few commits, which may be past the retention.
pub(crate) fn recent(db: &Db, random: &mut SeededRandom) -> Timestamp {
    Timestamp::from_raw(db.now().raw().saturating_sub(random.below(1 << 19)))
}

/// Returns the committed transactions, and how many did not.
pub(crate) fn summary(history: &History) -> (usize, usize) {
    let committed = history.transactions.iter().filter(|t| t.outcome == Outcome::Committed).count();
    (committed, history.transactions.len() - committed)
}

/// Lets an error end the attempt if the transaction may be run again.
pub(crate) fn retryable<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if error.is_retryable() => None,
        Err(error) => panic!("{error}"),
    }
}

//! One shard on one node: the engine, the order of commits and the locks, joined.

use std::sync::Arc;

use base::{KeyRange, Timestamp};
use storage::Engine;
use storage::memtable::{Collected, Memtable, Pin};
use storage::sync::{AtomicU64, Ordering};
use storage::wal::Lsn;

use crate::error::{Error, Result};
use crate::locks::{Locks, TransactionId};
use crate::options::TransactionOptions;
use crate::sequencer::{Commit, Sequencer};
use crate::snapshot::ReadSnapshot;
use crate::transaction::Transaction;
use crate::watch::Watch;
use crate::write_set::WriteSet;

/// Counts since the shard was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Transactions that wrote and were acknowledged, or are about to be.
    pub commits: u64,
    /// Transactions that another one stood in the way of.
    pub conflicts: u64,
    /// Transactions rolled back to break a circle of waiters.
    pub deadlocks: u64,
}

/// A shard. Shared by all its transactions.
pub struct Shard {
    engine: Arc<Engine>,
    sequencer: Sequencer,
    locks: Locks,
    next_id: AtomicU64,
    /// Most bytes the memtable may hold.
    memory_bytes_max: usize,
    pub(crate) commits: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) deadlocks: AtomicU64,
}

impl Shard {
    /// Joins what an engine recovered. Commits that would make the memtable exceed
    /// `memory_bytes_max` are refused.
    pub fn new(engine: Arc<Engine>, memory_bytes_max: usize) -> Arc<Shard> {
        let sequencer = Sequencer::new(engine.recovered_timestamp());
        Arc::new(Shard {
            engine,
            sequencer,
            locks: Locks::default(),
            next_id: AtomicU64::new(1),
            memory_bytes_max,
            commits: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            deadlocks: AtomicU64::new(0),
        })
    }

    /// Begins a transaction at the newest visible timestamp.
    pub fn begin(self: &Arc<Self>, options: TransactionOptions) -> Transaction {
        let id = TransactionId(self.next_id.fetch_add(1, Ordering::Relaxed));
        Transaction::new(self.clone(), id, self.pin_newest(), options)
    }

    /// Returns a view of the newest visible timestamp.
    pub fn snapshot(&self) -> ReadSnapshot {
        ReadSnapshot::new(self.pin_newest())
    }

    /// Returns a view of the past.
    ///
    /// # Errors
    /// `TooOld`, `InTheFuture`.
    pub fn snapshot_at(&self, ts: Timestamp) -> Result<ReadSnapshot> {
        Ok(ReadSnapshot::new(self.pin_at(ts)?))
    }

    /// Starts a feed of the changes to a range of engine keys: those after a timestamp, or those
    /// from now on.
    ///
    /// # Errors
    /// `TooOld`, `InTheFuture`.
    pub fn watch(self: &Arc<Self>, range: KeyRange, after: Option<Timestamp>) -> Result<Watch> {
        Watch::start(self, range, after)
    }

    /// Returns the timestamp up to which all commits are visible.
    pub fn visible(&self) -> Timestamp {
        self.sequencer.visible()
    }

    /// Forgets versions that nobody can read any more: those older than `keep_from`, except what
    /// snapshots and transactions still see.
    pub fn collect(&self, keep_from: Timestamp) -> Collected {
        let memtable = self.engine.memtable();
        self.sequencer.move_watches(|ts| memtable.pin_owned(ts).ok());
        memtable.raise_floor(keep_from.min(self.visible()));
        memtable.collect()
    }

    /// Writes a checkpoint of everything visible and releases the log before it.
    ///
    /// # Errors
    /// Those of the disk; the checkpoint before stays in force then.
    pub fn checkpoint(&self) -> Result<()> {
        let (visible, log_start) = self.sequencer.visible_end(|| self.engine.log_next());
        let written = self.engine.checkpoint(visible, log_start);
        written.map_err(|error| self.take_note(Error::from(error)))
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Returns counts since the shard was opened.
    pub fn stats(&self) -> ShardStats {
        ShardStats {
            commits: self.commits.load(Ordering::Relaxed),
            conflicts: self.conflicts.load(Ordering::Relaxed),
            deadlocks: self.deadlocks.load(Ordering::Relaxed),
        }
    }

    /// Makes everything that was committed so far durable and visible.
    ///
    /// # Errors
    /// `LogFailed`.
    ///
    /// # Durability
    /// All that was acknowledged before the call, whatever its durability, survives a crash.
    pub fn sync(&self) -> Result<()> {
        self.sync_log(self.engine.log_next())?;
        self.publish();
        Ok(())
    }

    /// Brings a commit to the disk, if it asked for that, and waits until it is visible.
    pub(crate) fn drive(&self, commit: &Commit) -> Result<()> {
        if commit.needs_sync() {
            self.sync_log(commit.end)?;
        }
        self.wait_visible(commit.ts)
    }

    /// Waits until a commit that is in order is visible. Does the disk's work itself if nobody else
    /// does.
    ///
    /// # Errors
    /// `LogFailed`: it will never be visible.
    pub(crate) fn wait_visible(&self, ts: Timestamp) -> Result<()> {
        self.sequencer.wait_visible(
            ts,
            || self.engine.log_durable(),
            |end| self.sync_log(end),
            |owner| self.locks.release(owner),
        )
    }

    /// Shows what may be seen.
    pub(crate) fn publish(&self) {
        self.sequencer.publish(|| self.engine.log_durable(), |owner| self.locks.release(owner));
    }

    fn sync_log(&self, end: Lsn) -> Result<()> {
        self.engine
            .sync_to_then(end, &|| self.publish())
            .map_err(|error| self.take_note(Error::from(error)))
    }

    /// Tells everybody who waits for the log if this error ended it.
    pub(crate) fn take_note(&self, error: Error) -> Error {
        if matches!(error.as_storage(), Some(storage::Error::LogFailed { .. })) {
            self.sequencer.fail(|owner| self.locks.release(owner));
        }
        error
    }

    pub(crate) fn sequencer(&self) -> &Sequencer {
        &self.sequencer
    }

    pub(crate) fn locks(&self) -> &Locks {
        &self.locks
    }

    pub(crate) fn pin_newest(&self) -> Pin<Arc<Memtable>> {
        self.engine.memtable().pin_newest_owned(|| self.visible())
    }

    pub(crate) fn pin_at(&self, ts: Timestamp) -> Result<Pin<Arc<Memtable>>> {
        let newest = self.visible();
        if ts > newest {
            return Err(Error::InTheFuture { asked: ts, newest });
        }
        let pinned = self.engine.memtable().pin_owned(ts);
        pinned.map_err(|too_old| Error::TooOld { asked: ts, oldest: too_old.floor })
    }

    pub(crate) fn check_memory(&self, writes: &WriteSet) -> Result<()> {
        if self.memory_bytes_max == usize::MAX {
            return Ok(());
        }
        let used = self.engine.memtable().memory_bytes();
        // Deletions are the way out of full memory, so they are always let in.
        if used.saturating_add(writes.bytes()) > self.memory_bytes_max && !writes.only_deletes() {
            return Err(Error::MemoryFull { used, budget: self.memory_bytes_max });
        }
        Ok(())
    }
}

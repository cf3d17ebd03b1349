//! One shard on one node: the engine, the order of commits and the locks, joined.

use std::path::Path;
use std::sync::Arc;

use base::{KeyRange, KeyspaceId, Timestamp, key};
use bytes::Bytes;
use storage::memtable::{Collected, Direction};
use storage::sync::{AtomicU64, Ordering};
use storage::wal::Lsn;
use storage::{BulkTables, Checkpoint, Engine, ReadPin};

use crate::error::{Error, KeyspaceName, Result};
use crate::locks::{Locks, TransactionId};
use crate::options::TransactionOptions;
use crate::sequencer::{Commit, Sequencer};
use crate::snapshot::ReadSnapshot;
use crate::transaction::Transaction;
use crate::watch::Watch;

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
    pub(crate) commits: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) deadlocks: AtomicU64,
}

impl Shard {
    /// Joins what an engine recovered.
    pub fn new(engine: Arc<Engine>) -> Arc<Shard> {
        let sequencer = Sequencer::new(engine.recovered_timestamp());
        Arc::new(Shard {
            engine,
            sequencer,
            locks: Locks::default(),
            next_id: AtomicU64::new(1),
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

    /// Returns true if everything that was put in order is visible: nobody waits for the disk.
    pub fn is_settled(&self) -> bool {
        self.sequencer.last() == self.visible()
    }

    /// Returns the timestamp up to which all commits are visible.
    pub fn visible(&self) -> Timestamp {
        self.sequencer.visible()
    }

    /// Forgets versions that nobody can read any more: those older than `keep_from`, except what
    /// snapshots and transactions still see. Memory is given back at once, the disk's space by the
    /// compactions to come.
    pub fn collect(&self, keep_from: Timestamp) -> Collected {
        self.sequencer.move_watches(|ts| self.engine.pin_at(ts).ok());
        self.engine.collect(keep_from.min(self.visible()))
    }

    /// Writes everything that was committed to tables, and releases the log before it.
    ///
    /// # Errors
    /// Those of the disk; nothing is lost then, and the log keeps what is in no table.
    pub fn flush(&self) -> Result<()> {
        // Sealed in the critical section, so that everything committed before is in it.
        self.sequencer.seal(|last| self.engine.seal(last));
        self.sync()?;
        self.flush_sealed()
    }

    /// Writes the memtables that are sealed, the oldest first, as far as all that is in them is
    /// visible: nothing is written to a table that a crash could still take back.
    ///
    /// # Errors
    /// As [`Shard::flush`].
    pub fn flush_sealed(&self) -> Result<()> {
        self.publish();
        while self.engine.flush_next(self.visible()).map_err(|error| self.note(error))? {}
        Ok(())
    }

    /// Adds what a bulk load wrote, all of it at once, at the timestamp that is returned.
    ///
    /// New commits wait meanwhile, for about as long as a flush takes.
    ///
    /// # Errors
    /// `NotEmpty` if there is a row between its first key and its last; `LogFailed`; those of the
    /// disk. Nothing was added then.
    ///
    /// # Durability
    /// All of it survives a crash once this returns.
    pub fn load(self: &Arc<Self>, mut bulk: BulkTables, wall_ms: u64) -> Result<Timestamp> {
        let range = bulk.range();
        // Most of what there is to flush is flushed before anybody waits.
        self.flush()?;
        let paused = self.sequencer.pause();
        // It stands in no log: what comes before it must not be lost without it.
        self.sync()?;
        self.wait_visible(self.sequencer.last())?;
        if self.engine.has_in_memory(&range) {
            self.flush()?;
        }
        let found = self.snapshot().scan(range.clone(), Direction::Forward).expecting(1).next();
        if let Some(row) = found.transpose()? {
            let (id, key) = key::decode(row.key()).unwrap_or((KeyspaceId::CATALOGUE, row.key()));
            let key = Bytes::copy_from_slice(key);
            return Err(Error::NotEmpty { keyspace: KeyspaceName { id, name: None }, key });
        }
        let at = self.engine.log_next();
        let add = |ts| self.engine.add_bulk(&mut bulk, ts);
        let ts = self.sequencer.load(&paused, range, wall_ms, at, add);
        drop(paused);
        let ts = ts.map_err(|error| self.note(error))?;
        self.publish();
        Ok(ts)
    }

    /// Makes a database of its own in an empty directory, with everything that was committed before
    /// the call, while work goes on.
    ///
    /// # Errors
    /// As [`Engine::checkpoint`].
    pub fn checkpoint(&self, target: &Path, new_id: [u8; 16]) -> Result<Checkpoint> {
        self.flush()?;
        self.engine.checkpoint(target, new_id).map_err(|error| self.note(error))
    }

    /// Checks that there is memory for what a transaction writes.
    pub(crate) fn check_room(&self) -> Result<()> {
        match self.engine.no_room() {
            None => Ok(()),
            Some((used, cause)) => {
                let budget = self.engine.memory().budget_bytes;
                Err(Error::MemoryFull { used, budget, cause })
            }
        }
    }

    fn note(&self, error: storage::Error) -> Error {
        self.take_note(Error::from(error))
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
        self.engine.sync_to_then(end, &|| self.publish()).map_err(|error| self.note(error))
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

    pub(crate) fn pin_newest(&self) -> ReadPin {
        self.engine.pin_newest(|| self.visible())
    }

    pub(crate) fn pin_at(&self, ts: Timestamp) -> Result<ReadPin> {
        let newest = self.visible();
        if ts > newest {
            return Err(Error::InTheFuture { asked: ts, newest });
        }
        let pinned = self.engine.pin_at(ts);
        pinned.map_err(|too_old| Error::TooOld { asked: ts, oldest: too_old.floor })
    }
}

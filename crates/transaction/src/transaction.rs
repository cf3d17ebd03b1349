//! One transaction, from its read timestamp to its commit.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin as FuturePin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::limits::{KEY_BYTES_MAX, LABEL_BYTES_MAX, VALUE_BYTES_MAX};
use base::{KeyRange, Timestamp, checksum, key};
use bytes::Bytes;
use storage::ReadPin;
use storage::batch::encode_batch;
use storage::memtable::Direction;
use storage::sync::Ordering;
use storage::wal::Lsn;

use crate::error::{Error, KeyspaceName, Result, Touched};
use crate::eval::{Footprint, Newer, find_newer};
use crate::locks::TransactionId;
use crate::options::{Durability, Isolation, TransactionOptions};
use crate::read_set::ReadSet;
use crate::scan::{Scan, Source};
use crate::sequencer::{Commit, Request, user_key};
use crate::shard::Shard;
use crate::write_set::{Savepoint, WriteSet};

/// A transaction. Dropping it rolls it back.
///
/// Keys are engine keys of data ([`base::key`]).
///
/// # Invariants
/// * Reads see the newest versions at or below the read timestamp, under the transaction's own
///   writes.
/// * Under `Serializable`, everything read is in the read set; under `Snapshot`, what was read for
///   update.
pub struct Transaction {
    shard: Arc<Shard>,
    id: TransactionId,
    age: Timestamp,
    options: TransactionOptions,
    pin: ReadPin,
    reads: RefCell<ReadSet>,
    /// True once anything was read that is not in the read set.
    read_untracked: Cell<bool>,
    pub(crate) writes: WriteSet,
    holds_locks: bool,
    is_finished: bool,
}

impl Transaction {
    pub(crate) fn new(
        shard: Arc<Shard>,
        id: TransactionId,
        pin: ReadPin,
        options: TransactionOptions,
    ) -> Transaction {
        Transaction {
            age: options.age.unwrap_or(pin.ts()),
            shard,
            id,
            options,
            pin,
            reads: RefCell::default(),
            read_untracked: Cell::new(false),
            writes: WriteSet::default(),
            holds_locks: false,
            is_finished: false,
        }
    }

    /// Returns the timestamp that is read.
    pub fn read_ts(&self) -> Timestamp {
        self.pin.ts()
    }

    /// Returns the read timestamp of the first attempt.
    pub fn age(&self) -> Timestamp {
        self.age
    }

    /// Returns how it runs.
    pub fn options(&self) -> &TransactionOptions {
        &self.options
    }

    /// Returns what the lock table calls it.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn id(&self) -> TransactionId {
        self.id
    }

    /// Returns the number of keys written so far.
    pub fn writes_len(&self) -> usize {
        self.writes.len()
    }

    /// Returns the bytes of keys and values written so far.
    pub fn write_bytes(&self) -> usize {
        self.writes.bytes()
    }

    /// Returns a key's value.
    ///
    /// # Errors
    /// `TooLarge` for a key longer than the limit; `Finished`; those of the disk.
    pub fn get(&self, key: Bytes) -> Result<Option<Bytes>> {
        self.check_open()?;
        check_key(&key)?;
        if let Some(own) = self.writes.get(&key) {
            return Ok(own.clone());
        }
        let value = self.pin.get(&key)?.map(|(_, value)| value);
        match self.tracks_reads() {
            true => self.reads.borrow_mut().add_point(key),
            false => self.read_untracked.set(true),
        }
        Ok(value)
    }

    /// Returns a key's value after taking its exclusive lock, waiting for whoever holds it.
    ///
    /// If the key changed since the transaction began, and nothing else that it read did, its
    /// snapshot moves forward, so that it sees the newest value and can commit.
    ///
    /// # Errors
    /// `Deadlock`, `Conflict`: the transaction can only be rolled back then. `ReadOnly`,
    /// `TooLarge`, `Finished`.
    pub fn get_for_update(&mut self, key: Bytes) -> Result<Option<Bytes>> {
        self.check_writable()?;
        check_key(&key)?;
        self.lock(&key)?;
        if let Some(own) = self.writes.get(&key) {
            return Ok(own.clone());
        }
        if let Some(newest) = self.pin.newest_after(&key, self.read_ts())? {
            // It may be on its way to the disk still, written by one who took no lock.
            let moved = self.shard.wait_visible(newest).and_then(|()| self.move_forward(&key));
            if let Err(error) = moved {
                self.finish();
                return Err(error);
            }
        }
        let value = self.pin.get(&key)?.map(|(_, value)| value);
        self.reads.borrow_mut().add_point(key);
        Ok(value)
    }

    /// Returns the rows of a range in order. What is read are the rows that are taken from it, and
    /// the gaps between them.
    ///
    /// # Errors
    /// `TooLarge` for a bound longer than the limit; `Finished`.
    pub fn scan(&self, range: KeyRange, direction: Direction) -> Result<Scan<'_>> {
        self.check_open()?;
        check_key(&range.start)?;
        range.end.as_ref().map_or(Ok(()), check_key)?;
        let tracks = self.tracks_reads();
        if !tracks {
            self.read_untracked.set(true);
        }
        let source = Source::of(&self.pin)
            .with_writes(&self.writes)
            .recording(tracks.then_some(&self.reads));
        Ok(Scan::new(source, range, direction))
    }

    /// Buffers a value for a key.
    ///
    /// # Errors
    /// `ReadOnly`, `TooLarge`, `Finished`; nothing was buffered then.
    pub fn put(&mut self, key: Bytes, value: Bytes) -> Result<()> {
        self.check_writable()?;
        check_key(&key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::TooLarge {
                what: "value",
                bytes: value.len(),
                limit: VALUE_BYTES_MAX,
                advice: "split it over several keys with a common prefix",
            });
        }
        self.writes.write(key, Some(value))
    }

    /// As [`Transaction::put`], of a copy of the key, which comes in two parts, and of the value.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn put_copy(&mut self, prefix: &[u8], key: &[u8], value: &[u8]) -> Result<()> {
        self.check_writable()?;
        let (key, value) = self.writes.copy(prefix, key, value);
        self.put(key, value)
    }

    /// Buffers the deletion of a key.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete(&mut self, key: Bytes) -> Result<()> {
        self.check_writable()?;
        check_key(&key)?;
        self.writes.write(key, None)
    }

    /// Buffers the deletion of every key in a range that the transaction sees; returns how many
    /// there were. Under `Serializable`, a key that somebody inserts there meanwhile conflicts.
    ///
    /// # Errors
    /// As [`Transaction::put`]. If the deletions exceed the transaction's limit, none is kept.
    pub fn delete_range(&mut self, range: KeyRange) -> Result<u64> {
        self.check_writable()?;
        let rows = self.scan(range, Direction::Forward)?;
        let keys = rows.map(|row| Ok(row?.into_parts().0)).collect::<Result<Vec<Bytes>>>()?;
        let before = self.writes.savepoint();
        for key in &keys {
            if let Err(error) = self.writes.write(key.clone(), None) {
                self.writes.rollback_to(before)?;
                self.writes.release(before);
                return Err(error);
            }
        }
        self.writes.release(before);
        Ok(keys.len() as u64)
    }

    /// Sets a mark to roll back to.
    pub fn savepoint(&mut self) -> Savepoint {
        self.writes.savepoint()
    }

    /// Forgets all writes since the savepoint. What was read stays read.
    ///
    /// # Errors
    /// `NoSuchSavepoint`, `Finished`.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        self.check_open()?;
        self.writes.rollback_to(savepoint)
    }

    /// Commits. Returns the commit timestamp; for a transaction without writes, the read timestamp.
    ///
    /// `wall_ms` is what the clock shows; it makes the timestamp readable and orders nothing.
    ///
    /// # Errors
    /// `Conflict` and `Deadlock`: nothing was written, run it again. `MemoryFull`, and of the disk
    /// `DiskFull`: nothing was written. `LogFailed`: it is not known whether the transaction will
    /// be there after the database is opened again.
    ///
    /// # Durability
    /// As the transaction's [`Durability`] says.
    pub fn commit(self, wall_ms: u64) -> Result<Timestamp> {
        self.commit_pending(wall_ms)?.wait()
    }

    /// Puts the transaction in order and returns at once; the handle is done when [`Transaction::
    /// commit`] would return.
    ///
    /// # Errors
    /// As [`Transaction::commit`], but for failures of the log later on.
    pub fn commit_pending(mut self, wall_ms: u64) -> Result<PendingCommit> {
        self.check_open()?;
        let read_ts = self.read_ts();
        if self.writes.is_empty() {
            self.finish();
            return Ok(PendingCommit { shard: self.shard.clone(), ts: read_ts, commit: None });
        }
        check_label(self.options.label.as_deref())?;
        self.shard.check_room()?;
        self.wait_for_locks()?;

        let shard = self.shard.clone();
        let engine = shard.engine();
        let writes = Arc::new(std::mem::take(&mut self.writes));
        let payload =
            encode_batch(writes.iter().map(|(key, value)| (&key[..], value)), writes.bytes());
        let payload_crc = checksum::of(&[&payload]);
        let reads = self.reads.borrow();
        let blind = reads.is_empty() && !self.read_untracked.get();
        let footprint = Footprint { reads: &reads, writes: &writes, blind };
        let request = Request {
            read_ts,
            footprint,
            writes: writes.clone(),
            label: self.options.label.clone(),
            needs_sync: self.options.durability == Durability::Sync,
            owner: self.holds_locks.then_some(self.id),
        };
        let ordered = shard.sequencer().commit(
            request,
            wall_ms,
            || self.look(footprint),
            |last, ts| engine.append(last, ts, &payload, payload_crc),
        );
        let (commit, memtable) = match ordered {
            Ok(ordered) => ordered,
            Err(error) => {
                if matches!(error, Error::Conflict(_)) {
                    shard.conflicts.fetch_add(1, Ordering::Relaxed);
                }
                drop(reads);
                self.finish();
                return Err(shard.take_note(error));
            }
        };
        let writer = memtable.pin_writer();
        writer.insert_all(commit.ts, writes.iter().map(|(key, value)| (&key[..], value)));
        drop(writer);
        shard.sequencer().applied(&commit);
        shard.commits.fetch_add(1, Ordering::Relaxed);
        drop(reads);
        // The locks are given up when the commit is visible.
        self.is_finished = true;
        if !commit.needs_sync() {
            shard.publish();
        }
        Ok(PendingCommit { shard: shard.clone(), ts: commit.ts, commit: Some(commit) })
    }

    /// Forgets everything.
    pub fn rollback(mut self) {
        self.finish();
    }

    fn tracks_reads(&self) -> bool {
        // A read-only transaction runs at its read timestamp: nothing can come in between.
        self.options.isolation == Isolation::Serializable && !self.options.read_only
    }

    fn check_open(&self) -> Result<()> {
        if self.is_finished { Err(Error::Finished) } else { Ok(()) }
    }

    fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.options.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    fn lock(&mut self, key: &Bytes) -> Result<()> {
        let locked = self.shard.locks().acquire(self.id, self.age, key);
        self.holds_locks = true;
        locked.map_err(|parties| {
            self.shard.deadlocks.fetch_add(1, Ordering::Relaxed);
            self.finish();
            let id = key::decode(key).map_or(base::KeyspaceId::CATALOGUE, |(id, _)| id);
            let keyspace = KeyspaceName { id, name: None };
            Error::Deadlock { keyspace, key: user_key(key), parties }
        })
    }

    /// Waits for those who hold locks on what this transaction wrote.
    fn wait_for_locks(&mut self) -> Result<()> {
        if self.shard.locks().is_empty() {
            return Ok(());
        }
        let locks = self.shard.locks();
        let keys = self.writes.iter().map(|(key, _)| key);
        let held: Vec<Bytes> =
            keys.filter(|key| locks.held_by_other(self.id, key)).cloned().collect();
        held.iter().try_for_each(|key| self.lock(key))
    }

    /// Moves the snapshot to the newest visible timestamp, if nothing that was read changed since.
    fn move_forward(&mut self, key: &Bytes) -> Result<()> {
        let newest = self.shard.pin_newest();
        let reads = self.reads.borrow();
        let none = WriteSet::default();
        let footprint = Footprint { reads: &reads, writes: &none, blind: false };
        let newer = if self.read_untracked.get() {
            let ts = self.pin.newest_after(key, self.read_ts())?.unwrap_or(self.read_ts());
            Some(Newer { key: key.clone(), touched: Touched::Read, ts })
        } else {
            self.look(footprint)?
        };
        if let Some(Newer { key, touched, ts }) = newer {
            self.shard.conflicts.fetch_add(1, Ordering::Relaxed);
            return Err(self.shard.sequencer().conflict(self.read_ts(), &key, touched, ts));
        }
        drop(reads);
        self.pin = newest;
        Ok(())
    }

    /// Looks for anything stored of the footprint that is newer than the snapshot.
    fn look(&self, footprint: Footprint<'_>) -> Result<Option<Newer>> {
        Ok(find_newer(&self.pin, footprint, self.read_ts())?)
    }

    fn finish(&mut self) {
        if !self.is_finished && self.holds_locks {
            self.shard.locks().release(self.id);
        }
        self.is_finished = true;
        self.writes = WriteSet::default();
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.finish();
    }
}

fn check_key(key: &Bytes) -> Result<()> {
    let bytes = key.len().saturating_sub(key::PREFIX_BYTES);
    if bytes > KEY_BYTES_MAX {
        return Err(Error::TooLarge {
            what: "key",
            bytes,
            limit: KEY_BYTES_MAX,
            advice: "use a shorter key, a hash of it say, and keep the long form in the value",
        });
    }
    Ok(())
}

fn check_label(label: Option<&str>) -> Result<()> {
    match label {
        Some(label) if label.len() > LABEL_BYTES_MAX => Err(Error::TooLarge {
            what: "label",
            bytes: label.len(),
            limit: LABEL_BYTES_MAX,
            advice: "use a shorter one",
        }),
        _ => Ok(()),
    }
}

/// A commit that is in order and on its way to the disk. It happens whether or not anybody waits.
///
/// Wait for it by [`PendingCommit::wait`], or poll it as a future; a future needs somebody who
/// brings the log to the disk, which the library's background does.
#[must_use = "the commit is acknowledged only when this is waited for"]
pub struct PendingCommit {
    shard: Arc<Shard>,
    ts: Timestamp,
    commit: Option<Arc<Commit>>,
}

impl PendingCommit {
    /// Returns the commit timestamp.
    pub fn ts(&self) -> Timestamp {
        self.ts
    }

    /// Returns where its record ends in the log; `None` if it wrote nothing.
    pub fn log_end(&self) -> Option<Lsn> {
        self.commit.as_ref().map(|commit| commit.end)
    }

    /// Returns true if the commit is acknowledged.
    pub fn is_done(&self) -> bool {
        self.commit.is_none() || self.shard.visible() >= self.ts
    }

    /// Waits until the commit is durable, as asked for, and visible. Does the disk's work itself if
    /// nobody else does.
    ///
    /// # Errors
    /// `LogFailed`: it is not known whether the transaction will be there after the database is
    /// opened again.
    pub fn wait(self) -> Result<Timestamp> {
        let Some(commit) = &self.commit else { return Ok(self.ts) };
        if !self.is_done() {
            self.shard.drive(commit)?;
        }
        Ok(self.ts)
    }
}

impl Future for PendingCommit {
    type Output = Result<Timestamp>;

    fn poll(self: FuturePin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(commit) = &self.commit
            && !self.is_done()
        {
            commit.set_waker(cx.waker());
            // It may have become visible, or impossible, before the waker was there.
            if !self.is_done() {
                if self.shard.sequencer().has_failed() {
                    let cause = self.shard.engine().log_failure().unwrap_or_default();
                    return Poll::Ready(Err(storage::Error::LogFailed { cause }.into()));
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(self.ts))
    }
}

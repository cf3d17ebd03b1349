//! A transaction as a program sees it: keyspaces and user keys, around the shard's transaction.

use std::sync::Arc;

use base::{KeyRange, Timestamp};
use bytes::Bytes;
use transaction::{
    Durability, Error, Isolation, PendingCommit, Result, Savepoint, TransactionOptions,
};

use crate::db::Open;
use crate::keyspace::Keyspace;
use crate::snapshot::{Scan, ScanSource};

/// Says how a transaction runs, before it begins. From [`crate::Db::transaction`].
///
/// ```
/// # let directory = std::env::temp_dir().join(format!("holm-builder-{}", std::process::id()));
/// # let _ = std::fs::remove_dir_all(&directory);
/// # let db = holm::Db::open(&directory)?;
/// let txn = db.transaction().label("nightly report").snapshot_isolation().begin();
/// # txn.rollback();
/// # drop(db);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TransactionBuilder {
    pub(crate) db: Arc<Open>,
    pub(crate) options: TransactionOptions,
}

impl TransactionBuilder {
    /// Snapshot isolation instead of serializability: fewer conflicts, and write skew is possible.
    pub fn snapshot_isolation(mut self) -> TransactionBuilder {
        self.options.isolation = Isolation::Snapshot;
        self
    }

    /// Refuses writes, and never conflicts.
    pub fn read_only(mut self) -> TransactionBuilder {
        self.options.read_only = true;
        self
    }

    /// What its commit has survived when it returns.
    pub fn durability(mut self, durability: Durability) -> TransactionBuilder {
        self.options.durability = durability;
        self
    }

    /// What the conflicts of others call it.
    pub fn label(mut self, label: impl Into<Arc<str>>) -> TransactionBuilder {
        self.options.label = Some(label.into());
        self
    }

    /// Begins.
    pub fn begin(self) -> Transaction {
        let core = self.db.shard.begin(self.options);
        Transaction { core, db: self.db, must_retry: None }
    }

    /// Runs a closure in such a transaction until it commits; see [`crate::Db::transact`].
    ///
    /// # Errors
    /// As [`crate::Db::transact`].
    pub fn run<R>(self, f: impl FnMut(&mut Transaction) -> Result<R>) -> Result<R> {
        crate::db::transact(self, f)
    }
}

/// A transaction. Dropping it rolls it back.
///
/// It sees the database as it was when it began, and its own writes. Its writes are seen by others
/// when it commits, all at once. Owned: it can be sent to another thread, and outlives the call
/// that began it.
pub struct Transaction {
    pub(crate) core: transaction::Transaction,
    pub(crate) db: Arc<Open>,
    /// The failure after which only another attempt helps, for `transact` to see even if the
    /// closure makes another error of it.
    pub(crate) must_retry: Option<Error>,
}

impl Transaction {
    /// Returns the timestamp that is read.
    pub fn read_timestamp(&self) -> Timestamp {
        self.core.read_ts()
    }

    /// Returns a key's value.
    ///
    /// # Errors
    /// `TooLarge`, `Finished`.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.core.get(keyspace.key(key.as_ref()))
    }

    /// Returns a key's value after taking its exclusive lock, in line with others who do. The lock
    /// is held until the transaction ends. Use it for keys that will be written and that many want.
    ///
    /// # Errors
    /// `Deadlock`, `Conflict`, after which the transaction can only be rolled back; `ReadOnly`,
    /// `TooLarge`, `Finished`.
    pub fn get_for_update(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Bytes>> {
        self.lock_engine_key(keyspace.key(key.as_ref()))
    }

    pub(crate) fn lock_engine_key(&mut self, key: Bytes) -> Result<Option<Bytes>> {
        self.core.get_for_update(key).map_err(|error| {
            let error = self.db.name(error);
            if let Some(retryable) = copy_of_retryable(&error) {
                self.must_retry = Some(retryable);
            }
            error
        })
    }

    /// Returns the rows of a range: `b"a"..b"b"`, `..`, or [`KeyRange::prefix`]. What counts as
    /// read is what was taken from it.
    pub fn scan(&self, keyspace: &Keyspace, range: impl Into<KeyRange>) -> Scan<'_> {
        Scan::new(ScanSource::Transaction(&self.core), keyspace.range(&range.into()))
    }

    /// Writes a value.
    ///
    /// # Errors
    /// `ReadOnly`, `TooLarge`, `Finished`; nothing was written then.
    pub fn put(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.core.put_copy(&keyspace.prefix(), key.as_ref(), value.as_ref())
    }

    /// Deletes a key, whether or not it is there.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        self.core.delete(keyspace.key(key.as_ref()))
    }

    /// Deletes all keys of a range; returns how many there were.
    ///
    /// # Errors
    /// As [`Transaction::put`]; none of the deletions is kept then.
    pub fn delete_range(&mut self, keyspace: &Keyspace, range: impl Into<KeyRange>) -> Result<u64> {
        self.core.delete_range(keyspace.range(&range.into()))
    }

    /// Writes `new` if the key has the value `expected`, where `None` is absent; returns whether it
    /// did.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn compare_and_set(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        if self.get(keyspace, key.as_ref())?.as_deref() != expected {
            return Ok(false);
        }
        match new {
            Some(value) => self.put(keyspace, key, value)?,
            None => self.delete(keyspace, key)?,
        }
        Ok(true)
    }

    /// Adds to a counter and returns the sum. A counter is a value that holds a decimal integer of
    /// 64 bits with sign; an absent one is 0.
    ///
    /// # Errors
    /// `WrongValue` if the value is no such integer, or the sum is not; as [`Transaction::put`].
    pub fn add(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, delta: i64) -> Result<i64> {
        let key = key.as_ref();
        let wrong = |what: String| Error::WrongValue {
            keyspace: transaction::KeyspaceName {
                id: keyspace.id,
                name: Some(keyspace.name.clone()),
            },
            key: Bytes::copy_from_slice(key),
            what,
        };
        let old: i64 = match self.get(keyspace, key)? {
            None => 0,
            Some(value) => {
                let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                let shown = || base::text::escape_short(&value, 40);
                number.ok_or_else(|| {
                    wrong(format!("a counter holds a decimal integer, and this is {:?}", shown()))
                })?
            }
        };
        let new = old
            .checked_add(delta)
            .ok_or_else(|| wrong(format!("{old} plus {delta} does not fit 64 bits")))?;
        self.put(keyspace, key, new.to_string())?;
        Ok(new)
    }

    /// Sets a mark that the transaction's writes can be rolled back to.
    pub fn savepoint(&mut self) -> Savepoint {
        self.core.savepoint()
    }

    /// Forgets all writes since a savepoint, which stays.
    ///
    /// # Errors
    /// `NoSuchSavepoint`, `Finished`.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        self.core.rollback_to(savepoint)
    }

    /// Commits; returns the commit timestamp. A transaction that wrote nothing always commits, at
    /// the timestamp it read.
    ///
    /// # Errors
    /// `Conflict`, `Deadlock`: run it again, or use [`crate::Db::transact`]. `MemoryFull`, and of
    /// the disk `DiskFull`: nothing was written. `LogFailed`: opening the database again will tell
    /// whether it is there.
    ///
    /// # Durability
    /// As the transaction's [`Durability`] says: with `Sync`, it survives the loss of power.
    pub fn commit(self) -> Result<Timestamp> {
        let (db, core) = (self.db, self.core);
        let pending = db.order(core)?;
        pending.wait()
    }

    /// Commits without waiting: the transaction is in order when this returns, and the handle is
    /// done when [`Transaction::commit`] would have returned. Wait for it, or poll it as a future.
    /// A few threads can keep many commits in flight so.
    ///
    /// # Errors
    /// As [`Transaction::commit`], but for failures of the log later on.
    pub fn commit_pending(self) -> Result<PendingCommit> {
        let (db, core) = (self.db, self.core);
        let pending = db.order(core)?;
        db.bring_to_disk();
        Ok(pending)
    }

    /// Forgets everything.
    pub fn rollback(self) {
        self.core.rollback();
    }
}

/// A retryable error's copy: all of it is cheap to clone.
pub(crate) fn copy_of_retryable(error: &Error) -> Option<Error> {
    match error {
        Error::Conflict(conflict) => Some(Error::Conflict(conflict.clone())),
        Error::Deadlock { keyspace, key, parties } => Some(Error::Deadlock {
            keyspace: keyspace.clone(),
            key: key.clone(),
            parties: *parties,
        }),
        _ => None,
    }
}

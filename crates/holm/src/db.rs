//! The open database.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use base::{KeyRange, KeyspaceId, Timestamp};
use bytes::Bytes;
use storage::{Engine, EngineStats, Error as StorageError, Recovery, Verified};
use transaction::{
    Durability, Error, Isolation, PendingCommit, Result, Shard, ShardStats, TransactionOptions,
};

use crate::background::{Background, Signal};
use crate::keyspace::{Keyspace, check_name};
use crate::options::{Environment, Options};
use crate::retry::Retry;
use crate::snapshot::{Snapshot, with_engine_key};
use crate::transaction::{Transaction, TransactionBuilder};
use crate::watch::{Watch, WatchFrom};

/// An open database. A handle: clones are the same database, which is closed when the last one is
/// dropped. Share it between threads freely.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Open>,
}

/// What handles and transactions hold: with the last of them the database is closed. The background
/// holds [`Inner`] only and is ended first, so that nobody is left who has the directory open.
pub(crate) struct Open {
    inner: Arc<Inner>,
    background: Background,
}

/// What all handles and transactions share, and the background with them.
pub(crate) struct Inner {
    pub(crate) shard: Arc<Shard>,
    pub(crate) options: Options,
    pub(crate) environment: Environment,
    recovery: Recovery,
    names: RwLock<BTreeMap<KeyspaceId, Arc<str>>>,
    seeds: AtomicU64,
    pub(crate) log_signal: Arc<Signal>,
    pub(crate) checkpoint_signal: Arc<Signal>,
    /// True while there are commits in flight that somebody polls for.
    pending: AtomicBool,
    /// True while there are acknowledged commits that are not on disk.
    unsynced: AtomicBool,
    /// What last kept a checkpoint from being written.
    checkpoint_error: RwLock<Option<String>>,
}

/// Sizes and counts of an open database.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// What opening found.
    pub recovery: Recovery,
    /// Commits, conflicts and deadlocks since it was opened.
    pub transactions: ShardStats,
    /// Keys, bytes, log and checkpoint.
    pub engine: EngineStats,
    /// The newest commit that is visible.
    pub visible: Timestamp,
    /// What last kept a checkpoint from being written, if nothing has been written since.
    pub checkpoint_error: Option<String>,
}

/// Most bytes of log that commits without a promise keep from the disk: a few large writes' worth.
const UNSYNCED_BYTES_MAX: u64 = 4 << 20;

impl Db {
    /// Opens the database in a directory, and creates it if there is none.
    ///
    /// # Errors
    /// Of the disk ([`Error::Storage`]): `Locked` if another process has it open, `NotADatabase`,
    /// `NewerFormat`, `Damaged` if something that was durable is wrong.
    ///
    /// # Durability
    /// Everything that was acknowledged as durable is there, and of everything else whole
    /// transactions or nothing.
    pub fn open(path: impl AsRef<Path>) -> Result<Db> {
        Options::new().open(path)
    }

    pub(crate) fn open_with(path: &Path, options: Options, environment: Environment) -> Result<Db> {
        let engine = options.engine(&environment);
        let (engine, recovery) = Engine::open(environment.disk.clone(), path, engine)?;
        let shard = Shard::new(Arc::new(engine), options.memory_bytes_max);
        let inner = Arc::new(Inner {
            shard,
            options,
            recovery,
            names: RwLock::default(),
            seeds: AtomicU64::new(environment.seed),
            log_signal: Arc::default(),
            checkpoint_signal: Arc::default(),
            pending: AtomicBool::new(false),
            unsynced: AtomicBool::new(false),
            checkpoint_error: RwLock::default(),
            environment,
        });
        let background = Background::default();
        let db = Db { inner: Arc::new(Open { inner, background }) };
        db.load_names()?;
        if db.inner.environment.has_background {
            db.inner.background.start(&db.inner.inner).map_err(|error| {
                Error::Invalid(format!("the system starts no thread for the database: {error}"))
            })?;
            // A process that was killed again and again must not replay an ever longer log.
            if db.inner.shard.engine().log_bytes() > db.inner.checkpoint_due_bytes() {
                db.inner.checkpoint_signal.work();
            }
        }
        Ok(db)
    }

    /// Returns the keyspace of a name, and creates it if there is none.
    ///
    /// # Errors
    /// `BadKeyspaceName`; as [`Transaction::commit`] when it is created.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        check_name(name)?;
        if let Some(found) = self.find_keyspace(name) {
            return Ok(found);
        }
        let catalogue = catalogue();
        let id = self.transact(|txn| {
            if let Some(id) = txn.get(&catalogue, name)? {
                return read_id(name, &id);
            }
            let mut last = KeyspaceId::CATALOGUE.0;
            for row in txn.scan(&catalogue, ..) {
                last = last.max(read_id(name, row?.value())?.0);
            }
            let id = KeyspaceId(last + 1);
            txn.put(&catalogue, name, id.0.to_be_bytes())?;
            Ok(id)
        })?;
        let name: Arc<str> = name.into();
        self.inner.names_mut().insert(id, name.clone());
        Ok(Keyspace { id, name })
    }

    /// Returns the keyspace of a name, if there is one.
    pub fn find_keyspace(&self, name: &str) -> Option<Keyspace> {
        let names = self.inner.names.read().unwrap_or_else(PoisonError::into_inner);
        let found = names.iter().find(|(_, known)| &***known == name);
        found.map(|(id, name)| Keyspace { id: *id, name: name.clone() })
    }

    /// Returns all keyspaces, sorted by name.
    pub fn keyspaces(&self) -> Vec<Keyspace> {
        let names = self.inner.names.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Keyspace> =
            names.iter().map(|(id, name)| Keyspace { id: *id, name: name.clone() }).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Begins a transaction: serializable, with the database's durability.
    pub fn begin(&self) -> Transaction {
        self.transaction().begin()
    }

    /// Says how a transaction runs before it begins.
    pub fn transaction(&self) -> TransactionBuilder {
        let options = TransactionOptions {
            isolation: Isolation::Serializable,
            durability: self.inner.options.durability,
            ..TransactionOptions::default()
        };
        TransactionBuilder { db: self.inner.clone(), options }
    }

    /// Runs a closure in a transaction and commits it; runs it again, on a new snapshot, as long as
    /// other transactions are in the way. The closure may therefore run several times: it should do
    /// nothing but read and write through the transaction.
    ///
    /// To roll back for a reason of your own, return [`Error::abort`].
    ///
    /// # Errors
    /// What the closure fails with; as [`Transaction::commit`]; `AttemptsExhausted` after a hundred
    /// attempts.
    pub fn transact<R>(&self, f: impl FnMut(&mut Transaction) -> Result<R>) -> Result<R> {
        transact(self.transaction(), f)
    }

    /// Returns the database as it is now, for reading.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { core: self.inner.shard.snapshot() }
    }

    /// Returns the database as it was at a timestamp, for reading.
    ///
    /// # Errors
    /// `TooOld` if it is past the retention, `InTheFuture` if nothing was committed there yet.
    pub fn at(&self, timestamp: Timestamp) -> Result<Snapshot> {
        Ok(Snapshot { core: self.inner.shard.snapshot_at(timestamp)? })
    }

    /// Returns a key's newest value.
    ///
    /// # Errors
    /// None here; the same call fails over a network.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        let snapshot = self.inner.shard.snapshot();
        with_engine_key(keyspace, key.as_ref(), |key| Ok(snapshot.get(key)))
    }

    /// Writes one value in a transaction of its own; returns the commit timestamp.
    ///
    /// # Errors
    /// As [`Transaction::put`] and [`Transaction::commit`]; never a conflict.
    pub fn put(
        &self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Timestamp> {
        let mut txn = self.begin();
        txn.put(keyspace, key, value)?;
        txn.commit()
    }

    /// Deletes one key in a transaction of its own; returns the commit timestamp.
    ///
    /// # Errors
    /// As [`Db::put`].
    pub fn delete(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Timestamp> {
        let mut txn = self.begin();
        txn.delete(keyspace, key)?;
        txn.commit()
    }

    /// Follows the committed changes to a range.
    ///
    /// # Errors
    /// `TooOld` and `InTheFuture` for where it shall begin.
    pub fn watch(
        &self,
        keyspace: &Keyspace,
        range: impl Into<KeyRange>,
        from: WatchFrom,
    ) -> Result<Watch> {
        let after = match from {
            WatchFrom::Now => None,
            WatchFrom::After(ts) => Some(ts),
        };
        let core = self.inner.shard.watch(keyspace.range(&range.into()), after)?;
        Ok(Watch { core })
    }

    /// Returns the newest commit timestamp that is visible.
    pub fn now(&self) -> Timestamp {
        self.inner.shard.visible()
    }

    /// Makes every commit that was acknowledged so far durable, whatever its own durability.
    ///
    /// # Errors
    /// `LogFailed`.
    ///
    /// # Durability
    /// They all survive the loss of power once this returns.
    pub fn sync(&self) -> Result<()> {
        self.inner.shard.sync()
    }

    /// Writes a checkpoint now: the log before it is not needed any more. Happens by itself when
    /// the log is long.
    ///
    /// # Errors
    /// Those of the disk; the checkpoint before stays in force then.
    pub fn checkpoint(&self) -> Result<()> {
        self.inner.checkpoint()
    }

    /// Reads everything on disk and checks it, while work goes on.
    ///
    /// # Errors
    /// `Damaged` for the first thing that is wrong.
    pub fn verify(&self) -> Result<Verified> {
        Ok(self.inner.shard.engine().verify()?)
    }

    /// Does what the background does, for a database that was opened without one.
    pub fn maintain(&self) {
        self.inner.log_work();
        self.inner.checkpoint_work();
    }

    /// Returns sizes and counts.
    pub fn stats(&self) -> Stats {
        let shard = &self.inner.shard;
        let error = self.inner.checkpoint_error.read().unwrap_or_else(PoisonError::into_inner);
        Stats {
            recovery: self.inner.recovery,
            transactions: shard.stats(),
            engine: shard.engine().stats(),
            visible: shard.visible(),
            checkpoint_error: error.clone(),
        }
    }

    /// Closes the database: everything is made durable and the directory is free for others, if
    /// this is the last handle and there are no transactions, snapshots and watches left. Otherwise
    /// it is made durable now, and closed with the last of them.
    ///
    /// # Errors
    /// `LogFailed` if the log failed, now or before: what was acknowledged as durable is safe.
    pub fn close(self) -> Result<()> {
        self.sync()?;
        match Arc::try_unwrap(self.inner) {
            Ok(open) => open.end(),
            Err(_) => Ok(()),
        }
    }

    fn load_names(&self) -> Result<()> {
        let snapshot = self.snapshot();
        let mut names = self.inner.names_mut();
        for row in snapshot.scan(&catalogue(), ..) {
            let row = row?;
            let name = String::from_utf8_lossy(row.key()).into_owned();
            names.insert(read_id(&name, row.value())?, name.into());
        }
        Ok(())
    }
}

pub(crate) fn transact<R>(
    builder: TransactionBuilder,
    mut f: impl FnMut(&mut Transaction) -> Result<R>,
) -> Result<R> {
    let db = builder.db.clone();
    let mut retry = Retry::new();
    loop {
        let mut attempt = builder.clone();
        attempt.options.age = retry.age();
        let mut txn = attempt.begin();
        let age = txn.core.age();
        let locked = retry
            .keys_to_lock()
            .iter()
            .try_for_each(|key| txn.lock_engine_key(key.clone()).map(|_| ()));
        let done = locked.and_then(|()| f(&mut txn));
        // A closure may turn a conflict into an error of its own, or swallow it.
        let done = match txn.must_retry.take() {
            Some(error) => Err(error),
            None => done,
        };
        let error = match done {
            Ok(result) => match txn.commit() {
                Ok(_) => return Ok(result),
                Err(error) => error,
            },
            Err(error) => {
                txn.rollback();
                error
            }
        };
        retry.failed(error, age, &db)?;
    }
}

impl Inner {
    /// Puts a transaction in order.
    pub(crate) fn order(&self, txn: transaction::Transaction) -> Result<PendingCommit> {
        let durability = txn.options().durability;
        let pending = txn.commit_pending(self.environment.clock.wall_ms());
        let engine = self.shard.engine();
        let pending = pending.map_err(|error| match engine.log_failure() {
            // It lost against a commit that the log failed under, and will for ever.
            Some(cause) if error.is_retryable() => StorageError::LogFailed { cause }.into(),
            _ => self.name(error),
        })?;
        let Some(end) = pending.log_end() else { return Ok(pending) };
        if durability != Durability::Sync {
            let unsynced = end.0.saturating_sub(engine.log_durable().0);
            let bound = match durability {
                Durability::Buffered => self.options.buffered_bytes.min(UNSYNCED_BYTES_MAX),
                _ => UNSYNCED_BYTES_MAX,
            };
            if unsynced > bound {
                self.shard.sync()?;
            } else if durability == Durability::Buffered
                && !self.unsynced.swap(true, Ordering::AcqRel)
            {
                self.log_signal.work();
            }
        }
        if engine.wants_segment(end) {
            self.log_signal.work();
        }
        if end.0 - engine.log_start().0.min(end.0) > self.checkpoint_due_bytes() {
            self.checkpoint_signal.work();
        }
        Ok(pending)
    }

    /// Asks the background to bring to the disk what somebody polls for.
    pub(crate) fn bring_to_disk(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.log_signal.work();
        }
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    pub(crate) fn wants_interval(&self) -> bool {
        self.unsynced.load(Ordering::Acquire)
    }

    /// Brings to the disk what nobody waits for, and prepares the log's next segment.
    pub(crate) fn log_work(&self) {
        let engine = self.shard.engine();
        if self.pending.swap(false, Ordering::AcqRel) | self.unsynced.swap(false, Ordering::AcqRel)
        {
            // A failure ends the log's life; the next commit says so.
            let _ = self.shard.sync();
        }
        if engine.wants_segment(engine.log_next()) {
            // If it cannot be prepared now, the writer who needs it tries again, and reports it.
            let _ = engine.prepare_segment();
        }
    }

    /// Forgets what is past the retention, and writes a checkpoint if the log is long: in this
    /// order, or a process that lives shortly would write down what nobody can read any more.
    pub(crate) fn checkpoint_work(&self) {
        let retention_ms = self.options.retention.as_millis() as u64;
        let wall_ms = self.environment.clock.wall_ms();
        let keep_from = Timestamp::from_parts(wall_ms.saturating_sub(retention_ms), 0);
        self.shard.collect(keep_from);
        if self.shard.engine().log_bytes() > self.checkpoint_due_bytes()
            && self.shard.engine().log_failure().is_none()
        {
            // Shown by `stats`; the next work tries again, and the log goes on meanwhile.
            let _ = self.checkpoint();
        }
    }

    fn checkpoint(&self) -> Result<()> {
        let written = self.shard.checkpoint();
        let mut error = self.checkpoint_error.write().unwrap_or_else(PoisonError::into_inner);
        *error = written.as_ref().err().map(ToString::to_string);
        written
    }

    fn checkpoint_due_bytes(&self) -> u64 {
        self.options.checkpoint_log_bytes.max(self.shard.engine().checkpoint_bytes())
    }

    /// Fills in the names of keyspaces.
    pub(crate) fn name(&self, error: Error) -> Error {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        error.with_names(|id| names.get(&id).cloned())
    }

    /// Returns a number that no other call returns.
    pub(crate) fn next_seed(&self) -> u64 {
        self.seeds.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }

    fn names_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<KeyspaceId, Arc<str>>> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn end(&self) -> Result<()> {
        self.background.stop();
        Ok(self.inner.shard.engine().close()?)
    }
}

impl Deref for Open {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`; what was promised is on disk either way.
        let _ = self.end();
    }
}

fn catalogue() -> Keyspace {
    Keyspace { id: KeyspaceId::CATALOGUE, name: "catalogue".into() }
}

fn read_id(name: &str, value: &[u8]) -> Result<KeyspaceId> {
    let bytes = value.try_into().map_err(|_| {
        Error::Invalid(format!("the catalogue entry of keyspace {name:?} is not a number"))
    })?;
    Ok(KeyspaceId(u32::from_be_bytes(bytes)))
}

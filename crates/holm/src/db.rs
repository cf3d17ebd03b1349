//! The open database.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Deref};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use base::{KeyRange, KeyspaceId, Timestamp};
use bytes::Bytes;
use storage::compaction::{END_OF_TIME_MS, Progress};
use storage::{
    BulkTables, Checkpoint, Compacted, Engine, EngineStats, Error as StorageError, Recovery,
    Verified,
};
use transaction::{
    Durability, Error, Isolation, PendingCommit, Result, Shard, ShardStats, TransactionOptions,
};

use crate::background::{Background, Signal, compaction_threads};
use crate::bulk::BulkLoad;
use crate::keyspace::{Keyspace, KeyspaceOptions, check_name};
use crate::options::{Environment, Options, random_id};
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
    pub(crate) flush_signal: Arc<Signal>,
    pub(crate) compact_signals: Vec<Arc<Signal>>,
    /// What may be read to check tables now, in bytes: grows with time.
    scrub_bytes: AtomicU64,
    /// Held while a keyspace is created.
    creating: Mutex<()>,
    /// True while there are commits in flight that somebody polls for.
    pending: AtomicBool,
    /// True while there are acknowledged commits that are not on disk.
    unsynced: AtomicBool,
    /// What last kept a flush or a compaction from its end.
    background_error: RwLock<Option<String>>,
    /// What was found to be wrong with a table that nobody had asked for.
    damage: RwLock<Option<String>>,
    /// True once compactions shall come to an end.
    pub(crate) is_stopping: AtomicBool,
}

/// Sizes and counts of an open database.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// What opening found.
    pub recovery: Recovery,
    /// Commits, conflicts and deadlocks since it was opened.
    pub transactions: ShardStats,
    /// Memory, log, tables and what was done to them.
    pub engine: EngineStats,
    /// The newest commit that is visible.
    pub visible: Timestamp,
    /// What last kept a flush or a compaction from its end, if none has come to it since.
    pub background_error: Option<String>,
    /// What was found wrong, if anything was, when tables were checked in the background: restore a
    /// copy, or see what `holm repair` could save.
    pub damage: Option<String>,
}

/// Most bytes of log that commits without a promise keep from the disk: a few large writes' worth.
const UNSYNCED_BYTES_MAX: u64 = 4 << 20;

/// How often compacting by hand asks whether the background is through.
const COMPACT_POLL: Duration = Duration::from_millis(5);

/// Share of what may be kept from the disk at which the background is asked to bring it there, as a
/// divisor: so that it has done so before a committer must.
const UNSYNCED_SHARE: u64 = 4;

/// How long a log is left to be replayed by the next opening, in bytes: some ten milliseconds'
/// worth. A longer one is written to tables when the database is closed.
const LOG_BYTES_AT_CLOSE: u64 = 1 << 20;

/// What is read to check tables between two looks at whether there is something to compact, in
/// bytes: a few megabytes a second, a terabyte in some days.
const SCRUB_BYTES_A_TURN: u64 = 16 << 20;

/// What may gather of that, in bytes: more than the longest table.
const SCRUB_BYTES_MAX: u64 = 1 << 30;

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
        let shard = Shard::new(Arc::new(engine));
        let inner = Arc::new(Inner {
            shard,
            options,
            recovery,
            names: RwLock::default(),
            seeds: AtomicU64::new(environment.seed),
            log_signal: Arc::default(),
            flush_signal: Arc::default(),
            compact_signals: (0..compaction_threads()).map(|_| Arc::default()).collect(),
            scrub_bytes: AtomicU64::new(0),
            creating: Mutex::new(()),
            pending: AtomicBool::new(false),
            unsynced: AtomicBool::new(false),
            background_error: RwLock::default(),
            damage: RwLock::default(),
            is_stopping: AtomicBool::new(false),
            environment,
        });
        let background = Background::default();
        let db = Db { inner: Arc::new(Open { inner, background }) };
        db.load_names()?;
        if db.inner.environment.has_background {
            db.inner.background.start(&db.inner.inner).map_err(|error| {
                Error::Invalid(format!("the system starts no thread for the database: {error}"))
            })?;
        }
        Ok(db)
    }

    /// Returns the keyspace of a name, and creates it if there is none.
    ///
    /// # Errors
    /// `BadKeyspaceName`; as [`Transaction::commit`] when it is created.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        self.keyspace_with(name, KeyspaceOptions::new())
    }

    /// Returns the keyspace of a name, and creates it with some options if there is none.
    ///
    /// ```
    /// # let directory = std::env::temp_dir().join(format!("holm-tiered-{}", std::process::id()));
    /// # let _ = std::fs::remove_dir_all(&directory);
    /// # let db = holm::Db::open(&directory)?;
    /// let events = db.keyspace_with("events", holm::KeyspaceOptions::new().tiered())?;
    /// db.put(&events, "2026-11-25/1", "opened")?;
    /// # drop((events, db));
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Db::keyspace`].
    pub fn keyspace_with(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        check_name(name)?;
        if let Some(found) = self.find_keyspace(name) {
            return Ok(found);
        }
        // One at a time: the tree of a number has to be there before anybody writes under it.
        let _creating = self.inner.creating.lock().unwrap_or_else(PoisonError::into_inner);
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
            // One that came to nothing may have left a tree of another style.
            let style = self.inner.shard.engine().tree_style(id).unwrap_or_default();
            if style != options.style {
                self.inner.shard.engine().add_tree(id, options.style)?;
            }
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
    /// Those of the disk, if a table must be read: `Damaged` names the file.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        let snapshot = self.inner.shard.snapshot();
        with_engine_key(keyspace, key.as_ref(), |key| snapshot.get(key))
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

    /// Begins to load sorted rows into an empty range of a keyspace, by the short way.
    pub fn bulk_load(&self, keyspace: &Keyspace) -> BulkLoad {
        BulkLoad::new(self.clone(), keyspace.clone(), self.inner.shard.engine().bulk_write())
    }

    pub(crate) fn add_bulk(&self, tables: BulkTables) -> Result<Timestamp> {
        let wall_ms = self.inner.wall_ms();
        self.inner.shard.load(tables, wall_ms).map_err(|error| self.inner.name(error))
    }

    /// Makes a database of its own in a directory that is empty or not there, with everything that
    /// was committed before the call, while work goes on here. Where the file system can, the
    /// tables of both are the same files, so it takes no time and no space; copy it elsewhere to be
    /// safe from the loss of this disk.
    ///
    /// # Errors
    /// `NotADatabase` if something is in the directory already; those of the disk.
    ///
    /// # Durability
    /// It survives the loss of power once this returns.
    pub fn checkpoint(&self, directory: impl AsRef<Path>) -> Result<Checkpoint> {
        let new_id = random_id(self.inner.next_seed());
        self.inner.shard.checkpoint(directory.as_ref(), new_id)
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

    /// Writes everything committed to tables now: the log before is not needed any more. Happens by
    /// itself when enough has gathered.
    ///
    /// # Errors
    /// Those of the disk; nothing is lost then.
    pub fn flush(&self) -> Result<()> {
        self.inner.note(self.inner.shard.flush())
    }

    /// Compacts everything that is past the retention, whatever it costs: reads have the fewest
    /// tables to ask then. What is in proportion happens by itself, a little at a time.
    ///
    /// # Errors
    /// Those of the disk; nothing is lost then.
    pub fn compact(&self) -> Result<()> {
        // What is past the retention has to be known as such.
        self.inner.flush_work();
        loop {
            // What the background is at cannot be taken up before it is through.
            let engine = self.inner.shard.engine();
            let was_busy = engine.is_compacting();
            self.inner.compact_all(END_OF_TIME_MS)?;
            let is_done = !was_busy && !engine.is_compacting();
            if is_done || self.inner.is_stopping.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.inner.environment.clock.pause(COMPACT_POLL);
        }
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
        self.inner.flush_work();
        // Shown by `stats`.
        let _ = self.inner.compact_all(self.inner.wall_ms());
    }

    /// Returns sizes and counts, since the database was opened where they count something. Nothing
    /// is read from the disk for it.
    ///
    /// ```
    /// # let directory = std::env::temp_dir().join(format!("holm-stats-{}", std::process::id()));
    /// # let _ = std::fs::remove_dir_all(&directory);
    /// # let db = holm::Db::open(&directory)?;
    /// # db.put(&db.keyspace("users")?, "ada", "1")?;
    /// # db.flush()?;
    /// let engine = db.stats().engine;
    /// for level in &engine.levels {
    ///     println!("level {}: {} tables, {} bytes", level.level, level.tables, level.bytes);
    /// }
    /// assert!(engine.memory_bytes() <= engine.memory_budget_bytes as u64);
    /// assert!(engine.debt_bytes == 0, "compaction keeps up");
    /// # drop(db);
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Stats {
        let shard = &self.inner.shard;
        let error = self.inner.background_error.read().unwrap_or_else(PoisonError::into_inner);
        Stats {
            recovery: self.inner.recovery,
            transactions: shard.stats(),
            engine: shard.engine().stats(),
            visible: shard.visible(),
            background_error: error.clone(),
            damage: self.inner.damage.read().unwrap_or_else(PoisonError::into_inner).clone(),
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
        let bytes = txn.write_bytes();
        let engine = self.shard.engine();
        // Perhaps there is space by now. And without a background this is when a memtable is
        // flushed that durable commits have filled: at the end of theirs, they are not visible yet.
        let is_late = !self.environment.has_background && engine.wants_flush();
        if bytes > 0 && (is_late || engine.no_room().is_some()) {
            self.ask_for_flush();
        }
        let pending = txn.commit_pending(self.wall_ms());
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
            } else if self.environment.has_background && unsynced > bound / UNSYNCED_SHARE {
                self.bring_to_disk();
            } else if durability == Durability::Buffered
                && !self.unsynced.swap(true, Ordering::AcqRel)
            {
                self.log_signal.work();
            }
        }
        if engine.wants_segment(end) {
            self.log_signal.work();
        }
        if engine.wants_flush() {
            self.ask_for_flush();
        }
        if self.environment.has_background {
            let delay = engine.write_delay(bytes);
            if !delay.is_zero() {
                self.environment.clock.pause(delay);
            }
        }
        Ok(pending)
    }

    /// Has the memtables flushed that wait for it: by the background, or at once where there is
    /// none.
    fn ask_for_flush(&self) {
        if self.environment.has_background {
            self.flush_signal.work();
        } else if self.shard.is_settled() {
            // Else it would bring to the disk what its own committer has not yet.
            self.flush_work();
            let _ = self.compact_all(self.wall_ms());
        }
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

    /// Forgets what is past the retention, and flushes what waits for it: in this order, or what
    /// nobody can read any more would be written down.
    pub(crate) fn flush_work(&self) {
        let retention_ms = self.options.retention.as_millis() as u64;
        let wall_ms = self.wall_ms();
        let keep_from = Timestamp::from_parts(wall_ms.saturating_sub(retention_ms), 0);
        self.shard.collect(keep_from);
        let engine = self.shard.engine();
        if engine.wants_flush() && engine.log_failure().is_none() {
            // Shown by `stats`; the next work tries again, and the log goes on meanwhile.
            let _ = self.note(self.shard.flush_sealed());
            self.wake_compaction(0);
        }
    }

    /// Carries out the compaction that is most needed; false if there is nothing to do, or it could
    /// not be done now.
    pub(crate) fn compact_work(&self) -> bool {
        let engine = self.shard.engine();
        let mut done_bytes = 0;
        let pace = |progress: Progress| {
            let bytes = progress.read_bytes - done_bytes;
            done_bytes = progress.read_bytes;
            let rest = engine.compaction_rest(bytes);
            if !rest.is_zero() && !self.is_stopping.load(Ordering::Relaxed) {
                self.environment.clock.pause(rest);
            }
            self.stop_or_go()
        };
        let compacted = engine.compact_next(self.wall_ms(), pace);
        matches!(self.note(compacted.map_err(Error::from)), Ok(Compacted::Something))
    }

    /// Wakes a thread that compacts, if there is one of that number.
    pub(crate) fn wake_compaction(&self, number: usize) {
        if let Some(signal) = self.compact_signals.get(number) {
            signal.work();
        }
    }

    /// Checks tables that were not read for long, so slowly that nobody notices.
    pub(crate) fn scrub_work(&self) {
        let allowed = self.scrub_bytes.load(Ordering::Relaxed) + SCRUB_BYTES_A_TURN;
        let left = match self.shard.engine().scrub_next(allowed) {
            Ok((bytes, true)) => allowed - bytes,
            Ok((_, false)) => allowed.min(SCRUB_BYTES_MAX),
            Err(error) => {
                let mut damage = self.damage.write().unwrap_or_else(PoisonError::into_inner);
                *damage = Some(error.to_string());
                0
            }
        };
        self.scrub_bytes.store(left, Ordering::Relaxed);
    }

    fn stop_or_go(&self) -> ControlFlow<()> {
        match self.is_stopping.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Compacts until there is nothing to do any more at the given wall time.
    fn compact_all(&self, now_ms: u64) -> Result<()> {
        while self.note(self.compact_next(now_ms))? == Compacted::Something {}
        Ok(())
    }

    fn wall_ms(&self) -> u64 {
        self.environment.clock.wall_ms()
    }

    fn compact_next(&self, now_ms: u64) -> Result<Compacted> {
        Ok(self.shard.engine().compact_next(now_ms, |_| self.stop_or_go())?)
    }

    /// Keeps what went wrong beside the program, for it to see.
    fn note<T>(&self, done: Result<T>) -> Result<T> {
        let mut error = self.background_error.write().unwrap_or_else(PoisonError::into_inner);
        *error = done.as_ref().err().map(ToString::to_string);
        done
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
        self.inner.is_stopping.store(true, Ordering::Relaxed);
        self.background.stop();
        let engine = self.inner.shard.engine();
        if engine.log_bytes() > LOG_BYTES_AT_CLOSE && engine.log_failure().is_none() {
            // If it fails, the log has it all.
            let _ = self.inner.shard.flush();
        }
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

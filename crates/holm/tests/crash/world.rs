//! A database on a simulated disk, and the history that is kept beside it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::{ManualClock, SimDisk};
use holm::{
    CompactionOptions, Db, Durability, Environment, Error, Options, PendingCommit, Snapshot,
    StorageError, TableOptions,
};

use crate::history::{History, Write, catalogue_entry, contents_of, difference, rows_of};
use crate::workload::{Put, Step};

/// Where the database is.
pub(crate) const PATH: &str = "db";

/// Segments and memtables of a few records, tables of a few blocks, levels of a few tables, caches
/// of a few rows and blocks, a past of a few commits: everything happens all the time. Three
/// memtables of the usual kind and the reserve are taken from the budget first, and a cache of hot
/// rows below 256 KiB has no room for any, so the budget has to be this large.
pub(crate) fn tiny() -> Options {
    Options::new()
        .memory(1472 << 10)
        .memtable_bytes(12 << 10)
        .segment_bytes(8 << 10, 16 << 10)
        .log_bytes(24 << 10)
        .compaction(CompactionOptions::for_flush_bytes(4 << 10))
        .table(TableOptions {
            block_bytes: 512,
            restart_interval: 4,
            separate_from: Some(40),
            value_file_bytes: 3 << 10,
            ..TableOptions::default()
        })
        .retention(Duration::from_millis(60))
        .buffered(Duration::from_millis(1), 6 << 10)
}

/// Opens the database on a disk.
pub(crate) fn open(disk: &SimDisk, clock: &ManualClock, options: &Options) -> holm::Result<Db> {
    let environment = Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(clock.clone()),
        seed: 7,
        has_background: false,
    };
    options.clone().open_in(environment, PATH)
}

/// What happened in a run, so that a test can tell that it happened at all.
#[derive(Default, Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) flushes: u64,
    pub(crate) merges: u64,
    pub(crate) moves: u64,
    pub(crate) row_hits: u64,
    pub(crate) block_hits: u64,
    pub(crate) block_evictions: u64,
}

impl Tally {
    /// Adds what a database did since it was opened.
    pub(crate) fn add(&mut self, db: &Db) {
        let engine = db.stats().engine;
        self.flushes += engine.flushes;
        self.merges += engine.compactions;
        self.moves += engine.moves;
        self.row_hits += engine.row_cache.hits;
        self.block_hits += engine.block_cache.hits;
        self.block_evictions += engine.block_cache.evictions;
    }

    /// Adds what happened elsewhere.
    pub(crate) fn join(&mut self, other: &Tally) {
        self.flushes += other.flushes;
        self.merges += other.merges;
        self.moves += other.moves;
        self.row_hits += other.row_hits;
        self.block_hits += other.block_hits;
        self.block_evictions += other.block_evictions;
    }

    /// Fails unless everything happened.
    pub(crate) fn check_all_happened(&self) {
        let Tally { flushes, merges, moves, row_hits, block_hits, block_evictions } = *self;
        let counts = [flushes, merges, moves, row_hits, block_hits, block_evictions];
        assert!(counts.iter().all(|&count| count > 0), "something never happened: {self:?}");
    }
}

/// A database in use.
pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) clock: ManualClock,
    pub(crate) options: Options,
    /// `None` while it could not be opened.
    pub(crate) db: Option<Db>,
    pub(crate) history: History,
    /// Commits in flight, with their place in the history.
    pending: VecDeque<(usize, PendingCommit)>,
    held: VecDeque<Snapshot>,
    /// Each value is another one.
    values: u64,
    /// What a failed check says first.
    pub(crate) context: String,
    /// What the databases did that were closed.
    pub(crate) tally: Tally,
}

impl World {
    /// Begins on an empty disk, with nothing opened.
    pub(crate) fn new(options: Options) -> World {
        let (disk, clock) = (SimDisk::new(), ManualClock::new(1000));
        World::resume(disk, clock, options, History::new())
    }

    /// Goes on with a disk that has a history.
    pub(crate) fn resume(
        disk: SimDisk,
        clock: ManualClock,
        options: Options,
        history: History,
    ) -> World {
        let (pending, held) = (VecDeque::new(), VecDeque::new());
        let values = 1_000_000 * history.len() as u64;
        let context = String::new();
        let tally = Tally::default();
        World { disk, clock, options, db: None, history, pending, held, values, context, tally }
    }

    /// Opens the database, if it is not, and checks it against the history. What it shows is there
    /// for good, and the rest of the history is not and never will be.
    pub(crate) fn open(&mut self) -> holm::Result<()> {
        if self.db.is_none() {
            let db = open(&self.disk, &self.clock, &self.options)?;
            check_files(&self.disk, &db, &self.context);
            let len = self.history.check(&db, &self.context);
            self.history.truncate(len, db.now());
            self.db = Some(db);
        }
        Ok(())
    }

    /// Does one step. The error is that of the database; the history knows what it means.
    pub(crate) fn step(&mut self, step: &Step) -> holm::Result<()> {
        self.open()?;
        let done = self.step_open(step);
        if let Some(db) = &self.db {
            self.history.note_floor(db);
        }
        match done {
            // With a commit that was in flight when the transaction began to read.
            Err(Error::Conflict(_)) => Ok(()),
            done => done,
        }
    }

    /// Does steps until one fails; returns the error.
    pub(crate) fn run(&mut self, steps: &[Step]) -> holm::Result<()> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step_open(&mut self, step: &Step) -> holm::Result<()> {
        let db = self.db.clone().expect("it was just opened");
        match step {
            Step::Commit { writes, deletes, durability, is_pending } => {
                self.commit(&db, writes, *deletes, *durability, *is_pending)
            }
            Step::Wait => match self.pending.pop_front() {
                Some((place, pending)) => {
                    pending.wait()?;
                    self.history.promise(place + 1);
                    Ok(())
                }
                None => Ok(()),
            },
            Step::Abandon => {
                self.pending.pop_front();
                Ok(())
            }
            Step::Keyspace(number) => self.keyspace(&db, *number).map(|_| ()),
            Step::Sync => {
                db.sync()?;
                self.history.promise(self.history.len());
                Ok(())
            }
            Step::Checkpoint => {
                let visible = self.history.len_at(db.now());
                db.flush()?;
                self.history.promise(visible);
                Ok(())
            }
            Step::Maintain => {
                db.maintain();
                Ok(())
            }
            Step::Advance(ms) => {
                self.clock.advance(*ms);
                Ok(())
            }
            Step::Hold => {
                self.held.push_back(db.snapshot());
                Ok(())
            }
            Step::Release => {
                self.held.pop_front();
                Ok(())
            }
            Step::Reopen { is_clean } => {
                drop(db);
                self.close(*is_clean)?;
                self.open()
            }
        }
    }

    /// Closes the database. All in flight is brought to the disk by that.
    pub(crate) fn close(&mut self, is_clean: bool) -> holm::Result<()> {
        self.pending.clear();
        self.held.clear();
        let Some(db) = self.db.take() else { return Ok(()) };
        self.history.note_floor(&db);
        self.tally.add(&db);
        if is_clean {
            db.close()?;
            self.history.promise(self.history.len());
        }
        Ok(())
    }

    /// Looks at the database as a reader does: it shows the history up to `now`.
    pub(crate) fn check_view(&self) {
        let context = &self.context;
        let Some(db) = &self.db else { return };
        let (expected, found) = (self.history.at(db.now()), contents_of(db));
        assert!(**expected == found, "{context}: the view at {}\n{}", db.now(), {
            difference(expected, &found)
        });
        for snapshot in &self.held {
            let expected = self.history.at(snapshot.timestamp());
            let found = rows_of(db, snapshot);
            let same = found.iter().all(|(key, value)| expected.get(key) == Some(value));
            assert!(same, "{context}: a held snapshot at {} changed", snapshot.timestamp());
        }
        self.history.check_past(db, self.history.len_at(db.now()), context);
    }

    fn keyspace(&mut self, db: &Db, number: u8) -> holm::Result<holm::Keyspace> {
        let name = format!("keyspace-{number}");
        if let Some(keyspace) = db.find_keyspace(&name) {
            return Ok(keyspace);
        }
        let writes = [(catalogue_entry(&name), Some(Bytes::new()))];
        match db.keyspace(&name) {
            Ok(keyspace) => {
                self.history.push(Some(db.now()), &writes);
                self.history.promise(self.history.len());
                Ok(keyspace)
            }
            Err(error) => {
                if may_have_happened(&error) {
                    self.history.push(None, &writes);
                }
                Err(error)
            }
        }
    }

    fn commit(
        &mut self,
        db: &Db,
        puts: &[Put],
        deletes: Option<(u8, u8)>,
        durability: Durability,
        is_pending: bool,
    ) -> holm::Result<()> {
        // One write a key: the last one.
        let mut writes: BTreeMap<(String, Vec<u8>), Option<Bytes>> = BTreeMap::new();
        let mut txn = db.transaction().durability(durability).begin();
        if let Some((from, to)) = deletes
            && let Some(keyspace) = db.find_keyspace("keyspace-0")
        {
            let (from, to) = (key(from), key(to));
            let deleted = txn.delete_range(&keyspace, &from[..]..&to[..])?;
            let name = keyspace.name().to_owned();
            let range = (name.clone(), from)..(name, to);
            let there = self.history.at(txn.read_timestamp()).range(range);
            let keys: Vec<_> = there.map(|(key, _)| key.clone()).collect();
            assert_eq!(keys.len() as u64, deleted, "delete_range sees what is there");
            writes.extend(keys.into_iter().map(|key| (key, None)));
        }
        for Put { keyspace, key: number, value_bytes } in puts {
            let keyspace = self.keyspace(db, *keyspace)?;
            let value = value_bytes.map(|bytes| self.value(bytes));
            match &value {
                Some(value) => txn.put(&keyspace, key(*number), value)?,
                None => txn.delete(&keyspace, key(*number))?,
            }
            writes.insert((keyspace.name().to_owned(), key(*number)), value);
        }
        if writes.is_empty() {
            return Ok(());
        }
        let writes: Vec<Write> = writes.into_iter().collect();
        let place = self.history.len();
        match txn.commit_pending() {
            Ok(pending) => {
                self.history.push(Some(pending.ts()), &writes);
                let is_promise = durability == Durability::Sync;
                if is_pending && is_promise {
                    self.pending.push_back((place, pending));
                    return Ok(());
                }
                pending.wait()?;
                if is_promise {
                    self.history.promise(place + 1);
                }
                Ok(())
            }
            Err(error) => {
                if may_have_happened(&error) {
                    // One that asks for nothing is seen at once; the log may fail when many such
                    // are brought to the disk after that.
                    let is_seen = db.now() > self.history.newest_timestamp();
                    self.history.push(is_seen.then(|| db.now()), &writes);
                }
                Err(error)
            }
        }
    }

    fn value(&mut self, bytes: usize) -> Bytes {
        self.values += 1;
        let mut value = format!("value {}", self.values).into_bytes();
        let len = value.len().max(bytes);
        value.resize(len, b'.');
        Bytes::from(value)
    }
}

pub(crate) fn key(number: u8) -> Vec<u8> {
    format!("key-{number:02}").into_bytes()
}

/// Whatever happened before, an opening leaves the files that are in use, and no others.
pub(crate) fn check_files(disk: &SimDisk, db: &Db, context: &str) {
    let live: u64 = db.stats().engine.levels.iter().map(|level| level.tables).sum();
    let files = disk.files();
    let tables = files.iter().filter(|(path, _)| path.starts_with("db/tables")).count();
    assert_eq!(tables as u64, live, "{context}: files of tables, and tables: {files:?}");
    let others = files.iter().filter(|(path, _)| {
        !path.starts_with("db/tables")
            && !path.starts_with("db/wal")
            && !["FORMAT", "LOCK", "MANIFEST"].iter().any(|name| path.ends_with(name))
    });
    assert_eq!(others.count(), 0, "{context}: a file that nobody needs: {files:?}");
}

/// A failed log leaves a commit that may or may not be there after a crash; any other failure
/// leaves nothing of it.
pub(crate) fn may_have_happened(error: &Error) -> bool {
    matches!(error.as_storage(), Some(StorageError::LogFailed { .. }))
}

/// Fails unless an error is one of the disk that names a file of the database.
pub(crate) fn check_error(error: &Error, context: &str) {
    // What memory holds could not be written, and the cause says where.
    if let Error::MemoryFull { cause, .. } = error {
        assert!(cause.contains(PATH), "{context}: the error names no file: {error}");
        return;
    }
    let path = match error.as_storage() {
        Some(
            StorageError::Io { path, .. }
            | StorageError::DiskFull { path }
            | StorageError::Damaged { path, .. }
            | StorageError::NotADatabase { path, .. },
        ) => path.display().to_string(),
        Some(StorageError::LogFailed { cause }) => cause.clone(),
        _ => panic!("{context}: an unexpected error: {error:?}"),
    };
    assert!(path.contains(PATH), "{context}: the error names no file: {error}");
}

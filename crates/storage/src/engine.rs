//! The engine: log, memtable, checkpoint and manifest joined, and the recovery that joins them
//! again after a crash.
//!
//! ```text
//!   commit ─► log ─► memtable ◄─ reads
//!              │         │ checkpoint at C (in the background)
//!              │         ▼
//!              │     tables/0000000012.table ─► MANIFEST {table 12, checkpoint C, log from L}
//!              ▼                                    │
//!   [segment 5][segment 6][segment 7]               │ segments that end below L are
//!        L ────────┴─ still needed ◄────────────────┘ used again or deleted
//! ```
//!
//! For now the memtable holds the whole database and a checkpoint is one table with all of it; the
//! tree of tables for data larger than memory will stand behind the same calls.
//!
//! Opening reads the manifest, loads the table it names, replays the log from where the manifest
//! says, and continues the log. A (key, timestamp) is written once, so it does not matter that the
//! log holds some commits that are in the table too.
//!
//! # Invariants
//! * Everything visible at the checkpoint's timestamp is in its table; everything later is in the
//!   log from the manifest's position on.
//! * The manifest is switched only after the table, its name, and the log up to that position are
//!   durable; what it no longer names is deleted only after that.
//!
//! # Not here
//! The order of commits and what is visible: the caller's business (the `transaction` crate).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{KeyRange, Timestamp};
use env::{Disk, OpenMode};

use crate::batch::decode_batch;
use crate::directory::{CreateMode, Directory};
use crate::error::{Error, Result};
use crate::manifest::{Edit, MANIFEST_NAME, Manifest, State, TableMeta};
use crate::memtable::Memtable;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};
use crate::table::{Table, TableBuilder, TableOptions};
use crate::value::Value;
use crate::wal::{self, Lsn, Record, RecordKind, Wal, WalOptions, WalStats};

/// How an engine is opened.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Whether a database is created where there is none.
    pub create: bool,
    /// Who has the directory open, for others to read: "pid 123".
    pub owner: String,
    /// The id of a database that is created; random.
    pub new_id: [u8; 16],
    /// Keys the memtable's hash function; random.
    pub hash_seed: u64,
    /// The layout of the log.
    pub wal: WalOptions,
    /// The layout of tables.
    pub table: TableOptions,
}

/// What opening found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// True if the database was created.
    pub created: bool,
    /// True if it had been closed cleanly.
    pub clean: bool,
    /// Versions loaded from the checkpoint.
    pub checkpoint_versions: u64,
    /// Transactions replayed from the log.
    pub replayed: u64,
    /// Bytes of unacknowledged writes that were cut off.
    pub torn_bytes: u64,
    /// Files removed that a crash had left behind.
    pub orphans: u64,
}

/// What [`Engine::verify`] read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Tables read whole.
    pub tables: u64,
    /// Versions in them.
    pub versions: u64,
    /// Bytes of them.
    pub table_bytes: u64,
    /// Records of the log.
    pub log_records: u64,
    /// Segments of the log.
    pub log_segments: u64,
}

/// Sizes and counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Keys in memory, deleted ones that are not collected yet included.
    pub keys: usize,
    /// Bytes of memory they take.
    pub memory_bytes: usize,
    /// The log's counts.
    pub wal: WalStats,
    /// Bytes of the log that a crash now would replay.
    pub log_bytes: u64,
    /// Bytes of the last checkpoint's table.
    pub checkpoint_bytes: u64,
    /// The last checkpoint's timestamp.
    pub checkpoint_ts: Timestamp,
    /// Checkpoints written since the engine was opened.
    pub checkpoints: u64,
    /// The oldest timestamp that can be read.
    pub oldest_readable: Timestamp,
}

/// An open database directory.
pub struct Engine {
    directory: Directory,
    wal: Wal,
    memtable: Arc<Memtable>,
    manifest: Mutex<Manifest>,
    /// Held while files come and go: by a checkpoint, the preparation of a segment, a verification.
    files: Mutex<()>,
    table_options: TableOptions,
    recovered_ts: Timestamp,
    /// Where replay would begin, and how long the checkpoint's table is: read often.
    log_start: AtomicU64,
    checkpoint_bytes: AtomicU64,
    checkpoints: AtomicU64,
    is_closed: AtomicBool,
}

impl Engine {
    /// Opens or creates the database in a directory.
    ///
    /// # Errors
    /// `Locked`, `NotADatabase`, `NewerFormat`; `Damaged` if anything that was durable is wrong;
    /// the system's errors.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        options: EngineOptions,
    ) -> Result<(Engine, Recovery)> {
        let EngineOptions { create, owner, new_id, hash_seed, wal, table: table_options } = options;
        let directory = if create {
            Directory::open_or_create(disk.clone(), path, CreateMode::IfMissing, &owner, new_id)?
        } else {
            Directory::open_existing(disk.clone(), path, &owner)?
        };
        let mut manifest = directory.open_manifest()?;
        let state = manifest.state().clone();
        // What was read may be what a process wrote that died before it synced it. Whoever acts
        // upon it, by removing what it does not name, first makes it durable.
        disk.sync_dir(path).map_err(Error::io(path, "sync"))?;
        let orphans = directory.orphans(&state)?;
        for orphan in &orphans {
            disk.remove(orphan).map_err(Error::io(orphan, "remove"))?;
        }

        let mut memtable = Memtable::new(hash_seed);
        let checkpoint_versions = load_tables(&directory, &state, &mut memtable)?;
        let log_start = Lsn(state.log_start);
        let wal_path = directory.wal_path();
        let (mut last_ts, mut replayed) = (state.last_ts, 0);
        let mut replay = memtable.replay();
        let recovered = wal::read_log(&*disk, &wal_path, directory.id().0, log_start, |record| {
            last_ts = last_ts.max(record.timestamp);
            replayed += u64::from(record.kind == RecordKind::Entry);
            each_write(&wal_path, &record, |key, value| {
                replay.insert(key, record.timestamp, value);
            })
        })?;
        replay.finish();
        memtable.raise_floor(state.gc_watermark);
        let recovery = Recovery {
            created: directory.is_new(),
            clean: recovered.closed || directory.is_new(),
            checkpoint_versions,
            replayed,
            torn_bytes: recovered.torn_bytes,
            orphans: orphans.len() as u64,
        };
        let last_index = recovered.end.last_index.unwrap_or(state.log_index);
        let wal = Wal::open(disk, wal_path, directory.id().0, wal, &recovered, last_index)?;
        let log_start = log_start.max(wal.start());
        if state.log_start == 0 {
            manifest.apply(&Edit { log_start: Some(log_start.0), ..Edit::default() })?;
        }
        wal.release_before(log_start)?;
        let checkpoint_bytes = state.tables.values().map(|table| table.bytes).sum();
        let engine = Engine {
            directory,
            wal,
            memtable: Arc::new(memtable),
            manifest: Mutex::new(manifest),
            files: Mutex::new(()),
            table_options,
            recovered_ts: last_ts,
            log_start: AtomicU64::new(log_start.0),
            checkpoint_bytes: AtomicU64::new(checkpoint_bytes),
            checkpoints: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
        };
        Ok((engine, recovery))
    }

    /// Returns the table of all versions.
    pub fn memtable(&self) -> &Arc<Memtable> {
        &self.memtable
    }

    /// Returns the newest timestamp that was found at opening.
    pub fn recovered_timestamp(&self) -> Timestamp {
        self.recovered_ts
    }

    /// Appends one transaction to the log; returns where its record begins and ends.
    ///
    /// # Errors
    /// As [`Wal::append`].
    pub fn append(&self, ts: Timestamp, payload: &[u8], payload_crc: u32) -> Result<(Lsn, Lsn)> {
        let end = self.wal.append(ts, payload, payload_crc)?;
        Ok((Lsn(end.0 - wal::record_bytes(payload.len())), end))
    }

    /// Returns when the log is durable up to a position; see [`Wal::sync_to_then`].
    ///
    /// # Errors
    /// As [`Wal::sync_to`].
    pub fn sync_to_then(&self, position: Lsn, on_durable: &dyn Fn()) -> Result<()> {
        self.wal.sync_to_then(position, on_durable)
    }

    /// Returns the position up to which the log is durable.
    pub fn log_durable(&self) -> Lsn {
        self.wal.durable()
    }

    /// Returns the position of the log's next record.
    pub fn log_next(&self) -> Lsn {
        self.wal.next()
    }

    /// Returns what ended the log's life, if anything did.
    pub fn log_failure(&self) -> Option<String> {
        self.wal.failure()
    }

    /// Returns true if the log's next segment should be prepared, the log having reached
    /// `position`.
    pub fn wants_segment(&self, position: Lsn) -> bool {
        self.wal.wants_segment(position)
    }

    /// Returns the position that replay would begin at.
    pub fn log_start(&self) -> Lsn {
        Lsn(self.log_start.load(Ordering::Relaxed))
    }

    /// Prepares the log's next segment if it is time.
    ///
    /// # Errors
    /// As [`Wal::prepare_segment`].
    pub fn prepare_segment(&self) -> Result<()> {
        let _files = lock(&self.files);
        self.wal.prepare_segment()
    }

    /// Returns the bytes of log that a crash now would replay.
    pub fn log_bytes(&self) -> u64 {
        self.wal.next().0 - self.log_start.load(Ordering::Relaxed)
    }

    /// Returns the bytes of the last checkpoint's table.
    pub fn checkpoint_bytes(&self) -> u64 {
        self.checkpoint_bytes.load(Ordering::Relaxed)
    }

    /// Writes all versions up to `visible` to a table, names it in the manifest, and releases the
    /// log before `log_start`. Readers and writers go on meanwhile.
    ///
    /// The caller promises that all commits up to `visible` are in the memtable, and all later ones
    /// in the log at or after `log_start`.
    ///
    /// # Errors
    /// The system's errors, `DiskFull` among them: the checkpoint before stays in force, and the
    /// log with it.
    ///
    /// # Durability
    /// All commits up to `visible` survive a crash, whatever their own durability.
    pub fn checkpoint(&self, visible: Timestamp, log_start: Lsn) -> Result<()> {
        let _files = lock(&self.files);
        // Else a crash could leave a log that ends before the point it is needed from.
        self.wal.sync_to(log_start)?;
        let mut manifest = lock(&self.manifest);
        manifest.check_certain()?;
        if visible < manifest.state().checkpoint_ts || log_start.0 < manifest.state().log_start {
            // Another checkpoint, of a later moment, was faster: it covers all of this one.
            return Ok(());
        }
        let number = manifest.state().next_file_number;
        let path = self.directory.table_path(number);
        let (meta, floor) = match self.write_table(number, &path, visible) {
            Ok(written) => written,
            Err(error) => {
                // A half-written table only takes space, which may be what is missing.
                let _ = self.directory.disk().remove(&path);
                return Err(error);
            }
        };
        if floor > visible {
            // The floor rose meanwhile, and versions up to it stand in for older ones that are
            // forgotten already. They are not in the table, so the log must not lose them.
            self.wal.sync_to(self.wal.next())?;
        }
        let bytes = meta.bytes;
        let replaced: Vec<u64> = manifest.state().tables.keys().copied().collect();
        // A crash may have taken the newest records before; the index never goes back.
        let log_index = self.wal.last_index().max(manifest.state().log_index);
        let applied = manifest.apply(&Edit {
            added: vec![meta],
            removed: replaced.clone(),
            checkpoint_ts: Some(visible),
            log_start: Some(log_start.0),
            log_index: Some(log_index),
            gc_watermark: Some(floor),
            last_ts: Some(visible),
            ..Edit::default()
        });
        if applied.is_err() && manifest.check_certain().is_ok() {
            let _ = self.directory.disk().remove(&path);
        }
        applied?;
        drop(manifest);
        self.log_start.store(log_start.0, Ordering::Relaxed);
        self.checkpoint_bytes.store(bytes, Ordering::Relaxed);
        self.checkpoints.fetch_add(1, Ordering::Relaxed);
        for number in replaced {
            // The checkpoint is in force already. What cannot be removed now goes at the next
            // opening.
            let _ = self.directory.disk().remove(&self.directory.table_path(number));
        }
        self.wal.release_before(log_start)
    }

    /// Writes the table of a checkpoint; returns its line, and the timestamp from which on the past
    /// can be read from it.
    fn write_table(
        &self,
        number: u64,
        path: &Path,
        visible: Timestamp,
    ) -> Result<(TableMeta, Timestamp)> {
        let disk = self.directory.disk();
        // A checkpoint that failed may have left one that it could not remove.
        if disk.exists(path).map_err(Error::io(path, "look for"))? {
            disk.remove(path).map_err(Error::io(path, "remove"))?;
        }
        let file = disk.open(path, OpenMode::CreateNew).map_err(Error::io(path, "create"))?;
        let mut builder = TableBuilder::new(file, path, self.table_options.clone());
        // A pin at the floor keeps every version that may still be asked for by timestamp.
        let pin = self.memtable.pin_newest(|| self.memtable.floor());
        for history in pin.versions(&KeyRange::all()) {
            for version in history.versions().filter(|version| version.ts <= visible) {
                // Before the floor nobody can see that the key was there, so nobody misses the mark
                // that it is gone.
                if version.ts > pin.ts() || version.value != Value::Tombstone {
                    builder.add(history.key, version.ts, version.value)?;
                }
            }
        }
        let summary = builder.finish()?;
        let folder = self.directory.tables_path();
        disk.sync_dir(&folder).map_err(Error::io(&folder, "sync"))?;
        Ok((TableMeta::new(number, 0, &summary), pin.ts()))
    }

    /// Reads everything on disk and checks it: every block of every table, every record of the log.
    /// Readers and writers go on meanwhile.
    ///
    /// # Errors
    /// `Damaged` for the first thing that is wrong.
    pub fn verify(&self) -> Result<Verified> {
        let _files = lock(&self.files);
        let (disk, path) = (&**self.directory.disk(), self.directory.path());
        Directory::read_id(disk, path)?;
        let state = {
            let manifest = lock(&self.manifest);
            let (found, _) = Manifest::read(disk, path)?;
            if found != *manifest.state() && manifest.check_certain().is_ok() {
                let what = "it is sound, and not the manifest that is in use";
                return Err(Error::damaged(&path.join(MANIFEST_NAME), 0, what));
            }
            manifest.state().clone()
        };
        let durable = self.wal.durable();
        verify_files(disk, path, &state, self.directory.id().0, Some(durable))
    }

    /// Closes the database: makes everything durable and marks the log as complete.
    ///
    /// # Errors
    /// `LogFailed` if it cannot: what had been acknowledged as durable is there all the same.
    pub fn close(&self) -> Result<()> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.wal.close()
    }

    /// Returns sizes and counts.
    pub fn stats(&self) -> EngineStats {
        EngineStats {
            keys: self.memtable.len(),
            memory_bytes: self.memtable.memory_bytes(),
            wal: self.wal.stats(),
            log_bytes: self.log_bytes(),
            checkpoint_bytes: self.checkpoint_bytes(),
            checkpoint_ts: lock(&self.manifest).state().checkpoint_ts,
            checkpoints: self.checkpoints.load(Ordering::Relaxed),
            oldest_readable: self.memtable.floor(),
        }
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }
}

/// Loads the tables of the state into an empty memtable; returns how many versions there were.
fn load_tables(directory: &Directory, state: &State, memtable: &mut Memtable) -> Result<u64> {
    let entries = state.tables.values().map(|table| table.entries).sum::<u64>();
    let mut load = memtable.bulk_load(entries as usize);
    for meta in state.tables.values() {
        let table = directory.open_table(meta)?;
        let mut cursor = table.cursor();
        let mut loaded = 0;
        let mut is_valid = cursor.seek_first()?;
        while is_valid {
            if let Some(entry) = cursor.entry() {
                load.push(entry.key, entry.ts, entry.value);
                loaded += 1;
            }
            is_valid = cursor.next()?;
        }
        if loaded != meta.entries {
            let what = format!("it holds {loaded} versions, the manifest says {}", meta.entries);
            return Err(Error::damaged(table.path(), 0, what));
        }
    }
    load.finish();
    Ok(entries)
}

/// Hands out the writes of a log record.
pub(crate) fn each_write<'a>(
    folder: &Path,
    record: &Record<'a>,
    visit: impl FnMut(&'a [u8], Value<'a>),
) -> Result<()> {
    match record.kind {
        RecordKind::Close => Ok(()),
        // The checksum was right, so these are the bytes that were written: a newer program's, say.
        RecordKind::Entry => decode_batch(record.payload, visit).map(|_| ()).map_err(|what| {
            let what = format!("the record at position {} of the log: {what}", record.lsn);
            Error::damaged(folder, 0, what)
        }),
    }
}

/// Reads and checks the files that a state names. What lies in the log beyond `durable` may be
/// about to be written and is not judged.
pub(crate) fn verify_files(
    disk: &dyn Disk,
    path: &Path,
    state: &State,
    database_id: [u8; 16],
    durable: Option<Lsn>,
) -> Result<Verified> {
    let mut verified = Verified::default();
    let tables: PathBuf = path.join(crate::directory::TABLES_FOLDER);
    for (&number, meta) in &state.tables {
        let table = Table::open(disk, &tables.join(crate::directory::table_name(number)))?;
        meta.check(&table)?;
        let found = table.verify()?;
        verified.tables += 1;
        verified.versions += found.entries;
        verified.table_bytes += found.bytes;
    }
    let folder = path.join(crate::directory::WAL_FOLDER);
    let start = Lsn(state.log_start);
    let (log, damage) =
        wal::read_log_through_damage(disk, &folder, database_id, start, |record| {
            each_write(&folder, &record, |_, _| ())
        })?;
    if let Some(damage) = damage.filter(|damage| durable.is_none_or(|durable| damage.lsn < durable))
    {
        return Err(damage.into_error());
    }
    if let Some(durable) = durable.filter(|durable| log.end.next < *durable) {
        let path = log.segments.last().map_or(folder, |last| last.path.clone());
        let what = format!("the log ends at position {}, {durable} was synced", log.end.next);
        return Err(Error::damaged(&path, 0, what));
    }
    verified.log_records = log.records;
    verified.log_segments = log.segments.len() as u64;
    Ok(verified)
}

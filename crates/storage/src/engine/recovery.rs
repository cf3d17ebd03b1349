//! Opening: the newest manifest, the tables it names, and the log after them.
//!
//! ```text
//!   MANIFEST ─► tables opened, none read
//!      │
//!      └─► log from L ─► memtable ─► full: written to level 0, and on with an empty one
//!                                    rest: the active memtable
//! ```
//!
//! A (key, timestamp) is written once, so it would not matter if the log held some commits that are
//! in a table, too. Replay takes no more memory than a memtable, however long the log is: what is
//! flushed on the way is named by one edit at the end. A crash before it changes nothing.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base::Timestamp;
use env::Disk;

use super::compact::Compactions;
use super::flush::{Written, write_memtable};
use super::stats::Counters;
use super::store::TableStore;
use super::view::View;
use super::{Engine, EngineOptions};
use crate::batch::decode_batch;
use crate::compaction::CompactionOptions;
use crate::directory::{CreateMode, Directory};
use crate::error::{Error, Result};
use crate::manifest::{Edit, State};
use crate::memtable::{Memtable, Pins, Replay, Tombstones};
use crate::row_cache::RowCache;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::value::Value;
use crate::version::Version;
use crate::wal::{self, EMBEDDED_GROUP, Lsn, Record, RecordKind, Wal};

/// Records after which replay looks at the size of the memtable again. Looking costs about as much
/// as a record.
const LOOK_RECORDS: u64 = 64;

/// What opening found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// True if the database was created.
    pub created: bool,
    /// True if it had been closed cleanly.
    pub clean: bool,
    /// Tables that the manifest named.
    pub tables: u64,
    /// Transactions replayed from the log.
    pub replayed: u64,
    /// Bytes of unacknowledged writes that were cut off.
    pub torn_bytes: u64,
    /// Files removed that a crash had left behind.
    pub orphans: u64,
}

/// The log on its way into memtables and tables.
struct Replayer<'a> {
    store: &'a TableStore,
    compaction: &'a CompactionOptions,
    hash_seed: u64,
    memtable_bytes: usize,
    watermark: Timestamp,
    replay: Option<Replay>,
    version: Version,
    /// What the manifest does not know yet.
    edit: Edit,
    records: u64,
    last_ts: Timestamp,
    /// The last commit in `edit`'s tables.
    flushed_ts: Timestamp,
}

impl Replayer<'_> {
    fn take(&mut self, wal_path: &Path, record: &Record<'_>) -> Result<()> {
        refuse_replicated(wal_path, record)?;
        let is_entry = record.kind == RecordKind::Entry;
        self.records += u64::from(is_entry);
        if is_entry && self.records.is_multiple_of(LOOK_RECORDS) {
            self.flush_if_full(record.lsn)?;
        }
        self.last_ts = self.last_ts.max(record.timestamp);
        let replay = self.replay.get_or_insert_with(|| new_replay(self.hash_seed));
        each_write(wal_path, record, |key, value| {
            replay.insert(key, record.timestamp, value);
        })
    }

    /// Writes what was replayed to tables if it is a memtable's worth; `next` is the position of
    /// the first record that is not in it.
    fn flush_if_full(&mut self, next: Lsn) -> Result<()> {
        let is_full = |replay: &Replay| replay.memory_bytes() >= self.memtable_bytes;
        if !self.replay.as_ref().is_some_and(is_full) {
            return Ok(());
        }
        let Some(full) = self.replay.take() else { return Ok(()) };
        let memtable = full.finish();
        memtable.raise_floor(self.watermark);
        let written: Written =
            write_memtable(self.store, self.compaction, &self.version, &memtable, self.watermark)?;
        let edit = Edit {
            added: written.iter().map(|(meta, _)| meta.clone()).collect(),
            ..Edit::default()
        };
        let opened = written.into_iter().map(|(meta, table)| (meta.number, table)).collect();
        self.version = self.version.apply(&edit, opened);
        self.edit.added.extend(edit.added);
        self.edit.log_start = Some(next.0);
        self.flushed_ts = self.last_ts;
        Ok(())
    }
}

fn new_replay(hash_seed: u64) -> Replay {
    Memtable::new(hash_seed, Tombstones::Kept).replay()
}

/// Takes the records of a log one by one.
pub(super) type RecordVisitor<'v> = &'v mut dyn FnMut(&Record<'_>) -> Result<()>;

/// Opens a database. Its log is replayed into memtables, or handed to `visitor` if there is one.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    path: &Path,
    options: EngineOptions,
    mut visitor: Option<RecordVisitor<'_>>,
) -> Result<(Engine, Recovery)> {
    let EngineOptions {
        create,
        owner,
        new_id,
        hash_seed,
        wal,
        table,
        memory,
        compaction,
        log_bytes_max,
    } = options;
    let directory = if create {
        Directory::open_or_create(disk.clone(), path, CreateMode::IfMissing, &owner, new_id)?
    } else {
        Directory::open_existing(disk.clone(), path, &owner)?
    };
    let mut manifest = directory.open_manifest()?;
    let state: State = manifest.state().clone();
    // What was read may be what a process wrote that died before it synced it. Whoever acts upon
    // it, by removing what it does not name, first makes it durable.
    disk.sync_dir(path).map_err(Error::io(path, "sync"))?;
    let orphans = directory.orphans(&state)?;
    for orphan in &orphans {
        disk.remove(orphan).map_err(Error::io(orphan, "remove"))?;
    }

    let tables = TableStore::new(&directory, &state, table, memory);
    let version = Version::open(&state, tables.graveyard.clone(), |meta| tables.open(meta))?;
    let wal_path = directory.wal_path();
    let mut replayer = Replayer {
        store: &tables,
        compaction: &compaction,
        hash_seed,
        memtable_bytes: memory.memtable_bytes,
        watermark: state.gc_watermark,
        replay: None,
        version,
        edit: Edit::default(),
        records: 0,
        last_ts: state.last_ts,
        flushed_ts: state.checkpoint_ts,
    };
    let start = Lsn(state.log_start);
    let recovered =
        wal::read_log(&*disk, &wal_path, directory.id().0, start, |record| match &mut visitor {
            Some(visit) => visit(&record),
            None => replayer.take(&wal_path, &record),
        })?;
    let Replayer { replay, version, mut edit, records, last_ts, flushed_ts, .. } = replayer;
    let active = replay.unwrap_or_else(|| new_replay(hash_seed)).finish();
    active.raise_floor(state.gc_watermark);
    let recovery = Recovery {
        created: directory.is_new(),
        clean: recovered.closed || directory.is_new(),
        tables: state.tables.len() as u64,
        replayed: records,
        torn_bytes: recovered.torn_bytes,
        orphans: orphans.len() as u64,
    };
    let last_index = recovered.end.last_index.unwrap_or(state.log_index);
    let wal = Wal::open(disk, wal_path, directory.id().0, wal, &recovered, last_index)?;
    let log_start = Lsn(edit.log_start.unwrap_or(start.0)).max(wal.start());
    if state.log_start == 0 || edit.log_start.is_some() {
        // Nothing before it will be replayed again.
        wal.sync_to(log_start)?;
        edit.log_start = Some(log_start.0);
        edit.log_index = Some(last_index.max(state.log_index));
        edit.checkpoint_ts = Some(flushed_ts);
        manifest.apply(&edit)?;
    }
    wal.release_before(log_start)?;
    tables.account(&version);
    let pins = Pins::new();
    pins.raise_floor(state.gc_watermark);
    let engine = Engine {
        directory,
        view: ArcSwap::from_pointee(View {
            active: Arc::new(active),
            sealed: Vec::new(),
            version: Arc::new(version),
        }),
        install: Mutex::new(()),
        pins,
        manifest: Mutex::new(manifest),
        rows: RowCache::new(memory.row_cache_bytes),
        tables,
        memory,
        compaction,
        log_bytes_max,
        hash_seed,
        next_look: AtomicU64::new(wal.next().0),
        is_full: AtomicBool::new(false),
        active_start: AtomicU64::new(log_start.0),
        log_start: AtomicU64::new(log_start.0),
        recovered_ts: last_ts,
        files: Mutex::new(()),
        flushing: Mutex::new(()),
        compacting: Mutex::new(Compactions::default()),
        counters: Counters::default(),
        log_next: AtomicU64::new(wal.next().0),
        debt_hint: AtomicU64::new(0),
        flush_error: Mutex::new(None),
        scrubbed: AtomicU64::new(0),
        is_closed: AtomicBool::new(false),
        wal,
    };
    engine.debt_hint.store(engine.debt_bytes(), Ordering::Relaxed);
    Ok((engine, recovery))
}

/// Refuses a log that only a replica can make sense of: not all that is in it happened.
///
/// # Errors
/// `NotADatabase` if the record is of a replicated group.
pub(crate) fn refuse_replicated(folder: &Path, record: &Record<'_>) -> Result<()> {
    if record.group == EMBEDDED_GROUP {
        return Ok(());
    }
    let what = "it is a replica's of a cluster, whose log only the server can read".to_string();
    Err(Error::NotADatabase { path: folder.to_path_buf(), what })
}

/// Hands out the writes of a log record, if it is one of the embedded group.
pub(crate) fn each_write<'a>(
    folder: &Path,
    record: &Record<'a>,
    visit: impl FnMut(&'a [u8], Value<'a>),
) -> Result<()> {
    match record.kind {
        _ if record.group != EMBEDDED_GROUP => Ok(()),
        RecordKind::Close
        | RecordKind::Next
        | RecordKind::HardState
        | RecordKind::Truncate
        | RecordKind::Snapshot => Ok(()),
        // The checksum was right, so these are the bytes that were written: a newer program's, say.
        RecordKind::Entry => decode_batch(record.payload, visit).map(|_| ()).map_err(|what| {
            let what = format!("the record at position {} of the log: {what}", record.lsn);
            Error::damaged(folder, 0, what)
        }),
    }
}

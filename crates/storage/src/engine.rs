//! The engine: log, memtables, tables and manifest joined.
//!
//! ```text
//!   commit ─► log ─► active memtable ◄─────────────── reads: the view of the moment
//!              │         │ full: sealed between two commits
//!              │         ▼
//!              │     sealed memtables
//!              │         │ flush, once all in it is visible
//!              ▼         ▼
//!   [segment 5]…    tables/… level 0 ─► compaction ─► … ─► last level
//!     used again         │                  │
//!     after a flush ◄────┴── MANIFEST ◄─────┘   named there before it is read from,
//!                                               removed when no reader has it any more
//! ```
//!
//! There is one tree of tables for the whole node, and one more for each keyspace that is tiered;
//! the log is one for all: what is in a memtable can be read back from it.
//!
//! | part | file |
//! |---|---|
//! | what is where at one moment | [`view`] |
//! | reading | [`read`] |
//! | the memtable becomes tables | [`flush`] |
//! | tables become fewer tables | [`compact`] |
//! | sorted input becomes tables at once | [`bulk`] |
//! | a copy while it runs | [`checkpoint`] |
//! | opening after whatever happened | [`recovery`] |
//! | how the memory is shared out | [`memory`] |
//! | how much writers are slowed down | [`pressure`] |
//! | reading everything to check it | [`verify`] |
//! | numbers | [`stats`] |
//!
//! # Invariants
//! * Every commit up to the manifest's checkpoint timestamp is in its tables; every later one is in
//!   the log from the manifest's position on.
//! * A table is named by the manifest before a view has it, and the log that a table stands in for
//!   is released only after that.
//! * A view that replaces another says the same about every timestamp at or above the watermark.
//!
//! # Locks
//! `flushing` and `compacting` keep one flush, and the choice of compactions, to one thread at a
//! time; `files` is held while log segments come and go. The manifest's lock is held from an edit
//! to the view that goes with it; `install` while a view is replaced, which takes microseconds: the
//! thread that seals waits for it inside the critical section of commits. They are taken in this
//! order.
//!
//! # Not here
//! The order of commits and what is visible: the caller's business (the `transaction` crate).
//! Threads: whoever opens an engine calls [`Engine::flush_next`] and [`Engine::compact_next`] from
//! threads of its own.

mod bulk;
mod checkpoint;
mod compact;
mod flush;
mod memory;
mod pressure;
mod read;
mod recovery;
mod stats;
mod store;
mod verify;
mod view;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base::Timestamp;
use env::Disk;

use crate::compaction::CompactionOptions;
use crate::directory::Directory;
use crate::error::Result;
use crate::manifest::Manifest;
use crate::memtable::{Collected, Memtable, Pins, Tombstones};
use crate::row_cache::RowCache;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};
use crate::table::TableOptions;
use crate::wal::{self, Lsn, Wal, WalOptions};

pub use bulk::{BulkTables, BulkWriter};
pub use checkpoint::Checkpoint;
pub use compact::Compacted;
pub use memory::MemoryOptions;
pub use read::{ReadPin, Rows, Visit};
pub use recovery::Recovery;
pub(crate) use recovery::each_write;
pub use stats::{EngineStats, LevelStats, ValueStats};
pub use verify::Verified;

use compact::Compactions;
use stats::Counters;
use store::TableStore;
use view::View;

/// How an engine is opened.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Whether a database is created where there is none.
    pub create: bool,
    /// Who has the directory open, for others to read: "pid 123".
    pub owner: String,
    /// The id of a database that is created; random.
    pub new_id: [u8; 16],
    /// Keys the memtables' hash function; random.
    pub hash_seed: u64,
    /// The layout of the log.
    pub wal: WalOptions,
    /// The layout of tables.
    pub table: TableOptions,
    /// How memory is shared out.
    pub memory: MemoryOptions,
    /// When tables are compacted.
    pub compaction: CompactionOptions,
    /// How long the log may get before the active memtable is sealed, in bytes, however little it
    /// holds: what a crash replays.
    pub log_bytes_max: u64,
}

/// An open database directory.
pub struct Engine {
    directory: Directory,
    wal: Wal,
    view: ArcSwap<View>,
    /// Held while the view is replaced.
    install: Mutex<()>,
    /// Who reads at which timestamp.
    pins: Pins,
    manifest: Mutex<Manifest>,
    tables: TableStore,
    rows: RowCache,
    memory: MemoryOptions,
    compaction: CompactionOptions,
    log_bytes_max: u64,
    hash_seed: u64,
    /// The log position at which the size of the active memtable is looked at next.
    next_look: AtomicU64,
    /// The active memtable is to be sealed before the next commit.
    is_full: AtomicBool,
    /// Where the records of the active memtable begin, and where replay would.
    active_start: AtomicU64,
    log_start: AtomicU64,
    recovered_ts: Timestamp,
    /// Held while log segments come and go, and by whoever reads them all.
    files: Mutex<()>,
    flushing: Mutex<()>,
    compacting: Mutex<Compactions>,
    counters: Counters,
    /// About where the log's next record begins, and about how much is to be compacted: for who
    /// must not wait for a lock to know.
    log_next: AtomicU64,
    debt_hint: AtomicU64,
    /// What kept the last flush from succeeding, if it did not.
    flush_error: Mutex<Option<String>>,
    /// The table that was checked in the background last.
    scrubbed: AtomicU64,
    is_closed: AtomicBool,
}

impl Engine {
    /// Opens or creates the database in a directory.
    ///
    /// # Errors
    /// `Locked`, `NotADatabase`, `NewerFormat`; `Damaged` if anything that was durable and is read
    /// is wrong; the system's errors.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        options: EngineOptions,
    ) -> Result<(Engine, Recovery)> {
        recovery::open(disk, path, options)
    }

    /// Returns the newest timestamp that was found at opening.
    pub fn recovered_timestamp(&self) -> Timestamp {
        self.recovered_ts
    }

    /// Appends one transaction to the log. Returns where its record begins and ends, and the
    /// memtable that its versions go into: the caller puts them there before it makes them visible.
    ///
    /// Calls come one after the other, in the order of their timestamps; `last` is the timestamp of
    /// the one before.
    ///
    /// # Errors
    /// As [`Wal::append`].
    pub fn append(
        &self,
        last: Timestamp,
        ts: Timestamp,
        payload: &[u8],
        payload_crc: u32,
    ) -> Result<(Lsn, Lsn, Arc<Memtable>)> {
        if self.is_full.load(Ordering::Relaxed) {
            self.seal(last);
        }
        let end = self.wal.append(ts, payload, payload_crc)?;
        let begin = Lsn(end.0 - wal::record_bytes(payload.len()));
        self.log_next.store(end.0, Ordering::Relaxed);
        self.counters.user_bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
        let active = self.view.load().active.clone();
        if end.0 >= self.next_look.load(Ordering::Relaxed) {
            self.look_at_size(&active, end);
        }
        Ok((begin, end, active))
    }

    /// Decides whether the active memtable is full, and when to look again.
    fn look_at_size(&self, active: &Memtable, end: Lsn) {
        let room = self.memory.memtable_bytes.saturating_sub(active.memory_bytes());
        let log_bytes = end.0.saturating_sub(self.active_start.load(Ordering::Relaxed));
        let log_room = self.log_bytes_max.saturating_sub(log_bytes);
        if room == 0 || log_room == 0 {
            self.is_full.store(true, Ordering::Relaxed);
        }
        // A short record takes about three times its length in the memtable.
        let next = (room as u64 / 4).min(log_room).max(self.look_bytes());
        self.next_look.store(end.0 + next, Ordering::Relaxed);
    }

    /// Seals the active memtable, unless it is empty. `last` is the newest timestamp that may have
    /// gone into it. Not to be called beside [`Engine::append`].
    pub fn seal(&self, last: Timestamp) {
        let _install = lock(&self.install);
        let view = self.view.load_full();
        self.is_full.store(false, Ordering::Relaxed);
        let log_end = self.wal.next();
        self.next_look.store(log_end.0 + self.look_bytes(), Ordering::Relaxed);
        // Versions of the last commits may be on their way into it still: an empty log since the
        // seal before is what tells.
        if self.active_start.swap(log_end.0, Ordering::Relaxed) == log_end.0 {
            return;
        }
        let next = self.new_memtable();
        // As many keys are to be expected as last time; growing would hold up a commit.
        next.reserve(view.active.len());
        self.view.store(Arc::new(view.seal(next, last, log_end)));
        self.counters.sealed.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns after how many bytes of log the size of the active memtable is looked at again.
    fn look_bytes(&self) -> u64 {
        memory::LOOK_BYTES.min(self.memory.memtable_bytes as u64 / 8).min(self.log_bytes_max / 8)
    }

    fn new_memtable(&self) -> Memtable {
        let memtable = Memtable::new(self.hash_seed, Tombstones::Kept);
        memtable.raise_floor(self.pins.watermark());
        memtable
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

    /// Prepares the log's next segment if it is time.
    ///
    /// # Errors
    /// As [`Wal::prepare_segment`].
    pub fn prepare_segment(&self) -> Result<()> {
        let _files = lock(&self.files);
        self.wal.prepare_segment()
    }

    /// Returns the position that replay would begin at.
    pub fn log_start(&self) -> Lsn {
        Lsn(self.log_start.load(Ordering::Relaxed))
    }

    /// Returns the bytes of log that a crash now would replay.
    pub fn log_bytes(&self) -> u64 {
        self.wal.next().0 - self.log_start.load(Ordering::Relaxed)
    }

    /// Returns true if a memtable waits to be flushed.
    pub fn wants_flush(&self) -> bool {
        !self.view.load().sealed.is_empty()
    }

    /// Returns why commits must not be taken: all memtables that there is room for wait to be
    /// flushed, and the last flush failed. With the bytes they take.
    pub fn no_room(&self) -> Option<(usize, String)> {
        let view = self.view.load();
        if view.sealed.len() < memory::MEMTABLES {
            return None;
        }
        let cause = lock(&self.flush_error).clone()?;
        Some((view.memtables().map(Memtable::memory_bytes).sum(), cause))
    }

    /// Returns how the memory is shared out.
    pub fn memory(&self) -> MemoryOptions {
        self.memory
    }

    /// Raises the floor: from now on no reader is registered below `ts`. Gives back the memory of
    /// versions that nobody can read any more; what is in tables goes when they are compacted.
    pub fn collect(&self, ts: Timestamp) -> Collected {
        self.pins.raise_floor(ts);
        let watermark = self.pins.watermark();
        let mut collected = Collected::default();
        for memtable in self.view.load().memtables() {
            memtable.raise_floor(watermark);
            let part = memtable.collect();
            collected.versions += part.versions;
            collected.keys += part.keys;
            collected.freed += part.freed;
            collected.waiting += part.waiting;
        }
        collected
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

    /// Returns the directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }
}

//! Sizes and counts of an engine.

use std::collections::BTreeMap;

use base::Timestamp;

use super::Engine;
use crate::cache::CacheStats;
use crate::manifest::TableMeta;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::table::TableCounts;
use crate::wal::WalStats;

/// What is counted since the engine was opened.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) sealed: AtomicU64,
    pub(super) user_bytes: AtomicU64,
    pub(super) bulk_rows: AtomicU64,
    pub(super) scrubbed_bytes: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) flushed_bytes: AtomicU64,
    pub(super) compactions: AtomicU64,
    pub(super) moves: AtomicU64,
    pub(super) compaction_read_bytes: AtomicU64,
    pub(super) compaction_written_bytes: AtomicU64,
    pub(super) moved_value_bytes: AtomicU64,
    pub(super) delayed: AtomicU64,
    pub(super) delayed_ns: AtomicU64,
    /// Bytes of tables written, by tree and level.
    written: Mutex<BTreeMap<(u32, u8), u64>>,
}

impl Counters {
    /// Counts tables that were written.
    pub(super) fn wrote<'a>(&self, tables: impl Iterator<Item = &'a TableMeta>) {
        let mut written = lock(&self.written);
        for meta in tables {
            *written.entry((meta.tree.0, meta.level)).or_default() += meta.bytes;
        }
    }
}

/// Sizes and counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineStats {
    /// Keys in memtables, deleted ones included.
    pub memtable_keys: usize,
    /// Bytes of memory that memtables take.
    pub memtable_bytes: usize,
    /// Memtables that wait to be flushed.
    pub sealed: usize,
    /// The log's counts.
    pub wal: WalStats,
    /// Bytes of the log that a crash now would replay.
    pub log_bytes: u64,
    /// All commits up to this one are in tables.
    pub checkpoint_ts: Timestamp,
    /// Flushes since the engine was opened.
    pub flushes: u64,
    /// Bytes of tables and values written by flushes.
    pub flushed_bytes: u64,
    /// Compactions that read and wrote tables.
    pub compactions: u64,
    /// Compactions that only changed the level of tables.
    pub moves: u64,
    /// Bytes of keys and values read by compactions.
    pub compaction_read_bytes: u64,
    /// Bytes of tables and values written by compactions.
    pub compaction_written_bytes: u64,
    /// Bytes of values among these, taken out of value files that were mostly garbage.
    pub moved_value_bytes: u64,
    /// Bytes that have to be compacted before all is well.
    pub debt_bytes: u64,
    /// Commits that were slowed down.
    pub delayed: u64,
    /// Nanoseconds that commits were slowed down for.
    pub delayed_ns: u64,
    /// The levels of all trees that have tables.
    pub levels: Vec<LevelStats>,
    /// The value files.
    pub values: ValueStats,
    /// The memory budget, in bytes.
    pub memory_budget_bytes: usize,
    /// The cache of hot rows.
    pub row_cache: CacheStats,
    /// The cache of blocks.
    pub block_cache: CacheStats,
    /// Bytes of indexes and filters that stay in memory.
    pub metadata_bytes: usize,
    /// Reads of tables, and what filters spared.
    pub table_reads: TableCounts,
    /// Rows that bulk loads brought.
    pub bulk_rows: u64,
    /// Bytes of tables that were checked in the background.
    pub scrubbed_bytes: u64,
    /// Bytes of keys and values that were committed.
    pub user_bytes: u64,
    /// The oldest timestamp that can be read.
    pub oldest_readable: Timestamp,
}

/// The value files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ValueStats {
    /// How many there are.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes of values in them that tables refer to.
    pub live_bytes: u64,
}

/// One level of one tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LevelStats {
    /// The tree: 0 is everybody's.
    pub tree: u32,
    /// The level; 0 is the newest.
    pub level: u8,
    /// Sorted runs: how many tables a read may have to ask.
    pub runs: u64,
    /// Tables.
    pub tables: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Versions of keys in them, tombstones included.
    pub entries: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Bytes of value files that the tables refer to.
    pub value_bytes: u64,
    /// Bytes of tables written to it by flushes and compactions since the engine was opened: what a
    /// level costs. Tables that were moved to it cost nothing.
    pub written_bytes: u64,
}

impl EngineStats {
    /// Returns the bytes of memory that have a meter.
    pub fn memory_bytes(&self) -> u64 {
        let caches = self.row_cache.bytes + self.block_cache.bytes;
        (self.memtable_bytes + self.metadata_bytes) as u64 + caches
    }

    /// Returns how many bytes were written to the disk for each byte committed, log, flushes and
    /// compactions together, since the engine was opened; `None` if nothing was.
    pub fn write_amplification(&self) -> Option<f64> {
        let tables = self.flushed_bytes + self.compaction_written_bytes;
        let written = self.wal.bytes_written + tables;
        (self.user_bytes > 0).then(|| written as f64 / self.user_bytes as f64)
    }

    /// Returns how many bytes of tables and value files there are for each byte of the largest run
    /// of each tree, which has one version of each key at least; `None` if there are no tables.
    pub fn space_amplification(&self) -> Option<f64> {
        let live: u64 = self.largest_runs().values().sum();
        let bytes = self.table_bytes() + self.values.bytes;
        (live > 0).then(|| bytes as f64 / live as f64)
    }

    /// Returns the bytes of the largest run of each tree.
    fn largest_runs(&self) -> BTreeMap<u32, u64> {
        let mut largest = BTreeMap::new();
        for level in &self.levels {
            let bytes = (level.bytes + level.value_bytes) / level.runs.max(1);
            let known: &mut u64 = largest.entry(level.tree).or_default();
            *known = bytes.max(*known);
        }
        largest
    }

    /// Returns what one level has of [`EngineStats::write_amplification`]: the bytes written to it
    /// for each byte committed; `None` if nothing was committed.
    pub fn level_write_amplification(&self, level: &LevelStats) -> Option<f64> {
        (self.user_bytes > 0).then(|| level.written_bytes as f64 / self.user_bytes as f64)
    }

    /// Returns what one level has of [`EngineStats::space_amplification`]: its bytes for each byte
    /// of the largest run of its tree; `None` if it is no level of this engine.
    pub fn level_space_amplification(&self, level: &LevelStats) -> Option<f64> {
        let live = *self.largest_runs().get(&level.tree)?;
        let bytes = level.bytes + level.value_bytes;
        (live > 0).then(|| bytes as f64 / live as f64)
    }

    /// Returns how many tables a point read may have to ask, at most.
    pub fn read_amplification(&self) -> u64 {
        let mut runs = BTreeMap::<u32, u64>::new();
        for level in &self.levels {
            *runs.entry(level.tree).or_default() += level.runs;
        }
        runs.into_values().max().unwrap_or(0)
    }

    /// Returns the length of all tables, in bytes.
    pub fn table_bytes(&self) -> u64 {
        self.levels.iter().map(|level| level.bytes).sum()
    }
}

impl Engine {
    /// Returns sizes and counts.
    pub fn stats(&self) -> EngineStats {
        let view = self.view.load_full();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut levels = Vec::new();
        let written = lock(&self.counters.written).clone();
        for tree in view.version.trees() {
            for (number, level) in tree.levels.iter().enumerate() {
                let mut stats = LevelStats {
                    tree: tree.id.0,
                    level: number as u8,
                    runs: level.runs.len() as u64,
                    written_bytes: *written.get(&(tree.id.0, number as u8)).unwrap_or(&0),
                    ..LevelStats::default()
                };
                for table in level.tables() {
                    stats.tables += 1;
                    stats.bytes += table.meta.bytes;
                    stats.entries += table.meta.entries;
                    stats.tombstones += table.meta.tombstones;
                    stats.value_bytes += table.meta.apart_bytes();
                }
                if stats.tables > 0 {
                    levels.push(stats);
                }
            }
        }
        let values = ValueStats {
            files: view.version.values().iter().count() as u64,
            bytes: view.version.values().iter().map(|file| file.meta().bytes).sum(),
            live_bytes: levels.iter().map(|level| level.value_bytes).sum(),
        };
        let counters = &self.counters;
        EngineStats {
            memtable_keys: view.memtables().map(|memtable| memtable.len()).sum(),
            memtable_bytes: view.memtables().map(|memtable| memtable.memory_bytes()).sum(),
            sealed: view.sealed.len(),
            wal: self.wal.stats(),
            log_bytes: self.log_bytes(),
            checkpoint_ts: lock(&self.manifest).state().checkpoint_ts,
            flushes: get(&counters.flushes),
            flushed_bytes: get(&counters.flushed_bytes),
            compactions: get(&counters.compactions),
            moves: get(&counters.moves),
            compaction_read_bytes: get(&counters.compaction_read_bytes),
            compaction_written_bytes: get(&counters.compaction_written_bytes),
            debt_bytes: self.debt_bytes(),
            delayed: get(&counters.delayed),
            delayed_ns: get(&counters.delayed_ns),
            levels,
            values,
            moved_value_bytes: get(&counters.moved_value_bytes),
            memory_budget_bytes: self.memory.budget_bytes,
            row_cache: self.rows.stats(),
            block_cache: self.tables.blocks.stats(),
            metadata_bytes: view.version.tables().map(|table| table.table().metadata_bytes()).sum(),
            table_reads: self.tables.stats.counts(),
            bulk_rows: get(&counters.bulk_rows),
            scrubbed_bytes: get(&counters.scrubbed_bytes),
            user_bytes: get(&counters.user_bytes),
            oldest_readable: self.pins.floor(),
        }
    }
}

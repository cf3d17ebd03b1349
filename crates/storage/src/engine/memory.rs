//! How one memory budget is shared out.
//!
//! ```text
//!   |<---------------------------- the budget ---------------------------->|
//!   | active | sealed | sealed | hot rows | blocks, indexes, filters | rest |
//!   |<-- at most three memtables -->|<--------- caches ------------>|
//! ```
//!
//! The rest is what has no meter of its own: the log's buffers, transactions under way, what a
//! flush and a compaction hold, and what the allocator cannot give back.

/// Bytes of log after which the size of the active memtable is looked at again, or an eighth of
/// what it may hold. Looking sums up
/// counters that all writers touch; every 64 KiB it does not show, and nothing gets much too large.
pub(super) const LOOK_BYTES: u64 = 64 << 10;

/// Largest memtable, in bytes. Beyond this a flush gains nothing, and replaying the log takes
/// longer than people wait.
const MEMTABLE_BYTES_MAX: usize = 64 << 20;

/// Smallest memtable, in bytes: below this there would be a table for every few transactions.
const MEMTABLE_BYTES_MIN: usize = 256 << 10;

/// Share of the budget that a memtable gets, as a divisor. A larger one is written to tables less
/// often, for fewer bytes written in all; a smaller one leaves less log behind, and a smaller level
/// 0, for fewer bytes on the disk. Simulated in `examples/compaction_shapes.rs`: at this one, data
/// of half the budget costs four bytes written and a quarter more on the disk.
const MEMTABLE_SHARE: usize = 16;

/// Memtables that there is room for: the active one, one that waits, one that is being flushed.
pub(super) const MEMTABLES: usize = 3;

/// How memory is shared out, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryOptions {
    /// All of it.
    pub budget_bytes: usize,
    /// A memtable that is this large is sealed.
    pub memtable_bytes: usize,
    /// For hot rows; 0 turns that cache off.
    pub row_cache_bytes: usize,
    /// For blocks, indexes and filters of tables.
    pub block_cache_bytes: usize,
}

impl MemoryOptions {
    /// Shares out a budget.
    pub fn of_budget(budget_bytes: usize) -> MemoryOptions {
        let share = budget_bytes / MEMTABLE_SHARE;
        let memtable_bytes = share.clamp(MEMTABLE_BYTES_MIN, MEMTABLE_BYTES_MAX);
        let rest = budget_bytes / 8;
        let caches = budget_bytes.saturating_sub(MEMTABLES * memtable_bytes + rest);
        // A row that is cached costs less than the block it came from, and is found faster; but
        // only blocks serve scans.
        let row_cache_bytes = caches / 2;
        MemoryOptions {
            budget_bytes,
            memtable_bytes,
            row_cache_bytes,
            block_cache_bytes: caches - row_cache_bytes,
        }
    }
}

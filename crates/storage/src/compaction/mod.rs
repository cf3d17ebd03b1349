//! Compaction: tables become fewer, larger, and free of what nobody can read any more.
//!
//! ```text
//!   Version ──> Shape ──> picker ──> Choice ──> run ──> Edit ──> Manifest ──> Version
//!              metadata   pure       a Plan     reads and
//!                                               writes tables
//! ```
//!
//! The picker is a function of values: what there is, what is being done, the watermark and the
//! time. It can be simulated without a disk (`examples/compaction_shapes.rs`), and decides nothing
//! that the run could not do. A run turns the tables of a plan into others with the same answers
//! for every reader at or above the watermark (see [`garbage`]). A flush is the same, from a
//! memtable to level 0.
//!
//! # How a leveled tree is kept
//! Level 0 takes the flushes, each a run that is **cut where the tables of the next level are
//! cut**, some eight pieces. Tables of level 0 thus lie in columns above those of the *base
//! level*, the first one that is in use, and a compaction takes one column: a slice of all runs
//! of level 0 with the slice of the base level beneath. Small steps, and never all the data twice
//! on the disk.
//!
//! ```text
//!   level 0   [  a1  ][  b1   ][   c1  ][  d1  ]        a compaction takes b1, b2, b3 and
//!             [  a2  ][  b2   ][   c2  ][  d2  ]        B C D, and writes B' C' D'
//!                     [  b3   ]         [  d3  ]
//!   base      [ A    ][B ][C ][D ][ E  ][F  ][G]
//! ```
//!
//! A column is compacted when what lies above is a certain *share* of the base level's part
//! ([`CompactionOptions::l0_share_percent`]). With a share of one half, each byte written costs
//! two in compaction, and on average a quarter of the data is there twice: that is the bargain
//! between write and space amplification, in one number.
//!
//! As long as the last level is not larger than [`CompactionOptions::base_bytes`] it is the base
//! level. When it grows beyond, a level comes in between that may have a fraction of its size, and
//! so on: sizes are computed upwards from the last level, so all levels above it together are a
//! fraction of the data.
//!
//! # How garbage goes by itself
//! * Each table says how many of its entries are tombstones or old versions. A table of which a
//!   certain share is such, and which the watermark has passed, is compacted downwards, and at the
//!   bottom rewritten in place, whether anybody writes or not.
//! * A tombstone that comes to where nothing older of its key can lie beneath is dropped: in any
//!   compaction, and in the flush already.
//! * Value files are kept below a share of garbage in all of them together
//!   ([`CompactionOptions::values_garbage_percent`]). Beyond it the worst of them are *worn*: a merge
//!   takes along what is live in them, and tables that refer to them are rewritten for that alone if
//!   nothing else comes along. A file that nothing refers to goes by itself.
//! * What stays in upper levels longer than [`CompactionOptions::age_ms`] goes down, so long as
//!   that is not out of proportion to what it may free.
//!
//! # Invariants
//! * Two compactions at once have neither a table nor a key range and level in common:
//!   [`InProgress`].
//! * A plan that takes a table takes everything that is beneath it down to its target level, and
//!   that overlaps: versions of a key never pass each other.
//!
//! # Not here
//! Threads, rates, clocks, and the manifest: the engine's.

pub mod garbage;
mod leveled;
mod picker;
mod run;
mod shape;
mod tiered;
mod values;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use base::KeyRange;
use bytes::Bytes;

pub use picker::{END_OF_TIME_MS, bulk_level, debt_bytes, flush_plan, pick};
pub use run::{Done, Failed, PROGRESS_BYTES, Progress, RunOptions, run, write};
pub use shape::{InProgress, Shape, TreeShape, ValuesShape};

use crate::manifest::{Edit, TableMeta};
use crate::version::TreeId;

/// How large things are allowed to grow, and when something is done about it. All that is compacted
/// by some options can be compacted on by any others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionOptions {
    /// A table of a level ends about here.
    pub table_bytes: u64,
    /// What a flush writes, about: the size of a memtable.
    pub flush_bytes: u64,
    /// How large the last level gets before another level comes between it and level 0.
    pub base_bytes: u64,
    /// How much larger a level is than the one above it, at most.
    pub multiplier: u64,
    /// A column of level 0 is compacted when it is this share of what lies below it.
    pub l0_share_percent: u64,
    /// A column of level 0 is compacted when it has this many runs: each one is another filter to
    /// ask in a point read, and another cursor in a scan.
    pub l0_runs_max: usize,
    /// A flush is cut into about this many pieces.
    pub l0_pieces: u64,
    /// A table that the watermark has passed is compacted for its garbage alone when this share of
    /// its entries is that.
    pub garbage_percent: u64,
    /// When this share of all value files is garbage, what is live in the worst of them is written to
    /// others, for them to go.
    pub values_garbage_percent: u64,
    /// What is in upper levels longer than this goes down.
    pub age_ms: u64,
    /// An output table ends when it overlaps this many times `table_bytes` of the level below its
    /// own: it will have to be compacted with them one day.
    pub grandparent_tables_max: u64,
    /// A tiered tree merges runs when there are this many of them.
    pub tiered_runs_max: usize,
    /// A tiered tree merges everything when all but its oldest run are this share of that one.
    pub tiered_space_percent: u64,
}

impl CompactionOptions {
    /// Returns what suits memtables of a certain size.
    pub fn for_flush_bytes(flush_bytes: u64) -> CompactionOptions {
        let flush_bytes = flush_bytes.max(1 << 10);
        CompactionOptions {
            table_bytes: (flush_bytes / 2).clamp(1 << 10, 32 << 20),
            flush_bytes,
            base_bytes: 16 * flush_bytes,
            multiplier: 10,
            l0_share_percent: 50,
            l0_runs_max: 10,
            l0_pieces: 8,
            garbage_percent: 25,
            values_garbage_percent: 50,
            age_ms: 10 * 60 * 1000,
            grandparent_tables_max: 10,
            tiered_runs_max: 8,
            tiered_space_percent: 200,
        }
    }
}

/// Why something is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A level, or the number of runs, is larger than it should be.
    Debt,
    /// Much of a table is tombstones and old versions that nobody can read.
    Garbage,
    /// It has waited long.
    Age,
    /// It is the memtable's turn.
    Flush,
}

/// What to do next.
#[derive(Debug, Clone)]
pub enum Choice {
    /// All is well.
    Nothing,
    /// Tables change their level and are not read: [`Plan::edit`] says it all.
    Move(Plan),
    /// Tables are merged: [`run`].
    Merge(Plan),
    /// Tables hold nothing that anybody can read, and go: [`Plan::edit`] says it all.
    Drop(Plan),
}

impl Choice {
    /// Returns the plan, if there is something to do.
    pub fn plan(&self) -> Option<&Plan> {
        match self {
            Choice::Nothing => None,
            Choice::Move(plan) | Choice::Merge(plan) | Choice::Drop(plan) => Some(plan),
        }
    }
}

/// Which tables become which.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The tree that all of them are of.
    pub tree: TreeId,
    /// Why.
    pub reason: Reason,
    /// The tables that are read and go; none in a flush.
    pub inputs: Vec<Arc<TableMeta>>,
    /// The smallest and the largest key in them.
    pub keys: (Bytes, Bytes),
    /// The uppermost level of the inputs.
    pub level: u8,
    /// The level of the output.
    pub target_level: u8,
    /// The run of the output, which counts at level 0.
    pub target_run: u64,
    /// What is written, in order: all keys, unless other trees take a share of a memtable.
    pub ranges: Vec<KeyRange>,
    /// Where, outside of the inputs, older versions of keys may lie: disjoint, in order, both ends
    /// included.
    pub beneath: Vec<(Bytes, Bytes)>,
    /// An output ends when it is this long.
    pub cut_bytes: u64,
    /// Where an output ends, too, whatever its length.
    pub cut_keys: Vec<Bytes>,
    /// Last keys and lengths of the tables of the level below the target.
    pub grandparents: Vec<(Bytes, u64)>,
    /// How much of these an output may overlap.
    pub grandparent_bytes_max: u64,
    /// Value files that are mostly garbage: what lies in them is written to others.
    pub worn: Vec<u64>,
    /// True if the output is the oldest there is: worth compressing harder.
    pub is_coldest: bool,
}

impl Plan {
    /// Returns the length of all input files.
    pub fn input_bytes(&self) -> u64 {
        self.inputs.iter().map(|table| table.bytes).sum()
    }

    /// Returns the edit of a plan that reads no table: for a move the tables at their new level,
    /// for a drop nothing in their place.
    pub fn edit(&self, is_move: bool) -> Edit {
        let moved = |meta: &Arc<TableMeta>| TableMeta {
            level: self.target_level,
            run: self.target_run,
            ..TableMeta::clone(meta)
        };
        Edit {
            removed: self.inputs.iter().map(|table| table.number).collect(),
            added: if is_move { self.inputs.iter().map(moved).collect() } else { Vec::new() },
            ..Edit::default()
        }
    }
}

//! The cache of blocks: what was read from tables, checked and decompressed.
//!
//! A block is found by the number of its table and its offset there. Tables never change and
//! numbers are never given out twice, so nothing here is ever out of date; the blocks of a table
//! that is gone are not asked for any more, and leave by themselves.

use std::sync::Arc;

use bytes::Bytes;

use super::data::DataBlock;
use super::separators::Metadata;
use crate::cache::{Cache, CacheStats};

/// What the allocator takes for a block beside its contents: the header of the count, and rounding.
const BLOCK_OVERHEAD_BYTES: usize = 64;

/// Blocks of all tables that share it. Shared by all readers.
pub struct BlockCache {
    cache: Cache<Cached>,
}

#[derive(Clone)]
struct Cached {
    table: u64,
    offset: u64,
    block: CachedBlock,
}

/// A data block, filter and index of a partition, or a value of a value file.
#[derive(Clone)]
enum CachedBlock {
    Data(DataBlock),
    Metadata(Arc<Metadata>),
    Value(Bytes),
}

/// What of the cache is fetched ahead of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefetch {
    /// Where the block is in the cache.
    Index,
    /// Where the block is in memory.
    Block,
}

impl BlockCache {
    /// Returns an empty cache. Capacity is in bytes, bookkeeping included; zero turns it off.
    pub fn new(capacity_bytes: usize) -> BlockCache {
        BlockCache { cache: Cache::new(capacity_bytes) }
    }

    /// Changes the capacity, and puts out at once what is too much.
    pub fn set_capacity(&self, capacity_bytes: usize) {
        self.cache.set_capacity(capacity_bytes);
    }

    /// Returns what was counted.
    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    pub(crate) fn data(&self, table: u64, offset: u64) -> Option<DataBlock> {
        match self.get(table, offset)? {
            CachedBlock::Data(block) => Some(block),
            CachedBlock::Metadata(_) | CachedBlock::Value(_) => None,
        }
    }

    /// Has the processor fetch where the cache would find a block, in two steps, each of which
    /// needs what the one before fetched.
    pub(crate) fn prefetch(&self, table: u64, offset: u64, step: Prefetch) {
        let hash = hash(table, offset);
        match step {
            Prefetch::Index => self.cache.prefetch_index(hash),
            Prefetch::Block => self.cache.prefetch_value(hash),
        }
    }

    pub(crate) fn metadata(&self, table: u64, offset: u64) -> Option<Arc<Metadata>> {
        match self.get(table, offset)? {
            CachedBlock::Metadata(metadata) => Some(metadata),
            CachedBlock::Data(_) | CachedBlock::Value(_) => None,
        }
    }

    /// Returns a value of a value file, which are numbered together with tables.
    pub(crate) fn value(&self, file: u64, offset: u64) -> Option<Bytes> {
        match self.get(file, offset)? {
            CachedBlock::Value(value) => Some(value),
            CachedBlock::Data(_) | CachedBlock::Metadata(_) => None,
        }
    }

    pub(crate) fn insert_value(&self, file: u64, offset: u64, value: &Bytes) {
        self.insert(file, offset, CachedBlock::Value(value.clone()), value.len());
    }

    pub(crate) fn insert_data(&self, table: u64, offset: u64, block: &DataBlock) {
        self.insert(table, offset, CachedBlock::Data(block.clone()), block.memory_bytes());
    }

    pub(crate) fn insert_metadata(&self, table: u64, offset: u64, metadata: &Arc<Metadata>) {
        let bytes = metadata.memory_bytes();
        self.insert(table, offset, CachedBlock::Metadata(Arc::clone(metadata)), bytes);
    }

    #[inline]
    fn get(&self, table: u64, offset: u64) -> Option<CachedBlock> {
        let matches = |cached: &Cached| {
            let is_it = cached.table == table && cached.offset == offset;
            if let (true, CachedBlock::Data(block)) = (is_it, &cached.block) {
                // What is read next arrives while the reference count is waited for.
                block.prefetch();
            }
            is_it
        };
        self.cache.get(hash(table, offset), matches).map(|cached| cached.block)
    }

    fn insert(&self, table: u64, offset: u64, block: CachedBlock, bytes: usize) {
        let matches = |cached: &Cached| cached.table == table && cached.offset == offset;
        let cached = Cached { table, offset, block };
        self.cache.insert(hash(table, offset), cached, bytes + BLOCK_OVERHEAD_BYTES, matches);
    }
}

/// Copies contents that are a part of something larger, which would stay in memory with them.
pub(crate) fn owned(contents: &[u8]) -> Bytes {
    Bytes::from_owner(contents.to_vec())
}

/// Mixes both numbers over all bits: the finisher of MurmurHash3.
fn hash(table: u64, offset: u64) -> u64 {
    let mut state = offset ^ table.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    state = (state ^ (state >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    state ^ (state >> 33)
}

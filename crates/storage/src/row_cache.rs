//! The cache of hot rows: what a point read would find in the tables, without asking them. How the
//! rows lie in memory stands in `ring`; here is when one may be put in and must go.
//!
//! A row is the newest version *among all tables of the current version* of one key: a value or a
//! tombstone, and its timestamp. Memtables are always asked first, so nothing here has to follow
//! each write; a row is out of date only once a newer version of its key has moved from a memtable,
//! or from a bulk load, into a table.
//!
//! # Why no stale row is ever served
//!
//! A reader that found a row in the tables may be slow to put it in: meanwhile a flush may have
//! moved a newer version of the key into a table, and the memtable that had hidden the old row is
//! gone. So a flush closes the cache around the installation of the new view, and a late row is
//! refused:
//!
//! ```text
//!  reader                          flush
//!  g := generation()
//!  takes the view; the memtables
//!  do not have k
//!  tables: k = 1 @5                (meanwhile k = 2 @9 was written, its memtable sealed,
//!      |                            and a table built of it)
//!      |                           invalidate(k): every generation rises, k is removed,
//!      |                               |           the cache is closed
//!      |                           installs the view: table instead of memtable
//!      |                           the invalidation ends, the cache is open
//!  insert(g, k, 1 @5) --> refused: the generation of the shard is not g
//! ```
//!
//! In general: let a row be accepted with a generation g. Between `generation()` and the check
//! under the shard's lock no invalidation began, or the shard's generation would have moved; and
//! none was running at `generation()`, or g would be closed. A reader takes its view after g, so
//! its tables are those of the current version up to changes that need no invalidation (compaction
//! keeps the newest version of each key). The row is thus right when it is put in. It stays right
//! until an invalidation that names its key, and that one removes it before the view changes.
//!
//! It is also right for a reader whose view is older than the row: what this reader may see (at its
//! timestamp) and its memtables do not have lies in tables of its view, and those versions are in
//! the tables of all later versions, too; the row is the newest of them, or is newer than the
//! reader's timestamp and is not served.
//!
//! # Invariants
//! * A shard's generation is that of the last invalidation which has gone through it.
//! * A row is put in only with a generation that was taken before the view it was found in.
//!
//! # Not here
//! Negative rows: an absent key costs one filter probe per table. Rows of any but the newest
//! version: a read in the past goes to the tables.

mod ring;

use base::Timestamp;
use bytes::Bytes;

use crate::Value;
use crate::cache::CacheStats;
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, lock};
use crate::table::{Found, key_hash};

use ring::Shard;

/// The largest key and value together that are kept, in bytes. A row of this size has a data block
/// to itself, and a copy of it is worth no more than the block in the block cache.
pub const ROW_BYTES_MAX: usize = 4 << 10;

/// Shards, each under a lock of its own that is held for about one visit to memory. Enough that two
/// threads hardly ever want the same one.
const SHARDS: usize = if cfg!(shuttle) { 1 } else { 64 };

/// The state counts running invalidations in its lower bits, and all there were in the others.
const RUNNING_BITS: u32 = 16;
const RUNNING_MASK: u64 = (1 << RUNNING_BITS) - 1;

/// When a reader began: what it finds from then on may be put in unless an invalidation intervenes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// `None` if the cache was closed.
    number: Option<u64>,
}

/// The rows. Shared by all readers.
pub struct RowCache {
    shards: Box<[Line<Mutex<Shard>>]>,
    state: AtomicU64,
    /// False if there is no room for any row: then nobody has to look.
    is_on: AtomicBool,
}

/// Keeps neighbours out of each other's cache lines.
#[repr(align(128))]
struct Line<T>(T);

/// Keeps the cache closed to new rows until the view that made them out of date is installed.
#[must_use = "the cache is closed until this is dropped, which must not be before the installation"]
pub struct Invalidation<'a> {
    state: &'a AtomicU64,
}

impl RowCache {
    /// Returns an empty cache. Capacity is in bytes, bookkeeping included; zero turns it off.
    pub fn new(capacity_bytes: usize) -> RowCache {
        let shard = || Line(Mutex::new(Shard::new(capacity_bytes / SHARDS)));
        RowCache {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            state: AtomicU64::new(0),
            is_on: AtomicBool::new(capacity_bytes > 0),
        }
    }

    /// Changes the capacity, and puts out at once what is too much.
    pub fn set_capacity(&self, capacity_bytes: usize) {
        self.is_on.store(capacity_bytes > 0, Ordering::Relaxed);
        self.for_each_shard(|shard| shard.set_capacity(capacity_bytes / SHARDS));
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[hash as usize % SHARDS].0)
    }

    fn for_each_shard(&self, mut call: impl FnMut(&mut Shard)) {
        for shard in &self.shards {
            call(&mut lock(&shard.0));
        }
    }

    /// Returns what a reader needs to put in a row. It must be taken before the view in which the
    /// row is then looked for.
    pub fn generation(&self) -> Generation {
        let state = self.state.load(Ordering::SeqCst);
        let is_open = state & RUNNING_MASK == 0;
        Generation { number: is_open.then_some(state >> RUNNING_BITS) }
    }

    /// Returns the newest version of a key in the tables if it is kept here and not newer than
    /// `ts`. `hash` is the [`key_hash`] of the key.
    pub fn get(&self, hash: u64, key: &[u8], ts: Timestamp) -> Option<Found> {
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        self.shard(hash).get(hash, key, ts, |ts, value| Found {
            ts,
            value: value.as_put().map(Bytes::copy_from_slice),
        })
    }

    /// Puts in the newest version of a key in all tables of a view, which was taken after
    /// `generation` was. Returns false if the row is too large, or if the tables may have changed.
    pub fn insert(
        &self,
        generation: Generation,
        hash: u64,
        key: &[u8],
        ts: Timestamp,
        value: Value<'_>,
    ) -> bool {
        let len = key.len() + value.as_put().map_or(0, <[u8]>::len);
        let is_small = len <= ROW_BYTES_MAX && key.len() <= usize::from(u16::MAX);
        let Some(number) = generation.number.filter(|_| is_small) else {
            return false;
        };
        if !self.is_on.load(Ordering::Relaxed) {
            return false;
        }
        let mut shard = self.shard(hash);
        shard.generation == number && shard.insert(hash, key, ts, value)
    }

    /// Removes the rows of keys of which a new view has newer versions in its tables. Called before
    /// that view is installed; what is returned is dropped after it is. Until then no row is
    /// put in.
    pub fn invalidate<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> Invalidation<'_> {
        let one_more = (1 << RUNNING_BITS) + 1;
        let state = self.state.fetch_add(one_more, Ordering::SeqCst) + one_more;
        // From here on: whatever goes wrong, the cache opens again.
        let invalidation = Invalidation { state: &self.state };
        let number = state >> RUNNING_BITS;
        // Two that run beside each other may meet a shard in either order.
        self.for_each_shard(|shard| shard.generation = shard.generation.max(number));
        if self.is_on.load(Ordering::Relaxed) {
            for key in keys {
                let hash = key_hash(key);
                self.shard(hash).remove(hash, key);
            }
        }
        invalidation
    }

    /// Removes all rows, but those that are put in meanwhile.
    pub fn clear(&self) {
        self.for_each_shard(Shard::clear);
    }

    /// Returns what was counted.
    pub fn stats(&self) -> CacheStats {
        let mut sum = CacheStats::default();
        self.for_each_shard(|shard| {
            sum.hits += shard.stats.hits;
            sum.misses += shard.stats.misses;
            sum.inserts += shard.stats.inserts;
            sum.evictions += shard.stats.evictions;
            sum.entries += shard.rows() as u64;
            sum.bytes += shard.bytes() as u64;
            sum.capacity_bytes += shard.capacity_bytes() as u64;
        });
        sum
    }
}

impl Drop for Invalidation<'_> {
    fn drop(&mut self) {
        self.state.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;

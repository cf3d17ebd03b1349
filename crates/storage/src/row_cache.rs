//! The cache of hot rows: what a point read would find in the tables, without asking them.
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

use base::Timestamp;
use bytes::{Buf, Bytes};

use crate::Value;
use crate::cache::{Cache, CacheStats};
use crate::sync::{AtomicU64, Ordering};
use crate::table::{Found, key_hash};

/// The largest key and value together that are kept, in bytes. A row of this size has a data block
/// to itself, and a copy of it is worth no more than the block in the block cache.
pub const ROW_BYTES_MAX: usize = 4 << 10;

/// What the allocator takes beside a row: the header of its count, and rounding.
const ROW_OVERHEAD_BYTES: usize = 48;

/// What stands before the key in the memory of a row: the timestamp, and the length of the key
/// with the highest bit set for a tombstone.
const HEADER_BYTES: usize = 8 + 2;
const TOMBSTONE_BIT: u16 = 1 << 15;

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
    cache: Cache<Row>,
    state: AtomicU64,
}

/// Keeps the cache closed to new rows until the view that made them out of date is installed.
#[must_use = "the cache is closed until this is dropped, which must not be before the installation"]
pub struct Invalidation<'a> {
    state: &'a AtomicU64,
}

/// A row in one allocation, together with the count of those who read it: a hit that has the row's
/// slot waits for one more place in memory and no other.
///
/// ```text
///  +-----------+--------------------+- - - -+- - - -+
///  | timestamp | key len, tombstone | key   | value |
///  +-----------+--------------------+- - - -+- - - -+
///   8 bytes     2 bytes
/// ```
#[derive(Clone)]
struct Row(Bytes);

impl Row {
    fn new(key: &[u8], ts: Timestamp, value: Value<'_>) -> Row {
        let (value, bit) = match value {
            Value::Put(value) => (value, 0),
            Value::Tombstone => (&[][..], TOMBSTONE_BIT),
        };
        let key_len = (key.len() as u16 | bit).to_le_bytes();
        Row(one_allocation(&[&ts.raw().to_le_bytes(), &key_len, key, value]))
    }

    fn ts(&self) -> Timestamp {
        Timestamp::from_raw(self.0.first_chunk().map_or(0, |raw| u64::from_le_bytes(*raw)))
    }

    fn key_len(&self) -> (usize, bool) {
        let field = self.0.get(8..HEADER_BYTES).and_then(|field| field.first_chunk());
        let field = field.map_or(0, |field| u16::from_le_bytes(*field));
        (usize::from(field & !TOMBSTONE_BIT), field & TOMBSTONE_BIT != 0)
    }

    fn has_key(&self, key: &[u8]) -> bool {
        let (len, _) = self.key_len();
        self.0.get(HEADER_BYTES..HEADER_BYTES + len) == Some(key)
    }

    fn into_found(self) -> Found {
        let (ts, (key_len, is_tombstone)) = (self.ts(), self.key_len());
        let mut value = self.0;
        value.advance(HEADER_BYTES + key_len);
        Found { ts, value: (!is_tombstone).then_some(value) }
    }
}

/// Bytes that lie beside what counts their readers: `Bytes` keeps the count where it keeps the
/// owner, and this owner holds its bytes itself.
struct Inline<const N: usize> {
    len: u16,
    bytes: [u8; N],
}

impl<const N: usize> AsRef<[u8]> for Inline<N> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Puts parts together in memory of the next larger of some sizes, which are at most a half apart.
fn one_allocation(parts: &[&[u8]]) -> Bytes {
    fn inline<const N: usize>(parts: &[&[u8]], len: usize) -> Bytes {
        let (mut bytes, mut end) = ([0; N], 0);
        for part in parts {
            bytes[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        Bytes::from_owner(Inline { len: len as u16, bytes })
    }
    let len = parts.iter().map(|part| part.len()).sum();
    match len {
        0..=32 => inline::<32>(parts, len),
        33..=48 => inline::<48>(parts, len),
        49..=64 => inline::<64>(parts, len),
        65..=96 => inline::<96>(parts, len),
        97..=128 => inline::<128>(parts, len),
        129..=160 => inline::<160>(parts, len),
        161..=192 => inline::<192>(parts, len),
        193..=256 => inline::<256>(parts, len),
        257..=384 => inline::<384>(parts, len),
        385..=512 => inline::<512>(parts, len),
        513..=768 => inline::<768>(parts, len),
        769..=1024 => inline::<1024>(parts, len),
        // Larger rows touch many lines in any case.
        _ => Bytes::from_owner(parts.concat()),
    }
}

impl RowCache {
    /// Returns an empty cache. Capacity is in bytes, bookkeeping included; zero turns it off.
    pub fn new(capacity_bytes: usize) -> RowCache {
        RowCache { cache: Cache::new(capacity_bytes), state: AtomicU64::new(0) }
    }

    /// Changes the capacity, and puts out at once what is too much.
    pub fn set_capacity(&self, capacity_bytes: usize) {
        self.cache.set_capacity(capacity_bytes);
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
        self.cache.get(hash, |row| row.has_key(key) && row.ts() <= ts).map(Row::into_found)
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
        let Some(number) = generation.number.filter(|_| len <= ROW_BYTES_MAX) else {
            return false;
        };
        // The allocation is made before the lock is taken.
        let row = Row::new(key, ts, value);
        let mut shard = self.cache.shard(hash);
        // Rounded up to the next size: half as much again at most, a tenth in the mean.
        let bytes = HEADER_BYTES + len + len / 10 + ROW_OVERHEAD_BYTES;
        shard.generation == number && shard.insert(hash, row, bytes, |row| row.has_key(key))
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
        self.cache.for_each_shard(|shard| shard.generation = shard.generation.max(number));
        for key in keys {
            let hash = key_hash(key);
            self.cache.shard(hash).remove(hash, |row| row.has_key(key));
        }
        invalidation
    }

    /// Removes all rows, but those that are put in meanwhile.
    pub fn clear(&self) {
        self.cache.for_each_shard(|shard| shard.clear());
    }

    /// Returns what was counted.
    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }
}

impl Drop for Invalidation<'_> {
    fn drop(&mut self) {
        self.state.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;

//! The hash index: from a key to its entry in one probe, without locks for readers.
//!
//! Open addressing with linear probing, cut into shards so that writers rarely meet and a shard
//! grows by itself. A slot is one word, a tag of the hash over the entry's address, so that a
//! probe touches an entry only when it is the right one (or one in 65 536 is not).
//!
//! ```text
//!   hash    63      56                    41        26           0
//!           +--------+---------------------+---------+-----------+
//!           | shard  |                     | tag     | slot      |       (slot: as many bits
//!           +--------+---------------------+---------+-----------+        as the shard has)
//!
//!   slots   [ 0 | tag,entry | removed | tag,entry | tag,entry | 0 | ... ]
//!                 ^ probe from here to the first 0
//! ```
//!
//! A shard that is five eighths full is copied into a new array, which is then published by one
//! pointer. A reader in the old array misses only what was inserted meanwhile, as if it had come a
//! moment earlier; the old array is retired like anything else.
//!
//! # Invariants
//! * A live key has exactly one slot, reachable from its home without passing an empty one.
//! * Slots change only under the shard's lock.

use super::entry::{EntryCell, EntryRef, Tagged};
use super::link::{Guard, Link, Shared};
use super::reclaim::Retired;
use super::sync::{Mutex, Padded};

/// Shards. Enough that copying one takes less than a millisecond at ten million keys.
const SHARD_BITS: u32 = if cfg!(shuttle) { 0 } else { 8 };
const SHARDS: usize = 1 << SHARD_BITS;

/// Slots of a new shard.
const SLOTS_MIN: usize = if cfg!(any(test, shuttle)) { 2 } else { 16 };

/// Copying prefetches this many entries ahead; their keys must be hashed again.
const COPY_AHEAD: usize = 16;

/// The slots of one shard: a power of two of them.
pub(super) struct Slots {
    cells: Box<[EntryCell]>,
}

impl Slots {
    fn new(len: usize) -> Slots {
        Slots { cells: (0..len).map(|_| EntryCell::empty()).collect() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.cells.len() * size_of::<EntryCell>()
    }

    /// Returns the cells from the home of a hash on, all of them, in probing order.
    fn probe(&self, hash: u64) -> impl Iterator<Item = &EntryCell> {
        let mask = self.cells.len() - 1;
        let home = hash as usize & mask;
        (0..=mask).map(move |step| &self.cells[(home + step) & mask])
    }

    fn home(&self, hash: u64) -> &EntryCell {
        &self.cells[hash as usize & (self.cells.len() - 1)]
    }

    /// Puts an entry whose key is not there into the first empty slot.
    fn place(&self, hash: u64, entry: EntryRef<'_>, guard: &Guard) {
        let empty = self.probe(hash).find(|cell| cell.load(guard).is_empty());
        empty.expect("a shard is never full").store(Tagged::new(entry, tag_of(hash)));
    }
}

#[derive(Default)]
struct Fill {
    /// Slots with an entry.
    live: usize,
    /// Slots that are not empty.
    used: usize,
}

/// The index. The hash of a key is the caller's business, so that it is computed once.
pub(super) struct HashIndex {
    /// The arrays apart from the locks: readers touch only these, and they fit in few lines.
    slots: Box<[Link<Slots>]>,
    fills: Box<[Padded<Mutex<Fill>>]>,
}

/// What came of an insertion.
pub(super) enum Inserted<'g> {
    /// The entry is in the index.
    New,
    /// There is a live entry with that key.
    Existing(EntryRef<'g>),
}

fn shard_of(hash: u64) -> usize {
    hash.unbounded_shr(64 - SHARD_BITS) as usize
}

/// Returns the tag: never 0, which is the tag of empty and removed slots.
fn tag_of(hash: u64) -> u16 {
    (hash >> 26) as u16 | 1
}

impl HashIndex {
    pub(super) fn new(guard: &Guard) -> HashIndex {
        let slots = (0..SHARDS).map(|_| Link::to(Shared::new(Slots::new(SLOTS_MIN), guard)));
        let fills = (0..SHARDS).map(|_| Padded(Mutex::new(Fill::default())));
        HashIndex { slots: slots.collect(), fills: fills.collect() }
    }

    fn slots<'g>(&self, shard: usize, guard: &'g Guard) -> &'g Slots {
        self.slots[shard].load(guard).expect("a shard always has slots").get()
    }

    /// Returns the entry of a key.
    pub(super) fn find<'g>(&self, hash: u64, key: &[u8], guard: &'g Guard) -> Option<EntryRef<'g>> {
        let tag = tag_of(hash);
        for cell in self.slots(shard_of(hash), guard).probe(hash) {
            let word = cell.load(guard);
            if word.is_empty() {
                return None;
            }
            if word.tag() == tag
                && let Some(entry) = word.entry()
            {
                // The value will be wanted next: its lines travel while the key is compared.
                entry.prefetch();
                if entry.key() == key {
                    return Some(entry);
                }
            }
        }
        None
    }

    /// Fetches the slot of a hash.
    pub(super) fn prefetch(&self, hash: u64, guard: &Guard) {
        self.slots(shard_of(hash), guard).home(hash).prefetch();
    }

    /// Adds an entry, in the place of a dead one with the same key if there is one. Returns the
    /// array too that was outgrown by that.
    pub(super) fn insert<'g>(
        &self,
        hash: u64,
        entry: EntryRef<'g>,
        guard: &'g Guard,
        rehash: impl Fn(&[u8]) -> u64,
    ) -> (Inserted<'g>, Option<Retired>) {
        let shard = shard_of(hash);
        let tag = tag_of(hash);
        let mut fill = self.fills[shard].0.lock();
        let mut slots = self.slots(shard, guard);
        let mut outgrown = None;
        if (fill.used + 1) * 8 > slots.cells.len() * 5 {
            // If half of what fills it are removed slots, a copy of the same size is enough.
            let crowded = (fill.live + 1) * 16 > slots.cells.len() * 5;
            let len = if crowded { 2 * slots.cells.len() } else { slots.cells.len() };
            outgrown = Some(self.replace(shard, &mut fill, len, guard, rehash));
            slots = self.slots(shard, guard);
        }
        let mut room = None;
        for cell in slots.probe(hash) {
            let word = cell.load(guard);
            if word.is_empty() {
                fill.live += 1;
                fill.used += usize::from(room.is_none());
                room.unwrap_or(cell).store(Tagged::new(entry, tag));
                return (Inserted::New, outgrown);
            }
            if word.is_removed() {
                room = room.or(Some(cell));
                continue;
            }
            if word.tag() == tag
                && let Some(existing) = word.entry()
                && existing.key() == entry.key()
            {
                if !existing.is_dead() {
                    return (Inserted::Existing(existing), outgrown);
                }
                cell.store(Tagged::new(entry, tag));
                return (Inserted::New, outgrown);
            }
        }
        unreachable!("three eighths of a shard are empty");
    }

    /// Removes a dead entry, if nobody has put another in its place yet.
    pub(super) fn remove(&self, hash: u64, entry: EntryRef<'_>, guard: &Guard) {
        let shard = shard_of(hash);
        let mut fill = self.fills[shard].0.lock();
        for cell in self.slots(shard, guard).probe(hash) {
            let word = cell.load(guard);
            if word.is_empty() {
                return;
            }
            if word.entry().is_some_and(|found| found.is(entry)) {
                cell.store(Tagged::removed());
                fill.live -= 1;
                return;
            }
        }
    }

    /// Makes room for `keys` keys in all, in advance. Returns the arrays that were outgrown.
    pub(super) fn reserve(
        &self,
        keys: usize,
        guard: &Guard,
        rehash: impl Fn(&[u8]) -> u64,
    ) -> Vec<Retired> {
        // Shards fill unevenly: four standard deviations above the mean, and under the limit.
        let mean = keys / SHARDS;
        let wanted = ((mean + 4 * mean.isqrt() + 1) * 8 / 5 + 1).next_power_of_two();
        let mut retired = Vec::new();
        for shard in 0..SHARDS {
            let mut fill = self.fills[shard].0.lock();
            if self.slots(shard, guard).cells.len() < wanted {
                retired.push(self.replace(shard, &mut fill, wanted, guard, &rehash));
            }
        }
        retired
    }

    /// Copies a shard to a new array of `len` slots and publishes it. Returns the old one.
    fn replace(
        &self,
        shard: usize,
        fill: &mut Fill,
        len: usize,
        guard: &Guard,
        rehash: impl Fn(&[u8]) -> u64,
    ) -> Retired {
        let link = &self.slots[shard];
        let old = link.load(guard).expect("a shard always has slots");
        let new = Slots::new(len);
        fill.live = 0;
        for (at, cell) in old.cells.iter().enumerate() {
            if let Some(ahead) = old.cells.get(at + COPY_AHEAD)
                && let Some(entry) = ahead.load(guard).entry()
            {
                entry.prefetch_key();
            }
            if let Some(entry) = cell.load(guard).entry() {
                new.place(rehash(entry.key()), entry, guard);
                fill.live += 1;
            }
        }
        fill.used = fill.live;
        link.store(Some(Shared::new(new, guard)));
        Retired::slots(old)
    }

    /// Walks all entries. Exact only if nobody writes.
    pub(super) fn entries<'g>(&self, guard: &'g Guard) -> impl Iterator<Item = EntryRef<'g>> {
        let shards = (0..SHARDS).map(|shard| self.slots(shard, guard));
        shards.flat_map(|slots| slots.cells.iter()).filter_map(|cell| cell.load(guard).entry())
    }

    /// Walks the arrays themselves.
    pub(super) fn arrays<'g>(&self, guard: &'g Guard) -> impl Iterator<Item = Shared<'g, Slots>> {
        self.slots.iter().filter_map(|link| link.load(guard))
    }

    /// Returns the bytes of the arrays.
    pub(super) fn bytes(&self, guard: &Guard) -> usize {
        self.arrays(guard).map(|slots| slots.bytes()).sum()
    }
}

//! A cache of weighted values, shared by all readers: what the block cache and the row cache are
//! made of.
//!
//! A value is found by a 64-bit hash and a full comparison of its key, which the value holds. The
//! hash picks one of a few shards, each behind a lock of its own that a reader holds for one probe
//! and one clone; a hit allocates nothing and moves nothing.
//!
//! ```text
//!                          hit: the frequency (0 to 3) rises, nothing else
//!            not seen
//!            lately       +-----------------+  frequency > 0   +------------------------+
//!  insert ---------------->  small, a tenth +------------------>  main                  +--+
//!     |                   +--------+--------+                  +---^----------+---------+  |
//!     |                            | frequency 0                   |          |            |
//!     |                   +--------v--------+                      |          | frequency 0
//!     |                   | ghosts: hashes  |                      |          v            |
//!     |                   +--------+--------+                      |       evicted         |
//!     '------ hash is a ghost -----'-------------------------------+---- frequency > 0, less one
//! ```
//!
//! This is S3-FIFO (Yang, Zhang, Qiu, Yue, Vigfusson, "FIFO Queues are All You Need for Cache
//! Eviction", SOSP 2023). What is read once goes through the small queue and out: a scan of
//! everything there is costs the cache that tenth. A single queue whose hits set a bit (CLOCK,
//! SIEVE) was not taken because a scan over a cache in which all was hit lately clears all bits and
//! then evicts everything in order. The ghosts are not a queue but a table in which a newer hash
//! takes the place of an older one: it is smaller, and forgets at about the same age.
//!
//! Capacity is in bytes, and what is charged for a value includes its share of slots, index and
//! ghosts. It is divided evenly among the shards; a value larger than a shard is not kept.
//!
//! # Invariants
//! * Each value is in one queue and in the index once; free slots are in neither.
//! * The bytes of a shard's queues are within its capacity whenever its lock is free.
//!
//! # Not here
//! Loading: two readers that miss the same value both read it, and the second insert replaces the
//! first. Waiting for each other would cost each hit more than the double read costs a miss.

use std::mem;

use crate::memtable::prefetch;
use crate::sync::{Mutex, MutexGuard, lock};

/// Number of shards: few enough that a shard of a small cache still holds some blocks, more than
/// the threads that are likely to be in a cache at once.
pub(crate) const SHARDS: usize = 16;

/// Hits beyond this many are not told apart, so that a value that was hot once can be evicted after
/// that many rounds through its queue.
const FREQUENCY_MAX: u8 = 3;

/// The share of the small queue in the capacity: the paper's tenth.
const SMALL_DIVISOR: usize = 10;

/// The smallest index of a shard that holds anything; a power of two.
const INDEX_LEN_MIN: usize = 16;

/// Ends a list of slots.
const NONE: u32 = u32::MAX;

/// What a cache has done since it was made, and what it holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Lookups that found their value.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Values put in, replacements included.
    pub inserts: u64,
    /// Values put out to make room.
    pub evictions: u64,
    /// Values held now.
    pub entries: u64,
    /// What they are charged now, bookkeeping included.
    pub bytes: u64,
    /// What they may be charged.
    pub capacity_bytes: u64,
}

/// A sharded cache of values that are cheap to clone.
pub(crate) struct Cache<V> {
    shards: Box<[Line<Mutex<Shard<V>>>]>,
}

/// Keeps neighbours out of each other's cache lines.
#[repr(align(128))]
struct Line<T>(T);

impl<V: Clone> Cache<V> {
    /// Returns an empty cache.
    pub(crate) fn new(capacity_bytes: usize) -> Cache<V> {
        let shard = |_| Line(Mutex::new(Shard::new(capacity_bytes / SHARDS)));
        Cache { shards: (0..SHARDS).map(shard).collect() }
    }

    /// Changes the capacity, and puts out at once what is too much. Zero turns the cache off.
    pub(crate) fn set_capacity(&self, capacity_bytes: usize) {
        self.for_each_shard(|shard| shard.set_capacity(capacity_bytes / SHARDS));
    }

    /// Returns a copy of the value that `matches` among those with this hash.
    pub(crate) fn get(&self, hash: u64, matches: impl Fn(&V) -> bool) -> Option<V> {
        self.shard(hash).get(hash, matches)
    }

    /// Has the processor fetch where the index says whether there is a value: the first step of a
    /// look-up that will come soon.
    pub(crate) fn prefetch_index(&self, hash: u64) {
        let shard = self.shard(hash);
        if let Some(mask) = shard.index.len().checked_sub(1) {
            prefetch(&raw const shard.index[tag_of(hash) as usize & mask]);
        }
    }

    /// Has the processor fetch the value: the second step, for which the first should be done.
    pub(crate) fn prefetch_value(&self, hash: u64) {
        let shard = self.shard(hash);
        let Some(mask) = shard.index.len().checked_sub(1) else { return };
        // Where it should be is enough: few are elsewhere, and nothing depends on it.
        let entry = shard.index[tag_of(hash) as usize & mask];
        if let Some(slot) =
            (entry as u32).checked_sub(1).and_then(|at| shard.slots.get(at as usize))
        {
            let start = (&raw const *slot).cast::<u8>();
            (0..mem::size_of::<Slot<V>>())
                .step_by(64)
                .for_each(|at| prefetch(start.wrapping_add(at)));
        }
    }

    /// Puts in a value whose memory is `bytes` besides its own size, in place of any that
    /// `matches`.
    pub(crate) fn insert(
        &self,
        hash: u64,
        value: V,
        bytes: usize,
        matches: impl Fn(&V) -> bool,
    ) -> bool {
        self.shard(hash).insert(hash, value, bytes, matches)
    }

    /// Locks the shard that a hash belongs to.
    pub(crate) fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<V>> {
        lock(&self.shards[shard_of(hash)].0)
    }

    /// Calls a function with each shard, locked, one after the other.
    pub(crate) fn for_each_shard(&self, mut call: impl FnMut(&mut Shard<V>)) {
        for shard in &self.shards {
            call(&mut lock(&shard.0));
        }
    }

    /// Returns what was counted.
    pub(crate) fn stats(&self) -> CacheStats {
        let mut total = CacheStats::default();
        self.for_each_shard(|shard| {
            let CacheStats { hits, misses, inserts, evictions, .. } = shard.stats;
            total.hits += hits;
            total.misses += misses;
            total.inserts += inserts;
            total.evictions += evictions;
            total.entries += shard.entries() as u64;
            total.bytes += shard.bytes() as u64;
            total.capacity_bytes += shard.capacity_bytes as u64;
        });
        total
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        self.for_each_shard(|shard| shard.check_invariants());
    }
}

/// Returns the number of the shard that a hash belongs to. The index of the shard uses the upper
/// half of the hash.
pub(crate) fn shard_of(hash: u64) -> usize {
    hash as usize % SHARDS
}

/// One shard: an index of open addressing over slots, which two queues are threaded through.
pub(crate) struct Shard<V> {
    /// Zero if empty, else the upper half of a hash, then one more than the number of a slot. Its
    /// length is a power of two, or zero before the first value.
    index: Vec<u64>,
    slots: Vec<Slot<V>>,
    /// The first of the free slots, which are linked by `older`.
    free: u32,
    small: Queue,
    main: Queue,
    /// Upper halves of hashes that left the small queue unread, each at its place in the index.
    ghosts: Vec<u32>,
    capacity_bytes: usize,
    stats: CacheStats,
    /// Counts what made rows that are on their way into the shard out of date; only the row cache
    /// uses it.
    pub(crate) generation: u64,
}

/// A slot of a row is one cache line, which a hit waits for.
#[repr(align(64))]
struct Slot<V> {
    hash: u64,
    /// `None` if the slot is free.
    value: Option<V>,
    charge: u32,
    older: u32,
    newer: u32,
    frequency: u8,
    is_in_main: bool,
}

#[derive(Clone, Copy)]
struct Queue {
    oldest: u32,
    newest: u32,
    bytes: usize,
}

impl Queue {
    const EMPTY: Queue = Queue { oldest: NONE, newest: NONE, bytes: 0 };
}

impl<V: Clone> Shard<V> {
    /// What is charged for a value on top of its memory: its slot, and its share of an index that
    /// is between three eighths and three quarters full, with the ghosts beside it.
    pub(crate) const ENTRY_BYTES: usize = mem::size_of::<Slot<V>>() + 2 * (8 + 4);

    fn new(capacity_bytes: usize) -> Shard<V> {
        Shard {
            index: Vec::new(),
            slots: Vec::new(),
            free: NONE,
            small: Queue::EMPTY,
            main: Queue::EMPTY,
            ghosts: Vec::new(),
            capacity_bytes,
            stats: CacheStats::default(),
            generation: 0,
        }
    }

    fn bytes(&self) -> usize {
        self.small.bytes + self.main.bytes
    }

    fn entries(&self) -> usize {
        self.index.iter().filter(|&&entry| entry != 0).count()
    }

    pub(crate) fn get(&mut self, hash: u64, matches: impl Fn(&V) -> bool) -> Option<V> {
        let Some((_, at)) = self.find(hash, matches) else {
            self.stats.misses += 1;
            return None;
        };
        self.stats.hits += 1;
        let slot = &mut self.slots[at as usize];
        slot.frequency = (slot.frequency + 1).min(FREQUENCY_MAX);
        slot.value.clone()
    }

    /// Puts in a value; returns false if it is too large.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        value: V,
        bytes: usize,
        matches: impl Fn(&V) -> bool,
    ) -> bool {
        // What is replaced goes first: the new value may be of another size.
        let was_there = self.remove(hash, matches);
        let charge = bytes.saturating_add(Self::ENTRY_BYTES);
        let Some(charge) = u32::try_from(charge).ok().filter(|_| charge <= self.capacity_bytes)
        else {
            return false;
        };
        self.make_room(charge as usize);
        let (tag, is_known) = (tag_of(hash), was_there || self.take_ghost(hash));
        let slot = Slot {
            hash,
            value: Some(value),
            charge,
            older: NONE,
            newer: NONE,
            frequency: 0,
            is_in_main: is_known,
        };
        let at = self.put_slot(slot);
        self.push_newest(at);
        self.grow_index();
        put_in_index(&mut self.index, u64::from(tag) << 32 | u64::from(at + 1));
        self.stats.inserts += 1;
        true
    }

    /// Removes the value that `matches`; returns false if there is none.
    pub(crate) fn remove(&mut self, hash: u64, matches: impl Fn(&V) -> bool) -> bool {
        let found = self.find(hash, matches);
        if let Some((place, at)) = found {
            self.remove_at(place, at);
        }
        found.is_some()
    }

    fn set_capacity(&mut self, capacity_bytes: usize) {
        self.capacity_bytes = capacity_bytes;
        let before = self.bytes();
        self.make_room(0);
        if self.bytes() <= before / 2 {
            self.shrink();
        }
    }

    /// Moves what is left into slots and an index of its size.
    fn shrink(&mut self) {
        let empty = Shard {
            stats: self.stats,
            generation: self.generation,
            ..Shard::new(self.capacity_bytes)
        };
        let mut old = mem::replace(self, empty);
        for queue in [old.small, old.main] {
            let mut next = queue.oldest;
            while let Some(slot) = old.slots.get_mut(next as usize) {
                next = slot.newer;
                let moved = Slot { value: slot.value.take(), older: NONE, newer: NONE, ..*slot };
                let entry = u64::from(tag_of(moved.hash)) << 32;
                let at = self.put_slot(moved);
                self.push_newest(at);
                self.grow_index();
                put_in_index(&mut self.index, entry | u64::from(at + 1));
            }
        }
    }

    /// Returns where the index says so, and the slot.
    fn find(&self, hash: u64, matches: impl Fn(&V) -> bool) -> Option<(usize, u32)> {
        let mask = self.index.len().checked_sub(1)?;
        let tag = tag_of(hash);
        let mut place = tag as usize & mask;
        loop {
            let entry = self.index[place];
            if entry == 0 {
                return None;
            }
            if (entry >> 32) as u32 == tag {
                let at = entry as u32 - 1;
                let slot = &self.slots[at as usize];
                if slot.hash == hash && slot.value.as_ref().is_some_and(&matches) {
                    return Some((place, at));
                }
            }
            place = (place + 1) & mask;
        }
    }

    /// Evicts until there is room for so many bytes.
    fn make_room(&mut self, bytes: usize) {
        while self.bytes() > 0 && self.bytes() + bytes > self.capacity_bytes {
            let is_small = self.small.oldest != NONE
                && (self.main.oldest == NONE
                    || self.small.bytes > self.capacity_bytes / SMALL_DIVISOR);
            let at = if is_small { self.small.oldest } else { self.main.oldest };
            let slot = &mut self.slots[at as usize];
            if slot.frequency > 0 {
                // Another round in the main queue. One that comes from the small queue begins anew.
                let frequency = if is_small { 0 } else { slot.frequency - 1 };
                self.unlink(at);
                let slot = &mut self.slots[at as usize];
                (slot.frequency, slot.is_in_main) = (frequency, true);
                self.push_newest(at);
                continue;
            }
            let hash = slot.hash;
            if is_small {
                let place = self.ghost_place(hash);
                self.ghosts[place] = tag_of(hash);
            }
            let place = self.place_of(hash, at);
            self.remove_at(place, at);
            self.stats.evictions += 1;
        }
    }

    /// Returns where in the index a slot stands that is in use.
    fn place_of(&self, hash: u64, at: u32) -> usize {
        let mask = self.index.len() - 1;
        let mut place = tag_of(hash) as usize & mask;
        while self.index[place] as u32 != at + 1 {
            assert!(self.index[place] != 0, "a slot that is in use is in the index");
            place = (place + 1) & mask;
        }
        place
    }

    fn ghost_place(&self, hash: u64) -> usize {
        tag_of(hash) as usize & (self.ghosts.len() - 1)
    }

    fn take_ghost(&mut self, hash: u64) -> bool {
        if self.ghosts.is_empty() {
            return false;
        }
        let place = self.ghost_place(hash);
        let tag = tag_of(hash);
        tag != 0 && mem::replace(&mut self.ghosts[place], 0) == tag
    }

    fn put_slot(&mut self, slot: Slot<V>) -> u32 {
        let at = self.free;
        match self.slots.get_mut(at as usize) {
            Some(free) => {
                self.free = free.older;
                *free = slot;
                at
            }
            None => {
                let at = self.slots.len() as u32;
                self.slots.push(slot);
                at
            }
        }
    }

    /// Frees a slot and takes it out of the index, closing the gap it leaves there.
    fn remove_at(&mut self, mut gap: usize, at: u32) {
        self.unlink(at);
        let slot = &mut self.slots[at as usize];
        slot.value = None;
        slot.older = mem::replace(&mut self.free, at);
        let mask = self.index.len() - 1;
        let mut place = gap;
        loop {
            place = (place + 1) & mask;
            let entry = self.index[place];
            if entry == 0 {
                break;
            }
            // An entry may move to the gap unless its search begins behind the gap.
            let home = (entry >> 32) as usize & mask;
            if (place.wrapping_sub(home) & mask) >= (place.wrapping_sub(gap) & mask) {
                self.index[gap] = entry;
                gap = place;
            }
        }
        self.index[gap] = 0;
    }

    fn queue(&mut self, is_main: bool) -> &mut Queue {
        if is_main { &mut self.main } else { &mut self.small }
    }

    fn unlink(&mut self, at: u32) {
        let Slot { older, newer, charge, is_in_main, .. } = self.slots[at as usize];
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.queue(is_in_main).oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.queue(is_in_main).newest = older,
        }
        self.queue(is_in_main).bytes -= charge as usize;
    }

    /// Appends a slot to the queue that it says it is in.
    fn push_newest(&mut self, at: u32) {
        let Slot { charge, is_in_main, .. } = self.slots[at as usize];
        let queue = self.queue(is_in_main);
        queue.bytes += charge as usize;
        let older = mem::replace(&mut queue.newest, at);
        if older == NONE {
            queue.oldest = at;
        }
        let slot = &mut self.slots[at as usize];
        (slot.older, slot.newer) = (older, NONE);
        if let Some(slot) = self.slots.get_mut(older as usize) {
            slot.newer = at;
        }
    }

    /// Makes sure that the index stays at most three quarters full.
    fn grow_index(&mut self) {
        if self.slots.len() * 4 <= self.index.len() * 3 {
            return;
        }
        let len = (2 * self.index.len()).max(INDEX_LEN_MIN);
        let old = mem::replace(&mut self.index, vec![0; len]);
        old.into_iter().filter(|&entry| entry != 0).for_each(|entry| {
            put_in_index(&mut self.index, entry);
        });
        // The ghosts are forgotten: they matter when the cache is full, and then it grows no more.
        self.ghosts = vec![0; len];
    }

    #[cfg(test)]
    fn check_invariants(&self) {
        let mut linked = 0;
        for (queue, is_main) in [(self.small, false), (self.main, true)] {
            let (mut at, mut older, mut bytes) = (queue.oldest, NONE, 0);
            while let Some(slot) = self.slots.get(at as usize) {
                assert_eq!((slot.older, slot.is_in_main), (older, is_main));
                assert!(slot.value.is_some());
                self.place_of(slot.hash, at);
                bytes += slot.charge as usize;
                linked += 1;
                (older, at) = (at, slot.newer);
            }
            assert_eq!((queue.newest, queue.bytes), (older, bytes));
        }
        assert_eq!(linked, self.entries());
        assert_eq!(linked, self.slots.iter().filter(|slot| slot.value.is_some()).count());
        assert!(self.bytes() <= self.capacity_bytes);
    }
}

fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn put_in_index(index: &mut [u64], entry: u64) {
    let mask = index.len() - 1;
    let mut place = (entry >> 32) as usize & mask;
    while index[place] != 0 {
        place = (place + 1) & mask;
    }
    index[place] = entry;
}

#[cfg(all(test, not(shuttle)))]
mod tests;

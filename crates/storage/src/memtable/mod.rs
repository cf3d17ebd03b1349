//! The memtable: every version of every key, in memory, found by hash or in order, read without
//! locks while several threads write.
//!
//! ```text
//!    hash index                    ordered index
//!    [ | | |e| | | ]               (k1) (k2) (k3) ...
//!           |                             |
//!           '----------> entry k2 <-------'            one entry per key
//!                          |
//!                          v
//!                      version @9 -> version @7 -> version @4      newest first
//! ```
//!
//! A point read is a probe of the hash index and a step or two along the chain; a scan walks the
//! ordered index (`tree/`). Both read at a timestamp, through a [`Pin`].
//!
//! # What a pin protects, and from whom
//! Two things end the life of a version, and each is held back by one half of a pin.
//!
//! **Trimming** is about timestamps. The *watermark* is the smaller of the floor (which the engine
//! raises) and the oldest pinned timestamp. In every chain, the newest version at or below the
//! watermark is the oldest that anybody may ask for; what lies behind it is cut off. A key whose
//! only remaining version is a tombstone at or below the watermark is removed.
//!
//! ```text
//!   floor 7, pins at 6 and 8: the watermark is 6           (vN: a value, TN: a tombstone)
//!
//!      ts   1    2    3    4    5    6    7    8    9
//!                                    |
//!   key a   v1        v3             v6        v8         v1 and v3 are cut: 6 reads v6
//!   key b        v2                  |    v7              v2 stays: 6 reads it
//!   key c             v3   T4        |                    removed: 6 and all later read nothing
//!   key d   v1                       T6   v7              v1 is cut; T6 goes when v7 is passed
//! ```
//!
//! **Freeing** is about epochs. Whatever is cut, removed or replaced (versions, entries, hash
//! arrays, tree nodes) is first made unreachable and then waits until every pin that was held at
//! that moment is gone (`reclaim.rs`, `pins.rs`). So it does not matter *what* a thread looks at
//! while it is pinned: a version of any timestamp, a copy of a leaf made long ago, an array that
//! was outgrown. Timestamps alone would do for readers that stop at their version; they would not
//! do for a writer that inserts out of order while a reader has the pointer behind it, nor for
//! entries and nodes. The epoch keeps all of that out of the argument: memory safety never depends
//! on how the engine chooses timestamps.
//!
//! Why nobody is overlooked by either is argued in `pins.rs`.
//!
//! # How a key comes and goes
//! * A new entry is locked when it enters the hash index, and unlocked when it is in the ordered
//!   one. A second writer of the key finds it and waits on that lock, so that *its* insert cannot
//!   return before a scan would see the key.
//! * An entry that has something to collect, a second version or a tombstone, is in the
//!   collector's queue, exactly once. Only the collector removes entries: it marks the entry dead
//!   under its lock, takes it out of both indexes, and retires it. A writer that finds a dead entry
//!   puts a new one in its place; the collector removes an entry only where it still finds that
//!   one.
//! * Readers that meet a dead entry find its tombstone, which is the truth.
//!
//! # Invariants
//! * An entry is in the hash index if and only if it is in the ordered index, between calls.
//! * A key that has more than one version, or a tombstone for its newest, is queued.
//! * Every version visible at or above the watermark is in its chain.
//! * `check_invariants` asserts these, and those of the parts.
//!
//! # Not here
//! Durability, conflicts, visibility: the engine decides which timestamps exist and in what order
//! they become visible. It must not make a timestamp visible before all its inserts returned.
//! Flushing to tables: later, by [`Pin::versions`].

mod arena;
mod collect;
mod cursor;
mod entry;
mod hash;
mod hash_index;
mod link;
mod load;
mod pin;
mod pins;
mod reclaim;
mod sync;
mod tree;

#[cfg(all(test, not(shuttle)))]
mod tests;
#[cfg(all(test, shuttle))]
mod tests_shuttle;

use std::sync::Arc;

use base::Timestamp;
use thiserror::Error;

pub use self::collect::Collected;
pub use self::cursor::Cursor;
pub(crate) use self::link::prefetch;
pub use self::load::{BulkLoad, Replay};
pub use self::pin::{Direction, Found, History, Holder, Pin, Row, Scan, Version, Versions};
pub(crate) use self::pins::{Pins, Registration};

use self::collect::Queue;
use self::entry::{EntryRef, VersionRef};
use self::hash_index::{HashIndex, Inserted};
use self::link::Guard;
use self::reclaim::{Memory, Retired};
use self::tree::{Finger, Outcome, Tree};
use crate::Value;

/// A writer looks this far along the chain for what it may trim. It finds what the last writes of
/// a hot key left behind; the collector finds the rest.
const TRIM_STEPS: usize = 4;

/// The timestamp asked for lies below the floor: its versions may be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("timestamp {asked} is no longer readable: the oldest is {floor}")]
pub struct TooOld {
    /// The timestamp asked for.
    pub asked: Timestamp,
    /// The oldest timestamp that can still be read.
    pub floor: Timestamp,
}

/// What becomes of a tombstone that no reader can look behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tombstones {
    /// It goes, and its key with it: this table holds all there is.
    Dropped,
    /// It stays, because it hides versions of its key in tables below this one.
    Kept,
}

/// One table of versions. `Send + Sync`; shared by reference or in an `Arc`.
pub struct Memtable {
    seed: u64,
    /// Whether a tombstone that nobody can look behind still has to stay.
    tombstones: Tombstones,
    hash: HashIndex,
    tree: Tree,
    queue: Queue,
    memory: Memory,
}

impl Memtable {
    /// Returns an empty table. `seed` keys its hash function, so that nobody outside can choose
    /// keys that collide; equal seeds give equal behaviour.
    pub fn new(seed: u64, tombstones: Tombstones) -> Memtable {
        // Where whole keys go, their memory should go with them; where they stay until the table
        // does, it goes with the table.
        Memtable::with_memory(seed, tombstones, Memory::new(tombstones == Tombstones::Kept))
    }

    /// Returns an empty table whose keys go, and leave idle blocks: all that can happen to memory.
    #[cfg(all(test, not(shuttle)))]
    fn in_chunks(seed: u64) -> Memtable {
        Memtable::with_memory(seed, Tombstones::Dropped, Memory::new(true))
    }

    fn with_memory(seed: u64, tombstones: Tombstones, memory: Memory) -> Memtable {
        let guard = Guard::alone();
        Memtable {
            seed,
            tombstones,
            hash: HashIndex::new(&guard),
            tree: Tree::new(&guard),
            queue: Queue::default(),
            memory,
        }
    }

    /// Registers a reader at `ts`.
    ///
    /// # Errors
    /// [`TooOld`] if the floor has passed `ts`.
    pub fn pin(&self, ts: Timestamp) -> Result<Pin<&Memtable>, TooOld> {
        Pin::new(self, ts)
    }

    /// As [`Memtable::pin`], for a pin that owns a share of the table.
    ///
    /// # Errors
    /// [`TooOld`] if the floor has passed `ts`.
    pub fn pin_owned(self: &Arc<Self>, ts: Timestamp) -> Result<Pin<Arc<Memtable>>, TooOld> {
        Pin::new(Arc::clone(self), ts)
    }

    /// Registers a reader at the newest visible timestamp; asks `visible` again whenever the floor
    /// overtook it in between. If `visible` lies below the floor for good, reads at the floor.
    pub fn pin_newest(&self, visible: impl Fn() -> Timestamp) -> Pin<&Memtable> {
        Pin::new_at_newest(self, visible)
    }

    /// As [`Memtable::pin_newest`], for a pin that owns a share of the table.
    pub fn pin_newest_owned(
        self: &Arc<Self>,
        visible: impl Fn() -> Timestamp,
    ) -> Pin<Arc<Memtable>> {
        Pin::new_at_newest(Arc::clone(self), visible)
    }

    /// Registers a reader at `ts` that holds back no timestamp: whoever calls has seen to it that
    /// the floor does not pass `ts` meanwhile. Costs the same as a pin and never fails.
    pub fn pin_reader(&self, ts: Timestamp) -> Pin<&Memtable> {
        Pin::new_reader(self, ts)
    }

    /// Registers a writer: protects memory and holds back no timestamp. Its reads see whatever
    /// version is newest at that moment.
    pub fn pin_writer(&self) -> Pin<&Memtable> {
        Pin::new_at_newest(self, || Timestamp::MAX)
    }

    /// Raises the floor: from now on no pin below `ts` is granted. Never lowers it. Inserts trim by
    /// the watermark that was current at the last call of this or of [`Memtable::collect`].
    pub fn raise_floor(&self, ts: Timestamp) {
        self.memory.pins.raise_floor(ts);
        self.memory.pins.watermark();
    }

    /// Returns the floor.
    pub fn floor(&self) -> Timestamp {
        self.memory.pins.floor()
    }

    /// Computes the watermark: the smaller of the floor and the oldest pinned timestamp. No version
    /// visible at or above it is ever trimmed.
    pub fn watermark(&self) -> Timestamp {
        self.memory.pins.watermark()
    }

    /// Trims all chains below the watermark, removes keys whose newest version is a tombstone
    /// below it, and frees what no pin can reach. Costs what there is to collect, not what there
    /// is. Runs beside readers and writers.
    pub fn collect(&self) -> Collected {
        let mut collected = Collected::default();
        self.collect_queued(&mut collected, &self.pin_writer());
        (collected.freed, collected.waiting) = self.memory.flush();
        collected
    }

    /// Returns the number of keys held, deleted ones that are not collected yet included.
    pub fn len(&self) -> usize {
        self.memory.counters.keys()
    }

    /// Returns true if there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes held by entries, versions and indexes, without the allocator's overhead.
    pub fn memory_bytes(&self) -> usize {
        self.memory.counters.bytes()
            + self.memory.arena.idle_bytes()
            + self.hash.bytes(self.pin_writer().guard())
    }

    /// Starts loading an empty table with keys in rising order (recovery from a checkpoint).
    ///
    /// # Panics
    /// If the table is not empty.
    pub fn bulk_load(&mut self, keys_expected: usize) -> BulkLoad<'_> {
        BulkLoad::new(self, keys_expected)
    }

    /// Starts replaying a log: inserts in any order of keys; new keys enter the ordered index all
    /// at once when the replay is finished.
    pub fn replay(self) -> Replay {
        Replay::new(self)
    }

    /// Checks every invariant of the structure.
    ///
    /// # Panics
    /// With a sentence, if one does not hold.
    pub fn check_invariants(&mut self) {
        let pin = self.pin_writer();
        let guard = pin.guard();
        self.tree.check_invariants(guard);
        let ordered = self.tree.entries(guard);
        assert_eq!(ordered.len(), self.hash.entries(guard).count(), "the indexes disagree");
        assert_eq!(ordered.len(), self.len(), "the number of keys is wrong");
        let mut queued = 0;
        for entry in ordered {
            let found = self.hash.find(self.hash_of(entry.key()), entry.key(), guard);
            assert!(found.is_some_and(|found| found.is(entry)), "a key is not in the hash index");
            let head = entry.head();
            let collectable = self.is_collectable_tombstone(head) || head.next().is_some();
            assert!(!collectable || entry.is_queued(), "garbage that nobody knows of");
            queued += usize::from(entry.is_queued());
            let mut version = head;
            while let Some(older) = version.next() {
                assert!(older.ts() < version.ts(), "a chain is out of order");
                version = older;
            }
        }
        assert_eq!(queued, self.queue.len(), "the queue does not hold what is marked as queued");
    }

    fn hash_of(&self, key: &[u8]) -> u64 {
        hash::hash(self.seed, key)
    }

    /// Adds a version; `index` puts a new entry into the ordered index, or sees to it later.
    fn put<'g>(
        &self,
        key: &[u8],
        ts: Timestamp,
        value: Value<'_>,
        guard: &'g Guard,
        index: impl FnOnce(EntryRef<'g>),
    ) -> bool {
        self.put_hashed(self.hash_of(key), key, ts, value, guard, index)
    }

    /// As [`Memtable::put`], with the key's hash.
    fn put_hashed<'g>(
        &self,
        hash: u64,
        key: &[u8],
        ts: Timestamp,
        value: Value<'_>,
        guard: &'g Guard,
        index: impl FnOnce(EntryRef<'g>),
    ) -> bool {
        let mut found = self.hash.find(hash, key, guard);
        loop {
            if let Some(entry) = found
                && let Some(added) = self.add_version(entry, ts, value, guard)
            {
                return added;
            }
            // There is no entry, or it died.
            let entry = self.new_entry(key, ts, value, guard);
            let lock = entry.lock();
            match self.insert_hash(hash, entry, guard) {
                Inserted::New => {
                    index(entry);
                    drop(lock);
                    self.memory.counters.add(1, 0);
                    self.queue_tombstone(entry);
                    return true;
                }
                Inserted::Existing(existing) => {
                    // Somebody was faster.
                    drop(lock);
                    self.discard(entry);
                    found = Some(existing);
                }
            }
        }
    }

    /// Puts a new entry into the ordered index.
    fn index<'g>(&self, entry: EntryRef<'_>, finger: &mut Finger<'g>, guard: &'g Guard) {
        self.apply(self.tree.insert(entry, finger, guard));
    }

    /// Counts and retires what a change of the tree left.
    fn apply(&self, outcome: Outcome) {
        if outcome.bytes > 0 {
            self.memory.counters.add(0, outcome.bytes as isize);
        }
        outcome.retired.into_iter().for_each(|item| self.memory.retire(item));
    }

    /// Makes room in the hash index.
    pub(crate) fn reserve(&self, keys: usize) {
        let pin = self.pin_writer();
        let outgrown = self.hash.reserve(keys, pin.guard(), |key| self.hash_of(key));
        outgrown.into_iter().for_each(|slots| self.memory.retire(slots));
    }

    fn insert_hash<'g>(&self, hash: u64, entry: EntryRef<'g>, guard: &'g Guard) -> Inserted<'g> {
        let (inserted, outgrown) = self.hash.insert(hash, entry, guard, |key| self.hash_of(key));
        if let Some(outgrown) = outgrown {
            self.memory.retire(outgrown);
        }
        inserted
    }

    /// Returns true for a tombstone that will be garbage once nobody can look behind it.
    fn is_collectable_tombstone(&self, version: VersionRef<'_>) -> bool {
        self.tombstones == Tombstones::Dropped && version.is_tombstone()
    }

    /// Queues a new entry whose only version is a tombstone.
    fn queue_tombstone(&self, entry: EntryRef<'_>) {
        if self.tombstones == Tombstones::Kept {
            return;
        }
        let lock = entry.lock();
        let head = entry.head();
        // Somebody may have queued it already, for a second version.
        if self.is_collectable_tombstone(head) && !entry.is_queued() {
            entry.set_queued(true, &lock);
            drop(lock);
            self.queue.push(head.ts(), entry);
        }
    }

    fn new_entry<'g>(
        &self,
        key: &[u8],
        ts: Timestamp,
        value: Value<'_>,
        guard: &'g Guard,
    ) -> EntryRef<'g> {
        let entry = EntryRef::new(&self.memory.arena, key, ts, value, guard);
        self.memory.counters.add(0, (entry.bytes() + entry.head().bytes()) as isize);
        entry
    }

    /// Frees an entry that was never reachable.
    fn discard(&self, entry: EntryRef<'_>) {
        let version = entry.head();
        if let Some(version) = Retired::version(version) {
            self.memory.retire(version);
        }
        self.memory.retire(Retired::entry(entry));
    }

    /// Adds a version to an entry. Returns `None` if the entry is dead.
    fn add_version<'g>(
        &self,
        entry: EntryRef<'g>,
        ts: Timestamp,
        value: Value<'_>,
        guard: &'g Guard,
    ) -> Option<bool> {
        // Allocated before the lock, which is then held for a few instructions.
        let version = VersionRef::new(&self.memory.arena, ts, value, guard);
        self.memory.counters.add(0, version.bytes() as isize);
        let lock = entry.lock();
        let dead = entry.is_dead();
        if dead || !entry.link(version, &lock) {
            drop(lock);
            if let Some(version) = Retired::version(version) {
                self.memory.retire(version);
            }
            return (!dead).then_some(false);
        }
        if entry.is_queued() {
            let tail = self.trim(entry, TRIM_STEPS, self.memory.pins.cached_watermark(), &lock);
            drop(lock);
            self.retire_tail(tail);
        } else {
            // The chain had one version, so there is nothing to trim before the watermark reaches
            // the newer of the two.
            entry.set_queued(true, &lock);
            let due = entry.head().ts();
            drop(lock);
            self.queue.push(due, entry);
        }
        Some(true)
    }
}

impl std::fmt::Debug for Memtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memtable")
            .field("keys", &self.len())
            .field("bytes", &self.memory_bytes())
            .field("floor", &self.floor())
            .finish()
    }
}

//! A leaf of the ordered index: up to 64 entries in key order, read without locks.
//!
//! ```text
//!   low fence <= every key < high fence                    next leaf: its low is our high
//!   +---------+------+-------+--------+-----------------+
//!   | version | lock | count | fences | next            |
//!   +---------+------+-------+--------+-----------------+
//!   | heads:  8 bytes of each key after the common prefix, big-endian |   compared first
//!   | slots:  the entries                                             |   followed on ties only
//!   +-----------------------------------------------------------------+
//! ```
//!
//! A writer holds the lock and makes `version` odd while it changes anything; a reader notes an
//! even version, reads what it wants, and begins again if the version is another by then. All
//! that is read that way is atomic, with acquiring loads and releasing stores: a reader that sees
//! one store of a change also sees that the version was made odd before.
//!
//! A slot that falls free is cleared. So what a slot holds is in the index at some time after the
//! reader was pinned, and may be followed even before the version is checked again.
//!
//! # Invariants
//! * `low` and `high` share their first `prefix_len` bytes; so do all keys between them.
//! * Heads rise, and agree with the keys. Slots at and beyond `count` are empty.
//! * A dead leaf is empty, and its `next` leads to the leaf that took its range, or to a dead one
//!   on the way there.

use std::cmp::Ordering as Compare;

use super::super::entry::{EntryCell, EntryRef, Tagged};
use super::super::link::{Guard, Link, Shared, prefetch};
use super::super::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering, spin_loop};

/// Entries of a leaf. 64 keep a search within three lines of heads, and a split a rare thing.
pub(in crate::memtable) const LEAF_SLOTS: usize = if cfg!(any(test, shuttle)) { 8 } else { 64 };

/// Words of the high fence kept in the leaf: enough for a keyspace and a key of 16 bytes, so that
/// passing through costs no look at the fence itself.
const HIGH_WORDS: usize = 3;

/// `high_len` of the last leaf.
const NO_HIGH: u32 = u32::MAX;

/// Heads are made anew for a longer common prefix only when it is longer by this much. Until then
/// they hold enough of the key, and making them means touching every entry.
const PREFIX_GAIN_MIN: usize = 4;

/// Spins before a reader waits for the writer's lock instead.
const SPINS_MAX: u32 = 32;

/// A fence: the bytes of a separator, shared by the two leaves it stands between. It belongs to
/// the right one.
pub(in crate::memtable) struct Fence(pub(super) Box<[u8]>);

pub(in crate::memtable) struct Leaf {
    version: AtomicU64,
    pub(super) lock: Mutex<()>,
    dead: AtomicBool,
    count: AtomicU32,
    prefix_len: AtomicU32,
    high_len: AtomicU32,
    high_words: [AtomicU64; HIGH_WORDS],
    low: Link<Fence>,
    high: Link<Fence>,
    pub(super) next: Link<Leaf>,
    heads: [AtomicU64; LEAF_SLOTS],
    slots: [EntryCell; LEAF_SLOTS],
}

/// Returns eight bytes of a key from `at` on, as a number that compares as they do. Bytes beyond
/// the end count as zeros.
pub(super) fn head_of(key: &[u8], at: usize) -> u64 {
    let rest = key.get(at..).unwrap_or_default();
    if let Some(chunk) = rest.first_chunk() {
        return u64::from_be_bytes(*chunk);
    }
    let mut padded = [0; 8];
    padded[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(padded)
}

/// Returns how many bytes two keys have in common from the start.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Where a key stands in a leaf.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The first slot whose key is not below it.
    pub(super) at: usize,
    /// That slot has the key itself.
    pub(super) found: bool,
}

/// Makes the version odd while it lives.
struct Change<'a>(&'a AtomicU64);

impl<'a> Change<'a> {
    fn begin(leaf: &'a Leaf) -> Change<'a> {
        let version = leaf.version.load(Ordering::Relaxed);
        leaf.version.store(version + 1, Ordering::Release);
        Change(&leaf.version)
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

impl Leaf {
    /// Returns an empty leaf for `low..high`.
    pub(super) fn new(
        low: Shared<'_, Fence>,
        high: Option<Shared<'_, Fence>>,
        next: Option<Shared<'_, Leaf>>,
    ) -> Leaf {
        let prefix = high.map_or(0, |high| common_prefix(&low.0, &high.0));
        let leaf = Leaf {
            version: AtomicU64::new(0),
            lock: Mutex::new(()),
            dead: AtomicBool::new(false),
            count: AtomicU32::new(0),
            prefix_len: AtomicU32::new(prefix as u32),
            high_len: AtomicU32::new(NO_HIGH),
            high_words: [const { AtomicU64::new(0) }; HIGH_WORDS],
            low: Link::to(low),
            high: Link::none(),
            next: Link::new(next),
            heads: [const { AtomicU64::new(0) }; LEAF_SLOTS],
            slots: [const { EntryCell::empty() }; LEAF_SLOTS],
        };
        leaf.set_high(high);
        leaf
    }

    // What follows reads. Without the lock, it must be inside `read`, or stand a stale answer.

    /// Runs `f` until no writer interfered with it.
    pub(super) fn read<T>(&self, mut f: impl FnMut() -> T) -> T {
        let mut spins = 0;
        loop {
            let before = self.version.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let value = f();
                if self.version.load(Ordering::Relaxed) == before {
                    return value;
                }
            }
            spins += 1;
            if spins < SPINS_MAX {
                spin_loop();
            } else {
                // The writer may have lost its processor.
                drop(self.lock.lock());
            }
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    pub(super) fn count(&self) -> usize {
        // A count that a reader sees too early may not lead it beyond the array.
        (self.count.load(Ordering::Acquire) as usize).min(LEAF_SLOTS)
    }

    pub(super) fn entry<'g>(&self, at: usize, guard: &'g Guard) -> Option<EntryRef<'g>> {
        self.slots[at].load(guard).entry()
    }

    pub(super) fn low<'g>(&self, guard: &'g Guard) -> Shared<'g, Fence> {
        self.low.load(guard).expect("every leaf has a low fence")
    }

    pub(super) fn high<'g>(&self, guard: &'g Guard) -> Option<Shared<'g, Fence>> {
        self.high.load(guard)
    }

    /// Compares the high fence with a key. The last leaf's is greater than any.
    pub(super) fn high_cmp(&self, key: &[u8], guard: &Guard) -> Compare {
        let len = self.high_len.load(Ordering::Acquire);
        if len == NO_HIGH {
            return Compare::Greater;
        }
        for (word, high) in self.high_words.iter().enumerate() {
            let order = high.load(Ordering::Acquire).cmp(&head_of(key, 8 * word));
            if order.is_ne() {
                return order;
            }
        }
        if len as usize <= 8 * HIGH_WORDS && key.len() <= 8 * HIGH_WORDS {
            // Equal up to the padding: the shorter one is less.
            return (len as usize).cmp(&key.len());
        }
        self.high(guard).map_or(Compare::Greater, |high| high.0[..].cmp(key))
    }

    /// Finds the place of a key between the fences.
    pub(super) fn place(&self, key: &[u8], guard: &Guard) -> Place {
        let count = self.count();
        let head = head_of(key, self.prefix_len.load(Ordering::Acquire) as usize);
        let mut at = partition(0, count, |at| self.heads[at].load(Ordering::Acquire) < head);
        let tie = |at: usize| at < count && self.heads[at].load(Ordering::Acquire) == head;
        if !tie(at) {
            return Place { at, found: false };
        }
        let below = |at: usize| self.entry(at, guard).is_some_and(|entry| entry.key() < key);
        if tie(at + 1) {
            let ties = partition(at, count, |at| self.heads[at].load(Ordering::Acquire) == head);
            at = partition(at, ties, below);
        } else if below(at) {
            at += 1;
        }
        let found = tie(at) && self.entry(at, guard).is_some_and(|entry| entry.key() == key);
        Place { at, found }
    }

    /// Fetches the lines that a search in the leaf may touch, which would wait for each other
    /// otherwise.
    pub(super) fn prefetch_heads(&self) {
        prefetch(self);
        for head in self.heads.iter().step_by(8) {
            prefetch(head);
        }
    }

    /// Fetches the lines that a walk over the leaf touches.
    pub(super) fn prefetch_slots(&self) {
        prefetch(self);
        for slot in self.slots.iter().step_by(8) {
            prefetch(slot);
        }
    }

    // What follows changes the leaf. The caller holds the lock, or nobody else knows the leaf.

    /// Puts an entry at its place.
    pub(super) fn insert(&self, at: usize, entry: EntryRef<'_>) {
        let _change = Change::begin(self);
        let count = self.count();
        for from in (at..count).rev() {
            self.move_slot(from, self, from + 1);
        }
        self.set(at, entry);
        self.count.store(count as u32 + 1, Ordering::Release);
    }

    /// Replaces the entry in a slot by another with the same key.
    pub(super) fn replace(&self, at: usize, entry: EntryRef<'_>) {
        let _change = Change::begin(self);
        self.set(at, entry);
    }

    /// Takes the entry out of a slot.
    pub(super) fn remove(&self, at: usize) {
        let _change = Change::begin(self);
        let count = self.count();
        for from in at + 1..count {
            self.move_slot(from, self, from - 1);
        }
        self.slots[count - 1].store(Tagged::empty());
        self.count.store(count as u32 - 1, Ordering::Release);
    }

    /// Moves the entries from `at` on to a new leaf that begins at `separator`, and returns it.
    pub(super) fn split<'g>(
        &self,
        at: usize,
        separator: Shared<'g, Fence>,
        guard: &'g Guard,
    ) -> Shared<'g, Leaf> {
        let _change = Change::begin(self);
        let right = Leaf::new(separator, self.high(guard), self.next.load(guard));
        let count = self.count();
        // Keep our prefix if it is nearly as good: then the heads can be moved as they are.
        let prefix = self.prefix_len.load(Ordering::Relaxed);
        let better = right.prefix_len.load(Ordering::Relaxed);
        let keep = (better as usize) < prefix as usize + PREFIX_GAIN_MIN;
        if keep {
            right.prefix_len.store(prefix, Ordering::Release);
        }
        for from in at..count {
            self.move_slot(from, &right, from - at);
            self.slots[from].store(Tagged::empty());
        }
        right.count.store((count - at) as u32, Ordering::Release);
        if !keep {
            right.make_heads(guard);
        }
        let right = Shared::new(right, guard);
        self.count.store(at as u32, Ordering::Release);
        self.set_high(Some(separator));
        self.next.store(Some(right));
        let better = common_prefix(&self.low(guard).0, &separator.0);
        if better >= prefix as usize + PREFIX_GAIN_MIN {
            self.prefix_len.store(better as u32, Ordering::Release);
            self.make_heads(guard);
        }
        right
    }

    /// Moves all entries to the next leaf, which takes over the range, and dies. Returns the fence
    /// that falls away. Both leaves are locked.
    pub(super) fn merge_into<'g>(&self, right: &Leaf, guard: &'g Guard) -> Shared<'g, Fence> {
        // The right leaf is complete before this one is seen dead: a reader that goes on from here
        // finds there what was here.
        let _change = Change::begin(self);
        let gone = right.low(guard);
        {
            let _change = Change::begin(right);
            let (left_count, right_count) = (self.count(), right.count());
            for from in (0..right_count).rev() {
                right.move_slot(from, right, from + left_count);
            }
            for from in 0..left_count {
                self.move_slot(from, right, from);
                self.slots[from].store(Tagged::empty());
            }
            right.count.store((left_count + right_count) as u32, Ordering::Release);
            let low = self.low(guard);
            right.low.store(Some(low));
            let prefix = right.high(guard).map_or(0, |high| common_prefix(&low.0, &high.0));
            right.prefix_len.store(prefix as u32, Ordering::Release);
            right.make_heads(guard);
        }
        self.count.store(0, Ordering::Release);
        self.dead.store(true, Ordering::Release);
        gone
    }

    /// Fills a leaf that nobody else knows.
    pub(super) fn fill(&self, entries: &[EntryRef<'_>], guard: &Guard) {
        let _change = Change::begin(self);
        for (at, entry) in entries.iter().enumerate() {
            self.set(at, *entry);
        }
        for at in entries.len()..self.count() {
            self.slots[at].store(Tagged::empty());
        }
        self.count.store(entries.len() as u32, Ordering::Release);
        debug_assert!(self.count() == entries.len() && self.low(guard).0.len() < usize::MAX);
    }

    /// Sets the high fence, and the prefix if it gets shorter by that.
    pub(super) fn set_high(&self, high: Option<Shared<'_, Fence>>) {
        let len = high.map_or(NO_HIGH, |high| high.0.len() as u32);
        for (word, cell) in self.high_words.iter().enumerate() {
            cell.store(high.map_or(0, |high| head_of(&high.0, 8 * word)), Ordering::Release);
        }
        self.high.store(high);
        self.high_len.store(len, Ordering::Release);
    }

    fn set(&self, at: usize, entry: EntryRef<'_>) {
        let prefix = self.prefix_len.load(Ordering::Relaxed) as usize;
        self.heads[at].store(head_of(entry.key(), prefix), Ordering::Release);
        self.slots[at].store(Tagged::new(entry, 0));
    }

    fn move_slot(&self, from: usize, target: &Leaf, to: usize) {
        // Only the lock's owner writes, so that relaxed loads see the newest.
        let head = self.heads[from].load(Ordering::Relaxed);
        target.heads[to].store(head, Ordering::Release);
        target.slots[to].copy_from(&self.slots[from]);
    }

    fn make_heads(&self, guard: &Guard) {
        for at in 0..self.count() {
            if let Some(entry) = self.entry(at, guard) {
                self.set(at, entry);
            }
        }
    }

    /// Checks the leaf against its own fences.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub(super) fn check_invariants(&self, guard: &Guard) {
        let count = self.count();
        let prefix = self.prefix_len.load(Ordering::Relaxed) as usize;
        let low = self.low(guard);
        assert!(self.version.load(Ordering::Relaxed).is_multiple_of(2), "a change never ended");
        assert!(!self.is_dead(), "a dead leaf is still linked");
        if let Some(high) = self.high(guard) {
            assert!(low.0 < high.0, "the fences of a leaf are out of order");
            assert!(prefix <= common_prefix(&low.0, &high.0), "a prefix is too long");
            assert!(self.high_cmp(&high.0, guard).is_eq(), "the words of a fence are wrong");
        } else {
            assert_eq!(prefix, 0, "the last leaf can have no prefix");
        }
        let mut last: Option<&[u8]> = None;
        for at in 0..count {
            let entry = self.entry(at, guard).expect("a slot below the count is empty");
            let key = entry.key();
            assert!(!entry.is_dead(), "a dead entry is still in the ordered index");
            assert!(last.is_none_or(|last| last < key), "keys are out of order");
            assert!(*key >= *low.0, "a key lies below its leaf");
            assert!(self.high_cmp(key, guard).is_gt(), "a key lies above its leaf");
            let head = self.heads[at].load(Ordering::Relaxed);
            assert_eq!(head, head_of(key, prefix), "a head does not agree with its key");
            last = Some(key);
        }
        for slot in &self.slots[count..] {
            assert!(slot.load(guard).is_empty(), "a free slot was not cleared");
        }
    }
}

/// Returns the first place in `start..end` for which `below` does not hold.
pub(super) fn partition(mut start: usize, mut end: usize, below: impl Fn(usize) -> bool) -> usize {
    while start < end {
        let middle = start.midpoint(end);
        if below(middle) {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    start
}

#![expect(unsafe_code, reason = "frees what was unlinked")]
//! What was unlinked waits here until no pin can hold it.
//!
//! ```text
//!   retire ---> stripes (by thread) ---> limbo: batches tagged with the epoch they closed -> free
//!                  unlinked, untagged              once every pin began in a later epoch
//! ```
//!
//! The argument for why a batch may be freed is in `pins.rs`. One thing it needs from here: an
//! item is in its stripe *before* the epoch that tags it ends, so that ending the epoch releases
//! the unlinking. Taking the stripe's lock gives that order.

use std::collections::VecDeque;
use std::ptr::NonNull;

use super::Memtable;
use super::arena::Arena;
use super::entry::{EntryHeader, EntryRef, VersionHeader, VersionRef};
use super::hash_index::Slots;
use super::link::{self, Guard, Shared};
use super::pins::Pins;
use super::sync::{Counters, Mutex, Padded, STRIPES, thread_number};
use super::tree::{Fence, Inner, Leaf};

/// A stripe this full is tagged and freed by the thread that filled it, so that memory stays
/// bounded even if nobody collects. Large enough that looking at every pin costs little per item.
const STRIPE_ITEMS_MAX: usize = if cfg!(any(test, shuttle)) { 4 } else { 1024 };

/// Something unlinked.
pub(super) enum Retired {
    Entry(NonNull<EntryHeader>, usize),
    Version(NonNull<VersionHeader>, usize),
    Slots(NonNull<Slots>),
    Leaf(NonNull<Leaf>),
    Inner(NonNull<Inner>),
    Fence(NonNull<Fence>),
}

// SAFETY: it is the only way left to what it points to, which any thread may free.
unsafe impl Send for Retired {}

impl Retired {
    pub(super) fn entry(entry: EntryRef<'_>) -> Retired {
        Retired::Entry(entry.as_ptr(), entry.bytes())
    }

    /// Returns `None` for an embedded version, which goes with its entry.
    pub(super) fn version(version: VersionRef<'_>) -> Option<Retired> {
        (!version.is_embedded()).then(|| Retired::Version(version.as_ptr(), version.bytes()))
    }

    pub(super) fn slots(slots: Shared<'_, Slots>) -> Retired {
        Retired::Slots(slots.as_ptr())
    }

    pub(super) fn leaf(leaf: Shared<'_, Leaf>) -> Retired {
        Retired::Leaf(leaf.as_ptr())
    }

    pub(super) fn inner(inner: Shared<'_, Inner>) -> Retired {
        Retired::Inner(inner.as_ptr())
    }

    pub(super) fn fence(fence: Shared<'_, Fence>) -> Retired {
        Retired::Fence(fence.as_ptr())
    }

    /// Returns the bytes that were counted when it was made.
    fn bytes(&self) -> usize {
        match self {
            Retired::Entry(_, bytes) | Retired::Version(_, bytes) => *bytes,
            Retired::Leaf(_) => size_of::<Leaf>(),
            Retired::Inner(_) => size_of::<Inner>(),
            // Counted where they stand.
            Retired::Slots(_) | Retired::Fence(_) => 0,
        }
    }

    /// Frees it.
    ///
    /// # Safety
    /// It is of this arena if it lives in one, nothing leads to it, and every pin that was held
    /// when it was unlinked is gone.
    pub(super) unsafe fn free(self, arena: &Arena) {
        // SAFETY: exactly what each of these asks for.
        unsafe {
            match self {
                Retired::Entry(entry, _) => EntryRef::free(entry, arena),
                Retired::Version(version, _) => VersionRef::free(version, arena),
                Retired::Slots(slots) => link::free(slots),
                Retired::Leaf(leaf) => link::free(leaf),
                Retired::Inner(inner) => link::free(inner),
                Retired::Fence(fence) => link::free(fence),
            }
        }
    }
}

/// The memory of a table: who may still read what, what waits to be freed, and how much there is.
pub(super) struct Memory {
    pub(super) pins: Pins,
    pub(super) counters: Counters,
    pub(super) arena: Arena,
    stripes: [Padded<Mutex<Vec<Retired>>>; STRIPES],
    limbo: Mutex<VecDeque<(u64, Vec<Retired>)>>,
}

impl Memory {
    /// `is_chunked` is the arena's.
    pub(super) fn new(is_chunked: bool) -> Memory {
        Memory {
            pins: Pins::new(),
            counters: Counters::default(),
            arena: Arena::new(is_chunked),
            stripes: Default::default(),
            limbo: Mutex::default(),
        }
    }

    /// Hands over something that was unlinked: no link leads to it any more, and it is handed over
    /// once. (The one rule of `link.rs`.)
    pub(super) fn retire(&self, item: Retired) {
        let mut stripe = self.stripes[thread_number() % STRIPES].0.lock();
        stripe.push(item);
        if stripe.len() < STRIPE_ITEMS_MAX {
            return;
        }
        let items = std::mem::take(&mut *stripe);
        drop(stripe);
        self.limbo.lock().push_back((self.pins.end_epoch(), items));
        self.free_what_may_be();
    }

    /// Closes a batch of all that was retired up to now and frees what no pin can hold. Returns
    /// how many items were freed and how many wait.
    pub(super) fn flush(&self) -> (usize, usize) {
        let mut items = Vec::new();
        for stripe in &self.stripes {
            items.append(&mut stripe.0.lock());
        }
        if !items.is_empty() {
            self.limbo.lock().push_back((self.pins.end_epoch(), items));
        }
        let freed = self.free_what_may_be();
        (freed, self.limbo.lock().iter().map(|batch| batch.1.len()).sum())
    }

    fn free_what_may_be(&self) -> usize {
        let oldest = self.pins.oldest_epoch();
        let mut freed = 0;
        loop {
            let mut limbo = self.limbo.lock();
            // Tags may stand out of order by the few batches that were closed at one moment; such
            // a one waits for its neighbour, no more.
            let Some((tag, _)) = limbo.front() else { return freed };
            if *tag >= oldest {
                return freed;
            }
            let (_, items) = limbo.pop_front().unwrap_or_default();
            // Freeing takes long; others may add meanwhile.
            drop(limbo);
            freed += items.len();
            let bytes: usize = items.iter().map(Retired::bytes).sum();
            self.counters.add(0, -(bytes as isize));
            for item in items {
                // SAFETY: whoever retired it unlinked it before, and it was in its stripe before
                // the epoch `tag` ended. Every pin that was held then, and may hold it, is gone:
                // `oldest_epoch` sees each of them with an epoch of at most `tag` (`pins.rs`).
                unsafe { item.free(&self.arena) };
            }
        }
    }
}

impl Drop for Memtable {
    fn drop(&mut self) {
        let guard = Guard::alone();
        // SAFETY: no pin is left, for pins borrow or own the table, and nothing is looked at after
        // it was freed: what retired is not in the indexes, each entry is in the hash index once,
        // and its chain and the way to the next node are read first.
        let free = |item: Retired| unsafe { item.free(&self.memory.arena) };
        for stripe in &self.memory.stripes {
            stripe.0.lock().drain(..).for_each(free);
        }
        self.memory.limbo.lock().drain(..).flat_map(|batch| batch.1).for_each(free);
        // Mostly nothing: what lies in the arena's chunks goes with them.
        let is_pure = self.memory.arena.is_pure();
        for entry in self.hash.entries(&guard).take_while(|_| !is_pure) {
            let mut next = Some(entry.head());
            while let Some(version) = next {
                next = version.next();
                Retired::version(version).into_iter().for_each(free);
            }
            free(Retired::entry(entry));
        }
        self.hash.arrays(&guard).map(Retired::slots).for_each(free);
        self.tree.each_node(&guard, &mut { free });
    }
}

//! A walk over the entries of a range, leaf by leaf, without locks.
//!
//! The walk copies a leaf's slots (512 bytes) and checks the leaf's version once; from then on it
//! owns the copy and can ask for entries and versions well before it reaches them. That is where a
//! scan's speed comes from: its rows lie anywhere in memory, and several travel at a time.
//!
//! ```text
//!    copy:   e0  e1  e2  e3  e4  e5  e6  e7  e8  e9 ...
//!            ^ returned        ^                  ^ entry is fetched
//!                              newest version is fetched, if it lies elsewhere
//! ```
//!
//! A walk that has shown it goes on looks at the next leaf before it is through with this one, so
//! that the fetching does not pause between leaves.
//!
//! An entry added to the leaf after the copy is not seen. Its versions are newer than any read
//! timestamp handed out before, so that a reader at its pin's timestamp misses nothing.

use super::super::entry::EntryRef;
use super::super::link::{Guard, Shared};
use super::Tree;
use super::inner::Side;
use super::leaf::{Fence, LEAF_SLOTS, Leaf};
use crate::memtable::Direction;

/// How far ahead an entry is fetched: about a memory latency's worth of rows.
const ENTRIES_AHEAD: usize = 8;
/// How far ahead the newest version is; its address is in the entry, which is there by then.
const VERSIONS_AHEAD: usize = 4;

/// The walk.
pub(in crate::memtable) struct Walk<'g> {
    tree: &'g Tree,
    guard: &'g Guard,
    direction: Direction,
    start: Box<[u8]>,
    end: Option<Box<[u8]>>,
    /// What is left of the last leaf and all of this one.
    copy: [Option<EntryRef<'g>>; LEAF_SLOTS + ENTRIES_AHEAD],
    at: usize,
    len: usize,
    rest: Rest<'g>,
}

/// What lies beyond the copied leaf.
#[derive(Clone, Copy)]
enum Rest<'g> {
    Nothing,
    /// Keys from the fence on, in this leaf or right of it.
    From(Shared<'g, Leaf>, Shared<'g, Fence>),
    /// Keys below the fence.
    Below(Shared<'g, Fence>),
}

/// What one look at a leaf showed.
enum Look<'g> {
    /// The leaf is the wrong one, or dead: the way goes right.
    Right(Shared<'g, Leaf>),
    Copied(usize, Rest<'g>),
}

impl<'g> Walk<'g> {
    pub(in crate::memtable) fn new(
        tree: &'g Tree,
        guard: &'g Guard,
        start: &[u8],
        end: Option<&[u8]>,
        direction: Direction,
    ) -> Walk<'g> {
        let mut walk = Walk {
            tree,
            guard,
            direction,
            start: start.into(),
            end: end.map(Box::from),
            copy: [None; LEAF_SLOTS + ENTRIES_AHEAD],
            at: 0,
            len: 0,
            rest: Rest::Nothing,
        };
        walk.restart();
        walk
    }

    /// Moves on so that the next entry is the first at or after `key` in the walk's direction.
    pub(in crate::memtable) fn seek(&mut self, key: &[u8]) {
        match self.direction {
            Direction::Forward => {
                if *key > *self.start {
                    self.start = key.into();
                }
            }
            Direction::Reverse => {
                if self.end.as_ref().is_none_or(|end| **end > *key) {
                    self.end = Some(base::range::successor(key)[..].into());
                }
            }
        }
        self.restart();
    }

    fn restart(&mut self) {
        (self.at, self.len, self.rest) = (0, 0, Rest::Nothing);
        if self.end.as_ref().is_some_and(|end| *end <= self.start) {
            return;
        }
        match self.direction {
            Direction::Forward => {
                let start = std::mem::take(&mut self.start);
                let leaf = self.tree.leaf_for(&start, Side::At, self.guard);
                self.load_forward(leaf, &start);
                self.start = start;
            }
            Direction::Reverse => {
                let end = self.end.take();
                self.load_reverse(end.as_deref());
                self.end = end;
            }
        }
    }

    /// Returns the next entry.
    pub(in crate::memtable) fn next(&mut self) -> Option<EntryRef<'g>> {
        while self.at == self.len
            || (self.len - self.at <= ENTRIES_AHEAD && self.at >= ENTRIES_AHEAD)
        {
            match self.rest {
                Rest::Nothing if self.at == self.len => return None,
                Rest::Nothing => break,
                Rest::From(leaf, fence) => self.load_forward(leaf, &fence.get().0),
                Rest::Below(fence) => self.load_reverse(Some(&fence.get().0)),
            }
        }
        let ahead = |by: usize| self.copy[..self.len].get(self.at + by).copied().flatten();
        if let Some(entry) = ahead(ENTRIES_AHEAD) {
            entry.prefetch();
        }
        if let Some(entry) = ahead(VERSIONS_AHEAD) {
            entry.prefetch_version();
        }
        let entry = self.copy[self.at];
        self.at += 1;
        entry
    }

    /// Makes room for a leaf and returns where: behind what is not walked yet.
    fn compact(&mut self) -> usize {
        self.copy.copy_within(self.at..self.len, 0);
        (self.at, self.len) = (0, self.len - self.at);
        self.len
    }

    /// Takes in `len` entries that were copied behind the others.
    fn arrive(&mut self, len: usize, rest: Rest<'g>) {
        let old = self.len;
        (self.len, self.rest) = (old + len, rest);
        let ahead = ENTRIES_AHEAD.min(self.len);
        for entry in self.copy[old.min(ahead)..ahead].iter().flatten() {
            entry.prefetch();
        }
        if let Rest::From(leaf, _) = rest {
            leaf.prefetch_slots();
        }
    }

    /// Copies the entries from `from` on, out of `leaf` or the one right of it that has them.
    fn load_forward(&mut self, mut leaf: Shared<'g, Leaf>, from: &[u8]) {
        let guard = self.guard;
        let old = self.compact();
        loop {
            let node = leaf.get();
            let look = node.read(|| {
                let next = node.next.load(guard);
                if let Some(next) = next
                    && (node.is_dead() || node.high_cmp(from, guard).is_le())
                {
                    return Look::Right(next);
                }
                let start = node.place(from, guard).at;
                let whole = self.end.as_ref().is_none_or(|end| node.high_cmp(end, guard).is_lt());
                let end = match &self.end {
                    Some(end) if node.high_cmp(end, guard).is_gt() => node.place(end, guard).at,
                    _ => node.count(),
                };
                let rest = match (next, node.high(guard)) {
                    (Some(next), Some(high)) if whole => Rest::From(next, high),
                    _ => Rest::Nothing,
                };
                for (to, at) in (start..end).enumerate() {
                    self.copy[old + to] = node.entry(at, guard);
                }
                Look::Copied(end.saturating_sub(start), rest)
            });
            match look {
                Look::Right(next) => leaf = next,
                Look::Copied(len, rest) => return self.arrive(len, rest),
            }
        }
    }

    /// Copies the entries of the last leaf that has any below `before`, the greatest first.
    fn load_reverse(&mut self, before: Option<&[u8]>) {
        let guard = self.guard;
        let old = self.compact();
        let mut leaf = match before {
            Some(key) => self.tree.leaf_for(key, Side::Below, guard),
            None => self.tree.last_leaf(guard),
        };
        loop {
            let node = leaf.get();
            let look = node.read(|| {
                if let Some(next) = node.next.load(guard)
                    && (node.is_dead()
                        || before.is_none_or(|before| node.high_cmp(before, guard).is_lt()))
                {
                    return Look::Right(next);
                }
                let end = match before {
                    Some(key) if node.high_cmp(key, guard).is_gt() => node.place(key, guard).at,
                    _ => node.count(),
                };
                let low = node.low(guard);
                let (start, rest) = if *low.0 <= *self.start {
                    (node.place(&self.start, guard).at, Rest::Nothing)
                } else {
                    (0, Rest::Below(low))
                };
                for (to, at) in (start..end).rev().enumerate() {
                    self.copy[old + to] = node.entry(at, guard);
                }
                Look::Copied(end.saturating_sub(start), rest)
            });
            match look {
                Look::Right(next) => leaf = next,
                Look::Copied(len, rest) => return self.arrive(len, rest),
            }
        }
    }
}

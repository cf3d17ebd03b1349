//! Filling a table before anybody reads it: from sorted input, and from a log.
//!
//! Both have the table for themselves, so the ordered index can wait: entries go into the hash
//! index as they come, and the tree is built once at the end, leaf by leaf, from sorted entries.
//! That replaces a search of the tree per key by a sort.

use std::ops::Range;

use base::Timestamp;

use super::Memtable;
use super::entry::{Claim, EntryRef};
use super::hash_index::Inserted;
use super::link::Guard;
use super::tree::Finger;
use crate::Value;

/// Entries whose hash slots are on their way from memory while others are made.
const SLOTS_AHEAD: usize = 32;

/// Entries are compared this far behind their prefetch.
const ENTRIES_AHEAD: usize = 16;

/// With fewer new keys than one in this many, they are inserted one by one: building the tree anew
/// touches every key of the table.
const REBUILD_SHARE: usize = 16;

/// A load of sorted keys into an empty table.
pub struct BulkLoad<'t> {
    table: &'t mut Memtable,
    /// All entries in order; those from `hashes` entries before the end are not hashed yet.
    entries: Vec<Claim>,
    hashes: Vec<u64>,
    older: Older,
}

/// Versions of the last key, all but the newest.
#[derive(Default)]
struct Older {
    /// As they came: the newest first. What a tombstone has is no place in `values`.
    versions: Vec<(Timestamp, Option<Range<usize>>)>,
    values: Vec<u8>,
}

impl<'t> BulkLoad<'t> {
    pub(super) fn new(table: &'t mut Memtable, keys_expected: usize) -> BulkLoad<'t> {
        assert!(table.is_empty(), "a bulk load needs an empty table");
        table.reserve(keys_expected);
        let entries = Vec::with_capacity(keys_expected);
        let hashes = Vec::with_capacity(SLOTS_AHEAD);
        BulkLoad { table, entries, hashes, older: Older::default() }
    }

    /// Adds a version. Keys rise; the versions of one key follow each other, newest first.
    ///
    /// # Panics
    /// If the order is broken.
    pub fn push(&mut self, key: &[u8], ts: Timestamp, value: Value<'_>) {
        let pin = self.table.pin_writer();
        let guard = pin.guard();
        if let Some(last) = self.entries.last() {
            let last = last.entry(guard);
            if last.key() == key {
                self.older.add(ts, value);
                return;
            }
            assert!(last.key() < key, "the keys of a bulk load must rise");
            self.older.link(self.table, last, guard);
        }
        let entry = self.table.new_entry(key, ts, value, guard);
        self.table.memory.counters.add(1, 0);
        self.table.queue_tombstone(entry);
        let hash = self.table.hash_of(key);
        self.table.hash.prefetch(hash, guard);
        self.entries.push(Claim::new(entry));
        self.hashes.push(hash);
        if self.hashes.len() == SLOTS_AHEAD {
            insert_hashes(self.table, &self.entries, &mut self.hashes, guard);
        }
    }

    /// Builds the ordered index. Dropping the load does the same.
    pub fn finish(self) {}
}

impl Drop for BulkLoad<'_> {
    fn drop(&mut self) {
        let pin = self.table.pin_writer();
        let guard = pin.guard();
        if let Some(last) = self.entries.last() {
            self.older.link(self.table, last.entry(guard), guard);
        }
        insert_hashes(self.table, &self.entries, &mut self.hashes, guard);
        let entries: Vec<_> = self.entries.iter().map(|claim| claim.entry(guard)).collect();
        self.table.apply(self.table.tree.rebuild(&entries, guard));
    }
}

impl Older {
    fn add(&mut self, ts: Timestamp, value: Value<'_>) {
        let start = self.values.len();
        let value = value.as_put().map(|bytes| {
            self.values.extend_from_slice(bytes);
            start..self.values.len()
        });
        self.versions.push((ts, value));
    }

    /// Links the versions to their entry, the oldest first. A version looks for its place from the
    /// newest on: so each finds it at the second step, while in the order they came each would pass
    /// all that came before it.
    fn link(&mut self, table: &Memtable, entry: EntryRef<'_>, guard: &Guard) {
        for (ts, value) in self.versions.drain(..).rev() {
            let value = value.map_or(Value::Tombstone, |at| Value::Put(&self.values[at]));
            let added = table.add_version(entry, ts, value, guard);
            assert_eq!(added, Some(true), "a bulk load repeats a version");
        }
        self.values.clear();
    }
}

fn insert_hashes(table: &Memtable, entries: &[Claim], hashes: &mut Vec<u64>, guard: &Guard) {
    let behind = &entries[entries.len() - hashes.len()..];
    for (claim, hash) in behind.iter().zip(hashes.drain(..)) {
        let inserted = table.insert_hash(hash, claim.entry(guard), guard);
        debug_assert!(matches!(inserted, Inserted::New), "the keys of a bulk load rise");
    }
}

/// A replay of the log: inserts in any order of keys.
pub struct Replay {
    table: Memtable,
    /// New entries, which are in the hash index only.
    new: Vec<Claim>,
}

impl Replay {
    pub(super) fn new(table: Memtable) -> Replay {
        Replay { table, new: Vec::new() }
    }

    /// Adds a version; false if that (key, timestamp) is there already.
    pub fn insert(&mut self, key: &[u8], ts: Timestamp, value: Value<'_>) -> bool {
        let pin = self.table.pin_writer();
        let new = &mut self.new;
        self.table.put(key, ts, value, pin.guard(), |entry| new.push(Claim::new(entry)))
    }

    /// Returns the bytes that the table takes so far.
    pub fn memory_bytes(&self) -> usize {
        self.table.memory_bytes()
    }

    /// Puts the new keys into the ordered index and returns the table.
    pub fn finish(self) -> Memtable {
        let Replay { table, new } = self;
        let pin = table.pin_writer();
        let guard = pin.guard();
        let new = sort(new.iter().map(|claim| claim.entry(guard)).collect());
        if new.len() * REBUILD_SHARE < table.len() {
            let mut finger = Finger::default();
            new.into_iter().for_each(|entry| table.index(entry, &mut finger, guard));
        } else {
            let entries = merge(&table.tree.entries(guard), &new);
            table.apply(table.tree.rebuild(&entries, guard));
        }
        drop(pin);
        table
    }
}

/// Sorts entries by key. Most comparisons are decided by eight bytes that lie in the sorted array
/// itself, which keeps the sort in the caches.
fn sort(entries: Vec<EntryRef<'_>>) -> Vec<EntryRef<'_>> {
    let Some(first) = entries.first().map(|entry| entry.key()) else { return entries };
    let mut common = first.len();
    for (at, entry) in entries.iter().enumerate() {
        prefetch_at(&entries, at + ENTRIES_AHEAD);
        let same = entry.key().iter().zip(&first[..common]).take_while(|(a, b)| a == b);
        common = same.count();
    }
    let with_head = |(at, entry): (usize, &EntryRef<'_>)| {
        prefetch_at(&entries, at + ENTRIES_AHEAD);
        let rest = &entry.key()[common..];
        let mut head = [0; 8];
        let len = rest.len().min(8);
        head[..len].copy_from_slice(&rest[..len]);
        (u64::from_be_bytes(head), at)
    };
    let mut order: Vec<_> = entries.iter().enumerate().map(with_head).collect();
    order.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0).then_with(|| entries[a.1].key().cmp(entries[b.1].key()))
    });
    order.into_iter().map(|(_, at)| entries[at]).collect()
}

/// Merges two sorted lists without a common key.
fn merge<'g>(a: &[EntryRef<'g>], b: &[EntryRef<'g>]) -> Vec<EntryRef<'g>> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        prefetch_at(a, i + ENTRIES_AHEAD);
        prefetch_at(b, j + ENTRIES_AHEAD);
        if a[i].key() < b[j].key() {
            merged.push(a[i]);
            i += 1;
        } else {
            merged.push(b[j]);
            j += 1;
        }
    }
    merged.extend_from_slice(&a[i..]);
    merged.extend_from_slice(&b[j..]);
    merged
}

fn prefetch_at(entries: &[EntryRef<'_>], at: usize) {
    if let Some(entry) = entries.get(at) {
        entry.prefetch_key();
    }
}

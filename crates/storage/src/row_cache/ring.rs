//! One shard of the cache of hot rows: rows one behind the other in a ring, and an index of where
//! they begin.
//!
//! ```text
//!   index   [ 0 | tag, at | tag, at | 0 | … ]           one word a row, found by hash
//!                  '---------.   '------.
//!   ring    [ row | row | dead | row* | row | … free … | row | row | filler ]
//!                                           ^ head       ^ tail: the oldest
//!
//!   row     | length u32 | key length u16 | flags u8 | 0 | hash u64 | timestamp u64 | key | value
//! ```
//!
//! A hit takes two places in memory: the word in the index, and the row itself, which is copied
//! out. A new row goes to the head. When there is no room the oldest goes; if somebody has read it
//! since it was put there (\*) it goes to the head again instead: that is CLOCK, with the ring for
//! its face. Nothing is ever allocated for a row, no two sizes of rows compete for memory, and what
//! the shard takes is known to the byte.
//!
//! # Invariants
//! * From tail to head, around the end of the ring, lie records one behind the other.
//! * A record that is not dead and no filler has exactly one word in the index, reachable from its
//!   home without passing an empty one.

use base::Timestamp;

use crate::Value;
use crate::cache::CacheStats;
use crate::memtable::prefetch;

/// Length, length of the key, flags, hash and timestamp.
const HEADER_BYTES: usize = 24;

/// Records begin at multiples of this, so that their headers are read whole.
const ALIGN: usize = 8;

/// Ring of a shard that gets its first row, in bytes.
const RING_BYTES_MIN: usize = 4 << 10;

/// Words of the index of a new shard.
const INDEX_LEN_MIN: usize = 16;

/// So many rows that somebody has read are put at the head again to make room for one; then the
/// next goes whatever it is. Bounds the time that an insertion holds the lock.
const SECOND_CHANCES_MAX: usize = 8;

/// Cache lines of a row that are fetched at once.
const PREFETCH_LINES: usize = 4;

const VISITED: u8 = 1;
const TOMBSTONE: u8 = 2;
/// Removed, or room at the end of the ring that was too small.
const DEAD: u8 = 4;

/// A word of the index holds a place in units of [`ALIGN`], plus one, in its lower bits: rings end
/// below 32 GiB.
const PLACE_BITS: u32 = 32;

/// What is read of a record before anything else.
#[derive(Clone, Copy)]
struct Header {
    len: usize,
    key_len: usize,
    flags: u8,
    hash: u64,
    ts: Timestamp,
}

/// A shard, alone under its lock.
pub(super) struct Shard {
    ring: Vec<u8>,
    head: usize,
    tail: usize,
    /// Bytes from tail to head.
    used: usize,
    index: Box<[u64]>,
    rows: usize,
    capacity_bytes: usize,
    /// Of the last invalidation that has gone through here.
    pub(super) generation: u64,
    pub(super) stats: CacheStats,
}

impl Shard {
    pub(super) fn new(capacity_bytes: usize) -> Shard {
        Shard {
            ring: Vec::new(),
            head: 0,
            tail: 0,
            used: 0,
            index: Box::new([]),
            rows: 0,
            capacity_bytes,
            generation: 0,
            stats: CacheStats::default(),
        }
    }

    /// Calls `read` with the timestamp and content of a key's row, if there is one that is not
    /// newer than `ts`.
    pub(super) fn get<R>(
        &mut self,
        hash: u64,
        key: &[u8],
        ts: Timestamp,
        read: impl FnOnce(Timestamp, Value<'_>) -> R,
    ) -> Option<R> {
        let found = self.find(hash, key).map(|(_, at)| (at, self.header(at)));
        let Some((at, header)) = found.filter(|(_, header)| header.ts <= ts) else {
            self.stats.misses += 1;
            return None;
        };
        self.stats.hits += 1;
        if header.flags & VISITED == 0 {
            self.set_flag(at, VISITED);
        }
        let value = match header.flags & TOMBSTONE {
            0 => Value::Put(&self.ring[at + HEADER_BYTES + header.key_len..at + header.len]),
            _ => Value::Tombstone,
        };
        Some(read(header.ts, value))
    }

    /// Puts a row in, in place of any of its key. Returns false if the shard is too small for it.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        key: &[u8],
        ts: Timestamp,
        value: Value<'_>,
    ) -> bool {
        let bytes = value.as_put().unwrap_or_default();
        let len = HEADER_BYTES + key.len() + bytes.len();
        self.remove(hash, key);
        if !self.make_place() || !self.make_room(len.next_multiple_of(ALIGN)) {
            return false;
        }
        let flags = if value == Value::Tombstone { TOMBSTONE } else { 0 };
        let at = self.append(Header { len, key_len: key.len(), flags, hash, ts }, &[key, bytes]);
        self.index_row(hash, at);
        self.stats.inserts += 1;
        true
    }

    /// Removes a key's row; returns whether there was one.
    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) -> bool {
        let Some((slot, at)) = self.find(hash, key) else { return false };
        self.set_flag(at, DEAD);
        self.unindex(slot);
        true
    }

    pub(super) fn clear(&mut self) {
        let (capacity_bytes, generation) = (self.capacity_bytes, self.generation);
        *self = Shard { generation, stats: self.stats, ..Shard::new(capacity_bytes) };
    }

    /// Changes the capacity. A smaller one empties the shard if it has outgrown it.
    pub(super) fn set_capacity(&mut self, capacity_bytes: usize) {
        self.capacity_bytes = capacity_bytes;
        if self.bytes() > capacity_bytes {
            self.clear();
        }
    }

    /// Returns the memory that the shard takes.
    pub(super) fn bytes(&self) -> usize {
        self.ring.len() + self.index.len() * size_of::<u64>()
    }

    pub(super) fn capacity_bytes(&self) -> usize {
        self.capacity_bytes
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    fn header(&self, at: usize) -> Header {
        let Some(bytes) = self.ring[at..].first_chunk::<HEADER_BYTES>() else {
            unreachable!("records lie in the ring");
        };
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let first = word(0);
        Header {
            len: first as u32 as usize,
            key_len: (first >> 32) as u16 as usize,
            flags: (first >> 48) as u8,
            hash: word(8),
            ts: Timestamp::from_raw(word(16)),
        }
    }

    fn set_flag(&mut self, at: usize, flag: u8) {
        self.ring[at + 6] |= flag;
    }

    /// Writes a record at the head, where there is room.
    fn append(&mut self, header: Header, parts: &[&[u8]]) -> usize {
        let at = self.head;
        let first = header.len as u64
            | (header.key_len as u64) << 32
            | u64::from(header.flags & !(VISITED | DEAD)) << 48;
        let record = &mut self.ring[at..at + header.len];
        record[..8].copy_from_slice(&first.to_le_bytes());
        record[8..16].copy_from_slice(&header.hash.to_le_bytes());
        record[16..24].copy_from_slice(&header.ts.raw().to_le_bytes());
        let mut end = HEADER_BYTES;
        for part in parts {
            record[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        self.advance_head(header.len.next_multiple_of(ALIGN));
        at
    }

    fn advance_head(&mut self, bytes: usize) {
        self.head += bytes;
        self.used += bytes;
        if self.head == self.ring.len() {
            self.head = 0;
        }
    }

    /// Sees to it that `len` bytes are free at the head, in one piece.
    fn make_room(&mut self, len: usize) -> bool {
        let mut chances = SECOND_CHANCES_MAX;
        loop {
            // A ring that holds one record only would never keep anything.
            if 2 * len > self.capacity_bytes {
                return false;
            }
            if self.used == 0 {
                (self.head, self.tail) = (0, 0);
            }
            let to_end = self.ring.len() - self.head;
            let free = self.ring.len() - self.used;
            let in_one_piece = if self.head >= self.tail { to_end } else { self.tail - self.head };
            if self.used < self.ring.len() && in_one_piece.min(free) >= len {
                return true;
            }
            if self.used < self.ring.len() && self.head >= self.tail && free > to_end {
                // The end of the ring is too short for it: fill that, and go on at the beginning.
                self.fill_end(to_end);
                continue;
            }
            if self.grow(len) {
                continue;
            }
            if self.used == 0 {
                return false;
            }
            self.evict(&mut chances);
        }
    }

    /// Sees to it that the index takes one more row.
    fn make_place(&mut self) -> bool {
        let mut chances = SECOND_CHANCES_MAX;
        // Five eighths full at most.
        while (self.rows + 1) * 8 > self.index.len() * 5 {
            let len = (2 * self.index.len()).max(INDEX_LEN_MIN);
            if len * size_of::<u64>() > self.index_bytes_max() {
                if self.rows == 0 {
                    return false;
                }
                self.evict(&mut chances);
                continue;
            }
            let old = std::mem::replace(&mut self.index, vec![0; len].into_boxed_slice());
            for word in old.into_iter().filter(|word| *word != 0) {
                let at = place_of(word);
                self.place(self.header(at).hash, at);
            }
        }
        true
    }

    /// What the index may take: enough for rows of some sixty bytes and more.
    fn index_bytes_max(&self) -> usize {
        self.capacity_bytes / 16 * 3
    }

    fn fill_end(&mut self, len: usize) {
        let at = self.head;
        // Shorter than a header is possible: only its first word is read.
        let first = len as u64 | u64::from(DEAD) << 48;
        self.ring[at..at + 8].copy_from_slice(&first.to_le_bytes());
        self.advance_head(len);
    }

    /// Returns the length and flags of the record at a place, which may be a short filler.
    fn first_word(&self, at: usize) -> (usize, u8) {
        let mut word = [0; 8];
        word.copy_from_slice(&self.ring[at..at + 8]);
        let first = u64::from_le_bytes(word);
        (first as u32 as usize, (first >> 48) as u8)
    }

    /// Takes the oldest record away, or puts it at the head again.
    fn evict(&mut self, chances: &mut usize) {
        let at = self.tail;
        let (len, flags) = self.first_word(at);
        let aligned = len.next_multiple_of(ALIGN);
        self.tail = if at + aligned == self.ring.len() { 0 } else { at + aligned };
        self.used -= aligned;
        if flags & DEAD != 0 {
            return;
        }
        let header = self.header(at);
        let slot = self.slot_of(header.hash, at);
        // What it leaves is free from the head on, unless the end of the ring comes between.
        let has_room = self.head <= at || self.ring.len() - self.head >= aligned;
        if flags & VISITED != 0 && *chances > 0 && has_room {
            *chances -= 1;
            let head = self.head;
            self.ring.copy_within(at..at + len, head);
            self.ring[head + 6] &= !VISITED;
            self.index[slot] = word_of(header.hash, head);
            self.advance_head(aligned);
            return;
        }
        self.unindex(slot);
        self.stats.evictions += 1;
    }

    /// Makes the ring longer if there is capacity left; what is in it is laid out anew.
    fn grow(&mut self, len: usize) -> bool {
        let allowed = (self.capacity_bytes - self.index_bytes_max()) / ALIGN * ALIGN;
        let wanted = (2 * self.ring.len()).max(RING_BYTES_MIN).max(2 * len).min(allowed);
        // Less than a little more is not worth the copy.
        if wanted < self.ring.len() + self.ring.len() / 16 + len {
            return false;
        }
        let old = std::mem::replace(&mut self.ring, vec![0; wanted]);
        let (mut at, mut left) = (self.tail, self.used);
        (self.head, self.tail, self.used) = (0, 0, 0);
        self.index.fill(0);
        while left > 0 {
            let mut word = [0; 8];
            word.copy_from_slice(&old[at..at + 8]);
            let first = u64::from_le_bytes(word);
            let (len, flags) = (first as u32 as usize, (first >> 48) as u8);
            let aligned = len.next_multiple_of(ALIGN);
            if flags & DEAD == 0 {
                let to = self.head;
                self.ring[to..to + len].copy_from_slice(&old[at..at + len]);
                let hash = self.header(to).hash;
                self.advance_head(aligned);
                self.place(hash, to);
            }
            left -= aligned;
            at = if at + aligned == old.len() { 0 } else { at + aligned };
        }
        true
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<(usize, usize)> {
        let mask = self.index.len().checked_sub(1)?;
        let mut slot = home_of(hash) & mask;
        loop {
            let word = self.index[slot];
            if word == 0 {
                return None;
            }
            if has_tag(word, hash) {
                let at = place_of(word);
                // All of a row of usual size is on its way while its key is compared.
                for line in 0..PREFETCH_LINES {
                    prefetch(self.ring.as_ptr().wrapping_add(at + 64 * line));
                }
                let header = self.header(at);
                if self.ring.get(at + HEADER_BYTES..at + HEADER_BYTES + header.key_len) == Some(key)
                {
                    return Some((slot, at));
                }
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Returns the slot of the record at a place.
    fn slot_of(&self, hash: u64, at: usize) -> usize {
        let mask = self.index.len() - 1;
        let mut slot = home_of(hash) & mask;
        while self.index[slot] != word_of(hash, at) {
            debug_assert_ne!(self.index[slot], 0, "a live record is in the index");
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn index_row(&mut self, hash: u64, at: usize) {
        self.rows += 1;
        self.place(hash, at);
    }

    fn place(&mut self, hash: u64, at: usize) {
        let mask = self.index.len() - 1;
        let mut slot = home_of(hash) & mask;
        while self.index[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        self.index[slot] = word_of(hash, at);
    }

    /// Empties a slot and moves those behind it up that could not be reached any more.
    fn unindex(&mut self, slot: usize) {
        self.rows -= 1;
        let mask = self.index.len() - 1;
        let (mut gap, mut next) = (slot, (slot + 1) & mask);
        while self.index[next] != 0 {
            let word = self.index[next];
            let home = home_of(self.header(place_of(word)).hash) & mask;
            // How far from home it is, and how far it would be in the gap.
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(gap) & mask) {
                self.index[gap] = word;
                gap = next;
            }
            next = (next + 1) & mask;
        }
        self.index[gap] = 0;
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let (mut at, mut left, mut live) = (self.tail, self.used, 0);
        while left > 0 {
            let (len, flags) = self.first_word(at);
            let aligned = len.next_multiple_of(ALIGN);
            if flags & DEAD == 0 {
                let header = self.header(at);
                let key = &self.ring[at + HEADER_BYTES..at + HEADER_BYTES + header.key_len];
                assert_eq!(self.find(header.hash, key).map(|found| found.1), Some(at), "not found");
                live += 1;
            }
            left -= aligned;
            at = if at + aligned == self.ring.len() { 0 } else { at + aligned };
        }
        assert_eq!(at, self.head, "the records do not lead to the head");
        assert_eq!(live, self.rows, "the number of rows is wrong");
        assert_eq!(self.index.iter().filter(|word| **word != 0).count(), live, "a stray word");
        assert!(self.bytes() <= self.capacity_bytes.max(1), "more memory than allowed");
    }
}

/// The lower bits of a hash say which shard.
fn home_of(hash: u64) -> usize {
    (hash >> 8) as usize
}

fn word_of(hash: u64, at: usize) -> u64 {
    (hash >> PLACE_BITS) << PLACE_BITS | (at / ALIGN + 1) as u64
}

fn has_tag(word: u64, hash: u64) -> bool {
    (word ^ hash) >> PLACE_BITS == 0
}

fn place_of(word: u64) -> usize {
    (word as u32 as usize - 1) * ALIGN
}

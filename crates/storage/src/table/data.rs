//! Data blocks: entries that are found by a hash of their key, by number, and in order.
//!
//! ```text
//!  the contents of a data block
//!  +- - - - -+----------------+-----------+-----------+----------+-------+
//!  | entries | offset u16 × n | tag × n   | n u32     | interval | flags |
//!  +- - - - -+----------------+-----------+-----------+----------+-------+
//!             where each begins  optional              1 byte     1 byte: 1 tags, 2 wide offsets
//!
//!  an entry, which ends where the next one begins
//!  +--------+-----------------------+-----------+- - - - - - - -+- - - -+
//!  | shared | rest of key × 4, kind | timestamp | rest of key   | value |
//!  +--------+-----------------------+-----------+- - - - - - - -+- - - -+
//!   varint   varint                  u64
//! ```
//!
//! * *shared* counts the first bytes of the user key that are those of the *base*: the entry whose
//!   number is the next lower multiple of *interval*, where *shared* is 0. Sharing with the base
//!   and not with the entry before costs a few bytes of long keys, and lets any entry be decoded
//!   alone: a search touches what it compares, a step back costs what a step forward does.
//! * *kind* is 0 for a value, 1 for a tombstone (no value), 2 for a value that lies in a value file:
//!   the handle of it then stands in its place (since format 3); 3 is reserved.
//! * A *tag* is the second lowest byte of the hash of the user key. A point read compares all tags
//!   of a block with its own, eight at a time, and decodes only where they are equal: once for a
//!   key that is there, hardly ever for one that is not. That is a hash index of one byte per entry
//!   which knows no collisions to give up on, and finds the newest version first since it lies
//!   first. Blocks of more than 1024 entries have none: comparing would take longer than searching.
//! * Offsets are `u32` if the entries take 64 KiB or more.
//!
//! # Not here
//! Data blocks of format 1, which are laid out as index blocks are (see `block`), are turned into
//! this form when they are read.

#![deny(clippy::indexing_slicing)]

use std::cmp::Ordering;
use std::ops::{ControlFlow, Range};

use base::Timestamp;
use base::codec::{self, Reader};
use bytes::{Buf, Bytes};

use super::block::{Block, BlockCursor, Decoded, Flaw};
use super::position::{Position, common_prefix};
use crate::Stored;
use crate::memtable::prefetch;
use crate::values::ValueHandle;

/// What follows the offsets and tags: count, interval and flags.
const TAIL_BYTES: usize = 6;

const FLAG_TAGS: u8 = 1;
const FLAG_WIDE: u8 = 2;

/// Blocks with more entries have no tags.
const TAGS_MAX: usize = 1024;

/// Entries share this many bytes or none. Sharing fewer saves less than it costs a point read to
/// wait for the base, too, which is another place in memory.
const SHARED_MIN: usize = 8;

/// So many versions of a key are stepped over before a seek takes over, which costs as much as some
/// dozens of them.
const STEPS_MAX: usize = 16;

/// So many cache lines are asked for at once: those of a block of the usual length.
const PREFETCH_MAX: usize = 64;

const TS_BYTES: usize = 8;
const KIND_PUT: u64 = 0;
const KIND_TOMBSTONE: u64 = 1;
const KIND_APART: u64 = 2;

/// Returns the tag of a key with this hash.
pub(crate) fn tag_of(hash: u64) -> u8 {
    (hash >> 8) as u8
}

/// Collects entries and encodes them.
pub(crate) struct DataBlockBuilder {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
    tags: Vec<u8>,
    interval: u8,
    has_tags: bool,
    base_key: Vec<u8>,
    /// The encoded position added last. It outlives `finish`: the table builder compares across
    /// blocks.
    last: Vec<u8>,
}

impl DataBlockBuilder {
    pub(crate) fn new(interval: usize, has_tags: bool) -> DataBlockBuilder {
        DataBlockBuilder {
            bytes: Vec::new(),
            offsets: Vec::new(),
            tags: Vec::new(),
            interval: interval.clamp(1, 255) as u8,
            has_tags,
            base_key: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Appends an entry that is after all others.
    pub(crate) fn add(&mut self, position: Position<'_>, hash: u64, value: Stored<'_>) {
        let shared = if self.offsets.len().is_multiple_of(usize::from(self.interval)) {
            self.base_key.clear();
            self.base_key.extend_from_slice(position.key);
            0
        } else {
            Some(common_prefix(&self.base_key, position.key))
                .filter(|&shared| shared >= SHARED_MIN)
                .unwrap_or(0)
        };
        let rest = position.key.get(shared..).unwrap_or_default();
        let (kind, bytes) = match value {
            Stored::Put(bytes) => (KIND_PUT, bytes),
            Stored::Apart(_) => (KIND_APART, &[][..]),
            Stored::Tombstone => (KIND_TOMBSTONE, &[][..]),
        };
        self.offsets.push(self.bytes.len() as u32);
        self.tags.push(tag_of(hash));
        codec::put_varint(&mut self.bytes, shared as u64);
        codec::put_varint(&mut self.bytes, (rest.len() as u64) << 2 | kind);
        codec::put_u64(&mut self.bytes, position.ts().raw());
        self.bytes.extend_from_slice(rest);
        self.bytes.extend_from_slice(bytes);
        if let Stored::Apart(handle) = value {
            handle.encode(&mut self.bytes);
        }
        self.last.clear();
        position.encode(&mut self.last);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Returns the length of the contents so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + (self.offset_bytes() + 1) * self.offsets.len() + TAIL_BYTES
    }

    /// Returns the position added last, also after `finish`; `None` before the first.
    pub(crate) fn last(&self) -> Option<Position<'_>> {
        Position::decode(&self.last)
    }

    fn offset_bytes(&self) -> usize {
        if self.is_wide() { 4 } else { 2 }
    }

    fn is_wide(&self) -> bool {
        self.bytes.len() > usize::from(u16::MAX)
    }

    /// Appends the contents to `out`, and starts anew.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        let has_tags = self.has_tags && self.tags.len() <= TAGS_MAX;
        let flags =
            if has_tags { FLAG_TAGS } else { 0 } | if self.is_wide() { FLAG_WIDE } else { 0 };
        let is_wide = self.is_wide();
        out.extend_from_slice(&self.bytes);
        for &offset in &self.offsets {
            match is_wide {
                true => codec::put_u32(out, offset),
                false => out.extend_from_slice(&(offset as u16).to_le_bytes()),
            }
        }
        if has_tags {
            out.extend_from_slice(&self.tags);
        }
        codec::put_u32(out, self.offsets.len() as u32);
        out.extend_from_slice(&[self.interval, flags]);
        self.bytes.clear();
        self.offsets.clear();
        self.tags.clear();
    }
}

/// The contents of a data block: offsets are sound, entries are checked as they are decoded.
#[derive(Debug, Clone)]
pub(crate) struct DataBlock {
    contents: Bytes,
    entries_end: u32,
    count: u32,
    interval: u8,
    flags: u8,
}

/// One entry, taken apart.
#[derive(Debug, Clone, Copy)]
struct RawEntry<'a> {
    shared: usize,
    rest: &'a [u8],
    ts: Timestamp,
    kind: Kind,
    value_start: usize,
    value_end: usize,
}

/// What the bytes behind the key are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Put,
    Tombstone,
    Apart,
}

/// What a point read found in a block.
pub(crate) struct Hit {
    pub(crate) ts: Timestamp,
    kind: Kind,
    /// Where the value, or its handle, lies in the contents.
    value: Range<usize>,
}

/// A value that was found, as its table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In its block, whose memory it shares.
    Inline(Bytes),
    /// In a value file.
    Apart(ValueHandle),
    /// The key was deleted.
    Tombstone,
}

impl DataBlock {
    /// Returns a block without entries, for cursors that are on none.
    pub(crate) fn empty() -> DataBlock {
        DataBlock { contents: Bytes::new(), entries_end: 0, count: 0, interval: 1, flags: 0 }
    }

    /// Takes contents apart as the format of their file has them.
    pub(crate) fn decode(format_version: u32, contents: Bytes) -> Decoded<DataBlock> {
        if format_version == 1 { from_format_1(contents) } else { DataBlock::new(contents) }
    }

    /// Takes the contents apart.
    pub(crate) fn new(contents: Bytes) -> Decoded<DataBlock> {
        let short = || Flaw::new(0, "the data block is shorter than its offsets");
        let (rest, &[a, b, c, d, interval, flags]) =
            contents.split_last_chunk::<TAIL_BYTES>().ok_or_else(short)?;
        let count = u32::from_le_bytes([a, b, c, d]);
        if interval == 0 || flags & !(FLAG_TAGS | FLAG_WIDE) != 0 {
            return Err(Flaw::new(rest.len(), "the data block has an unknown layout"));
        }
        let each = if flags & FLAG_WIDE == 0 { 2 } else { 4 } + usize::from(flags & FLAG_TAGS);
        let entries_end = (count as usize)
            .checked_mul(each)
            .and_then(|len| rest.len().checked_sub(len))
            .and_then(|end| u32::try_from(end).ok())
            .ok_or_else(short)?;
        let block = DataBlock { entries_end, count, interval, flags, contents };
        let (narrow, wide) = block.offsets();
        let is_sound = match wide {
            [] => rise(narrow.iter().map(|&at| u32::from(u16::from_le_bytes(at))), entries_end),
            wide => rise(wide.iter().map(|&at| u32::from_le_bytes(at)), entries_end),
        };
        if count == 0 || !is_sound {
            return Err(Flaw::new(entries_end as usize, "an offset points to no entry"));
        }
        Ok(block)
    }

    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// Returns the memory that the block takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.contents.len()
    }

    /// Has the processor fetch the offsets and tags, which whoever looks for a key needs first.
    pub(crate) fn prefetch(&self) {
        let offsets = self.contents.as_ptr().wrapping_add(self.entries_end as usize);
        prefetch(offsets);
        prefetch(offsets.wrapping_add(64));
    }

    /// Has the processor fetch the entries, all of which will be read.
    pub(crate) fn prefetch_entries(&self) {
        for at in (0..self.entries_end as usize).step_by(64).take(PREFETCH_MAX) {
            prefetch(self.contents.as_ptr().wrapping_add(at));
        }
    }

    /// Has the processor fetch the keys, for a search that would wait for one after the other.
    pub(crate) fn prefetch_keys(&self) {
        for number in 0..self.count().min(PREFETCH_MAX) {
            prefetch(self.contents.as_ptr().wrapping_add(self.offset(number)));
        }
    }

    /// Returns the contents, giving up the block.
    pub(crate) fn into_value(self, hit: Hit) -> Decoded<Place> {
        let Range { start, end } = hit.value;
        match hit.kind {
            Kind::Put => {}
            Kind::Apart => return self.handle_at(start, end).map(Place::Apart),
            Kind::Tombstone => return Ok(Place::Tombstone),
        }
        // Narrowing what is owned touches no reference count, as a slice would.
        let mut value = self.contents;
        value.truncate(end);
        value.advance(start);
        Ok(Place::Inline(value))
    }

    /// Decodes the handle that lies there.
    fn handle_at(&self, start: usize, end: usize) -> Decoded<ValueHandle> {
        let bytes = self.contents.get(start..end).unwrap_or_default();
        let flaw = |_| Flaw::new(start, "an entry does not say where its value lies");
        ValueHandle::decode(bytes).map_err(flaw)
    }

    /// Returns the offsets; one of the two is empty.
    #[inline]
    fn offsets(&self) -> (&[[u8; 2]], &[[u8; 4]]) {
        let start = self.entries_end as usize;
        let rest = self.contents.get(start..).unwrap_or_default();
        let count = self.count();
        if self.flags & FLAG_WIDE == 0 {
            (rest.as_chunks::<2>().0.get(..count).unwrap_or_default(), &[])
        } else {
            (&[], rest.as_chunks::<4>().0.get(..count).unwrap_or_default())
        }
    }

    /// Returns where an entry begins; the end of the entries for a number that is too large.
    #[inline]
    fn offset(&self, number: usize) -> usize {
        let (narrow, wide) = self.offsets();
        match (narrow.get(number), wide.get(number)) {
            (Some(&at), _) => usize::from(u16::from_le_bytes(at)),
            (None, Some(&at)) => u32::from_le_bytes(at) as usize,
            (None, None) => self.entries_end as usize,
        }
    }

    /// Returns the tags; empty if the block has none.
    pub(crate) fn tags(&self) -> &[u8] {
        if self.flags & FLAG_TAGS == 0 {
            return &[];
        }
        let each = if self.flags & FLAG_WIDE == 0 { 2 } else { 4 };
        let start = self.entries_end as usize + each * self.count();
        self.contents.get(start..start + self.count()).unwrap_or_default()
    }

    fn base_of(&self, number: usize) -> usize {
        number - number % usize::from(self.interval)
    }

    #[inline]
    fn entry(&self, number: usize) -> Decoded<RawEntry<'_>> {
        self.entry_between(self.offset(number), self.offset(number + 1))
    }

    /// Takes the entry apart that begins and ends there.
    #[inline]
    fn entry_between(&self, start: usize, end: usize) -> Decoded<RawEntry<'_>> {
        let flaw = || Flaw::new(start, "an entry does not fit its block");
        let entry = self.contents.get(start..end).ok_or_else(flaw)?;
        // Nearly all entries have two one-byte numbers, and a scan spends its time here.
        let (shared, rest_and_kind, tail) = match entry {
            [shared, rest, tail @ ..] if (shared | rest) < 0x80 => {
                (u64::from(*shared), u64::from(*rest), tail)
            }
            _ => {
                let mut reader = Reader::new(entry);
                let shared = reader.varint().map_err(|_| flaw())?;
                let rest = reader.varint().map_err(|_| flaw())?;
                (shared, rest, reader.rest())
            }
        };
        let (ts, tail) = tail.split_first_chunk::<TS_BYTES>().ok_or_else(flaw)?;
        let rest_len = usize::try_from(rest_and_kind >> 2).map_err(|_| flaw())?;
        let (rest, value) = tail.split_at_checked(rest_len).ok_or_else(flaw)?;
        let kind = match rest_and_kind & 3 {
            KIND_PUT => Kind::Put,
            KIND_TOMBSTONE if value.is_empty() => Kind::Tombstone,
            KIND_APART => Kind::Apart,
            kind => {
                return Err(Flaw::new(start, format!("an entry is of the unknown kind {kind}")));
            }
        };
        let shared = usize::try_from(shared).map_err(|_| flaw())?;
        let ts = Timestamp::from_raw(u64::from_le_bytes(*ts));
        let value_start = end - value.len();
        Ok(RawEntry { shared, rest, ts, kind, value_start, value_end: end })
    }

    /// Returns the user key of a base.
    #[inline]
    fn base_key(&self, base: usize) -> Decoded<&[u8]> {
        let entry = self.entry(base)?;
        if entry.shared > 0 {
            let what = "an entry without a base shares bytes with one";
            return Err(Flaw::new(self.offset(base), what));
        }
        Ok(entry.rest)
    }

    /// Returns an entry and what it shares with its base.
    #[inline]
    fn with_prefix(&self, number: usize) -> Decoded<(&[u8], RawEntry<'_>)> {
        let entry = self.entry(number)?;
        let base = self.base_of(number);
        if entry.shared == 0 {
            return Ok((&[], entry));
        }
        let prefix = if base == number { None } else { self.base_key(base)?.get(..entry.shared) };
        let flaw = || Flaw::new(self.offset(number), "an entry shares more than its base has");
        Ok((prefix.ok_or_else(flaw)?, entry))
    }

    /// Returns the newest entry of a key at or before a timestamp. `hash` is the hash of the key.
    pub(crate) fn find(&self, key: &[u8], hash: u64, ts: Timestamp) -> Decoded<Option<Hit>> {
        let tags = self.tags();
        if tags.is_empty() {
            return self.search(key, ts, 0);
        }
        let mut number = 0;
        while let Some(at) = next_equal(tags, number, tag_of(hash)) {
            let (prefix, entry) = self.with_prefix(at)?;
            if is_equal(prefix, entry.rest, key) {
                // The first is the newest: mostly the one. If not, there may be many more.
                return if entry.ts <= ts {
                    Ok(Some(entry.hit()))
                } else {
                    self.search(key, ts, at + 1)
                };
            }
            number = at + 1;
        }
        Ok(None)
    }

    fn search(&self, key: &[u8], ts: Timestamp, first: usize) -> Decoded<Option<Hit>> {
        let number = self.lower_bound(Position::new(key, ts), first)?;
        if number >= self.count() {
            return Ok(None);
        }
        let (prefix, entry) = self.with_prefix(number)?;
        let is_same = compare(prefix, entry.rest, key) == Ordering::Equal;
        Ok(is_same.then(|| entry.hit()))
    }

    /// Returns the number of the first entry, from `first` on, that is at or after a position.
    fn lower_bound(&self, target: Position<'_>, first: usize) -> Decoded<usize> {
        let is_before = |number: usize| -> Decoded<bool> {
            let (prefix, entry) = self.with_prefix(number)?;
            let order = compare(prefix, entry.rest, target.key);
            Ok(order.then_with(|| target.ts().cmp(&entry.ts)) == Ordering::Less)
        };
        // First among bases, which are decoded alone; then within one interval.
        let interval = usize::from(self.interval);
        let (mut low, mut high) = (first, self.count());
        let (mut low_base, mut high_base) = (first.div_ceil(interval), high.div_ceil(interval));
        while low_base < high_base {
            let middle = low_base + (high_base - low_base) / 2;
            if is_before(middle * interval)? {
                low = middle * interval + 1;
                low_base = middle + 1;
            } else {
                high = middle * interval;
                high_base = middle;
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(middle)? { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }
}

impl RawEntry<'_> {
    fn hit(&self) -> Hit {
        Hit { ts: self.ts, kind: self.kind, value: self.value_start..self.value_end }
    }
}

/// Compares the key that is made of two parts with a key.
#[inline]
fn compare(prefix: &[u8], rest: &[u8], key: &[u8]) -> Ordering {
    match key.split_at_checked(prefix.len()) {
        Some((head, tail)) => prefix.cmp(head).then_with(|| rest.cmp(tail)),
        // The key is shorter than what is shared alone, and cannot be equal.
        None => prefix.cmp(key),
    }
}

/// Compares as [`compare`] does, the part first that lies where the entry does.
#[inline]
fn is_equal(prefix: &[u8], rest: &[u8], key: &[u8]) -> bool {
    key.split_at_checked(prefix.len()).is_some_and(|(head, tail)| rest == tail && prefix == head)
}

/// Returns whether a key is made of these two parts. Keys that follow each other mostly differ in
/// their last byte.
#[inline]
fn is_made_of(key: &[u8], prefix: &[u8], rest: &[u8]) -> bool {
    key.len() == prefix.len() + rest.len()
        && (rest.is_empty() || key.last() == rest.last())
        && is_equal(prefix, rest, key)
}

fn rise(offsets: impl Iterator<Item = u32>, end: u32) -> bool {
    let mut next_min = 0;
    for (number, offset) in offsets.enumerate() {
        if offset < next_min || offset >= end || (number == 0 && offset != 0) {
            return false;
        }
        next_min = offset + 1;
    }
    true
}

/// Returns the first place at or after `from` where a tag is.
#[inline]
fn next_equal(tags: &[u8], from: usize, tag: u8) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let rest = tags.get(from..)?;
    let (words, tail) = rest.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        // A byte of the difference is zero where the tags are equal; the lowest such byte is found
        // without error ("Bit Twiddling Hacks").
        let difference = u64::from_le_bytes(*word) ^ (LOW * u64::from(tag));
        let zeros = difference.wrapping_sub(LOW) & !difference & HIGH;
        if zeros != 0 {
            return Some(from + 8 * at + zeros.trailing_zeros() as usize / 8);
        }
    }
    let in_tail = tail.iter().position(|&other| other == tag)?;
    Some(from + 8 * words.len() + in_tail)
}

/// Turns a data block of the first format into the present form.
fn from_format_1(contents: Bytes) -> Decoded<DataBlock> {
    let mut cursor = BlockCursor::new(Block::new(contents)?);
    let mut builder = DataBlockBuilder::new(16, false);
    let mut is_valid = cursor.seek_first()?;
    while is_valid {
        builder.add(cursor.position(), 0, cursor.value().into());
        is_valid = cursor.next()?;
    }
    let mut out = Vec::with_capacity(builder.len());
    builder.finish(&mut out);
    DataBlock::new(Bytes::from_owner(out))
}

/// What is visible, and what is known of the key that a visit is at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    /// The newest timestamp that is seen.
    pub(crate) ts: Timestamp,
    /// When all entries were written, if not when they say.
    pub(crate) ts_override: Option<Timestamp>,
    /// Whether the newest visible version of the key was met.
    pub(crate) is_decided: bool,
    /// How many more of its versions were met since the last seek.
    pub(crate) steps: usize,
}

/// Where a visit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Behind the last entry.
    All,
    /// At a version of a key that has so many that a seek gets past them sooner.
    Crowd,
    /// At the end of the range, or at the row that was taken last.
    Stop,
}

/// A cursor over the entries of a data block: on an entry, or off the block.
#[derive(Debug)]
pub(crate) struct DataCursor {
    block: DataBlock,
    /// The number of the entry, or that of entries when off the block.
    number: usize,
    /// The user key, and how many of its first bytes are those of the base with this number.
    key: Vec<u8>,
    base: usize,
    intact: usize,
    /// Where the key of that base lies, if `is_based`.
    base_key: Range<usize>,
    is_based: bool,
    ts: Timestamp,
    kind: Kind,
    value: Range<usize>,
    /// Where the value lies, if it lies apart.
    handle: Option<ValueHandle>,
}

impl DataCursor {
    /// Returns a cursor that is off the block.
    pub(crate) fn new(block: DataBlock) -> DataCursor {
        DataCursor {
            number: block.count(),
            block,
            key: Vec::with_capacity(64),
            base: 0,
            intact: 0,
            base_key: 0..0,
            is_based: false,
            ts: Timestamp::ZERO,
            kind: Kind::Tombstone,
            value: 0..0,
            handle: None,
        }
    }

    /// Moves to another block, off it, and keeps the memory.
    pub(crate) fn reset(&mut self, block: DataBlock) {
        self.block = block;
        self.leave();
    }

    pub(crate) fn block(&self) -> &DataBlock {
        &self.block
    }

    #[inline]
    pub(crate) fn is_valid(&self) -> bool {
        self.number < self.block.count()
    }

    /// Returns the number of the current entry.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Returns where the current entry begins in the block.
    pub(crate) fn offset(&self) -> usize {
        self.block.offset(self.number)
    }

    /// Returns the current position. Off the block it means nothing.
    #[inline]
    pub(crate) fn position(&self) -> Position<'_> {
        Position::new(&self.key, self.ts)
    }

    /// Returns the current value. Off the block it means nothing.
    #[inline]
    pub(crate) fn value(&self) -> Stored<'_> {
        match (self.kind, self.block.contents.get(self.value.clone()), self.handle) {
            (Kind::Put, Some(bytes), _) => Stored::Put(bytes),
            (Kind::Apart, _, Some(handle)) => Stored::Apart(handle),
            _ => Stored::Tombstone,
        }
    }

    /// Goes to the first entry; returns false if there is none.
    pub(crate) fn seek_first(&mut self) -> Decoded<bool> {
        self.go_to(0)
    }

    /// Goes to the last entry; returns false if there is none.
    pub(crate) fn seek_last(&mut self) -> Decoded<bool> {
        match self.block.count().checked_sub(1) {
            Some(last) => self.go_to(last),
            None => Ok(false),
        }
    }

    /// Goes to the first entry at or after a position; returns false if there is none.
    pub(crate) fn seek(&mut self, target: Position<'_>) -> Decoded<bool> {
        match self.block.lower_bound(target, 0) {
            Ok(number) => self.go_to(number),
            Err(flaw) => {
                self.leave();
                Err(flaw)
            }
        }
    }

    /// Goes to the next entry; returns false, and leaves the block, if there is none.
    #[inline]
    pub(crate) fn next(&mut self) -> Decoded<bool> {
        self.go_to(self.number + 1)
    }

    /// Goes to the previous entry; returns false, and leaves the block, if there is none.
    #[inline]
    pub(crate) fn prev(&mut self) -> Decoded<bool> {
        match self.number.checked_sub(1) {
            Some(number) => self.go_to(number),
            None => {
                self.leave();
                Ok(false)
            }
        }
    }

    /// Goes to the first entry without looking at it, for [`DataCursor::visit`] to begin there. The
    /// key stays that of the entry before.
    pub(crate) fn rewind(&mut self) {
        self.leave();
        self.number = 0;
    }

    /// Hands out the visible rows from the current entry on, and moves to the entry where that
    /// ended. One loop keeps what each step by itself would look up again.
    #[inline]
    pub(crate) fn visit(
        &mut self,
        sight: &mut Sight,
        end: Option<&[u8]>,
        take: &mut impl FnMut(&[u8], Timestamp, Stored<'_>) -> ControlFlow<()>,
    ) -> Decoded<Seen> {
        let DataCursor { block, key, number, .. } = self;
        let interval = usize::from(block.interval);
        let mut start = block.offset(*number);
        // How many of the first bytes of `key` are those of the base.
        let mut intact = 0;
        while *number < block.count() {
            let next = block.offset(*number + 1);
            let entry = block.entry_between(start, next)?;
            let is_base = number.is_multiple_of(interval);
            if is_base {
                intact = 0;
            }
            let prefix = if entry.shared <= intact {
                &[]
            } else {
                // After the first entry that is looked at, what is shared only shrinks.
                block.with_prefix(*number)?.0
            };
            let kept = entry.shared - prefix.len();
            let is_same = is_made_of(key.get(kept..).unwrap_or_default(), prefix, entry.rest);
            if is_same {
                sight.steps += 1;
            } else {
                key.truncate(kept);
                key.extend_from_slice(prefix);
                key.extend_from_slice(entry.rest);
                *sight = Sight { is_decided: false, steps: 0, ..*sight };
                if end.is_some_and(|end| &key[..] >= end) {
                    return Ok(Seen::Stop);
                }
            }
            intact = if is_base { key.len() } else { entry.shared };
            let ts = sight.ts_override.unwrap_or(entry.ts);
            if !sight.is_decided && ts <= sight.ts {
                sight.is_decided = true;
                let (start, end) = (entry.value_start, entry.value_end);
                let value = match entry.kind {
                    Kind::Put => {
                        Some(Stored::Put(block.contents.get(start..end).unwrap_or_default()))
                    }
                    Kind::Apart => Some(Stored::Apart(block.handle_at(start, end)?)),
                    Kind::Tombstone => None,
                };
                if value.is_some_and(|value| take(key, ts, value).is_break()) {
                    return Ok(Seen::Stop);
                }
            } else if sight.steps >= STEPS_MAX {
                return Ok(Seen::Crowd);
            }
            (*number, start) = (*number + 1, next);
        }
        Ok(Seen::All)
    }

    /// Leaves the block.
    pub(crate) fn leave(&mut self) {
        self.number = self.block.count();
        self.intact = 0;
        self.is_based = false;
    }

    #[inline]
    fn go_to(&mut self, number: usize) -> Decoded<bool> {
        if number >= self.block.count() {
            self.leave();
            return Ok(false);
        }
        let moved = self.decode(number);
        if moved.is_err() {
            self.leave();
        }
        moved.map(|()| true)
    }

    #[inline]
    fn decode(&mut self, number: usize) -> Decoded<()> {
        let base = self.block.base_of(number);
        let entry = self.block.entry(number)?;
        if !self.is_based || base != self.base {
            let key = self.block.base_key(base)?;
            // The value follows the key in the entry of the base.
            let end = self.block.entry(base)?.value_start;
            self.base_key = end - key.len()..end;
            (self.is_based, self.base, self.intact) = (true, base, 0);
        }
        if entry.shared <= self.intact {
            // Going forward within an interval, what is shared only shrinks, and the key that is
            // there already begins with it.
            self.key.truncate(entry.shared);
        } else {
            let base_key = self.block.contents.get(self.base_key.clone()).unwrap_or_default();
            let prefix = base_key.get(..entry.shared).ok_or_else(|| {
                Flaw::new(self.block.offset(number), "an entry shares more than its base has")
            })?;
            self.key.clear();
            self.key.extend_from_slice(prefix);
        }
        self.key.extend_from_slice(entry.rest);
        self.intact = if base == number { self.key.len() } else { entry.shared };
        self.number = number;
        self.ts = entry.ts;
        self.kind = entry.kind;
        self.value = entry.value_start..entry.value_end;
        self.handle = match entry.kind {
            Kind::Apart => Some(self.block.handle_at(entry.value_start, entry.value_end)?),
            Kind::Put | Kind::Tombstone => None,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_the_same_tag_and_end_is_another_one() {
        let hash = 0x4200;
        let mut builder = DataBlockBuilder::new(16, true);
        for key in ["prefix of both/1", "prefix of both/2"] {
            let position = Position::new(key.as_bytes(), Timestamp::from_raw(5));
            builder.add(position, hash, Stored::Put(b"v"));
        }
        let mut contents = Vec::new();
        builder.finish(&mut contents);
        let block = DataBlock::new(contents.into()).unwrap();
        let check = |key: &str, is_there: bool| {
            let found = block.find(key.as_bytes(), hash, Timestamp::MAX).unwrap();
            assert_eq!(found.is_some(), is_there, "{key}");
        };
        check("prefix of both/1", true);
        check("prefix of both/2", true);
        check("Prefix of both/2", false);
        check("prefix of both/3", false);
        check("2", false);
    }
}

//! Walking over a table: a cursor that goes both ways, and a scan of a range on top of it.

use std::ops::ControlFlow;
use std::sync::Arc;

use base::{KeyRange, Timestamp};
use bytes::{Bytes, BytesMut};

use super::block::{Decoded, Handle, unseal};
use super::block_cache::Prefetch;
use super::data::{DataBlock, DataCursor, Seen, Sight};
use super::position::Position;
use super::reader::{Fill, Inner, Table, at};
use super::separators::Metadata;
use crate::{Error, Result, Stored};

/// How much a scan reads at once, in bytes. One call then costs less than checking what it read,
/// and a disk that seeks spends its time reading.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// What the second read of a cursor that goes on reading takes; each further one takes twice as
/// much, up to [`READ_AHEAD_BYTES`].
const READ_AHEAD_BYTES_FIRST: usize = 16 << 10;

/// How many blocks after a seek a cursor puts into the block cache: the range that a short scan
/// reads is likely to be read again. What comes after them belongs to a long walk of one cursor,
/// which would only push out what others need. A scan that comes in batches seeks anew for each,
/// and reads less than this in one: with fewer, the blocks at the ends of batches would never be
/// kept, and each pass over data that fits would read them again.
const FILL_BLOCKS: u32 = 24;

/// One entry of a table, borrowed from the cursor that is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The user key.
    pub key: &'a [u8],
    /// When it was written.
    pub ts: Timestamp,
    /// What was written.
    pub value: Stored<'a>,
}

/// A way through the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Reverse,
}

/// How much a cursor reads beyond what it needs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadAhead {
    /// Nothing at first; more and more while it goes on in one direction.
    Adaptive,
    /// As much as ever: the caller will read on.
    Full,
}

/// A position in a table that moves both ways: on an entry, or off the table.
///
/// The table cannot change under it. After an error it is off the table.
pub struct TableCursor {
    table: Table,
    /// The partition, its index, and the entry there whose data block `data` is on.
    partition: usize,
    index: Option<Arc<Metadata>>,
    index_number: usize,
    data: DataCursor,
    /// Where the data block lies, for errors.
    data_at: u64,
    window: Window,
    /// How many more blocks go into the cache.
    fill_left: u32,
    /// What is known of the blocks behind.
    ahead: Ahead,
}

/// What a cursor knows of the blocks behind the current one, if it will go on forward.
#[derive(Default)]
enum Ahead {
    /// It may not go on.
    #[default]
    Nothing,
    /// It goes on, and has not looked, or the cache lacks the next one.
    Unknown,
    /// The data block with this number of the partition, from the cache.
    Block(usize, DataBlock),
}

impl TableCursor {
    pub(crate) fn new(table: Table, read_ahead: ReadAhead) -> TableCursor {
        TableCursor {
            table,
            partition: 0,
            index: None,
            index_number: 0,
            data: DataCursor::new(DataBlock::empty()),
            data_at: 0,
            window: Window::new(read_ahead),
            fill_left: 0,
            ahead: Ahead::Nothing,
        }
    }

    /// Has the cursor look for blocks in the cache before it comes to them: it will be moved
    /// forward.
    pub(crate) fn look_ahead(&mut self) {
        self.ahead = Ahead::Unknown;
    }

    /// Returns the entry that the cursor is on; `None` if it is off the table.
    #[inline]
    pub fn entry(&self) -> Option<Entry<'_>> {
        self.data.is_valid().then(|| {
            let position = self.data.position();
            Entry { key: position.key, ts: position.ts(), value: self.data.value() }
        })
    }

    /// Goes to the first entry; returns false if there is none.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a block is not sound, [`Error::Io`] if it cannot be read. So for all
    /// other movements.
    pub fn seek_first(&mut self) -> Result<bool> {
        self.jump();
        self.enter_partition(0, Direction::Forward)
    }

    /// Goes to the last entry; returns false if there is none.
    ///
    /// # Errors
    /// As [`TableCursor::seek_first`].
    pub fn seek_last(&mut self) -> Result<bool> {
        self.jump();
        match self.table.inner.partitions.len().checked_sub(1) {
            Some(last) => self.enter_partition(last, Direction::Reverse),
            None => Ok(self.leave()),
        }
    }

    /// Goes to the first entry that is at or after `key` and, in that key, not newer than `ts`;
    /// returns false if there is none.
    ///
    /// # Errors
    /// As [`TableCursor::seek_first`].
    pub fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        self.jump();
        let target = Position::new(key, ts);
        let partition = self.table.inner.top.lower_bound(target);
        if !self.load_index(partition)? {
            return Ok(self.leave());
        }
        let number = self.index.as_ref().map_or(0, |index| index.separators.lower_bound(target));
        if !self.load_data(number)? {
            return Err(self.damaged(self.index_at(), "the index ends before its separator"));
        }
        let found = self.data.seek(target);
        if self.checked(found)? {
            return Ok(true);
        }
        // The target lies between the last entry of this block and its separator.
        self.next_block()
    }

    /// Goes to the last entry that is before the position (`key`, `ts`): in a smaller key, or in
    /// the same key and newer than `ts`; returns false if there is none.
    ///
    /// # Errors
    /// As [`TableCursor::seek_first`].
    pub fn seek_before(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        if self.seek(key, ts)? { self.prev() } else { self.seek_last() }
    }

    /// Goes to the next entry; returns false, and leaves the table, if there is none.
    ///
    /// # Errors
    /// As [`TableCursor::seek_first`].
    #[expect(clippy::should_implement_trait, reason = "what it moves to is borrowed from it")]
    #[inline]
    pub fn next(&mut self) -> Result<bool> {
        if !self.data.is_valid() {
            return Ok(false);
        }
        let moved = self.data.next();
        if self.checked(moved)? {
            return Ok(true);
        }
        self.next_block()
    }

    /// Hands out the rows that are visible at `ts`, from the current entry on and before `end`,
    /// until told to stop or the table ends; says which. The current entry is the newest one of its
    /// key or the newest at `ts`. All entries count as written at `ts_override`, if there is one.
    pub(crate) fn visit(
        &mut self,
        (ts, ts_override): (Timestamp, Option<Timestamp>),
        end: Option<&[u8]>,
        take: &mut impl FnMut(&[u8], Timestamp, Stored<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let mut sight = Sight { ts, ts_override, is_decided: false, steps: 0 };
        let mut is_valid = self.data.is_valid();
        while is_valid {
            if end.is_some_and(|end| self.data.position().key >= end) {
                return Ok(ControlFlow::Break(()));
            }
            match self.visit_blocks(&mut sight, end, take) {
                Ok(Seen::Crowd) => {}
                Ok(Seen::Stop) => return Ok(ControlFlow::Break(())),
                Ok(Seen::All) => break,
                Err(error) => {
                    self.leave();
                    return Err(error);
                }
            }
            let key = self.data.position().key.to_vec();
            is_valid = self.seek(&key, if sight.is_decided { Timestamp::ZERO } else { ts })?;
            let is_same = is_valid && self.data.position().key == key;
            sight = Sight { is_decided: sight.is_decided && is_same, steps: 0, ..sight };
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Visits block after block.
    fn visit_blocks(
        &mut self,
        sight: &mut Sight,
        end: Option<&[u8]>,
        take: &mut impl FnMut(&[u8], Timestamp, Stored<'_>) -> ControlFlow<()>,
    ) -> Result<Seen> {
        loop {
            // Most blocks lie within the range as a whole: their rows are spared the question.
            let separator =
                self.index.as_ref().map(|index| index.separators.get(self.index_number));
            let end_here = end.filter(|end| separator.is_none_or(|last| last.key >= *end));
            let seen = self.data.visit(sight, end_here, take);
            let seen = seen.map_err(at(&self.table.inner.path, self.data_at))?;
            if seen != Seen::All || !self.load_next()? {
                return Ok(seen);
            }
            self.data.rewind();
        }
    }

    /// Goes to the previous entry; returns false, and leaves the table, if there is none.
    ///
    /// # Errors
    /// As [`TableCursor::seek_first`].
    pub fn prev(&mut self) -> Result<bool> {
        if !self.data.is_valid() {
            return Ok(false);
        }
        let moved = self.data.prev();
        if self.checked(moved)? {
            return Ok(true);
        }
        if let Some(number) = self.index_number.checked_sub(1) {
            return self.enter_block(number, Direction::Reverse);
        }
        match self.partition.checked_sub(1) {
            Some(partition) => self.enter_partition(partition, Direction::Reverse),
            None => Ok(self.leave()),
        }
    }

    fn next_block(&mut self) -> Result<bool> {
        let number = self.index_number + 1;
        if number < self.index_len() {
            return self.enter_block(number, Direction::Forward);
        }
        self.enter_partition(self.partition + 1, Direction::Forward)
    }

    /// Loads the next data block; returns false if there is none.
    fn load_next(&mut self) -> Result<bool> {
        let number = self.index_number + 1;
        if number < self.index_len() {
            return self.load_data(number);
        }
        Ok(self.load_index(self.partition + 1)? && self.load_data(0)?)
    }

    /// Goes to the first or last entry of a partition.
    fn enter_partition(&mut self, partition: usize, direction: Direction) -> Result<bool> {
        if !self.load_index(partition)? {
            return Ok(self.leave());
        }
        let number = match direction {
            Direction::Forward => 0,
            Direction::Reverse => self.index_len().saturating_sub(1),
        };
        self.enter_block(number, direction)
    }

    /// Goes to the first or last entry of a data block of the partition.
    fn enter_block(&mut self, number: usize, direction: Direction) -> Result<bool> {
        self.load_data(number)?;
        let moved = match direction {
            Direction::Forward => self.data.seek_first(),
            Direction::Reverse => self.data.seek_last(),
        };
        if self.checked(moved)? {
            return Ok(true);
        }
        Err(self.damaged(self.data_at, "a data block is empty"))
    }

    fn index_len(&self) -> usize {
        self.index.as_ref().map_or(0, |index| index.separators.len())
    }

    /// Loads the index of a partition; returns false if there is no such partition.
    fn load_index(&mut self, partition: usize) -> Result<bool> {
        self.leave();
        let inner = &*self.table.inner;
        // A seek mostly stays within the partition.
        if self.partition == partition && self.index.is_some() {
            return Ok(true);
        }
        self.index = None;
        self.partition = partition;
        if let Ahead::Block(..) = self.ahead {
            self.ahead = Ahead::Unknown;
        }
        let Some(partition) = inner.partitions.get(partition) else {
            return Ok(false);
        };
        // One pass over a large table should not fill the memory with its indexes.
        let fill = if self.fill_left > 0 { Fill::Yes } else { Fill::No };
        self.index = Some(inner.metadata(partition, fill)?);
        Ok(true)
    }

    /// Loads a data block of the partition; returns false if there is no such block.
    fn load_data(&mut self, number: usize) -> Result<bool> {
        self.leave();
        let inner = &*self.table.inner;
        self.index_number = number;
        let Some(handle) = self.index.as_ref().and_then(|index| index.handle(number)) else {
            return Ok(false);
        };
        self.data_at = handle.offset;
        // The old block holds on to the window, which could not be used again then.
        self.data.reset(DataBlock::empty());
        let is_cached = inner.has_cache() && self.window.read_ahead == ReadAhead::Adaptive;
        let is_ahead = is_cached && !matches!(self.ahead, Ahead::Nothing);
        let handle_at = |number| self.index.as_ref().and_then(|index| index.handle(number));
        let known = match std::mem::take(&mut self.ahead) {
            Ahead::Block(of, block) if of == number => Some(block),
            _ => None,
        };
        let is_jump = known.is_none();
        if is_ahead && is_jump {
            (0..=2).for_each(|n| inner.prefetch(handle_at(number + n), Prefetch::Index));
        }
        let cached = known.or_else(|| is_cached.then(|| inner.cached_data_block(handle))?);
        let is_hit = cached.is_some();
        let block = if let Some(block) = cached {
            block
        } else if is_cached && self.fill_left > 0 {
            inner.read_data_block(handle, Fill::Yes)?
        } else {
            let contents = self.window.block(inner, handle)?;
            DataBlock::decode(inner.footer.version, contents)
                .map_err(at(&inner.path, handle.offset))?
        };
        self.fill_left = self.fill_left.saturating_sub(1);
        if is_ahead {
            if is_jump {
                block.prefetch_keys();
            }
            self.ahead = Ahead::Unknown;
        }
        // Where one block is missing so will be the next.
        if is_ahead && is_hit {
            // A look-up waits for memory three times, one after the other, unless it was prepared:
            // a step with each block before.
            inner.prefetch(handle_at(number + 1), Prefetch::Block);
            inner.prefetch(handle_at(number + 2), Prefetch::Block);
            inner.prefetch(handle_at(number + 3), Prefetch::Index);
            let next = handle_at(number + 1).and_then(|handle| inner.cached_data_block(handle));
            if let Some(next) = next {
                next.prefetch_entries();
                self.ahead = Ahead::Block(number + 1, next);
            }
        }
        self.data.reset(block);
        Ok(true)
    }

    /// Forgets that reads were sequential.
    fn jump(&mut self) {
        self.window.ahead = 0;
        self.fill_left = match self.window.read_ahead {
            ReadAhead::Adaptive => FILL_BLOCKS,
            ReadAhead::Full => 0,
        };
    }

    /// Leaves the table; returns false, as movements do then.
    fn leave(&mut self) -> bool {
        self.data.leave();
        false
    }

    fn checked(&self, moved: Decoded<bool>) -> Result<bool> {
        moved.map_err(at(&self.table.inner.path, self.data_at))
    }

    fn index_at(&self) -> u64 {
        self.table.inner.partitions.get(self.partition).map_or(0, |p| p.handle.index.offset)
    }

    fn damaged(&self, offset: u64, what: &str) -> Error {
        Error::damaged(&self.table.inner.path, offset, what)
    }
}

/// The entries in a range of keys, one after the other.
///
/// ```text
/// let mut scan = table.scan(..);
/// while let Some(entry) = scan.next()? { … }
/// ```
pub struct Scan {
    cursor: TableCursor,
    range: KeyRange,
    direction: Direction,
    state: ScanState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanState {
    New,
    Running,
    Done,
}

impl Scan {
    pub(crate) fn new(table: Table, range: KeyRange, direction: Direction) -> Scan {
        // Whoever reads everything is spared the slow start.
        let read_ahead =
            if range == KeyRange::all() { ReadAhead::Full } else { ReadAhead::Adaptive };
        Scan {
            cursor: TableCursor::new(table, read_ahead),
            range,
            direction,
            state: ScanState::New,
        }
    }

    /// Returns the next entry; `None` after the last one, and ever after.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a block is not sound, [`Error::Io`] if it cannot be read. The scan is
    /// over then.
    #[expect(clippy::should_implement_trait, reason = "an entry is borrowed from the scan")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>> {
        let state = std::mem::replace(&mut self.state, ScanState::Done);
        let cursor = &mut self.cursor;
        let start = &self.range.start;
        let moved = match (state, self.direction, &self.range.end) {
            (ScanState::Done, ..) => false,
            (ScanState::Running, Direction::Forward, _) => cursor.next()?,
            (ScanState::Running, Direction::Reverse, _) => cursor.prev()?,
            (ScanState::New, Direction::Forward, _) => cursor.seek(start, Timestamp::MAX)?,
            (ScanState::New, Direction::Reverse, None) => cursor.seek_last()?,
            (ScanState::New, Direction::Reverse, Some(end)) => {
                cursor.seek_before(end, Timestamp::MAX)?
            }
        };
        if !moved {
            return Ok(None);
        }
        let entry = self.cursor.entry().filter(|entry| match self.direction {
            Direction::Forward => self.range.end.as_ref().is_none_or(|end| entry.key < &end[..]),
            Direction::Reverse => entry.key >= &self.range.start[..],
        });
        if entry.is_some() {
            self.state = ScanState::Running;
        }
        Ok(entry)
    }
}

/// The part of the file that was read last, of which blocks are handed out without a copy.
pub(crate) struct Window {
    read_ahead: ReadAhead,
    bytes: Bytes,
    start: u64,
    /// How much to read next; 0 for just the block.
    ahead: usize,
}

impl Window {
    pub(crate) fn new(read_ahead: ReadAhead) -> Window {
        Window { read_ahead, bytes: Bytes::new(), start: 0, ahead: 0 }
    }

    /// Returns the checked contents of a block, reading it and some of what lies beyond it.
    pub(crate) fn block(&mut self, inner: &Inner, handle: Handle) -> Result<Bytes> {
        if self.slice(handle).is_none() {
            self.fill(inner, handle)?;
        }
        let missing =
            || Error::damaged(&inner.path, handle.offset, "a block lies outside the file");
        let stored = self.slice(handle).ok_or_else(missing)?;
        unseal(stored, handle.offset).map_err(at(&inner.path, handle.offset))
    }

    fn slice(&self, handle: Handle) -> Option<Bytes> {
        let start = usize::try_from(handle.offset.checked_sub(self.start)?).ok()?;
        let end = start.checked_add(handle.stored_len())?;
        (end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }

    fn fill(&mut self, inner: &Inner, handle: Handle) -> Result<()> {
        let ahead = match self.read_ahead {
            ReadAhead::Full => READ_AHEAD_BYTES,
            ReadAhead::Adaptive => self.ahead,
        };
        self.ahead = (2 * self.ahead).clamp(READ_AHEAD_BYTES_FIRST, READ_AHEAD_BYTES);
        let len = handle.stored_len().max(ahead) as u64;
        // Reading on means reading what lies in front of the old window when it went backwards.
        let is_backwards = handle.offset < self.start;
        let data_end = inner.footer.top_index.offset;
        let (start, end) = if is_backwards {
            (handle.end().saturating_sub(len), handle.end())
        } else {
            (handle.offset, handle.offset.saturating_add(len).min(data_end))
        };
        let len = end.saturating_sub(start) as usize;
        let mut buffer =
            std::mem::take(&mut self.bytes).try_into_mut().unwrap_or_else(|_| BytesMut::new());
        buffer.resize(len, 0);
        inner.read_into(&mut buffer, start)?;
        self.start = start;
        self.bytes = buffer.freeze();
        Ok(())
    }
}

//! Scans: the rows of a range, those the transaction has buffered merged over those it sees.
//!
//! ```text
//!   stored, at read_ts     a1      c1  d1      f1
//!   buffered writes            b9      d✗  e9          (✗ deletes)
//!   the scan               a1  b9  c1      e9  f1
//! ```
//!
//! Rows are owned: they outlive the scan, as they would over a network. They are copied in batches
//! into one buffer that its rows share, so a row costs a copy of its bytes and two counters, and no
//! allocation. The batches grow, so that a scan that stops early has copied little too much; what
//! counts as read is what was returned.

use std::cell::RefCell;
use std::fmt;
use std::ops::Bound;

use base::range::successor;
use base::{KeyRange, text};
use bytes::Bytes;
use storage::memtable::Direction;
use storage::{ReadPin, Rows, Visit};

use crate::error::Result;
use crate::read_set::ReadSet;
use crate::write_set::WriteSet;

/// Rows in the first batch: most scans that stop early take a few.
const BATCH_ROWS_MIN: usize = 16;
/// Rows in later batches, at most: beyond this the shared buffer costs nothing any more.
const BATCH_ROWS_MAX: usize = 512;
/// Bytes after which a batch is closed: rows that are kept hold their whole batch in memory.
const BATCH_BYTES: usize = 64 << 10;

/// One row of a scan. Owned: it keeps the bytes of its batch alive.
#[derive(Clone)]
pub struct Row {
    /// The key, then the value: one counter to keep instead of two.
    bytes: Bytes,
    key_len: usize,
}

impl Row {
    /// Returns the key.
    pub fn key(&self) -> &[u8] {
        &self.bytes[..self.key_len]
    }

    /// Returns the value.
    pub fn value(&self) -> &[u8] {
        &self.bytes[self.key_len..]
    }

    /// Returns the key and the value, each as shared bytes.
    pub fn into_parts(mut self) -> (Bytes, Bytes) {
        let value = self.bytes.split_off(self.key_len);
        (self.bytes, value)
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        (self.key(), self.value()) == (other.key(), other.value())
    }
}

impl Eq for Row {}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", text::escape(self.key()), text::escape(self.value()))
    }
}

/// What a scan reads from.
pub(crate) struct Source<'t> {
    pin: &'t ReadPin,
    writes: Option<&'t WriteSet>,
    /// Where to record what was read, if that matters.
    reads: Option<&'t RefCell<ReadSet>>,
}

impl<'t> Source<'t> {
    pub(crate) fn of(pin: &'t ReadPin) -> Source<'t> {
        Source { pin, writes: None, reads: None }
    }

    pub(crate) fn with_writes(self, writes: &'t WriteSet) -> Source<'t> {
        Source { writes: (!writes.is_empty()).then_some(writes), ..self }
    }

    pub(crate) fn recording(self, reads: Option<&'t RefCell<ReadSet>>) -> Source<'t> {
        Source { reads, ..self }
    }
}

/// The rows of a range in order.
pub struct Scan<'t> {
    source: Source<'t>,
    range: KeyRange,
    direction: Direction,
    rows: Rows<'t>,
    /// The last key merged from the buffered writes or over them.
    passed: Option<Bytes>,
    /// The rows of the batch, one behind the other.
    batch: Bytes,
    /// Where in it each row's key and value end.
    ends: Vec<(usize, usize)>,
    /// How many rows of the batch were returned.
    taken: usize,
    /// How many rows the next batch gets.
    batch_rows: usize,
    /// Bytes at the start of each key that the caller does not want to see.
    hidden_prefix: usize,
    /// The last key returned from an earlier batch, without the hidden prefix.
    returned_before: Option<Vec<u8>>,
    exhausted: bool,
    has_failed: bool,
}

/// Rows on their way into one buffer.
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
    rows_max: usize,
    hidden_prefix: usize,
}

impl Batch {
    /// Returns a batch without rows that uses the memory of an empty one.
    fn new(
        bytes: Vec<u8>,
        mut ends: Vec<(usize, usize)>,
        rows_max: usize,
        hidden_prefix: usize,
    ) -> Batch {
        ends.clear();
        Batch { bytes, ends, rows_max, hidden_prefix }
    }

    fn push(&mut self, key: &[u8], value: &[u8]) {
        if self.ends.is_empty() {
            // Rows of one table tend to be of one size.
            let expected = (key.len() + value.len() + 8) * self.rows_max;
            self.bytes.reserve(expected.min(2 * BATCH_BYTES));
        }
        self.bytes.extend_from_slice(key.get(self.hidden_prefix..).unwrap_or_default());
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len()));
    }

    fn is_full(&self) -> bool {
        self.ends.len() >= self.rows_max || self.bytes.len() >= BATCH_BYTES
    }
}

impl<'t> Scan<'t> {
    pub(crate) fn new(source: Source<'t>, range: KeyRange, direction: Direction) -> Scan<'t> {
        // A range that ends before it starts is empty; the engine need not know such.
        let end = if range.is_empty() { Some(range.start.clone()) } else { range.end.clone() };
        let range = KeyRange { start: range.start, end };
        let rows = source.pin.rows(range.clone(), direction);
        Scan {
            source,
            range,
            direction,
            rows,
            passed: None,
            batch: Bytes::new(),
            ends: Vec::new(),
            taken: 0,
            batch_rows: BATCH_ROWS_MIN,
            hidden_prefix: 0,
            returned_before: None,
            exhausted: false,
            has_failed: false,
        }
    }

    /// Leaves out the first bytes of each returned key: those that name the keyspace.
    pub fn hiding_prefix(mut self, bytes: usize) -> Scan<'t> {
        self.hidden_prefix = bytes;
        self
    }

    /// Expects about so many rows to be taken: sizes the first batch.
    pub fn expecting(mut self, rows: usize) -> Scan<'t> {
        self.batch_rows = rows.clamp(1, BATCH_ROWS_MAX);
        self
    }

    /// Copies the next rows into one buffer.
    fn fill(&mut self) -> Result<()> {
        if self.source.reads.is_some() {
            self.returned_before = self.last_returned().map(<[u8]>::to_vec);
        }
        let ends = std::mem::take(&mut self.ends);
        // If no row of it is kept any more, the buffer is used again.
        let buffer = std::mem::take(&mut self.batch).try_into_mut().map(|mut buffer| {
            buffer.clear();
            Vec::from(buffer)
        });
        let mut batch =
            Batch::new(buffer.unwrap_or_default(), ends, self.batch_rows, self.hidden_prefix);
        let Scan { source, range, direction, rows, passed, .. } = self;
        let (writes, direction) = (source.writes, *direction);
        let is_at_end = match writes {
            None => rows.visit(|key, _, value| {
                batch.push(key, value);
                if batch.is_full() { Visit::Stop } else { Visit::Next }
            })?,
            Some(writes) => rows.visit(|key, _, value| {
                while let Some((own, own_value)) =
                    next_write(writes, range, direction, passed.as_ref())
                    && direction.is_before_or_at(own, key)
                {
                    if batch.is_full() {
                        return Visit::StopBefore;
                    }
                    *passed = Some(own.clone());
                    if let Some(value) = own_value {
                        batch.push(own, value);
                    }
                    // The buffered write hides the row that the snapshot has of its key.
                    if own[..] == *key {
                        return if batch.is_full() { Visit::Stop } else { Visit::Next };
                    }
                }
                if batch.is_full() {
                    return Visit::StopBefore;
                }
                batch.push(key, value);
                if batch.is_full() { Visit::Stop } else { Visit::Next }
            })?,
        };
        if let Some(writes) = writes.filter(|_| is_at_end) {
            while !batch.is_full()
                && let Some((own, own_value)) =
                    next_write(writes, range, direction, passed.as_ref())
            {
                *passed = Some(own.clone());
                if let Some(value) = own_value {
                    batch.push(own, value);
                }
            }
        }
        self.exhausted = is_at_end && !batch.is_full();
        self.batch_rows = (self.batch_rows * 4).min(BATCH_ROWS_MAX);
        self.batch = Bytes::from(batch.bytes);
        self.ends = batch.ends;
        self.taken = 0;
        Ok(())
    }

    /// Returns where in the batch a row begins.
    fn start_of(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| self.ends[before].1)
    }

    /// Returns the last key returned, without the hidden prefix.
    fn last_returned(&self) -> Option<&[u8]> {
        match self.taken.checked_sub(1) {
            Some(last) => Some(&self.batch[self.start_of(last)..self.ends[last].0]),
            None => self.returned_before.as_deref(),
        }
    }

    /// Records as read what was returned, and the gaps between.
    fn record(&mut self) {
        let Some(reads) = self.source.reads.take() else { return };
        let whole = self.exhausted && !self.has_failed && self.taken == self.ends.len();
        let prefix = &self.range.start[..self.hidden_prefix.min(self.range.start.len())];
        let last = self.last_returned().map(|last| Bytes::from([prefix, last].concat()));
        let range = match (last, self.direction) {
            _ if whole => self.range.clone(),
            (None, _) => return,
            (Some(last), Direction::Forward) => {
                KeyRange { start: self.range.start.clone(), end: Some(successor(&last)) }
            }
            (Some(last), Direction::Reverse) => {
                KeyRange { start: last, end: self.range.end.clone() }
            }
        };
        reads.borrow_mut().add_range(range);
    }
}

fn next_write<'t>(
    writes: &'t WriteSet,
    range: &KeyRange,
    direction: Direction,
    passed: Option<&Bytes>,
) -> Option<(&'t Bytes, &'t Option<Bytes>)> {
    let after = passed.map(|key| Bound::Excluded(&key[..]));
    match direction {
        Direction::Forward => {
            writes.first(after.unwrap_or(Bound::Included(&range.start)), range.end.as_deref())
        }
        Direction::Reverse => {
            let end = range.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
            writes.last(&range.start, after.unwrap_or(end))
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        // A batch may be empty and yet not the last: of buffered deletions.
        while self.taken == self.ends.len() {
            if self.exhausted {
                return None;
            }
            if let Err(error) = self.fill() {
                // What was not read cannot be said to be read whole.
                (self.exhausted, self.has_failed) = (true, true);
                return Some(Err(error));
            }
        }
        let &(key_end, end) = self.ends.get(self.taken)?;
        let start = self.start_of(self.taken);
        self.taken += 1;
        Some(Ok(Row { bytes: self.batch.slice(start..end), key_len: key_end - start }))
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        self.record();
    }
}

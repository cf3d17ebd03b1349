//! Reading: a registered timestamp, and everything that is read through it.
//!
//! ```text
//!   get      active ─ sealed … ─ hot rows ─ tables, level by level        the first that has one
//!   rows     merge of the memtables and of the tables that the range touches
//! ```
//!
//! A [`ReadPin`] holds a timestamp and nothing else: no memtable, no table, no memory. Each
//! operation takes the view of its own moment. That is sound because a view that replaces another
//! says the same about every timestamp at or above the watermark, and a pin holds the watermark
//! back. So a snapshot that lives for hours keeps versions of keys, which is its purpose, but
//! neither files that were compacted nor memtables that were flushed.
//!
//! # Scans come in batches
//! [`Rows::visit`] takes a view, seeks to where the last batch ended, hands out rows as long as its
//! caller wants more, and lets the view go. What a scan that is paused holds is a key.

use std::ops::ControlFlow;
use std::sync::Arc;

use base::{KeyRange, Timestamp};
use bytes::Bytes;

use super::Engine;
use super::view::View;
use crate::error::Result;
use crate::iterator::{Cursor, Merge, Row, RunCursor, VisibleRows};
use crate::memtable::{self, Direction, Memtable, Pin, Registration, TooOld};
use crate::table::{Entry, key_hash};
use crate::value::{Stored, Value};
use crate::version::{LiveTable, ValueFiles};

/// A registered reader. While it lives, every version visible at its timestamp is kept, and every
/// newer one.
pub struct ReadPin {
    engine: Arc<Engine>,
    registration: Registration,
    ts: Timestamp,
}

impl Engine {
    /// Registers a reader at `ts`.
    ///
    /// # Errors
    /// [`TooOld`] if the floor has passed `ts`.
    pub fn pin_at(self: &Arc<Self>, ts: Timestamp) -> std::result::Result<ReadPin, TooOld> {
        match self.pins.register(ts) {
            Ok(registration) => Ok(ReadPin { engine: self.clone(), registration, ts }),
            Err(floor) => Err(TooOld { asked: ts, floor }),
        }
    }

    /// Registers a reader at the newest visible timestamp; asks `visible` again whenever the floor
    /// overtook it in between. If `visible` lies below the floor for good, reads at the floor.
    pub fn pin_newest(self: &Arc<Self>, visible: impl Fn() -> Timestamp) -> ReadPin {
        let mut ts = visible();
        loop {
            match self.pins.register(ts) {
                Ok(registration) => {
                    return ReadPin { engine: self.clone(), registration, ts };
                }
                Err(floor) => ts = visible().max(floor),
            }
        }
    }
}

impl Drop for ReadPin {
    fn drop(&mut self) {
        self.engine.pins.release(self.registration);
    }
}

impl std::fmt::Debug for ReadPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadPin").field("ts", &self.ts).finish_non_exhaustive()
    }
}

/// What becomes of a row that was handed out, and of the scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// The row was taken; the next one is wanted.
    Next,
    /// The row was taken; that is enough for now.
    Stop,
    /// The row was not taken: the next batch begins with it.
    StopBefore,
}

impl ReadPin {
    /// Returns the timestamp that is read.
    pub fn ts(&self) -> Timestamp {
        self.ts
    }

    /// Returns a key's value and when it was committed; `None` if it has none.
    ///
    /// # Errors
    /// `Damaged` and the system's errors, if a table must be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<(Timestamp, Bytes)>> {
        self.engine.get(key, self.ts)
    }

    /// Returns the timestamp of a key's newest version, whether it can be seen yet or not, if it
    /// is newer than `after`. Sees every commit that was applied before the call.
    ///
    /// # Errors
    /// As [`ReadPin::get`].
    pub fn newest_after(&self, key: &[u8], after: Timestamp) -> Result<Option<Timestamp>> {
        let view = self.engine.view.load();
        // The first that has any has the newest.
        for memtable in view.memtables() {
            if let Some(newest) = memtable.pin_writer().newest(key) {
                return Ok(Some(newest).filter(|newest| *newest > after));
            }
        }
        view.version.newest(key, key_hash(key), after)
    }

    /// Returns a key of the range that has a version newer than `after`, and that version's
    /// timestamp. Sees every commit that was applied before the call.
    ///
    /// # Errors
    /// As [`ReadPin::get`].
    pub fn newest_in_range(
        &self,
        range: &KeyRange,
        after: Timestamp,
    ) -> Result<Option<(Bytes, Timestamp)>> {
        let view = self.engine.view.load();
        let (start, end) = (&range.start[..], range.end.as_deref());
        for memtable in view.memtables() {
            let pin = memtable.pin_writer();
            if let Some((key, ts)) = pin.newest_in_range(start, end, after) {
                return Ok(Some((Bytes::copy_from_slice(key), ts)));
            }
        }
        let mut found = None;
        view.each_stored_after(range, after, |key, ts, _| {
            found = Some((Bytes::copy_from_slice(key), ts));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Hands out all versions of a range that are newer than `after` and not newer than `through`,
    /// in no particular order; one may come twice. Below this pin's timestamp there is nothing to
    /// rely on, and nothing is handed out.
    ///
    /// # Errors
    /// As [`ReadPin::get`].
    pub fn history(
        &self,
        range: &KeyRange,
        after: Timestamp,
        through: Timestamp,
        mut visit: impl FnMut(&[u8], Timestamp, Value<'_>),
    ) -> Result<()> {
        let after = after.max(self.ts);
        let view = self.engine.view.load();
        for memtable in view.memtables() {
            for history in memtable.pin_reader(after).versions(range) {
                for version in history.versions() {
                    if version.ts > after && version.ts <= through {
                        visit(history.key, version.ts, version.value);
                    }
                }
            }
        }
        let mut failed = None;
        view.each_stored_after(range, after, |key, ts, value| {
            if ts <= through {
                let visited = view.version.values().with_value(key, value, |value| {
                    visit(key, ts, value.map_or(Value::Tombstone, Value::Put));
                });
                if let Err(error) = visited {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Returns the rows of a range in order, to be fetched batch by batch.
    pub fn rows(&self, range: KeyRange, direction: Direction) -> Rows<'_> {
        let is_done = range.is_empty();
        Rows { pin: self, range, direction, is_done }
    }
}

impl Engine {
    fn get(&self, key: &[u8], ts: Timestamp) -> Result<Option<(Timestamp, Bytes)>> {
        // Before the memtables are asked: see the argument in `row_cache`.
        let generation = self.rows.generation();
        let view = self.view.load();
        let mut is_in_memory = false;
        for memtable in view.memtables() {
            let pin = memtable.pin_reader(ts);
            match pin.find(key) {
                memtable::Found::Version(version) => {
                    let value = version.value.as_put();
                    return Ok(value.map(|value| (version.ts, Bytes::copy_from_slice(value))));
                }
                memtable::Found::OnlyNewer => is_in_memory = true,
                memtable::Found::Nothing => {}
            }
        }
        let hash = key_hash(key);
        if let Some(row) = self.rows.get(hash, key, ts) {
            return Ok(row.value.map(|value| (row.ts, value)));
        }
        let Some(found) = view.version.get(key, hash, ts)? else { return Ok(None) };
        let found_ts = found.ts;
        let value = found.value.map(|value| unshare(&value));
        // Of a key that has newer versions in a memtable the tables' newest may not be known here.
        if !is_in_memory && view.version.newest(key, hash, ts)?.is_none() {
            let value = value.as_deref().map_or(Value::Tombstone, Value::Put);
            self.rows.insert(generation, hash, key, found_ts, value);
        }
        Ok(value.map(|value| (found_ts, value)))
    }
}

/// Returns a copy that does not hold the block in memory that the value lies in.
fn unshare(value: &Bytes) -> Bytes {
    Bytes::copy_from_slice(value)
}

impl View {
    /// Hands out the versions of a range in tables that are newer than `after`, until told to stop.
    fn each_stored_after(
        &self,
        range: &KeyRange,
        after: Timestamp,
        mut visit: impl FnMut(&[u8], Timestamp, Stored<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let is_newer = |table: &&Arc<LiveTable>| {
            let meta = &table.meta;
            let begins_before_end = range.end.as_ref().is_none_or(|end| meta.first_key() < end);
            meta.ts_max() > after && begins_before_end && meta.last_key() >= &range.start
        };
        for table in self.version.tables().filter(is_newer) {
            let mut cursor = table.cursor();
            let mut is_valid = cursor.seek(&range.start, Timestamp::MAX)?;
            while is_valid {
                let Some(Entry { key, ts, value }) = cursor.entry() else { break };
                if !range.contains(key) {
                    break;
                }
                if ts > after && visit(key, ts, value).is_break() {
                    return Ok(());
                }
                is_valid = cursor.next()?;
            }
        }
        Ok(())
    }
}

/// The rows of a range that are visible at a pin's timestamp.
pub struct Rows<'p> {
    pin: &'p ReadPin,
    /// What was not handed out yet.
    range: KeyRange,
    direction: Direction,
    is_done: bool,
}

impl Rows<'_> {
    /// Hands out rows until told to stop; returns true if there are no more.
    ///
    /// # Errors
    /// As [`ReadPin::get`]. What was handed out before counts as handed out.
    pub fn visit(
        &mut self,
        mut take: impl FnMut(&[u8], Timestamp, &[u8]) -> Visit,
    ) -> Result<bool> {
        if self.is_done {
            return Ok(true);
        }
        let view = self.pin.engine.view.load();
        let mut stop =
            Stop { range: &mut self.range, direction: self.direction, is_stopped: false };
        let mut tables = view.version.cursors(stop.range, self.pin.ts);
        if view.sealed.is_empty() && tables.is_empty() {
            // Everything is in one memtable: nothing to merge.
            let pin = view.active.pin_reader(self.pin.ts);
            let range = stop.range.clone();
            for row in pin.scan(&range.start, range.end.as_deref(), self.direction) {
                if stop.is_after(row.key, take(row.key, row.ts, row.value)) {
                    break;
                }
            }
        } else if let ([run], Direction::Forward) = (&mut tables[..], self.direction)
            && view.memtables().all(Memtable::is_empty)
        {
            let range = stop.range.clone();
            let values = view.version.values();
            let mut failed = None;
            run.visit(&range.start, range.end.as_deref(), self.pin.ts, |key, ts, value| {
                let taken =
                    values.with_value(key, value, |value| take(key, ts, value.unwrap_or_default()));
                match taken {
                    Ok(visit) if !stop.is_after(key, visit) => ControlFlow::Continue(()),
                    Ok(_) => ControlFlow::Break(()),
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
        } else {
            visit_merged(&view, tables, self.pin.ts, &mut stop, &mut take)?;
        }
        self.is_done = !stop.is_stopped;
        Ok(self.is_done)
    }
}

/// Remembers where a batch ended.
struct Stop<'r> {
    range: &'r mut KeyRange,
    direction: Direction,
    is_stopped: bool,
}

impl Stop<'_> {
    /// Returns true if the batch ends with this row.
    fn is_after(&mut self, key: &[u8], visit: Visit) -> bool {
        let is_taken = match visit {
            Visit::Next => return false,
            Visit::Stop => true,
            Visit::StopBefore => false,
        };
        self.is_stopped = true;
        match (self.direction, is_taken) {
            (Direction::Forward, true) => self.range.start = base::range::successor(key),
            (Direction::Forward, false) => self.range.start = Bytes::copy_from_slice(key),
            (Direction::Reverse, true) => self.range.end = Some(Bytes::copy_from_slice(key)),
            (Direction::Reverse, false) => self.range.end = Some(base::range::successor(key)),
        }
        true
    }
}

/// What a scan merges.
#[expect(clippy::large_enum_variant, reason = "a memtable's walk is larger still, and boxed")]
enum Source<'p> {
    Memtable(Box<memtable::Cursor<'p, &'p Memtable>>),
    Tables(RunCursor),
}

impl Cursor for Source<'_> {
    #[inline]
    fn entry(&self) -> Option<Entry<'_>> {
        match self {
            Source::Memtable(cursor) => cursor.entry(),
            Source::Tables(cursor) => cursor.entry(),
        }
    }

    fn seek_first(&mut self) -> Result<bool> {
        match self {
            Source::Memtable(cursor) => cursor.seek_first(),
            Source::Tables(cursor) => cursor.seek_first(),
        }
    }

    fn seek_last(&mut self) -> Result<bool> {
        match self {
            Source::Memtable(cursor) => cursor.seek_last(),
            Source::Tables(cursor) => cursor.seek_last(),
        }
    }

    fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        match self {
            Source::Memtable(cursor) => cursor.seek(key, ts),
            Source::Tables(cursor) => cursor.seek(key, ts),
        }
    }

    fn seek_before(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        match self {
            Source::Memtable(cursor) => cursor.seek_before(key, ts),
            Source::Tables(cursor) => cursor.seek_before(key, ts),
        }
    }

    #[inline]
    fn next(&mut self) -> Result<bool> {
        match self {
            Source::Memtable(cursor) => cursor.next(),
            Source::Tables(cursor) => cursor.next(),
        }
    }

    #[inline]
    fn prev(&mut self) -> Result<bool> {
        match self {
            Source::Memtable(cursor) => cursor.prev(),
            Source::Tables(cursor) => cursor.prev(),
        }
    }
}

fn visit_merged(
    view: &View,
    tables: Vec<RunCursor>,
    ts: Timestamp,
    stop: &mut Stop<'_>,
    take: &mut impl FnMut(&[u8], Timestamp, &[u8]) -> Visit,
) -> Result<()> {
    let values = view.version.values();
    let memtables = view.memtables().filter(|memtable| !memtable.is_empty());
    let pins: Vec<Pin<&Memtable>> = memtables.map(|memtable| memtable.pin_reader(ts)).collect();
    let mut sources: Vec<Source<'_>> =
        pins.iter().map(|pin| Source::Memtable(Box::new(pin.cursor()))).collect();
    sources.extend(tables.into_iter().map(Source::Tables));
    match sources.pop() {
        // What was flushed and compacted lies in one run: nothing to merge.
        Some(Source::Tables(only)) if sources.is_empty() => {
            visit_rows(VisibleRows::new(only, ts), values, stop, take)
        }
        Some(last) => {
            sources.push(last);
            visit_rows(VisibleRows::new(Merge::new(sources), ts), values, stop, take)
        }
        None => Ok(()),
    }
}

/// Hands out a row with its value, wherever that lies.
fn take_row(
    row: Row<'_>,
    values: &ValueFiles,
    take: &mut impl FnMut(&[u8], Timestamp, &[u8]) -> Visit,
) -> Result<Visit> {
    values.with_value(row.key, row.value, |value| take(row.key, row.ts, value.unwrap_or_default()))
}

fn visit_rows(
    mut rows: VisibleRows<impl Cursor>,
    values: &ValueFiles,
    stop: &mut Stop<'_>,
    take: &mut impl FnMut(&[u8], Timestamp, &[u8]) -> Visit,
) -> Result<()> {
    let range = stop.range.clone();
    match stop.direction {
        Direction::Forward => {
            let mut is_valid = rows.seek(&range.start)?;
            while is_valid && let Some(row) = rows.row() {
                if range.end.as_ref().is_some_and(|end| row.key >= &end[..])
                    || stop.is_after(row.key, take_row(row, values, take)?)
                {
                    break;
                }
                is_valid = rows.next()?;
            }
        }
        Direction::Reverse => {
            let mut is_valid = match &range.end {
                Some(end) => rows.seek_before(end)?,
                None => rows.seek_last()?,
            };
            while is_valid && let Some(row) = rows.row() {
                if row.key < &range.start[..]
                    || stop.is_after(row.key, take_row(row, values, take)?)
                {
                    break;
                }
                is_valid = rows.prev()?;
            }
        }
    }
    Ok(())
}

//! Reads what is whole of a damaged table, in order, block by block, for `holm repair`.
//!
//! Indexes are read, filters are not: no entry is lost because a filter is. Data blocks of a
//! partition whose index is damaged cannot be found, for nothing else says where they begin.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use super::block::{BlockCursor, Handle};
use super::cursor::Entry;
use super::data::{DataBlock, DataCursor};
use super::index::decode_handle;
use super::position::Position;
use super::reader::{Fill, Table, at};
use crate::{Error, Result};

/// Keys between which entries are missing; `None` is the end of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) after: Option<Bytes>,
    pub(crate) before: Option<Bytes>,
}

/// A walk over the entries of all whole blocks.
pub(crate) struct WholeEntries {
    table: Table,
    /// The partition to be entered next, and the blocks left of the current one.
    partition: usize,
    handles: VecDeque<Handle>,
    cursor: Option<DataCursor>,
    /// The encoded position of the last entry that was handed out.
    last: Vec<u8>,
    /// The key before a gap that has not been closed yet.
    open_gap: Option<Option<Bytes>>,
    gaps: Vec<Gap>,
    damages: Vec<String>,
}

impl WholeEntries {
    /// Returns a walk that is on no entry yet.
    pub(crate) fn new(table: Table) -> WholeEntries {
        WholeEntries {
            table,
            partition: 0,
            handles: VecDeque::new(),
            cursor: None,
            last: Vec::new(),
            open_gap: None,
            gaps: Vec::new(),
            damages: Vec::new(),
        }
    }

    /// Goes to the next entry; returns false if there is none.
    ///
    /// # Errors
    /// If the table cannot be read for another reason than damage, as when it needs a newer one.
    pub(crate) fn next(&mut self) -> Result<bool> {
        loop {
            if !self.step()? {
                if let Some(after) = self.open_gap.take() {
                    self.gaps.push(Gap { after, before: None });
                }
                return Ok(false);
            }
            let Some(cursor) = &self.cursor else { continue };
            let position = cursor.position();
            // What every reader relies on; a checksum does not vouch for it.
            if Position::decode(&self.last).is_some_and(|last| last >= position) {
                self.note("an entry is out of order".to_string());
                self.cursor = None;
                continue;
            }
            if let Some(after) = self.open_gap.take() {
                self.gaps.push(Gap { after, before: Some(Bytes::copy_from_slice(position.key)) });
            }
            self.last.clear();
            position.encode(&mut self.last);
            return Ok(true);
        }
    }

    /// Returns the entry that the walk is on.
    pub(crate) fn entry(&self) -> Option<Entry<'_>> {
        self.cursor.as_ref().map(|cursor| {
            let position = cursor.position();
            Entry { key: position.key, ts: position.ts(), value: cursor.value() }
        })
    }

    /// Returns what was found damaged so far, and between which keys entries are missing for it.
    pub(crate) fn into_findings(self) -> (Vec<String>, Vec<Gap>) {
        (self.damages, self.gaps)
    }

    /// Moves to the next entry of the current block, or to the first of the next whole one.
    fn step(&mut self) -> Result<bool> {
        if let Some(cursor) = &mut self.cursor {
            match cursor.next() {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(flaw) => self.note(flaw.what.to_string()),
            }
            self.cursor = None;
        }
        while let Some(handle) = self.next_handle()? {
            let inner = &*self.table.inner;
            let entered = inner.data_block(handle, Fill::No).and_then(|block: DataBlock| {
                let mut cursor = DataCursor::new(block);
                let moved = cursor.seek_first().map_err(at(&inner.path, handle.offset))?;
                Ok(moved.then_some(cursor))
            });
            self.cursor = self.tolerate(entered)?.flatten();
            if self.cursor.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn next_handle(&mut self) -> Result<Option<Handle>> {
        loop {
            if let Some(handle) = self.handles.pop_front() {
                return Ok(Some(handle));
            }
            let inner = &*self.table.inner;
            let Some(partition) = inner.partitions.get(self.partition) else { return Ok(None) };
            self.partition += 1;
            let index = partition.handle.index;
            let mut handles = VecDeque::new();
            let read = inner.index_block(index).and_then(|block| {
                let mut cursor = BlockCursor::new(block);
                let flaw = at(&inner.path, index.offset);
                let mut is_valid = cursor.seek_first().map_err(&flaw)?;
                while is_valid {
                    let value = cursor.value().as_put().unwrap_or_default();
                    let handle = decode_handle(value).ok().filter(|it| it.end() <= index.offset);
                    let what = "it points to a block that is outside of its partition";
                    handles.push_back(
                        handle.ok_or_else(|| Error::damaged(&inner.path, index.offset, what))?,
                    );
                    is_valid = cursor.next().map_err(&flaw)?;
                }
                Ok(())
            });
            self.tolerate(read)?;
            self.handles = handles;
        }
    }

    /// Notes damage, and what a disk refuses to read.
    fn tolerate<T>(&mut self, read: Result<T>) -> Result<Option<T>> {
        let is_damage = |error: &Error| match error {
            Error::Damaged { .. } => true,
            Error::Io { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ),
            _ => false,
        };
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) if is_damage(&error) => {
                self.note(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn note(&mut self, what: String) {
        self.damages.push(what);
        let last = Position::decode(&self.last).map(|last| Bytes::copy_from_slice(last.key));
        self.open_gap.get_or_insert(last);
    }
}

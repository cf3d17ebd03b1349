//! An open table: point reads, and the blocks that everything else here is read from.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use base::{KeyRange, Timestamp};
use bytes::Bytes;
use env::{Disk, File, OpenMode};

use super::block::{Block, BlockCursor, Decoded, Flaw, Handle, unseal};
use super::cursor::{Direction, ReadAhead, Scan, TableCursor};
use super::filter::{self, Filter};
use super::footer::{BadFooter, FOOTER_BYTES, FORMAT_VERSION, Footer};
use super::index::{PartitionHandle, decode_handle};
use super::position::Position;
use super::properties::TableProperties;
use crate::{Error, Result, Value};

/// How much of the end of a file is read first, in bytes: footer, properties and top index of all
/// but large tables.
const TAIL_BYTES: u64 = 16 << 10;

/// The newest version of a key at some timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// When it was written.
    pub ts: Timestamp,
    /// The value; `None` if the key was deleted then. It shares the memory of its block.
    pub value: Option<Bytes>,
}

impl Found {
    /// Returns the value or tombstone, borrowed.
    pub fn as_value(&self) -> Value<'_> {
        self.value.as_deref().map_or(Value::Tombstone, Value::Put)
    }
}

/// A table that is open for reading. Clones share the file.
#[derive(Clone)]
pub struct Table {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    file: Box<dyn File>,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) footer: Footer,
    pub(crate) properties: TableProperties,
    pub(crate) partitions: Vec<Partition>,
}

/// One entry of the top index.
pub(crate) struct Partition {
    /// The encoded key that separates this partition from the next.
    pub(crate) separator: Box<[u8]>,
    pub(crate) handle: PartitionHandle,
    /// Filter and index, once a point read has asked for them; they stay as long as the table.
    loaded: OnceLock<(Filter, Block)>,
}

impl Partition {
    pub(crate) fn separator(&self) -> Position<'_> {
        Position::decode(&self.separator).expect("separators are checked when a table is opened")
    }
}

impl Table {
    /// Opens a table and reads its footer, properties and top index; no data.
    ///
    /// # Errors
    /// [`Error::Damaged`] if these are not sound, [`Error::NewerFormat`] if a newer program wrote
    /// them, [`Error::Io`] if the file cannot be opened or read.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Table> {
        let file = disk.open(path, OpenMode::Read).map_err(Error::io(path, "open"))?;
        let bytes = file.len().map_err(Error::io(path, "measure"))?;
        let footer_at = bytes.saturating_sub(FOOTER_BYTES as u64);
        let tail_at = bytes.saturating_sub(TAIL_BYTES);
        let tail = read(&*file, path, tail_at, (bytes - tail_at) as usize)?;
        let last = tail.slice((footer_at - tail_at) as usize..);
        let footer = Footer::decode(&last, bytes).map_err(|bad| match bad {
            BadFooter::Damaged(flaw) => Error::damaged(path, footer_at, flaw.what),
            BadFooter::Newer(found) => {
                Error::NewerFormat { path: path.to_path_buf(), found, known: FORMAT_VERSION }
            }
        })?;
        let block = |handle: Handle| {
            let stored = match handle.offset.checked_sub(tail_at) {
                Some(start) => tail.slice(start as usize..(handle.end() - tail_at) as usize),
                None => read(&*file, path, handle.offset, handle.stored_len())?,
            };
            unseal(stored, handle.offset).map_err(at(path, handle.offset))
        };
        let properties = TableProperties::decode(&block(footer.properties)?)
            .map_err(at(path, footer.properties.offset))?;
        let top_index =
            Block::new(block(footer.top_index)?).map_err(at(path, footer.top_index.offset))?;
        let partitions = partitions_of(top_index, footer.top_index.offset)
            .map_err(at(path, footer.top_index.offset))?;
        let path = path.to_path_buf();
        let inner = Inner { file, path, bytes, footer, properties, partitions };
        Ok(Table { inner: Arc::new(inner) })
    }

    /// Returns the newest entry of a key at or before a timestamp.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a block on the way is not sound, [`Error::Io`] if it cannot be read.
    pub fn get(&self, key: &[u8], ts: Timestamp) -> Result<Option<Found>> {
        let inner = &*self.inner;
        let target = Position::new(key, ts);
        let Some(partition) = inner.partitions.get(inner.partition_of(target)) else {
            return Ok(None);
        };
        let (filter, index) = inner.load(partition)?;
        if !filter.may_contain(filter::hash(key)) {
            return Ok(None);
        }
        let mut cursor = BlockCursor::new(index.clone());
        let index_at = partition.handle.index.offset;
        if !cursor.seek(target).map_err(at(&inner.path, index_at))? {
            return Err(Error::damaged(
                &inner.path,
                index_at,
                "the index ends before its separator",
            ));
        }
        // If the key has such an entry at all it is in this block: see the invariants of a table.
        let handle = inner.data_handle(&cursor, index_at)?;
        cursor.reset(inner.entries(handle)?);
        let is_valid = cursor.seek(target).map_err(at(&inner.path, handle.offset))?;
        let position = cursor.position();
        Ok((is_valid && position.key == key)
            .then(|| Found { ts: position.ts(), value: cursor.shared_value() }))
    }

    /// Returns a cursor that is on no entry yet.
    pub fn cursor(&self) -> TableCursor {
        TableCursor::new(self.clone(), ReadAhead::Adaptive)
    }

    /// Returns the entries in a range of keys, in order: each key's newest entry first.
    pub fn scan(&self, range: impl Into<KeyRange>) -> Scan {
        Scan::new(self.clone(), range.into(), Direction::Forward)
    }

    /// Returns the entries in a range of keys in reverse order: each key's oldest entry first.
    pub fn scan_reverse(&self, range: impl Into<KeyRange>) -> Scan {
        Scan::new(self.clone(), range.into(), Direction::Reverse)
    }

    /// Returns what the table says of itself.
    pub fn properties(&self) -> &TableProperties {
        &self.inner.properties
    }

    /// Returns the length of the file.
    pub fn bytes(&self) -> u64 {
        self.inner.bytes
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }
}

impl Inner {
    /// Returns the number of the partition in which a position lies, or the number of partitions if
    /// it lies behind them all.
    pub(crate) fn partition_of(&self, target: Position<'_>) -> usize {
        self.partitions.partition_point(|partition| partition.separator() < target)
    }

    fn load<'a>(&self, partition: &'a Partition) -> Result<&'a (Filter, Block)> {
        if let Some(loaded) = partition.loaded.get() {
            return Ok(loaded);
        }
        let PartitionHandle { filter, index } = partition.handle;
        let filter_contents = self.contents(filter)?;
        let filter = Filter::new(filter_contents).map_err(at(&self.path, filter.offset))?;
        let index = self.entries(index)?;
        // Two threads may both have read it: one of the two equal results stays.
        Ok(partition.loaded.get_or_init(|| (filter, index)))
    }

    /// Returns a partition's index block, from memory if a point read has left it there. It is not
    /// kept: one pass over a large table should not fill the memory with its index.
    pub(crate) fn index_of(&self, partition: &Partition) -> Result<Block> {
        match partition.loaded.get() {
            Some((_, index)) => Ok(index.clone()),
            None => self.entries(partition.handle.index),
        }
    }

    /// Returns where the data block lies that an index cursor is on.
    pub(crate) fn data_handle(&self, cursor: &BlockCursor, index_at: u64) -> Result<Handle> {
        let value = cursor.value().as_put().unwrap_or_default();
        let handle = decode_handle(value).ok();
        // Data lies before its index: this also bounds what a wrong length could make us allocate.
        handle.filter(|handle| handle.end() <= index_at).ok_or_else(|| {
            let what = "an index entry does not point to a data block";
            Error::damaged(&self.path, index_at + cursor.offset() as u64, what)
        })
    }

    pub(crate) fn entries(&self, handle: Handle) -> Result<Block> {
        Block::new(self.contents(handle)?).map_err(at(&self.path, handle.offset))
    }

    pub(crate) fn contents(&self, handle: Handle) -> Result<Bytes> {
        let stored = self.read(handle.offset, handle.stored_len())?;
        unseal(stored, handle.offset).map_err(at(&self.path, handle.offset))
    }

    /// Reads bytes that must be there.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Bytes> {
        read(&*self.file, &self.path, offset, len)
    }

    /// Reads into memory that is used again.
    pub(crate) fn read_into(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        read_exact(&*self.file, &self.path, buffer, offset)
    }
}

/// Turns a flaw in the bytes at an offset into the error that names file and offset.
pub(crate) fn at(path: &Path, offset: u64) -> impl Fn(Flaw) -> Error {
    move |flaw| {
        let offset = offset + flaw.at as u64;
        if flaw.is_unsupported {
            let what = format!("at offset {offset}: {}: use a newer program", flaw.what);
            let source = std::io::Error::new(std::io::ErrorKind::Unsupported, what);
            return Error::Io { path: path.to_path_buf(), action: "read", source };
        }
        Error::damaged(path, offset, flaw.what)
    }
}

/// Decodes the top index.
fn partitions_of(top_index: Block, file_offset: u64) -> Decoded<Vec<Partition>> {
    let mut partitions: Vec<Partition> = Vec::new();
    let mut cursor = BlockCursor::new(top_index);
    let mut end = 0;
    let mut is_valid = cursor.seek_first()?;
    while is_valid {
        let value = cursor.value().as_put().unwrap_or_default();
        let handle = PartitionHandle::decode(value).ok();
        let handle = handle.filter(|h| h.filter.offset >= end && h.index.end() <= file_offset);
        let is_in_order = partitions.last().is_none_or(|last| last.separator() < cursor.position());
        let Some(handle) = handle.filter(|_| is_in_order) else {
            return Err(Flaw::new(cursor.offset(), "the top index points to no partition"));
        };
        end = handle.index.end();
        let separator = cursor.encoded_key().into();
        partitions.push(Partition { separator, handle, loaded: OnceLock::new() });
        is_valid = cursor.next()?;
    }
    if end != file_offset {
        return Err(Flaw::new(0, "the top index does not follow its last partition"));
    }
    Ok(partitions)
}

fn read(file: &dyn File, path: &Path, offset: u64, len: usize) -> Result<Bytes> {
    let mut buffer = vec![0; len];
    read_exact(file, path, &mut buffer, offset)?;
    Ok(buffer.into())
}

fn read_exact(file: &dyn File, path: &Path, buffer: &mut [u8], offset: u64) -> Result<()> {
    let read = file.read_at(buffer, offset).map_err(Error::io(path, "read"))?;
    if read < buffer.len() {
        let what = format!("the file ends where {} bytes should be", buffer.len());
        return Err(Error::damaged(path, offset + read as u64, what));
    }
    Ok(())
}

//! An open table: point reads, and the blocks that everything else here is read from.
//!
//! ```text
//!  get(key, hash, ts)
//!    top index: which partition        in memory as long as the table
//!    filter: is the key there at all   pinned, or in the block cache
//!    index: which data block           with the filter
//!    data block                        in the block cache, or one read
//!      tags: which entry               one byte per entry
//! ```
//!
//! Filter and index of a partition lie side by side, are read with one call and are kept together.
//!
//! Data blocks are not aligned to pages of 4 KiB: compressed ones are smaller than that and would
//! lose half of what was gained, and a block that straddles two pages is still one request to the
//! disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use base::{KeyRange, Timestamp};
use bytes::Bytes;
use env::{Disk, File, OpenMode};

use super::block::{Block, Decoded, Flaw, Handle, check, unseal};
use super::block_cache::{BlockCache, Prefetch, owned};
use super::compression::{Compression, decompress};
use super::cursor::{Direction, ReadAhead, Scan, TableCursor};
use super::data::{DataBlock, Place};
use super::filter::Filter;
use super::footer::{BadFooter, FOOTER_BYTES, FORMAT_VERSION, Footer};
use super::index::PartitionHandle;
use super::position::Position;
use super::properties::TableProperties;
use super::separators::{Metadata, Separators};
use super::stats::TableStats;
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

/// The newest version of a key at some timestamp, as its table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// When it was written.
    pub ts: Timestamp,
    /// The value, or where it is.
    pub value: Place,
}

impl Found {
    /// Returns the value or tombstone, borrowed.
    pub fn as_value(&self) -> Value<'_> {
        self.value.as_deref().map_or(Value::Tombstone, Value::Put)
    }
}

/// What tables share, and what one is called in it.
#[derive(Clone, Default)]
pub struct TableContext {
    /// The number of the table, under which its blocks are cached: no two tables that share a cache
    /// may have the same, ever.
    pub number: u64,
    /// Where blocks are kept; none for a tool that reads a table once.
    pub cache: Option<Arc<BlockCache>>,
    /// Whether filters and indexes stay in the table once they were read, and not in the cache.
    /// Without a cache they always do.
    pub is_metadata_pinned: bool,
    /// Where reads are counted.
    pub stats: Arc<TableStats>,
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
    /// The keys that separate the partitions.
    pub(crate) top: Separators,
    pub(crate) partitions: Vec<Partition>,
    context: TableContext,
    /// What pinned filters and indexes take.
    pinned_bytes: AtomicUsize,
}

/// One entry of the top index.
pub(crate) struct Partition {
    pub(crate) handle: PartitionHandle,
    /// Filter and index, once they were read and if they are to stay.
    pinned: OnceLock<Arc<Metadata>>,
}

/// Whether what was read goes into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    Yes,
    No,
}

impl Table {
    /// Opens a table that shares nothing with others: see [`Table::open_shared`].
    ///
    /// # Errors
    /// As [`Table::open_shared`].
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Table> {
        Table::open_shared(disk, path, TableContext::default())
    }

    /// Opens a table and reads its footer, properties and top index; no data.
    ///
    /// # Errors
    /// [`Error::Damaged`] if these are not sound, [`Error::NewerFormat`] if a newer program wrote
    /// them, [`Error::Io`] if the file cannot be opened or read.
    pub fn open_shared(disk: &dyn Disk, path: &Path, context: TableContext) -> Result<Table> {
        let file = disk.open(path, OpenMode::Read).map_err(Error::io(path, "open"))?;
        let bytes = file.len().map_err(Error::io(path, "measure"))?;
        let footer_at = bytes.saturating_sub(FOOTER_BYTES as u64);
        let tail_at = bytes.saturating_sub(TAIL_BYTES);
        let read = |offset, len| read(&*file, path, offset, len, &context.stats);
        let tail = read(tail_at, (bytes - tail_at) as usize)?;
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
                None => read(handle.offset, handle.stored_len())?,
            };
            unseal(stored, handle.offset).map_err(at(path, handle.offset))
        };
        let properties = TableProperties::decode(&block(footer.properties)?)
            .map_err(at(path, footer.properties.offset))?;
        let top_index =
            Block::new(block(footer.top_index)?).map_err(at(path, footer.top_index.offset))?;
        let (top, partitions) = partitions_of(top_index, footer.top_index.offset)
            .map_err(at(path, footer.top_index.offset))?;
        let path = path.to_path_buf();
        let pinned_bytes = AtomicUsize::new(0);
        let inner =
            Inner { file, path, bytes, footer, properties, top, partitions, context, pinned_bytes };
        Ok(Table { inner: Arc::new(inner) })
    }

    /// Returns the newest entry of a key at or before a timestamp. `hash` is the
    /// [`key_hash`](super::key_hash) of the key.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a block on the way is not sound, [`Error::Io`] if it cannot be read.
    pub fn get(&self, key: &[u8], hash: u64, ts: Timestamp) -> Result<Option<Located>> {
        let inner = &*self.inner;
        let target = Position::new(key, ts);
        let Some(partition) = inner.partitions.get(inner.top.lower_bound(target)) else {
            return Ok(None);
        };
        let loaded;
        // What is pinned is borrowed: its count would be shared by all readers of the partition.
        let metadata = match partition.pinned.get() {
            Some(metadata) => metadata,
            None => {
                loaded = inner.metadata(partition, Fill::Yes)?;
                &loaded
            }
        };
        if let Some(filter) = &metadata.filter {
            let may_be_there = filter.may_contain(hash);
            inner.context.stats.add_probe(hash, may_be_there);
            if !may_be_there {
                return Ok(None);
            }
        }
        let found = metadata.separators.lower_bound(target);
        let handle = metadata.handle(found).ok_or_else(|| {
            let index_at = partition.handle.index.offset;
            Error::damaged(&inner.path, index_at, "the index ends before its separator")
        })?;
        // If the key has such an entry at all it is in this block: see the invariants of a table.
        let block = inner.data_block(handle, Fill::Yes)?;
        let found = block.find(key, hash, ts).map_err(at(&inner.path, handle.offset))?;
        if found.is_none() && metadata.filter.is_some() {
            inner.context.stats.add_false_positive(hash);
        }
        let Some(hit) = found else { return Ok(None) };
        let ts = hit.ts;
        let value = block.into_value(hit).map_err(at(&inner.path, handle.offset))?;
        Ok(Some(Located { ts, value }))
    }

    /// Returns a cursor that is on no entry yet.
    pub fn cursor(&self) -> TableCursor {
        TableCursor::new(self.clone(), ReadAhead::Adaptive)
    }

    /// Returns a cursor for whoever will read most of the table once: it reads large pieces from
    /// the beginning, and goes around the block cache.
    pub fn sequential_cursor(&self) -> TableCursor {
        TableCursor::new(self.clone(), ReadAhead::Full)
    }

    /// Reads the filters and indexes of all partitions, to stay as long as the table is open.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub fn pin_metadata(&self) -> Result<()> {
        for partition in &self.inner.partitions {
            if partition.pinned.get().is_none() {
                let metadata = self.inner.metadata(partition, Fill::No)?;
                self.inner.pin(partition, metadata);
            }
        }
        Ok(())
    }

    /// Returns the memory that the table itself takes: its top index, and the filters and indexes
    /// that are pinned; nothing of what the block cache keeps.
    pub fn metadata_bytes(&self) -> usize {
        let inner = &*self.inner;
        let partitions = inner.partitions.len() * std::mem::size_of::<Partition>();
        std::mem::size_of::<Inner>()
            + inner.top.memory_bytes()
            + partitions
            + inner.pinned_bytes.load(Ordering::Relaxed)
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
    /// Returns filter and index of a partition, from where they are kept if they are.
    pub(crate) fn metadata(&self, partition: &Partition, fill: Fill) -> Result<Arc<Metadata>> {
        if let Some(metadata) = partition.pinned.get() {
            return Ok(Arc::clone(metadata));
        }
        let cache = self.context.cache.as_deref().filter(|_| !self.context.is_metadata_pinned);
        let at = partition.handle.filter.offset;
        if let Some(metadata) = cache.and_then(|cache| cache.metadata(self.context.number, at)) {
            return Ok(metadata);
        }
        let metadata = Arc::new(self.read_metadata(partition)?);
        match (fill, cache) {
            (Fill::No, _) => Ok(metadata),
            (Fill::Yes, None) => Ok(self.pin(partition, metadata)),
            (Fill::Yes, Some(cache)) => {
                cache.insert_metadata(self.context.number, at, &metadata);
                Ok(metadata)
            }
        }
    }

    /// Keeps filter and index of a partition as long as the table.
    fn pin(&self, partition: &Partition, metadata: Arc<Metadata>) -> Arc<Metadata> {
        // Two threads may both have read it: one of the two equal results stays.
        let pinned = partition.pinned.get_or_init(|| {
            self.pinned_bytes.fetch_add(metadata.memory_bytes(), Ordering::Relaxed);
            metadata
        });
        Arc::clone(pinned)
    }

    /// Reads filter and index of a partition, which lie side by side.
    pub(crate) fn read_metadata(&self, partition: &Partition) -> Result<Metadata> {
        let PartitionHandle { filter, index } = partition.handle;
        let stored = self.read(filter.offset, filter.stored_len() + index.stored_len())?;
        let contents = |handle: Handle| {
            let start = (handle.offset - filter.offset) as usize;
            let stored = stored.slice(start..start + handle.stored_len());
            unseal(stored, handle.offset).map_err(at(&self.path, handle.offset))
        };
        let (filter_contents, index_contents) = (contents(filter)?, contents(index)?);
        let filter = if filter_contents.is_empty() {
            None
        } else {
            // The index bytes are not needed once they are decoded, and would stay with the filter.
            let filter_contents = owned(&filter_contents);
            Some(Filter::new(filter_contents).map_err(at(&self.path, filter.offset))?)
        };
        Block::new(index_contents)
            .and_then(|block| Metadata::decode(filter, block, index.offset))
            .map_err(at(&self.path, index.offset))
    }

    /// Returns a data block if it is in the cache.
    pub(crate) fn cached_data_block(&self, handle: Handle) -> Option<DataBlock> {
        self.context.cache.as_ref()?.data(self.context.number, handle.offset)
    }

    /// Prepares for a block to be looked for in the cache.
    pub(crate) fn prefetch(&self, handle: Option<Handle>, step: Prefetch) {
        if let (Some(cache), Some(handle)) = (&self.context.cache, handle) {
            cache.prefetch(self.context.number, handle.offset, step);
        }
    }

    /// Returns whether there is a cache to put blocks into.
    pub(crate) fn has_cache(&self) -> bool {
        self.context.cache.is_some()
    }

    /// Returns a data block, from the cache if it is there.
    pub(crate) fn data_block(&self, handle: Handle, fill: Fill) -> Result<DataBlock> {
        match self.cached_data_block(handle) {
            Some(block) => Ok(block),
            None => self.read_data_block(handle, fill),
        }
    }

    /// Reads a data block that is not in the cache.
    pub(crate) fn read_data_block(&self, handle: Handle, fill: Fill) -> Result<DataBlock> {
        let mut stored = vec![0; handle.stored_len()];
        self.read_into(&mut stored, handle.offset)?;
        let flaw = at(&self.path, handle.offset);
        let (compression, len) = check(&stored, handle.offset).map_err(&flaw)?;
        stored.truncate(len);
        let contents = match compression {
            Compression::None => Bytes::from_owner(stored),
            compression => decompress(compression, &stored).map_err(&flaw)?,
        };
        let block = DataBlock::decode(self.footer.version, contents).map_err(&flaw)?;
        if let Some(cache) = self.context.cache.as_deref().filter(|_| fill == Fill::Yes) {
            cache.insert_data(self.context.number, handle.offset, &block);
        }
        Ok(block)
    }

    pub(crate) fn index_block(&self, handle: Handle) -> Result<Block> {
        Block::new(self.contents(handle)?).map_err(at(&self.path, handle.offset))
    }

    pub(crate) fn contents(&self, handle: Handle) -> Result<Bytes> {
        let stored = self.read(handle.offset, handle.stored_len())?;
        unseal(stored, handle.offset).map_err(at(&self.path, handle.offset))
    }

    /// Reads bytes that must be there.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Bytes> {
        read(&*self.file, &self.path, offset, len, &self.context.stats)
    }

    /// Reads into memory that is used again.
    pub(crate) fn read_into(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        read_exact(&*self.file, &self.path, buffer, offset, &self.context.stats)
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
fn partitions_of(top_index: Block, file_offset: u64) -> Decoded<(Separators, Vec<Partition>)> {
    let mut partitions: Vec<Partition> = Vec::new();
    let mut end = 0;
    let top = Separators::decode(top_index, |value| {
        let handle = PartitionHandle::decode(value).ok()?;
        let is_sound = handle.filter.offset >= end && handle.index.end() <= file_offset;
        end = handle.index.end();
        partitions.push(Partition { handle, pinned: OnceLock::new() });
        is_sound.then_some(())
    })?;
    if end != file_offset {
        return Err(Flaw::new(0, "the top index does not follow its last partition"));
    }
    Ok((top, partitions))
}

fn read(
    file: &dyn File,
    path: &Path,
    offset: u64,
    len: usize,
    stats: &TableStats,
) -> Result<Bytes> {
    let mut buffer = vec![0; len];
    read_exact(file, path, &mut buffer, offset, stats)?;
    Ok(buffer.into())
}

fn read_exact(
    file: &dyn File,
    path: &Path,
    buffer: &mut [u8],
    offset: u64,
    stats: &TableStats,
) -> Result<()> {
    let read = file.read_at(buffer, offset).map_err(Error::io(path, "read"))?;
    stats.add_read(offset, read);
    if read < buffer.len() {
        let what = format!("the file ends where {} bytes should be", buffer.len());
        return Err(Error::damaged(path, offset + read as u64, what));
    }
    Ok(())
}

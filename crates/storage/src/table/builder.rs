//! Writes a table, front to back, in large sequential writes.

use std::path::{Path, PathBuf};

use base::limits::TRANSACTION_BYTES_MAX;
use base::{Timestamp, text};
use bytes::Bytes;
use env::File;

use super::block::{BlockBuilder, Handle, seal};
use super::compression::{Compression, Compressor};
use super::data::DataBlockBuilder;
use super::filter::{self, FilterBuilder};
use super::footer::{FORMAT_VERSION, Footer};
use super::index::{PartitionHandle, encode_handle, put_separator};
use super::position::{Position, SUFFIX_BYTES};
use super::properties::{TableBounds, TableProperties};
use crate::values::HANDLE_BYTES_MAX;
use crate::{Error, Result, Stored, Value};

/// Largest key and value together, in bytes. The largest thing anybody stores as one value is the
/// record of a whole transaction.
const ENTRY_BYTES_MAX: usize = TRANSACTION_BYTES_MAX;

/// How much is collected before it is written, in bytes. Large enough that the cost of a call does
/// not show, small enough to stay in the processor's cache.
const WRITE_BYTES: usize = 512 << 10;

/// How a table is laid out. Any table can be read whatever it was written with.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// A data block ends before it would grow beyond this. 4 KiB is one page: a point read costs
    /// one. An entry that is larger has a block of its own.
    pub block_bytes: usize,
    /// Entries from one that has its whole key to the next, at most 255: more share more bytes of
    /// keys, fewer are searched faster.
    pub restart_interval: usize,
    /// An index block ends, and its partition with it, once it is this large.
    pub index_block_bytes: usize,
    /// Bits of the Bloom filter per user key; ten let one stranger in a hundred pass, none make no
    /// filter.
    pub filter_bits_per_key: usize,
    /// Whether data blocks have a hash index: one byte for each entry makes point reads faster.
    pub has_hash_index: bool,
    /// How data blocks are compressed.
    pub compression: Compression,
    /// A value of at least so many bytes lies in a value file, and the table refers to it; with
    /// `None` all values lie in tables. A table does not see to that itself: a flush, a compaction
    /// and a bulk load do.
    pub separate_from: Option<usize>,
    /// A value file ends about here, in bytes.
    pub value_file_bytes: u64,
    /// The program's name and version, for people.
    pub creator: String,
}

/// Values from this length on, in bytes, lie apart unless told otherwise. It is what a read of the
/// disk takes anyway, so a value of this length costs one of its own and no more; and a copy on each
/// level that is saved is a hundred times what the handle takes.
pub const SEPARATE_FROM_DEFAULT: usize = 4 << 10;

/// How long a value file gets, in bytes, unless told otherwise: a flush makes one or two, and what
/// is live in a worn one is copied within a second.
const VALUE_FILE_BYTES_DEFAULT: u64 = 64 << 20;

impl Default for TableOptions {
    fn default() -> TableOptions {
        TableOptions {
            block_bytes: 4 << 10,
            restart_interval: 16,
            index_block_bytes: 16 << 10,
            filter_bits_per_key: 10,
            has_hash_index: true,
            compression: Compression::default(),
            separate_from: Some(SEPARATE_FROM_DEFAULT),
            value_file_bytes: VALUE_FILE_BYTES_DEFAULT,
            creator: concat!("holm ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// What became of a finished table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    /// Length of the file.
    pub bytes: u64,
    /// What it holds.
    pub properties: TableProperties,
}

/// Writes the entries of a new table.
///
/// After an error the table cannot be finished any more: drop the builder and remove the file.
pub struct TableBuilder {
    file: Box<dyn File>,
    path: PathBuf,
    options: TableOptions,
    /// What has not been written yet, and how much has.
    buffer: Vec<u8>,
    written: u64,
    /// The data block, the partition and the top index that are filling.
    data: DataBlockBuilder,
    /// The contents of a data block before compression, kept for their memory.
    contents: Vec<u8>,
    compressor: Compressor,
    filter: FilterBuilder,
    index: BlockBuilder,
    top_index: BlockBuilder,
    properties: TableProperties,
    first_key: Bytes,
    ts_min: Timestamp,
    ts_max: Timestamp,
    /// The hash of the last key, and whether the key has more than one entry.
    hash: u64,
    is_multiple: bool,
    /// An encoded key under construction, kept for its memory.
    separator: Vec<u8>,
    has_failed: bool,
}

impl TableBuilder {
    /// Begins a table in a new, empty file. The path is only for error messages.
    pub fn new(file: Box<dyn File>, path: &Path, options: TableOptions) -> TableBuilder {
        TableBuilder {
            file,
            path: path.to_path_buf(),
            buffer: Vec::with_capacity(WRITE_BYTES + WRITE_BYTES / 4),
            written: 0,
            data: DataBlockBuilder::new(options.restart_interval, options.has_hash_index),
            contents: Vec::new(),
            compressor: Compressor::new(options.compression),
            filter: FilterBuilder::new(options.filter_bits_per_key),
            // Index blocks are searched more than walked, and their keys are short already.
            index: BlockBuilder::new(4),
            top_index: BlockBuilder::new(4),
            properties: TableProperties {
                creator: options.creator.clone(),
                ..TableProperties::default()
            },
            first_key: Bytes::new(),
            ts_min: Timestamp::MAX,
            ts_max: Timestamp::ZERO,
            hash: 0,
            is_multiple: false,
            separator: Vec::new(),
            has_failed: false,
            options,
        }
    }

    /// Appends an entry, which must come after the last one: a larger key, or the same key at an
    /// older timestamp.
    ///
    /// # Errors
    /// [`Error::DiskFull`] and [`Error::Io`] when the file cannot be written.
    ///
    /// # Panics
    /// If the entry is out of order, or larger than 64 MiB.
    pub fn add<'v>(
        &mut self,
        key: &[u8],
        ts: Timestamp,
        value: impl Into<Stored<'v>>,
    ) -> Result<()> {
        let value = value.into();
        let position = Position::new(key, ts);
        let value_len = match value {
            Stored::Put(bytes) => bytes.len(),
            Stored::Apart(_) => HANDLE_BYTES_MAX,
            Stored::Tombstone => 0,
        };
        assert!(
            key.len() + value_len <= ENTRY_BYTES_MAX,
            "an entry of {} bytes is larger than a table takes",
            key.len() + value_len
        );
        let last = self.data.last();
        assert!(
            last.is_none_or(|last| last < position),
            "entries of a table come in order, and {} at {ts} comes after {last:?}",
            text::escape_short(key, 64)
        );
        let is_new_key = last.is_none_or(|last| last.key != key);

        // Two small numbers, an offset and a tag come on top of key and value.
        let len_max = self.data.len() + key.len() + SUFFIX_BYTES + value_len + 16;
        if !self.data.is_empty() && len_max > self.options.block_bytes {
            self.finish_data_block(Some(position))?;
        }
        if is_new_key {
            self.hash = filter::hash(key);
        }
        if is_new_key || self.filter.is_empty() {
            self.filter.add(self.hash);
        }
        if self.properties.entries == 0 {
            self.first_key = Bytes::copy_from_slice(key);
        }
        self.properties.count(is_new_key, &mut self.is_multiple, key, value);
        self.ts_min = self.ts_min.min(ts);
        self.ts_max = self.ts_max.max(ts);
        self.data.add(position, self.hash, value);
        Ok(())
    }

    /// Returns the length of the file so far, without what waits in the current blocks.
    pub fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Writes what is left and the footer.
    ///
    /// # Durability
    /// The contents of the file are durable. Its name is durable once the caller has synced the
    /// folder.
    ///
    /// # Errors
    /// [`Error::DiskFull`] and [`Error::Io`] when the file cannot be written or synced.
    ///
    /// # Panics
    /// If an `add` failed before.
    pub fn finish(mut self) -> Result<TableSummary> {
        assert!(!self.has_failed, "a table is not finished after a failed write");
        if !self.data.is_empty() {
            self.finish_data_block(None)?;
        }
        if !self.index.is_empty() {
            self.finish_partition();
        }
        let at = self.bytes();
        let top_index = self.top_index.finish(&mut self.buffer, at);
        if self.properties.entries > 0 {
            let last = self.data.last();
            self.properties.bounds = last.map(|last| TableBounds {
                first_key: self.first_key.clone(),
                last_key: Bytes::copy_from_slice(last.key),
                ts_min: self.ts_min,
                ts_max: self.ts_max,
            });
        }
        let contents = self.properties.encode();
        let properties = self.put_block(&contents);
        self.buffer
            .extend_from_slice(&Footer { version: FORMAT_VERSION, top_index, properties }.encode());
        self.write_buffer()?;
        self.file.sync().map_err(Error::io(&self.path, "sync"))?;
        Ok(TableSummary { bytes: self.written, properties: self.properties })
    }

    /// Ends the data block; `next` is the entry that comes after it.
    fn finish_data_block(&mut self, next: Option<Position<'_>>) -> Result<()> {
        let (start, at) = (self.buffer.len(), self.bytes());
        self.contents.clear();
        self.data.finish(&mut self.contents);
        let compression = self.compressor.put(&mut self.buffer, &self.contents);
        let handle = seal(&mut self.buffer, start, at, compression);
        self.properties.data_blocks += 1;
        self.properties.raw_bytes += self.contents.len() as u64;
        self.separator.clear();
        match (self.data.last(), next) {
            (Some(last), Some(next)) => put_separator(&mut self.separator, last, next),
            (Some(last), None) => last.encode(&mut self.separator),
            (None, _) => {}
        }
        self.index.add(&self.separator, Value::Put(&encode_handle(handle)));
        if self.index.len() >= self.options.index_block_bytes {
            self.finish_partition();
        }
        if self.buffer.len() >= WRITE_BYTES {
            self.write_buffer()?;
        }
        Ok(())
    }

    /// Ends the partition after the data block that was just ended.
    fn finish_partition(&mut self) {
        let start = self.buffer.len();
        let at = self.bytes();
        self.filter.finish(&mut self.buffer);
        let filter = seal(&mut self.buffer, start, at, Compression::None);
        let at = self.bytes();
        let index = self.index.finish(&mut self.buffer, at);
        self.properties.partitions += 1;
        let value = PartitionHandle { filter, index }.encode();
        self.top_index.add(&self.separator, Value::Put(&value));
    }

    fn put_block(&mut self, contents: &[u8]) -> Handle {
        let (start, at) = (self.buffer.len(), self.bytes());
        self.buffer.extend_from_slice(contents);
        seal(&mut self.buffer, start, at, Compression::None)
    }

    fn write_buffer(&mut self) -> Result<()> {
        // Set first: an entry that was taken before a failure here would be taken twice by a retry.
        self.has_failed = true;
        let written = self.file.write_at(&self.buffer, self.written);
        written.map_err(Error::io(&self.path, "write"))?;
        self.has_failed = false;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

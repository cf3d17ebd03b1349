//! Reads a whole table and checks all that it claims.

use bytes::Bytes;

use super::block::Handle;
use super::cursor::{ReadAhead, Window};
use super::data::{DataBlock, DataCursor, tag_of};
use super::filter::{self, Filter};
use super::position::Position;
use super::properties::{TableBounds, TableProperties};
use super::reader::{Inner, Partition, Table, at};
use crate::{Error, Result, Stored};

/// What a verification has read and found sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Bytes of the file, all of which a checksum covers.
    pub bytes: u64,
    /// Blocks of all kinds.
    pub blocks: u64,
    /// Entries, each one after the one before it.
    pub entries: u64,
    /// Keys looked up in the filters.
    pub filter_lookups: u64,
}

impl Table {
    /// Reads every block and checks its checksum, the order of all entries, the index, the filters,
    /// the counts, and that no byte of the file lies outside a block.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the offset of the first thing that is not so; [`Error::Io`] if the
    /// file cannot be read.
    pub fn verify(&self) -> Result<Verified> {
        let inner = &*self.inner;
        let mut check = Check {
            inner,
            window: Window::new(ReadAhead::Full),
            // The top index and the properties were read when the table was opened.
            verified: Verified { bytes: inner.bytes, blocks: 2, ..Verified::default() },
            found: TableProperties {
                creator: inner.properties.creator.clone(),
                ..TableProperties::default()
            },
            end: 0,
            last_key: Vec::new(),
            is_multiple: false,
            separator: None,
        };
        for (number, partition) in inner.partitions.iter().enumerate() {
            check.partition(number, partition)?;
        }
        if let (Some(bounds), Some(last)) =
            (&mut check.found.bounds, Position::decode(&check.last_key))
        {
            bounds.last_key = Bytes::copy_from_slice(last.key);
        }
        if inner.footer.version == 1 {
            let TableProperties { raw_bytes, multiple_keys, superseded_bytes, .. } =
                inner.properties;
            check.found =
                TableProperties { raw_bytes, multiple_keys, superseded_bytes, ..check.found };
        }
        check.expect(check.found == inner.properties, inner.footer.properties.offset, || {
            format!("the properties are {:?}, the blocks hold {:?}", inner.properties, check.found)
        })?;
        Ok(check.verified)
    }
}

struct Check<'a> {
    inner: &'a Inner,
    window: Window,
    verified: Verified,
    /// Counted while reading, to be compared with what the table says.
    found: TableProperties,
    /// Where the next block has to begin.
    end: u64,
    /// The encoded key of the last entry, and whether its user key has more than one.
    last_key: Vec<u8>,
    is_multiple: bool,
    /// The encoded key that the next entry has to be after.
    separator: Option<Vec<u8>>,
}

impl Check<'_> {
    fn partition(&mut self, number: usize, partition: &Partition) -> Result<()> {
        let (filter_handle, index_handle) = (partition.handle.filter, partition.handle.index);
        // What a point read left in memory is not what is to be checked, so read it again.
        let metadata = self.inner.read_metadata(partition)?;
        for (at, &handle) in metadata.handles().iter().enumerate() {
            self.data_block(handle, metadata.filter.as_ref())?;
            let separator = metadata.separators.get(at);
            let covers = Position::decode(&self.last_key) <= Some(separator);
            self.expect(covers, index_handle.offset, || {
                "a separator is before the last entry of its block".into()
            })?;
            self.separator = Some(metadata.separators.encoded(at).to_vec());
        }
        self.contiguous(filter_handle)?;
        self.contiguous(index_handle)?;
        self.found.partitions += 1;
        let is_same = self.separator.as_deref() == Some(self.inner.top.encoded(number));
        self.expect(is_same, self.inner.footer.top_index.offset, || {
            "the top index separates a partition where its index does not".into()
        })
    }

    fn data_block(&mut self, handle: Handle, filter: Option<&Filter>) -> Result<()> {
        self.contiguous(handle)?;
        let flaw = at(&self.inner.path, handle.offset);
        let contents = self.window.block(self.inner, handle)?;
        self.found.raw_bytes += contents.len() as u64;
        let block = DataBlock::decode(self.inner.footer.version, contents).map_err(&flaw)?;
        let mut cursor = DataCursor::new(block);
        let mut is_valid = cursor.seek_first().map_err(&flaw)?;
        while is_valid {
            let offset = handle.offset + cursor.offset() as u64;
            let hash = filter::hash(cursor.position().key);
            let tag = cursor.block().tags().get(cursor.number());
            self.expect(tag.is_none_or(|&tag| tag == tag_of(hash)), offset, || {
                "the tag of an entry is not that of its key".into()
            })?;
            self.entry(cursor.position(), hash, cursor.value(), filter, offset)?;
            self.last_key.clear();
            cursor.position().encode(&mut self.last_key);
            is_valid = cursor.next().map_err(&flaw)?;
        }
        self.found.data_blocks += 1;
        Ok(())
    }

    fn entry(
        &mut self,
        position: Position<'_>,
        hash: u64,
        value: Stored<'_>,
        filter: Option<&Filter>,
        offset: u64,
    ) -> Result<()> {
        let last = Position::decode(&self.last_key);
        self.expect(last < Some(position), offset, || "an entry is out of order".into())?;
        if let Some(separator) = self.separator.take() {
            let is_after = Position::decode(&separator) < Some(position);
            self.expect(is_after, offset, || "an entry is not after its separator".into())?;
        }
        let is_new_key = last.is_none_or(|last| last.key != position.key);
        let is_in_filter = filter.is_none_or(|filter| filter.may_contain(hash));
        self.expect(is_in_filter, offset, || "a key is not in its filter".into())?;
        let ts = position.ts();
        let bounds = self.found.bounds.get_or_insert_with(|| {
            let key = Bytes::copy_from_slice(position.key);
            TableBounds { first_key: key.clone(), last_key: key, ts_min: ts, ts_max: ts }
        });
        (bounds.ts_min, bounds.ts_max) = (bounds.ts_min.min(ts), bounds.ts_max.max(ts));
        self.verified.entries += 1;
        self.verified.filter_lookups += u64::from(filter.is_some());
        self.found.count(is_new_key, &mut self.is_multiple, position.key, value);
        Ok(())
    }

    /// Takes note of a block, which has to begin where the last one ended.
    fn contiguous(&mut self, handle: Handle) -> Result<()> {
        self.expect(handle.offset == self.end, self.end, || "a gap between two blocks".into())?;
        self.end = handle.end();
        self.verified.blocks += 1;
        Ok(())
    }

    fn expect(&self, holds: bool, offset: u64, what: impl FnOnce() -> String) -> Result<()> {
        if holds { Ok(()) } else { Err(Error::damaged(&self.inner.path, offset, what())) }
    }
}

//! Says what a table is made of, for `holm inspect`. Unlike `verify` it goes on past a bad block
//! and notes the damage: people who look at a table this closely have a reason.

use base::Timestamp;
use bytes::Bytes;

use super::block::{Block, BlockCursor, Decoded, Handle, check, unseal};
use super::compression::Compression;
use super::data::{DataBlock, DataCursor};
use super::footer::FOOTER_BYTES;
use super::index::decode_handle;
use super::position::Position;
use super::properties::TableProperties;
use super::reader::{Inner, Table, at};
use crate::Result;

/// A table, block by block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDescription {
    /// Version of the file's format.
    pub format_version: u32,
    /// Length of the file.
    pub bytes: u64,
    /// What the table says of itself.
    pub properties: TableProperties,
    /// All blocks in the order of the file, and the footer.
    pub blocks: Vec<BlockLine>,
}

/// What a part of the file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockRole {
    /// Entries.
    Data,
    /// The filter of a partition.
    Filter,
    /// The index of a partition.
    Index,
    /// The index of the partitions.
    TopIndex,
    /// The properties.
    Properties,
    /// The end of the file.
    Footer,
}

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockLine {
    /// What it is for.
    pub role: BlockRole,
    /// Where it begins in the file.
    pub offset: u64,
    /// How long it is there, with its trailer.
    pub bytes: u64,
    /// How long its contents are before compression, without the trailer.
    pub raw_bytes: u64,
    /// How it is compressed.
    pub compression: Compression,
    /// How many entries it holds; for index blocks, how many blocks it points to.
    pub entries: u64,
    /// How many of the entries are tombstones.
    pub tombstones: u64,
    /// The first and the last key with their timestamps, if it holds entries.
    pub span: Option<[(Bytes, Timestamp); 2]>,
    /// What is wrong with it, if something is.
    pub damage: Option<String>,
}

impl Table {
    /// Reads every block and returns what it holds. Damaged data blocks and partitions are lines
    /// with their damage.
    ///
    /// # Errors
    /// None at present; a table that opens can be described.
    pub fn describe(&self) -> Result<TableDescription> {
        let inner = &*self.inner;
        let mut blocks = Vec::new();
        for partition in &inner.partitions {
            let index = partition.handle.index;
            if let Ok(entries) = inner.index_block(index) {
                blocks.extend(data_lines(inner, entries, index.offset));
            }
            blocks.push(line(inner, BlockRole::Filter, partition.handle.filter));
            blocks.push(line(inner, BlockRole::Index, index));
        }
        blocks.push(line(inner, BlockRole::TopIndex, inner.footer.top_index));
        blocks.push(line(inner, BlockRole::Properties, inner.footer.properties));
        blocks.push(BlockLine {
            bytes: FOOTER_BYTES as u64,
            ..BlockLine::new(BlockRole::Footer, inner.footer.properties.end())
        });
        Ok(TableDescription {
            format_version: inner.footer.version,
            bytes: inner.bytes,
            properties: inner.properties.clone(),
            blocks,
        })
    }
}

impl BlockLine {
    fn new(role: BlockRole, offset: u64) -> BlockLine {
        BlockLine {
            role,
            offset,
            bytes: 0,
            raw_bytes: 0,
            compression: Compression::None,
            entries: 0,
            tombstones: 0,
            span: None,
            damage: None,
        }
    }
}

/// Describes the data blocks that an index points to, as far as it can be read.
fn data_lines(inner: &Inner, index: Block, index_at: u64) -> Vec<BlockLine> {
    let mut lines = Vec::new();
    let mut cursor = BlockCursor::new(index);
    let mut moved = cursor.seek_first();
    // An index that breaks off is said to be damaged on its own line.
    while let Ok(true) = moved {
        let value = cursor.value().as_put().unwrap_or_default();
        if let Some(handle) = decode_handle(value).ok().filter(|handle| handle.end() <= index_at) {
            lines.push(line(inner, BlockRole::Data, handle));
        }
        moved = cursor.next();
    }
    lines
}

fn line(inner: &Inner, role: BlockRole, handle: Handle) -> BlockLine {
    let mut line =
        BlockLine { bytes: handle.stored_len() as u64, ..BlockLine::new(role, handle.offset) };
    line.damage = read(inner, role, handle, &mut line).err().map(|error| error.to_string());
    line
}

fn read(inner: &Inner, role: BlockRole, handle: Handle, line: &mut BlockLine) -> Result<()> {
    let flaw = at(&inner.path, handle.offset);
    let stored = inner.read(handle.offset, handle.stored_len())?;
    (line.compression, _) = check(&stored, handle.offset).map_err(&flaw)?;
    let contents = unseal(stored, handle.offset).map_err(&flaw)?;
    line.raw_bytes = contents.len() as u64;
    let counted = match role {
        BlockRole::Data => {
            DataBlock::decode(inner.footer.version, contents).and_then(|block| line.data(block))
        }
        BlockRole::Index | BlockRole::TopIndex => {
            Block::new(contents).and_then(|block| line.index(block))
        }
        BlockRole::Filter | BlockRole::Properties | BlockRole::Footer => Ok(()),
    };
    counted.map_err(&flaw)
}

impl BlockLine {
    fn data(&mut self, block: DataBlock) -> Decoded<()> {
        let mut cursor = DataCursor::new(block);
        let mut is_valid = cursor.seek_first()?;
        while is_valid {
            self.tombstones += u64::from(cursor.value().is_tombstone());
            self.entry(cursor.position());
            is_valid = cursor.next()?;
        }
        Ok(())
    }

    fn index(&mut self, block: Block) -> Decoded<()> {
        let mut cursor = BlockCursor::new(block);
        let mut is_valid = cursor.seek_first()?;
        while is_valid {
            self.entry(cursor.position());
            is_valid = cursor.next()?;
        }
        Ok(())
    }

    fn entry(&mut self, position: Position<'_>) {
        self.entries += 1;
        let here = (Bytes::copy_from_slice(position.key), position.ts());
        match &mut self.span {
            Some([_, last]) => *last = here,
            None => self.span = Some([here.clone(), here]),
        }
    }
}

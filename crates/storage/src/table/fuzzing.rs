//! What the fuzzers do with bytes that claim to be blocks and tables: everything that reads.

use std::path::Path;

use base::{KeyRange, Timestamp, checksum};
use bytes::Bytes;
use env::SimDisk;

use super::Table;
use super::block::{Block, BlockCursor, Decoded, Handle, TRAILER_BYTES};
use super::compression::{Compression, decompress};
use super::data::{DataBlock, DataCursor};
use super::filter;
use super::footer::FOOTER_BYTES;
use super::index::{PartitionHandle, decode_handle};
use super::position::Position;
use crate::Result;

/// Reads the contents of a block in all ways there are: as an index, as data of both formats, and
/// as something compressed that holds data.
pub fn table_block(contents: &[u8]) {
    let bytes = Bytes::copy_from_slice(contents);
    if let Ok(block) = Block::new(bytes.clone()) {
        let _ = read_index(block);
    }
    for format_version in [1, 2] {
        if let Ok(block) = DataBlock::decode(format_version, bytes.clone()) {
            let _ = read_data(block);
        }
    }
    for compression in [Compression::Lz4, Compression::Zstd] {
        if let Ok(block) = decompress(compression, contents).and_then(DataBlock::new) {
            let _ = read_data(block);
        }
    }
}

fn read_index(block: Block) -> Decoded<()> {
    let mut cursor = BlockCursor::new(block);
    let mut is_valid = cursor.seek_first()?;
    while is_valid {
        let _ = (cursor.position(), cursor.value(), cursor.offset());
        is_valid = cursor.next()?;
    }
    Ok(())
}

fn read_data(block: DataBlock) -> Decoded<()> {
    let mut cursor = DataCursor::new(block.clone());
    let mut is_valid = cursor.seek_first()?;
    let mut keys = Vec::new();
    while is_valid {
        keys.push((cursor.position().key.to_vec(), cursor.position().ts()));
        let _ = cursor.value();
        is_valid = cursor.next()?;
    }
    keys.truncate(64);
    for (key, ts) in &keys {
        cursor.seek(Position::new(key, *ts))?;
        cursor.prev()?;
        cursor.next()?;
        if let Some(hit) = block.find(key, filter::hash(key), *ts)? {
            let _ = block.clone().into_value(hit);
        }
    }
    is_valid = cursor.seek_last()?;
    while is_valid {
        is_valid = cursor.prev()?;
    }
    Ok(())
}

/// Opens the bytes as a table and reads it in all ways there are; then does so again with all
/// checksums made right, for the fuzzer to get past them.
pub fn table_open(bytes: &[u8]) {
    let disk = SimDisk::new();
    let mut bytes = bytes.to_vec();
    for _ in 0..2 {
        if disk.write_file("table", &bytes).is_ok() {
            let _ = read_table(&disk);
        }
        make_checksums_right(&mut bytes);
    }
}

fn read_table(disk: &SimDisk) -> Result<()> {
    let table = Table::open(disk, Path::new("table"))?;
    let _ = table.verify();
    let _ = table.describe()?.blocks.len();
    let mut keys = vec![(Vec::new(), Timestamp::MAX)];
    let mut scan = table.scan(KeyRange::all());
    while let Ok(Some(entry)) = scan.next() {
        if keys.len() < 64 {
            keys.push((entry.key.to_vec(), entry.ts));
        }
    }
    let mut scan = table.scan_reverse(KeyRange::all());
    while let Ok(Some(_)) = scan.next() {}
    for (key, ts) in &keys {
        let _ = table.get(key, filter::hash(key), *ts);
        let mut cursor = table.cursor();
        let _ = cursor.seek(key, *ts);
        let _ = cursor.prev();
        let _ = cursor.next();
        let _ = cursor.seek_before(key, *ts);
    }
    Ok(())
}

/// Corrects the checksum of each block that can be reached from the footer, and of the footer.
pub(crate) fn make_checksums_right(bytes: &mut [u8]) {
    let Some(footer_at) = bytes.len().checked_sub(FOOTER_BYTES) else {
        return;
    };
    let number = |bytes: &[u8], at: usize, len: usize| {
        let number = bytes[footer_at + at..footer_at + at + len].iter().rev();
        number.fold(0, |number, &byte| number << 8 | u64::from(byte))
    };
    let top_index = Handle { offset: number(bytes, 0, 8), len: number(bytes, 8, 4) as u32 };
    let properties = Handle { offset: number(bytes, 16, 8), len: number(bytes, 24, 4) as u32 };
    let crc = checksum::of(&[&bytes[footer_at..footer_at + FOOTER_BYTES - 4]]);
    bytes[footer_at + FOOTER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    correct(bytes, properties);
    for partition in values(bytes, top_index) {
        let Ok(PartitionHandle { filter, index }) = PartitionHandle::decode(&partition) else {
            continue;
        };
        correct(bytes, filter);
        for data in values(bytes, index) {
            if let Ok(data) = decode_handle(&data) {
                correct(bytes, data);
            }
        }
    }
}

/// Corrects a block of entries and returns its values.
fn values(bytes: &mut [u8], handle: Handle) -> Vec<Bytes> {
    let contents = correct(bytes, handle).and_then(|contents| Block::new(contents).ok());
    let Some(block) = contents else {
        return Vec::new();
    };
    let (mut cursor, mut values) = (BlockCursor::new(block), Vec::new());
    let mut moved = cursor.seek_first();
    while let Ok(true) = moved {
        values.push(Bytes::copy_from_slice(cursor.value().as_put().unwrap_or_default()));
        moved = cursor.next();
    }
    values
}

/// Corrects the checksum of a block and returns its contents; `None` if it is not within the bytes.
fn correct(bytes: &mut [u8], handle: Handle) -> Option<Bytes> {
    let start = usize::try_from(handle.offset).ok()?;
    let block = bytes.get_mut(start..start.checked_add(handle.stored_len())?)?;
    let (contents, trailer) = block.split_at_mut(handle.len as usize);
    // The compression byte stays: refusing it is to be tried, too.
    let crc = checksum::of(&[contents, &trailer[..1], &handle.offset.to_le_bytes()]);
    trailer[1..TRAILER_BYTES].copy_from_slice(&crc.to_le_bytes());
    Some(Bytes::copy_from_slice(contents))
}

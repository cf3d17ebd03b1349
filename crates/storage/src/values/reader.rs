//! Reads value files: one value, or all records one after the other.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::path::{Path, PathBuf};

use base::checksum;
use base::codec::{Reader, Truncated};
use bytes::{Buf, Bytes};
use env::{Disk, File, OpenMode};

use super::handle::{ValueHandle, ValuesMeta};
use crate::table::{Compression, Decoded, Flaw, decompress, flaw_at};
use crate::{Error, Result};

/// The version of the format that is written, and the newest that is read.
pub const FORMAT_VERSION: u32 = 1;

/// Length of a record's header.
pub(super) const HEADER_BYTES: usize = 12;

/// Length of the footer.
pub(super) const FOOTER_BYTES: usize = 40;

/// The first byte is not text and the last ones break when a file passes through a text filter, as
/// in PNG.
pub(super) const MAGIC: [u8; 8] = *b"\x89HOLMV\r\n";

/// How much a walk reads at once, in bytes: one call then costs less than checking what it read.
const WALK_BYTES: u64 = 1 << 20;

/// Counts at the end of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) values: u64,
    pub(super) value_bytes: u64,
}

enum BadFooter {
    Damaged(&'static str),
    Newer(u32),
}

impl Footer {
    fn decode(bytes: &[u8]) -> std::result::Result<Footer, BadFooter> {
        let short = |_: Truncated| BadFooter::Damaged("the file is shorter than a footer");
        let mut reader = Reader::new(bytes);
        let covered = reader.take(FOOTER_BYTES - 4).map_err(short)?;
        let crc = reader.u32().map_err(short)?;
        let mut reader = Reader::new(covered);
        let footer = Footer {
            values: reader.u64().map_err(short)?,
            value_bytes: reader.u64().map_err(short)?,
        };
        let version = reader.u32().map_err(short)?;
        let _zero = reader.u32().map_err(short)?;
        if reader.take(MAGIC.len()).map_err(short)? != MAGIC {
            return Err(BadFooter::Damaged(
                "the file does not end with the footer of a value file",
            ));
        }
        if checksum::of(&[covered]) != crc {
            return Err(BadFooter::Damaged("the checksum of the footer does not match"));
        }
        match version {
            0 => Err(BadFooter::Damaged("the footer has no version")),
            1..=FORMAT_VERSION => Ok(footer),
            newer => Err(BadFooter::Newer(newer)),
        }
    }
}

/// Returns the checksum of a record that begins at an offset.
pub(super) fn record_crc(record: &[u8], offset: u64) -> u32 {
    let covered = record.get(4..).unwrap_or_default();
    checksum::of(&[covered, &offset.to_le_bytes()])
}

/// One record, whose checksum was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u32,
    /// Its checksum.
    pub crc: u32,
    /// How the value is compressed.
    pub compression: Compression,
    /// The key.
    pub key: Bytes,
    /// The value as it is stored.
    stored: Bytes,
}

impl Record {
    /// Takes the bytes of one whole record apart. Flaws are relative to its beginning.
    pub(super) fn decode(bytes: Bytes, offset: u64) -> Decoded<Record> {
        let header = Header::decode(&bytes)?;
        if header.record_bytes() != bytes.len() as u64 {
            return Err(Flaw::new(4, "a record has another length than its header says"));
        }
        if record_crc(&bytes, offset) != header.crc {
            return Err(Flaw::new(0, "the checksum of a value does not match"));
        }
        let what = || format!("a value is compressed with the unknown method {}", header.method);
        let compression =
            Compression::from_method(header.method).ok_or_else(|| Flaw::new(10, what()))?;
        let len = bytes.len() as u32;
        // Narrowing what is owned touches no reference count.
        let mut stored = bytes;
        stored.advance(HEADER_BYTES);
        let key = stored.split_to(header.key_len.into());
        Ok(Record { offset, bytes: len, crc: header.crc, compression, key, stored })
    }

    /// Returns the value as it is stored.
    pub(crate) fn stored(&self) -> &[u8] {
        &self.stored
    }

    /// Returns the value; it may share the memory of its record.
    pub(crate) fn value(self) -> Decoded<Bytes> {
        match self.compression {
            Compression::None => Ok(self.stored),
            compression => decompress(compression, &self.stored),
        }
    }
}

/// The header of a record, whose checksum was not looked at.
#[derive(Debug, Clone, Copy)]
struct Header {
    crc: u32,
    stored_len: u32,
    key_len: u16,
    method: u8,
}

impl Header {
    fn decode(bytes: &[u8]) -> Decoded<Header> {
        let short = || Flaw::new(0, "a record is cut short");
        let &[c0, c1, c2, c3, s0, s1, s2, s3, k0, k1, method, zero] =
            bytes.first_chunk::<HEADER_BYTES>().ok_or_else(short)?;
        if zero != 0 {
            return Err(Flaw::new(11, "a record has a header of an unknown kind"));
        }
        Ok(Header {
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
            stored_len: u32::from_le_bytes([s0, s1, s2, s3]),
            key_len: u16::from_le_bytes([k0, k1]),
            method,
        })
    }

    fn record_bytes(self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.key_len) + u64::from(self.stored_len)
    }
}

/// A value file that is open for reading.
pub struct ValuesFile {
    file: Box<dyn File>,
    path: PathBuf,
    meta: ValuesMeta,
}

impl ValuesFile {
    /// Opens the value file with this number, and reads its footer.
    ///
    /// # Errors
    /// [`Error::Damaged`] if that is not sound, [`Error::NewerFormat`] if a newer program wrote the
    /// file, [`Error::Io`] if it cannot be opened or read.
    pub fn open(disk: &dyn Disk, path: &Path, number: u64) -> Result<ValuesFile> {
        let file = disk.open(path, OpenMode::Read).map_err(Error::io(path, "open"))?;
        let bytes = file.len().map_err(Error::io(path, "measure"))?;
        let footer_at = bytes.saturating_sub(FOOTER_BYTES as u64);
        let tail = read(&*file, path, footer_at, (bytes - footer_at) as usize)?;
        let Footer { values, value_bytes } = Footer::decode(&tail).map_err(|bad| match bad {
            BadFooter::Damaged(what) => Error::damaged(path, footer_at, what),
            BadFooter::Newer(found) => {
                Error::NewerFormat { path: path.to_path_buf(), found, known: FORMAT_VERSION }
            }
        })?;
        let meta = ValuesMeta { number, bytes, values, value_bytes };
        Ok(ValuesFile { file, path: path.to_path_buf(), meta })
    }

    /// Opens a file whose footer does not matter, to save what is whole of it.
    pub(crate) fn open_damaged(disk: &dyn Disk, path: &Path, number: u64) -> Result<ValuesFile> {
        let file = disk.open(path, OpenMode::Read).map_err(Error::io(path, "open"))?;
        let bytes = file.len().map_err(Error::io(path, "measure"))?;
        let meta = ValuesMeta { number, bytes, ..ValuesMeta::default() };
        Ok(ValuesFile { file, path: path.to_path_buf(), meta })
    }

    /// Returns what the file says of itself.
    pub fn meta(&self) -> ValuesMeta {
        self.meta
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the value of a key.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the record is not sound, or not the one that the handle means;
    /// [`Error::Io`] if it cannot be read.
    pub fn read(&self, key: &[u8], handle: ValueHandle) -> Result<Bytes> {
        let record = self.record(key, handle)?;
        let value = record.value().map_err(flaw_at(&self.path, handle.offset))?;
        if value.len() != handle.value_bytes as usize {
            let what = "a value has another length than its table says";
            return Err(Error::damaged(&self.path, handle.offset, what));
        }
        Ok(value)
    }

    /// Reads the record of a key's value.
    ///
    /// # Errors
    /// As [`ValuesFile::read`].
    pub(crate) fn record(&self, key: &[u8], handle: ValueHandle) -> Result<Record> {
        self.check_place(handle)?;
        let bytes = read(&*self.file, &self.path, handle.offset, handle.record_bytes as usize)?;
        let record = Record::decode(bytes, handle.offset);
        let record = record.map_err(flaw_at(&self.path, handle.offset))?;
        if record.crc != handle.crc || record.key != key {
            let what = "a table refers to another value than is there";
            return Err(Error::damaged(&self.path, handle.offset, what));
        }
        Ok(record)
    }

    /// Checks that a handle points to the record of a key, without reading the value. Whether that
    /// is sound, a walk tells.
    ///
    /// # Errors
    /// As [`ValuesFile::read`].
    pub fn check(&self, key: &[u8], handle: ValueHandle) -> Result<()> {
        self.check_place(handle)?;
        let len = (HEADER_BYTES + key.len()).min(handle.record_bytes as usize);
        let bytes = read(&*self.file, &self.path, handle.offset, len)?;
        let header = Header::decode(&bytes).map_err(flaw_at(&self.path, handle.offset))?;
        let is_it = header.crc == handle.crc
            && header.record_bytes() == u64::from(handle.record_bytes)
            && bytes.get(HEADER_BYTES..) == Some(key);
        if is_it {
            return Ok(());
        }
        let what = "a table refers to another value than is there";
        Err(Error::damaged(&self.path, handle.offset, what))
    }

    fn check_place(&self, handle: ValueHandle) -> Result<()> {
        let records_end = self.meta.bytes.saturating_sub(FOOTER_BYTES as u64);
        if handle.end().is_some_and(|end| end <= records_end) {
            return Ok(());
        }
        let what = "a table refers to a value that lies outside of the file";
        Err(Error::damaged(&self.path, handle.offset, what))
    }

    /// Returns all records, one after the other.
    pub fn walk(&self) -> Walk<'_> {
        Walk { file: self, offset: 0, window: Bytes::new(), window_at: 0, is_over: false }
    }

    /// Reads everything and checks it.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the offset of the first thing that is wrong, [`Error::Io`] if the
    /// file cannot be read.
    pub fn verify(&self) -> Result<()> {
        let (mut values, mut value_bytes) = (0, 0);
        for record in self.walk() {
            let record = record?;
            let offset = record.offset;
            values += 1;
            value_bytes += record.value().map_err(flaw_at(&self.path, offset))?.len() as u64;
        }
        if (values, value_bytes) == (self.meta.values, self.meta.value_bytes) {
            return Ok(());
        }
        let what = format!("the file says it is {}, and has {values} values", self.meta);
        Err(Error::damaged(&self.path, self.meta.bytes.saturating_sub(FOOTER_BYTES as u64), what))
    }
}

/// The records of a value file in the order in which they lie. It ends with the first one that is
/// not sound, for nothing else says where the next begins.
pub struct Walk<'f> {
    file: &'f ValuesFile,
    offset: u64,
    /// The part of the file that was read last, and where it begins.
    window: Bytes,
    window_at: u64,
    is_over: bool,
}

impl Walk<'_> {
    /// Returns bytes of the file from the current offset on.
    fn bytes(&mut self, len: u64) -> Result<Bytes> {
        let end = self.file.meta.bytes.saturating_sub(FOOTER_BYTES as u64);
        let left = end.saturating_sub(self.offset);
        if len > left {
            let what = "a record does not fit into the file";
            return Err(Error::damaged(&self.file.path, self.offset, what));
        }
        let start = self.offset - self.window_at;
        if start + len > self.window.len() as u64 {
            let len = len.max(WALK_BYTES).min(left) as usize;
            self.window = read(&*self.file.file, &self.file.path, self.offset, len)?;
            self.window_at = self.offset;
        }
        let start = (self.offset - self.window_at) as usize;
        Ok(self.window.slice(start..start + len as usize))
    }

    fn step(&mut self) -> Result<Record> {
        let flaw = flaw_at(&self.file.path, self.offset);
        let header = self.bytes(HEADER_BYTES as u64)?;
        let len = Header::decode(&header).map_err(&flaw)?.record_bytes();
        let record = Record::decode(self.bytes(len)?, self.offset).map_err(&flaw)?;
        self.offset += len;
        Ok(record)
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        let end = self.file.meta.bytes.saturating_sub(FOOTER_BYTES as u64);
        if self.is_over || self.offset >= end {
            return None;
        }
        let record = self.step();
        self.is_over = record.is_err();
        Some(record)
    }
}

/// Reads bytes that must be there.
fn read(file: &dyn File, path: &Path, offset: u64, len: usize) -> Result<Bytes> {
    let mut buffer = vec![0; len];
    let read = file.read_at(&mut buffer, offset).map_err(Error::io(path, "read"))?;
    if read < len {
        let what = format!("the file ends where {len} bytes should be");
        return Err(Error::damaged(path, offset + read as u64, what));
    }
    // Its own memory, without the copy that shrinking it to fit would be.
    Ok(Bytes::from_owner(buffer))
}

//! Writes a value file, front to back, in large sequential writes.

use std::path::{Path, PathBuf};

use base::codec;
use env::File;

use super::handle::{ValueHandle, ValuesMeta};
use super::reader::{Footer, HEADER_BYTES, record_crc};
use crate::table::{Compression, Compressor};
use crate::{Error, Result};

/// How much is collected before it is written, in bytes: large enough that the cost of a call does
/// not show.
const WRITE_BYTES: usize = 512 << 10;

/// The longest key that fits a record's header.
pub(crate) const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// Writes the values of a new file.
///
/// After an error the file cannot be finished any more: drop the builder and remove the file.
pub struct ValuesBuilder {
    file: Box<dyn File>,
    path: PathBuf,
    number: u64,
    compressor: Compressor,
    /// What has not been written yet, and how much has.
    buffer: Vec<u8>,
    written: u64,
    values: u64,
    value_bytes: u64,
    has_failed: bool,
}

impl ValuesBuilder {
    /// Begins the value file with this number, which is new and empty. The path is only for error
    /// messages.
    pub fn new(
        file: Box<dyn File>,
        path: &Path,
        number: u64,
        compression: Compression,
    ) -> ValuesBuilder {
        ValuesBuilder {
            file,
            path: path.to_path_buf(),
            number,
            compressor: Compressor::new(compression),
            buffer: Vec::new(),
            written: 0,
            values: 0,
            value_bytes: 0,
            has_failed: false,
        }
    }

    /// Appends a value and returns where it lies.
    ///
    /// # Errors
    /// [`Error::DiskFull`] and [`Error::Io`] when the file cannot be written.
    ///
    /// # Panics
    /// If the key has more than 65,535 bytes, or the value more than four gigabytes.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<ValueHandle> {
        let start = self.begin(key);
        let method = self.compressor.put(&mut self.buffer, value);
        self.end(start, key, method, value.len())
    }

    /// Appends a value as another file has it stored, compressed or not.
    ///
    /// # Errors
    /// As [`ValuesBuilder::add`].
    pub(crate) fn add_stored(
        &mut self,
        key: &[u8],
        method: Compression,
        stored: &[u8],
        value_bytes: u32,
    ) -> Result<ValueHandle> {
        let start = self.begin(key);
        self.buffer.extend_from_slice(stored);
        self.end(start, key, method, value_bytes as usize)
    }

    /// Makes room for the header and puts the key behind it; returns where the record begins in the
    /// buffer.
    fn begin(&mut self, key: &[u8]) -> usize {
        assert!(key.len() <= KEY_BYTES_MAX, "a key of {} bytes fits no record", key.len());
        let start = self.buffer.len();
        self.buffer.resize(start + HEADER_BYTES, 0);
        self.buffer.extend_from_slice(key);
        start
    }

    /// Fills in the header of the record that begins there.
    fn end(
        &mut self,
        start: usize,
        key: &[u8],
        method: Compression,
        value_bytes: usize,
    ) -> Result<ValueHandle> {
        let offset = self.written + start as u64;
        let record = &mut self.buffer[start..];
        let fits = |len: usize| u32::try_from(len).expect("a value has less than 4 GiB");
        let record_bytes = fits(record.len());
        let stored_len = fits(record.len() - HEADER_BYTES - key.len());
        record[4..8].copy_from_slice(&stored_len.to_le_bytes());
        record[8..10].copy_from_slice(&(key.len() as u16).to_le_bytes());
        record[10] = method.method();
        let crc = record_crc(record, offset);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        self.values += 1;
        self.value_bytes += value_bytes as u64;
        if self.buffer.len() >= WRITE_BYTES {
            self.write_buffer()?;
        }
        let value_bytes = fits(value_bytes);
        Ok(ValueHandle { file: self.number, offset, record_bytes, value_bytes, crc })
    }

    /// Returns the length of the file so far.
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
    pub fn finish(mut self) -> Result<ValuesMeta> {
        assert!(!self.has_failed, "a value file is not finished after a failed write");
        let footer = Footer { values: self.values, value_bytes: self.value_bytes };
        footer.encode(&mut self.buffer);
        self.write_buffer()?;
        self.file.sync().map_err(Error::io(&self.path, "sync"))?;
        Ok(ValuesMeta {
            number: self.number,
            bytes: self.written,
            values: self.values,
            value_bytes: self.value_bytes,
        })
    }

    fn write_buffer(&mut self) -> Result<()> {
        self.has_failed = true;
        let written = self.file.write_at(&self.buffer, self.written);
        written.map_err(Error::io(&self.path, "write"))?;
        self.has_failed = false;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Footer {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        let start = out.len();
        codec::put_u64(out, self.values);
        codec::put_u64(out, self.value_bytes);
        codec::put_u32(out, super::FORMAT_VERSION);
        codec::put_u32(out, 0);
        out.extend_from_slice(&super::reader::MAGIC);
        codec::put_u32(out, 0);
        let crc = base::checksum::of(&[&out[start..]]);
        codec::put_u32(out, crc);
    }
}

//! Decides which values lie apart, and writes them: as many files as it takes.

use super::builder::{KEY_BYTES_MAX, ValuesBuilder};
use super::handle::{ValueHandle, ValuesMeta};
use super::reader::Record;
use crate::Result;
use crate::directory::NewFile;
use crate::table::TableOptions;

/// Writes the large values of a flush, a compaction or a bulk load.
pub struct ValueWriter {
    options: TableOptions,
    builder: Option<ValuesBuilder>,
    finished: Vec<ValuesMeta>,
    finished_bytes: u64,
}

impl ValueWriter {
    /// Returns a writer that has written nothing.
    pub fn new(options: TableOptions) -> ValueWriter {
        ValueWriter { options, builder: None, finished: Vec::new(), finished_bytes: 0 }
    }

    /// Returns true if a value is to lie apart.
    pub fn is_apart(&self, key: &[u8], value: &[u8]) -> bool {
        self.options.separate_from.is_some_and(|from| value.len() >= from)
            && key.len() <= KEY_BYTES_MAX
    }

    /// Writes a value; `create` makes a file when one is needed.
    ///
    /// # Errors
    /// As [`ValuesBuilder::add`]; what `create` says.
    pub fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        create: impl FnOnce() -> Result<NewFile>,
    ) -> Result<ValueHandle> {
        self.builder(create)?.add(key, value)
    }

    /// Writes the value of a record of another file.
    ///
    /// # Errors
    /// As [`ValueWriter::put`].
    pub(crate) fn put_record(
        &mut self,
        record: &Record,
        value_bytes: u32,
        create: impl FnOnce() -> Result<NewFile>,
    ) -> Result<ValueHandle> {
        let builder = self.builder(create)?;
        builder.add_stored(&record.key, record.compression, record.stored(), value_bytes)
    }

    /// Returns the length of all files so far.
    pub fn bytes(&self) -> u64 {
        self.finished_bytes + self.builder.as_ref().map_or(0, ValuesBuilder::bytes)
    }

    /// Ends the last file and returns what was written.
    ///
    /// # Durability
    /// The contents of all files are durable; their names are once the caller has synced the folder.
    ///
    /// # Errors
    /// As [`ValuesBuilder::finish`].
    pub fn finish(&mut self) -> Result<Vec<ValuesMeta>> {
        self.finish_file()?;
        Ok(std::mem::take(&mut self.finished))
    }

    fn builder(&mut self, create: impl FnOnce() -> Result<NewFile>) -> Result<&mut ValuesBuilder> {
        let is_full = |builder: &ValuesBuilder| builder.bytes() >= self.options.value_file_bytes;
        if self.builder.as_ref().is_some_and(is_full) {
            self.finish_file()?;
        }
        if self.builder.is_none() {
            let NewFile { number, file, path } = create()?;
            let compression = self.options.compression;
            self.builder = Some(ValuesBuilder::new(file, &path, number, compression));
        }
        Ok(self.builder.as_mut().expect("a file is open"))
    }

    fn finish_file(&mut self) -> Result<()> {
        if let Some(builder) = self.builder.take() {
            let meta = builder.finish()?;
            self.finished_bytes += meta.bytes;
            self.finished.push(meta);
        }
        Ok(())
    }
}

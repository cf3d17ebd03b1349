//! The live value files, and how much of each is in use.

use std::sync::Arc;

use bytes::Bytes;

use super::Graveyard;
use crate::directory::FileId;
use crate::manifest::TableMeta;
use crate::sync::{AtomicBool, Ordering};
use crate::table::{BlockCache, Place};
use crate::values::{Record, ValueHandle, ValueUse, ValuesFile, ValuesMeta};
use crate::{Error, Result, Stored};

/// The largest value that the cache of blocks keeps, in bytes. Fetching a longer one takes a while
/// whether it is found or not, and it would push out a hundred blocks.
const CACHED_BYTES_MAX: u32 = 64 << 10;

/// A value file of a version.
pub struct LiveValues {
    file: ValuesFile,
    cache: Option<Arc<BlockCache>>,
    is_obsolete: AtomicBool,
    graveyard: Arc<Graveyard>,
}

impl Drop for LiveValues {
    fn drop(&mut self) {
        if self.is_obsolete.load(Ordering::Acquire) {
            self.graveyard.bury(FileId::values(self.file.meta().number));
        }
    }
}

impl LiveValues {
    /// Returns an open file as part of versions.
    pub fn new(
        file: ValuesFile,
        cache: Option<Arc<BlockCache>>,
        graveyard: &Arc<Graveyard>,
    ) -> LiveValues {
        let graveyard = Arc::clone(graveyard);
        LiveValues { file, cache, is_obsolete: AtomicBool::new(false), graveyard }
    }

    /// Returns what the manifest says of it.
    pub fn meta(&self) -> ValuesMeta {
        self.file.meta()
    }

    fn read(&self, key: &[u8], handle: ValueHandle) -> Result<Bytes> {
        let is_small = handle.value_bytes <= CACHED_BYTES_MAX;
        let Some(cache) = self.cache.as_ref().filter(|_| is_small) else {
            return self.file.read(key, handle);
        };
        if let Some(value) = cache.value(handle.file, handle.offset) {
            return Ok(value);
        }
        let value = self.file.read(key, handle)?;
        cache.insert_value(handle.file, handle.offset, &value);
        Ok(value)
    }
}

/// The value files of a version, in the order of their numbers.
#[derive(Clone, Default)]
pub struct ValueFiles {
    files: Vec<Arc<LiveValues>>,
}

impl ValueFiles {
    /// Returns the files.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<LiveValues>> {
        self.files.iter()
    }

    /// Returns the value of a key as a table has it; `None` for a tombstone.
    ///
    /// # Errors
    /// As [`ValuesFile::read`].
    pub fn fetch(&self, key: &[u8], place: Place) -> Result<Option<Bytes>> {
        match place {
            Place::Inline(value) => Ok(Some(value)),
            Place::Apart(handle) => self.read(key, handle).map(Some),
            Place::Tombstone => Ok(None),
        }
    }

    /// Hands out what a table has of a key with the value itself; `None` for a tombstone.
    ///
    /// # Errors
    /// As [`ValuesFile::read`].
    #[inline]
    pub fn with_value<T>(
        &self,
        key: &[u8],
        stored: Stored<'_>,
        take: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Result<T> {
        match stored {
            Stored::Put(value) => Ok(take(Some(value))),
            Stored::Apart(handle) => Ok(take(Some(&self.read(key, handle)?))),
            Stored::Tombstone => Ok(take(None)),
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// As [`ValuesFile::read`].
    pub fn read(&self, key: &[u8], handle: ValueHandle) -> Result<Bytes> {
        self.find(handle)?.read(key, handle)
    }

    /// Reads a value as it is stored, for a compaction to write it elsewhere.
    ///
    /// # Errors
    /// As [`ValuesFile::read`].
    pub(crate) fn record(&self, key: &[u8], handle: ValueHandle) -> Result<Record> {
        self.find(handle)?.file.record(key, handle)
    }

    fn find(&self, handle: ValueHandle) -> Result<&LiveValues> {
        let found = self.files.binary_search_by_key(&handle.file, |file| file.meta().number);
        let missing = |_| {
            // The manifest lists every file that a table says it uses: this one says otherwise.
            let path = FileId::values(handle.file).name();
            Error::damaged(path.as_ref(), handle.offset, "a table refers to a value file in vain")
        };
        found.map(|at| &*self.files[at]).map_err(missing)
    }

    /// Returns the files that are left of these and of some that are new, given the tables.
    pub(super) fn next<'t>(
        &self,
        opened: Vec<LiveValues>,
        tables: impl Iterator<Item = &'t TableMeta>,
    ) -> ValueFiles {
        let used = uses_of(tables);
        let new = opened.into_iter().map(Arc::new);
        let mut files: Vec<_> = self.files.iter().cloned().chain(new).collect();
        files.retain(|file| used.binary_search_by_key(&file.meta().number, |of| of.file).is_ok());
        files.sort_by_key(|file| file.meta().number);
        ValueFiles { files }
    }

    /// Marks the files that are not among others: each is put into the graveyard when nobody uses it
    /// any more.
    pub(super) fn mark_obsolete_but(&self, kept: &ValueFiles) {
        for file in &self.files {
            let number = file.meta().number;
            if kept.files.binary_search_by_key(&number, |kept| kept.meta().number).is_err() {
                file.is_obsolete.store(true, Ordering::Release);
            }
        }
    }
}

/// Returns what tables refer to in value files, in the order of the files.
pub fn uses_of<'t>(tables: impl Iterator<Item = &'t TableMeta>) -> Vec<ValueUse> {
    let mut uses = std::collections::BTreeMap::<u64, ValueUse>::new();
    for more in tables.flat_map(|table| &table.values) {
        let of =
            uses.entry(more.file).or_insert(ValueUse { file: more.file, ..ValueUse::default() });
        of.values += more.values;
        of.bytes += more.bytes;
    }
    uses.into_values().collect()
}

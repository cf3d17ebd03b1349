//! A live table or value file, and what becomes of it when it is one no more.

use std::sync::Arc;

use base::Timestamp;

use crate::Result;
use crate::directory::FileId;
use crate::iterator::LiveCursor;
use crate::manifest::TableMeta;
use crate::sync::{AtomicBool, Mutex, Ordering, lock};
use crate::table::{Located, Table};

/// The files that are neither named by the manifest nor used by anybody: they can be
/// removed. Filled by whoever lets go of a table last, which may be a reader, who is not made to
/// wait for a disk.
#[derive(Debug, Default)]
pub struct Graveyard {
    files: Mutex<Vec<FileId>>,
}

impl Graveyard {
    /// Takes all out.
    pub fn drain(&self) -> Vec<FileId> {
        std::mem::take(&mut *lock(&self.files))
    }

    /// Puts a file in.
    pub fn bury(&self, file: FileId) {
        lock(&self.files).push(file);
    }
}

/// An open file, shared by all places that the table has had.
struct LiveFile {
    number: u64,
    table: Table,
    is_obsolete: AtomicBool,
    graveyard: Arc<Graveyard>,
}

impl Drop for LiveFile {
    fn drop(&mut self) {
        if self.is_obsolete.load(Ordering::Acquire) {
            self.graveyard.bury(FileId::table(self.number));
        }
    }
}

/// A table of a version.
pub struct LiveTable {
    /// What the manifest says of it.
    pub meta: Arc<TableMeta>,
    file: Arc<LiveFile>,
}

impl LiveTable {
    /// Joins a table with its line in the manifest.
    pub fn new(meta: TableMeta, table: Table, graveyard: &Arc<Graveyard>) -> LiveTable {
        let file = LiveFile {
            number: meta.number,
            table,
            is_obsolete: AtomicBool::new(false),
            graveyard: Arc::clone(graveyard),
        };
        LiveTable { meta: Arc::new(meta), file: Arc::new(file) }
    }

    /// Returns the same file at another place.
    pub(crate) fn moved(&self, meta: TableMeta) -> LiveTable {
        LiveTable { meta: Arc::new(meta), file: Arc::clone(&self.file) }
    }

    /// Has the file put into the graveyard when nobody uses it any more.
    pub(crate) fn mark_obsolete(&self) {
        self.file.is_obsolete.store(true, Ordering::Release);
    }

    /// Returns the open table, whose entries may lack their timestamp: see
    /// [`TableMeta::ts_override`].
    pub fn table(&self) -> &Table {
        &self.file.table
    }

    /// Returns a cursor that is on no entry yet.
    pub fn cursor(&self) -> LiveCursor {
        LiveCursor::new(self.file.table.cursor(), self.meta.ts_override)
    }

    /// Returns the newest version of a key, with this hash, at or before a timestamp.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub fn get(&self, key: &[u8], hash: u64, ts: Timestamp) -> Result<Option<Located>> {
        match self.meta.ts_override {
            None => self.get_stored(key, hash, ts),
            Some(own) if own > ts => Ok(None),
            Some(own) => {
                let found = self.get_stored(key, hash, Timestamp::MAX)?;
                Ok(found.map(|found| Located { ts: own, ..found }))
            }
        }
    }

    fn get_stored(&self, key: &[u8], hash: u64, ts: Timestamp) -> Result<Option<Located>> {
        self.file.table.get(key, hash, ts)
    }
}

impl std::fmt::Debug for LiveTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.meta.fmt(f)
    }
}

//! A bulk load: sorted input becomes tables directly, and all of it becomes part of the database at
//! once.
//!
//! ```text
//!   add, add, add …  ─► tables, with timestamp zero       nobody knows of them
//!   finish           ─► synced, their names synced
//!   add_bulk at T    ─► one edit of the manifest: {tables, timestamp T}, and a view with them
//! ```
//!
//! No log, no memtable, and no compaction if nothing else is where they go: each byte is written
//! once. Their commit timestamp is not known while they are written, so the manifest has it, and
//! gives it to all of their entries.
//!
//! A crash before the edit leaves files that the next opening removes; after it all is there.
//!
//! # What the caller promises
//! That no memtable has a key of theirs when they are added, and that no commit comes between its
//! look and the addition: newer versions of a key must not lie below older ones. What of their keys
//! lies in tables, tombstones and all, is below them wherever they go.

use std::sync::Arc;

use base::{KeyRange, Timestamp};
use bytes::Bytes;

use super::Engine;
use crate::compaction::{self, Shape};
use crate::directory::{FileId, FileKind, NewFile};
use crate::error::Result;
use crate::manifest::{Edit, TableMeta};
use crate::sync::{Ordering, lock};
use crate::table::TableBuilder;
use crate::value::Stored;
use crate::values::ValueWriter;
use crate::version::{Opened, TreeId};

/// Writes the tables of a bulk load. Dropped without [`BulkWriter::finish`], it leaves nothing.
pub struct BulkWriter {
    engine: Arc<Engine>,
    builder: Option<(u64, TreeId, TableBuilder)>,
    apart: ValueWriter,
    written: Vec<TableMeta>,
    created: Vec<FileId>,
    first_key: Bytes,
    last_key: Vec<u8>,
    rows: u64,
}

/// Tables that are whole and durable, and part of nothing yet. Dropped, they are removed.
pub struct BulkTables {
    engine: Arc<Engine>,
    /// Adds them, without a timestamp and a place.
    written: Edit,
    opened: Opened,
    /// The smallest key and the largest.
    keys: (Bytes, Bytes),
    rows: u64,
    is_added: bool,
}

impl Engine {
    /// Begins a bulk load.
    pub fn bulk_write(self: &Arc<Self>) -> BulkWriter {
        BulkWriter {
            engine: self.clone(),
            builder: None,
            apart: ValueWriter::new(self.tables.run_options(Timestamp::ZERO).table),
            written: Vec::new(),
            created: Vec::new(),
            first_key: Bytes::new(),
            last_key: Vec::new(),
            rows: 0,
        }
    }

    /// Returns true if a memtable has any version of a key of the range.
    pub fn has_in_memory(&self, range: &KeyRange) -> bool {
        self.view.load().memtables().any(|memtable| {
            let pin = memtable.pin_writer();
            pin.newest_in_range(&range.start, range.end.as_deref(), Timestamp::ZERO).is_some()
        })
    }

    /// Adds the tables of a bulk load, with `ts` as the commit timestamp of all they hold; see the
    /// head of this file for what the caller promises.
    ///
    /// # Errors
    /// The system's errors, `DiskFull` among them: nothing was added then.
    ///
    /// # Durability
    /// What was added survives a crash once this returns.
    pub fn add_bulk(&self, bulk: &mut BulkTables, ts: Timestamp) -> Result<()> {
        // No compaction is chosen from the view before, which would bring tables to where these go.
        let compactions = lock(&self.compacting);
        let mut manifest = lock(&self.manifest);
        let version = self.view.load().version.clone();
        let shape = Shape::from(&*version);
        let run = self.tables.new_number();
        let place = |meta: &TableMeta| {
            let keys = (meta.first_key().clone(), meta.last_key().clone());
            let level = compaction::bulk_level(&shape, meta.tree, &keys, compactions.busy());
            TableMeta { level, ..meta.clone().placed(meta.tree, run).committed_at(ts) }
        };
        let mut added: Vec<TableMeta> = bulk.written.added.iter().map(place).collect();
        if added.iter().any(|meta| meta.level == 0) {
            // One run, wherever the pieces could go: versions of a key are in one place.
            added.iter_mut().for_each(|meta| meta.level = 0);
        }
        let edit = Edit {
            added,
            added_values: bulk.written.added_values.clone(),
            checkpoint_ts: Some(ts),
            log_index: Some(self.wal.last_index().max(manifest.state().log_index)),
            ..Edit::default()
        };
        let applied = manifest.apply(&edit);
        // If it is not known which state is on disk, it may be the one that names them.
        bulk.is_added = applied.is_ok() || !manifest.is_certain();
        applied?;
        // Tombstones of their keys may be among the hot rows.
        let _closed = self.rows.invalidate([]);
        self.rows.clear();
        let opened = std::mem::take(&mut bulk.opened);
        let version = Arc::new(version.apply(&edit, opened));
        self.tables.account(&version);
        let _install = lock(&self.install);
        let view = self.view.load_full();
        self.view.store(Arc::new(view.with_version(version)));
        self.counters.bulk_rows.fetch_add(bulk.rows, Ordering::Relaxed);
        Ok(())
    }
}

impl BulkWriter {
    /// Adds a row. Keys rise strictly.
    ///
    /// # Errors
    /// The system's errors, `DiskFull` among them; the load cannot be finished then.
    ///
    /// # Panics
    /// If the keys do not rise.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        assert!(self.rows == 0 || self.last_key[..] < *key, "the keys of a bulk load rise");
        let tree = self.engine.view.load().version.tree_of(key).id;
        let is_full = |(_, of, builder): &(u64, TreeId, TableBuilder)| {
            *of != tree || builder.bytes() >= self.engine.compaction.table_bytes
        };
        if self.builder.as_ref().is_some_and(is_full) {
            self.finish_table()?;
        }
        if self.builder.is_none() {
            let NewFile { number, file, path } = self.engine.tables.create(FileKind::Table)?;
            self.created.push(FileId::table(number));
            let options = self.engine.tables.run_options(Timestamp::ZERO).table;
            self.builder = Some((number, tree, TableBuilder::new(file, &path, options)));
        }
        if let Some((_, _, builder)) = &mut self.builder {
            let value = if self.apart.is_apart(key, value) {
                Stored::Apart(self.apart.put(key, value, || {
                    let file = self.engine.tables.create(FileKind::Values)?;
                    self.created.push(FileId::values(file.number));
                    Ok(file)
                })?)
            } else {
                Stored::Put(value)
            };
            builder.add(key, Timestamp::ZERO, value)?;
        }
        if self.rows == 0 {
            self.first_key = Bytes::copy_from_slice(key);
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.rows += 1;
        Ok(())
    }

    /// Returns the rows added so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Ends the tables and makes them durable. They are not part of the database yet.
    ///
    /// # Errors
    /// The system's errors, `DiskFull` among them: nothing is left then.
    pub fn finish(mut self) -> Result<BulkTables> {
        self.finish_table()?;
        let written = Edit {
            added: std::mem::take(&mut self.written),
            added_values: self.apart.finish()?,
            ..Edit::default()
        };
        let opened = self.engine.tables.open_written(&written, |_| true)?;
        // From here on they are the other's to remove.
        self.created.clear();
        Ok(BulkTables {
            engine: self.engine.clone(),
            written,
            opened,
            keys: (self.first_key.clone(), Bytes::copy_from_slice(&self.last_key)),
            rows: self.rows,
            is_added: false,
        })
    }

    fn finish_table(&mut self) -> Result<()> {
        if let Some((number, tree, builder)) = self.builder.take() {
            let summary = builder.finish()?;
            self.written.push(TableMeta::new(number, 0, &summary).placed(tree, number));
        }
        Ok(())
    }
}

impl Drop for BulkWriter {
    fn drop(&mut self) {
        self.engine.tables.discard(self.created.drain(..));
    }
}

impl BulkTables {
    /// Returns the number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the range from the smallest key to the largest, both included.
    pub fn range(&self) -> KeyRange {
        KeyRange::from(&self.keys.0..=&self.keys.1)
    }
}

impl Drop for BulkTables {
    fn drop(&mut self) {
        if !self.is_added {
            self.engine.tables.discard(self.written.added_files());
        }
    }
}

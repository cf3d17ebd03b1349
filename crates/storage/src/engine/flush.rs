//! A flush: the oldest sealed memtable becomes tables of level 0.
//!
//! ```text
//!   1  the log is durable up to the end of the memtable's records
//!   2  its versions are written to new tables,          ── synced, and their names
//!      large values to value files
//!   3  the manifest names them, and begins replay after the memtable's records
//!   4  its keys leave the cache of hot rows
//!   5  a view with the tables and without the memtable
//!   6  the log before is used again
//! ```
//!
//! A crash before 3 leaves files that the next opening removes and a log that has everything; after
//! 3 the tables have it. A failure before 3 changes nothing and can be tried again.
//!
//! # What is written
//! All versions that anybody may still ask for, at the watermark of the moment. A tombstone that
//! nobody can look behind is left out if no table below could have its key.

use std::ops::ControlFlow;
use std::sync::Arc;

use base::{KeyRange, Timestamp};

use super::Engine;
use super::store::TableStore;
use super::view::Sealed;
use crate::compaction::{self, CompactionOptions, Failed, Shape};
use crate::error::Result;
use crate::manifest::Edit;
use crate::memtable::Memtable;
use crate::sync::{Ordering, lock};
use crate::version::{Opened, Version};

/// What was written and is not named yet: an edit that only adds files, and these, open.
pub(super) type Written = (Edit, Opened);

impl Engine {
    /// Flushes the oldest sealed memtable, if everything in it is visible; returns false if there
    /// was none.
    ///
    /// # Errors
    /// The system's errors, `DiskFull` among them: nothing has changed then.
    ///
    /// # Durability
    /// What was flushed survives a crash, whatever its own durability.
    pub fn flush_next(&self, visible: Timestamp) -> Result<bool> {
        let _flushing = lock(&self.flushing);
        let flushed = self.flush_oldest(visible);
        *lock(&self.flush_error) = flushed.as_ref().err().map(ToString::to_string);
        flushed
    }

    fn flush_oldest(&self, visible: Timestamp) -> Result<bool> {
        let view = self.view.load_full();
        let Some(oldest) = view.sealed.last().filter(|oldest| oldest.seal_ts <= visible) else {
            self.tables.remove_obsolete();
            // What could not be released before.
            let _files = lock(&self.files);
            return self.wal.release_before(self.log_start()).map(|()| false);
        };
        // Else a crash could leave a log that ends before the point it is needed from.
        self.wal.sync_to(oldest.log_end)?;
        let watermark = self.pins.watermark();
        let written = write_memtable(
            &self.tables,
            &self.compaction,
            &view.version,
            &oldest.memtable,
            watermark,
        )?;
        self.name_flushed(oldest, written, watermark)?;
        drop(view);
        self.tables.remove_obsolete();
        self.debt_hint.store(self.debt_bytes(), Ordering::Relaxed);
        let _files = lock(&self.files);
        self.wal.release_before(self.log_start())?;
        Ok(true)
    }

    /// Steps 3 to 5.
    fn name_flushed(
        &self,
        oldest: &Arc<Sealed>,
        written: Written,
        watermark: Timestamp,
    ) -> Result<()> {
        let (written, opened) = written;
        let mut manifest = lock(&self.manifest);
        let edit = Edit {
            checkpoint_ts: Some(oldest.seal_ts),
            log_start: Some(oldest.log_end.0),
            // A crash may have taken the newest records before; the index never goes back.
            log_index: Some(self.wal.last_index().max(manifest.state().log_index)),
            // A compaction may have begun later and be done already.
            gc_watermark: Some(watermark.max(manifest.state().gc_watermark)),
            last_ts: Some(oldest.seal_ts.max(watermark)),
            ..written
        };
        if let Err(error) = manifest.apply(&edit) {
            if manifest.is_certain() {
                self.tables.discard(edit.added_files());
            }
            return Err(error);
        }
        self.log_start.store(oldest.log_end.0, Ordering::Relaxed);
        let tables: u64 = edit.added.iter().map(|meta| meta.bytes).sum();
        let bytes = tables + edit.added_values.iter().map(|meta| meta.bytes).sum::<u64>();
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        self.counters.flushed_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counters.wrote(edit.added.iter());
        // Before its versions can be found in tables only.
        let pin = oldest.memtable.pin_writer();
        let keys = pin.versions(&KeyRange::all());
        let _closed = self.rows.invalidate(keys.map(|history| history.key));
        let version = Arc::new(self.view.load().version.apply(&edit, opened));
        self.tables.account(&version);
        let _install = lock(&self.install);
        let view = self.view.load_full();
        self.view.store(Arc::new(view.flushed(version)));
        Ok(())
    }
}

/// Writes a memtable to tables and value files, durably, their names included.
pub(super) fn write_memtable(
    store: &TableStore,
    compaction: &CompactionOptions,
    version: &Version,
    memtable: &Memtable,
    watermark: Timestamp,
) -> Result<Written> {
    let pin = memtable.pin_reader(watermark);
    let options = store.run_options(watermark);
    let shape = Shape::from(version);
    // Half-written tables only take space, which may be what is missing.
    let mut created = Vec::new();
    let mut edit = Edit::default();
    for tree in version.trees() {
        let plan = compaction::flush_plan(&shape, tree.id, store.new_number(), compaction);
        let create = |kind| store.create(kind);
        match compaction::write(
            &plan,
            pin.cursor(),
            &options,
            create,
            |_| ControlFlow::Continue(()),
        ) {
            Ok(done) => {
                created.extend(done.edit.added_files());
                edit.added.extend(done.edit.added);
                edit.added_values.extend(done.edit.added_values);
            }
            Err(Failed { error, created: half }) => {
                created.extend(half);
                store.discard(created);
                return Err(error.expect("a flush is not told to stop"));
            }
        }
    }
    match store.open_written(&edit, |_| true) {
        Ok(opened) => Ok((edit, opened)),
        Err(error) => {
            store.discard(created);
            Err(error)
        }
    }
}

//! The engine below a replica of a group: entries are in the log long before their effects are
//! here, and some of them never have any.
//!
//! ```text
//!             flushed            applied        committed          end
//!   log   ───────┴──────────────────┴───────────────┴───────────────┘
//!          tables │ memtables        │ in the log only: nobody reads it; an end of it may be
//!                                      replaced by another leader's entries
//! ```
//!
//! The embedded database appends and applies in one step, in one order. A replica does it in two:
//! [`Engine::append_record`] when an entry is accepted, [`Engine::put_applied`] when it is
//! committed. So the engine cannot know from its own log where a memtable ends: who seals says from
//! which position on the log is needed for what is in no table yet ([`Engine::seal_applied`]).
//!
//! # An image of the state
//! ```text
//!   1  rows come in key order, and are written to tables that nobody knows   ── synced, with names
//!   2  the manifest names those, and none of the ones before                 ── one rename
//!   3  a view with those tables, and with empty memtables
//! ```
//! A crash before 2 leaves the old state, and files that the next opening removes; one after it
//! leaves the new state. There is nothing in between.
//!
//! # Invariants
//! * A memtable is sealed when it holds the effects of a prefix of the log, whole: what the caller
//!   says of that prefix is put into it just before, and so becomes durable with them.
//! * What is put in under one key has rising timestamps.
//!
//! # Not here
//! Which entries are committed, and what they mean.

use std::path::Path;
use std::sync::Arc;

use base::Timestamp;
use env::Disk;

use super::flush::{Written, write_memtable};
use super::recovery::{self, Recovery};
use super::view::View;
use super::{Engine, EngineOptions};
use crate::error::Result;
use crate::manifest::{Edit, State};
use crate::memtable::{Memtable, Tombstones};
use crate::sync::{Ordering, lock};
use crate::value::Value;
use crate::version::Version;
use crate::wal::{self, Lsn, Record, RecordKind};

/// What was appended to the log and has to be made durable: work for the disk, which may be done on
/// any thread.
#[derive(Clone)]
pub struct LogWrite {
    engine: Arc<Engine>,
    end: Lsn,
}

impl LogWrite {
    /// Returns when all of it is durable.
    ///
    /// # Errors
    /// `LogFailed`, or what failed: the log's life has ended then.
    ///
    /// # Durability
    /// Everything appended before this work was handed out survives a crash once this returns.
    pub fn run(&self) -> Result<()> {
        self.engine.wal.sync_to(self.end)
    }
}

impl std::fmt::Debug for LogWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWrite").field("end", &self.end).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens or creates the directory of a replica. Its log is handed to `visit`, record by record
    /// from where the tables end, and applied by nobody.
    ///
    /// # Errors
    /// As [`Engine::open`], and those of `visit`.
    pub fn open_replicated(
        disk: Arc<dyn Disk>,
        path: &Path,
        options: EngineOptions,
        visit: &mut dyn FnMut(&Record<'_>) -> Result<()>,
    ) -> Result<(Engine, Recovery)> {
        recovery::open(disk, path, options, Some(visit))
    }

    /// Appends a record of a replicated group to the log; returns where it begins.
    ///
    /// # Errors
    /// As [`crate::wal::Wal::append_of_group`].
    ///
    /// # Durability
    /// None until a [`LogWrite`] that was taken afterwards has run.
    pub fn append_record(
        &self,
        kind: RecordKind,
        group: u64,
        term: u64,
        index: u64,
        payload: &[u8],
    ) -> Result<Lsn> {
        let end = self.wal.append_of_group(kind, group, term, index, payload)?;
        self.log_next.store(end.0, Ordering::Relaxed);
        Ok(Lsn(end.0 - wal::record_bytes(payload.len())))
    }

    /// Returns the work that makes all that was appended so far durable.
    pub fn log_write(self: &Arc<Self>) -> LogWrite {
        LogWrite { engine: self.clone(), end: self.wal.next() }
    }

    /// Puts the effects of a committed entry into the active memtable.
    pub fn put_applied<'w>(
        &self,
        ts: Timestamp,
        writes: impl Iterator<Item = (&'w [u8], Value<'w>)> + Clone,
    ) {
        self.view.load().active.pin_writer().insert_all(ts, writes);
    }

    /// Returns true if the active memtable should be sealed; `needed` is the position from which on
    /// the log holds what is not applied.
    pub fn wants_seal(&self, needed: Lsn) -> bool {
        let view = self.view.load();
        let log_bytes = needed.0.saturating_sub(self.active_start.load(Ordering::Relaxed));
        view.active.memory_bytes() >= self.memory.memtable_bytes || log_bytes >= self.log_bytes_max
    }

    /// Seals the active memtable, which holds whole entries. `last` is the newest timestamp in it,
    /// `needed` the position from which on the log holds what is in no memtable.
    pub fn seal_applied(&self, last: Timestamp, needed: Lsn) {
        let _install = lock(&self.install);
        let view = self.view.load_full();
        self.active_start.store(needed.0, Ordering::Relaxed);
        self.view.store(Arc::new(view.seal(self.new_memtable(), last, needed)));
        self.counters.sealed.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins to take an image of the state.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn begin_image(self: &Arc<Self>) -> Result<Image> {
        let styles = lock(&self.manifest).state().styles.clone();
        let state = State { styles, ..State::default() };
        let graveyard = self.tables.graveyard.clone();
        let tables = &self.tables;
        let empty = Version::open(
            &state,
            graveyard,
            |meta| tables.open(meta),
            |meta| tables.open_values(meta),
        )?;
        Ok(Image {
            engine: self.clone(),
            empty,
            filling: None,
            last_key: Vec::new(),
            written: Written::default(),
            is_installed: false,
        })
    }

    fn install(&self, image: &mut Image, last: Timestamp, floor: Timestamp) -> Result<()> {
        let _flushing = lock(&self.flushing);
        let compactions = lock(&self.compacting);
        assert!(compactions.busy().is_empty(), "no image is installed beside a compaction");
        let mut manifest = lock(&self.manifest);
        let state = manifest.state();
        let edit = Edit {
            added: image.written.0.added.clone(),
            added_values: image.written.0.added_values.clone(),
            removed: state.tables.keys().copied().collect(),
            checkpoint_ts: Some(last.max(state.checkpoint_ts)),
            log_index: Some(state.log_index),
            gc_watermark: Some(floor.max(state.gc_watermark)),
            last_ts: Some(last),
            ..Edit::default()
        };
        let applied = manifest.apply(&edit);
        // If it is not known which state is on disk, it may be the one that names them.
        image.is_installed = applied.is_ok() || !manifest.is_certain();
        applied?;
        // Whatever was read below the image's floor is not what it was.
        self.pins.raise_floor(floor);
        let _closed = self.rows.invalidate([]);
        self.rows.clear();
        let opened = std::mem::take(&mut image.written.1);
        let old = self.view.load().version.clone();
        let version = Arc::new(old.apply(&edit, opened));
        let after = version.clone();
        self.tables.account(&version);
        {
            let _install = lock(&self.install);
            let active = Arc::new(self.new_memtable());
            self.active_start.store(self.wal.next().0, Ordering::Relaxed);
            self.view.store(Arc::new(View { active, sealed: Vec::new(), version }));
        }
        old.mark_obsolete(&edit, &after);
        drop(old);
        self.tables.remove_obsolete();
        Ok(())
    }
}

/// An image of the state on its way in. Nothing of it is part of the database before
/// [`Image::install`], and nothing of it is left if that is not called.
pub struct Image {
    engine: Arc<Engine>,
    /// The trees without their tables: what an image is laid out for.
    empty: Version,
    filling: Option<Memtable>,
    last_key: Vec<u8>,
    written: Written,
    is_installed: bool,
}

impl Image {
    /// Adds a version. Keys rise, and all versions of a key come one after the other.
    ///
    /// # Errors
    /// Those of the disk, `DiskFull` among them: the image is of no use then.
    pub fn add(&mut self, key: &[u8], ts: Timestamp, value: Value<'_>) -> Result<()> {
        if self.last_key != key {
            let memory = self.filling.as_ref().map_or(0, Memtable::memory_bytes);
            if memory >= self.engine.memory.memtable_bytes {
                self.spill()?;
            }
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        let seed = self.engine.hash_seed;
        let filling = self.filling.get_or_insert_with(|| Memtable::new(seed, Tombstones::Kept));
        filling.pin_writer().insert(key, ts, value);
        Ok(())
    }

    /// Writes what has gathered to tables, all its versions.
    fn spill(&mut self) -> Result<()> {
        let Some(memtable) = self.filling.take() else { return Ok(()) };
        let Engine { tables, compaction, .. } = &*self.engine;
        let (edit, opened) =
            write_memtable(tables, compaction, &self.empty, &memtable, Timestamp::ZERO)?;
        self.written.0.added.extend(edit.added);
        self.written.0.added_values.extend(edit.added_values);
        self.written.1.tables.extend(opened.tables);
        self.written.1.values.extend(opened.values);
        Ok(())
    }

    /// Puts the image in place of everything that was there. `last` is the newest timestamp of the
    /// state, `floor` the oldest that can be read of it.
    ///
    /// # Errors
    /// Those of the disk: the old state is there still, unless the directory has to be opened again
    /// to tell.
    ///
    /// # Durability
    /// The new state survives a crash once this returns. A crash before leaves the old one or the
    /// new one, whole.
    ///
    /// # Panics
    /// If a compaction is under way.
    pub fn install(mut self, last: Timestamp, floor: Timestamp) -> Result<()> {
        self.spill()?;
        let engine = self.engine.clone();
        engine.install(&mut self, last, floor)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if !self.is_installed {
            self.engine.tables.discard(self.written.0.added_files());
        }
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("tables", &self.written.0.added.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use env::{CrashMode, SimDisk};

    use super::*;
    use crate::compaction::CompactionOptions;
    use crate::engine::MemoryOptions;
    use crate::error::Error;
    use crate::table::TableOptions;
    use crate::wal::WalOptions;

    const GROUP: u64 = 2;

    fn options() -> EngineOptions {
        EngineOptions {
            create: true,
            owner: "test".into(),
            new_id: [7; 16],
            hash_seed: 1,
            wal: WalOptions {
                segment_bytes_min: 8 << 10,
                segment_bytes_max: 8 << 10,
                spares_max: 1,
            },
            table: TableOptions::default(),
            memory: MemoryOptions::of_budget(1 << 20),
            compaction: CompactionOptions::for_flush_bytes(1 << 20),
            log_bytes_max: 1 << 20,
        }
    }

    /// Opens the engine; returns the kinds and indexes in its log.
    fn open(disk: &SimDisk) -> (Arc<Engine>, Vec<(RecordKind, u64)>) {
        let mut found = Vec::new();
        let disk = Arc::new(disk.clone());
        let engine = Engine::open_replicated(disk, Path::new("db"), options(), &mut |record| {
            found.push((record.kind, record.index));
            Ok(())
        });
        (Arc::new(engine.unwrap().0), found)
    }

    fn append(engine: &Engine, kind: RecordKind, index: u64) -> Lsn {
        engine.append_record(kind, GROUP, 1, index, &[index as u8; 900]).unwrap()
    }

    fn put(engine: &Engine, key: &str, ts: u64) {
        let row = (key.as_bytes(), Value::Put(b"value"));
        engine.put_applied(Timestamp::from_raw(ts), [row].into_iter());
    }

    fn get(engine: &Arc<Engine>, key: &str) -> Option<u64> {
        let pin = engine.pin_newest(|| Timestamp::MAX);
        pin.get(key.as_bytes()).unwrap().map(|(ts, _)| ts.raw())
    }

    #[test]
    fn only_what_was_applied_is_flushed_and_the_log_is_kept_from_there() {
        let disk = SimDisk::new();
        let (engine, _) = open(&disk);
        let begins: Vec<Lsn> =
            (1..=20).map(|index| append(&engine, RecordKind::Entry, index)).collect();
        (1..=12).for_each(|index| put(&engine, &format!("k{index:02}"), index));
        engine.seal_applied(Timestamp::from_raw(12), begins[12]);
        put(&engine, "k13", 13);
        assert!(engine.flush_next(Timestamp::MAX).unwrap());
        drop(engine);
        let disk = disk.crash(CrashMode::LoseUnsynced);
        let (engine, mut found) = open(&disk);
        found.retain(|(kind, _)| *kind != RecordKind::Next);
        assert_eq!(found, (13..=20).map(|index| (RecordKind::Entry, index)).collect::<Vec<_>>());
        assert_eq!((get(&engine, "k12"), get(&engine, "k13")), (Some(12), None));
    }

    #[test]
    fn an_image_replaces_everything_or_nothing() {
        let disk = SimDisk::new();
        let (engine, _) = open(&disk);
        append(&engine, RecordKind::HardState, 0);
        put(&engine, "old", 3);
        engine.seal_applied(Timestamp::from_raw(3), engine.log_next());
        engine.flush_next(Timestamp::MAX).unwrap();
        put(&engine, "memory", 4);
        let image = || {
            let mut image = engine.begin_image().unwrap();
            image.add(b"a", Timestamp::from_raw(9), Value::Tombstone).unwrap();
            image.add(b"a", Timestamp::from_raw(7), Value::Put(b"value")).unwrap();
            image.add(b"new", Timestamp::from_raw(8), Value::Put(b"value")).unwrap();
            image
        };
        drop(image());
        assert_eq!((get(&engine, "old"), get(&engine, "memory")), (Some(3), Some(4)));
        image().install(Timestamp::from_raw(9), Timestamp::from_raw(2)).unwrap();
        let check = |engine: &Arc<Engine>| {
            assert_eq!((get(engine, "old"), get(engine, "memory")), (None, None));
            assert_eq!((get(engine, "a"), get(engine, "new")), (None, Some(8)));
            let pin = engine.pin_at(Timestamp::from_raw(7)).unwrap();
            assert!(pin.get(b"a").unwrap().is_some(), "the past of an image can be read");
        };
        check(&engine);
        drop(engine);
        check(&open(&disk.crash(CrashMode::LoseUnsynced)).0);
    }

    #[test]
    fn the_embedded_database_refuses_the_log_of_a_replica() {
        let disk = SimDisk::new();
        let (engine, _) = open(&disk);
        append(&engine, RecordKind::Entry, 1);
        engine.log_write().run().unwrap();
        engine.close().unwrap();
        drop(engine);
        let opened = Engine::open(Arc::new(disk), Path::new("db"), options());
        let Err(error) = opened else { panic!("it opens") };
        assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
    }
}

//! The log up to its damage: read once to say what it holds, and once more to write it to tables.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use base::Timestamp;
use env::Disk;

use super::tables::NewTables;
use super::{Limits, RepairPlan};
use crate::compaction::{self, CompactionOptions, Failed, PROGRESS_BYTES, RunOptions, Shape};
use crate::directory::DatabaseId;
use crate::engine::each_write;
use crate::error::{Error, Result};
use crate::manifest::Edit;
use crate::memtable::{Memtable, Replay, Tombstones};
use crate::table::TableOptions;
use crate::wal::{self, Lsn, RecordKind};

/// A log, and where the next one begins.
pub(super) struct Log {
    folder: PathBuf,
    id: DatabaseId,
    start: Lsn,
    /// The index of the last record that is kept.
    pub(super) last_index: u64,
    /// A position beyond everything that was ever written.
    pub(super) new_start: Lsn,
    new_segment: u64,
}

impl Log {
    /// Reads the log from a position on, after the record `index`, and says in the plan what is
    /// kept and what is lost.
    pub(super) fn read(
        disk: &dyn Disk,
        folder: PathBuf,
        id: DatabaseId,
        start: Lsn,
        index: u64,
        plan: &mut RepairPlan,
    ) -> Result<Log> {
        let mut last_index = index;
        let (recovered, damage) =
            wal::read_log_through_damage(disk, &folder, id.0, start, |record| {
                plan.last_ts = plan.last_ts.max(record.timestamp);
                last_index = record.index;
                plan.kept_transactions += u64::from(record.kind == RecordKind::Entry);
                each_write(&folder, &record, |_, _| plan.kept_versions += 1)
            })?;
        if let Some(damage) = damage {
            plan.losses.push(format!(
                "the log after position {}: the transactions after timestamp {}; how many they \
                 were cannot be told",
                recovered.end.next, plan.last_ts
            ));
            plan.damages.push(damage.into_error().to_string());
        }
        let segments = wal::list_segment_files(disk, &folder)?;
        let bytes: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
        let known = recovered.segments.last().map_or(start, |last| last.end.max(start));
        // No position is used twice, also not one in a segment whose header cannot be read.
        let new_start = Lsn((known.max(recovered.end.next).0 + bytes).next_multiple_of(8));
        let new_segment = segments.last().map_or(1, |(number, _)| number + 1);
        Ok(Log { folder, id, start, last_index, new_start, new_segment })
    }

    /// Writes what is whole to tables of level 0, a memtable at a time.
    pub(super) fn write(
        &self,
        new: &mut NewTables<'_>,
        shape: &Shape,
        watermark: Timestamp,
        limits: Limits,
    ) -> Result<Edit> {
        let mut writer = LogWriter {
            shape,
            watermark,
            limits,
            replay: None,
            unlooked_bytes: 0,
            edit: Edit::default(),
        };
        let disk = new.disk;
        wal::read_log_through_damage(disk, &self.folder, self.id.0, self.start, |record| {
            writer.make_room(new, record.payload.len())?;
            let replay = writer.replay.get_or_insert_with(new_replay);
            each_write(&self.folder, &record, |key, value| {
                replay.insert(key, record.timestamp, value);
            })
        })?;
        writer.flush(new)?;
        Ok(writer.edit)
    }

    /// Begins an empty log, and removes the old one.
    pub(super) fn begin_anew(&self, disk: &dyn Disk) -> Result<()> {
        let folder: &Path = &self.folder;
        let old = wal::list_segment_files(disk, folder)?;
        wal::begin_at(disk, folder, self.id.0, self.new_segment, self.new_start)?;
        for (number, _) in old.into_iter().filter(|(number, _)| *number < self.new_segment) {
            let path = folder.join(wal::segment_name(number));
            disk.remove(&path).map_err(Error::io(&path, "remove"))?;
        }
        disk.sync_dir(folder).map_err(Error::io(folder, "sync"))
    }
}

fn new_replay() -> Replay {
    // The hash only spreads keys here; nobody chooses them against it.
    Memtable::new(0, Tombstones::Kept).replay()
}

/// The log on its way into tables.
struct LogWriter<'a> {
    shape: &'a Shape,
    watermark: Timestamp,
    limits: Limits,
    replay: Option<Replay>,
    /// Bytes of records since the size of the memtable was looked at, which costs a little.
    unlooked_bytes: usize,
    edit: Edit,
}

impl LogWriter<'_> {
    fn make_room(&mut self, new: &mut NewTables<'_>, bytes: usize) -> Result<()> {
        self.unlooked_bytes += bytes;
        if self.unlooked_bytes < self.limits.memtable_bytes / 8 {
            return Ok(());
        }
        self.unlooked_bytes = 0;
        match &self.replay {
            Some(replay) if replay.memory_bytes() >= self.limits.memtable_bytes => self.flush(new),
            _ => Ok(()),
        }
    }

    fn flush(&mut self, new: &mut NewTables<'_>) -> Result<()> {
        let Some(replay) = self.replay.take() else { return Ok(()) };
        let memtable = replay.finish();
        memtable.raise_floor(self.watermark);
        let pin = memtable.pin_reader(self.watermark);
        let options = RunOptions {
            watermark: self.watermark,
            table: TableOptions::default(),
            coldest_table: None,
            progress_bytes: PROGRESS_BYTES,
        };
        let sizes = CompactionOptions::for_flush_bytes(self.limits.memtable_bytes as u64);
        for tree in &self.shape.trees {
            let run = new.new_number();
            let plan = compaction::flush_plan(self.shape, tree.id, run, &sizes);
            let go_on = |_| ControlFlow::Continue(());
            let done =
                compaction::write(&plan, pin.cursor(), &options, |kind| new.create(kind), go_on);
            let done = done.map_err(|Failed { error, .. }| {
                // What was half-written is an orphan.
                error.expect("a repair is not told to stop")
            })?;
            self.edit.added.extend(done.edit.added);
            self.edit.added_values.extend(done.edit.added_values);
        }
        Ok(())
    }
}

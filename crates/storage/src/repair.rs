//! Saving what can be saved of a damaged database directory.
//!
//! A database with damage refuses to open: going on silently would turn damage into wrong answers.
//! [`plan`] reads everything that is still whole and says what would be lost; [`apply`] writes what
//! is whole to a new checkpoint, and begins a new log after it.
//!
//! ```text
//!   table    [block][block][ ✗ ][block]      all whole blocks are kept; the keys between them
//!                                            may be lost, or go back to older values
//!   log      [record][record][ ✗ ][record]   kept up to the damage; later records are not,
//!                                            since they may rest on what is lost
//!   MANIFEST ✗                               the newest table that is whole, and the whole log
//!   FORMAT   ✗                               written anew with the id from the manifest
//! ```
//!
//! # A crash in the middle
//! 1. The files as they are now are copied to a folder `damaged-<n>`, durably.
//! 2. The new table is written and synced: an orphan, until
//! 3. the manifest is switched to it. From here on nothing older is needed.
//! 4. A new, empty segment is prepared at the log's new start, and the old ones are removed.
//!
//! A crash before 3 leaves the damage as it was; after 3, repairing again loses nothing more.
//!
//! # Not here
//! Judging what the lost data was worth: what cannot be restored from here must come from a copy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{KeyRange, Timestamp, text};
use env::{Disk, LockGuard, OpenMode};

use crate::directory::{self, DatabaseId, Directory, TABLES_FOLDER, WAL_FOLDER, table_name};
use crate::engine::each_write;
use crate::error::{Error, Result};
use crate::manifest::{Edit, Manifest, State, TableMeta};
use crate::memtable::{Memtable, Replay, Tombstones};
use crate::table::{BlockLine, BlockRole, Table, TableBuilder, TableOptions};
use crate::wal::{self, Lsn};

/// What is wrong, and what a repair keeps and loses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// Each damage: file, place, what.
    pub damages: Vec<String>,
    /// What cannot be kept, a sentence each.
    pub losses: Vec<String>,
    /// Versions of keys that are kept.
    pub kept_versions: u64,
    /// Transactions of the log that are kept.
    pub kept_transactions: u64,
    /// The last commit that is kept.
    pub last_ts: Timestamp,
    /// Where the files as they are now are copied to.
    pub copies: PathBuf,
}

impl RepairPlan {
    /// Returns true if there is anything to repair.
    pub fn is_needed(&self) -> bool {
        !self.damages.is_empty()
    }
}

/// Says what a repair would do. Only reads.
///
/// # Errors
/// `Locked` if the database is open; `NotADatabase` if too little is left to tell what it was; the
/// system's errors.
pub fn plan(disk: &Arc<dyn Disk>, path: &Path, owner: &str) -> Result<RepairPlan> {
    let _lock = lock(disk, path, owner)?;
    Ok(Salvage::read(disk, path)?.plan)
}

/// Repairs the database, if there is anything to repair.
///
/// # Errors
/// As [`plan`]; `DiskFull`. Called again it goes on.
///
/// # Durability
/// What is kept survives a crash once this returns.
pub fn apply(disk: &Arc<dyn Disk>, path: &Path, owner: &str) -> Result<RepairPlan> {
    let _lock = lock(disk, path, owner)?;
    let salvage = Salvage::read(disk, path)?;
    if salvage.plan.is_needed() {
        copy_files(&**disk, path, &salvage.plan.copies)?;
        salvage.write(disk, path)?;
    }
    Ok(salvage.plan)
}

fn lock(disk: &Arc<dyn Disk>, path: &Path, owner: &str) -> Result<Box<dyn LockGuard>> {
    // Else the lock would leave a file in a directory that is none of ours.
    if !disk.exists(&path.join(TABLES_FOLDER)).map_err(Error::io(path, "look into"))? {
        let what = "it has no folder of tables".to_string();
        return Err(Error::NotADatabase { path: path.to_path_buf(), what });
    }
    directory::lock(&**disk, path, owner)
}

/// What is whole.
struct Salvage {
    plan: RepairPlan,
    id: DatabaseId,
    format_is_damaged: bool,
    state: State,
    memtable: Memtable,
    /// A log position beyond everything that was ever written.
    new_start: Lsn,
    new_segment: u64,
    log_index: u64,
}

impl Salvage {
    fn read(disk: &Arc<dyn Disk>, path: &Path) -> Result<Salvage> {
        let mut plan = RepairPlan { copies: free_folder(&**disk, path)?, ..RepairPlan::default() };
        let manifest = tolerate(&mut plan, Manifest::read(&**disk, path))?;
        let format = tolerate(&mut plan, Directory::read_id(&**disk, path))?;
        let format_is_damaged = format.is_none();
        let wal_folder = path.join(WAL_FOLDER);
        let id = match (format, &manifest) {
            (Some(id), _) => id,
            (None, Some((_, id))) => *id,
            (None, None) => {
                let what = "neither FORMAT nor MANIFEST can be read: restore a copy".to_string();
                return Err(Error::NotADatabase { path: path.to_path_buf(), what });
            }
        };
        let state = match manifest {
            Some((state, _)) => state,
            None => guess_state(&**disk, path, &mut plan)?,
        };

        // The hash only spreads keys here; nobody chooses them against it.
        let mut replay = Memtable::new(0, Tombstones::Dropped).replay();
        for meta in state.tables.values() {
            let path = path.join(TABLES_FOLDER).join(table_name(meta.number));
            load_what_is_whole(&**disk, &path, meta, &mut replay, &mut plan)?;
        }
        let mut last_ts = state.last_ts;
        let start = Lsn(state.log_start);
        let (mut records, mut last_index) = (0, state.log_index);
        let (recovered, damage) =
            wal::read_log_through_damage(&**disk, &wal_folder, id.0, start, |record| {
                last_ts = last_ts.max(record.timestamp);
                last_index = record.index;
                records += u64::from(record.kind == wal::RecordKind::Entry);
                each_write(&wal_folder, &record, |key, value| {
                    plan.kept_versions += u64::from(replay.insert(key, record.timestamp, value));
                })
            })?;
        let memtable = replay.finish();
        if let Some(damage) = damage {
            plan.losses.push(format!(
                "the log after position {}: the transactions after timestamp {last_ts}; how many \
                 they were cannot be told",
                recovered.end.next
            ));
            plan.damages.push(damage.into_error().to_string());
        }
        plan.kept_transactions = records;
        plan.last_ts = last_ts;
        let segments = wal::list_segment_files(&**disk, &wal_folder)?;
        let bytes: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
        let known = recovered.segments.last().map_or(start, |last| last.end.max(start));
        // No position is used twice, also not one in a segment whose header cannot be read.
        let new_start = Lsn((known.max(recovered.end.next).0 + bytes).next_multiple_of(8));
        let new_segment = segments.last().map_or(1, |(number, _)| number + 1);
        let log_index = last_index;
        Ok(Salvage {
            plan,
            id,
            format_is_damaged,
            state,
            memtable,
            new_start,
            new_segment,
            log_index,
        })
    }

    /// Steps 2 to 4 of the module's header.
    fn write(&self, disk: &Arc<dyn Disk>, path: &Path) -> Result<()> {
        let tables = path.join(TABLES_FOLDER);
        let number = self.next_table(&**disk, &tables)?;
        let table_path = tables.join(table_name(number));
        let file = disk.open(&table_path, OpenMode::CreateNew);
        let file = file.map_err(Error::io(&table_path, "create"))?;
        let mut builder = TableBuilder::new(file, &table_path, TableOptions::default());
        let pin = self.memtable.pin_newest(|| Timestamp::ZERO);
        for history in pin.versions(&KeyRange::all()) {
            for version in history.versions() {
                builder.add(history.key, version.ts, version.value)?;
            }
        }
        let summary = builder.finish()?;
        disk.sync_dir(&tables).map_err(Error::io(&tables, "sync"))?;

        let mut state = State::default();
        state.apply(&Edit {
            added: vec![TableMeta::new(number, 0, &summary)],
            checkpoint_ts: Some(self.plan.last_ts),
            log_start: Some(self.new_start.0),
            log_index: Some(self.log_index),
            // What the lost parts held of the past is not known.
            gc_watermark: Some(self.plan.last_ts.max(self.state.gc_watermark)),
            last_ts: Some(self.plan.last_ts.max(self.state.last_ts)),
            ..Edit::default()
        });
        Manifest::replace(disk.clone(), path, self.id, state)?;
        if self.format_is_damaged {
            directory::write_format(&**disk, path, self.id)?;
        }
        let wal_folder = path.join(WAL_FOLDER);
        let old = wal::list_segment_files(&**disk, &wal_folder)?;
        wal::begin_at(&**disk, &wal_folder, self.id.0, self.new_segment, self.new_start)?;
        for (number, _) in old.into_iter().filter(|(number, _)| *number < self.new_segment) {
            let path = wal_folder.join(wal::segment_name(number));
            disk.remove(&path).map_err(Error::io(&path, "remove"))?;
        }
        disk.sync_dir(&wal_folder).map_err(Error::io(&wal_folder, "sync"))
    }

    /// A number above that of every table file, named in the manifest or not.
    fn next_table(&self, disk: &dyn Disk, tables: &Path) -> Result<u64> {
        let numbers = table_numbers(disk, tables)?;
        let above = numbers.last().map_or(1, |last| last + 1);
        Ok(above.max(self.state.next_file_number))
    }
}

/// Notes damage and missing files as something to repair; other failures stay failures.
fn tolerate<T>(plan: &mut RepairPlan, result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error @ (Error::Damaged { .. } | Error::NotADatabase { .. })) => {
            plan.damages.push(error.to_string());
            Ok(None)
        }
        Err(Error::Io { path, action, source })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            plan.damages.push(Error::Io { path, action, source }.to_string());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Without a manifest: the newest table that opens, and all of the log that is left.
fn guess_state(disk: &dyn Disk, path: &Path, plan: &mut RepairPlan) -> Result<State> {
    let tables = path.join(TABLES_FOLDER);
    let mut state = State::default();
    for number in table_numbers(disk, &tables)?.into_iter().rev() {
        let Some(table) = tolerate(plan, Table::open(disk, &tables.join(table_name(number))))?
        else {
            continue;
        };
        let properties = table.properties().clone();
        let newest = properties.bounds.as_ref().map_or(Timestamp::ZERO, |bounds| bounds.ts_max);
        let summary = crate::table::TableSummary { bytes: table.bytes(), properties };
        state.apply(&Edit {
            added: vec![TableMeta::new(number, 0, &summary)],
            checkpoint_ts: Some(newest),
            gc_watermark: Some(newest),
            ..Edit::default()
        });
        break;
    }
    state.log_start = wal::oldest_position(disk, &path.join(WAL_FOLDER))?.0;
    let from = state.checkpoint_ts;
    plan.losses.push(format!(
        "the manifest: the database is put together from the table that ends at {from} and the \
         log that is there; if another table belonged to it, what was in that is lost"
    ));
    Ok(state)
}

/// Loads the whole blocks of a table.
fn load_what_is_whole(
    disk: &dyn Disk,
    path: &Path,
    meta: &TableMeta,
    load: &mut Replay,
    plan: &mut RepairPlan,
) -> Result<()> {
    let Some(table) = tolerate(plan, Table::open(disk, path))? else {
        plan.losses.push(format!(
            "table {}: {} versions of keys, all that had been committed up to the checkpoint",
            meta.number, meta.entries
        ));
        return Ok(());
    };
    let description = table.describe()?;
    let lines: Vec<&BlockLine> =
        description.blocks.iter().filter(|line| line.role == BlockRole::Data).collect();
    for line in description.blocks.iter().filter(|line| line.damage.is_some()) {
        let what = line.damage.as_deref().unwrap_or_default();
        plan.damages.push(what.to_string());
    }
    let mut loaded = 0;
    for line in lines.iter().filter(|line| line.damage.is_none()) {
        let Some([(first, ts), (last, last_ts)]) = &line.span else { continue };
        let mut cursor = table.cursor();
        let mut is_valid = cursor.seek(first, *ts)?;
        while is_valid {
            let Some(entry) = cursor.entry() else { break };
            load.insert(entry.key, entry.ts, entry.value);
            loaded += 1;
            if entry.key == &last[..] && entry.ts == *last_ts {
                break;
            }
            is_valid = cursor.next()?;
        }
    }
    plan.kept_versions += loaded;
    if loaded < meta.entries {
        let key =
            |key: &[u8]| text::escape_short(base::key::decode(key).map_or(key, |(_, k)| k), 40);
        let gaps: Vec<String> = lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.damage.is_some())
            .map(|(at, _)| {
                let before = lines[..at].iter().rev().find_map(|line| line.span.as_ref());
                let after = lines[at + 1..].iter().find_map(|line| line.span.as_ref());
                let from = before.map_or("the first key".into(), |[_, (last, _)]| key(last));
                let until = after.map_or("the last key".into(), |[(first, _), _]| key(first));
                format!("between {from} and {until}")
            })
            .collect();
        plan.losses.push(format!(
            "table {}: {} versions of keys{}{}",
            meta.number,
            meta.entries - loaded,
            if gaps.is_empty() { "" } else { " " },
            gaps.join(", ")
        ));
    }
    Ok(())
}

fn table_numbers(disk: &dyn Disk, tables: &Path) -> Result<Vec<u64>> {
    let names = disk.list(tables).map_err(Error::io(tables, "list"))?;
    let numbers = names.iter().filter_map(|name| match directory::FileName::parse(name) {
        Some(directory::FileName::Table(number)) => Some(number),
        _ => None,
    });
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The first `damaged-<n>` that does not exist.
fn free_folder(disk: &dyn Disk, path: &Path) -> Result<PathBuf> {
    let mut number = 1;
    loop {
        let folder = path.join(format!("damaged-{number}"));
        if !disk.exists(&folder).map_err(Error::io(&folder, "look for"))? {
            return Ok(folder);
        }
        number += 1;
    }
}

/// Copies the database's files as they are.
fn copy_files(disk: &dyn Disk, path: &Path, copies: &Path) -> Result<()> {
    for folder in [".", WAL_FOLDER, TABLES_FOLDER] {
        let (from, to) = match folder {
            "." => (path.to_path_buf(), copies.to_path_buf()),
            folder => (path.join(folder), copies.join(folder)),
        };
        disk.create_dir_all(&to).map_err(Error::io(&to, "create"))?;
        for name in disk.list(&from).map_err(Error::io(&from, "list"))? {
            let is_ours = match directory::FileName::parse(&name) {
                Some(
                    directory::FileName::Lock
                    | directory::FileName::WalFolder
                    | directory::FileName::TablesFolder,
                ) => false,
                Some(_) => true,
                None => wal::segment_number(&name).is_some(),
            };
            if is_ours {
                copy_file(disk, &from.join(&name), &to.join(&name))?;
            }
        }
        disk.sync_dir(&to).map_err(Error::io(&to, "sync"))?;
    }
    Ok(())
}

fn copy_file(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    /// Read and written at a time, in bytes.
    const CHUNK_BYTES: usize = 1 << 20;
    let source = disk.open(from, OpenMode::Read).map_err(Error::io(from, "open"))?;
    let target = disk.open(to, OpenMode::CreateNew).map_err(Error::io(to, "create"))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let read = source.read_at(&mut chunk, offset).map_err(Error::io(from, "read"))?;
        if read == 0 {
            return target.sync().map_err(Error::io(to, "sync"));
        }
        target.write_at(&chunk[..read], offset).map_err(Error::io(to, "write"))?;
        offset += read as u64;
    }
}

#[cfg(test)]
mod tests;

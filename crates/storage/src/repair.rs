//! Saving what can be saved of a damaged database directory.
//!
//! A database with damage refuses to open, or to read what is damaged: going on silently would turn
//! damage into wrong answers. [`plan`] reads everything that is still whole and says what would be
//! lost; [`apply`] writes what is whole to new tables where it has to, and begins a new log.
//!
//! ```text
//!   table    [block][block][block][block]    whole: stays as it is
//!   table    [block][block][ ✗ ][block]      its whole blocks become a new table in the same
//!                                            place; the keys between them may be lost, or go
//!                                            back to older values
//!   values   [value][ ✗ ][value]             tables that refer to it are written anew, without the
//!                                            damaged values; the whole ones go to a new file
//!   log      [record][record][ ✗ ][record]   up to the damage it becomes tables of level 0; later
//!                                            records are not kept, they may rest on what is lost
//!   MANIFEST ✗                               all tables that are there, and the whole log, are
//!                                            merged into one sorted run at the last level
//!   FORMAT   ✗                               written anew with the id from the manifest
//! ```
//!
//! Nothing here takes more memory than a memtable, some blocks and what the manifest takes, however
//! large the database is.
//!
//! # Without a manifest
//! Nobody knows which of the tables belong to the database. All of them are taken, those too that
//! an unfinished compaction or flush had written, and those that were about to be removed: a
//! version of a key stands in several of them, and is the same in each. What cannot be told is said
//! in [`RepairPlan::doubts`]: a table that compaction had replaced may bring back what it dropped.
//!
//! # A crash in the middle
//! 1. The files as they are now get a second name in a folder `damaged-<n>`, or are copied there if
//!    they may change, durably.
//! 2. New tables are written and synced: orphans, until
//! 3. the manifest is switched to them. From here on nothing older is needed.
//! 4. A new, empty segment is prepared at the log's new start, and the old ones are removed.
//!
//! A crash before 3 leaves the damage as it was; after 3, repairing again loses nothing more.
//!
//! # Not here
//! Judging what the lost data was worth: what cannot be restored from here must come from a copy.
//! A table without its end (footer, properties, top index), or a partition without its index: where
//! their blocks begin is written nowhere else.

mod copies;
mod log;
mod merge;
mod tables;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::Timestamp;
use env::{Disk, LockGuard};

use crate::directory::{self, DatabaseId, Directory, FileKind, TABLES_FOLDER, WAL_FOLDER};
use crate::error::{Error, Result};
use crate::manifest::{Manifest, State};
use crate::wal::{self, Lsn};

use log::Log;
use tables::{NewTables, Tables};
use values::Values;

/// What is wrong, and what a repair keeps and loses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// Each damage: file, place, what.
    pub damages: Vec<String>,
    /// What cannot be kept, a sentence each.
    pub losses: Vec<String>,
    /// What of the kept may be wrong and cannot be told from the files, a sentence each.
    pub doubts: Vec<String>,
    /// Tables that stay as they are.
    pub whole_tables: u64,
    /// Versions of keys that are kept; one that stands in two files counts twice.
    pub kept_versions: u64,
    /// Transactions of the log that are kept.
    pub kept_transactions: u64,
    /// The last commit that is kept.
    pub last_ts: Timestamp,
    /// Where the files as they are now are kept.
    pub copies: PathBuf,
}

impl RepairPlan {
    /// Returns true if there is anything to repair.
    pub fn is_needed(&self) -> bool {
        !self.damages.is_empty()
    }
}

/// How much is held in memory, and how long new tables get.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The log is written to tables whenever so much of it was read, in bytes of a memtable.
    memtable_bytes: usize,
    /// A new table that is merged from others ends about here, in bytes.
    table_bytes: u64,
}

impl Limits {
    /// As with the smallest budget that is usual: a repair takes its time, and the memory of a
    /// machine in trouble is better left alone.
    const DEFAULT: Limits = Limits { memtable_bytes: 16 << 20, table_bytes: 32 << 20 };
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
    apply_within(disk, path, owner, Limits::DEFAULT)
}

fn apply_within(
    disk: &Arc<dyn Disk>,
    path: &Path,
    owner: &str,
    limits: Limits,
) -> Result<RepairPlan> {
    let _lock = lock(disk, path, owner)?;
    let salvage = Salvage::read(disk, path)?;
    if salvage.plan.is_needed() {
        copies::keep_files(&**disk, path, &salvage.plan.copies)?;
        salvage.write(disk, path, limits)?;
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

/// What is whole, and where.
struct Salvage {
    plan: RepairPlan,
    id: DatabaseId,
    format_is_damaged: bool,
    tables: Tables,
    values: Values,
    log: Log,
}

impl Salvage {
    fn read(disk: &Arc<dyn Disk>, path: &Path) -> Result<Salvage> {
        let copies = copies::free_folder(&**disk, path)?;
        let mut plan = RepairPlan { copies, ..RepairPlan::default() };
        let manifest = tolerate(&mut plan, Manifest::read(&**disk, path))?;
        let format = tolerate(&mut plan, Directory::read_id(&**disk, path))?;
        let format_is_damaged = format.is_none();
        let id = match (format, &manifest) {
            (Some(id), _) => id,
            (None, Some((_, id))) => *id,
            (None, None) => {
                let what = "neither FORMAT nor MANIFEST can be read: restore a copy".to_string();
                return Err(Error::NotADatabase { path: path.to_path_buf(), what });
            }
        };
        let folder = path.join(TABLES_FOLDER);
        let wal_folder = path.join(WAL_FOLDER);
        let (tables, values, log) = match manifest {
            Some((state, _)) => {
                plan.last_ts = state.last_ts;
                let (start, index) = (Lsn(state.log_start), state.log_index);
                let named = state.values.iter().map(|(&number, &meta)| (number, Some(meta)));
                let values = Values::read(&**disk, &folder, named, &mut plan)?;
                let tables = Tables::named(&**disk, &folder, state, &values, &mut plan)?;
                (tables, values, Log::read(&**disk, wal_folder, id, start, index, &mut plan)?)
            }
            None => {
                let start = wal::oldest_position(&**disk, &wal_folder)?;
                let there = tables::numbers(&**disk, &folder, FileKind::Values)?;
                let there = there.into_iter().map(|number| (number, None));
                let values = Values::read(&**disk, &folder, there, &mut plan)?;
                let tables = Tables::all(&**disk, &folder, &values, &mut plan)?;
                let log = Log::read(&**disk, wal_folder, id, start, 0, &mut plan)?;
                plan.losses.push(format!(
                    "the manifest: the database is put together from the tables that are there \
                     and the log; the past before timestamp {} cannot be read any more",
                    plan.last_ts
                ));
                (tables, values, log)
            }
        };
        Ok(Salvage { plan, id, format_is_damaged, tables, values, log })
    }

    /// Steps 2 to 4 of the module's header.
    fn write(&self, disk: &Arc<dyn Disk>, path: &Path, limits: Limits) -> Result<()> {
        let last_ts = self.plan.last_ts;
        let mut new = NewTables::new(&**disk, path.join(TABLES_FOLDER), &self.tables)?;
        let (mut state, mut edit) = match &self.tables {
            Tables::Named { state, broken, lost } => {
                let mut edit = tables::rewrite(&mut new, broken, &self.values)?;
                edit.removed.extend(lost);
                // What the lost parts held of the past is not known.
                let floor = last_ts.max(state.gc_watermark);
                edit.gc_watermark = (!edit.removed.is_empty()).then_some(floor);
                let shape = tables::shape_of(state);
                let watermark = state.gc_watermark;
                let of_log = self.log.write(&mut new, &shape, watermark, limits)?;
                edit.added.extend(of_log.added);
                edit.added_values.extend(of_log.added_values);
                (state.clone(), edit)
            }
            Tables::All(tables) => {
                // A commit may stand in the log as well as in a table, and a newer one of its key
                // in tables only: no level of its own would be right for the log.
                let none = tables::shape_of(&State::default());
                let of_log = self.log.write(&mut new, &none, Timestamp::ZERO, limits)?;
                let all: Vec<_> = tables.iter().chain(&of_log.added).cloned().collect();
                let folder = path.join(TABLES_FOLDER);
                let new_values = of_log.added_values.iter().map(|meta| (meta.number, Some(*meta)));
                // Read again, for those of the log to be among them. What is damaged was noted.
                let numbers = self.values.numbers().map(|number| (number, None));
                let numbers = numbers.chain(new_values);
                let values = Values::read(&**disk, &folder, numbers, &mut RepairPlan::default())?;
                let mut edit = merge::into_one_run(&mut new, &all, &values, last_ts, limits)?;
                edit.gc_watermark = Some(last_ts);
                (State::default(), edit)
            }
        };
        new.sync_names()?;
        edit.checkpoint_ts = Some(last_ts.max(state.checkpoint_ts));
        edit.last_ts = Some(last_ts);
        edit.log_start = Some(self.log.new_start.0);
        edit.log_index = Some(self.log.last_index.max(state.log_index));
        edit.next_file_number = Some(new.next_number());
        state.apply(&edit);
        Manifest::replace(disk.clone(), path, self.id, state)?;
        if self.format_is_damaged {
            directory::write_format(&**disk, path, self.id)?;
        }
        self.log.begin_anew(&**disk)
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

#[cfg(test)]
mod tests;

//! A checkpoint: a second database with what is in the tables of this one, made while it runs.
//!
//! ```text
//!   this database                       the checkpoint
//!   tables/0000000012.table ─── one ─── tables/0000000012.table
//!   tables/0000000019.table ─── file ── tables/0000000019.table
//!   MANIFEST {12, 19, log from L}       MANIFEST {12, 19, log from L}
//!   wal/ …                              wal/ an empty log that begins at L
//! ```
//!
//! Tables and value files never change, so both can have them: a hard link costs no space as long as both have use
//! for it, and where the file system makes none the file is copied. What is in the tables is a
//! prefix of the history, whole transactions up to the checkpoint timestamp; the caller flushes
//! before.
//!
//! FORMAT comes last, as when a database is created: a directory without it is none, and a crash on
//! the way leaves one that nobody takes for a copy.

use std::path::{Path, PathBuf};

use base::Timestamp;

use super::Engine;
use crate::directory::{self, DatabaseId, TABLES_FOLDER, WAL_FOLDER, link_or_copy};
use crate::error::{Error, Result};
use crate::manifest::{Manifest, State};
use crate::sync::lock;
use crate::wal::{self, Lsn};

/// What a checkpoint holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// All commits up to this one, and none after it.
    pub timestamp: Timestamp,
    /// Tables.
    pub tables: u64,
    /// Value files.
    pub value_files: u64,
    /// Bytes of both; shared with the database, where the file system can.
    pub bytes: u64,
}

impl Engine {
    /// Makes a database of its own in a directory that is empty or not there, with all that is in
    /// tables now. Readers and writers go on, and so do flushes and compactions.
    ///
    /// # Errors
    /// `NotADatabase` if something is in the directory already; the system's errors, `DiskFull`
    /// among them: what was made is removed again as far as that goes.
    ///
    /// # Durability
    /// The checkpoint survives a crash once this returns.
    pub fn checkpoint(&self, target: &Path, new_id: [u8; 16]) -> Result<Checkpoint> {
        let disk = self.directory.disk();
        let (state, view) = {
            let manifest = lock(&self.manifest);
            // As long as the view is held, none of its tables is removed.
            (manifest.state().clone(), self.view.load_full())
        };
        let _lock = directory::begin(&**disk, target, "a checkpoint in the making")?;
        let mut made = Vec::new();
        let written = self.write_checkpoint(target, &state, DatabaseId(new_id), &mut made);
        drop(view);
        if let Err(error) = written {
            for path in made.iter().rev() {
                let _ = disk.remove(path);
            }
            return Err(error);
        }
        Ok(Checkpoint {
            timestamp: state.checkpoint_ts,
            tables: state.tables.len() as u64,
            value_files: state.values.len() as u64,
            bytes: state.tables.values().map(|table| table.bytes).sum::<u64>()
                + state.values.values().map(|values| values.bytes).sum::<u64>(),
        })
    }

    fn write_checkpoint(
        &self,
        target: &Path,
        state: &State,
        id: DatabaseId,
        made: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let disk = self.directory.disk();
        let (tables, wal) = (target.join(TABLES_FOLDER), target.join(WAL_FOLDER));
        for file in state.files() {
            let to = tables.join(file.name());
            link_or_copy(&**disk, &self.directory.tables_path().join(file.name()), &to)?;
            made.push(to);
        }
        disk.sync_dir(&tables).map_err(Error::io(&tables, "sync"))?;
        made.push(wal.join(wal::segment_name(1)));
        wal::begin_at(&**disk, &wal, id.0, 1, Lsn(state.log_start))?;
        disk.sync_dir(&wal).map_err(Error::io(&wal, "sync"))?;
        made.push(target.join(crate::manifest::MANIFEST_NAME));
        Manifest::replace(disk.clone(), target, id, state.clone())?;
        directory::write_format(&**disk, target, id)
    }
}

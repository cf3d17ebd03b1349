//! Reading everything on disk to check it: every block of every table, every record of the log.

use std::path::Path;

use base::KeyRange;
use env::Disk;

use super::{Engine, each_write};
use crate::directory::{Directory, FileId, TABLES_FOLDER};
use crate::error::{Error, Result};
use crate::manifest::{MANIFEST_NAME, Manifest, TableMeta};
use crate::sync::{Ordering, lock};
use crate::table::Table;
use crate::value::Stored;
use crate::values::{ValuesFile, ValuesMeta};
use crate::wal;

/// What [`Engine::verify`] read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Tables read whole.
    pub tables: u64,
    /// Versions in them.
    pub versions: u64,
    /// Bytes of them.
    pub table_bytes: u64,
    /// Value files read whole.
    pub value_files: u64,
    /// Bytes of them.
    pub value_file_bytes: u64,
    /// Records of the log.
    pub log_records: u64,
    /// Segments of the log.
    pub log_segments: u64,
}

impl Engine {
    /// Reads everything on disk and checks it. Readers and writers go on meanwhile, and so do
    /// flushes and compactions: what is checked are the tables of one moment.
    ///
    /// # Errors
    /// `Damaged` for the first thing that is wrong.
    pub fn verify(&self) -> Result<Verified> {
        let (disk, path) = (&**self.directory.disk(), self.directory.path());
        Directory::read_id(disk, path)?;
        let view = {
            let manifest = lock(&self.manifest);
            let (found, _) = Manifest::read(disk, path)?;
            if found != *manifest.state() && manifest.is_certain() {
                let what = "it is sound, and not the manifest that is in use";
                return Err(Error::damaged(&path.join(MANIFEST_NAME), 0, what));
            }
            // As long as the view is held, none of its tables is removed.
            self.view.load_full()
        };
        let mut verified = Verified::default();
        for table in view.version.tables() {
            verify_table(disk, path, &table.meta, &mut verified)?;
        }
        for values in view.version.values().iter() {
            verify_values(disk, path, values.meta(), &mut verified)?;
        }
        let _files = lock(&self.files);
        self.verify_log(&mut verified)?;
        Ok(verified)
    }

    /// Reads the table or value file that was checked longest ago and checks it, if it is not longer
    /// than `bytes_max`. Returns its length, which is 0 if there are none, and whether it was read.
    ///
    /// # Errors
    /// `Damaged` for the first thing that is wrong.
    pub fn scrub_next(&self, bytes_max: u64) -> Result<(u64, bool)> {
        let view = self.view.load_full();
        let last = self.scrubbed.load(Ordering::Relaxed);
        let version = &view.version;
        let numbers = || {
            let values = version.values().iter().map(|values| values.meta().number);
            version.tables().map(|table| table.meta.number).chain(values)
        };
        let Some(number) = numbers().filter(|number| *number > last).min().or(numbers().min())
        else {
            return Ok((0, false));
        };
        let table = version.tables().find(|table| table.meta.number == number);
        let values = version.values().iter().find(|values| values.meta().number == number);
        let bytes = match (table, values) {
            (Some(table), _) => table.meta.bytes,
            (None, values) => values.map_or(0, |values| values.meta().bytes),
        };
        if bytes > bytes_max {
            return Ok((bytes, false));
        }
        // Noted first: one that is damaged shall not keep the others from their turn.
        self.scrubbed.store(number, Ordering::Relaxed);
        self.counters.scrubbed_bytes.fetch_add(bytes, Ordering::Relaxed);
        let (disk, path) = (&**self.directory.disk(), self.directory.path());
        let mut verified = Verified::default();
        if let Some(table) = table {
            verify_table(disk, path, &table.meta, &mut verified)?;
        } else if let Some(values) = values {
            verify_values(disk, path, values.meta(), &mut verified)?;
        }
        Ok((bytes, true))
    }

    /// Reads the log from where it is needed. What lies beyond what is durable may be about to be
    /// written and is not judged.
    fn verify_log(&self, verified: &mut Verified) -> Result<()> {
        let (disk, folder) = (&**self.directory.disk(), self.directory.wal_path());
        let durable = self.wal.durable();
        let (start, id) = (self.log_start(), self.directory.id().0);
        let (log, damage) = wal::read_log_through_damage(disk, &folder, id, start, |record| {
            each_write(&folder, &record, |_, _| ())
        })?;
        if let Some(damage) = damage.filter(|damage| damage.lsn < durable) {
            return Err(damage.into_error());
        }
        if log.end.next < durable {
            let path = log.segments.last().map_or(folder, |last| last.path.clone());
            let what = format!("the log ends at position {}, {durable} was synced", log.end.next);
            return Err(Error::damaged(&path, 0, what));
        }
        verified.log_records = log.records;
        verified.log_segments = log.segments.len() as u64;
        Ok(())
    }
}

fn verify_table(
    disk: &dyn Disk,
    path: &Path,
    meta: &TableMeta,
    verified: &mut Verified,
) -> Result<()> {
    let path_of = |file: FileId| path.join(TABLES_FOLDER).join(file.name());
    let table = Table::open(disk, &path_of(FileId::table(meta.number)))?;
    meta.check(&table)?;
    let found = table.verify()?;
    verified.tables += 1;
    verified.versions += found.entries;
    verified.table_bytes += found.bytes;
    // That the values are sound their files tell; here, that these are the ones that are meant.
    let files: Vec<ValuesFile> = (meta.values.iter())
        .map(|of| ValuesFile::open(disk, &path_of(FileId::values(of.file)), of.file))
        .collect::<Result<_>>()?;
    if files.is_empty() {
        return Ok(());
    }
    let mut scan = table.scan(KeyRange::all());
    while let Some(entry) = scan.next()? {
        if let Stored::Apart(handle) = entry.value
            && let Ok(at) = files.binary_search_by_key(&handle.file, |file| file.meta().number)
        {
            files[at].check(entry.key, handle)?;
        }
    }
    Ok(())
}

fn verify_values(
    disk: &dyn Disk,
    path: &Path,
    meta: ValuesMeta,
    verified: &mut Verified,
) -> Result<()> {
    let path = path.join(TABLES_FOLDER).join(FileId::values(meta.number).name());
    let file = ValuesFile::open(disk, &path, meta.number)?;
    if file.meta() != meta {
        let what = format!("this is {}, and the manifest names {meta}", file.meta());
        return Err(Error::damaged(&path, 0, what));
    }
    file.verify()?;
    verified.value_files += 1;
    verified.value_file_bytes += meta.bytes;
    Ok(())
}

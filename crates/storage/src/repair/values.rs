//! The value files: which are whole, and what is whole of the others.
//!
//! A value that lies in a damaged file and is whole itself is written to a new one, with the table
//! that refers to it; a damaged file is thus not part of the database any more after a repair.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use env::Disk;

use super::tables::NewTables;
use super::{RepairPlan, tolerate};
use crate::directory::{FileId, FileKind};
use crate::error::Result;
use crate::manifest::TableMeta;
use crate::table::{Table, TableOptions, WholeEntries};
use crate::value::Stored;
use crate::values::{ValueHandle, ValueWriter, ValuesFile, ValuesMeta};

/// What is known of the value files.
#[derive(Default)]
pub(super) struct Values {
    /// All that can be opened, by number.
    files: BTreeMap<u64, ValuesFile>,
    /// Those of them that are whole.
    whole: BTreeSet<u64>,
}

impl Values {
    /// Reads the value files with these numbers. What the manifest says of each, if it does, has to
    /// be so.
    pub(super) fn read(
        disk: &dyn Disk,
        folder: &Path,
        numbers: impl Iterator<Item = (u64, Option<ValuesMeta>)>,
        plan: &mut RepairPlan,
    ) -> Result<Values> {
        let mut values = Values::default();
        for (number, meta) in numbers {
            let path = folder.join(FileId::values(number).name());
            let read = ValuesFile::open(disk, &path, number).and_then(|file| {
                file.verify()?;
                Ok(file)
            });
            if let Some(file) = tolerate(plan, read)? {
                if meta.is_none_or(|meta| meta == file.meta()) {
                    values.whole.insert(number);
                } else {
                    plan.damages.push(format!(
                        "{}: this is {}, and not what the manifest names",
                        path.display(),
                        file.meta()
                    ));
                }
                values.files.insert(number, file);
            } else if let Ok(file) = ValuesFile::open_damaged(disk, &path, number) {
                values.files.insert(number, file);
            }
        }
        Ok(values)
    }

    /// Returns the numbers of all that can be opened.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.files.keys().copied()
    }

    /// Returns what is said of the whole ones in the manifest.
    pub(super) fn whole(&self) -> impl Iterator<Item = ValuesMeta> {
        self.files.values().map(ValuesFile::meta).filter(|meta| self.whole.contains(&meta.number))
    }

    fn is_whole(&self, number: u64) -> bool {
        self.whole.contains(&number)
    }

    /// Returns true if a table refers to files that are not whole. Says in the plan how many of its
    /// values are lost with them.
    pub(super) fn are_missed(
        &self,
        table: &Table,
        meta: &TableMeta,
        plan: &mut RepairPlan,
    ) -> Result<bool> {
        if meta.values.iter().all(|of| self.is_whole(of.file)) {
            return Ok(false);
        }
        let mut lost = BTreeMap::<u64, u64>::new();
        let mut entries = WholeEntries::new(table.clone());
        while entries.next()? {
            if let Some((key, handle)) =
                entries.entry().and_then(|entry| apart(entry.value, entry.key))
                && self.fate(key, handle) == Fate::Lost
            {
                *lost.entry(handle.file).or_default() += 1;
            }
        }
        for (file, values) in lost {
            plan.kept_versions = plan.kept_versions.saturating_sub(values);
            plan.losses.push(format!(
                "value file {file}: {values} values that table {} refers to; older values may come \
                 back",
                meta.number
            ));
        }
        Ok(true)
    }

    fn fate(&self, key: &[u8], handle: ValueHandle) -> Fate {
        if self.is_whole(handle.file) {
            return Fate::Stays;
        }
        let read = self.files.get(&handle.file).map(|file| file.read(key, handle));
        if matches!(read, Some(Ok(_))) { Fate::Moves } else { Fate::Lost }
    }
}

fn apart<'k>(value: Stored<'_>, key: &'k [u8]) -> Option<(&'k [u8], ValueHandle)> {
    match value {
        Stored::Apart(handle) => Some((key, handle)),
        _ => None,
    }
}

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Moves,
    Lost,
}

/// Writes the values anew that lie in damaged files.
pub(super) struct Saver<'a> {
    values: &'a Values,
    writer: ValueWriter,
}

impl<'a> Saver<'a> {
    pub(super) fn new(values: &'a Values) -> Saver<'a> {
        Saver { values, writer: ValueWriter::new(TableOptions::default()) }
    }

    /// Returns a value as a new table has it; `None` if it is lost.
    pub(super) fn save<'v>(
        &mut self,
        new: &mut NewTables<'_>,
        key: &[u8],
        value: Stored<'v>,
    ) -> Result<Option<Stored<'v>>> {
        let Stored::Apart(handle) = value else { return Ok(Some(value)) };
        match self.values.fate(key, handle) {
            Fate::Stays => Ok(Some(value)),
            Fate::Lost => Ok(None),
            Fate::Moves => {
                let Some(file) = self.values.files.get(&handle.file) else { return Ok(None) };
                let value = file.read(key, handle)?;
                let handle = self.writer.put(key, &value, || new.create(FileKind::Values))?;
                Ok(Some(Stored::Apart(handle)))
            }
        }
    }

    /// Ends the new files and returns them.
    pub(super) fn finish(mut self) -> Result<Vec<ValuesMeta>> {
        self.writer.finish()
    }
}

//! The files of tables: their numbers, their making and their removal.

use std::path::PathBuf;
use std::sync::Arc;

use env::{Disk, File, OpenMode};

use crate::directory::{Directory, table_name};
use crate::error::{Error, Result};
use crate::manifest::TableMeta;
use crate::sync::{AtomicU64, Ordering};
use crate::table::{Table, TableBuilder, TableOptions};
use crate::version::Graveyard;

/// The folder of tables of an open database.
pub(super) struct TableStore {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// The number of the next file. Numbers of files that came to nothing are not used again
    /// before the next opening.
    next: AtomicU64,
    pub(super) options: TableOptions,
    pub(super) graveyard: Arc<Graveyard>,
}

/// A file that is new and empty.
pub(super) struct NewFile {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn File>,
}

impl TableStore {
    pub(super) fn new(directory: &Directory, next: u64, options: TableOptions) -> TableStore {
        TableStore {
            disk: directory.disk().clone(),
            folder: directory.tables_path(),
            next: AtomicU64::new(next),
            options,
            graveyard: Arc::default(),
        }
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.folder.join(table_name(number))
    }

    /// Creates the file of a new table.
    pub(super) fn create(&self) -> Result<NewFile> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path(number);
        // An earlier life may have left one that it could neither name nor remove.
        if self.disk.exists(&path).map_err(Error::io(&path, "look for"))? {
            self.disk.remove(&path).map_err(Error::io(&path, "remove"))?;
        }
        let file = self.disk.open(&path, OpenMode::CreateNew);
        let file = file.map_err(Error::io(&path, "create"))?;
        Ok(NewFile { number, path, file })
    }

    /// Begins a new table; returns its number.
    pub(super) fn build(&self) -> Result<(u64, TableBuilder)> {
        let NewFile { number, path, file } = self.create()?;
        Ok((number, TableBuilder::new(file, &path, self.options.clone())))
    }

    /// Opens a table that is named, and checks that it is the one that is meant.
    pub(super) fn open(&self, meta: &TableMeta) -> Result<Table> {
        let table = Table::open(&*self.disk, &self.path(meta.number))?;
        meta.check(&table)?;
        Ok(table)
    }

    /// Makes the names of new tables durable.
    pub(super) fn sync_names(&self) -> Result<()> {
        self.disk.sync_dir(&self.folder).map_err(Error::io(&self.folder, "sync"))
    }

    /// Removes files that came to nothing, as far as that goes: they only take space, and the next
    /// opening removes what is left.
    pub(super) fn discard(&self, numbers: &[u64]) {
        for &number in numbers {
            let _ = self.disk.remove(&self.path(number));
        }
    }

    /// Removes the files of tables that nobody has any more.
    pub(super) fn remove_obsolete(&self) {
        for number in self.graveyard.drain() {
            match self.disk.remove(&self.path(number)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    self.graveyard.bury(number);
                }
                _ => {}
            }
        }
    }
}

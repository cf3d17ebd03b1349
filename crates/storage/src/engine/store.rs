//! The files of tables and values: their numbers, their making and their removal.

use std::path::PathBuf;
use std::sync::Arc;

use base::Timestamp;
use env::{Disk, OpenMode};

use super::memory::MemoryOptions;
use crate::compaction::{PROGRESS_BYTES, RunOptions};
use crate::directory::{Directory, FileId, FileKind, NewFile};
use crate::error::{Error, Result};
use crate::manifest::{Edit, State, TableMeta};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::table::{BlockCache, Compression, Table, TableContext, TableOptions, TableStats};
use crate::values::{ValuesFile, ValuesMeta};
use crate::version::{Graveyard, LEVELS, LiveValues, Opened, Version};

/// Share of the memory that indexes and filters of the last level may take, as a divisor. Beyond
/// it they come and go with the blocks.
const METADATA_SHARE: u64 = 4;

/// What indexes and filters take of a table, about, as a divisor of its length.
const METADATA_OF_TABLE: u64 = 64;

/// The folder of tables of an open database.
pub(super) struct TableStore {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// The number of the next file. Numbers of files that came to nothing are not used again
    /// before the next opening.
    next: AtomicU64,
    options: TableOptions,
    memory: MemoryOptions,
    pub(super) blocks: Arc<BlockCache>,
    pub(super) stats: Arc<TableStats>,
    /// The length of all live tables, about.
    live_bytes: AtomicU64,
    /// Whether the last level has others between it and level 0.
    has_cold_level: AtomicBool,
    pub(super) graveyard: Arc<Graveyard>,
}

impl TableStore {
    pub(super) fn new(
        directory: &Directory,
        state: &State,
        options: TableOptions,
        memory: MemoryOptions,
    ) -> TableStore {
        TableStore {
            disk: directory.disk().clone(),
            folder: directory.tables_path(),
            next: AtomicU64::new(state.next_file_number),
            options,
            memory,
            blocks: Arc::new(BlockCache::new(memory.block_cache_bytes)),
            stats: Arc::default(),
            live_bytes: AtomicU64::new(state.tables.values().map(|table| table.bytes).sum()),
            has_cold_level: AtomicBool::new(false),
            graveyard: Arc::default(),
        }
    }

    pub(super) fn path(&self, file: FileId) -> PathBuf {
        self.folder.join(file.name())
    }

    /// Returns a number that no file has, and no other call returns.
    pub(super) fn new_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Creates a new file.
    pub(super) fn create(&self, kind: FileKind) -> Result<NewFile> {
        let number = self.new_number();
        let path = self.path(FileId { kind, number });
        // An earlier life may have left one that it could neither name nor remove.
        if self.disk.exists(&path).map_err(Error::io(&path, "look for"))? {
            self.disk.remove(&path).map_err(Error::io(&path, "remove"))?;
        }
        let file = self.disk.open(&path, OpenMode::CreateNew);
        let file = file.map_err(Error::io(&path, "create"))?;
        Ok(NewFile { number, file, path })
    }

    /// Returns how tables are written now. What comes to the last level is compressed harder once
    /// there are levels above it that keep what is warm, and if anything is compressed at all.
    pub(super) fn run_options(&self, watermark: Timestamp) -> RunOptions {
        let is_cold = self.has_cold_level.load(Ordering::Relaxed)
            && self.options.compression == Compression::Lz4;
        RunOptions {
            watermark,
            table: self.options.clone(),
            // Of what is read and written least, space counts more than time.
            coldest_table: is_cold
                .then(|| TableOptions { compression: Compression::Zstd, ..self.options.clone() }),
            progress_bytes: PROGRESS_BYTES,
        }
    }

    /// Opens a table that is named, or about to be, and checks that it is the one that is meant.
    pub(super) fn open(&self, meta: &TableMeta) -> Result<Table> {
        let context = TableContext {
            number: meta.number,
            cache: Some(self.blocks.clone()),
            is_metadata_pinned: self.pins_metadata(meta),
            stats: self.stats.clone(),
        };
        let table =
            Table::open_shared(&*self.disk, &self.path(FileId::table(meta.number)), context)?;
        meta.check(&table)?;
        Ok(table)
    }

    /// Opens a value file that is named, or about to be, and checks that it is the one that is meant.
    pub(super) fn open_values(&self, meta: &ValuesMeta) -> Result<LiveValues> {
        let path = self.path(FileId::values(meta.number));
        let file = ValuesFile::open(&*self.disk, &path, meta.number)?;
        if file.meta() != *meta {
            let what = format!("this is {}, and the manifest names {meta}", file.meta());
            return Err(Error::damaged(&path, 0, what));
        }
        Ok(LiveValues::new(file, Some(self.blocks.clone()), &self.graveyard))
    }

    /// Opens what an edit adds and `is_new` says was just written, and makes the names durable.
    pub(super) fn open_written(
        &self,
        edit: &Edit,
        is_new: impl Fn(&TableMeta) -> bool,
    ) -> Result<Opened> {
        let mut opened = Opened::default();
        let mut written = edit.added.iter().filter(|meta| is_new(meta)).peekable();
        if written.peek().is_some() {
            self.sync_names()?;
        }
        for meta in written {
            opened.tables.push((meta.number, self.open(meta)?));
        }
        for meta in &edit.added_values {
            opened.values.push(self.open_values(meta)?);
        }
        Ok(opened)
    }

    /// Whether index and filter of a table stay in memory. Those of the upper levels are asked in
    /// every read and are few.
    fn pins_metadata(&self, meta: &TableMeta) -> bool {
        let metadata = self.live_bytes.load(Ordering::Relaxed) / METADATA_OF_TABLE;
        usize::from(meta.level) + 1 < LEVELS
            || metadata <= self.memory.budget_bytes as u64 / METADATA_SHARE
    }

    /// Takes note of a new set of live tables: what their metadata takes, blocks cannot.
    pub(super) fn account(&self, version: &Version) {
        let (mut bytes, mut metadata) = (0, 0);
        for table in version.tables() {
            bytes += table.meta.bytes;
            metadata += table.table().metadata_bytes();
        }
        self.live_bytes.store(bytes, Ordering::Relaxed);
        let warm = version.trees().iter().flat_map(|tree| &tree.levels[1..LEVELS - 1]);
        let has_cold_level = warm.map(|level| level.runs.len()).sum::<usize>() > 0;
        self.has_cold_level.store(has_cold_level, Ordering::Relaxed);
        self.blocks.set_capacity(self.memory.block_cache_bytes.saturating_sub(metadata));
    }

    /// Makes the names of new tables durable.
    pub(super) fn sync_names(&self) -> Result<()> {
        self.disk.sync_dir(&self.folder).map_err(Error::io(&self.folder, "sync"))
    }

    /// Removes files that came to nothing, as far as that goes: they only take space, and the next
    /// opening removes what is left.
    pub(super) fn discard(&self, files: impl IntoIterator<Item = FileId>) {
        for file in files {
            let _ = self.disk.remove(&self.path(file));
        }
    }

    /// Removes the files that nobody has any more.
    pub(super) fn remove_obsolete(&self) {
        for file in self.graveyard.drain() {
            match self.disk.remove(&self.path(file)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    self.graveyard.bury(file);
                }
                _ => {}
            }
        }
    }
}

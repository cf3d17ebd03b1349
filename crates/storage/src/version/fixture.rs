//! Tables on a simulated disk, for the tests of what is built on them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use base::Timestamp;
use env::{Disk, OpenMode, SimDisk};

use super::{Graveyard, LiveValues, Opened, TreeId, Version};
use crate::Value;
use crate::directory::{FileId, FileKind, NewFile};
use crate::manifest::{Edit, TableMeta};
use crate::table::{BlockCache, Table, TableBuilder, TableContext, TableOptions};
use crate::values::ValuesFile;

/// Versions of keys: the order of the map is theirs.
pub(crate) type Versions = BTreeMap<(Vec<u8>, u64), Option<Vec<u8>>>;

/// Key, timestamp, and value or tombstone.
pub(crate) type Borrowed<'a> = (&'a [u8], u64, Option<&'a [u8]>);

/// Returns the key of a version in [`Versions`].
pub(crate) fn position(key: &[u8], ts: u64) -> (Vec<u8>, u64) {
    (key.to_vec(), !ts)
}

pub(crate) fn value_of(value: &Option<Vec<u8>>) -> Value<'_> {
    value.as_deref().map_or(Value::Tombstone, Value::Put)
}

pub(crate) struct Fixture {
    pub(crate) disk: SimDisk,
    pub(crate) version: Version,
    pub(crate) next: u64,
    cache: Arc<BlockCache>,
}

/// Tiny blocks: every movement crosses some.
pub(crate) fn options() -> TableOptions {
    TableOptions {
        block_bytes: 90,
        index_block_bytes: 60,
        restart_interval: 3,
        ..TableOptions::default()
    }
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        let disk = SimDisk::new();
        disk.create_dir_all("tables".as_ref()).unwrap();
        let version = Version::empty(Arc::new(Graveyard::default()));
        // Holds some blocks of some tables.
        Fixture { disk, version, next: 1, cache: Arc::new(BlockCache::new(256 << 10)) }
    }

    fn path(file: FileId) -> PathBuf {
        PathBuf::from("tables").join(file.name())
    }

    pub(crate) fn create(&mut self, kind: FileKind) -> NewFile {
        let number = self.next;
        self.next += 1;
        let path = Self::path(FileId { kind, number });
        let file = self.disk.open(&path, OpenMode::CreateNew).unwrap();
        NewFile { number, file, path }
    }

    pub(crate) fn open(&self, number: u64) -> Table {
        // Every other table has a cache.
        let cache = (number % 2 == 1).then(|| Arc::clone(&self.cache));
        let context = TableContext { number, cache, ..TableContext::default() };
        Table::open_shared(&self.disk, &Self::path(FileId::table(number)), context).unwrap()
    }

    /// Writes a table; with `ts_override` all its timestamps are zero in the file.
    pub(crate) fn table(
        &mut self,
        level: u8,
        run: u64,
        versions: &[Borrowed<'_>],
        ts_override: Option<u64>,
    ) -> TableMeta {
        let NewFile { number, file, path } = self.create(FileKind::Table);
        let mut builder = TableBuilder::new(file, &path, options());
        for &(key, ts, value) in versions {
            let ts = if ts_override.is_some() { 0 } else { ts };
            let value = value.map_or(Value::Tombstone, Value::Put);
            builder.add(key, Timestamp::from_raw(ts), value).unwrap();
        }
        let meta = TableMeta::new(number, level, &builder.finish().unwrap());
        let meta = meta.placed(TreeId::DEFAULT, run);
        match ts_override {
            Some(ts) => meta.committed_at(Timestamp::from_raw(ts)),
            None => meta,
        }
    }

    pub(crate) fn apply(&mut self, edit: &Edit) {
        let live: Vec<u64> = self.version.tables().map(|table| table.meta.number).collect();
        let new = edit.added.iter().filter(|meta| !live.contains(&meta.number));
        let tables = new.map(|meta| (meta.number, self.open(meta.number))).collect();
        let values = edit.added_values.iter().map(|meta| {
            let path = Self::path(FileId::values(meta.number));
            let file = ValuesFile::open(&self.disk, &path, meta.number).unwrap();
            let cache = (meta.number % 2 == 1).then(|| Arc::clone(&self.cache));
            LiveValues::new(file, cache, self.version.graveyard())
        });
        let opened = Opened { tables, values: values.collect() };
        let version = self.version.apply(edit, opened);
        self.version.mark_obsolete(edit, &version);
        self.version = version;
    }

    /// Adds versions as a run of level 0, cut into so many tables.
    pub(crate) fn add_run(&mut self, versions: &Versions, tables: usize) {
        let run = self.next;
        let mut keys: Vec<&[u8]> = versions.keys().map(|(key, _)| &key[..]).collect();
        keys.dedup();
        let chunks = keys.chunks(keys.len().div_ceil(tables.max(1)).max(1));
        let mut added = Vec::new();
        for chunk in chunks {
            let versions: Vec<Borrowed<'_>> = versions
                .iter()
                .filter(|((key, _), _)| chunk.contains(&&key[..]))
                .map(|((key, inverted), value)| (&key[..], !inverted, value.as_deref()))
                .collect();
            added.push(self.table(0, run, &versions, None));
        }
        self.apply(&Edit { added, ..Edit::default() });
    }
}

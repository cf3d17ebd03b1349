//! Tables against a `BTreeMap`, against damage, and against their own bytes on paper.

mod cached;
mod damage;
mod golden;
mod model;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base::Timestamp;
use env::{Disk, OpenMode, SimDisk};

use super::{
    BlockCache, Compression, Entry, Found, Located, Place, Table, TableBuilder, TableContext,
    TableOptions, TableSummary, key_hash,
};
use crate::Value;

/// Entries in the order of a table: the timestamp is inverted. `None` is a tombstone.
type Model = BTreeMap<(Vec<u8>, u64), Option<Vec<u8>>>;

/// One entry of a model.
type Owned = ((Vec<u8>, u64), Option<Vec<u8>>);

/// The same, borrowed, and with its timestamp.
type Borrowed<'a> = (&'a [u8], u64, Option<&'a [u8]>);

const PATH: &str = "0000000007.table";

fn build(disk: &SimDisk, model: &Model, options: TableOptions) -> TableSummary {
    let path = Path::new(PATH);
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    let mut builder = TableBuilder::new(file, path, options);
    for ((key, inverted_ts), stored) in model {
        let value = stored.as_deref().map_or(Value::Tombstone, Value::Put);
        builder.add(key, Timestamp::from_raw(!inverted_ts), value).unwrap();
    }
    builder.finish().unwrap()
}

fn open(disk: &SimDisk) -> crate::Result<Table> {
    Table::open(disk, Path::new(PATH))
}

fn get(table: &Table, key: &[u8], ts: Timestamp) -> crate::Result<Option<Found>> {
    let found = table.get(key, key_hash(key), ts)?;
    Ok(found.map(|Located { ts, value }| match value {
        Place::Inline(value) => Found { ts, value: Some(value) },
        Place::Tombstone => Found { ts, value: None },
        Place::Apart(_) => panic!("nothing lies apart here"),
    }))
}

/// Opens the table with a cache, where its filters and indexes lie, too.
fn open_cached(disk: &SimDisk, cache_bytes: usize) -> (Table, TableContext) {
    let cache = Some(Arc::new(BlockCache::new(cache_bytes)));
    let context = TableContext { number: 7, cache, ..TableContext::default() };
    (Table::open_shared(disk, Path::new(PATH), context.clone()).unwrap(), context)
}

fn owned(entry: Entry<'_>) -> Owned {
    ((entry.key.to_vec(), !entry.ts.raw()), entry.value.as_inline().map(<[u8]>::to_vec))
}

/// Returns blocks so small that a handful of entries makes many of them.
fn tiny_blocks() -> TableOptions {
    TableOptions {
        block_bytes: 64,
        restart_interval: 3,
        index_block_bytes: 48,
        creator: "holm test".to_owned(),
        ..TableOptions::default()
    }
}

/// Returns a small table's content with all that is special: versions, tombstones, empty keys and
/// values, keys that are prefixes of others, the first and the last timestamp.
fn small_model() -> Model {
    let entries: [Borrowed<'_>; 12] = [
        (b"", 5, Some(b"the empty key")),
        (b"apple", 9, Some(b"green")),
        (b"apple", 7, None),
        (b"apple", 3, Some(b"red")),
        (b"apple pie", 4, Some(b"")),
        (b"banana", u64::MAX, Some(b"at the end of time")),
        (b"banana", 0, Some(b"at the beginning")),
        (b"banana\0", 6, Some(b"the next key there is")),
        (b"cherry", 8, Some(&[0xff; 70])),
        (b"cherry\xff", 8, None),
        (b"date", 2, Some(b"sweet")),
        (b"\xff\xff", 1, Some(b"last")),
    ];
    let owned = entries.map(|(key, ts, value)| ((key.to_vec(), !ts), value.map(<[u8]>::to_vec)));
    Model::from(owned)
}

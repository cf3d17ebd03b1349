//! Tests of a whole shard, on a simulated disk. [`scripts`] runs the golden scripts; [`found`]
//! holds one test for each bug that reading or testing found.

mod found;
mod scripts;

use std::path::Path;
use std::sync::Arc;

use base::{KeyRange, KeyspaceId, Timestamp};
use bytes::Bytes;
use env::SimDisk;
use storage::compaction::CompactionOptions;
use storage::table::TableOptions;
use storage::wal::WalOptions;
use storage::{Engine, EngineOptions, MemoryOptions};

use crate::{Shard, Transaction, TransactionOptions};

/// The keyspace that the tests work in.
const SPACE: KeyspaceId = KeyspaceId(1);

fn engine(disk: &SimDisk) -> Arc<Engine> {
    let options = EngineOptions {
        create: true,
        owner: "a test".into(),
        new_id: [7; 16],
        hash_seed: 7,
        wal: WalOptions { segment_bytes_min: 64 << 10, ..WalOptions::default() },
        table: TableOptions::default(),
        memory: MemoryOptions::of_budget(64 << 20),
        compaction: CompactionOptions::for_flush_bytes(1 << 20),
        log_bytes_max: 64 << 20,
    };
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new("db"), options).unwrap();
    Arc::new(engine)
}

fn shard(disk: &SimDisk) -> Arc<Shard> {
    Shard::new(engine(disk))
}

fn begin(shard: &Arc<Shard>) -> Transaction {
    shard.begin(TransactionOptions::default())
}

fn key(name: &str) -> Bytes {
    Bytes::from(SPACE.encode(name.as_bytes()))
}

fn range(start: &str, end: &str) -> KeyRange {
    KeyRange { start: key(start), end: Some(key(end)) }
}

/// Commits one value in a transaction of its own.
fn put(shard: &Arc<Shard>, name: &str, value: &str) -> Timestamp {
    let mut txn = begin(shard);
    txn.put(key(name), Bytes::copy_from_slice(value.as_bytes())).unwrap();
    txn.commit(0).unwrap()
}

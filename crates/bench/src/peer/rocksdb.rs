//! RocksDB: a log-structured merge tree, through `OptimisticTransactionDB`.
//!
//! Equal durability: `WriteOptions::sync`, which syncs the write-ahead log (with `fdatasync`, its
//! default) before the write returns; RocksDB groups concurrent writers under one sync. Unsynced
//! writes leave the log to the page cache.
//!
//! Fair settings: no compression; all the memory as a hyper-clock block cache, to which the write
//! buffers (64 MiB, or a quarter of the memory) are charged, so that whichever needs it has it;
//! Bloom filters of 10 bits and indexes outside of it, hash indexes in data blocks, no pipelined
//! writes (10 % slower on two cores); blob files for large values. Blind puts and batches go
//! straight to the database, which is a transaction of its own that the conflict check of the
//! others sees; read-modify-write uses an optimistic transaction with `get_for_update`.
//!
//! Built only with the feature `rocksdb`: it needs a C++ compiler and libclang, and minutes.

use ::rocksdb::{
    BlockBasedOptions, Cache, DBPinnableSlice, DataBlockIndexType, ErrorKind,
    OptimisticTransactionDB, OptimisticTransactionOptions, Options, ReadOptions,
    SnapshotWithThreadMode, WaitForCompactOptions, WriteBatchWithTransaction, WriteBufferManager,
    WriteOptions,
};

use crate::peer::{Peer, Role};
use crate::store::{Change, Durability, Reader, Result, Row, Session, Setup, Store};

pub(crate) const PEER: Peer = Peer {
    name: "rocksdb",
    role: Role::Peer,
    settings: "OptimisticTransactionDB, sync writes, one budget for cache and write buffers, blob \
               files for large values, no compression",
    open,
};

/// Values from here on go to blob files, in the cells with large values.
const LARGE_VALUE_BYTES: u64 = 4096;

struct RocksDb {
    database: OptimisticTransactionDB,
    durability: Durability,
}

fn open(setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    let mut table = BlockBasedOptions::default();
    let cache = Cache::new_hyper_clock_cache(setup.memory_bytes, 4096);
    table.set_block_cache(&cache);
    table.set_bloom_filter(10.0, false);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_format_version(5);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(::rocksdb::DBCompressionType::None);
    let buffer_bytes = setup.write_buffer_bytes();
    options.set_write_buffer_size(buffer_bytes);
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(
        3 * buffer_bytes,
        false,
        cache,
    ));
    options.set_max_background_jobs(2);
    options.set_enable_blob_files(setup.large_values);
    options.set_min_blob_size(LARGE_VALUE_BYTES);
    options.set_enable_blob_gc(true);
    let database = OptimisticTransactionDB::open(&options, setup.dir.join("rocksdb"))?;
    Ok(Box::new(RocksDb { database, durability: setup.durability }))
}

impl RocksDb {
    fn write_options(&self) -> WriteOptions {
        let mut options = WriteOptions::default();
        options.set_sync(self.durability == Durability::Sync);
        options
    }
}

impl Store for RocksDb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(RocksDbSession { store: self, write_options: self.write_options() }))
    }

    fn settle(&self) -> Result<()> {
        Ok(self.database.wait_for_compact(&WaitForCompactOptions::default())?)
    }

    fn compact(&self) -> Result<()> {
        self.database.flush()?;
        self.database.compact_range(None::<&[u8]>, None::<&[u8]>);
        self.settle()
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct RocksDbSession<'a> {
    store: &'a RocksDb,
    write_options: WriteOptions,
}

impl Session for RocksDbSession<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.store.database.put_opt(key, value, &self.write_options)?)
    }

    fn write_batch(&mut self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        let mut batch = WriteBatchWithTransaction::<true>::default();
        for &(key, value) in rows {
            batch.put(key, value);
        }
        Ok(self.store.database.write_opt(batch, &self.write_options)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        Ok(self.store.database.delete_opt(key, &self.write_options)?)
    }

    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        // One get is its own snapshot.
        copy(self.store.database.get_pinned(key)?, value)
    }

    fn reader(&mut self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(RocksDbReader(self.store.database.snapshot())))
    }

    fn scan(&mut self, from: &[u8], limit: usize, row: Row<'_>) -> Result<usize> {
        let mut options = ReadOptions::default();
        options.set_verify_checksums(true);
        let mut cursor = self.store.database.raw_iterator_opt(options);
        cursor.seek(from);
        let mut rows = 0;
        while let Some((key, value)) = cursor.item() {
            row(key, value);
            rows += 1;
            if rows == limit {
                break;
            }
            cursor.next();
        }
        cursor.status()?;
        Ok(rows)
    }

    fn read_modify_write(&mut self, key: &[u8], change: Change<'_>) -> Result<u64> {
        let mut new = Vec::new();
        let options = OptimisticTransactionOptions::default();
        for aborts in 0.. {
            let txn = self.store.database.transaction_opt(&self.write_options, &options);
            change(txn.get_pinned_for_update(key, true)?.as_deref(), &mut new);
            txn.put(key, &new)?;
            match txn.commit() {
                Ok(()) => return Ok(aborts),
                Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::TryAgain) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err("the conflicts never ended".into())
    }
}

struct RocksDbReader<'a>(SnapshotWithThreadMode<'a, OptimisticTransactionDB>);

impl Reader for RocksDbReader<'_> {
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        copy(self.0.get_pinned(key)?, value)
    }
}

fn copy(found: Option<DBPinnableSlice<'_>>, value: &mut Vec<u8>) -> Result<bool> {
    if let Some(found) = &found {
        value.clear();
        value.extend_from_slice(found);
    }
    Ok(found.is_some())
}

//! fjall 3: a log-structured merge tree, through its optimistic transactions.
//!
//! Equal durability: each transaction commits with `PersistMode::SyncData`, which is an
//! `fdatasync` of the journal before `commit` returns. Unsynced commits use `PersistMode::Buffer`.
//!
//! Fair settings: no compression (its `lz4` feature is off), 64 MiB memtables, the rest of the
//! memory as block cache, all index and filter blocks pinned and hash indexes in the data blocks,
//! since everything fits. Puts go through the transactional keyspace, because a put that bypasses
//! it is invisible to the conflict check of the others; that costs against the plain keyspace,
//! which has no transactions at all. fjall has no grouped commit: the sync happens under its
//! serialization lock.

use ::fjall::config::{HashRatioPolicy, PinningPolicy};
use ::fjall::{
    KeyspaceCreateOptions, OptimisticTxDatabase, OptimisticTxKeyspace, OptimisticWriteTx,
    PersistMode, Readable, Snapshot,
};

use crate::peer::{Peer, Role};
use crate::store::{Change, Durability, Reader, Result, Row, Session, Setup, Store};

pub(crate) const PEER: Peer = Peer {
    name: "fjall",
    role: Role::Peer,
    settings: "OptimisticTxDatabase, PersistMode::SyncData, 64 MiB memtables, no compression",
    open,
};

struct Fjall {
    database: OptimisticTxDatabase,
    keyspace: OptimisticTxKeyspace,
    persist: PersistMode,
}

fn open(setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    let database = OptimisticTxDatabase::builder(setup.dir.join("fjall"))
        .cache_size(setup.cache_bytes() as u64)
        .open()?;
    let keyspace = database.keyspace("rows", || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(Setup::WRITE_BUFFER_BYTES as u64)
            .data_block_hash_ratio_policy(HashRatioPolicy::all(0.75))
            .index_block_pinning_policy(PinningPolicy::all(true))
            .filter_block_pinning_policy(PinningPolicy::all(true))
    })?;
    let persist = match setup.durability {
        Durability::Sync => PersistMode::SyncData,
        Durability::None => PersistMode::Buffer,
    };
    Ok(Box::new(Fjall { database, keyspace, persist }))
}

impl Fjall {
    fn begin(&self) -> Result<OptimisticWriteTx> {
        Ok(self.database.write_tx()?.durability(Some(self.persist)))
    }
}

impl Store for Fjall {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Session for &Fjall {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut txn = self.begin()?;
        txn.insert(&self.keyspace, key, value);
        Ok(txn.commit()??)
    }

    fn write_batch(&mut self, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut txn = self.begin()?;
        for (key, value) in rows {
            txn.insert(&self.keyspace, key.as_slice(), value.as_slice());
        }
        Ok(txn.commit()??)
    }

    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        self.reader()?.get(key, value)
    }

    fn reader(&mut self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(FjallReader { snapshot: self.database.read_tx(), keyspace: &self.keyspace }))
    }

    fn scan(&mut self, from: &[u8], limit: usize, row: Row<'_>) -> Result<usize> {
        let mut rows = 0;
        for entry in self.database.read_tx().range(&self.keyspace, from..).take(limit) {
            let (key, value) = entry.into_inner()?;
            row(&key, &value);
            rows += 1;
        }
        Ok(rows)
    }

    fn read_modify_write(&mut self, key: &[u8], change: Change<'_>) -> Result<u64> {
        let mut new = Vec::new();
        for aborts in 0.. {
            let mut txn = self.begin()?;
            change(txn.get(&self.keyspace, key)?.as_deref(), &mut new);
            txn.insert(&self.keyspace, key, new.as_slice());
            if txn.commit()?.is_ok() {
                return Ok(aborts);
            }
        }
        Err("the conflicts never ended".into())
    }
}

struct FjallReader<'a> {
    snapshot: Snapshot,
    keyspace: &'a OptimisticTxKeyspace,
}

impl Reader for FjallReader<'_> {
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let found = self.snapshot.get(self.keyspace, key)?;
        if let Some(found) = &found {
            value.clear();
            value.extend_from_slice(found);
        }
        Ok(found.is_some())
    }
}

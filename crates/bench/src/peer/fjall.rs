//! fjall 3: a log-structured merge tree, through its optimistic transactions, and without them.
//!
//! Equal durability: each transaction commits with `PersistMode::SyncData`, which is an
//! `fdatasync` of the journal before `commit` returns. Unsynced commits use `PersistMode::Buffer`.
//!
//! Fair settings: no compression (its `lz4` feature is off), memtables of 64 MiB or a quarter of
//! the memory, the rest as block cache, all index and filter blocks pinned, hash indexes in the
//! data blocks, values of the large cells in blob files.
//!
//! `fjall` puts go through the transactional keyspace, because a put that bypasses it is invisible
//! to the conflict check of the others. `fjall-plain` is the same engine without transactions,
//! which is faster and promises less: batches are atomic, nothing is checked for conflicts, and it
//! takes no part where a read and a write belong together. fjall has no grouped commit: the sync
//! happens under its serialization lock, or that of its journal.

use std::time::{Duration, Instant};

use ::fjall::config::{HashRatioPolicy, PinningPolicy};
use ::fjall::{
    Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OptimisticTxDatabase,
    OptimisticTxKeyspace, OptimisticWriteTx, PersistMode, Readable, Snapshot,
};

use crate::peer::{Peer, Role};
use crate::store::{Change, Durability, Reader, Result, Row, Session, Setup, Store};

pub(crate) const PEER: Peer = Peer {
    name: "fjall",
    role: Role::Peer,
    settings: "OptimisticTxDatabase, PersistMode::SyncData, blob files for large values, no \
               compression",
    open: open_transactional,
};

pub(crate) const PLAIN: Peer = Peer {
    name: "fjall-plain",
    role: Role::PlainPeer,
    settings: "as fjall, but Database: no transactions",
    open: open_plain,
};

struct Fjall {
    database: OptimisticTxDatabase,
    keyspace: OptimisticTxKeyspace,
    persist: PersistMode,
}

struct Plain {
    database: Database,
    keyspace: Keyspace,
    persist: PersistMode,
}

fn open_transactional(setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    let builder = OptimisticTxDatabase::builder(setup.dir.join("fjall"));
    let database = builder.cache_size(setup.cache_bytes() as u64).open()?;
    let keyspace = database.keyspace("rows", || keyspace_options(setup))?;
    Ok(Box::new(Fjall { database, keyspace, persist: persist(setup) }))
}

fn open_plain(setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    let builder = Database::builder(setup.dir.join("fjall"));
    let database = builder.cache_size(setup.cache_bytes() as u64).open()?;
    let keyspace = database.keyspace("rows", || keyspace_options(setup))?;
    Ok(Box::new(Plain { database, keyspace, persist: persist(setup) }))
}

fn keyspace_options(setup: &Setup<'_>) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(setup.write_buffer_bytes() as u64)
        .data_block_hash_ratio_policy(HashRatioPolicy::all(0.75))
        .index_block_pinning_policy(PinningPolicy::all(true))
        .filter_block_pinning_policy(PinningPolicy::all(true))
        .with_kv_separation(setup.large_values.then(KvSeparationOptions::default))
}

fn persist(setup: &Setup<'_>) -> PersistMode {
    match setup.durability {
        Durability::Sync => PersistMode::SyncData,
        Durability::None => PersistMode::Buffer,
    }
}

/// How long fjall has to be idle to count as settled. It does not say what it still has to do, only
/// what it does, and begins the next step within milliseconds of the last.
const IDLE: Duration = Duration::from_millis(100);

/// Waits until nothing is flushed or compacted.
fn settle(database: &Database) {
    let mut idle_since = Instant::now();
    while idle_since.elapsed() < IDLE {
        std::thread::sleep(Duration::from_millis(5));
        if database.outstanding_flushes() > 0 || database.active_compactions() > 0 {
            idle_since = Instant::now();
        }
    }
}

/// Flushes the memtable and merges everything.
fn compact(keyspace: &Keyspace) -> Result<()> {
    keyspace.rotate_memtable_and_wait()?;
    Ok(keyspace.major_compact()?)
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

    fn settle(&self) -> Result<()> {
        settle(self.database.inner());
        Ok(())
    }

    fn compact(&self) -> Result<()> {
        compact(self.keyspace.inner())
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

    fn write_batch(&mut self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        let mut txn = self.begin()?;
        for &(key, value) in rows {
            txn.insert(&self.keyspace, key, value);
        }
        Ok(txn.commit()??)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        let mut txn = self.begin()?;
        txn.remove(&self.keyspace, key);
        Ok(txn.commit()??)
    }

    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        self.reader()?.get(key, value)
    }

    fn reader(&mut self) -> Result<Box<dyn Reader + '_>> {
        let (snapshot, keyspace) = (self.database.read_tx(), self.keyspace.inner());
        Ok(Box::new(FjallReader { snapshot, keyspace }))
    }

    fn scan(&mut self, from: &[u8], limit: usize, row: Row<'_>) -> Result<usize> {
        scan(&self.database.read_tx(), self.keyspace.inner(), from, limit, row)
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

impl Plain {
    /// A write goes to the operating system by itself; more than that has to be asked for.
    fn persist(&self) -> Result<()> {
        match self.persist {
            PersistMode::Buffer => Ok(()),
            mode => Ok(self.database.persist(mode)?),
        }
    }
}

impl Store for Plain {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn settle(&self) -> Result<()> {
        settle(&self.database);
        Ok(())
    }

    fn compact(&self) -> Result<()> {
        compact(&self.keyspace)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Session for &Plain {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.keyspace.insert(key, value)?;
        self.persist()
    }

    fn write_batch(&mut self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(self.persist));
        for &(key, value) in rows {
            batch.insert(&self.keyspace, key, value);
        }
        Ok(batch.commit()?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.keyspace.remove(key)?;
        self.persist()
    }

    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        Ok(copy(self.keyspace.get(key)?.as_deref(), value))
    }

    fn reader(&mut self) -> Result<Box<dyn Reader + '_>> {
        let (snapshot, keyspace) = (self.database.snapshot(), &self.keyspace);
        Ok(Box::new(FjallReader { snapshot, keyspace }))
    }

    fn scan(&mut self, from: &[u8], limit: usize, row: Row<'_>) -> Result<usize> {
        scan(&self.database.snapshot(), &self.keyspace, from, limit, row)
    }

    fn read_modify_write(&mut self, _key: &[u8], _change: Change<'_>) -> Result<u64> {
        Err("it has no transactions".into())
    }
}

struct FjallReader<'a> {
    snapshot: Snapshot,
    keyspace: &'a Keyspace,
}

impl Reader for FjallReader<'_> {
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        Ok(copy(self.snapshot.get(self.keyspace, key)?.as_deref(), value))
    }
}

fn scan(
    snapshot: &Snapshot,
    keyspace: &Keyspace,
    from: &[u8],
    limit: usize,
    row: Row<'_>,
) -> Result<usize> {
    let mut rows = 0;
    for entry in snapshot.range(keyspace, from..).take(limit) {
        let (key, value) = entry.into_inner()?;
        row(&key, &value);
        rows += 1;
    }
    Ok(rows)
}

fn copy(found: Option<&[u8]>, value: &mut Vec<u8>) -> bool {
    if let Some(found) = found {
        value.clear();
        value.extend_from_slice(found);
    }
    found.is_some()
}

//! redb 4: a copy-on-write B+tree in one file, one writer at a time.
//!
//! Equal durability: `Durability::Immediate`, with which `commit` returns after the sync of the
//! file; its one-phase commit (the default) needs one sync and relies on checksums after a crash.
//!
//! Fair settings: the whole memory as cache; `quick_repair` off, because it would halve the durable
//! commits (3.5 k/s to 1.9 k/s) to open faster after a kill. Unsynced writes use
//! `Durability::None`, which frees pages only at the next immediate commit; one every 100 000
//! writes keeps the file from growing without end and costs little. redb has no grouped commit:
//! committers queue for its one writer.

use std::sync::atomic::{AtomicU64, Ordering};

use ::redb::{
    Builder, Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

use crate::peer::{Peer, Role};
use crate::store::{Change, Durability, Reader, Result, Row, Session, Setup, Store};

pub(crate) const PEER: Peer = Peer {
    name: "redb",
    role: Role::Peer,
    settings: "Durability::Immediate, one-phase commit, quick_repair off",
    open,
};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// Unsynced writes between two synced ones.
const WRITES_PER_SYNC: u64 = 100_000;

struct Redb {
    database: Database,
    durability: Durability,
    unsynced_writes: AtomicU64,
}

fn open(setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    let mut builder = Builder::new();
    builder.set_cache_size(setup.memory_bytes);
    let database = builder.create(setup.dir.join("redb"))?;
    let creation = database.begin_write()?;
    creation.open_table(TABLE)?;
    creation.commit()?;
    Ok(Box::new(Redb {
        database,
        durability: setup.durability,
        unsynced_writes: AtomicU64::new(0),
    }))
}

impl Redb {
    fn begin(&self, writes: u64) -> Result<WriteTransaction> {
        let mut txn = self.database.begin_write()?;
        let before = self.unsynced_writes.fetch_add(writes, Ordering::Relaxed);
        let due = before / WRITES_PER_SYNC != (before + writes) / WRITES_PER_SYNC;
        if self.durability == Durability::None && !due {
            txn.set_durability(::redb::Durability::None)?;
        }
        Ok(txn)
    }
}

impl Store for Redb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    /// Makes durable what was committed with `Durability::None`.
    fn settle(&self) -> Result<()> {
        Ok(self.database.begin_write()?.commit()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        // Dropping it commits durably what was not yet.
        Ok(())
    }
}

impl Session for &Redb {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let txn = self.begin(1)?;
        txn.open_table(TABLE)?.insert(key, value)?;
        Ok(txn.commit()?)
    }

    fn write_batch(&mut self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        let txn = self.begin(rows.len() as u64)?;
        let mut table = txn.open_table(TABLE)?;
        for &(key, value) in rows {
            table.insert(key, value)?;
        }
        drop(table);
        Ok(txn.commit()?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        let txn = self.begin(1)?;
        txn.open_table(TABLE)?.remove(key)?;
        Ok(txn.commit()?)
    }

    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        self.reader()?.get(key, value)
    }

    fn reader(&mut self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(RedbReader(self.database.begin_read()?.open_table(TABLE)?)))
    }

    fn scan(&mut self, from: &[u8], limit: usize, row: Row<'_>) -> Result<usize> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let mut rows = 0;
        for entry in table.range(from..)?.take(limit) {
            let (key, value) = entry?;
            row(key.value(), value.value());
            rows += 1;
        }
        Ok(rows)
    }

    fn read_modify_write(&mut self, key: &[u8], change: Change<'_>) -> Result<u64> {
        let txn = self.begin(1)?;
        let mut table = txn.open_table(TABLE)?;
        let mut new = Vec::new();
        change(table.get(key)?.as_ref().map(|old| old.value()), &mut new);
        table.insert(key, new.as_slice())?;
        drop(table);
        txn.commit()?;
        Ok(0)
    }
}

struct RedbReader(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Reader for RedbReader {
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let found = self.0.get(key)?;
        if let Some(found) = &found {
            value.clear();
            value.extend_from_slice(found.value());
        }
        Ok(found.is_some())
    }
}

//! SQLite through rusqlite: a B-tree of pages with a write-ahead log.
//!
//! Equal durability: `journal_mode = WAL` with `synchronous = FULL`, which syncs the log before
//! `COMMIT` returns. Unsynced writes use `synchronous = NORMAL`: the log is synced at checkpoints
//! only, and a power cut loses commits without damage. The bundled build syncs with `fsync` unless
//! it is built under `LIBSQLITE3_FLAGS=-DHAVE_FDATASYNC`, which is its better setting here.
//!
//! Fair settings: one table `WITHOUT ROWID`, prepared statements, `BEGIN IMMEDIATE` for writes, a
//! checkpoint each 64 MiB of log instead of each 4 MiB, a read connection per thread. SQLite's own
//! way to wait for its one writer is to sleep and try again, which is hard on many threads, so the
//! writers share one connection behind a mutex. The file is mapped for reads, but for cold ones:
//! its own cache keeps to the memory it was given, the kernel's would not.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use crate::peer::{Peer, Role};
use crate::store::{Change, Durability, Reader, Result, Row, Session, Setup, Store};

pub(crate) const PEER: Peer = Peer {
    name: "sqlite",
    role: Role::Peer,
    settings: "WAL, synchronous=FULL, WITHOUT ROWID, mapped reads, one writer connection",
    open,
};

/// 64 MiB of pages of 4 KiB, like the write buffers of the log-structured stores.
const CHECKPOINT_PAGES: i64 = (64 << 20) / 4096;

/// More than the file of any workload.
const MAPPED_BYTES: i64 = 16 << 30;

const PUT: &str = "INSERT INTO rows VALUES (?1, ?2) ON CONFLICT DO UPDATE SET v = excluded.v";
const DELETE: &str = "DELETE FROM rows WHERE k = ?1";
const GET: &str = "SELECT v FROM rows WHERE k = ?1";
const SCAN: &str = "SELECT k, v FROM rows WHERE k >= ?1 ORDER BY k LIMIT ?2";

struct Sqlite {
    path: PathBuf,
    durability: Durability,
    cache_bytes: usize,
    mapped_bytes: i64,
    writer: Mutex<Connection>,
}

fn open(setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    let (path, cache_bytes) = (setup.dir.join("sqlite.db"), setup.cache_bytes());
    let mapped_bytes = if setup.is_cold() { 0 } else { MAPPED_BYTES };
    let writer = connect(&path, setup.durability, cache_bytes, mapped_bytes)?;
    writer.execute_batch(
        "CREATE TABLE IF NOT EXISTS rows (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID",
    )?;
    let durability = setup.durability;
    let writer = Mutex::new(writer);
    Ok(Box::new(Sqlite { path, durability, cache_bytes, mapped_bytes, writer }))
}

fn connect(
    path: &PathBuf,
    durability: Durability,
    cache_bytes: usize,
    mapped_bytes: i64,
) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(60))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::Sync => "FULL",
        Durability::None => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    // A negative size is in KiB.
    connection.pragma_update(None, "cache_size", -((cache_bytes / 1024) as i64))?;
    connection.pragma_update(None, "mmap_size", mapped_bytes)?;
    Ok(connection)
}

impl Sqlite {
    fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

impl Store for Sqlite {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(SqliteSession { store: self, reader: None }))
    }

    fn compact(&self) -> Result<()> {
        let log = self.writer();
        let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
        Ok(log.query_row(truncate, [], |_| Ok(()))?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        let writer = self.writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(writer.close().map_err(|(_, error)| error)?)
    }
}

struct SqliteSession<'a> {
    store: &'a Sqlite,
    /// Opened by the first read, so that a session that only writes costs no connection.
    reader: Option<Connection>,
}

impl SqliteSession<'_> {
    fn reading(&mut self) -> Result<&mut Connection> {
        if self.reader.is_none() {
            let store = self.store;
            let (path, mapped_bytes) = (&store.path, store.mapped_bytes);
            let reader = connect(path, store.durability, store.cache_bytes, mapped_bytes)?;
            self.reader = Some(reader);
        }
        self.reader.as_mut().ok_or_else(|| "a connection was just opened".into())
    }
}

impl Session for SqliteSession<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        // A statement outside a transaction is one.
        self.store.writer().prepare_cached(PUT)?.execute((key, value))?;
        Ok(())
    }

    fn write_batch(&mut self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        let mut writer = self.store.writer();
        let txn = begin(&mut writer)?;
        let mut put = txn.prepare_cached(PUT)?;
        for &(key, value) in rows {
            put.execute((key, value))?;
        }
        drop(put);
        Ok(txn.commit()?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.store.writer().prepare_cached(DELETE)?.execute([key])?;
        Ok(())
    }

    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        get(self.reading()?, key, value)
    }

    fn reader(&mut self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(SqliteReader(self.reading()?.transaction()?)))
    }

    fn scan(&mut self, from: &[u8], limit: usize, row: Row<'_>) -> Result<usize> {
        let mut scan = self.reading()?.prepare_cached(SCAN)?;
        let mut found = scan.query((from, limit as i64))?;
        let mut rows = 0;
        while let Some(columns) = found.next()? {
            row(columns.get_ref(0)?.as_blob()?, columns.get_ref(1)?.as_blob()?);
            rows += 1;
        }
        Ok(rows)
    }

    fn read_modify_write(&mut self, key: &[u8], change: Change<'_>) -> Result<u64> {
        let mut writer = self.store.writer();
        let txn = begin(&mut writer)?;
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let found = get(&txn, key, &mut old)?;
        change(found.then_some(old.as_slice()), &mut new);
        txn.prepare_cached(PUT)?.execute((key, &new))?;
        txn.commit()?;
        Ok(0)
    }
}

struct SqliteReader<'a>(Transaction<'a>);

impl Reader for SqliteReader<'_> {
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        get(&self.0, key, value)
    }
}

fn get(connection: &Connection, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
    let mut get = connection.prepare_cached(GET)?;
    let found = get.query_row([key], |columns| {
        value.clear();
        value.extend_from_slice(columns.get_ref(0)?.as_blob()?);
        Ok(())
    });
    Ok(found.optional()?.is_some())
}

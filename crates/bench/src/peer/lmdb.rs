//! LMDB through heed: a copy-on-write B+tree in a mapped file, one writer at a time.
//!
//! Equal durability: the default, in which a commit flushes its pages and then its meta page to
//! the device before it returns; neither `NO_SYNC` nor `NO_META_SYNC`. Unsynced writes use
//! `NO_SYNC`, after which a power cut leaves a sound file if the file system keeps writes in order.
//!
//! Fair settings: `WRITE_MAP` where commits are synced, its fastest way (2.7 k/s to 3.3 k/s): pages
//! are changed in the map instead of being written. Its price, that a stray pointer of the program
//! could damage the file, is small in Rust. Unsynced, it is several times as fast again, but then
//! nothing keeps pages in order, and a power cut can take the whole database: `lmdb-map` shows what
//! that would bring, and no ratio is taken to it where nothing is synced.
//!
//! Read transactions keep their reader slot per thread. Cold reads switch the kernel's read-ahead
//! off, scans too: records came in random order, so neighbours in key order are none in the file,
//! and with memory for a tenth of it what was read ahead is gone before it is used. The memory
//! limit does not apply: the page cache is its cache, and in cold cells the runner keeps as much of
//! the map in memory as the others have for theirs.

use std::ops::Bound::{Included, Unbounded};

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithTls};

use crate::peer::{Peer, Role};
use crate::store::{Change, Durability, Reader, Result, Row, Session, Setup, Store};

pub(crate) const PEER: Peer = Peer {
    name: "lmdb",
    role: Role::Peer,
    settings: "synced data and meta page, WRITE_MAP; unsynced: NO_SYNC, no WRITE_MAP",
    open: |setup| open(setup, setup.durability == Durability::Sync),
};

pub(crate) const MAP: Peer = Peer {
    name: "lmdb-map",
    role: Role::UnsafePeer,
    settings: "as lmdb, unsynced: NO_SYNC and WRITE_MAP, which a power cut may not leave sound",
    open: |setup| open(setup, true),
};

/// Address space, not disk: the file is sparse and far from full in every workload.
const MAP_BYTES: usize = 16 << 30;

/// More than the sessions of any workload.
const READERS_MAX: u32 = 256;

struct Lmdb {
    env: Env<WithTls>,
    rows: Database<'static, Bytes, Bytes>,
}

#[expect(unsafe_code, reason = "heed leaves two promises about the mapped file to its caller")]
fn open(setup: &Setup<'_>, writes_map: bool) -> Result<Box<dyn Store>> {
    let mut options = EnvOpenOptions::new().read_txn_with_tls();
    options.map_size(MAP_BYTES).max_readers(READERS_MAX);
    let mut flags = if writes_map { EnvFlags::WRITE_MAP } else { EnvFlags::empty() };
    if setup.durability == Durability::None {
        flags |= EnvFlags::NO_SYNC;
    }
    if setup.is_cold() {
        flags |= EnvFlags::NO_READ_AHEAD;
    }
    // SAFETY: the runner opens the store once at a time, in a directory of its own that no other
    // program writes to; with NO_SYNC a power cut may damage the file, which is then only a
    // lost measurement.
    let env = unsafe { options.flags(flags).open(setup.dir)? };
    let txn = env.write_txn()?;
    let rows = env
        .create_databases_and_commit(txn, |create, txn| {
            create.create_database(txn, None).map(CommitOrAbort::<_, ()>::Commit)
        })?
        .unwrap_commit();
    Ok(Box::new(Lmdb { env, rows }))
}

impl Store for Lmdb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn settle(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

impl Session for &Lmdb {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.rows.put(&mut txn, key, value)?;
        Ok(txn.commit()?)
    }

    fn write_batch(&mut self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for &(key, value) in rows {
            self.rows.put(&mut txn, key, value)?;
        }
        Ok(txn.commit()?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.rows.delete(&mut txn, key)?;
        Ok(txn.commit()?)
    }

    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let txn = self.env.read_txn()?;
        copy(self.rows.get(&txn, key)?, value)
    }

    fn reader(&mut self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(LmdbReader { txn: self.env.read_txn()?, rows: self.rows }))
    }

    fn scan(&mut self, from: &[u8], limit: usize, row: Row<'_>) -> Result<usize> {
        let txn = self.env.read_txn()?;
        let mut rows = 0;
        for entry in self.rows.range(&txn, &(Included(from), Unbounded))?.take(limit) {
            let (key, value) = entry?;
            row(key, value);
            rows += 1;
        }
        Ok(rows)
    }

    fn read_modify_write(&mut self, key: &[u8], change: Change<'_>) -> Result<u64> {
        let mut txn = self.env.write_txn()?;
        let mut new = Vec::new();
        change(self.rows.get(&txn, key)?, &mut new);
        self.rows.put(&mut txn, key, &new)?;
        txn.commit()?;
        Ok(0)
    }
}

struct LmdbReader<'a> {
    txn: RoTxn<'a, WithTls>,
    rows: Database<'static, Bytes, Bytes>,
}

impl Reader for LmdbReader<'_> {
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        copy(self.rows.get(&self.txn, key)?, value)
    }
}

fn copy(found: Option<&[u8]>, value: &mut Vec<u8>) -> Result<bool> {
    if let Some(found) = found {
        value.clear();
        value.extend_from_slice(found);
    }
    Ok(found.is_some())
}

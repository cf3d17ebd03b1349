//! Records that will be committed together.

use holm::{Db, Durability, Keyspace, Transaction};

use crate::exit::Result;

/// Most records in a batch: enough that a commit costs little beside them.
const RECORDS_MAX: usize = 1000;

/// Bytes after which a batch is full: a few batches are what a crash can take back.
const BYTES_MAX: usize = 1 << 20;

/// Records that will be committed together, and where to.
pub(super) struct Batch<'a> {
    db: &'a Db,
    keyspace: Keyspace,
    records: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    pub(super) fn new(db: &'a Db, keyspace: Keyspace) -> Batch<'a> {
        Batch { db, keyspace, records: Vec::with_capacity(RECORDS_MAX), bytes: 0 }
    }

    pub(super) fn push(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.bytes += key.len() + value.len();
        self.records.push((key, value));
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= RECORDS_MAX || self.bytes >= BYTES_MAX
    }

    /// Commits the records, and what else is written with them.
    ///
    /// # Durability
    /// None yet; a crash may take back whole batches, the newest first.
    pub(super) fn commit(&mut self, with: impl Fn(&mut Transaction) -> Result) -> Result {
        let mut txn =
            self.db.transaction().durability(Durability::Buffered).label("import").begin();
        for (key, value) in self.records.drain(..) {
            txn.put(&self.keyspace, key, value)?;
        }
        self.bytes = 0;
        with(&mut txn)?;
        txn.commit()?;
        Ok(())
    }
}

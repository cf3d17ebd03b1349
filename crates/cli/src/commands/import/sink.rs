//! Where records go.

use std::path::Path;

use holm::{BulkLoad, Db, Keyspace};
use indicatif::ProgressBar;

use super::batch::Batch;
use super::sort::Sorter;
use crate::exit::Result;

/// Rows after which the progress bar moves.
const BAR_ROWS: u64 = 4096;

/// Records after which it is told how far the input has come.
const RECORDS_MAX: usize = 4096;

/// Where records go.
pub(super) enum Sink<'a> {
    /// Into transactions, as they come.
    Batches(Batch<'a>),
    /// Into an empty keyspace, all at once.
    Bulk(Box<Bulk>),
}

impl Sink<'_> {
    pub(super) fn push(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result {
        match self {
            Sink::Batches(batch) => {
                batch.push(key, value);
                Ok(())
            }
            Sink::Bulk(bulk) => bulk.push(key, value),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        match self {
            Sink::Batches(batch) => batch.is_full(),
            Sink::Bulk(bulk) => bulk.records >= RECORDS_MAX,
        }
    }
}

/// A bulk load, and what sorts its rows.
pub(super) struct Bulk {
    load: BulkLoad,
    sorter: Sorter,
    records: usize,
}

impl Bulk {
    pub(super) fn new(db: &Db, keyspace: Keyspace, folder: &Path, bytes: usize) -> Bulk {
        let load = db.bulk_load(&keyspace);
        Bulk { load, sorter: Sorter::new(folder, bytes), records: 0 }
    }

    fn push(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result {
        self.records += 1;
        self.sorter.push(key, value)
    }

    /// Begins to count records anew.
    pub(super) fn begin_again(&mut self) {
        self.records = 0;
    }

    /// Loads everything, durably.
    pub(super) fn finish(self, bar: &ProgressBar) -> Result {
        let Bulk { mut load, sorter, .. } = self;
        sorter.finish(|key, value| {
            load.add(key, value)?;
            if load.rows().is_multiple_of(BAR_ROWS) {
                bar.set_position(load.rows());
            }
            Ok(())
        })?;
        load.finish()?;
        Ok(())
    }
}

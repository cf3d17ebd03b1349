//! What a store must offer to be measured: one small trait, so that each adaptor fits a screen.
//!
//! A store is shared by all threads of a cell; a [`Session`] belongs to the thread that made it,
//! for stores that want a connection or a reader slot per thread. Adaptors whose handle is already
//! cheap to share let the session borrow the store.
//!
//! # What an adaptor promises
//! * With [`Durability::Sync`], `put` and `write_batch` return only when the write would survive
//!   a power cut: an `fdatasync` (or its like) has covered it.
//! * With [`Durability::None`], the write has been handed to the engine and survives what the
//!   engine says it survives; no device flush is waited for.
//! * Each call is one transaction of the store's transactional front, where it has one.

use std::path::Path;

use crate::lane::Lane;

/// Any failure of a store; the runner adds which cell it belongs to.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// The result of every operation on a store.
pub type Result<T> = std::result::Result<T, Error>;

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On the device before the call returns.
    Sync,
    /// Whenever the engine sees fit.
    None,
}

/// What a store will be asked to do, for engines that have to know it when they are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To write, perhaps beside reads.
    Write,
    /// To read what was loaded before; next to nothing is written.
    Read,
    /// To read single keys of data that no cache holds.
    ColdPoints,
    /// To read ranges of data that no cache holds.
    ColdRanges,
}

/// How a store is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The store's own directory; it exists, and is empty the first time.
    pub dir: &'a Path,
    /// When a write counts as done.
    pub durability: Durability,
    /// Memory for caches and write buffers together, which the adaptor divides as suits its
    /// engine best. Engines that map their file have the page cache for theirs.
    pub memory_bytes: usize,
    /// What it will be used for.
    pub access: Access,
    /// Whether values are long enough to be worth keeping apart from their keys.
    pub large_values: bool,
}

impl Setup<'_> {
    /// The longest write buffer of the log-structured stores: the same for all of them.
    const WRITE_BUFFER_BYTES_MAX: usize = 64 << 20;

    /// The shortest: less makes tables of a few blocks.
    const WRITE_BUFFER_BYTES_MIN: usize = 1 << 20;

    /// A write buffer of the log-structured stores. Two of them, one active and one sealed, take
    /// half of the memory at most; who only reads needs none to speak of, so that the cache gets
    /// nearly everything then.
    pub fn write_buffer_bytes(&self) -> usize {
        let share = if self.access == Access::Write { 4 } else { 32 };
        let bytes = self.memory_bytes / share;
        bytes.clamp(Self::WRITE_BUFFER_BYTES_MIN, Self::WRITE_BUFFER_BYTES_MAX)
    }

    /// What remains of the memory for a cache after two write buffers.
    pub fn cache_bytes(&self) -> usize {
        self.memory_bytes.saturating_sub(2 * self.write_buffer_bytes()).max(1 << 20)
    }

    /// Whether the page cache is kept from answering reads.
    pub fn is_cold(&self) -> bool {
        matches!(self.access, Access::ColdPoints | Access::ColdRanges)
    }
}

/// An open store.
pub trait Store: Send + Sync {
    /// Returns the calling thread's own handle.
    fn session(&self) -> Result<Box<dyn Session + '_>>;

    /// Waits until background work that the last writes caused is done, if the store can tell,
    /// and until they would survive the store's being closed.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Flushes and compacts everything, as far as the store has a call for it.
    fn compact(&self) -> Result<()> {
        self.settle()
    }

    /// Returns how often the store has synced since it was opened, if it counts.
    fn fsyncs(&self) -> Option<u64> {
        None
    }

    /// Drives all lanes to their end, each with one durable put in flight at any time, on as few
    /// threads as the store likes; hands the lanes back. `None` where the store has no other way
    /// to commit than to block a thread.
    fn commits_in_flight(&self, lanes: Vec<Lane>) -> Option<Result<Vec<Lane>>> {
        drop(lanes);
        None
    }

    /// Closes the store as a well-behaved program would.
    fn close(self: Box<Self>) -> Result<()>;
}

/// A change of a value: gets the old one (none if the key is absent), fills in the new one.
/// It may be called again after a conflict, so it must not count its calls.
pub type Change<'a> = &'a mut dyn FnMut(Option<&[u8]>, &mut Vec<u8>);

/// Sees one row of a scan.
pub type Row<'a> = &'a mut dyn FnMut(&[u8], &[u8]);

/// One thread's handle on a store.
pub trait Session {
    /// Writes one key in a transaction of its own.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Writes many keys in one transaction.
    fn write_batch(&mut self, rows: &[(&[u8], &[u8])]) -> Result<()>;

    /// Deletes one key in a transaction of its own.
    fn delete(&mut self, key: &[u8]) -> Result<()>;

    /// Reads one key in a read transaction or snapshot of its own; fills `value` and returns
    /// whether the key exists.
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool>;

    /// Opens a read view that many gets share.
    fn reader(&mut self) -> Result<Box<dyn Reader + '_>>;

    /// Shows up to `limit` rows from `from` on, in key order and in one read view; returns how
    /// many there were.
    fn scan(&mut self, from: &[u8], limit: usize, row: Row<'_>) -> Result<usize>;

    /// Reads, changes and writes one key in a serializable transaction, again after each
    /// conflict, and returns how many attempts were aborted before one committed.
    fn read_modify_write(&mut self, key: &[u8], change: Change<'_>) -> Result<u64>;
}

/// A read view that is reused.
pub trait Reader {
    /// Reads one key; fills `value` and returns whether the key exists.
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool>;
}

//! A view of one moment that only reads: no locks, no read set, never aborted, never blocked.

use base::{KeyRange, Timestamp};
use bytes::Bytes;
use storage::ReadPin;
use storage::memtable::Direction;

use crate::error::Result;
use crate::scan::{Scan, Source};

/// The state of the shard at one timestamp. While it lives, everything it can see is kept, however
/// old it gets.
pub struct ReadSnapshot {
    pin: ReadPin,
}

impl ReadSnapshot {
    pub(crate) fn new(pin: ReadPin) -> ReadSnapshot {
        ReadSnapshot { pin }
    }

    /// Returns the timestamp that is read.
    pub fn read_ts(&self) -> Timestamp {
        self.pin.ts()
    }

    /// Returns a key's value.
    ///
    /// # Errors
    /// Those of the disk, damage among them.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.get_versioned(key)?.map(|(_, value)| value))
    }

    /// Returns a key's value and when it was committed.
    ///
    /// # Errors
    /// As [`ReadSnapshot::get`].
    pub fn get_versioned(&self, key: &[u8]) -> Result<Option<(Timestamp, Bytes)>> {
        Ok(self.pin.get(key)?)
    }

    /// Returns the rows of a range of engine keys in order.
    pub fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        Scan::new(Source::of(&self.pin), range, direction)
    }
}

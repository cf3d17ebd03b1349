//! A view of one moment that only reads: no locks, no read set, never aborted, never blocked.

use std::sync::Arc;

use base::{KeyRange, Timestamp};
use bytes::Bytes;
use storage::memtable::{Direction, Memtable, Pin};

use crate::scan::{Scan, Source};

/// The state of the shard at one timestamp. While it lives, everything it can see is kept, however
/// old it gets.
pub struct ReadSnapshot {
    pin: Pin<Arc<Memtable>>,
}

impl ReadSnapshot {
    pub(crate) fn new(pin: Pin<Arc<Memtable>>) -> ReadSnapshot {
        ReadSnapshot { pin }
    }

    /// Returns the timestamp that is read.
    pub fn read_ts(&self) -> Timestamp {
        self.pin.ts()
    }

    /// Returns a key's value.
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.pin.get(key).map(|(_, value)| Bytes::copy_from_slice(value))
    }

    /// Returns a key's value and when it was committed.
    pub fn get_versioned(&self, key: &[u8]) -> Option<(Timestamp, Bytes)> {
        self.pin.get(key).map(|(ts, value)| (ts, Bytes::copy_from_slice(value)))
    }

    /// Hands the value to `f` where it lies, without a copy.
    pub fn get_with<R>(&self, key: &[u8], f: impl FnOnce(Option<&[u8]>) -> R) -> R {
        f(self.pin.get(key).map(|(_, value)| value))
    }

    /// Returns the rows of a range of engine keys in order.
    pub fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        Scan::new(Source::of(&self.pin), range, direction)
    }
}

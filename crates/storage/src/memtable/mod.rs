//! The memtable: every version of every key in memory, found by hash or in order, read without locks.
//!
//! (Signatures first, so that others can build on them; the bodies follow.)

use std::ops::Deref;
use std::sync::Arc;

use base::{KeyRange, Timestamp};
use thiserror::Error;

use crate::Value;

/// One table of versions. `Send + Sync`; shared by reference or in an `Arc`.
pub struct Memtable {}

/// The timestamp asked for lies below the floor: its versions may be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("timestamp {asked} is no longer readable: the oldest is {floor}")]
pub struct TooOld {
    /// The timestamp asked for.
    pub asked: Timestamp,
    /// The oldest timestamp that can still be read.
    pub floor: Timestamp,
}

/// A registered reader (or writer). While it lives, nothing it can reach is freed, and no version
/// visible at its timestamp is trimmed. All access goes through a pin.
///
/// `Pin<&Memtable>` borrows the table, `Pin<Arc<Memtable>>` owns a share of it. `Send + Sync`.
pub struct Pin<H: Holder> {
    #[expect(dead_code, reason = "signatures first")]
    holder: H,
}

/// What can hold a table for a pin: `&Memtable` or `Arc<Memtable>`. Sealed.
pub trait Holder: Deref<Target = Memtable> {}
impl Holder for &Memtable {}
impl Holder for Arc<Memtable> {}

/// One version, as a read found it. The bytes live as long as the pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version<'p> {
    /// When it was committed.
    pub ts: Timestamp,
    /// What it holds.
    pub value: Value<'p>,
}

/// A visible row of a scan. The bytes live as long as the pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'p> {
    /// The key.
    pub key: &'p [u8],
    /// When the value was committed.
    pub ts: Timestamp,
    /// The value.
    pub value: &'p [u8],
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Rising keys.
    Forward,
    /// Falling keys.
    Reverse,
}

/// What a collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Versions cut from their chains.
    pub versions: usize,
    /// Keys removed from both indexes.
    pub keys: usize,
    /// Allocations given back (those retired earlier included).
    pub freed: usize,
    /// Allocations that wait for a pin to go.
    pub waiting: usize,
}

impl Memtable {
    /// Returns an empty table. `seed` keys its hash function, so that nobody outside can choose
    /// keys that collide; equal seeds give equal behaviour.
    pub fn new(_seed: u64) -> Memtable {
        unimplemented!()
    }

    /// Registers a reader at `ts`.
    ///
    /// # Errors
    /// [`TooOld`] if the floor has passed `ts`.
    pub fn pin(&self, _ts: Timestamp) -> Result<Pin<&Memtable>, TooOld> {
        unimplemented!()
    }

    /// As [`Memtable::pin`], for a pin that owns a share of the table.
    ///
    /// # Errors
    /// [`TooOld`] if the floor has passed `ts`.
    pub fn pin_owned(self: &Arc<Self>, _ts: Timestamp) -> Result<Pin<Arc<Memtable>>, TooOld> {
        unimplemented!()
    }

    /// Registers a reader at the newest visible timestamp; asks `visible` again whenever the floor
    /// overtook it in between. If `visible` lies below the floor for good, reads at the floor.
    pub fn pin_newest(&self, _visible: impl Fn() -> Timestamp) -> Pin<&Memtable> {
        unimplemented!()
    }

    /// As [`Memtable::pin_newest`], for a pin that owns a share of the table.
    pub fn pin_newest_owned(self: &Arc<Self>, _visible: impl Fn() -> Timestamp) -> Pin<Arc<Memtable>> {
        unimplemented!()
    }

    /// Registers a writer: protects memory and holds back no timestamp. Its reads see whatever
    /// version is newest at that moment.
    pub fn pin_writer(&self) -> Pin<&Memtable> {
        unimplemented!()
    }

    /// Raises the floor: from now on no pin below `ts` is granted. Never lowers it.
    /// Also refreshes the watermark that inserts trim by.
    pub fn raise_floor(&self, _ts: Timestamp) {}

    /// Returns the floor.
    pub fn floor(&self) -> Timestamp {
        unimplemented!()
    }

    /// Computes the watermark: the smaller of the floor and the oldest pinned timestamp. No version
    /// visible at or above it is ever trimmed.
    pub fn watermark(&self) -> Timestamp {
        unimplemented!()
    }

    /// Trims all chains below the watermark, removes keys whose newest version is a tombstone
    /// below it, and frees what no pin can reach. Costs what there is to collect, not what there
    /// is. Runs beside readers and writers.
    pub fn collect(&self) -> Collected {
        unimplemented!()
    }

    /// Returns the number of keys held, deleted ones that are not collected yet included.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Returns true if there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes held by entries, versions and indexes, roughly.
    pub fn memory_bytes(&self) -> usize {
        unimplemented!()
    }

    /// Starts loading an empty table with keys in rising order (recovery from a checkpoint).
    ///
    /// # Panics
    /// If the table is not empty.
    pub fn bulk_load(&mut self, _keys_expected: usize) -> BulkLoad<'_> {
        unimplemented!()
    }

    /// Starts replaying a log: inserts in any order of keys; new keys enter the ordered index all
    /// at once when the replay is finished or dropped.
    pub fn replay(&mut self) -> Replay<'_> {
        unimplemented!()
    }

    /// Checks every invariant of the structure.
    ///
    /// # Panics
    /// With a sentence, if one does not hold.
    pub fn check_invariants(&mut self) {
        unimplemented!()
    }
}

impl<H: Holder> Pin<H> {
    /// Returns the timestamp this pin reads at.
    pub fn ts(&self) -> Timestamp {
        unimplemented!()
    }

    /// Returns the table.
    pub fn table(&self) -> &Memtable {
        unimplemented!()
    }

    /// Adds a version. Versions of one key may come in any order of timestamps; a (key, timestamp)
    /// already there is left as it is, and `false` returned. `ts` should lie above the floor: a
    /// version below it may be trimmed at once.
    pub fn insert(&self, _key: &[u8], _ts: Timestamp, _value: Value<'_>) -> bool {
        unimplemented!()
    }

    /// Returns the newest version at or below this pin's timestamp; `None` if there is none or it
    /// is a tombstone.
    pub fn get(&self, _key: &[u8]) -> Option<(Timestamp, &[u8])> {
        unimplemented!()
    }

    /// As [`Pin::get`], but shows a tombstone.
    pub fn get_version(&self, _key: &[u8]) -> Option<Version<'_>> {
        unimplemented!()
    }

    /// As [`Pin::get_version`] at a later timestamp than the pin's own.
    ///
    /// # Panics
    /// If `ts` is below the pin's timestamp: what is visible there may be trimmed.
    pub fn get_version_at(&self, _key: &[u8], _ts: Timestamp) -> Option<Version<'_>> {
        unimplemented!()
    }

    /// Returns the timestamp of the newest version whatever this pin's timestamp, tombstones
    /// included. Sees every insert that returned before the call.
    pub fn newest(&self, _key: &[u8]) -> Option<Timestamp> {
        unimplemented!()
    }

    /// Returns the first key of `start..end` with a version newer than `after`, and that
    /// version's timestamp. Sees every insert that returned before the call.
    pub fn newest_in_range(
        &self,
        _start: &[u8],
        _end: Option<&[u8]>,
        _after: Timestamp,
    ) -> Option<(&[u8], Timestamp)> {
        unimplemented!()
    }

    /// Scans the rows of `start..end` visible at this pin's timestamp.
    pub fn scan(&self, _start: &[u8], _end: Option<&[u8]>, _direction: Direction) -> Scan<'_> {
        unimplemented!()
    }

    /// Walks the keys of a range with all versions that are visible at this pin's timestamp or
    /// newer, tombstones included.
    pub fn versions(&self, _range: &KeyRange) -> Versions<'_> {
        unimplemented!()
    }
}

/// The rows of a range at one timestamp, in order: an `Iterator<Item = Row<'p>>`.
pub struct Scan<'p> {
    _table: &'p Memtable,
}

impl<'p> Scan<'p> {
    /// Moves on so that the next row is the first at or after `key` (at or before it in reverse),
    /// still inside the range.
    pub fn seek(&mut self, _key: &[u8]) {}
}

impl<'p> Iterator for Scan<'p> {
    type Item = Row<'p>;
    fn next(&mut self) -> Option<Row<'p>> {
        unimplemented!()
    }
}

/// The keys of a range with their versions: an `Iterator<Item = History<'p>>`.
pub struct Versions<'p> {
    _table: &'p Memtable,
}

/// One key and its versions, newest first.
pub struct History<'p> {
    /// The key.
    pub key: &'p [u8],
}

impl<'p> History<'p> {
    /// Walks the versions newer than the pin's timestamp and the one visible at it, newest first.
    pub fn versions(&self) -> impl Iterator<Item = Version<'p>> {
        std::iter::empty()
    }
}

impl<'p> Iterator for Versions<'p> {
    type Item = History<'p>;
    fn next(&mut self) -> Option<History<'p>> {
        unimplemented!()
    }
}

/// A load of sorted keys into an empty table.
pub struct BulkLoad<'t> {
    _table: &'t mut Memtable,
}

impl BulkLoad<'_> {
    /// Adds a version. Keys rise; the versions of one key follow each other, newest first.
    ///
    /// # Panics
    /// If the order is broken.
    pub fn push(&mut self, _key: &[u8], _ts: Timestamp, _value: Value<'_>) {}

    /// Builds the ordered index. Dropping the load does the same.
    pub fn finish(self) {}
}

/// A replay of the log.
pub struct Replay<'t> {
    _table: &'t mut Memtable,
}

impl Replay<'_> {
    /// Adds a version; false if that (key, timestamp) is there already.
    pub fn insert(&mut self, _key: &[u8], _ts: Timestamp, _value: Value<'_>) -> bool {
        unimplemented!()
    }

    /// Puts the new keys into the ordered index. Dropping the replay does the same.
    pub fn finish(self) {}
}

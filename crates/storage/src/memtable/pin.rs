//! Pins, and everything that is read through them.

use std::ops::Deref;
use std::sync::Arc;

use base::{KeyRange, Timestamp};

use super::cursor::Cursor;
use super::entry::{EntryRef, VersionRef};
use super::link::Guard;
use super::pins::Registration;
use super::tree::{Finger, Walk};
use super::{Memtable, TooOld};
use crate::Value;

/// Keys of a batch whose places in the hash index are on their way from memory.
const HASHES_AHEAD: usize = 16;

/// A registered reader or writer. While it lives, nothing it can reach is freed, and no version
/// visible at its timestamp is trimmed. All access goes through a pin, and what it returns borrows
/// from the pin.
///
/// `Pin<&Memtable>` borrows the table, `Pin<Arc<Memtable>>` owns a share of it. Pins are
/// `Send + Sync`, cost about ten nanoseconds, and there may be any number of them; but nothing
/// retired after a pin was taken is freed before it is dropped, so none should be held for ever.
pub struct Pin<H: Holder> {
    holder: H,
    registration: Registration,
    ts: Timestamp,
    guard: Guard,
}

/// What can hold a table for a pin: `&Memtable` or `Arc<Memtable>`.
pub trait Holder: Deref<Target = Memtable> + sealed::Sealed {}
impl Holder for &Memtable {}
impl Holder for Arc<Memtable> {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &super::Memtable {}
    impl Sealed for super::Arc<super::Memtable> {}
}

/// One version, as a read found it. The bytes live as long as the pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version<'p> {
    /// When it was committed.
    pub ts: Timestamp,
    /// What it holds.
    pub value: Value<'p>,
}

/// What a table has of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'p> {
    /// The version that is visible.
    Version(Version<'p>),
    /// Versions that are too new.
    OnlyNewer,
    /// No version at all.
    Nothing,
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

impl Direction {
    /// Returns true if a walk in this direction comes to `a` before `b`, or they are the same key.
    pub fn is_before_or_at(self, a: &[u8], b: &[u8]) -> bool {
        match self {
            Direction::Forward => a <= b,
            Direction::Reverse => a >= b,
        }
    }
}

impl<'p> From<VersionRef<'p>> for Version<'p> {
    fn from(version: VersionRef<'p>) -> Version<'p> {
        Version { ts: version.ts(), value: version.value() }
    }
}

impl<H: Holder> Pin<H> {
    pub(super) fn new(holder: H, ts: Timestamp) -> Result<Pin<H>, TooOld> {
        match holder.memory.pins.register(ts) {
            Ok(registration) => {
                let guard = Guard::of_registration(&registration);
                Ok(Pin { holder, registration, ts, guard })
            }
            Err(floor) => Err(TooOld { asked: ts, floor }),
        }
    }

    pub(super) fn new_at_newest(holder: H, visible: impl Fn() -> Timestamp) -> Pin<H> {
        let mut ts = visible();
        loop {
            match holder.memory.pins.register(ts) {
                Ok(registration) => {
                    let guard = Guard::of_registration(&registration);
                    return Pin { holder, registration, ts, guard };
                }
                Err(floor) => ts = visible().max(floor),
            }
        }
    }

    /// Registers for memory only: somebody else keeps what is visible at `ts` from being trimmed.
    pub(super) fn new_reader(holder: H, ts: Timestamp) -> Pin<H> {
        let mut pin = Pin::new_at_newest(holder, || Timestamp::MAX);
        pin.ts = ts;
        pin
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Returns the timestamp this pin reads at.
    pub fn ts(&self) -> Timestamp {
        self.ts
    }

    /// Returns the table.
    pub fn table(&self) -> &Memtable {
        &self.holder
    }

    /// Adds a version. Versions of one key may come in any order of timestamps; a (key, timestamp)
    /// already there is left as it is, and `false` returned. `ts` should lie above the floor: a
    /// version below it may be trimmed at once.
    pub fn insert(&self, key: &[u8], ts: Timestamp, value: Value<'_>) -> bool {
        let table = self.table();
        let mut finger = Finger::default();
        table.put(key, ts, value, &self.guard, |entry| {
            table.index(entry, &mut finger, &self.guard);
        })
    }

    /// Adds a version of each of some keys, which rise, as [`Pin::insert`] does of one. Faster than
    /// as many calls: the places of the next keys in the hash index travel from memory while one is
    /// inserted, and in the ordered index each is looked for from the last one on.
    pub fn insert_all<'w>(
        &self,
        ts: Timestamp,
        writes: impl Iterator<Item = (&'w [u8], Value<'w>)> + Clone,
    ) {
        let (table, guard) = (self.table(), &self.guard);
        let mut hashes = [0; HASHES_AHEAD];
        let mut ahead = writes.clone().enumerate().map(|(at, (key, _))| {
            let hash = table.hash_of(key);
            table.hash.prefetch(hash, guard);
            (at % HASHES_AHEAD, hash)
        });
        ahead.by_ref().take(HASHES_AHEAD).for_each(|(slot, hash)| hashes[slot] = hash);
        let mut finger = Finger::default();
        for (at, (key, value)) in writes.enumerate() {
            let hash = hashes[at % HASHES_AHEAD];
            table.put_hashed(hash, key, ts, value, guard, |entry| {
                table.index(entry, &mut finger, guard);
            });
            if let Some((slot, hash)) = ahead.next() {
                hashes[slot] = hash;
            }
        }
    }

    /// Returns the newest version at or below this pin's timestamp; `None` if there is none or it
    /// is a tombstone.
    pub fn get(&self, key: &[u8]) -> Option<(Timestamp, &[u8])> {
        let version = self.entry(key)?.visible(self.ts)?;
        Some((version.ts(), version.value().as_put()?))
    }

    /// Looks for the newest version at or below this pin's timestamp, and tells a key that is not
    /// here from one that is newer.
    pub fn find(&self, key: &[u8]) -> Found<'_> {
        match self.entry(key) {
            None => Found::Nothing,
            Some(entry) => match entry.visible(self.ts) {
                Some(version) => Found::Version(version.into()),
                None => Found::OnlyNewer,
            },
        }
    }

    /// As [`Pin::get`], but shows a tombstone.
    pub fn get_version(&self, key: &[u8]) -> Option<Version<'_>> {
        self.entry(key)?.visible(self.ts).map(Version::from)
    }

    /// As [`Pin::get_version`] at a later timestamp than the pin's own.
    ///
    /// # Panics
    /// If `ts` is below the pin's timestamp: what is visible there may be trimmed.
    pub fn get_version_at(&self, key: &[u8], ts: Timestamp) -> Option<Version<'_>> {
        assert!(ts >= self.ts, "a pin at {} cannot read at {ts}: take a pin there", self.ts);
        self.entry(key)?.visible(ts).map(Version::from)
    }

    /// Returns the timestamp of the newest version whatever this pin's timestamp, tombstones
    /// included. Sees every insert that returned before the call.
    pub fn newest(&self, key: &[u8]) -> Option<Timestamp> {
        Some(self.entry(key)?.head().ts())
    }

    /// Returns the first key of `start..end` with a version newer than `after`, and the newest
    /// such version's timestamp. Sees every insert that returned before the call.
    pub fn newest_in_range(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        after: Timestamp,
    ) -> Option<(&[u8], Timestamp)> {
        let mut walk = self.walk(start, end, Direction::Forward);
        while let Some(entry) = walk.next() {
            let newest = entry.head().ts();
            if newest > after {
                return Some((entry.key(), newest));
            }
        }
        None
    }

    /// Scans the rows of `start..end` visible at this pin's timestamp.
    pub fn scan(&self, start: &[u8], end: Option<&[u8]>, direction: Direction) -> Scan<'_> {
        Scan { walk: self.walk(start, end, direction), ts: self.ts }
    }

    /// Walks the keys of a range with all versions that are visible at this pin's timestamp or
    /// newer, tombstones included.
    pub fn versions(&self, range: &KeyRange) -> Versions<'_> {
        let walk = self.walk(&range.start, range.end.as_deref(), Direction::Forward);
        Versions { walk, ts: self.ts }
    }

    /// Returns a cursor over all versions, whatever this pin's timestamp; it is on none yet.
    pub fn cursor(&self) -> Cursor<'_, H> {
        Cursor::new(self)
    }

    pub(super) fn entry(&self, key: &[u8]) -> Option<EntryRef<'_>> {
        let table = self.table();
        table.hash.find(table.hash_of(key), key, &self.guard)
    }

    pub(super) fn walk(&self, start: &[u8], end: Option<&[u8]>, direction: Direction) -> Walk<'_> {
        Walk::new(&self.table().tree, &self.guard, start, end, direction)
    }
}

impl<H: Holder> Drop for Pin<H> {
    fn drop(&mut self) {
        self.holder.memory.pins.release(self.registration);
    }
}

impl<H: Holder> std::fmt::Debug for Pin<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pin").field("ts", &self.ts).finish_non_exhaustive()
    }
}

/// The rows of a range at one timestamp, in order.
pub struct Scan<'p> {
    walk: Walk<'p>,
    ts: Timestamp,
}

impl Scan<'_> {
    /// Moves so that the next row is the first at or after `key` (at or before it in reverse),
    /// never back and still inside the range.
    pub fn seek(&mut self, key: &[u8]) {
        self.walk.seek(key);
    }
}

impl<'p> Iterator for Scan<'p> {
    type Item = Row<'p>;

    fn next(&mut self) -> Option<Row<'p>> {
        loop {
            let entry = self.walk.next()?;
            if let Some(version) = entry.visible(self.ts)
                && let Value::Put(value) = version.value()
            {
                return Some(Row { key: entry.key(), ts: version.ts(), value });
            }
        }
    }
}

/// The keys of a range with their versions, in rising order.
pub struct Versions<'p> {
    walk: Walk<'p>,
    ts: Timestamp,
}

impl<'p> Iterator for Versions<'p> {
    type Item = History<'p>;

    fn next(&mut self) -> Option<History<'p>> {
        let entry = self.walk.next()?;
        Some(History { key: entry.key(), entry, ts: self.ts })
    }
}

/// One key and its versions.
pub struct History<'p> {
    /// The key.
    pub key: &'p [u8],
    entry: EntryRef<'p>,
    ts: Timestamp,
}

impl<'p> History<'p> {
    /// Walks the versions newer than the pin's timestamp and the one visible at it, newest first.
    pub fn versions(&self) -> impl Iterator<Item = Version<'p>> + use<'p> {
        let ts = self.ts;
        let mut next = Some(self.entry.head());
        std::iter::from_fn(move || {
            let version = next?;
            // What lies behind the one visible at the pin may be trimmed or not: nobody's business.
            next = if version.ts() > ts { version.next() } else { None };
            Some(version.into())
        })
    }
}

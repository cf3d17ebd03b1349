//! A cursor over all versions in order, both ways: the memtable's side of a merge with tables.
//!
//! ```text
//!   keys and chains    a: 9 7     b: 4     d: 8 3 1
//!   the cursor's way   a9  a7  b4  d8  d3  d1          forward: keys rise, timestamps fall
//!                      d1  d3  d8  b4  a7  a9          backward
//! ```
//!
//! A chain leads from the newest version to the oldest. Going backward, the versions of a key that
//! are still to come are therefore kept on a stack.

use base::Timestamp;

use super::entry::{EntryRef, VersionRef};
use super::pin::{Direction, Holder, Pin};
use super::tree::Walk;
use crate::error::Result;
use crate::iterator;
use crate::table::Entry;

/// A cursor over a memtable. What is inserted while it is under way may be seen or not; it is newer
/// than any timestamp that was handed out before.
pub struct Cursor<'p, H: Holder> {
    pin: &'p Pin<H>,
    walk: Walk<'p>,
    direction: Direction,
    at: Option<(EntryRef<'p>, VersionRef<'p>)>,
    /// Going backward: the versions of this key that are newer, the next one last.
    newer: Vec<VersionRef<'p>>,
}

impl<'p, H: Holder> Cursor<'p, H> {
    pub(super) fn new(pin: &'p Pin<H>) -> Cursor<'p, H> {
        // Before the first seek it is off the table: an empty range has no entries.
        let walk = pin.walk(&[], Some(&[]), Direction::Forward);
        Cursor { pin, walk, direction: Direction::Forward, at: None, newer: Vec::new() }
    }

    /// Returns the version that the cursor is on; `None` if it is off the table.
    pub fn entry(&self) -> Option<Entry<'p>> {
        let (entry, version) = self.at?;
        Some(Entry { key: entry.key(), ts: version.ts(), value: version.value().into() })
    }

    /// Goes to the first version; returns false if there is none.
    pub fn seek_first(&mut self) -> bool {
        self.walk_from(&[], None, Direction::Forward);
        self.next_key()
    }

    /// Goes to the last version; returns false if there is none.
    pub fn seek_last(&mut self) -> bool {
        self.walk_from(&[], None, Direction::Reverse);
        self.previous_key()
    }

    /// Goes to the first version at or after `key` and, of that key, not newer than `ts`; returns
    /// false if there is none.
    pub fn seek(&mut self, key: &[u8], ts: Timestamp) -> bool {
        self.walk_from(key, None, Direction::Forward);
        let Some(entry) = self.walk.next() else { return self.leave() };
        let version = if entry.key() == key { entry.visible(ts) } else { Some(entry.head()) };
        match version {
            Some(version) => self.go(entry, version),
            None => self.next_key(),
        }
    }

    /// Goes to the last version before `key` at `ts`: a newer one of that key, or one of a smaller
    /// key; returns false if there is none.
    pub fn seek_before(&mut self, key: &[u8], ts: Timestamp) -> bool {
        self.walk_from(&[], Some(key), Direction::Reverse);
        match self.pin.entry(key) {
            Some(entry) => {
                self.stack_newer(entry, Some(ts));
                self.pop(entry)
            }
            None => self.previous_key(),
        }
    }

    /// Goes to the next version; returns false, and leaves the table, if there is none.
    #[expect(clippy::should_implement_trait, reason = "what it moves to is borrowed from it")]
    pub fn next(&mut self) -> bool {
        let Some((entry, version)) = self.at else { return false };
        if self.direction == Direction::Reverse {
            self.walk_from(&base::range::successor(entry.key()), None, Direction::Forward);
        }
        match version.next() {
            Some(older) => self.go(entry, older),
            None => self.next_key(),
        }
    }

    /// Goes to the first version of the next key; returns false, and leaves the table, if there is
    /// none. Costs the same however many versions lie between.
    pub fn skip_key(&mut self) -> bool {
        let Some((entry, _)) = self.at else { return false };
        if self.direction == Direction::Reverse {
            self.walk_from(&base::range::successor(entry.key()), None, Direction::Forward);
        }
        self.next_key()
    }

    /// Goes to the previous version; returns false, and leaves the table, if there is none.
    pub fn prev(&mut self) -> bool {
        let Some((entry, version)) = self.at else { return false };
        if self.direction == Direction::Forward {
            self.walk_from(&[], Some(entry.key()), Direction::Reverse);
            self.stack_newer(entry, Some(version.ts()));
        }
        self.pop(entry)
    }

    fn walk_from(&mut self, start: &[u8], end: Option<&[u8]>, direction: Direction) {
        self.newer.clear();
        self.direction = direction;
        self.walk = self.pin.walk(start, end, direction);
    }

    fn next_key(&mut self) -> bool {
        match self.walk.next() {
            Some(entry) => self.go(entry, entry.head()),
            None => self.leave(),
        }
    }

    fn previous_key(&mut self) -> bool {
        match self.walk.next() {
            Some(entry) => {
                self.stack_newer(entry, None);
                self.pop(entry)
            }
            None => self.leave(),
        }
    }

    /// Stacks the versions of an entry that are newer than a timestamp; all of them without one.
    fn stack_newer(&mut self, entry: EntryRef<'p>, than: Option<Timestamp>) {
        self.newer.clear();
        let mut next = Some(entry.head());
        while let Some(version) = next.filter(|version| than.is_none_or(|ts| version.ts() > ts)) {
            self.newer.push(version);
            next = version.next();
        }
    }

    fn pop(&mut self, entry: EntryRef<'p>) -> bool {
        match self.newer.pop() {
            Some(version) => self.go(entry, version),
            None => self.previous_key(),
        }
    }

    fn go(&mut self, entry: EntryRef<'p>, version: VersionRef<'p>) -> bool {
        self.at = Some((entry, version));
        true
    }

    fn leave(&mut self) -> bool {
        self.at = None;
        false
    }
}

impl<H: Holder> iterator::Cursor for Cursor<'_, H> {
    #[inline]
    fn entry(&self) -> Option<Entry<'_>> {
        Cursor::entry(self)
    }

    fn seek_first(&mut self) -> Result<bool> {
        Ok(Cursor::seek_first(self))
    }

    fn seek_last(&mut self) -> Result<bool> {
        Ok(Cursor::seek_last(self))
    }

    fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        Ok(Cursor::seek(self, key, ts))
    }

    fn seek_before(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        Ok(Cursor::seek_before(self, key, ts))
    }

    #[inline]
    fn next(&mut self) -> Result<bool> {
        Ok(Cursor::next(self))
    }

    #[inline]
    fn prev(&mut self) -> Result<bool> {
        Ok(Cursor::prev(self))
    }
}

//! Walking over versions in order: one way to move over all sources, whatever they are.
//!
//! ```text
//!   rows.rs       VisibleRows   one row per key, as of a timestamp; no tombstones
//!                     |
//!   merge.rs      Merge         all versions of all sources, each once
//!                  /  |  \
//!   run.rs   RunCursor …        a sorted run: disjoint tables, opened as they are reached
//!                     |
//!   live.rs    LiveCursor       one table, with the timestamp that the manifest gives it
//! ```
//!
//! Everything is in the order of entries: keys ascending, and in one key the newest first.
//!
//! # Invariants
//! * An entry is borrowed from the cursor that is on it: nothing is copied to look at it, and a
//!   value that is stepped over is never touched.
//! * No step allocates, apart from the blocks that a table reads.
//! * After an error a cursor is on no entry; seeking again is allowed.
//!
//! # Not here
//! The end of a range: whoever asked for one looks at the keys. Memtables, which bring cursors of
//! their own.

mod live;
mod merge;
mod rows;
mod run;

#[cfg(test)]
mod tests;

use base::Timestamp;

pub use live::LiveCursor;
pub use merge::Merge;
pub use rows::{Row, VisibleRows};
pub use run::RunCursor;

use crate::Result;
use crate::table::{Entry, TableCursor};

/// A position among versions in order, that moves both ways: on an entry, or on none.
pub trait Cursor {
    /// Returns the entry that the cursor is on; `None` if it is on none.
    fn entry(&self) -> Option<Entry<'_>>;

    /// Goes to the first entry; returns false if there is none.
    ///
    /// # Errors
    /// Whatever the source says; the cursor is then on no entry. So for all other movements.
    fn seek_first(&mut self) -> Result<bool>;

    /// Goes to the last entry; returns false if there is none.
    ///
    /// # Errors
    /// As [`Cursor::seek_first`].
    fn seek_last(&mut self) -> Result<bool>;

    /// Goes to the first entry at or after `key` that, in that key, is not newer than `ts`; returns
    /// false if there is none.
    ///
    /// # Errors
    /// As [`Cursor::seek_first`].
    fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<bool>;

    /// Goes to the last entry before the position (`key`, `ts`): in a smaller key, or in the same
    /// key and newer than `ts`; returns false if there is none.
    ///
    /// # Errors
    /// As [`Cursor::seek_first`].
    fn seek_before(&mut self, key: &[u8], ts: Timestamp) -> Result<bool>;

    /// Goes to the next entry; returns false, and is on none, if there is none.
    ///
    /// # Errors
    /// As [`Cursor::seek_first`].
    fn next(&mut self) -> Result<bool>;

    /// Goes to the previous entry; returns false, and is on none, if there is none.
    ///
    /// # Errors
    /// As [`Cursor::seek_first`].
    fn prev(&mut self) -> Result<bool>;
}

/// Forwards each method to another type's.
macro_rules! forward {
    ($target:ident) => {
        fn entry(&self) -> Option<Entry<'_>> {
            $target::entry(self)
        }
        fn seek_first(&mut self) -> Result<bool> {
            $target::seek_first(self)
        }
        fn seek_last(&mut self) -> Result<bool> {
            $target::seek_last(self)
        }
        fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
            $target::seek(self, key, ts)
        }
        fn seek_before(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
            $target::seek_before(self, key, ts)
        }
        fn next(&mut self) -> Result<bool> {
            $target::next(self)
        }
        fn prev(&mut self) -> Result<bool> {
            $target::prev(self)
        }
    };
}

impl Cursor for TableCursor {
    forward!(TableCursor);
}

impl<C: Cursor + ?Sized> Cursor for Box<C> {
    fn entry(&self) -> Option<Entry<'_>> {
        (**self).entry()
    }
    fn seek_first(&mut self) -> Result<bool> {
        (**self).seek_first()
    }
    fn seek_last(&mut self) -> Result<bool> {
        (**self).seek_last()
    }
    fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        (**self).seek(key, ts)
    }
    fn seek_before(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        (**self).seek_before(key, ts)
    }
    fn next(&mut self) -> Result<bool> {
        (**self).next()
    }
    fn prev(&mut self) -> Result<bool> {
        (**self).prev()
    }
}

/// Compares two entries by their positions.
#[inline]
pub(crate) fn order(a: &Entry<'_>, b: &Entry<'_>) -> std::cmp::Ordering {
    a.key.cmp(b.key).then_with(|| b.ts.cmp(&a.ts))
}

//! The cursor of a live table: the table's own, with the timestamp that the manifest gives it.
//!
//! A bulk load writes its tables before it knows its commit timestamp, so their entries have
//! timestamp zero and the manifest has the real one. There is one version per key in such a table,
//! which makes the translation of positions simple:
//!
//! ```text
//!   asked for, if the table's timestamp is 7      in the file, where every entry is at zero
//!   seek (k, 7 and above)                         seek (k, 0)
//!   seek (k, below 7)                             seek behind k
//! ```

use std::ops::ControlFlow;

use base::Timestamp;

use super::Cursor;
use crate::table::{Entry, TableCursor};
use crate::{Result, Stored};

/// A cursor over a table as the manifest names it.
pub struct LiveCursor {
    cursor: TableCursor,
    ts_override: Option<Timestamp>,
}

impl LiveCursor {
    pub(crate) fn new(cursor: TableCursor, ts_override: Option<Timestamp>) -> LiveCursor {
        LiveCursor { cursor, ts_override }
    }

    pub(super) fn look_ahead(&mut self) {
        self.cursor.look_ahead();
    }

    /// Hands out the rows that are visible at `ts` from the current entry on, as
    /// [`RunCursor::visit`](super::RunCursor::visit) does.
    pub(super) fn visit(
        &mut self,
        ts: Timestamp,
        end: Option<&[u8]>,
        take: &mut impl FnMut(&[u8], Timestamp, Stored<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        if self.ts_override.is_some_and(|own| own > ts) {
            return Ok(ControlFlow::Continue(()));
        }
        self.cursor.visit((ts, self.ts_override), end, take)
    }

    /// Goes to the first entry at or after the position in a table with a timestamp of its own.
    fn seek_overridden(&mut self, key: &[u8], is_older: bool) -> Result<bool> {
        let is_valid = self.cursor.seek(key, Timestamp::MAX)?;
        if is_older && is_valid && self.cursor.entry().is_some_and(|entry| entry.key == key) {
            return self.cursor.next();
        }
        Ok(is_valid)
    }
}

impl Cursor for LiveCursor {
    #[inline]
    fn entry(&self) -> Option<Entry<'_>> {
        let entry = self.cursor.entry();
        match self.ts_override {
            None => entry,
            Some(ts) => entry.map(|entry| Entry { ts, ..entry }),
        }
    }

    fn seek_first(&mut self) -> Result<bool> {
        self.cursor.seek_first()
    }

    fn seek_last(&mut self) -> Result<bool> {
        self.cursor.seek_last()
    }

    fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        match self.ts_override {
            None => self.cursor.seek(key, ts),
            Some(own) => self.seek_overridden(key, own > ts),
        }
    }

    fn seek_before(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        match self.ts_override {
            None => self.cursor.seek_before(key, ts),
            Some(own) => {
                if self.seek_overridden(key, own > ts)? {
                    self.cursor.prev()
                } else {
                    self.cursor.seek_last()
                }
            }
        }
    }

    #[inline]
    fn next(&mut self) -> Result<bool> {
        self.cursor.next()
    }

    #[inline]
    fn prev(&mut self) -> Result<bool> {
        self.cursor.prev()
    }
}

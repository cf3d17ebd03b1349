//! A sorted run as one cursor: its tables are disjoint, so only one of them is open at a time.

use std::ops::ControlFlow;

use base::Timestamp;

use super::{Cursor, LiveCursor};
use crate::table::Entry;
use crate::version::Run;
use crate::{Result, Stored};

/// A cursor over the tables of a sorted run, each opened when it is reached.
pub struct RunCursor {
    run: Run,
    /// Which table `cursor` is of.
    at: usize,
    cursor: Option<LiveCursor>,
    /// Whether cursors are opened to go on forward.
    is_ahead: bool,
}

impl RunCursor {
    /// Returns a cursor that is on no entry yet.
    pub fn new(run: Run) -> RunCursor {
        RunCursor { run, at: 0, cursor: None, is_ahead: false }
    }

    /// Hands out the rows that are visible at `ts`, from `start` on and before `end`, until told to
    /// stop. It is what [`VisibleRows`](super::VisibleRows) would hand out, sooner, if there is
    /// nothing to merge the run with.
    ///
    /// # Errors
    /// As those of all movements.
    pub fn visit(
        &mut self,
        start: &[u8],
        end: Option<&[u8]>,
        ts: Timestamp,
        mut take: impl FnMut(&[u8], Timestamp, Stored<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.is_ahead = true;
        let mut is_valid = self.seek(start, ts)?;
        while is_valid && let Some(cursor) = &mut self.cursor {
            if cursor.visit(ts, end, &mut take)?.is_break() {
                break;
            }
            is_valid = self.enter_forward(self.at + 1)?;
        }
        Ok(())
    }

    /// Opens a table unless it is the one that is open; returns `None` if there is no such table.
    fn open(&mut self, at: usize) -> Option<&mut LiveCursor> {
        if self.at != at || self.cursor.is_none() {
            self.at = at;
            self.cursor = self.run.tables().get(at).map(|table| table.cursor());
            if let Some(cursor) = self.cursor.as_mut().filter(|_| self.is_ahead) {
                cursor.look_ahead();
            }
        }
        self.cursor.as_mut()
    }

    /// Goes to the first entry of a table or, should it have none, of those behind it.
    fn enter_forward(&mut self, mut at: usize) -> Result<bool> {
        while let Some(cursor) = self.open(at) {
            if cursor.seek_first()? {
                return Ok(true);
            }
            at += 1;
        }
        Ok(false)
    }

    /// Goes to the last entry of the tables before one.
    fn enter_reverse(&mut self, mut end: usize) -> Result<bool> {
        while end > 0 {
            end -= 1;
            if let Some(cursor) = self.open(end)
                && cursor.seek_last()?
            {
                return Ok(true);
            }
        }
        self.cursor = None;
        Ok(false)
    }
}

impl Cursor for RunCursor {
    #[inline]
    fn entry(&self) -> Option<Entry<'_>> {
        self.cursor.as_ref()?.entry()
    }

    fn seek_first(&mut self) -> Result<bool> {
        self.enter_forward(0)
    }

    fn seek_last(&mut self) -> Result<bool> {
        self.enter_reverse(self.run.tables().len())
    }

    fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        let at = self.run.position_of(key);
        match self.open(at) {
            None => Ok(false),
            // Older versions of the key than all that the table has would be behind its end, and
            // in no other table.
            Some(cursor) => Ok(cursor.seek(key, ts)? || self.enter_forward(at + 1)?),
        }
    }

    fn seek_before(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        let at = self.run.position_of(key);
        match self.open(at) {
            None => self.enter_reverse(at),
            Some(cursor) => Ok(cursor.seek_before(key, ts)? || self.enter_reverse(at)?),
        }
    }

    #[inline]
    fn next(&mut self) -> Result<bool> {
        match &mut self.cursor {
            Some(cursor) if cursor.entry().is_some() => {
                Ok(cursor.next()? || self.enter_forward(self.at + 1)?)
            }
            _ => Ok(false),
        }
    }

    #[inline]
    fn prev(&mut self) -> Result<bool> {
        match &mut self.cursor {
            Some(cursor) if cursor.entry().is_some() => {
                Ok(cursor.prev()? || self.enter_reverse(self.at)?)
            }
            _ => Ok(false),
        }
    }
}

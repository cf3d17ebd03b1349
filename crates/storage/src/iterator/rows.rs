//! The rows that a reader sees at a timestamp: of each key the newest version at or before it, and
//! tombstones left out.
//!
//! ```text
//!   key      a        b             c        d              read at 5
//!   @        9 3      7 6           4 2      5 (tombstone)
//!   row      a@3      none: too new c@4      none
//! ```
//!
//! Versions that are not asked for are stepped over, each for one comparison in the source they are
//! in. When a key has more than a few of them the cursor seeks past them instead: a key with
//! thousands of versions costs what a seek costs.

use base::Timestamp;

use super::Cursor;
use crate::table::Entry;
use crate::values::ValueHandle;
use crate::{Result, Stored};

/// So many versions of a key are stepped over before a seek takes over. A step costs some ten
/// nanoseconds and a seek a few hundred in each source, of which there are a handful.
const STEPS_MAX: usize = 16;

/// In reverse the visible version of a key is known only after the step behind it. A value up to
/// this length, in bytes, is copied before that step, for less than it costs to turn round.
const COPY_BYTES_MAX: usize = 4 << 10;

/// One visible row, borrowed from the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The user key.
    pub key: &'a [u8],
    /// When it was written.
    pub ts: Timestamp,
    /// The value, or where it lies; no tombstone.
    pub value: Stored<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// On no row.
    Off,
    /// On the row that the cursor is on.
    Here,
    /// On a row that was copied; the cursor is before it, or off its beginning.
    Copied,
}

/// The rows of a cursor that are visible at a timestamp.
pub struct VisibleRows<C> {
    cursor: C,
    ts: Timestamp,
    state: State,
    /// The key that is being left, or that of a copied row.
    key: Vec<u8>,
    value: Vec<u8>,
    /// Where the value of a copied row lies, if that is not here.
    handle: Option<ValueHandle>,
    value_ts: Timestamp,
}

impl<C: Cursor> VisibleRows<C> {
    /// Returns the rows at a timestamp, on none of them yet.
    pub fn new(cursor: C, ts: Timestamp) -> VisibleRows<C> {
        VisibleRows {
            cursor,
            ts,
            state: State::Off,
            key: Vec::new(),
            value: Vec::new(),
            handle: None,
            value_ts: Timestamp::ZERO,
        }
    }

    /// Returns the current row; `None` if there is none.
    #[inline]
    pub fn row(&self) -> Option<Row<'_>> {
        match self.state {
            State::Off => None,
            State::Copied => {
                let value = self.handle.map_or(Stored::Put(&self.value), Stored::Apart);
                Some(Row { key: &self.key, ts: self.value_ts, value })
            }
            State::Here => {
                let Entry { key, ts, value } = self.cursor.entry()?;
                (!value.is_tombstone()).then_some(Row { key, ts, value })
            }
        }
    }

    /// Goes to the first row; returns false if there is none.
    ///
    /// # Errors
    /// Whatever the sources say; the cursor is then on no row. So for all other movements.
    pub fn seek_first(&mut self) -> Result<bool> {
        self.state = State::Off;
        self.cursor.seek_first()?;
        self.find_forward()
    }

    /// Goes to the last row; returns false if there is none.
    ///
    /// # Errors
    /// As [`VisibleRows::seek_first`].
    pub fn seek_last(&mut self) -> Result<bool> {
        self.state = State::Off;
        self.cursor.seek_last()?;
        self.find_reverse()
    }

    /// Goes to the first row at or after a key; returns false if there is none.
    ///
    /// # Errors
    /// As [`VisibleRows::seek_first`].
    pub fn seek(&mut self, key: &[u8]) -> Result<bool> {
        self.state = State::Off;
        self.cursor.seek(key, self.ts)?;
        self.find_forward()
    }

    /// Goes to the last row before a key; returns false if there is none.
    ///
    /// # Errors
    /// As [`VisibleRows::seek_first`].
    pub fn seek_before(&mut self, key: &[u8]) -> Result<bool> {
        self.state = State::Off;
        self.cursor.seek_before(key, Timestamp::MAX)?;
        self.find_reverse()
    }

    /// Goes to the next row; returns false, and is on none, if there is none.
    ///
    /// # Errors
    /// As [`VisibleRows::seek_first`].
    #[expect(clippy::should_implement_trait, reason = "a row is borrowed from the cursor")]
    #[inline]
    pub fn next(&mut self) -> Result<bool> {
        match std::mem::replace(&mut self.state, State::Off) {
            State::Off => return Ok(false),
            State::Here => {
                self.set_key();
                self.cursor.next()?;
            }
            // The cursor walks backwards: it has to turn.
            State::Copied => {
                self.cursor.seek(&self.key, Timestamp::ZERO)?;
            }
        }
        self.leave_key_forward()?;
        self.find_forward()
    }

    /// Goes to the previous row; returns false, and is on none, if there is none.
    ///
    /// # Errors
    /// As [`VisibleRows::seek_first`].
    pub fn prev(&mut self) -> Result<bool> {
        match std::mem::replace(&mut self.state, State::Off) {
            State::Off => return Ok(false),
            // The cursor was left where the next candidate may be, or in newer versions.
            State::Copied => self.leave_key_reverse()?,
            State::Here => {
                self.set_key();
                self.cursor.seek_before(&self.key, Timestamp::MAX)?;
            }
        }
        self.find_reverse()
    }

    fn set_key(&mut self) {
        self.key.clear();
        if let Some(entry) = self.cursor.entry() {
            self.key.extend_from_slice(entry.key);
        }
    }

    #[inline]
    fn is_at_key(&self) -> bool {
        self.cursor.entry().is_some_and(|entry| entry.key == &self.key[..])
    }

    /// Moves behind all versions of the key that was set.
    #[inline]
    fn leave_key_forward(&mut self) -> Result<()> {
        let mut steps = 0;
        while self.is_at_key() {
            steps += 1;
            if steps == STEPS_MAX {
                self.cursor.seek(&self.key, Timestamp::ZERO)?;
            } else {
                self.cursor.next()?;
            }
        }
        Ok(())
    }

    /// Moves before all versions of the key that was set.
    fn leave_key_reverse(&mut self) -> Result<()> {
        let mut steps = 0;
        while self.is_at_key() {
            steps += 1;
            if steps == STEPS_MAX {
                self.cursor.seek_before(&self.key, Timestamp::MAX)?;
            } else {
                self.cursor.prev()?;
            }
        }
        Ok(())
    }

    /// Goes to the first visible row at or behind the cursor.
    #[inline]
    fn find_forward(&mut self) -> Result<bool> {
        loop {
            let Some(entry) = self.cursor.entry() else {
                return Ok(false);
            };
            if entry.ts <= self.ts {
                if !entry.value.is_tombstone() {
                    self.state = State::Here;
                    return Ok(true);
                }
                self.set_key();
                self.cursor.next()?;
                self.leave_key_forward()?;
                continue;
            }
            self.skip_newer()?;
        }
    }

    /// Moves behind the versions of the current key that are too new.
    fn skip_newer(&mut self) -> Result<()> {
        self.set_key();
        let is_too_new = |cursor: &C, key: &[u8], ts: Timestamp| {
            cursor.entry().is_some_and(|entry| entry.ts > ts && entry.key == key)
        };
        let mut steps = 0;
        while is_too_new(&self.cursor, &self.key, self.ts) {
            steps += 1;
            if steps == STEPS_MAX {
                self.cursor.seek(&self.key, self.ts)?;
            } else {
                self.cursor.next()?;
            }
        }
        Ok(())
    }

    /// Goes to the last visible row at or before the cursor, which comes to each key at its oldest
    /// version.
    fn find_reverse(&mut self) -> Result<bool> {
        while let Some(entry) = self.cursor.entry() {
            let is_visible = entry.ts <= self.ts;
            self.set_key();
            if is_visible && self.find_newest()? {
                return Ok(true);
            }
            self.leave_key_reverse()?;
        }
        Ok(false)
    }

    /// Goes to the newest visible version of the current key, of which the cursor is on an older
    /// one; returns false if that is a tombstone.
    fn find_newest(&mut self) -> Result<bool> {
        let mut is_put = false;
        let mut steps = 0;
        while let Some(entry) = self.cursor.entry()
            && entry.ts <= self.ts
            && entry.key == &self.key[..]
        {
            steps += 1;
            if steps == STEPS_MAX || entry.value.inline_bytes() > COPY_BYTES_MAX {
                self.cursor.seek(&self.key, self.ts)?;
                let newest = self.cursor.entry();
                if newest.is_some_and(|newest| !newest.value.is_tombstone()) {
                    self.state = State::Here;
                    return Ok(true);
                }
                self.cursor.seek_before(&self.key, Timestamp::MAX)?;
                return Ok(false);
            }
            is_put = !entry.value.is_tombstone();
            self.value_ts = entry.ts;
            self.handle = None;
            match entry.value {
                Stored::Put(value) => {
                    self.value.clear();
                    self.value.extend_from_slice(value);
                }
                Stored::Apart(handle) => self.handle = Some(handle),
                Stored::Tombstone => {}
            }
            self.cursor.prev()?;
        }
        if is_put {
            self.state = State::Copied;
        }
        Ok(is_put)
    }
}

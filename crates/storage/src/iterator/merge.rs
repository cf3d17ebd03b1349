//! Several cursors as one.
//!
//! The sources that are on an entry stand in the order of their entries, the current one first:
//!
//! ```text
//!   order      2       0       3            a step moves source 2 and puts it back where it
//!   entry      k@9     k@4     m@7          belongs: nearly always in front, for one comparison
//! ```
//!
//! With the two to twelve sources that there are, and the largest of them giving most of the
//! entries, this beats a heap, which compares two children at each of its levels.
//!
//! # Invariants
//! * Positions rise strictly along `order` (fall, in reverse): an entry that two sources have, as
//!   both may for a moment around a flush, is handed out once.

use std::cmp::Ordering;

use base::Timestamp;

use super::{Cursor, order};
use crate::Result;
use crate::table::Entry;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Reverse,
}

/// The versions of several sources in order.
pub struct Merge<C> {
    sources: Vec<C>,
    /// The sources that are on an entry, the current one first.
    order: Vec<usize>,
    direction: Direction,
    /// The current key while the sources turn round.
    key: Vec<u8>,
}

impl<C: Cursor> Merge<C> {
    /// Returns a cursor that is on no entry yet.
    pub fn new(sources: Vec<C>) -> Merge<C> {
        let order = Vec::with_capacity(sources.len());
        Merge { sources, order, direction: Direction::Forward, key: Vec::new() }
    }

    /// Returns the number of the source that the current entry is from.
    pub fn source(&self) -> Option<usize> {
        self.order.first().copied()
    }

    /// Moves all sources with one function and puts them in order.
    fn restart(
        &mut self,
        direction: Direction,
        mut seek: impl FnMut(&mut C) -> Result<bool>,
    ) -> Result<bool> {
        self.direction = direction;
        self.order.clear();
        for source in 0..self.sources.len() {
            if let Err(error) = self.add(source, &mut seek) {
                self.order.clear();
                return Err(error);
            }
        }
        Ok(!self.order.is_empty())
    }

    fn add(&mut self, source: usize, seek: &mut impl FnMut(&mut C) -> Result<bool>) -> Result<()> {
        if seek(&mut self.sources[source])? {
            self.order.insert(0, source);
            self.settle()?;
        }
        Ok(())
    }

    /// Moves the source in front to where it belongs; what it shares with another, it steps over.
    fn settle(&mut self) -> Result<()> {
        let mut at = 0;
        while let Some(&other) = self.order.get(at + 1) {
            match self.compare(self.order[at], other) {
                Ordering::Less => return Ok(()),
                Ordering::Greater => {
                    self.order.swap(at, at + 1);
                    at += 1;
                }
                Ordering::Equal => {
                    let source = self.order[at];
                    if !self.step(source)? {
                        self.order.remove(at);
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Compares two sources in the direction of the walk.
    #[inline]
    fn compare(&self, a: usize, b: usize) -> Ordering {
        let (Some(a), Some(b)) = (self.sources[a].entry(), self.sources[b].entry()) else {
            unreachable!("only sources that are on an entry are in the order");
        };
        match self.direction {
            Direction::Forward => order(&a, &b),
            Direction::Reverse => order(&b, &a),
        }
    }

    #[inline]
    fn step(&mut self, source: usize) -> Result<bool> {
        match self.direction {
            Direction::Forward => self.sources[source].next(),
            Direction::Reverse => self.sources[source].prev(),
        }
    }

    /// Moves one entry on in the direction of the walk.
    #[inline]
    fn advance(&mut self) -> Result<bool> {
        let Some(&first) = self.order.first() else {
            return Ok(false);
        };
        let moved = self.step(first).and_then(|is_valid| {
            if !is_valid {
                self.order.remove(0);
                return Ok(());
            }
            self.settle()
        });
        if let Err(error) = moved {
            self.order.clear();
            return Err(error);
        }
        Ok(!self.order.is_empty())
    }

    /// Copies the current key aside; returns its timestamp, or `None` if there is no entry.
    fn set_key(&mut self) -> Option<Timestamp> {
        let entry = self.sources[*self.order.first()?].entry()?;
        self.key.clear();
        self.key.extend_from_slice(entry.key);
        Some(entry.ts)
    }
}

impl<C: Cursor> Cursor for Merge<C> {
    #[inline]
    fn entry(&self) -> Option<Entry<'_>> {
        self.sources[*self.order.first()?].entry()
    }

    fn seek_first(&mut self) -> Result<bool> {
        self.restart(Direction::Forward, C::seek_first)
    }

    fn seek_last(&mut self) -> Result<bool> {
        self.restart(Direction::Reverse, C::seek_last)
    }

    fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        self.restart(Direction::Forward, |source| source.seek(key, ts))
    }

    fn seek_before(&mut self, key: &[u8], ts: Timestamp) -> Result<bool> {
        self.restart(Direction::Reverse, |source| source.seek_before(key, ts))
    }

    #[inline]
    fn next(&mut self) -> Result<bool> {
        if self.direction == Direction::Reverse {
            // The other sources are somewhere before the current entry.
            let Some(ts) = self.set_key() else {
                return Ok(false);
            };
            let key = std::mem::take(&mut self.key);
            let found = self.seek(&key, ts);
            self.key = key;
            found?;
        }
        self.advance()
    }

    #[inline]
    fn prev(&mut self) -> Result<bool> {
        if self.direction == Direction::Forward {
            let Some(ts) = self.set_key() else {
                return Ok(false);
            };
            let key = std::mem::take(&mut self.key);
            let found = self.seek_before(&key, ts);
            self.key = key;
            return found;
        }
        self.advance()
    }
}

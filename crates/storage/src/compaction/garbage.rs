//! Which versions nobody can read any more.
//!
//! Readers are at or above the watermark. Of the versions of a key, newest first:
//!
//! ```text
//!   timestamp     9     7   |   5     3     2
//!                           |   ^
//!                 keep  keep|   keep  drop  drop          the watermark is 6
//!                           '-- the newest one at or below it: what readers at 6 see
//! ```
//!
//! The newest one at or below the watermark shadows all that are older. If it is a tombstone it
//! says what absence says, and goes, too, **if nothing older of its key lies beneath**, outside of
//! what is merged: else that would come back to life.
//!
//! # Invariants
//! * A read at any timestamp at or above the watermark gives the same answer before and after.

use base::Timestamp;

use crate::Stored;

/// What becomes of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Somebody may read it, or it hides something.
    Keep,
    /// Nobody misses it.
    Drop,
}

/// Judges the versions of a merge, in order.
#[derive(Debug)]
pub struct Rule {
    watermark: Timestamp,
    key: Vec<u8>,
    /// A version of the key at or below the watermark was seen: all that follow are older.
    is_shadowed: bool,
    is_first: bool,
}

impl Rule {
    /// Returns a rule that has seen nothing.
    pub fn new(watermark: Timestamp) -> Rule {
        Rule { watermark, key: Vec::new(), is_shadowed: false, is_first: true }
    }

    /// Judges a version, which comes after all others that were judged. `has_older_beneath` is
    /// asked at most once per key, and in order of the keys.
    #[inline]
    pub fn judge<'v>(
        &mut self,
        key: &[u8],
        ts: Timestamp,
        value: impl Into<Stored<'v>>,
        has_older_beneath: impl FnOnce(&[u8]) -> bool,
    ) -> Fate {
        if self.is_first || key != &self.key[..] {
            self.is_first = false;
            self.is_shadowed = false;
            self.key.clear();
            self.key.extend_from_slice(key);
        }
        if ts > self.watermark {
            return Fate::Keep;
        }
        if self.is_shadowed {
            return Fate::Drop;
        }
        self.is_shadowed = true;
        match value.into() {
            Stored::Tombstone if !has_older_beneath(key) => Fate::Drop,
            _ => Fate::Keep,
        }
    }
}

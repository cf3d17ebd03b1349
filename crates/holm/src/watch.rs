//! Following committed changes.

use base::Timestamp;
use transaction::{ChangeSet, Result};

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchFrom {
    /// With the next commit.
    Now,
    /// With the first commit after a timestamp that is still kept: the position of an earlier
    /// watch.
    After(Timestamp),
}

/// A feed of committed changes to a range, a transaction at a time, in commit order.
///
/// A slow reader loses nothing and holds up nobody: what waits for it is bounded, and beyond the
/// bound it reads the kept versions.
pub struct Watch {
    pub(crate) core: transaction::Watch,
}

impl Watch {
    /// Waits for the next transaction that changed the range.
    ///
    /// # Errors
    /// `LogFailed` once nothing more will be committed.
    pub fn next_change(&mut self) -> Result<ChangeSet> {
        loop {
            // The feed is only closed through its closer, which is not handed out.
            if let Some(set) = self.core.next_change()? {
                return Ok(set);
            }
        }
    }

    /// Returns the next transaction that changed the range, if there is one yet.
    ///
    /// # Errors
    /// As [`Watch::next_change`].
    pub fn try_next(&mut self) -> Result<Option<ChangeSet>> {
        self.core.try_next()
    }

    /// Returns the timestamp to begin after so that a later watch goes on without a gap.
    pub fn position(&self) -> Timestamp {
        self.core.position()
    }
}

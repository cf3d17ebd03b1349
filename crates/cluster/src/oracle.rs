//! Timestamps: issued by the leader, above everything that any leader before it issued.
//!
//! ```text
//!   leader of term 3     ceiling 3000 ─ committed ─► issues … 2990 2995 2998
//!   leader of term 5     applies its own first entry, so it knows of every ceiling before:
//!                        begins above 3000; ceiling 6000 ─ committed ─► issues 3001 …
//! ```
//!
//! # Invariants
//! * Nothing above the ceiling that is *applied* is issued.
//! * What is issued rises, across leaders too, whatever the clocks do.

use base::Timestamp;

/// How far the ceiling is put ahead, in milliseconds: one entry of the log for so much time of
/// commits, and so much that timestamps may jump when the leader changes.
const AHEAD_MS: u64 = 3000;

/// The oracle of a leader.
#[derive(Debug)]
pub(crate) struct Oracle {
    last: Timestamp,
    ceiling: Timestamp,
    /// The ceiling that was asked for.
    asked: Timestamp,
}

impl Oracle {
    /// Begins above all that was issued before.
    pub(crate) fn new(ceiling: Timestamp, last_ts: Timestamp) -> Oracle {
        let last = if cfg!(mutant = "oracle_begins_below_ceiling") {
            last_ts
        } else {
            ceiling.max(last_ts)
        };
        Oracle { last, ceiling, asked: ceiling }
    }

    /// Issues the next timestamp, unless the ceiling has to be raised first.
    pub(crate) fn issue(&mut self, wall_ms: u64) -> Option<Timestamp> {
        let wall = Timestamp::from_parts(wall_ms, 0).min(self.ceiling);
        let next = self.last.next().max(wall);
        if next > self.ceiling {
            return None;
        }
        self.last = next;
        Some(next)
    }

    /// Returns the ceiling to ask for, if it is time to.
    pub(crate) fn wants(&mut self, wall_ms: u64) -> Option<Timestamp> {
        let half = Timestamp::from_parts(AHEAD_MS / 2, 0).raw();
        let now = self.last.next().max(Timestamp::from_parts(wall_ms, 0));
        // As long as nothing was issued under the last one there is no hurry.
        let is_near = now.raw().saturating_add(half) > self.asked.raw();
        if self.asked > self.ceiling || !is_near {
            return None;
        }
        let ahead = Timestamp::from_parts(AHEAD_MS, 0).raw();
        self.asked = Timestamp::from_raw(now.raw().saturating_add(ahead));
        Some(self.asked)
    }

    /// Takes note that a ceiling is applied.
    pub(crate) fn raised(&mut self, ceiling: Timestamp) {
        self.ceiling = self.ceiling.max(ceiling);
    }

    /// Takes note that what was asked for came to nothing.
    pub(crate) fn refused(&mut self) {
        self.asked = self.ceiling;
    }

    /// Returns the last one that was issued.
    pub(crate) fn last(&self) -> Timestamp {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_issued_above_an_applied_ceiling() {
        let mut oracle = Oracle::new(Timestamp::ZERO, Timestamp::ZERO);
        assert_eq!(oracle.issue(5), None);
        let asked = oracle.wants(5).unwrap();
        assert_eq!(asked, Timestamp::from_parts(3005, 0));
        assert_eq!((oracle.wants(5), oracle.issue(5)), (None, None));
        oracle.raised(asked);
        assert_eq!(oracle.issue(5), Some(Timestamp::from_parts(5, 0)));
        assert_eq!(oracle.issue(4), Some(Timestamp::from_parts(5, 1)), "the clock went back");
        // A clock that is far ahead does not carry it over the ceiling.
        assert_eq!(oracle.issue(9000), Some(asked));
        assert_eq!(oracle.issue(9000), None);

        let next = Oracle::new(asked, Timestamp::from_parts(5, 1)).issue(6);
        assert_eq!(next, None, "the next leader begins above it");
    }
}

//! Commit timestamps: the only sequence number there is.
//!
//! ```text
//!  63                                18 17                 0
//!  +-----------------------------------+--------------------+
//!  | milliseconds since the Unix epoch | counter            |
//!  +-----------------------------------+--------------------+
//!              46 bits                        18 bits
//! ```
//!
//! The wall part makes reading the past convenient for people and decides nothing: the oracle
//! issues strictly rising values whatever the clock does, by counting on from the last one.

use std::fmt;

/// Width of the counter. 2^18 commits per millisecond are 262 million per second; beyond that the
/// counter carries into the wall part, which only makes the timestamp run ahead of the clock.
const COUNTER_BITS: u32 = 18;

/// A point in the order of commits.
///
/// Bigger is later. A key is written at most once per timestamp.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Before every commit.
    pub const ZERO: Timestamp = Timestamp(0);
    /// After every commit.
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    /// Returns the timestamp of a wall time and a counter. Larger parts are cut to their width.
    pub const fn from_parts(wall_ms: u64, counter: u64) -> Timestamp {
        Timestamp((wall_ms << COUNTER_BITS) | (counter & ((1 << COUNTER_BITS) - 1)))
    }

    /// Returns the timestamp with this raw value, as printed and as stored.
    pub const fn from_raw(raw: u64) -> Timestamp {
        Timestamp(raw)
    }

    /// Returns the raw value.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Returns the wall part, in milliseconds since the Unix epoch.
    pub const fn wall_ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// Returns the counter part.
    pub const fn counter(self) -> u64 {
        self.0 & ((1 << COUNTER_BITS) - 1)
    }

    /// Returns the next timestamp, or `MAX` after `MAX`.
    pub const fn next(self) -> Timestamp {
        Timestamp(self.0.saturating_add(1))
    }

    /// Returns the timestamp before this one, or `ZERO` before `ZERO`.
    pub const fn prev(self) -> Timestamp {
        Timestamp(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_the_round_trip() {
        let ts = Timestamp::from_parts(1_763_000_000_123, 262_143);
        assert_eq!((ts.wall_ms(), ts.counter()), (1_763_000_000_123, 262_143));
        assert_eq!(Timestamp::from_raw(ts.raw()), ts);
    }

    #[test]
    fn a_full_counter_carries_into_the_wall_part() {
        let ts = Timestamp::from_parts(7, (1 << COUNTER_BITS) - 1);
        assert_eq!(ts.next(), Timestamp::from_parts(8, 0));
        assert_eq!(Timestamp::MAX.next(), Timestamp::MAX);
        assert_eq!(Timestamp::ZERO.prev(), Timestamp::ZERO);
    }
}

//! Time: that of the world, which nobody in it can read, and the clocks of its machines.
//!
//! ```text
//!   world   0 ──────────────────────────────► one number, set by the event that happens
//!   node    its monotonic clock: began anywhere, runs a little fast or slow, never back
//!           its wall clock: anything at all, and another thing after a jump
//! ```

use std::fmt;

/// A moment, or a span, in microseconds: of the world, or of a node's monotonic clock. A node never
/// sees the former.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

/// Microseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000;

/// Microseconds in a millisecond.
pub(crate) const MS: u64 = 1_000;

/// How far the rate of a clock may be off, in millionths. The lease of a Raft leader assumes that
/// two rates differ by less than a tenth: 1.045 / 0.955 is 1.094.
pub(crate) const DRIFT_PPM_MAX: u64 = 45_000;

impl Time {
    /// Returns the moment so many microseconds later.
    pub fn after(self, micros: u64) -> Time {
        Time(self.0.saturating_add(micros))
    }

    /// Returns the microseconds since an earlier moment; zero if it is later.
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:06}", self.0 / SECOND, self.0 % SECOND);
        f.pad(&text)
    }
}

/// The monotonic clock of one machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DriftingClock {
    /// A moment of the world, and what this clock showed then.
    at: Time,
    showed: Time,
    /// Microseconds that it counts in a second of the world.
    rate: u64,
}

impl DriftingClock {
    pub(crate) fn new(now: Time, shows: Time, rate: u64) -> DriftingClock {
        DriftingClock { at: now, showed: shows, rate }
    }

    /// Returns what it shows.
    pub(crate) fn shows(&self, now: Time) -> Time {
        self.showed.after(now.since(self.at) * self.rate / SECOND)
    }

    /// Returns the first moment of the world at which it shows this, or more.
    pub(crate) fn when(&self, shows: Time) -> Time {
        self.at.after((shows.since(self.showed) * SECOND).div_ceil(self.rate))
    }

    /// Goes on at another rate from now on.
    pub(crate) fn set_rate(&mut self, now: Time, rate: u64) {
        *self = DriftingClock::new(now, self.shows(now), rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_drifts_and_never_steps_back() {
        let mut clock = DriftingClock::new(Time(500), Time(7_000_000), 1_045_000);
        assert_eq!(clock.shows(Time(500)), Time(7_000_000));
        assert_eq!(clock.shows(Time(500 + SECOND)), Time(8_045_000));
        clock.set_rate(Time(500 + SECOND), 955_000);
        assert_eq!(clock.shows(Time(500 + 2 * SECOND)), Time(9_000_000));
        for shows in (8_045_000..8_046_000).map(Time) {
            let when = clock.when(shows);
            assert!(clock.shows(when) >= shows && clock.shows(Time(when.0 - 1)) < shows.after(1));
        }
        assert_eq!(Time(1_234_567).to_string(), "1.234567");
    }
}

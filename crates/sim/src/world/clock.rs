//! The clocks of a node. A monotonic one that may run a little fast or slow and begins anew with
//! each life, and a wall clock that shows anything.
//!
//! ```text
//!   world    0 ────────────────┬──────── now          microseconds, the truth
//!   node                  since│ base ── local        at its own rate; ticks are milliseconds
//! ```

use raft::Ticks;

/// How far the rate of a clock may be from the true one, in millionths. Leases leave a tenth of the
/// election timeout for it, and two clocks can be off in opposite directions.
pub const DRIFT_PPM_MAX: u64 = 40_000;

/// What the wall clock shows when the world begins, in milliseconds.
const WALL_MS: u64 = 1_700_000_000_000;

/// The clocks of one node in one of its lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    since_us: u64,
    base_us: u64,
    /// What it advances in a million microseconds.
    rate: u64,
    /// How far the wall clock is off, in milliseconds.
    pub(super) wall_off_ms: i64,
}

impl Clock {
    /// A clock that shows `base_us` now, and is `drift_ppm` too fast.
    pub(super) fn new(now_us: u64, base_us: u64, drift_ppm: i64, wall_off_ms: i64) -> Clock {
        let rate = (1_000_000 + drift_ppm).unsigned_abs();
        Clock { since_us: now_us, base_us, rate, wall_off_ms }
    }

    /// Returns what it shows at a moment.
    pub(super) fn ticks(&self, now_us: u64) -> Ticks {
        let passed = u128::from(now_us - self.since_us) * u128::from(self.rate) / 1_000_000;
        Ticks((self.base_us + passed as u64) / 1000)
    }

    /// Returns the first moment at which it shows this.
    pub(super) fn moment_of(&self, ticks: Ticks) -> u64 {
        let local_us = ticks.0.saturating_mul(1000).saturating_sub(self.base_us);
        let passed = (u128::from(local_us) * 1_000_000).div_ceil(u128::from(self.rate));
        self.since_us.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    pub(super) fn wall_ms(&self, now_us: u64) -> u64 {
        (WALL_MS + now_us / 1000).saturating_add_signed(self.wall_off_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_of_a_tick_is_the_first_that_shows_it() {
        for drift in [-40_000, -1, 0, 1, 3333, 40_000] {
            let clock = Clock::new(777, 12_345, drift, 0);
            for ticks in (13..2000).map(Ticks) {
                let moment = clock.moment_of(ticks);
                assert_eq!(clock.ticks(moment), ticks);
                assert!(clock.ticks(moment - 1) < ticks);
            }
        }
    }
}

//! How much writers are slowed down, so that flushes and compactions keep up with them.
//!
//! ```text
//!   pressure
//!      1 ┤                       ╭────      memory:  how full the memtables are together, from
//!        │                    ╭──╯                   where one is active and one is being flushed
//!        │                 ╭──╯             debt:    how much waits to be compacted, from the
//!      0 ┼─────────────────╯                         soft bound on
//!        0              soft     hard
//! ```
//!
//! A commit is delayed in proportion to its bytes and to the square of the pressure. So there is no
//! step: writers settle at the pressure at which they bring as much as is carried away, each write
//! is slowed a little rather than one of them for long, and none is ever stopped.
//!
//! # Not here
//! Waiting: who commits does that, outside of all locks.

use std::time::Duration;

use super::{Engine, memory};
use crate::sync::Ordering;

/// What a byte costs at full pressure, in nanoseconds: half a megabyte per second is let in, less
/// than any disk carries away.
const NANOS_PER_BYTE: f64 = 2_000.0;

/// Longest delay of one commit, unless it is a large one. Some such delays in a row already bring
/// the rate down, and nobody should notice one.
const DELAY_MAX: Duration = Duration::from_millis(10);

/// What a byte may be delayed at most, in nanoseconds: a transaction of 64 MiB is held up for some
/// seconds and not for minutes.
const NANOS_PER_BYTE_MAX: f64 = 50.0;

/// Debt that is nothing unusual, in memtables: what level 0 gathers before it is worth compacting.
const DEBT_SOFT_MEMTABLES: f64 = 8.0;

/// Debt at which writers are slowed down fully, in memtables.
const DEBT_HARD_MEMTABLES: f64 = 32.0;

/// What a compaction reads in a second that nobody waits for, in bytes: a tenth of what it could,
/// and still more than any program brings for long.
const COMPACTION_BYTES_PER_S: u64 = 64 << 20;

/// Returns the pressure of something between two bounds.
fn pressure(value: f64, soft: f64, hard: f64) -> f64 {
    ((value - soft) / (hard - soft)).clamp(0.0, 1.0)
}

/// Returns how long a commit of some bytes is delayed under a pressure between 0 and 1.
fn delay_of(bytes: usize, pressure: f64) -> Duration {
    let wanted = bytes as f64 * NANOS_PER_BYTE * pressure * pressure;
    let allowed = DELAY_MAX.as_nanos() as f64 + bytes as f64 * NANOS_PER_BYTE_MAX;
    Duration::from_nanos(wanted.min(allowed) as u64)
}

impl Engine {
    /// Returns how long who committed so many bytes should wait before it goes on.
    pub fn write_delay(&self, bytes: usize) -> Duration {
        let memtable_bytes = self.memory.memtable_bytes as f64;
        let sealed = self.view.load().sealed.len();
        // The log says about how full the active one is, and its counters would have to be summed.
        let active = self.log_next_hint().saturating_sub(self.active_start.load(Ordering::Relaxed));
        let active = (active as f64 / memtable_bytes).min(1.0);
        let full = sealed as f64 + if sealed > 1 { active } else { 0.0 };
        let memory = pressure(full, (memory::MEMTABLES - 1) as f64, memory::MEMTABLES as f64);
        let debt = self.debt_hint.load(Ordering::Relaxed) as f64 / memtable_bytes;
        let debt = pressure(debt, DEBT_SOFT_MEMTABLES, DEBT_HARD_MEMTABLES);
        let delay = delay_of(bytes, memory.max(debt));
        if !delay.is_zero() {
            self.counters.delayed.fetch_add(1, Ordering::Relaxed);
            self.counters.delayed_ns.fetch_add(delay.as_nanos() as u64, Ordering::Relaxed);
        }
        delay
    }

    /// Returns how long a compaction should rest after so many bytes, so that it stays below those
    /// who wait for an answer. Not at all once there is debt: then it is what they wait for.
    pub fn compaction_rest(&self, bytes: u64) -> Duration {
        let memtable_bytes = self.memory.memtable_bytes as u64;
        let debt = self.debt_hint.load(Ordering::Relaxed);
        if debt > memtable_bytes || self.wants_flush() {
            return Duration::ZERO;
        }
        Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / COMPACTION_BYTES_PER_S)
    }

    /// Returns about where the log's next record begins, without a lock.
    fn log_next_hint(&self) -> u64 {
        self.log_next.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_smoothly_and_are_bounded() {
        assert_eq!(pressure(7.0, 8.0, 32.0), 0.0);
        assert_eq!(pressure(20.0, 8.0, 32.0), 0.5);
        assert_eq!(pressure(90.0, 8.0, 32.0), 1.0);
        assert_eq!(delay_of(100, 0.0), Duration::ZERO);
        let mut last = Duration::ZERO;
        for step in 1..=10 {
            let delay = delay_of(1_000, f64::from(step) / 10.0);
            assert!(delay > last && delay <= Duration::from_millis(11), "{delay:?}");
            last = delay;
        }
        assert!(delay_of(10_000, 1.0) < Duration::from_millis(11));
        let large = delay_of(64 << 20, 1.0);
        assert!(large > Duration::from_secs(1) && large < Duration::from_secs(10), "{large:?}");
    }
}

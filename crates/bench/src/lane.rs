//! A lane: one closed loop of operations with its own keys, clock and latencies.
//!
//! ```text
//!  start         measured from                                   end
//!    |--- warm-up ---|---------------- recorded -------------------|
//!    op  op  op  op  op  op  op  op ...
//! ```
//!
//! An operation is timed from the end of the one before it, which costs one look at the clock
//! instead of two, and charges the making of the next key to the operation. Only operations that
//! end inside the window count.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::random::Random;
use crate::records::{KEY_BYTES, VALUE_BYTES, fill_value, key};
use crate::store::Result;

/// When the lanes of a cell run and what counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) measured_from: Instant,
    pub(crate) end: Option<Instant>,
    /// Operations that one lane records at most.
    pub(crate) ops_max: u64,
}

impl Window {
    pub(crate) fn timed(warm_up: Duration, length: Duration, ops_max: u64) -> Window {
        let measured_from = Instant::now() + warm_up;
        Window { measured_from, end: Some(measured_from + length), ops_max }
    }

    /// A window that only the number of operations ends.
    pub(crate) fn counted() -> Window {
        Window { measured_from: Instant::now(), end: None, ops_max: u64::MAX }
    }
}

/// One closed loop: at most one operation of a lane is under way.
pub struct Lane {
    window: Window,
    last: Instant,
    latencies: Histogram<u64>,
    ops: u64,
    aborts: u64,
    pub(crate) random: Random,
    records: u64,
    row: ([u8; KEY_BYTES], [u8; VALUE_BYTES]),
}

impl Lane {
    pub(crate) fn new(window: Window, seed: u64, records: u64) -> Lane {
        Lane {
            window,
            last: Instant::now(),
            latencies: new_histogram(),
            ops: 0,
            aborts: 0,
            random: Random::new(seed),
            records,
            row: ([0; KEY_BYTES], [0; VALUE_BYTES]),
        }
    }

    /// Returns the next row to put durably, or `None` when the lane is done. Each row must be
    /// acknowledged before the next is asked for.
    pub fn next_put(&mut self) -> Option<(&[u8], &[u8])> {
        if !self.goes_on() {
            return None;
        }
        self.row.0 = key(self.random.below(self.records));
        fill_value(&mut self.random, &mut self.row.1);
        Some((&self.row.0, &self.row.1))
    }

    /// Says that the row of the last [`Lane::next_put`] is durable.
    pub fn acknowledge(&mut self) {
        self.done(1, 0);
    }

    /// Runs an operation, which returns how many attempts were aborted, until the window ends.
    pub(crate) fn repeat(&mut self, mut op: impl FnMut(&mut Random) -> Result<u64>) -> Result<()> {
        while self.goes_on() {
            let aborts = op(&mut self.random)?;
            self.done(1, aborts);
        }
        Ok(())
    }

    /// Records that `ops` operations ended together, as one latency.
    pub(crate) fn done(&mut self, ops: u64, aborts: u64) {
        let now = Instant::now();
        let inside =
            now > self.window.measured_from && self.window.end.is_none_or(|end| now <= end);
        if inside {
            self.latencies.saturating_record((now - self.last).as_nanos() as u64);
            self.ops += ops;
            self.aborts += aborts;
        }
        self.last = now;
    }

    fn goes_on(&self) -> bool {
        self.ops < self.window.ops_max && self.window.end.is_none_or(|end| self.last < end)
    }
}

/// What the lanes of a cell did together.
pub(crate) struct Outcome {
    pub(crate) ops: u64,
    pub(crate) aborts: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Histogram<u64>,
}

impl Outcome {
    pub(crate) fn of(lanes: &[Lane]) -> Outcome {
        let mut latencies = new_histogram();
        let (mut ops, mut aborts, mut elapsed) = (0, 0, Duration::ZERO);
        for lane in lanes {
            latencies.add(&lane.latencies).expect("all histograms have the same bounds");
            ops += lane.ops;
            aborts += lane.aborts;
            // The operation under way when the window ended is not counted, so neither is the
            // time it took beyond that end.
            let end = lane.window.end.map_or(lane.last, |end| lane.last.min(end));
            elapsed = elapsed.max(end.saturating_duration_since(lane.window.measured_from));
        }
        Outcome { ops, aborts, elapsed, latencies }
    }
}

fn new_histogram() -> Histogram<u64> {
    // One nanosecond to two minutes, to within 0.1 %.
    Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("the bounds are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_stops_at_its_count() {
        let mut lane = Lane::new(Window { ops_max: 5, ..Window::counted() }, 1, 100);
        lane.repeat(|_| Ok(2)).unwrap();
        let outcome = Outcome::of(&[lane]);
        assert_eq!((outcome.ops, outcome.aborts, outcome.latencies.len()), (5, 10, 5));
    }

    #[test]
    fn percentiles_of_known_latencies() {
        let mut histogram = new_histogram();
        for micros in 1..=1000u64 {
            histogram.record(micros * 1000).unwrap();
        }
        for (quantile, micros) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0), (0.999, 999.0)] {
            let got = histogram.value_at_quantile(quantile) as f64 / 1000.0;
            assert!((got / micros - 1.0).abs() < 0.002, "p{quantile}: {got}");
        }
    }

    #[test]
    fn warm_up_is_not_recorded() {
        let window = Window::timed(Duration::from_secs(3600), Duration::from_secs(1), 1);
        let mut lane = Lane::new(window, 1, 100);
        assert!(lane.next_put().is_some());
        lane.acknowledge();
        assert_eq!(Outcome::of(&[lane]).ops, 0);
    }
}

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
use crate::records::{KEY_BYTES, Values, key};
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

    /// A window that the number of operations ends, or else patience.
    pub(crate) fn counted(ops_max: u64, patience: Duration) -> Window {
        let now = Instant::now();
        Window { measured_from: now, end: Some(now + patience), ops_max }
    }

    /// A window of one operation, however long.
    pub(crate) fn once() -> Window {
        Window { measured_from: Instant::now(), end: None, ops_max: 1 }
    }
}

/// What ended together, and is one latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) ops: u64,
    /// Attempts that ended in a conflict.
    pub(crate) aborts: u64,
    /// Bytes of keys and values that were written.
    pub(crate) bytes: u64,
}

impl Done {
    /// One operation that wrote nothing.
    pub(crate) const READ: Done = Done { ops: 1, aborts: 0, bytes: 0 };

    /// One operation that wrote a row.
    pub(crate) fn wrote(bytes: u64) -> Done {
        Done { ops: 1, aborts: 0, bytes }
    }
}

/// One closed loop: at most one operation of a lane is under way.
pub struct Lane {
    window: Window,
    last: Instant,
    latencies: Histogram<u64>,
    total: Done,
    pub(crate) random: Random,
    pub(crate) values: Values,
    records: u64,
    key: [u8; KEY_BYTES],
}

impl Lane {
    pub(crate) fn new(window: Window, seed: u64, records: u64, values: Values) -> Lane {
        Lane {
            window,
            last: Instant::now(),
            latencies: new_histogram(),
            total: Done::default(),
            random: Random::new(seed),
            values,
            records,
            key: [0; KEY_BYTES],
        }
    }

    /// Returns the next row to put durably, or `None` when the lane is done. Each row must be
    /// acknowledged before the next is asked for.
    pub fn next_put(&mut self) -> Option<(&[u8], &[u8])> {
        if !self.goes_on() {
            return None;
        }
        self.key = key(self.random.below(self.records));
        Some((&self.key, self.values.next()))
    }

    /// Says that the row of the last [`Lane::next_put`] is durable.
    pub fn acknowledge(&mut self) {
        self.done(Done::wrote(self.values.row_bytes()));
    }

    /// Runs an operation, which says what it did, until the window ends.
    pub(crate) fn repeat(
        &mut self,
        mut op: impl FnMut(&mut Random, &mut Values) -> Result<Done>,
    ) -> Result<()> {
        while self.goes_on() {
            let done = op(&mut self.random, &mut self.values)?;
            self.done(done);
        }
        Ok(())
    }

    /// Records what ended together, as one latency.
    pub(crate) fn done(&mut self, done: Done) {
        let now = Instant::now();
        let inside =
            now > self.window.measured_from && self.window.end.is_none_or(|end| now <= end);
        if inside {
            self.latencies.saturating_record((now - self.last).as_nanos() as u64);
            self.total.ops += done.ops;
            self.total.aborts += done.aborts;
            self.total.bytes += done.bytes;
        }
        self.last = now;
    }

    /// Begins on the thread that runs the lane: what came before, be it the start of the thread or
    /// the opening of a session, is no latency. A window that has begun already begins anew.
    pub(crate) fn begin(&mut self) {
        self.restart();
        let late = self.last.saturating_duration_since(self.window.measured_from);
        self.window.measured_from += late;
        self.window.end = self.window.end.map(|end| end + late);
    }

    /// Starts the next operation now, not when the one before it ended.
    pub(crate) fn restart(&mut self) {
        self.last = Instant::now();
    }

    pub(crate) fn measured_from(&self) -> Instant {
        self.window.measured_from
    }

    /// Whether there is time, and something left to do.
    pub(crate) fn goes_on(&self) -> bool {
        self.total.ops < self.window.ops_max && self.window.end.is_none_or(|end| self.last < end)
    }
}

/// What the lanes of a cell did together.
pub(crate) struct Outcome {
    pub(crate) total: Done,
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Histogram<u64>,
}

impl Outcome {
    pub(crate) fn of(lanes: &[Lane]) -> Outcome {
        let mut latencies = new_histogram();
        let (mut total, mut elapsed) = (Done::default(), Duration::ZERO);
        for lane in lanes {
            latencies.add(&lane.latencies).expect("all histograms have the same bounds");
            total.ops += lane.total.ops;
            total.aborts += lane.total.aborts;
            total.bytes += lane.total.bytes;
            // The operation under way when the window ended is not counted, so neither is the
            // time it took beyond that end.
            let end = lane.window.end.map_or(lane.last, |end| lane.last.min(end));
            elapsed = elapsed.max(end.saturating_duration_since(lane.window.measured_from));
        }
        Outcome { total, elapsed, latencies }
    }
}

fn new_histogram() -> Histogram<u64> {
    // One nanosecond to two minutes, to within 0.1 %.
    Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("the bounds are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(window: Window) -> Lane {
        Lane::new(window, 1, 100, Values::new(1, 8, 0.0))
    }

    #[test]
    fn a_lane_stops_at_its_count() {
        let mut lane = lane(Window { end: None, ops_max: 5, ..Window::once() });
        lane.repeat(|_, _| Ok(Done { ops: 1, aborts: 2, bytes: 24 })).unwrap();
        let outcome = Outcome::of(&[lane]);
        assert_eq!(outcome.total, Done { ops: 5, aborts: 10, bytes: 120 });
        assert_eq!(outcome.latencies.len(), 5);
    }

    #[test]
    fn patience_ends_a_lane_too() {
        let mut lane = lane(Window::counted(u64::MAX, Duration::ZERO));
        lane.repeat(|_, _| Ok(Done::READ)).unwrap();
        assert_eq!(Outcome::of(&[lane]).total, Done::default());
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
    fn a_lane_that_begins_late_loses_no_time() {
        let mut lane = lane(Window::timed(Duration::ZERO, Duration::from_secs(9), 1));
        lane.window.measured_from -= Duration::from_secs(5);
        lane.begin();
        let length = lane.window.end.unwrap() - lane.window.measured_from;
        assert!(length >= Duration::from_secs(14) && lane.measured_from() == lane.last);
    }

    #[test]
    fn warm_up_is_not_recorded() {
        let window = Window::timed(Duration::from_secs(3600), Duration::from_secs(1), 1);
        let mut lane = lane(window);
        assert!(lane.next_put().is_some());
        lane.acknowledge();
        assert_eq!(Outcome::of(&[lane]).total.ops, 0);
    }
}

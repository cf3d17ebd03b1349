//! Wall time in milliseconds, for what people read: the wall part of timestamps and the retention.
//! Nothing is ordered by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the wall time. It may stand still, jump, and run backwards; nothing may break by that.
pub trait Clock: Send + Sync + 'static {
    /// Returns the milliseconds since the Unix epoch.
    fn wall_ms(&self) -> u64;

    /// Lets time pass before it returns: a transaction that conflicts waits so before it runs
    /// again.
    fn pause(&self, how_long: Duration);
}

/// The clock of the system.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        // A clock set before 1970 reads as 0: timestamps count on from the last one anyway.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn pause(&self, how_long: Duration) {
        std::thread::sleep(how_long);
    }
}

/// A clock that moves only when it is told to. Clones share the time.
#[derive(Debug, Default, Clone)]
pub struct ManualClock {
    wall_ms: Arc<AtomicU64>,
}

impl ManualClock {
    /// Returns a clock that shows `wall_ms`.
    pub fn new(wall_ms: u64) -> ManualClock {
        let clock = ManualClock::default();
        clock.set(wall_ms);
        clock
    }

    /// Sets the time, in either direction.
    pub fn set(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }

    /// Moves the time forward.
    pub fn advance(&self, ms: u64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn pause(&self, how_long: Duration) {
        self.advance(how_long.as_millis() as u64);
        std::thread::yield_now();
    }
}

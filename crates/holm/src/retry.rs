//! Running a transaction again until it commits.
//!
//! Nothing is ever written again blindly: the closure runs anew, on a new snapshot. A transaction
//! keeps the age of its first attempt, so it is not chosen to break a deadlock for ever; and from
//! the third attempt on it takes the locks of the keys it lost over before it begins, so that it
//! waits in line instead of losing again.

use std::time::Duration;

use base::Timestamp;
use bytes::Bytes;
use env::SeededRandom;
use transaction::{Error, Result, Touched};

use crate::db::Inner;

/// Attempts before `transact` gives up. Losing this often in a row means that something other than
/// bad luck is wrong: a closure that waits for another one inside itself, say.
const ATTEMPTS_MAX: u32 = 100;

/// The attempt from which on the keys lost over are locked first.
const LOCKING_FROM: u32 = 3;

/// Longest pause between attempts, in microseconds.
const PAUSE_US_MAX: u64 = 64_000;

/// What is carried from one attempt to the next.
pub(crate) struct Retry {
    attempts: u32,
    age: Option<Timestamp>,
    /// Engine keys lost over.
    lost: Vec<Bytes>,
}

impl Retry {
    pub(crate) fn new() -> Retry {
        Retry { attempts: 0, age: None, lost: Vec::new() }
    }

    /// Returns the age that the next attempt has.
    pub(crate) fn age(&self) -> Option<Timestamp> {
        self.age
    }

    /// Returns the keys to lock before the next attempt, in an order that all transactions share.
    pub(crate) fn keys_to_lock(&self) -> &[Bytes] {
        if self.attempts + 1 >= LOCKING_FROM { &self.lost } else { &[] }
    }

    /// Takes note of a failed attempt and pauses; returns the error if there shall be no other.
    pub(crate) fn failed(&mut self, error: Error, age: Timestamp, db: &Inner) -> Result<()> {
        self.attempts += 1;
        if !error.is_retryable() {
            return Err(error);
        }
        if self.attempts >= ATTEMPTS_MAX {
            return Err(Error::AttemptsExhausted {
                attempts: self.attempts,
                last: Box::new(error),
            });
        }
        self.age.get_or_insert(age);
        if let Some(conflict) = error.as_conflict()
            && !matches!(conflict.touched, Touched::Scanned(_))
        {
            let key = Bytes::from(conflict.keyspace.id.encode(&conflict.key));
            if let Err(at) = self.lost.binary_search(&key) {
                self.lost.insert(at, key);
            }
        }
        if self.attempts >= LOCKING_FROM {
            let doubled = 1000u64 << (self.attempts - LOCKING_FROM).min(10);
            let bound = doubled.min(PAUSE_US_MAX);
            let pause_us = SeededRandom::new(db.next_seed()).below(bound) + 1;
            db.environment.clock.pause(Duration::from_micros(pause_us));
        }
        Ok(())
    }
}

//! Records a history while many threads make it.
//!
//! ```
//! use holm_sim::history::{Op, Outcome, Recorder};
//!
//! let recorder = Recorder::new();
//! let txn = recorder.begin(1);                       // before the first request leaves
//! recorder.op(txn, Op::append("x", 1));              // a write: before it is sent
//! recorder.op(txn, Op::read_list("x", [1]));         // a read: when its answer is there
//! recorder.end(txn, Outcome::Committed);             // after the answer to the commit
//! assert_eq!(recorder.history().to_string(), "T1 s1 1..2 committed: append x 1; read x [1]\n");
//! ```
//!
//! # Invariants
//! * A transaction counts as `Unknown` from `begin` to `end`. So a thread that dies, or a history
//!   taken in mid-run, errs on the side that accuses nobody.
//! * The recorded span covers the true one: the clock ticks before the work begins and after it
//!   ends. Widening a span can hide a violation of real time and never invents one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{History, Op, Outcome, Position, Transaction};

/// A counter that gives the events of all threads one order.
#[derive(Debug, Default)]
pub struct LogicalClock(AtomicU64);

impl LogicalClock {
    /// Returns a clock whose first tick is 1.
    pub const fn new() -> LogicalClock {
        LogicalClock(AtomicU64::new(0))
    }

    /// Returns the next position. What happened before a tick, on any thread, stays before it.
    pub fn tick(&self) -> Position {
        // Sequential consistency, since the order of ticks stands in for the order of the world.
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// Names a transaction within the recorder that began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(usize);

/// Collects transactions from many threads; share it by reference or in an `Arc`.
#[derive(Debug, Default)]
pub struct Recorder {
    clock: LogicalClock,
    transactions: Mutex<Vec<Transaction>>,
}

impl Recorder {
    /// Returns an empty recorder.
    pub const fn new() -> Recorder {
        Recorder { clock: LogicalClock::new(), transactions: Mutex::new(Vec::new()) }
    }

    /// Returns the clock, for a caller with other events to place.
    pub fn clock(&self) -> &LogicalClock {
        &self.clock
    }

    /// Begins a transaction of `session`; its label is `T` and the number of its beginning.
    pub fn begin(&self, session: u64) -> TransactionId {
        self.begin_transaction(session, None)
    }

    /// Begins a transaction of `session` under a label of the caller's.
    pub fn begin_labelled(&self, session: u64, label: impl Into<String>) -> TransactionId {
        self.begin_transaction(session, Some(label.into()))
    }

    fn begin_transaction(&self, session: u64, label: Option<String>) -> TransactionId {
        let mut transactions = self.lock();
        let index = transactions.len();
        transactions.push(Transaction {
            label: label.unwrap_or_else(|| format!("T{}", index + 1)),
            session,
            invoke: self.clock.tick(),
            complete: None,
            outcome: Outcome::Unknown,
            read_ts: None,
            commit_ts: None,
            ops: Vec::new(),
        });
        TransactionId(index)
    }

    /// Adds an operation: a write before it is sent, a read once it is answered.
    ///
    /// # Panics
    /// Panics if `txn` is of another recorder.
    pub fn op(&self, txn: TransactionId, op: Op) {
        self.lock()[txn.0].ops.push(op);
    }

    /// Notes the timestamp that the transaction reads at.
    ///
    /// # Panics
    /// Panics if `txn` is of another recorder.
    pub fn read_ts(&self, txn: TransactionId, ts: u64) {
        self.lock()[txn.0].read_ts = Some(ts);
    }

    /// Notes the timestamp that the transaction committed at.
    ///
    /// # Panics
    /// Panics if `txn` is of another recorder.
    pub fn commit_ts(&self, txn: TransactionId, ts: u64) {
        self.lock()[txn.0].commit_ts = Some(ts);
    }

    /// Ends a transaction, after its outcome is known. `Unknown` has no end in real time.
    ///
    /// # Panics
    /// Panics if `txn` is of another recorder.
    pub fn end(&self, txn: TransactionId, outcome: Outcome) {
        let mut transactions = self.lock();
        let complete = self.clock.tick();
        let transaction = &mut transactions[txn.0];
        transaction.outcome = outcome;
        transaction.complete = (outcome != Outcome::Unknown).then_some(complete);
    }

    /// Returns what was recorded so far. Transactions still open are in it as unknown.
    pub fn history(&self) -> History {
        History { transactions: self.lock().clone() }
    }

    /// Returns what was recorded, without a copy.
    pub fn into_history(self) -> History {
        let transactions = self.transactions.into_inner().unwrap_or_else(PoisonError::into_inner);
        History { transactions }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Transaction>> {
        // A thread that died in here left at worst an operation unrecorded; its transaction is
        // unknown then, which is the truth.
        self.transactions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_threads_share_one_order() {
        let recorder = Recorder::new();
        std::thread::scope(|scope| {
            for session in 0..4 {
                let recorder = &recorder;
                scope.spawn(move || {
                    for i in 0..100 {
                        let txn = recorder.begin(session);
                        recorder.op(txn, Op::append("x", session * 100 + i));
                        recorder.end(txn, Outcome::Committed);
                    }
                });
            }
        });
        let history = recorder.into_history();
        assert_eq!(history.transactions.len(), 400);
        let mut positions: Vec<_> =
            history.transactions.iter().flat_map(|t| [t.invoke, t.complete.unwrap()]).collect();
        positions.sort_unstable();
        assert_eq!(positions, (1..=800).collect::<Vec<_>>());
        for (earlier, later) in history.transactions.iter().zip(&history.transactions[1..]) {
            assert!(earlier.invoke < later.invoke);
        }
    }

    #[test]
    fn an_open_transaction_is_unknown() {
        let recorder = Recorder::new();
        let txn = recorder.begin(7);
        recorder.op(txn, Op::write("x", 1));
        assert_eq!(recorder.history().to_string(), "T1 s7 1..? unknown: write x 1\n");
        recorder.end(txn, Outcome::Unknown);
        assert_eq!(recorder.history().to_string(), "T1 s7 1..? unknown: write x 1\n");
    }
}

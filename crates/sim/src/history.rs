//! A history: what the clients of a database asked, what they were told, and when.
//!
//! Time here is the order of events in the world, not seconds: a counter that every client shares
//! hands out positions. Between the two positions of a transaction, anything may have happened;
//! what matters is that `T1` below had certainly ended before `T3` began.
//!
//! ```text
//!  position   1    2    3    4    5    6    7    8
//!  session 1  |---- T1 ------|         |-- T3 --|          T1 before T3
//!  session 2       |---- T2 ------|                        T2 beside T1, before T3
//!  session 3                 |-- T4 - - - - - - - - -?     no answer came: T4 may commit
//!                                                          any time after 4, or never
//! ```
//!
//! Written as text (see [`text`]), one transaction a line:
//!
//! ```text
//! T1 s1 1..4 committed read_ts=10 commit_ts=11: append x 1; read y []
//! T2 s2 2..5 committed: read x [1]
//! T3 s1 6..8 aborted: append x 2
//! T4 s3 4..? unknown: append x 3
//! ```
//!
//! # Workloads
//! * **List-append**: a key holds a list, a write appends an element to it and a read returns all
//!   of it. Every read then shows the whole past of its key, which is why it proves the most.
//! * **Register**: a key holds one number. A read shows only the last write, so the order of
//!   writes has to come from elsewhere (commit timestamps, reads before writes, real time). It may
//!   also be set by compare-and-set, for the checker of linearizability.
//! * **Set**: appends and reads as in list-append, of which only what is in them is looked at.
//! * **Counter**: additions, and reads of the sum. An addition is recorded once, however often it
//!   was tried: a database that forgets that it has seen a retry adds twice.
//!
//! # Invariants
//! * Within one key of a workload, no two transactions write the same element or value. A retry
//!   takes a new one. (The checkers report a history that breaks this as `ambiguous-write`. The
//!   bank, which looks at totals only, does not ask for it.)
//! * An attempt whose answer never came is `Unknown`, never `Aborted`. Only what the database
//!   promised to have undone is aborted.
//! * A read is recorded once its answer is there, a write once it was *sent*.

mod recorder;
pub mod text;

pub use recorder::{LogicalClock, Recorder, TransactionId};
pub use text::ParseError;

/// A position in real time: the number of an event on the clock that all clients share.
pub type Position = u64;

/// What was recorded of a run: its transactions, in the order in which they began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The transactions. The checkers accept any order.
    pub transactions: Vec<Transaction>,
}

/// One attempt at a transaction, as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The name it goes by in reports, such as `T17`.
    pub label: String,
    /// The session (Jepsen: process) that ran it. A session waits for one to end before the next.
    pub session: u64,
    /// The position before the first request was sent.
    pub invoke: Position,
    /// The position after the outcome was known, or `None` if no answer came.
    pub complete: Option<Position>,
    /// What the client was told about its end.
    pub outcome: Outcome,
    /// The timestamp it read at, where the database tells.
    pub read_ts: Option<u64>,
    /// The timestamp its writes carry, where the database tells.
    pub commit_ts: Option<u64>,
    /// Its operations, in program order.
    pub ops: Vec<Op>,
}

/// What a client was told about the end of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It took place.
    Committed,
    /// It left no trace.
    Aborted,
    /// No answer, or an ambiguous one: it took place, or will, or never.
    Unknown,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Adds an element to the end of a list.
    Append {
        /// The list.
        key: String,
        /// The element, unique within the key.
        element: u64,
    },
    /// Read a whole list.
    ReadList {
        /// The list.
        key: String,
        /// What was in it. A key never written is an empty list.
        observed: Vec<u64>,
    },
    /// Sets a register.
    Write {
        /// The register.
        key: String,
        /// The value, unique within the key.
        value: u64,
    },
    /// Read a register.
    Read {
        /// The register.
        key: String,
        /// What was in it, or `None` for a key never written.
        value: Option<u64>,
    },
    /// Sets a register if it holds what is expected (compare and set), in one step.
    Cas {
        /// The register.
        key: String,
        /// What it has to hold.
        expected: Option<u64>,
        /// What it is set to.
        new: u64,
        /// Whether it was, or `None` if no answer came.
        swapped: Option<bool>,
    },
    /// Adds to a counter.
    Add {
        /// The counter.
        key: String,
        /// How much.
        amount: u64,
    },
}

impl Op {
    /// Returns an append of `element` to the list `key`.
    pub fn append(key: impl Into<String>, element: u64) -> Op {
        Op::Append { key: key.into(), element }
    }

    /// Returns a read of the list `key` that saw `observed`.
    pub fn read_list(key: impl Into<String>, observed: impl Into<Vec<u64>>) -> Op {
        Op::ReadList { key: key.into(), observed: observed.into() }
    }

    /// Returns a write of `value` to the register `key`.
    pub fn write(key: impl Into<String>, value: u64) -> Op {
        Op::Write { key: key.into(), value }
    }

    /// Returns a read of the register `key` that saw `value`.
    pub fn read(key: impl Into<String>, value: Option<u64>) -> Op {
        Op::Read { key: key.into(), value }
    }

    /// Returns a compare-and-set of the register `key`, with its answer if one came.
    pub fn cas(
        key: impl Into<String>,
        expected: Option<u64>,
        new: u64,
        swapped: Option<bool>,
    ) -> Op {
        Op::Cas { key: key.into(), expected, new, swapped }
    }

    /// Returns an addition to the counter `key`.
    pub fn add(key: impl Into<String>, amount: u64) -> Op {
        Op::Add { key: key.into(), amount }
    }

    /// Returns the key it touches.
    pub fn key(&self) -> &str {
        match self {
            Op::Append { key, .. }
            | Op::ReadList { key, .. }
            | Op::Write { key, .. }
            | Op::Read { key, .. }
            | Op::Cas { key, .. }
            | Op::Add { key, .. } => key,
        }
    }

    /// Returns what it wrote: the element appended or the value set. (Not so of a compare-and-set,
    /// which may not have written, nor of an addition, which shows only in a sum.)
    pub fn written(&self) -> Option<u64> {
        match self {
            Op::Append { element, .. } => Some(*element),
            Op::Write { value, .. } => Some(*value),
            Op::ReadList { .. } | Op::Read { .. } | Op::Cas { .. } | Op::Add { .. } => None,
        }
    }
}

impl Transaction {
    /// Returns true if it certainly ended before `other` began.
    ///
    /// Equal positions count as overlap: nothing is known about their order.
    pub fn is_before(&self, other: &Transaction) -> bool {
        self.complete.is_some_and(|complete| complete < other.invoke)
    }
}

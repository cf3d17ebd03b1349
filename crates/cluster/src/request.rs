//! What is asked of a replica, and what it answers.
//!
//! ```text
//!   client                          leader
//!     │ Begin ─────────────────────► lease, or a round of heartbeats
//!     │ ◄──────────── Begun read_ts  everything acknowledged before is visible at it
//!     │ Get, Scan at read_ts ──────►                any replica that has come so far
//!     │ ◄──────────── Value, Rows
//!     │ Commit {reads, writes} ────► validated, put in order, replicated
//!     │ ◄──────────── Committed ts   or Conflict: run it again
//!     │ - - - ✂ - - -                no answer, or Unknown:
//!     │ Status {abort_if_absent} ──► the one true outcome, for ever
//! ```
//!
//! A commit is named by its client, and whoever asks twice is answered as once. Bytes on a wire are
//! the server's business; the encoding here ([`crate::codec`]) is what a simulated network carries.

use base::{KeyRange, Timestamp};
use bytes::Bytes;
use raft::ReplicaId;
pub use transaction::Isolation;

use crate::state::{Record, TxnId};

/// What is asked. Keys are engine keys of data ([`base::key`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A timestamp to read at: everything that was acknowledged before is visible at it.
    Begin,
    /// A key's value.
    Get {
        /// When.
        read_ts: Timestamp,
        /// Which.
        key: Bytes,
    },
    /// Rows of a range, in order.
    Scan {
        /// When.
        read_ts: Timestamp,
        /// Which.
        range: KeyRange,
        /// How many at most.
        limit: u32,
    },
    /// Take place, all of it or nothing.
    Commit(Commit),
    /// How did this transaction end?
    Status {
        /// Which.
        txn: TxnId,
        /// If it has not, it never shall.
        abort_if_absent: bool,
    },
    /// Nobody reads below this timestamp any more.
    SetGc(Timestamp),
    /// Hand the leadership on.
    Transfer(ReplicaId),
    /// Change who takes part.
    Change {
        /// Who shall vote.
        voters: Vec<ReplicaId>,
        /// Who shall only get the log.
        learners: Vec<ReplicaId>,
    },
}

/// A transaction that wants to take place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its name; its start is what it read at.
    pub txn: TxnId,
    /// What it was promised. Under snapshot isolation only what was read for update stands among
    /// the reads.
    pub isolation: Isolation,
    /// It has read nothing, so nothing can have changed under it.
    pub is_blind: bool,
    /// Keys that must not have changed since it began.
    pub points: Vec<Bytes>,
    /// Ranges that must not have changed.
    pub ranges: Vec<KeyRange>,
    /// What it writes, the last word on each key; `None` deletes.
    pub writes: Vec<(Bytes, Option<Bytes>)>,
}

/// A row: key, when it was committed, value.
pub type Row = (Bytes, Timestamp, Bytes);

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To `Begin`.
    Begun {
        /// What to read at.
        read_ts: Timestamp,
    },
    /// To `Get`: when it was committed, and the value.
    Value(Option<(Timestamp, Bytes)>),
    /// To `Scan`.
    Rows {
        /// The rows.
        rows: Vec<Row>,
        /// There are no more in the range.
        is_complete: bool,
    },
    /// It took place, durably, and whoever begins from now on sees it.
    Committed {
        /// When.
        ts: Timestamp,
    },
    /// Somebody else came first. Nothing of it was kept.
    Conflict {
        /// What the other one wrote.
        key: Bytes,
        /// When.
        ts: Timestamp,
    },
    /// To `Status`, and to a commit that was aborted by one; `None`: it has not ended.
    Ended(Option<Record>),
    /// It is done, or has been begun.
    Done,
    /// Ask another replica. Nothing was done.
    NotLeader {
        /// Whom.
        hint: Option<ReplicaId>,
    },
    /// Ask again, later. Nothing was done.
    Busy {
        /// How much later.
        retry_after_ticks: u64,
    },
    /// The leadership went on the way: it may take place or not. `Status` tells, at the next
    /// leader.
    Unknown {
        /// Who may lead now.
        hint: Option<ReplicaId>,
    },
    /// It cannot be done, and why.
    Refused(String),
}

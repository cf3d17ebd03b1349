//! MVCC and concurrency control of one shard on one node: snapshots, conflict checks, the order of
//! commits, locks, deadlocks, and the feed of committed changes.
//!
//! Time never enters here by itself: who commits says what the wall clock shows, and who collects
//! garbage says up to where. Keys are engine keys ([`base::key`]); what a keyspace is called is
//! known one crate further up.
//!
//! ```text
//!   begin ──► reads at read_ts ──► writes buffered ──► commit ─────────────────────────► visible
//!             (a pin on the        (WriteSet)          validate, take commit_ts, append
//!              memtable, ReadSet)                      │ (the critical section)
//!                                                      └─► insert versions ─► log is durable ─┘
//! ```

#![forbid(unsafe_code)]

mod error;
mod options;

pub mod locks;
mod read_set;
mod sorted;
mod write_set;

mod eval;
mod sequencer;

mod scan;
mod shard;
mod snapshot;
mod transaction;
mod watch;

pub use error::{Conflict, Error, KeyspaceName, Result, Touched};
pub use eval::{Footprint, Newer, Verdict, evaluate, find_newer};
pub use options::{Durability, Isolation, TransactionOptions};
pub use read_set::ReadSet;
pub use scan::{Row, Scan};
pub use sequencer::{Commit, Sequencer};
pub use shard::{Shard, ShardStats};
pub use snapshot::ReadSnapshot;
pub use storage::memtable::Direction;
pub use transaction::{PendingCommit, Transaction};
pub use watch::{Change, ChangeSet, Watch};
pub use write_set::{Savepoint, WriteSet};

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests;
#[cfg(test)]
#[cfg(shuttle)]
mod tests_shuttle;

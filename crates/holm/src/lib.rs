//! Holm: a transactional key-value database that lives in your program.
//!
//! Transactions are serializable, strictly: as if they had run one after the other, in an order
//! that agrees with real time. A commit that was acknowledged is on disk. Readers never wait and
//! are never aborted, and the past can be read.
//!
//! ```
//! # let directory = std::env::temp_dir().join(format!("holm-doc-{}", std::process::id()));
//! # let _ = std::fs::remove_dir_all(&directory);
//! let db = holm::Db::open(&directory)?;
//! let users = db.keyspace("users")?;
//!
//! // Runs again by itself if another transaction was in the way.
//! let visits = db.transact(|txn| {
//!     let seen = txn.get(&users, "ada")?.map_or(0, |value| value[0]);
//!     txn.put(&users, "ada", [seen + 1])?;
//!     Ok(seen + 1)
//! })?;
//! assert_eq!(visits, 1);
//!
//! let snapshot = db.snapshot();
//! db.put(&users, "bob", "new")?;
//! let rows = snapshot.scan(&users, ..).collect::<holm::Result<Vec<_>>>()?;
//! assert_eq!(rows.iter().map(|row| row.key()).collect::<Vec<_>>(), [b"ada"]);
//! db.close()?;
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | to | use |
//! |---|---|
//! | open a directory | [`Db::open`], [`Options`] |
//! | read and write atomically | [`Db::transact`], [`Db::begin`], [`Transaction`] |
//! | read one moment | [`Db::snapshot`], [`Db::at`], [`Snapshot`] |
//! | keep many commits in flight | [`Transaction::commit_pending`], [`PendingCommit`] |
//! | follow changes | [`Db::watch`], [`Watch`] |
//! | load many rows | [`Db::bulk_load`], [`BulkLoad`] |
//! | copy it while it runs | [`Db::checkpoint`] |
//! | handle a failure | [`Error`], [`Error::is_retryable`], [`Conflict`] |

#![forbid(unsafe_code)]

mod bulk;
mod db;
mod keyspace;
mod options;
mod snapshot;
mod transaction;
mod watch;

mod background;
mod retry;

pub use ::transaction::{
    Change, ChangeSet, Conflict, Durability, Error, Isolation, KeyspaceName, PendingCommit, Result,
    Row, Savepoint, Touched,
};
pub use base::limits;
pub use base::{KeyRange, Timestamp};
pub use bulk::BulkLoad;
pub use bytes::Bytes;
pub use db::{Db, Stats};
pub use keyspace::{Keyspace, KeyspaceOptions};
pub use options::{Environment, Options};
pub use snapshot::{Scan, Snapshot};
pub use storage::compaction::CompactionOptions;
pub use storage::table::{Compression, TableOptions};
pub use storage::{
    CacheStats, Checkpoint, EngineStats, Error as StorageError, LevelStats, Recovery, Verified,
};
pub use transaction::{Transaction, TransactionBuilder};
pub use watch::{Watch, WatchFrom};

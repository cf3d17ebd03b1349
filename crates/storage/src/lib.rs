//! Everything durable on one node: the write-ahead log, the memtable, tables, the manifest, and
//! the recovery that joins them. Ordered bytes in, ordered bytes out; transactions are not known
//! here.

mod cache;
mod engine;
mod error;
mod value;

pub mod batch;
pub mod compaction;
pub mod directory;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod iterator;
pub mod manifest;
pub mod memtable;
pub mod repair;
pub mod row_cache;
pub mod sync;
pub mod table;
pub mod values;
pub mod version;
pub mod wal;

pub use cache::CacheStats;
pub use engine::{
    BulkTables, BulkWriter, Checkpoint, Compacted, Engine, EngineOptions, EngineStats, LevelStats,
    MemoryOptions, ReadPin, Recovery, Rows, ValueStats, Verified, Visit,
};
pub use error::{Error, Result};
pub use value::{Stored, Value};

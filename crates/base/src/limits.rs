//! The limits a user can meet, each with its unit and its reason. They are checked before anything
//! is written, and the error names the limit and the size that met it.

/// Longest key, in bytes, without its keyspace. Keys are compared, indexed and repeated in every
/// block, so they must stay small beside a block; etcd, TiKV and FoundationDB stop at 10 KB or
/// less.
pub const KEY_BYTES_MAX: usize = 16 << 10;

/// Longest value, in bytes. A value travels in one message and is held in memory whole; larger
/// objects belong in chunks under a common prefix.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// Largest transaction, in bytes of keys and values written. It is one record of the log, and one
/// message between replicas, so it bounds the memory that a single commit can pin.
pub const TRANSACTION_BYTES_MAX: usize = 64 << 20;

/// Longest keyspace name, in bytes. Names are for people and stand in every error.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 255;

/// Longest transaction label, in bytes. A label is kept beside each recent commit to explain
/// conflicts.
pub const LABEL_BYTES_MAX: usize = 255;

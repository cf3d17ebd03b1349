//! Sorted, immutable table files: what a flush writes, and what the levels of the LSM tree are made
//! of.
//!
//! A table holds entries (user key, timestamp, value or tombstone) sorted by key ascending and, in
//! one key, by timestamp descending, so that the newest comes first and a read at a timestamp is
//! one seek. It is written once, front to back, and never changed. Of a large value it has only
//! where it lies: see [`crate::values`].
//!
//! ```text
//!  partition 0                             partition 1
//!  +------+------+- - -+--------+---------+------+- - -+--------+---------+- - -
//!  | data | data |     | filter | index   | data |     | filter | index   |
//!  | block| block|     | block  | block   | block|     | block  | block   |
//!  +------+------+- - -+--------+---------+------+- - -+--------+---------+- - -
//!     ^------^---------------------' points to its data blocks
//!
//!                                                             end of the file
//!  - - -+-----------+------------+----------------------------------+
//!       | top index | properties | footer, 48 bytes, points to both |
//!  - - -+-----------+------------+----------------------------------+
//!            '-- points to the filter and the index of each partition
//! ```
//!
//! The index has two levels, always, and a filter covers one partition (some 2 MiB of data):
//! opening reads the footer, the properties and the top index, a point read adds one filter, one
//! index block and one data block, and the builder never holds more than one partition's index in
//! memory, however large the table grows. Small tables pay some fifty bytes for having only one
//! code path.
//!
//! The bytes are drawn where they are encoded: `block` (index blocks, checksums), `data`,
//! `compression`, `filter`, `properties` and `footer`. Integers are little-endian; only the
//! timestamp inside an index key is big-endian, because it is compared byte by byte.
//! `testdata/small.txt` shows a whole table.
//!
//! # Invariants
//! * Positions (key, timestamp) rise strictly from entry to entry, through the whole file.
//! * Each byte of the file belongs to exactly one block or to the footer, and a checksum covers it.
//! * A block's index key is at or after its last entry and before the next block's first one. The
//!   block in which a position must lie is thus found without looking at data, and a user key that
//!   is not in a partition's filter has no entry that a seek in this partition could miss.
//!
//! # A torn table is damage
//! A table exists for the database once the manifest names it, and the manifest names it only after
//! the file and its folder were synced. A half-written table after a crash is an orphan that open
//! removes unread; a table that the manifest names and that is short, torn or flipped was promised,
//! and is reported as damage with file and offset. A file cut short has no footer at its end and
//! fails to open.
//!
//! # Not here
//! The values that lie apart, which whoever reads a table fetches from their files. References:
//! LevelDB `doc/table_format.md`, RocksDB's partitioned index and filters.

mod block;
mod block_cache;
mod builder;
mod compression;
mod cursor;
mod data;
mod describe;
mod filter;
mod footer;
mod index;
mod position;
mod properties;
mod reader;
mod salvage;
mod separators;
mod stats;
mod verify;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

pub(crate) use block::{Decoded, Flaw};
pub use block_cache::BlockCache;
pub use builder::{SEPARATE_FROM_DEFAULT, TableBuilder, TableOptions, TableSummary};
pub use compression::Compression;
pub(crate) use compression::{Compressor, decompress};
pub use cursor::{Entry, Scan, TableCursor};
pub use data::Place;
pub use describe::{BlockLine, BlockRole, TableDescription};
pub use filter::hash as key_hash;
pub use footer::FORMAT_VERSION;
pub(crate) use position::common_prefix;
pub use properties::{TableBounds, TableProperties};
pub(crate) use reader::at as flaw_at;
pub use reader::{Found, Located, Table, TableContext};
pub(crate) use salvage::{Gap, WholeEntries};
pub use stats::{TableCounts, TableStats};
pub use verify::Verified;
